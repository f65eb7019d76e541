//! No message shows text that may be the secret, given by mistake where something else belongs.

use std::path::Path;

/// Stands in messages for such a text.
pub const NOT_SHOWN: &str = "(not shown)";

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
