//! Why a first record does not show which column is which, and what it probably is instead.

use std::fmt;

use super::columns::ColumnRef;
use super::encoding::Encoding;

/// Why the first record does not show which column is which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// These columns were not found.
    #[error("no column for {}", joined(.0))]
    Missing(Vec<MissingColumn>),
    /// Several columns match: the column, and the headers that match.
    #[error("more than one column for {} ({})", .0, .1.join(", "))]
    Twice(&'static str, Vec<String>),
    /// The column with this number, from 1, would be two of user, conversation and type.
    #[error("column {0} would be two of user, conv and type")]
    Same(usize),
}

/// A column that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingColumn {
    /// Which: `user`, `conv` or `type`.
    pub column: &'static str,
    /// How it was given in [`Columns`](super::Columns).
    pub given: Option<ColumnRef>,
    /// How many columns there are.
    pub columns: usize,
}

impl fmt::Display for MissingColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            None => f.write_str(self.column),
            Some(ColumnRef::Name(name)) => write!(f, "{} ('{name}')", self.column),
            Some(ColumnRef::Number(number)) => {
                write!(f, "{} (column {number}, and there are {})", self.column, self.columns)
            }
        }
    }
}

fn joined(columns: &[MissingColumn]) -> String {
    let names: Vec<String> = columns.iter().map(MissingColumn::to_string).collect();
    names.join(", ")
}

/// What a first record without recognisable columns probably is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutClue {
    /// Text in another encoding; the most likely one, if it can be guessed.
    NotUtf8(Option<&'static Encoding>),
    /// UTF-16 without a byte order mark.
    Utf16,
    /// A line for Excel that names the delimiter.
    ExcelDelimiter,
    /// A record with `|` in it, which may be the delimiter.
    Pipes,
}

impl fmt::Display for LayoutClue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutClue::NotUtf8(None) => f.write_str("The text is not UTF-8"),
            LayoutClue::NotUtf8(Some(likely)) => {
                let windows = if likely.name() == "GBK" {
                    " (Chinese Windows)"
                } else {
                    ""
                };
                write!(f, "The text is not UTF-8 but most likely {}{windows}", likely.name())
            }
            LayoutClue::Utf16 => f.write_str("The text looks like UTF-16 without a byte order mark"),
            LayoutClue::ExcelDelimiter => f.write_str("The first line names Excel's delimiter"),
            LayoutClue::Pipes => f.write_str("Perhaps '|' is the delimiter"),
        }
    }
}
