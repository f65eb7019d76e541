//! `zim-batch config`: which settings are in force, where each comes from, and what is wrong. Contacts nothing and writes
//! nothing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;
use zim_batch::client::{self, BuildError};
use zim_batch::limiter::quota::RedisQuota;
use zim_batch::text::one_line;

use crate::cli::args::AppArgs;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::shell::print;
use crate::cli::output::shell::print_error;
use crate::cli::settings::app;
use crate::cli::settings::origin::{Origin, Sourced, Wrong};
use crate::cli::settings::profile::{self, ConfigFile, Profile};
use crate::cli::settings::secret;
use crate::cli::settings::{self, ConfigSettings};

/// The value of a setting that can't be used.
const WRONG: &str = "wrong";

/// The value of a setting that depends on a profile that can't be read.
const UNKNOWN: &str = "unknown";

/// Where credentials that are not set belong.
const PLACES: [(&str, &str); 2] = [
    ("app_id", "--app-id, ZIM_APP_ID, or app_id in a profile"),
    (
        "secret",
        "--secret-file, ZIM_SERVER_SECRET_FILE, ZIM_SERVER_SECRET,\n          or secret_file in a profile",
    ),
];

/// The directory through which runs share the quota by default.
const LOCK_DIR: &str = "/tmp";

/// The maximum width of the column of values. A longer value, such as a path, moves only its own source.
const MAX_WIDTH: usize = 40;

/// Shows the settings for ZIM, so there is no `--simulate`: of these, a simulator uses only the rate.
pub fn config(config: ConfigSettings) -> Result<ExitCode, Error> {
    let ConfigSettings { json, sources } = config;
    if let Some(profile) = sources.profile() {
        app::warn_if_others_can_read_password(profile);
    }
    let settings = settings(&sources.flags, sources.profile);
    let file = Place::find();
    let errors: Vec<&str> = settings.iter().filter_map(|setting| setting.error.as_deref()).collect();
    print(&match json {
        true => format!("{}\n", as_json(&settings, &file, &errors)),
        false => as_text(&settings, &file),
    })?;
    for error in &errors {
        print_error(error);
    }
    Ok(match errors[..] {
        [] => ExitCode::SUCCESS,
        _ => ExitStatus::Usage.into(),
    })
}

/// The configuration file, as far as it can be read.
struct Place {
    path: Option<PathBuf>,
    exists: bool,
    names: Vec<String>,
}

impl Place {
    fn find() -> Place {
        let (exists, names) = match ConfigFile::read() {
            Ok(Some(file)) => (file.exists(), file.names().unwrap_or_default()),
            Ok(None) => (false, Vec::new()),
            Err(_) => (true, Vec::new()),
        };
        let path = profile::path();
        Place { path, exists, names }
    }
}

/// One setting.
struct Setting {
    name: &'static str,
    /// As in JSON.
    value: Value,
    /// As in the table.
    shown: String,
    origin: Option<Origin>,
    /// Why it can't be used.
    error: Option<String>,
}

impl Setting {
    /// A setting that has a value, or `otherwise` none, or can't be used.
    fn new<T>(
        name: &'static str,
        setting: Result<Option<Sourced<T>>, Wrong>,
        show: impl Fn(&T) -> Value,
        otherwise: &str,
    ) -> Setting {
        let (value, shown, origin, error) = match setting {
            Ok(Some(Sourced { value, origin })) => {
                let value = show(&value);
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                (value, shown, Some(origin), None)
            }
            Ok(None) => (Value::Null, otherwise.to_owned(), None, None),
            Err(wrong) => (Value::Null, WRONG.into(), Some(wrong.origin), Some(wrong.value)),
        };
        Setting {
            name,
            value,
            shown,
            origin,
            error,
        }
    }

    /// The value that a profile may set is not known without the profile.
    fn without_profile(self) -> Setting {
        match (&self.origin, &self.error) {
            (None | Some(Origin::Default), None) => {
                Setting::new(self.name, Ok(None::<Sourced<()>>), |()| Value::Null, UNKNOWN)
            }
            _ => self,
        }
    }
}

/// All settings. Those that a profile may set come first.
fn settings(args: &AppArgs, profile: Result<Option<Profile>, Error>) -> Vec<Setting> {
    let of_profile = profile.as_ref().ok().and_then(Option::as_ref);
    let path = |path: &PathBuf| path.display().to_string().into();
    let endpoint = app::endpoint(args, of_profile);
    let ca_cert = app::ca_cert(args, of_profile)
        .map(|file| file.try_map(|path, origin| app::check_ca_cert(&path, origin).map(|()| path)));
    let rate = app::rate(args, of_profile);
    let (proxy, shown_rate) = (proxy(endpoint.as_ref().ok()), rate.value.to_string());
    let mut settings = vec![
        Setting::new(
            "app_id",
            app::app_id(args, of_profile),
            |app_id| json!(app_id),
            "not set",
        ),
        secret(app::secret_file(args, of_profile).as_ref()),
        Setting::new("endpoint", endpoint.map(Some), |url| url.as_str().into(), ""),
        Setting::new("ca_cert", ca_cert.transpose(), path, "none"),
        Setting {
            shown: shown_rate,
            ..Setting::new("rate", Ok(Some(rate)), |rate| json!(rate), "")
        },
        Setting::new(
            "quota",
            quota(args, of_profile),
            |server| json!(server),
            "shared on this machine",
        ),
    ];
    if profile.is_err() {
        settings = settings.into_iter().map(Setting::without_profile).collect();
    }
    let lock_dir = app::lock_dir(args).map(|directory| directory.or(Some(Sourced::default(LOCK_DIR.into()))));
    settings.extend([
        Setting::new("lock_dir", lock_dir, path, ""),
        proxy,
        chosen_profile(args, profile),
    ]);
    settings
}

/// The server of the quota, without user and password.
fn quota(args: &AppArgs, profile: Option<&Profile>) -> Result<Option<Sourced<String>>, Wrong> {
    let server = |url: SecretString, origin: &Origin| {
        RedisQuota::server(url.expose_secret()).map_err(|error| format!("{error} ({origin})"))
    };
    let quota = app::quota(args, profile)?;
    quota.map(|url| url.try_map(server)).transpose()
}

/// Whether there is a secret; never the secret.
fn secret(file: Option<&Sourced<PathBuf>>) -> Setting {
    let secret = app::secret(file);
    let shown = secret.as_ref().ok().and_then(Option::as_ref).map(|secret| {
        let length = secret.value.expose_secret().len();
        // A variable may have the secret itself.
        let file = file.filter(|file| file.origin == secret.origin);
        let place = file.map(|file| format!(", in {}", secret::place(&file.value)));
        format!("set, {length} characters{}", place.unwrap_or_default())
    });
    let setting = Setting::new("secret", secret, |_| "(hidden)".into(), "not set");
    Setting {
        shown: shown.unwrap_or(setting.shown),
        ..setting
    }
}

/// The proxy that requests go through.
fn proxy(endpoint: Option<&Sourced<Url>>) -> Setting {
    let endpoint = endpoint.map_or_else(settings::default_endpoint, |endpoint| endpoint.value.clone());
    let proxy = match client::proxy_for(&endpoint) {
        Ok(proxy) => Ok(proxy.map(|(url, variable)| Sourced::variable(variable, url))),
        Err(error) => {
            let variable = match error {
                BuildError::Proxy(variable) => variable,
                _ => "HTTPS_PROXY",
            };
            Err(Wrong::variable(variable, error.to_string()))
        }
    };
    Setting::new("proxy", proxy, |url| json!(url), "none")
}

/// The profile in force.
fn chosen_profile(args: &AppArgs, profile: Result<Option<Profile>, Error>) -> Setting {
    let profile = match profile {
        Ok(profile) => Ok(profile.map(|profile| Sourced {
            value: profile.name.to_string(),
            origin: profile.chosen_by,
        })),
        Err(error) => {
            let chosen = profile::chosen(args, false).ok().flatten();
            let origin = chosen.map_or(Origin::Default, |chosen| chosen.origin);
            Err(Wrong {
                value: error.to_string(),
                origin,
            })
        }
    };
    Setting::new("profile", profile, |name| json!(name), "none")
}

fn as_json(settings: &[Setting], file: &Place, errors: &[&str]) -> Value {
    let mut object: serde_json::Map<String, Value> = settings
        .iter()
        .map(|setting| {
            let origin = setting.origin.as_ref();
            let members = json!({
                "value": setting.value,
                "source": origin.map(Origin::kind),
                "from": origin.filter(|origin| **origin != Origin::Default).map(Origin::to_string),
                "error": setting.error,
            });
            (setting.name.to_owned(), members)
        })
        .collect();
    object.insert("profiles".into(), json!(file.names));
    let path = file.path.as_ref();
    let file = path.map(|path| json!({"path": path.display().to_string(), "exists": file.exists}));
    object.insert("config_file".into(), file.into());
    if !errors.is_empty() {
        // As other commands do that can't be run.
        object.insert("exit".into(), ExitStatus::Usage.code().into());
        object.insert("error".into(), errors.join("; ").into());
    }
    object.into()
}

fn as_text(settings: &[Setting], file: &Place) -> String {
    let source = |setting: &Setting| match &setting.origin {
        Some(Origin::Profile { name, line, .. }) => format!("profile {name}, line {line}"),
        Some(origin) => origin.to_string(),
        None => String::new(),
    };
    let mut lines: Vec<[String; 3]> = vec![["setting".into(), "value".into(), "source".into()]];
    let row = |setting: &Setting| [setting.name.replace('_', " "), setting.shown.clone(), source(setting)];
    lines.extend(settings.iter().map(row));
    let names = match &file.names[..] {
        [] => "none".into(),
        names => names.join(", "),
    };
    lines.push(["profiles".into(), names, String::new()]);
    let (path, exists) = match &file.path {
        Some(path) if file.exists => (path.display().to_string(), "exists"),
        Some(path) => (path.display().to_string(), "does not exist"),
        None => ("none, because neither HOME nor XDG_CONFIG_HOME is set".into(), ""),
    };
    lines.push(["config file".into(), path, exists.into()]);
    let lines: Vec<[String; 3]> = lines
        .into_iter()
        .map(|line| line.map(|text| one_line(&text).into_owned()))
        .collect();
    let widths = lines.iter().map(|[_, value, _]| console::measure_text_width(value));
    let width = widths.filter(|width| *width <= MAX_WIDTH).max().unwrap_or_default();
    let mut text = String::new();
    for [name, value, source] in &lines {
        let value = console::pad_str(value, width, console::Alignment::Left, None);
        let line = format!("{name:<11}  {value}  {source}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let is_missing = |name: &str| {
        let mut settings = settings.iter();
        settings.any(|setting| setting.name == name && setting.origin.is_none() && setting.shown != UNKNOWN)
    };
    let missing = PLACES.iter().filter(|(name, _)| is_missing(name));
    for (index, (name, places)) in missing.enumerate() {
        let before = if index == 0 {
            "\nto set what is missing, use\n"
        } else {
            ""
        };
        let _ = writeln!(text, "{before}  {:<6}  {places}", name.replace('_', " "));
    }
    text
}
