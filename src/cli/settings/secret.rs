//! Reads the server secret from a file or a variable, and removes what editors, shells and copying add to it.
//!
//! No message shows the secret or a part of it. The format of a secret is not documented (32 hex digits in ZEGO's
//! examples), so only text that can't be a secret is refused.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, getegid, getgroups};
use secrecy::SecretString;
use zim_batch::text::is_invisible;

use crate::cli::errors::Error;
use crate::cli::errors::redact::may_be_secret;
use crate::cli::settings::origin::{Origin, Sourced, Wrong, variable};

/// The variable that may contain the secret itself.
pub const VARIABLE: &str = "ZIM_SERVER_SECRET";

/// The maximum length of a secret, in bytes; more than any real one has.
const MAX_SECRET: usize = 4096;

/// The mode bit that lets everyone read a file.
const OTHERS_READ: u32 = 0o004;

/// The mode bit that lets the file's group read it.
const GROUP_READS: u32 = 0o040;

/// The secret, from a file or from the environment.
pub fn find(file: Option<&Sourced<PathBuf>>) -> Result<Option<Sourced<SecretString>>, Wrong> {
    Ok(text(file)?.map(|secret| secret.map(SecretString::from)))
}

fn text(file: Option<&Sourced<PathBuf>>) -> Result<Option<Sourced<String>>, Wrong> {
    let Some(file) = file else {
        return in_variable();
    };
    if matches!(file.origin, Origin::Profile { .. })
        && let Some(secret) = in_variable()?
    {
        return Ok(Some(secret));
    }
    let secret = file.clone().try_map(|path, origin| from_file(&path, origin))?;
    let differs = |other: Option<Sourced<String>>| other.is_some_and(|other| other.value != secret.value);
    match file.origin {
        // The flag takes precedence, but the user may not know that the variable is set.
        Origin::Flag(_) if in_variable().is_ok_and(differs) => {
            tracing::warn!(
                "ZIM_SERVER_SECRET is not used: it contains a different secret than the file of --secret-file"
            );
        }
        Origin::Variable(name) if differs(in_variable()?) => {
            let why =
                "ZIM_SERVER_SECRET and ZIM_SERVER_SECRET_FILE are both set, to different secrets; unset one of them";
            return Err(Wrong::variable(name, why.into()));
        }
        _ => {}
    }
    Ok(Some(secret))
}

fn in_variable() -> Result<Option<Sourced<String>>, Wrong> {
    let value = variable(VARIABLE).map(|value| Sourced::variable(VARIABLE, value));
    let parse = |value: OsString, _: &Origin| from_variable(VARIABLE, value.as_bytes());
    value.map(|value| value.try_map(parse)).transpose()
}

/// Reads the secret from a file. `origin` says where its path comes from.
pub fn from_file(path: &Path, origin: impl Display) -> Result<String, Error> {
    let place = place(path);
    let bytes = read(path).map_err(|error| {
        Error::Usage(format!(
            "{place} ({origin}): can't be read: {error}; specify the file that contains the secret"
        ))
    })?;
    checked(&bytes).map_err(|why| Error::Usage(format!("{place} ({origin}): {why}")))
}

/// Reads the secret from the value of this environment variable.
pub fn from_variable(name: &str, value: &[u8]) -> Result<String, Error> {
    checked(value).map_err(|why| Error::Usage(format!("{name}: {why}")))
}

/// Warns if other users of this machine can read the file. `what`: the secret that it contains.
pub fn warn_if_others_can_read(path: &Path, what: &str) {
    if let Ok(metadata) = path.metadata()
        && metadata.is_file()
        && others_can_read(&metadata)
        && !is_credential(path)
    {
        let place = place(path);
        tracing::warn!(
            "{place}: other users of this machine can read this file, which contains {what}; run: chmod 600 {place}"
        );
    }
}

/// Whether users who are not in a group of this process can read the file. A container's secret is readable for the
/// container's own group, and its mode can't be changed there.
fn others_can_read(file: &Metadata) -> bool {
    let group = Gid::from_raw(file.gid());
    let is_own_group = || group == getegid() || getgroups().is_ok_and(|groups| groups.contains(&group));
    file.mode() & OTHERS_READ != 0 || file.mode() & GROUP_READS != 0 && !is_own_group()
}

/// Whether systemd made the file for this service alone (`LoadCredential=`). Its access list looks like a group that may read.
fn is_credential(path: &Path) -> bool {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
    directory.is_some_and(|directory| !directory.is_empty() && path.starts_with(directory))
}

/// The name of the file, unless it may be the secret itself, given by mistake.
pub fn place(path: &Path) -> String {
    match path.to_string_lossy() {
        name if may_be_secret(&name) => "the file with the secret".to_owned(),
        name => name.into_owned(),
    }
}

/// Reads the start of the file, more than a secret can have. It may be a pipe, as in `<(pass show zim)`.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SECRET as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes a byte order mark, and spaces and line breaks around the secret. Refuses anything else that can't be part of a
/// secret.
fn checked(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_SECRET {
        return Err("this is too long for a secret; it must contain only the secret".into());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.get(1) == Some(&0) {
        return Err("the secret is encoded in UTF-16; save it as UTF-8".into());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "the secret is not UTF-8 text; write it again in ASCII characters".to_owned())?;
    let secret = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    match problem(secret) {
        None => Ok(secret.to_owned()),
        Some(problem) => Err(format!(
            "{problem}; it must contain only the secret, as the ZEGO console shows it"
        )),
    }
}

/// Why a text can't be a secret.
fn problem(secret: &str) -> Option<String> {
    if secret.is_empty() {
        return Some("it contains no secret".into());
    }
    if secret.contains(['\n', '\r']) {
        return Some("it has several lines".into());
    }
    if is_assignment(secret) {
        return Some("there is a name with '=' or ':' before the secret".into());
    }
    if secret.contains(['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}']) {
        return Some("it contains quotation marks".into());
    }
    let invalid = secret.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic());
    invalid.map(|(index, c)| {
        let place = index + 1;
        if c.is_whitespace() || is_invisible(c) {
            let code = u32::from(c);
            format!("character {place} of the secret is a space or an invisible character (U+{code:04X})")
        } else {
            format!("character {place} of the secret is not an ASCII character")
        }
    })
}

/// `KEY=value`, `export KEY="value"`, `key: value`. But `=` at the end may belong to a secret in Base64.
fn is_assignment(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text);
    let Some((key, value)) = text.split_once(['=', ':']) else {
        return false;
    };
    let is_name = key
        .trim_end()
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-.\"'".contains(c));
    let has_value = !value.trim_matches('=').is_empty() || key.to_ascii_lowercase().contains("secret");
    is_name && has_value
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "9193cc662a4c0ec135ec71fb57194b38";

    #[test]
    fn a_byte_order_mark_spaces_and_line_breaks_around_a_secret_are_removed() {
        for text in ["{}", "\u{feff}{}", "{}\n", "\u{feff}{}\r\n", "  {}\t\n\n", "\u{a0}{}"] {
            assert_eq!(
                checked(text.replace("{}", SECRET).as_bytes()).unwrap(),
                SECRET,
                "{text:?}"
            );
        }
        // The format of secrets is not documented.
        for secret in ["short", "QUJDREVGRw==", "a+b/c=", "abc-DEF_123.~!$%&"] {
            assert_eq!(checked(secret.as_bytes()).unwrap(), secret);
        }
    }

    #[test]
    fn text_that_is_no_secret_is_refused_with_the_reason_and_never_shown() {
        for (text, says) in [
            ("", "no secret"),
            (" \n", "no secret"),
            ("\u{feff}\n", "no secret"),
            ("{}\n{}\n", "several lines"),
            ("\"{}\"", "quotation marks"),
            ("'{}'\n", "quotation marks"),
            ("\u{201c}{}\u{201d}", "quotation marks"),
            ("ZIM_SERVER_SECRET={}", "'='"),
            ("export ZIM_SERVER_SECRET=\"{}\"", "'='"),
            ("ServerSecret: {}", "':'"),
            ("ZIM_SERVER_SECRET=", "'='"),
            (
                "{}\u{200b}",
                "character 33 of the secret is a space or an invisible character (U+200B)",
            ),
            (
                "\u{200b}{}",
                "character 1 of the secret is a space or an invisible character (U+200B)",
            ),
            ("\u{2060}{}", "U+2060"),
            ("\u{feff}\u{feff}{}", "U+FEFF"),
            ("{}\0", "U+0000"),
            ("{}\u{1b}[0m", "U+001B"),
            ("{} {}", "U+0020"),
            ("{}\u{a0}x", "U+00A0"),
            ("{}\u{430}", "character 33 of the secret is not an ASCII character"),
        ] {
            let why = checked(text.replace("{}", SECRET).as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text:?}: {why}");
            assert!(!why.contains(&SECRET[..4]), "{why}");
        }
        let utf16 = |bytes: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            format!("{mark}{SECRET}\r\n").encode_utf16().flat_map(bytes).collect()
        };
        for bytes in [
            utf16(u16::to_le_bytes, "\u{feff}"),
            utf16(u16::to_be_bytes, "\u{feff}"),
            utf16(u16::to_le_bytes, ""),
        ] {
            assert!(checked(&bytes).unwrap_err().contains("UTF-16"));
        }
        assert!(checked(b"9193\xff").unwrap_err().contains("UTF-8"));
        assert!(checked(&[b'a'; MAX_SECRET + 1]).unwrap_err().contains("too long"));
    }
}
