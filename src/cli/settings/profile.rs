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

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zim_batch::text::one_line;

use crate::cli::args::app::SETTINGS;
use crate::cli::args::setting::{About, AnySetting, Kind, Setting};
use crate::cli::errors::Error;
use crate::cli::errors::redact;
use crate::cli::settings::origin::{Origin, Sourced, variable};

/// The profile that is used when none is chosen.
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
    /// The texts of its settings, which have been checked, by their keys.
    texts: BTreeMap<&'static str, Sourced<OsString>>,
}

impl Profile {
    /// The text of a setting.
    pub fn text(&self, about: &About) -> Option<Sourced<OsString>> {
        self.texts.get(about.key).cloned()
    }

    /// The value of a setting.
    pub fn get<T>(&self, setting: &Setting<T>) -> Option<Sourced<T>> {
        let text = self.text(&setting.about)?;
        text.try_map(|text, _| (setting.parse)(&text)).ok()
    }
}

/// The profile of this name, or else `default`, if the file has it.
pub fn read(name: Option<&Sourced<String>>) -> Result<Option<Profile>, Error> {
    match (ConfigFile::read()?, name) {
        (Some(file), name) => file.profile(name),
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
    let named = variable("XDG_CONFIG_HOME").map(PathBuf::from);
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
            texts: BTreeMap::new(),
        };
        for (key, value) in table {
            let span = Some(key.span());
            let origin = Origin::Profile {
                name: Arc::clone(&profile.name),
                file: Arc::clone(&self.path),
                line: self.line(key.span()),
            };
            let (about, value) = known(key.get_ref())
                .and_then(|setting| Ok((setting.about(), self.text(setting, value, &profile)?)))
                .map_err(|why| self.error(span, &format!("{}: {why}", shown(key.get_ref()))))?;
            profile.texts.insert(about.key, Sourced { value, origin });
        }
        Ok(profile)
    }

    /// The checked text of a setting, which means the same as that of the flag. `others` has the settings before it.
    fn text(
        &self,
        setting: &dyn AnySetting,
        value: Spanned<DeValue<'_>>,
        others: &Profile,
    ) -> Result<OsString, String> {
        let about = setting.about();
        let text: OsString = match about.kind {
            Kind::Text => scalar(value)?.into(),
            Kind::File | Kind::Directory => self.file(&scalar(value)?)?.into(),
        };
        setting.show(&text)?;
        let mut others = others.texts.keys().filter_map(|key| find(key));
        match others.find(|other| conflict(other.about(), about)) {
            Some(other) => Err(format!(
                "it can't be combined with {}; leave out one of them",
                other.about().key
            )),
            None => Ok(text),
        }
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
            .any(|text| redact::may_be_secret(text));
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
    if bytes.len() as u64 > MAX_FILE {
        Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"))
    } else {
        Ok(bytes)
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

/// The settings that a profile may have.
fn settings() -> impl Iterator<Item = &'static dyn AnySetting> {
    SETTINGS.iter().copied().filter(|setting| setting.about().in_profile)
}

fn find(key: &str) -> Option<&'static dyn AnySetting> {
    settings().find(|setting| setting.about().key == key)
}

/// Whether only one of two settings can be set.
fn conflict(one: &About, other: &About) -> bool {
    one.conflicts_with == Some(other.key) || other.conflicts_with == Some(one.key)
}

/// What is wrong with a key in `profiles` that is no table.
fn not_a_profile(key: &str) -> String {
    if find(key).is_some() || refuse_secret(key).is_err() {
        return outside_of_profiles(key);
    }
    format!("{0}: a profile is a table: [profiles.{0}]", shown(key))
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

/// The setting of a key.
fn known(key: &str) -> Result<&'static dyn AnySetting, String> {
    if let Some(setting) = find(key) {
        return Ok(setting);
    }
    refuse_secret(key)?;
    let keys: Vec<&str> = settings().map(|setting| setting.about().key).collect();
    let similarity = |known: &&&str| (strsim::jaro(&key.to_ascii_lowercase().replace('-', "_"), known) * 100.0) as u8;
    let nearest = keys
        .iter()
        .max_by_key(similarity)
        .filter(|known| similarity(known) > 80);
    let hint = nearest.map_or(".".to_owned(), |known| format!("; did you mean {known}?"));
    Err(format!(
        "unknown key{hint} The keys of a profile are {}",
        keys.join(", ")
    ))
}

/// Refuses a key that is for the secret itself.
fn refuse_secret(key: &str) -> Result<(), String> {
    let key = key.to_ascii_lowercase();
    if key.contains("secret") && !key.replace(['-', '_'], "").contains("file") {
        Err(
            "the secret itself does not belong in this file; write it to a separate file, and that file's \
                     path here, as secret_file"
                .into(),
        )
    } else {
        Ok(())
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

/// A name in the file, for messages.
fn shown(name: &str) -> String {
    one_line(unless_secret(name)).into_owned()
}

/// A name in the file, unless it may be the secret, written there by mistake.
fn unless_secret(name: &str) -> &str {
    // Names are words; a secret has digits.
    let has_digits = name.chars().filter(char::is_ascii_digit).count() >= 4;
    if has_digits && redact::may_be_secret(name) {
        redact::NOT_SHOWN
    } else {
        name
    }
}
