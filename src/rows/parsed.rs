//! What a record of the input comes to: a row, or what is wrong with it.

use std::fmt;

use crate::row::{MAX_ID, Row};

/// A row that is never sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRow {
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// What was read for the user; what is not UTF-8 shows as U+FFFD.
    pub user: String,
    /// What was read for the conversation, likewise.
    pub conv: String,
    /// What was read for the type, likewise.
    pub conv_type: String,
    /// What is wrong.
    pub problem: RowError,
}

/// What a record of the input came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedRow {
    /// A call to make.
    Row(Row),
    /// A row that can't be sent.
    Invalid(InvalidRow),
}

impl ParsedRow {
    /// The 1-based line on which it begins.
    pub fn line(&self) -> u64 {
        match self {
            ParsedRow::Row(row) => row.line,
            ParsedRow::Invalid(row) => row.line,
        }
    }
}

/// A column of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// The user.
    User,
    /// The conversation.
    Conv,
    /// The conversation's type.
    Type,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::User => "user",
            Column::Conv => "conv",
            Column::Type => "type",
        })
    }
}

/// Why a row is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The record has too few fields.
    Missing(Column),
    /// Nothing between the delimiters.
    Empty(Column),
    /// An ID of this many bytes, more than [`MAX_ID`].
    TooLong(Column, usize),
    /// Bytes that are not UTF-8, or not of the encoding that the input is in.
    NotText(Column),
    /// Neither 0, peer, 2 nor group; what was there.
    BadType(String),
    /// A quote that was opened on this line is never closed: the rest of the input was swallowed.
    UnclosedQuote,
    /// The record is longer than one mebibyte; most likely a quote that was not closed.
    RecordTooLong,
    /// The header stands here once more, as where two files were joined.
    HeaderAgain,
    /// Another problem, of a row that takes several lines: perhaps a quote was opened by mistake.
    Spanning {
        /// What is wrong with the row.
        problem: Box<RowError>,
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
                problem,
                lines: (first, last),
            } => write!(
                f,
                "{problem}, and the row spans lines {first} to {last}; perhaps a quote is not closed"
            ),
        }
    }
}
