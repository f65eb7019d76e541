//! The settings of the app. Each is one entry here: its flag, its environment variable, its key in a profile, its default,
//! what its text means, and how `zim-batch config` shows it. `settings::sources` finds the value of any of them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::error::Error as ClapError;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::{ParseError, Url};
use zim_batch::Timetable;
use zim_batch::endpoint::{DEFAULT_ENDPOINT, Region, is_loopback};
use zim_batch::limiter::TimetableError;
use zim_batch::limiter::quota::{QuotaLocation, RedisQuota};
use zim_batch::row::UnknownName;

use super::setting::{About, AnySetting, Kind, Setting, flag};
use super::time::{Until, until};
use super::{APP, PACE, RESULTS};
use crate::cli::errors::exit_ok::ExitOk;
use crate::cli::errors::redact::{refuse_secret, shown, shown_path};

/// All of them, in the order of the help.
pub static SETTINGS: &[&dyn AnySetting] = &[
    &PROFILE,
    &APP_ID,
    &SECRET_FILE,
    &REGION,
    &ENDPOINT,
    &CA_CERT,
    &RATE,
    &QUOTA,
    &LOCK_DIR,
    &UNTIL,
    &EXIT_OK,
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
    parse: |text| Ok(utf8(text)?.to_owned()),
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
    parse: app_id,
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
        values: regions,
        help: "ZIM region nearest to this machine; can't be combined with ZIM_ENDPOINT",
        ..About::OF_APP
    },
    default: None,
    parse: region,
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
    parse: endpoint,
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

/// Requests per second, perhaps by the time of day.
pub static RATE: Setting<Timetable> = Setting {
    about: About {
        key: "rate",
        flag: "--rate",
        heading: PACE,
        value_name: "N",
        help: "Maximum requests in any one second, including retries; a fraction is an average (2.5: five in two seconds). \
               Or by local time: 08:00=5,22:00=20 (the last entry holds until the first; 0 is a pause)",
        ..About::OF_APP
    },
    default: Some(Timetable::default),
    parse: rate,
    show: |timetable| json!(timetable),
};

/// When a run ends by the clock.
pub static UNTIL: Setting<Until> = Setting {
    about: About {
        key: "until",
        flag: "--until",
        heading: PACE,
        value_name: "TIME",
        help: "From this time on, start no more rows and finish the requests in flight: 06:00 (the next one), \
               2026-11-30T06:00 (local time), or with a zone. With --max-duration too, what comes first applies",
        unset: "off",
        ..About::OF_APP
    },
    default: None,
    parse: |text| until(utf8(text)?),
    show: |until| json!(until.to_string()),
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
        let url = utf8(text)?;
        // A password may look like the secret, and is not shown.
        refuse_secret(url.rsplit('@').next().unwrap_or_default())?;
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
        default_in_words: Some("/run/zim-batch if it exists, or else /tmp"),
        ..About::OF_APP
    },
    default: Some(|| QuotaLocation::default_directory().into()),
    parse: |path| {
        let path = PathBuf::from(path);
        if path.is_dir() {
            return Ok(path);
        }
        Err(format!(
            "{}: there is no such directory; create it, or choose another one",
            shown_path(&path)
        ))
    },
    show: |path| json!(path.display().to_string()),
};

/// The exit statuses that are reported as 0.
pub static EXIT_OK: Setting<ExitOk> = Setting {
    about: About {
        key: "exit_ok",
        flag: "--exit-ok",
        heading: RESULTS,
        value_name: "STATUS,…",
        help: "Exit with 0 in place of these statuses, for schedulers that know no other success: 3,7 for example. The \
               summary, the log of runs and metrics keep the true status",
        unset: "off",
        ..About::OF_APP
    },
    default: None,
    parse: |text| ExitOk::parse(utf8(text)?),
    show: |statuses| json!(statuses.to_string()),
};

/// The settings of the app that flags set: their texts, by their keys.
#[derive(Debug, Clone, Default)]
pub struct AppArgs(BTreeMap<&'static str, OsString>);

impl AppArgs {
    /// The text of a flag.
    pub fn get(&self, about: &About) -> Option<&OsStr> {
        self.0.get(about.key).map(OsString::as_os_str)
    }

    fn update(&mut self, settings: &[&dyn AnySetting], matches: &ArgMatches) {
        for setting in settings {
            let key = setting.about().key;
            let text = matches.get_raw(key).and_then(Iterator::last);
            self.0.extend(text.map(|text| (key, text.to_owned())));
        }
    }

    /// Whether a flag says what the app is, or where its requests are sent.
    pub fn has_app(&self) -> bool {
        let mut abouts = SETTINGS.iter().map(|setting| setting.about());
        abouts.any(|about| about.heading == APP && about.in_profile && self.get(about).is_some())
    }
}

/// The settings by which runs find each other. No secret is needed for them.
#[derive(Debug)]
pub struct QuotaAppArgs(pub AppArgs);

static QUOTA_SETTINGS: &[&dyn AnySetting] = &[&PROFILE, &APP_ID, &REGION, &ENDPOINT, &CA_CERT, &QUOTA, &LOCK_DIR];

impl Args for QuotaAppArgs {
    fn augment_args(command: Command) -> Command {
        command.args(QUOTA_SETTINGS.iter().map(|setting| flag(*setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        QuotaAppArgs::augment_args(command)
    }
}

impl FromArgMatches for QuotaAppArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<QuotaAppArgs, ClapError> {
        let mut args = QuotaAppArgs(AppArgs::default());
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), ClapError> {
        self.0.update(QUOTA_SETTINGS, matches);
        Ok(())
    }
}

impl Args for AppArgs {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(|setting| flag(*setting)))
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
        self.update(SETTINGS, matches);
        Ok(())
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

/// The text of a setting that can't be any bytes.
fn utf8(text: &OsStr) -> Result<&str, String> {
    text.to_str().ok_or_else(|| "its value is not UTF-8 text".into())
}

/// Parses an AppId.
fn app_id(app_id: &OsStr) -> Result<u32, String> {
    let app_id = utf8(app_id)?.trim().parse();
    app_id.map_err(|_| "the AppId must be a number from 0 to 4294967295".into())
}

/// Parses a rate in requests per second, or a timetable. The error may show an entry.
fn rate(rate: &OsStr) -> Result<Timetable, String> {
    let text = utf8(rate)?;
    refuse_secret(text)?;
    text.parse().map_err(|error| match error {
        TimetableError::Rate(_) => format!("{error}, or a timetable, like 08:00=5,22:00=20"),
        _ => error.to_string(),
    })
}

/// Parses a region, ignoring case.
fn region(region: &OsStr) -> Result<Region, String> {
    let region = utf8(region)?.parse();
    region.map_err(|UnknownName { expected, .. }| format!("it must be one of {expected}"))
}

/// The regions, with their places, for help and completions.
fn regions() -> Vec<PossibleValue> {
    let value = |region: Region| PossibleValue::new(region.as_str()).help(region.location());
    Region::ALL.map(value).into()
}

/// Parses the base URL of ZIM's server API. The error shows it, except for what may be secret.
fn endpoint(endpoint: &OsStr) -> Result<Url, String> {
    let text = utf8(endpoint)?;
    // A password with a slash would seem to be a path.
    if text.contains('@') {
        return Err("the endpoint must not contain a user name or a password; remove them".into());
    }
    refuse_secret(text)?;
    // The query and the fragment may be secret.
    let shown = shown(text.split(['?', '#']).next().unwrap_or_default());
    let refuse = |why: &str| Err(format!("'{shown}': {why}"));
    let url: Url = match text.parse() {
        Ok(url) => url,
        Err(ParseError::RelativeUrlWithoutBase) => {
            return refuse(&format!("this is not a URL; write it like {DEFAULT_ENDPOINT}"));
        }
        Err(error) => return refuse(&format!("{error}; write it like {DEFAULT_ENDPOINT}")),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it must not contain '?' or '#'");
    }
    if url.host().is_none() {
        return refuse(&format!("it has no host; write it like {DEFAULT_ENDPOINT}"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => refuse(
            "plain http is allowed only to a loopback address, because anyone who reads a signed request can reuse it; use https",
        ),
        _ => refuse("it must start with https://"),
    }
}
