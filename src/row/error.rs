//! Why a row can't be sent.

use std::fmt;

/// The longest user or conversation ID, in bytes (ZEGO, "ClearConversationUnread").
pub const MAX_ID: usize = 32;

/// A column of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Column {
    /// The user.
    User,
    /// The conversation.
    Conv,
    /// The conversation's type.
    Type,
    /// The outcome, in an earlier report.
    Outcome,
    /// The line, in an earlier report.
    Line,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::User => "user",
            Column::Conv => "conv",
            Column::Type => "type",
            Column::Outcome => "outcome",
            Column::Line => "line",
        })
    }
}

/// Why a row is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The record has too few fields.
    Missing(Column),
    /// The field is empty.
    Empty(Column),
    /// An ID of this many bytes, more than [`MAX_ID`].
    TooLong(Column, usize),
    /// Bytes that are not valid in the input's encoding.
    NotText(Column),
    /// Neither 0, peer, 2 nor group; the field as read.
    BadType(String),
    /// A quote opened in this row is never closed, so the row contains the rest of the input.
    UnclosedQuote,
    /// The record is longer than 1 MiB; probably a quote is not closed.
    RecordTooLong,
    /// The header again, as in concatenated files.
    HeaderAgain,
    /// Another error, in a row that spans several lines: perhaps a quote was opened by mistake.
    Spanning {
        /// What is wrong with the row.
        error: Box<RowError>,
        /// The line on which it begins, and the one on which it ends.
        lines: (u64, u64),
    },
}

impl std::error::Error for RowError {}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Missing(column) => write!(f, "{column} is missing"),
            RowError::Empty(column) => write!(f, "{column} is empty"),
            RowError::TooLong(column, bytes) => {
                write!(f, "{column} is {bytes} bytes long, at most {MAX_ID} are allowed")
            }
            RowError::NotText(column) => write!(
                f,
                "{column} is not valid text in the input's encoding (UTF-8 unless another is given)"
            ),
            RowError::BadType(found) => write!(f, "type is '{found}', it must be 0 or peer, 2 or group"),
            RowError::UnclosedQuote => {
                f.write_str("a quote opened here is never closed, so the rest of the input is in this row")
            }
            RowError::RecordTooLong => f.write_str("longer than 1 MiB; most likely a quote that is not closed"),
            RowError::HeaderAgain => f.write_str("the header again"),
            RowError::Spanning {
                error,
                lines: (first, last),
            } => write!(
                f,
                "{error}, and the row spans lines {first} to {last}; perhaps a quote is not closed"
            ),
        }
    }
}
