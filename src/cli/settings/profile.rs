//! Profiles: the settings of an app under a name, in the user's configuration file.
//!
//! ```toml
//! [profiles.night]
//! app_id = 1234567890
//! secret_file = "~/.secrets/zim"
//! ```
//!
//! The file has no secret, and no error shows a value: somebody may have written the secret there by mistake. For the same
//! reason, the parser's errors are never shown whole; they would quote the line.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use zim_batch::Rate;
use zim_batch::endpoint::Region;
use zim_batch::limiter::RateError;
use zim_batch::row::UnknownName;
use zim_batch::text::one_line;

use crate::cli::args::AppArgs;
use crate::cli::errors::Error;
use crate::cli::settings;
use crate::cli::settings::origin::{Origin, Sourced};
use crate::cli::settings::secret;

/// The settings of a profile.
const KEYS: [&str; 7] = [
    "app_id",
    "secret_file",
    "region",
    "endpoint",
    "ca_cert",
    "rate",
    "quota",
];

/// The profile that is used when none is named.
const DEFAULT: &str = "default";

/// The maximum length of the file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The user's configuration file.
#[derive(Debug)]
pub struct ConfigFile {
    pub path: Arc<Path>,
    /// The content; `None` if there is no such file, or none that can be reached.
    text: Option<String>,
}

/// The settings of an app under a name.
#[derive(Debug)]
pub struct Profile {
    pub name: Arc<str>,
    pub chosen_by: Origin,
    pub app_id: Option<Sourced<u32>>,
    pub secret_file: Option<Sourced<PathBuf>>,
    /// The endpoint, or that of the region.
    pub endpoint: Option<Sourced<Url>>,
    pub ca_cert: Option<Sourced<PathBuf>>,
    pub rate: Option<Sourced<Rate>>,
    pub quota: Option<Sourced<SecretString>>,
}

/// The name of the profile that the user has chosen.
pub fn chosen(args: &AppArgs, is_simulated: bool) -> Result<Option<Sourced<String>>, Error> {
    match &args.profile {
        Some(name) => Ok(Some(Sourced::flag("--profile", name.clone()))),
        // A simulator uses no variables.
        None if is_simulated => Ok(None),
        None => Ok(settings::text_variable("ZIM_PROFILE")?.map(|name| Sourced::variable("ZIM_PROFILE", name))),
    }
}

/// The profile in force: the chosen one, or else `default`, if the file has it.
pub fn read(args: &AppArgs, is_simulated: bool) -> Result<Option<Profile>, Error> {
    let name = chosen(args, is_simulated)?;
    if is_simulated && name.is_none() {
        return Ok(None);
    }
    match (ConfigFile::read()?, name) {
        (Some(file), name) => file.profile(name.as_ref()),
        (None, None) => Ok(None),
        (None, Some(name)) => Err(Error::Usage(format!(
            "{}: there is no configuration file for profiles, because neither HOME nor XDG_CONFIG_HOME is set",
            name.origin
        ))),
    }
}

/// Where the configuration file belongs, whether or not it exists. A relative `XDG_CONFIG_HOME` is ignored, as the XDG
/// specification says.
pub fn path() -> Option<PathBuf> {
    let named = settings::variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let directory = named.filter(|directory| directory.is_absolute());
    let directory = directory.or_else(|| Some(home()?.join(".config")))?;
    Some(directory.join("zim-batch").join("config.toml"))
}

fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

impl ConfigFile {
    /// Reads the file. Returns `None` if there is no place for one.
    pub fn read() -> Result<Option<ConfigFile>, Error> {
        let Some(path) = path() else { return Ok(None) };
        let text = match content(&path) {
            Ok(bytes) => Some(text(&path, bytes)?),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            // A service whose home is closed to it, as with systemd's ProtectHome, has no such file.
            Err(_) if path.symlink_metadata().is_err() => None,
            Err(error) => {
                let why = format!("{}: the configuration file can't be read: {error}", path.display());
                return Err(Error::Usage(why));
            }
        };
        let path = path.into();
        Ok(Some(ConfigFile { path, text }))
    }

    /// Whether the file exists and can be reached.
    pub fn exists(&self) -> bool {
        self.text.is_some()
    }

    /// The names of all profiles.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let profiles = self.profiles()?;
        Ok(profiles
            .into_iter()
            .map(|(name, _)| unless_secret(&name).to_owned())
            .collect())
    }

    /// The profile of this name, which must exist; without a name, the default profile if there is one.
    pub fn profile(&self, name: Option<&Sourced<String>>) -> Result<Option<Profile>, Error> {
        let wanted = name.map_or(DEFAULT, |name| &name.value);
        let mut profiles = self.profiles()?;
        let found = profiles.iter().position(|(name, _)| name == wanted);
        match (found, name) {
            (Some(index), name) => {
                let chosen_by = name.map_or(Origin::Default, |name| name.origin.clone());
                self.settings(wanted, chosen_by, profiles.swap_remove(index).1)
                    .map(Some)
            }
            (None, None) => Ok(None),
            (None, Some(name)) => {
                let names: Vec<String> = profiles.iter().map(|(name, _)| shown(name)).collect();
                let advice = match (self.exists(), &names[..]) {
                    (false, _) => {
                        "this file does not exist, or can't be reached; create it, with a table [profiles.NAME]"
                            .to_owned()
                    }
                    (true, []) => "it has no profiles; add a table [profiles.NAME]".to_owned(),
                    (true, names) => format!("its profiles are {}", names.join(", ")),
                };
                Err(Error::Usage(format!(
                    "{}: there is no profile '{}' ({}): {advice}",
                    self.path.display(),
                    shown(wanted),
                    name.origin
                )))
            }
        }
    }

    /// The tables below `profiles`, each with its name.
    fn profiles(&self) -> Result<Vec<(String, DeTable<'_>)>, Error> {
        let text = self.text.as_deref().unwrap_or_default();
        let invalid = |error: toml::de::Error| {
            let why = format!("this is not valid TOML: {}", error.message());
            self.error(error.span(), &why)
        };
        let root = DeTable::parse(text).map_err(invalid)?;
        let mut profiles = Vec::new();
        for (key, value) in root.into_inner() {
            let span = Some(key.span());
            match (key.get_ref().as_ref(), value.into_inner()) {
                ("profiles", DeValue::Table(tables)) => {
                    for (name, table) in tables {
                        let span = Some(name.span());
                        let DeValue::Table(table) = table.into_inner() else {
                            return Err(self.error(span, &not_a_profile(name.get_ref())));
                        };
                        profiles.push((name.into_inner().into_owned(), table));
                    }
                }
                (name, DeValue::Table(table)) => {
                    // [profile.night] is meant for [profiles.night].
                    let inner = table
                        .iter()
                        .find(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)));
                    let (written, meant) = match inner {
                        Some((inner, _)) => (
                            format!("{}.{}", shown(name), shown(inner.get_ref())),
                            inner.get_ref().as_ref(),
                        ),
                        None => (shown(name), name),
                    };
                    let meant = shown(meant);
                    let why = format!("[{written}]: write the table of a profile like this: [profiles.{meant}]");
                    return Err(self.error(span, &why));
                }
                (key, _) => return Err(self.error(span, &outside_of_profiles(key))),
            }
        }
        Ok(profiles)
    }

    /// The settings in the table of a profile.
    fn settings(&self, name: &str, chosen_by: Origin, table: DeTable<'_>) -> Result<Profile, Error> {
        let mut profile = Profile {
            name: unless_secret(name).into(),
            chosen_by,
            app_id: None,
            secret_file: None,
            endpoint: None,
            ca_cert: None,
            rate: None,
            quota: None,
        };
        for (key, value) in table {
            let span = Some(key.span());
            let origin = Origin::Profile {
                name: Arc::clone(&profile.name),
                file: Arc::clone(&self.path),
                line: self.line(key.span()),
            };
            let key = key.get_ref();
            known(key)
                .and_then(|()| scalar(value))
                .and_then(|text| self.set(&mut profile, key, text, origin))
                .map_err(|why| self.error(span, &format!("{}: {why}", shown(key))))?;
        }
        Ok(profile)
    }

    /// Sets one setting. The text of a value means the same as that of the flag.
    fn set(&self, profile: &mut Profile, key: &str, text: String, origin: Origin) -> Result<(), String> {
        fn sourced<T>(value: T, origin: Origin) -> Option<Sourced<T>> {
            Some(Sourced { value, origin })
        }
        match key {
            "app_id" => profile.app_id = sourced(settings::parse_app_id(&text)?, origin),
            "secret_file" => profile.secret_file = sourced(self.file(&text)?, origin),
            "region" | "endpoint" if profile.endpoint.is_some() => {
                return Err("region and endpoint both set the endpoint; leave out one of them".into());
            }
            "region" => profile.endpoint = sourced(parse_region(&text)?.endpoint(), origin),
            "endpoint" => profile.endpoint = sourced(settings::parse_endpoint(&text)?, origin),
            "ca_cert" => profile.ca_cert = sourced(self.file(&text)?, origin),
            "rate" => profile.rate = sourced(text.parse().map_err(|error: RateError| error.to_string())?, origin),
            _ => profile.quota = sourced(SecretString::from(text), origin),
        }
        Ok(())
    }

    /// A path in the file: `~/` is the home directory, and a relative path begins where the file is.
    fn file(&self, text: &str) -> Result<PathBuf, String> {
        if text.is_empty() {
            return Err("it must be the path of a file".into());
        }
        let path = match (text.strip_prefix("~/"), home()) {
            (Some(rest), Some(home)) => home.join(rest),
            (Some(_), None) => return Err("~ has no meaning here, because HOME is not set".into()),
            (None, _) => self.path.parent().unwrap_or(Path::new("")).join(text),
        };
        let may_be_secret = [text.rsplit('/').next().unwrap_or_default(), text]
            .iter()
            .any(|text| secret::may_be_secret(text));
        if may_be_secret && !path.exists() {
            return Err(
                "there is no such file. If this is the secret itself: write the path of a file that contains it".into(),
            );
        }
        Ok(path)
    }

    /// What is wrong at a place of this file.
    fn error(&self, span: Option<Range<usize>>, why: &str) -> Error {
        let line = self.line(span.unwrap_or_default());
        Error::Usage(format!("{}, line {line}: {why}", self.path.display()))
    }

    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_deref().and_then(|text| text.as_bytes().get(..span.start));
        memchr::memchr_iter(b'\n', before.unwrap_or_default()).count() + 1
    }
}

fn content(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a named pipe would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = memchr::memchr_iter(b'\n', valid).count() + 1;
        Error::Usage(format!(
            "{}, line {line}: this is not UTF-8 text; save it as UTF-8",
            path.display()
        ))
    })
}

/// What is wrong with a key in `profiles` that is no table.
fn not_a_profile(key: &str) -> String {
    match KEYS.contains(&key) || refuse_secret(key).is_err() {
        true => outside_of_profiles(key),
        false => format!("{0}: a profile is a table: [profiles.{0}]", shown(key)),
    }
}

/// What is wrong with a key that is in no profile.
fn outside_of_profiles(key: &str) -> String {
    match refuse_secret(key) {
        Err(why) => why,
        Ok(()) => format!(
            "{}: settings belong in the table of a profile; begin one with [profiles.{DEFAULT}]",
            shown(key)
        ),
    }
}

/// Refuses a key that is none of the settings.
fn known(key: &str) -> Result<(), String> {
    if KEYS.contains(&key) {
        return Ok(());
    }
    refuse_secret(key)?;
    let similarity = |known: &&&str| (strsim::jaro(&key.to_ascii_lowercase().replace('-', "_"), known) * 100.0) as u8;
    let nearest = KEYS
        .iter()
        .max_by_key(similarity)
        .filter(|known| similarity(known) > 80);
    let hint = nearest.map_or(".".to_owned(), |known| format!("; did you mean {known}?"));
    Err(format!(
        "unknown key{hint} The keys of a profile are {}",
        KEYS.join(", ")
    ))
}

/// Refuses a key that is for the secret itself.
fn refuse_secret(key: &str) -> Result<(), String> {
    let key = key.to_ascii_lowercase();
    match key.contains("secret") && !key.replace(['-', '_'], "").contains("file") {
        true => Err(
            "the secret itself does not belong in this file; write it to a file of its own, and the path of that \
                     file here, as secret_file"
                .into(),
        ),
        false => Ok(()),
    }
}

/// The text of a string or a number.
fn scalar(value: Spanned<DeValue<'_>>) -> Result<String, String> {
    match value.into_inner() {
        DeValue::String(text) => Ok(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "this number is too large".into()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        _ => Err("it must be a text in quotation marks, or a number".into()),
    }
}

fn parse_region(text: &str) -> Result<Region, String> {
    // The error does not show the text, which may be the secret by mistake.
    text.parse()
        .map_err(|UnknownName { expected, .. }| format!("it must be one of {expected}"))
}

/// A name in the file, for messages.
fn shown(name: &str) -> String {
    one_line(unless_secret(name)).into_owned()
}

/// A name in the file, unless it may be the secret, written there by mistake.
fn unless_secret(name: &str) -> &str {
    // Names are words; a secret has digits.
    let has_digits = name.chars().filter(char::is_ascii_digit).count() >= 4;
    if has_digits && secret::may_be_secret(name) {
        "(not shown)"
    } else {
        name
    }
}
