//! A word where a name was expected.

/// A word that is not one of the expected names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not a known {kind}; it must be one of {expected}")]
#[non_exhaustive]
pub struct UnknownName {
    /// The word.
    pub found: String,
    /// The kind of name expected.
    pub kind: &'static str,
    /// The known names.
    pub expected: String,
}

impl UnknownName {
    pub(crate) fn new(found: &str, kind: &'static str, names: &[&str]) -> UnknownName {
        UnknownName {
            found: found.to_owned(),
            kind,
            expected: names.join(", "),
        }
    }
}
