//! A record of the input as a row, or why it is invalid.

use crate::row::{Numbered, Row, RowError, Subject};

/// A row that is never sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRow {
    /// Whether it was read as a row or as a user.
    pub subject: Subject,
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// The user field as read; bytes that are not UTF-8 are U+FFFD.
    pub user: String,
    /// The conversation field, likewise.
    pub conv: String,
    /// The type field, likewise.
    pub conv_type: String,
    /// What is wrong.
    pub error: RowError,
}

/// A record of the input, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedRow {
    /// A call to make.
    Row(Numbered<Row>),
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
