//! The app and where its requests are sent.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use zim_batch::Rate;
use zim_batch::endpoint::Region;

use super::{APP, PACE, values};

/// The app, where its requests are sent, and how many per second
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
pub struct AppArgs {
    // Variables are read in app.rs, not by clap: an empty one counts as not set, one that is not UTF-8 is refused.
    /// Profile in the configuration file: provides what is neither given here nor in the environment; see zim-batch config
    /// --help [env: ZIM_PROFILE] [default: the profile named default, if there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// AppId [env: ZIM_APP_ID]
    #[arg(long, value_name = "N")]
    pub app_id: Option<String>,
    /// File that contains the ServerSecret. Alternatively, set ZIM_SERVER_SECRET to the secret itself. This flag takes
    /// precedence over both variables [env: ZIM_SERVER_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// ZIM region nearest to this machine; can't be combined with ZIM_ENDPOINT
    #[arg(long, conflicts_with = "endpoint", ignore_case = true, value_parser = values::region())]
    pub region: Option<Region>,
    /// Base URL, for a domain of your own [env: ZIM_ENDPOINT] [default: https://zim-api.zego.im]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Also trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Maximum requests in any one second, including retries; a fraction is an average (2.5: five in two seconds)
    /// [default: 20]
    #[arg(long, help_heading = PACE, value_name = "N", value_parser = str::parse::<Rate>)]
    pub rate: Option<Rate>,
    /// Share the quota with runs on other machines too, through this Redis or Valkey: redis://, rediss:// or redis+unix://. Set
    /// the variable if the URL has a password: other users of the machine can read command lines [env: ZIM_QUOTA]
    // Hidden: a command that is shown must not have it if it may have a password in it.
    #[arg(long, help_heading = PACE, value_name = "URL", hide_env_values = true)]
    pub quota: Option<String>,
    /// Directory of the files through which runs on this machine share an app's quota; must be the same for all runs
    /// [env: ZIM_LOCK_DIR] [default: /tmp]
    #[arg(long, help_heading = PACE, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub lock_dir: Option<PathBuf>,
}

impl AppArgs {
    /// Whether something of the app itself was typed.
    pub fn has_app(&self) -> bool {
        self.app_id.is_some()
            || self.secret_file.is_some()
            || self.region.is_some()
            || self.endpoint.is_some()
            || self.ca_cert.is_some()
    }
}

/// Whether requests go to a simulator instead of ZIM
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
pub struct SimulatorArgs {
    /// Use a private simulator: needs no credentials, sends nothing over the network
    #[arg(long, conflicts_with_all = ["endpoint", "region", "ca_cert", "quota"])]
    pub simulate: bool,
}
