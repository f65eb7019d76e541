//! The server secret as people hand it over: in a file or a variable, with what editors, shells and copying add to it.
//!
//! Nothing here ever shows the secret or a part of it. What a secret looks like is not documented (32 hex digits, in
//! ZEGO's examples), so that only what can't be one is refused.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::Error;

/// More than any secret has, in bytes.
const MAX_SECRET: usize = 4096;

/// The bits of a file's mode that let its group or everybody read it.
const OTHERS_READ: u32 = 0o044;

const SOURCE: &str = "--secret-file or ZIM_SERVER_SECRET_FILE";

/// The secret in a file.
pub fn from_file(path: &Path) -> Result<String, Error> {
    let place = place(path);
    let bytes = read(path)
        .map_err(|error| Error::Usage(format!("{place} ({SOURCE}): the secret's file can't be read: {error}")))?;
    checked(&bytes).map_err(|why| Error::Usage(format!("{place} ({SOURCE}): {why}")))
}

/// The secret in an environment variable of this name.
pub fn from_variable(name: &str, value: &[u8]) -> Result<String, Error> {
    checked(value).map_err(|why| Error::Usage(format!("{name}: {why}")))
}

/// Warns if other users of this machine can read the file.
pub fn warn_if_others_can_read(path: &Path) {
    if let Ok(metadata) = path.metadata()
        && metadata.is_file()
        && metadata.mode() & OTHERS_READ != 0
    {
        let place = place(path);
        tracing::warn!("{place}: other users of this machine can read this file with the secret; chmod 600 {place}");
    }
}

/// The file's name, unless it may be the secret itself, given in the file's place.
fn place(path: &Path) -> String {
    let name = path.to_string_lossy();
    // What has no dot and no slash, and is as long as a secret.
    if name.len() >= 16 && name.chars().all(|c| c.is_ascii_alphanumeric()) {
        "the file with the secret".to_owned()
    } else {
        name.into_owned()
    }
}

/// The beginning of the file, which is more than a secret has. It may be a pipe, as in `<(pass show zim)`.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SECRET as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The secret alone: without a byte order mark before it, and blanks and line ends around it. Anything else that is not
/// part of a secret is a mistake; says which.
fn checked(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_SECRET {
        return Err("this is too long to be a secret; it must hold the secret alone".into());
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.get(1) == Some(&0) {
        return Err("the secret is written in UTF-16; write it in UTF-8".into());
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "the secret is not UTF-8 text; write it again, in plain ASCII characters".to_owned())?;
    let secret = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    match flaw(secret) {
        None => Ok(secret.to_owned()),
        Some(flaw) => Err(format!(
            "{flaw}; it must hold the secret alone, as the ZEGO console shows it"
        )),
    }
}

/// What makes a text no secret.
fn flaw(secret: &str) -> Option<String> {
    if secret.is_empty() {
        return Some("there is no secret in it".into());
    }
    if secret.contains(['\n', '\r']) {
        return Some("there are several lines in it".into());
    }
    if is_assignment(secret) {
        return Some("a name and '=' or ':' stand before the secret".into());
    }
    if secret.contains(['"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}']) {
        return Some("there are quotation marks in it".into());
    }
    let odd = secret.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic());
    odd.map(|(index, c)| {
        let place = index + 1;
        if is_unseen(c) {
            let code = u32::from(c);
            format!("character {place} of the secret is a blank, or one that can't be seen (U+{code:04X})")
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

/// Blank, control and format characters; those that text is found to hold without anybody having seen them.
fn is_unseen(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    );
    c.is_whitespace() || c.is_control() || is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "9193cc662a4c0ec135ec71fb57194b38";

    #[test]
    fn a_byte_order_mark_blanks_and_line_ends_around_a_secret_are_not_part_of_it() {
        for text in ["{}", "\u{feff}{}", "{}\n", "\u{feff}{}\r\n", "  {}\t\n\n", "\u{a0}{}"] {
            assert_eq!(
                checked(text.replace("{}", SECRET).as_bytes()).unwrap(),
                SECRET,
                "{text:?}"
            );
        }
        // What secrets are made of is not documented.
        for secret in ["short", "QUJDREVGRw==", "a+b/c=", "abc-DEF_123.~!$%&"] {
            assert_eq!(checked(secret.as_bytes()).unwrap(), secret);
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_with_what_is_wrong_and_never_shown() {
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
                "character 33 of the secret is a blank, or one that can't be seen (U+200B)",
            ),
            (
                "\u{200b}{}",
                "character 1 of the secret is a blank, or one that can't be seen (U+200B)",
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
