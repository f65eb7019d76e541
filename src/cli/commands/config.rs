//! `zim-batch config`: which settings are in force, where each comes from, and what is wrong. Contacts nothing and writes
//! nothing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use zim_batch::client::{self, BuildError};
use zim_batch::text::one_line;

use crate::cli::args::app::{CA_CERT, ENDPOINT, PROFILE, RATE, REGION, SECRET_FILE, SETTINGS, UNTIL};
use crate::cli::args::setting::{About, AnySetting, as_text as value_as_text};
use crate::cli::engine::client::check_ca_cert;
use crate::cli::errors::{Error, ExitStatus};
use crate::cli::output::print::{print, print_error};
use crate::cli::settings::ConfigSettings;
use crate::cli::settings::app;
use crate::cli::settings::origin::{Origin, Sourced, Wrong};
use crate::cli::settings::profile::{self, ConfigFile};
use crate::cli::settings::secret;
use crate::cli::settings::sources::Sources;

/// The value of a setting that can't be used.
const WRONG: &str = "wrong";

/// The value of a setting that depends on a profile that can't be read.
const UNKNOWN: &str = "unknown";

/// The maximum width of the column of values. A longer value, such as a path, moves only its own source.
const MAX_WIDTH: usize = 40;

/// Shows the settings for ZIM, so there is no `--simulate`: of these, a simulator uses only the rate.
pub fn config(config: ConfigSettings) -> Result<ExitCode, Error> {
    let ConfigSettings { json, sources } = config;
    if let Some(profile) = sources.profile() {
        app::warn_if_others_can_read_password(profile);
    }
    let lines = lines(&sources);
    let file = File::find();
    let errors: Vec<&str> = lines.iter().filter_map(|line| line.error.as_deref()).collect();
    print(&if json {
        format!("{}\n", as_json(&lines, &file, &errors))
    } else {
        as_text(&lines, &file)
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
struct File {
    path: Option<PathBuf>,
    exists: bool,
    profiles: Vec<String>,
}

impl File {
    fn find() -> File {
        let (exists, profiles) = match ConfigFile::read() {
            Ok(Some(file)) => (file.exists(), file.names().unwrap_or_default()),
            Ok(None) => (false, Vec::new()),
            Err(_) => (true, Vec::new()),
        };
        File {
            path: profile::path(),
            exists,
            profiles,
        }
    }
}

/// What is shown of a setting.
struct Line {
    name: &'static str,
    /// In JSON.
    value: Value,
    /// In the table.
    text: String,
    origin: Option<Origin>,
    /// Why it can't be used.
    error: Option<String>,
    /// Where it belongs, if it is missing.
    places: Option<String>,
}

impl Line {
    /// A setting that has a value, or is not set, or can't be used.
    fn new(name: &'static str, setting: Result<Option<Sourced<Value>>, Wrong>, unset: &str) -> Line {
        let (value, text, origin, error) = match setting {
            Ok(Some(Sourced { value, origin })) => {
                let text = value_as_text(&value);
                (value, text, Some(origin), None)
            }
            Ok(None) => (Value::Null, unset.to_owned(), None, None),
            Err(wrong) => (Value::Null, WRONG.into(), Some(wrong.origin), Some(wrong.value)),
        };
        Line {
            name,
            value,
            text,
            origin,
            error,
            places: None,
        }
    }

    fn of_setting(setting: &dyn AnySetting, sources: &Sources) -> Line {
        let about = setting.about();
        let line = match about.key {
            key if key == SECRET_FILE.about.key => secret(sources),
            key if key == ENDPOINT.about.key => {
                let shown = sources.endpoint().map(|url| Some(url.map(|url| (ENDPOINT.show)(&url))));
                Line::new(key, shown, about.unset)
            }
            key if key == CA_CERT.about.key => Line::new(key, ca_cert(sources), about.unset),
            key if key == RATE.about.key => {
                let shown = sources.rate().and_then(|_| sources.show(setting));
                Line::new(key, shown, about.unset)
            }
            key if key == UNTIL.about.key => {
                let shown = sources.until().and_then(|_| sources.show(setting));
                Line::new(key, shown, about.unset)
            }
            key => Line::new(key, sources.show(setting), about.unset),
        };
        let is_set = line.error.is_some() || !matches!(line.origin, None | Some(Origin::Default));
        if sources.profile.is_err() && about.in_profile && !is_set {
            return Line::new(line.name, Ok(None), UNKNOWN);
        }
        let is_missing = about.is_required && line.origin.is_none();
        Line {
            places: is_missing.then(|| places(about)),
            ..line
        }
    }
}

/// All settings. Those that a profile may set come first.
fn lines(sources: &Sources) -> Vec<Line> {
    let is_shown = |about: &About| about.key != PROFILE.about.key && about.key != REGION.about.key;
    let settings = SETTINGS.iter().filter(|setting| is_shown(setting.about()));
    let lines = settings.map(|setting| Line::of_setting(*setting, sources));
    lines.chain([proxy(sources), chosen_profile(sources)]).collect()
}

/// Where a setting belongs.
fn places(about: &About) -> String {
    let mut places = vec![about.flag.to_owned()];
    places.extend(about.variable.map(str::to_owned));
    if about.key == SECRET_FILE.about.key {
        places.push(secret::VARIABLE.to_owned());
    }
    format!("{}, or {} in a profile", places.join(", "), about.key)
}

/// Whether there is a secret; never the secret.
fn secret(sources: &Sources) -> Line {
    let file = match sources.get(&SECRET_FILE) {
        Ok(file) => file,
        Err(wrong) => return Line::new("secret", Err(wrong), ""),
    };
    let secret = secret::find(file.as_ref());
    let text = secret.as_ref().ok().and_then(Option::as_ref).map(|secret| {
        let length = secret.value.expose_secret().len();
        // A variable may have the secret itself.
        let file = file.filter(|file| file.origin == secret.origin);
        let place = file.map(|file| format!(", in {}", secret::place(&file.value)));
        format!("set, {length} characters{}", place.unwrap_or_default())
    });
    let hidden = secret.map(|secret| Some(secret?.map(|_| "(hidden)".into())));
    let line = Line::new("secret", hidden, SECRET_FILE.about.unset);
    Line {
        text: text.unwrap_or(line.text),
        ..line
    }
}

/// The file with certificates, which a client must be able to trust.
fn ca_cert(sources: &Sources) -> Result<Option<Sourced<Value>>, Wrong> {
    let check = |path: PathBuf, origin: &Origin| check_ca_cert(&path, origin).map(|()| (CA_CERT.show)(&path));
    let file = sources.get(&CA_CERT)?;
    file.map(|file| file.try_map(check)).transpose()
}

/// The proxy that requests go through.
fn proxy(sources: &Sources) -> Line {
    let endpoint = sources.endpoint().map(|endpoint| endpoint.value);
    let endpoint = endpoint.ok().or(ENDPOINT.default.map(|default| default()));
    let proxy = match endpoint.map(|endpoint| client::proxy_for(&endpoint)).transpose() {
        Ok(proxy) => Ok(proxy
            .flatten()
            .map(|(url, variable)| Sourced::variable(variable, json!(url)))),
        Err(error) => {
            let variable = match error {
                BuildError::Proxy(variable) => variable,
                _ => "HTTPS_PROXY",
            };
            Err(Wrong::variable(variable, error.to_string()))
        }
    };
    Line::new("proxy", proxy, "none")
}

/// The profile in force.
fn chosen_profile(sources: &Sources) -> Line {
    let chosen = sources.get(&PROFILE);
    let profile = match (&sources.profile, chosen) {
        (_, Err(wrong)) => Err(wrong),
        (Ok(profile), _) => Ok(profile.as_ref().map(|profile| Sourced {
            value: json!(*profile.name),
            origin: profile.chosen_by.clone(),
        })),
        (Err(error), Ok(chosen)) => Err(Wrong {
            value: error.to_string(),
            origin: chosen.map_or(Origin::Default, |chosen| chosen.origin),
        }),
    };
    Line::new(PROFILE.about.key, profile, PROFILE.about.unset)
}

fn as_json(lines: &[Line], file: &File, errors: &[&str]) -> Value {
    let mut object: serde_json::Map<String, Value> = lines
        .iter()
        .map(|line| {
            let origin = line.origin.as_ref();
            let members = json!({
                "value": line.value,
                "source": origin.map(Origin::kind),
                "from": origin.filter(|origin| **origin != Origin::Default).map(Origin::to_string),
                "error": line.error,
            });
            (line.name.to_owned(), members)
        })
        .collect();
    object.insert("profiles".into(), json!(file.profiles));
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

fn as_text(lines: &[Line], file: &File) -> String {
    let source = |line: &Line| match &line.origin {
        Some(Origin::Profile { name, line, .. }) => format!("profile {name}, line {line}"),
        Some(origin) => origin.to_string(),
        None => String::new(),
    };
    let mut rows: Vec<[String; 3]> = vec![["setting".into(), "value".into(), "source".into()]];
    let row = |line: &Line| [line.name.replace('_', " "), line.text.clone(), source(line)];
    rows.extend(lines.iter().map(row));
    let profiles = match &file.profiles[..] {
        [] => "none".into(),
        profiles => profiles.join(", "),
    };
    rows.push(["profiles".into(), profiles, String::new()]);
    let (path, exists) = match &file.path {
        Some(path) if file.exists => (path.display().to_string(), "exists"),
        Some(path) => (path.display().to_string(), "does not exist"),
        None => ("none, because neither HOME nor XDG_CONFIG_HOME is set".into(), ""),
    };
    rows.push(["config file".into(), path, exists.into()]);
    let rows: Vec<[String; 3]> = rows
        .into_iter()
        .map(|row| row.map(|text| one_line(&text).into_owned()))
        .collect();
    let widths = rows.iter().map(|[_, value, _]| console::measure_text_width(value));
    let width = widths.filter(|width| *width <= MAX_WIDTH).max().unwrap_or_default();
    let mut text = String::new();
    // Writing to a String does not fail.
    for [name, value, source] in &rows {
        let value = console::pad_str(value, width, console::Alignment::Left, None);
        let row = format!("{name:<11}  {value}  {source}");
        let _ = writeln!(text, "{}", row.trim_end());
    }
    let missing = lines.iter().filter_map(|line| Some((line.name, line.places.as_ref()?)));
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
