//! The settings of the app. Each is described once, here: its flag, its environment variable, its key in a profile, its
//! default, what its text means, and how `zim-batch config` shows it. `settings` finds its value by that.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, PossibleValue, StringValueParser};
use clap::error::Error as ClapError;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use zim_batch::Rate;
use zim_batch::endpoint::{DEFAULT_ENDPOINT, Region};
use zim_batch::limiter::quota::{Place, RedisQuota};

use super::values::{self, offering};
use super::{APP, PACE};
use crate::cli::errors::redact::shown_path;

/// A setting of the app.
pub struct Setting<T: 'static> {
    pub about: About,
    /// Its value if it is set nowhere.
    pub default: Option<fn() -> T>,
    /// What its text means. The error does not show the text, which may be the secret by mistake.
    pub parse: fn(&OsStr) -> Result<T, String>,
    /// Its value in JSON, without passwords.
    pub show: fn(&T) -> Value,
}

/// What is known of a setting without its value.
pub struct About {
    /// Its name in a profile and in `zim-batch config`.
    pub key: &'static str,
    pub flag: &'static str,
    pub variable: Option<&'static str>,
    pub in_profile: bool,
    /// What a text is.
    pub kind: Kind,
    /// Its text may contain a password.
    pub has_password: bool,
    /// The key of a setting that can't be set too.
    pub conflicts_with: Option<&'static str>,
    /// In the help: the group, the name of the value, the values that are offered, and the explanation.
    pub heading: &'static str,
    pub value_name: &'static str,
    pub values: fn() -> Vec<PossibleValue>,
    pub help: &'static str,
    /// What `zim-batch config` shows if it is not set.
    pub unset: &'static str,
    /// A run can't do without it.
    pub is_required: bool,
}

/// What the text of a setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// The path of a file that is read.
    File,
    Directory,
}

/// All of them, in the order of the help.
pub static SETTINGS: [&dyn AnySetting; 9] = [
    &PROFILE,
    &APP_ID,
    &SECRET_FILE,
    &REGION,
    &ENDPOINT,
    &CA_CERT,
    &RATE,
    &QUOTA,
    &LOCK_DIR,
];

pub static PROFILE: Setting<String> = Setting {
    about: About {
        key: "profile",
        flag: "--profile",
        variable: Some("ZIM_PROFILE"),
        in_profile: false,
        value_name: "NAME",
        help: "Profile in the configuration file: supplies settings that no flag or variable sets; see zim-batch config \
               --help. Without it, the profile named default is used, if there is one",
        ..About::OF_APP
    },
    default: None,
    parse: |text| Ok(values::text(text)?.to_owned()),
    show: |name| json!(name),
};

pub static APP_ID: Setting<u32> = Setting {
    about: About {
        key: "app_id",
        flag: "--app-id",
        variable: Some("ZIM_APP_ID"),
        value_name: "N",
        help: "AppId",
        unset: "not set",
        is_required: true,
        ..About::OF_APP
    },
    default: None,
    parse: values::app_id,
    show: |app_id| json!(app_id),
};

pub static SECRET_FILE: Setting<PathBuf> = Setting {
    about: About {
        key: "secret_file",
        flag: "--secret-file",
        variable: Some("ZIM_SERVER_SECRET_FILE"),
        kind: Kind::File,
        value_name: "FILE",
        help: "File that contains the ServerSecret. Alternatively, set ZIM_SERVER_SECRET to the secret itself. This flag \
               takes precedence over both variables",
        unset: "not set",
        is_required: true,
        ..About::OF_APP
    },
    default: None,
    parse: |path| Ok(path.into()),
    show: |path| json!(path.display().to_string()),
};

/// Sets the endpoint.
pub static REGION: Setting<Region> = Setting {
    about: About {
        key: "region",
        flag: "--region",
        conflicts_with: Some("endpoint"),
        value_name: "REGION",
        values: values::regions,
        help: "ZIM region nearest to this machine; can't be combined with ZIM_ENDPOINT",
        ..About::OF_APP
    },
    default: None,
    parse: values::region,
    show: |region| json!(region.as_str()),
};

pub static ENDPOINT: Setting<Url> = Setting {
    about: About {
        key: "endpoint",
        flag: "--endpoint",
        variable: Some("ZIM_ENDPOINT"),
        value_name: "URL",
        help: "Base URL, for a domain of your own",
        ..About::OF_APP
    },
    default: Some(|| DEFAULT_ENDPOINT.parse().expect("it is a URL")),
    parse: values::endpoint,
    show: |url| json!(url.as_str()),
};

pub static CA_CERT: Setting<PathBuf> = Setting {
    about: About {
        key: "ca_cert",
        flag: "--ca-cert",
        kind: Kind::File,
        value_name: "FILE",
        help: "Also trust the certificates in this PEM file",
        ..About::OF_APP
    },
    default: None,
    parse: |path| Ok(path.into()),
    show: |path| json!(path.display().to_string()),
};

/// Requests per second.
pub static RATE: Setting<Rate> = Setting {
    about: About {
        key: "rate",
        flag: "--rate",
        heading: PACE,
        value_name: "N",
        help: "Maximum requests in any one second, including retries; a fraction is an average (2.5: five in two seconds)",
        ..About::OF_APP
    },
    default: Some(Rate::default),
    parse: values::rate,
    show: |rate| json!(rate),
};

/// The URL of the server through which runs on many machines share the quota.
pub static QUOTA: Setting<SecretString> = Setting {
    about: About {
        key: "quota",
        flag: "--quota",
        variable: Some("ZIM_QUOTA"),
        has_password: true,
        heading: PACE,
        value_name: "URL",
        help: "Share the quota with runs on other machines too, through this Redis or Valkey: redis://, rediss:// or \
               redis+unix://. Set the variable if the URL has a password: other users of the machine can read command lines",
        unset: "shared on this machine",
        ..About::OF_APP
    },
    default: None,
    parse: |text| {
        let url = values::text(text)?;
        RedisQuota::server(url).map_err(|error| error.to_string())?;
        Ok(url.into())
    },
    show: |url| json!(RedisQuota::server(url.expose_secret()).ok()),
};

/// The directory of the files through which runs on this machine share the quota.
pub static LOCK_DIR: Setting<PathBuf> = Setting {
    about: About {
        key: "lock_dir",
        flag: "--lock-dir",
        variable: Some("ZIM_LOCK_DIR"),
        in_profile: false,
        kind: Kind::Directory,
        heading: PACE,
        value_name: "DIR",
        help: "Directory of the files through which runs on this machine share an app's quota; must be the same for all runs",
        ..About::OF_APP
    },
    default: Some(|| Place::DEFAULT_DIRECTORY.into()),
    parse: |path| {
        let path = PathBuf::from(path);
        if path.is_dir() {
            return Ok(path);
        }
        Err(format!(
            "{}: there is no such directory; create it, or name another one",
            shown_path(&path)
        ))
    },
    show: |path| json!(path.display().to_string()),
};

impl About {
    /// What most settings have in common.
    const OF_APP: About = About {
        key: "",
        flag: "",
        variable: None,
        in_profile: true,
        kind: Kind::Text,
        has_password: false,
        conflicts_with: None,
        heading: APP,
        value_name: "",
        values: Vec::new,
        help: "",
        unset: "none",
        is_required: false,
    };
}

/// A setting, whatever the type of its value.
pub trait AnySetting: Sync {
    fn about(&self) -> &About;

    /// The value that a text means, as it is shown.
    fn show(&self, text: &OsStr) -> Result<Value, String>;

    /// The default, as it is shown.
    fn show_default(&self) -> Option<Value>;
}

impl<T> AnySetting for Setting<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn show(&self, text: &OsStr) -> Result<Value, String> {
        (self.parse)(text).map(|value| (self.show)(&value))
    }

    fn show_default(&self) -> Option<Value> {
        self.default.map(|default| (self.show)(&default()))
    }
}

/// A value without quotation marks, and a whole number without a fraction.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

/// The settings of the app that flags set: their texts, by their keys.
#[derive(Debug, Clone, Default)]
pub struct AppArgs(BTreeMap<&'static str, OsString>);

impl AppArgs {
    /// The text of a flag.
    pub fn get(&self, about: &About) -> Option<&OsStr> {
        self.0.get(about.key).map(OsString::as_os_str)
    }

    /// Whether a flag says what the app is, or where its requests are sent.
    pub fn has_app(&self) -> bool {
        let mut abouts = SETTINGS.iter().map(|setting| setting.about());
        abouts.any(|about| about.heading == APP && about.in_profile && self.get(about).is_some())
    }
}

impl Args for AppArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(|setting| arg(*setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        AppArgs::augment_args(command)
    }
}

impl FromArgMatches for AppArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<AppArgs, ClapError> {
        let mut args = AppArgs::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), ClapError> {
        for setting in SETTINGS {
            let key = setting.about().key;
            let text = matches.get_raw(key).and_then(Iterator::last);
            self.0.extend(text.map(|text| (key, text.to_owned())));
        }
        Ok(())
    }
}

/// The flag of a setting. Its text is checked later: also that of the variable is, and `zim-batch config` shows all that is
/// wrong.
fn arg(setting: &dyn AnySetting) -> Arg {
    let about = setting.about();
    let mut help = about.help.to_owned();
    // Not by clap: an empty variable counts as not set, and one that is not UTF-8 is refused.
    if let Some(variable) = about.variable {
        help += &format!(" [env: {variable}]");
    }
    if let Some(default) = setting.show_default() {
        help += &format!(" [default: {}]", as_text(&default).trim_end_matches('/'));
    }
    let arg = Arg::new(about.key)
        .long(about.flag.trim_start_matches('-'))
        .value_name(about.value_name)
        .help_heading(about.heading)
        .help(help)
        .hide_env_values(about.has_password)
        .conflicts_with_all(about.conflicts_with);
    let values = (about.values)();
    match about.kind {
        Kind::File => arg
            .value_parser(PathBufValueParser::new())
            .value_hint(ValueHint::FilePath),
        Kind::Directory => arg
            .value_parser(PathBufValueParser::new())
            .value_hint(ValueHint::DirPath),
        Kind::Text if values.is_empty() => arg.value_parser(StringValueParser::new()),
        Kind::Text => arg.value_parser(offering(StringValueParser::new(), values)),
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
