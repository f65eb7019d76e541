//! `zim-batch config`: which settings are in force, and where each comes from. Contacts nothing and writes nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zim_batch::client;
use zim_batch::limiter::quota::RedisQuota;

use super::app::App;
use super::error::Error;
use super::origin::{Origin, Sourced};
use super::profile::{self, ConfigFile};
use super::shell::escape_controls;
use super::{AppArgs, print, secret, settings};

/// The value of credentials that are missing.
const NOT_SET: &str = "not set";

/// The maximum width of the column of values, for values that are not longer than that.
const MAX_WIDTH: usize = 80;

pub const EXAMPLES: &str = "\
Examples:
  zim-batch config
  zim-batch config --profile night --rate 10

A profile is a table in $XDG_CONFIG_HOME/zim-batch/config.toml (or ~/.config/zim-batch/config.toml):
  [profiles.night]
  app_id = 1234567890
  secret_file = \"~/.secrets/zim\"  # or relative to this file
  region = \"fra\"                  # or endpoint = \"https://…\"
  rate = 20

Further keys: ca_cert (a file), quota (a URL). Choose the profile with --profile night or ZIM_PROFILE=night; without \
either, [profiles.default] is used if there is one. Flags take precedence over environment variables, and these over the \
profile.";

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    app: AppArgs,
}

impl ConfigArgs {
    /// Whether the command would read this file.
    pub fn uses(&self, file: &Path) -> bool {
        let files = [&self.app.secret_file, &self.app.ca_cert];
        files.into_iter().flatten().any(|path| settings::same_file(path, file))
    }
}

pub fn config(args: &ConfigArgs) -> Result<ExitCode, Error> {
    if args.app.simulate {
        return Err(Error::Usage(
            "config shows what is in force without --simulate; a simulator needs none of it. Leave out --simulate"
                .into(),
        ));
    }
    let file = ConfigFile::read()?;
    let names = file.as_ref().map(ConfigFile::names).transpose()?.unwrap_or_default();
    let app = App::new(&args.app, profile::read(&args.app)?)?;
    app.warn_if_others_can_read_password();
    let mut settings = settings(&app)?;
    settings.push(chosen_profile(&app, &args.app)?);
    let text = match args.json {
        true => format!("{}\n", as_json(&settings, &names, file.as_ref())),
        false => as_text(&settings, &names, file.as_ref()),
    };
    print(&text)
}

/// One setting.
struct Setting {
    name: &'static str,
    /// As in JSON.
    value: Value,
    /// As in the table.
    shown: String,
    origin: Option<Origin>,
}

impl Setting {
    /// A setting that has a value, or `otherwise` none.
    fn new<T>(name: &'static str, setting: Option<Sourced<T>>, show: impl Fn(&T) -> Value, otherwise: &str) -> Setting {
        let (value, origin) = match setting {
            Some(setting) => (show(&setting.value), Some(setting.origin)),
            None => (Value::Null, None),
        };
        let shown = match &value {
            Value::Null => otherwise.to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Setting {
            name,
            value,
            shown,
            origin,
        }
    }
}

fn settings(app: &App) -> Result<Vec<Setting>, Error> {
    let path = |path: &PathBuf| path.display().to_string().into();
    let quota = app.quota.clone().map(|quota| {
        // Without user and password.
        quota.try_map(|url, origin| {
            RedisQuota::server(url.expose_secret()).map_err(|error| Error::Usage(format!("{error} ({origin})")))
        })
    });
    Ok(vec![
        Setting::new("app_id", app.app_id.clone(), |app_id| json!(app_id), NOT_SET),
        secret(app),
        Setting::new("endpoint", Some(app.endpoint.clone()), |url| url.as_str().into(), ""),
        proxy(app),
        Setting::new("ca_cert", app.ca_cert.clone(), path, "none"),
        Setting {
            shown: app.rate.value.to_string(),
            ..Setting::new("rate", Some(app.rate.clone()), |rate| json!(rate), "")
        },
        Setting::new(
            "quota",
            quota.transpose()?,
            |server| json!(server),
            "shared on this machine",
        ),
        Setting::new("lock_dir", app.lock_dir.clone(), path, "/tmp"),
    ])
}

/// Whether there is a secret; never the secret.
fn secret(app: &App) -> Setting {
    let file = app.secret_file.as_ref();
    let (shown, value, origin) = match app.secret() {
        Ok(None) => (NOT_SET.to_owned(), Value::Null, None),
        Ok(Some(Sourced { value, origin })) => {
            let length = value.expose_secret().len();
            // A variable may have the secret itself.
            let file = file.filter(|file| file.origin == origin);
            let place = file.map(|file| format!(", in {}", secret::place(&file.value)));
            let shown = format!("set, {length} characters{}", place.unwrap_or_default());
            (shown, "(hidden)".into(), Some(origin))
        }
        Err(error) => {
            let origin = file.map_or(Origin::Variable("ZIM_SERVER_SECRET"), |file| file.origin.clone());
            (error.to_string(), Value::Null, Some(origin))
        }
    };
    let name = "secret";
    Setting {
        name,
        value,
        shown,
        origin,
    }
}

/// The proxy that requests go through.
fn proxy(app: &App) -> Setting {
    match client::proxy_for(&app.endpoint.value) {
        Ok(proxy) => {
            let proxy = proxy.map(|(url, variable)| Sourced::variable(variable, url));
            Setting::new("proxy", proxy, |url| json!(url), "none")
        }
        Err(error) => Setting::new("proxy", None::<Sourced<()>>, |()| Value::Null, &error.to_string()),
    }
}

/// The profile in force.
fn chosen_profile(app: &App, args: &AppArgs) -> Result<Setting, Error> {
    let chosen = profile::chosen(args)?;
    let name = app.profile.as_ref().map(|profile| Sourced {
        value: profile.name.to_string(),
        origin: chosen.map_or(Origin::Default, |chosen| chosen.origin),
    });
    Ok(Setting::new("profile", name, |name| json!(name), "none"))
}

fn as_json(settings: &[Setting], names: &[String], file: Option<&ConfigFile>) -> Value {
    let mut object: serde_json::Map<String, Value> = settings
        .iter()
        .map(|setting| {
            let origin = setting.origin.as_ref();
            let mut members = json!({
                "value": setting.value,
                "source": origin.map_or("default", Origin::kind),
                "from": origin.filter(|origin| **origin != Origin::Default).map(Origin::to_string),
            });
            if setting.value.is_null() && setting.name == "secret" {
                members["error"] = json!(setting.shown);
            }
            (setting.name.to_owned(), members)
        })
        .collect();
    object.insert("profiles".into(), json!(names));
    let file = file.map(|file| json!({"path": file.path.display().to_string(), "exists": file.exists()}));
    object.insert("config_file".into(), file.into());
    object.into()
}

fn as_text(settings: &[Setting], names: &[String], file: Option<&ConfigFile>) -> String {
    let source = |setting: &Setting| match &setting.origin {
        Some(Origin::Profile { name, line, .. }) => format!("profile {name}, line {line}"),
        Some(origin) => origin.to_string(),
        None if setting.shown == NOT_SET && setting.name == "secret" => {
            "use --secret-file, ZIM_SERVER_SECRET_FILE, ZIM_SERVER_SECRET, or secret_file in a profile".into()
        }
        None if setting.shown == NOT_SET => "use --app-id, ZIM_APP_ID, or app_id in a profile".into(),
        None if setting.name == "proxy" => String::new(),
        None => "default".into(),
    };
    let mut lines: Vec<[String; 3]> = vec![["setting".into(), "value".into(), "source".into()]];
    lines.extend(
        settings
            .iter()
            .map(|setting| [setting.name.replace('_', " "), setting.shown.clone(), source(setting)]),
    );
    let names = if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    };
    lines.push(["profiles".into(), names, String::new()]);
    let (path, exists) = match file {
        Some(file) if file.exists() => (file.path.display().to_string(), "exists"),
        Some(file) => (file.path.display().to_string(), "does not exist"),
        None => ("none, because neither HOME nor XDG_CONFIG_HOME is set".into(), ""),
    };
    lines.push(["config file".into(), path, exists.into()]);
    let widths = lines.iter().map(|[_, value, _]| console::measure_text_width(value));
    // The message about a secret that can't be read may be longer.
    let width = widths.filter(|width| *width <= MAX_WIDTH).max().unwrap_or_default();
    let mut text = String::new();
    for [name, value, source] in &lines {
        let value = console::pad_str(value, width, console::Alignment::Left, None);
        let line = format!("{name:<11}  {value}  {source}");
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", escape_controls(line.trim_end()));
    }
    text
}
