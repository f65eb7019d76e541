//! No message shows text that may be the secret, given by mistake where something else belongs.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

/// Stands in messages for such a text.
pub const NOT_SHOWN: &str = "(not shown)";

/// Why a text is refused.
pub const LIKE_SECRET: &str =
    "(not shown): this looks like the ServerSecret; write the secret to a file, and give its path with --secret-file";

/// A text, unless it may be the secret.
pub fn shown(text: &str) -> &str {
    if may_be_secret(text) { NOT_SHOWN } else { text }
}

/// A path, unless it may be the secret.
pub fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy()).to_owned()
}

/// Whether a text may be the secret.
pub fn may_be_secret(text: &str) -> bool {
    let text = text.trim();
    let consists_of = |others: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c));
    // A secret has no dot, a slash only in Base64, and is at least this long.
    text.len() >= 16 && (consists_of("") || text.contains(['+', '=']) && consists_of("+/="))
}

/// Whether a text is most likely the secret: 32 hex digits, as the ZEGO console shows it. Unlike what only may be the
/// secret, it can be refused.
pub fn is_like_secret(text: &str) -> bool {
    let text = text.trim();
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Refuses a text if a part of it, between other characters than letters and digits, is most likely the secret.
pub fn refuse_secret(text: &str) -> Result<(), String> {
    let mut parts = text.split(|c: char| !c.is_ascii_alphanumeric());
    if parts.any(is_like_secret) {
        return Err(LIKE_SECRET.into());
    }
    Ok(())
}

/// Parses a text in which the secret has no place.
pub fn parse_without_secret<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    refuse_secret(text)?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_the_secret_is_recognized() {
        for text in [
            "9193cc662a4c0ec135ec71fb57194b38",
            " 9193cc662a4c0ec1\n",
            "QUJD+EVGRw/9193cc66QUJD==",
            "QUJDREVGRw9193cc==",
        ] {
            assert!(may_be_secret(text), "{text:?}");
        }
        for text in [
            "",
            "night",
            "/run/credentials/zim",
            "/run/secrets/zim2026",
            "10.0.0.1",
            "https://zim-api.zego.im",
        ] {
            assert!(!may_be_secret(text), "{text:?}");
        }
    }
}
