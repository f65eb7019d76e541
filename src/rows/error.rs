//! Why an input can't be read, or its rows can't be worked on.

use std::fmt;
use std::io;

use super::columns::ColumnRef;
use super::format::Reads;
use super::text::Encoding;
use crate::kind::ErrorKind;
use crate::row::{Column, RowError};

/// Why an input can't be read, or its rows can't be worked on. A row that can't be sent is not an error but
/// [invalid](super::InvalidRow).
#[derive(Debug)]
#[non_exhaustive]
pub struct InputError {
    /// The input: its path, or the name given to a reader.
    pub input: String,
    /// The line, if the error is about one.
    pub line: Option<u64>,
    /// What is wrong.
    pub kind: InputErrorKind,
}

impl std::error::Error for InputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.input)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

/// What is wrong with an input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputErrorKind {
    /// The file can't be opened.
    #[error("can't be opened")]
    Open(#[source] io::Error),
    /// Reading failed; the line is the one reached so far.
    #[error("can't be read")]
    Read(#[source] io::Error),
    /// The input has only blank lines, not even a header; what was to be read.
    #[error("the input is empty; expected a CSV with {}", .0.columns())]
    Empty(Reads),
    /// The file is not a CSV.
    #[error("this is not a CSV but {kind}; {advice}")]
    NotCsv {
        /// What it is.
        kind: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The columns can't be determined; the line is that of the first record.
    #[error(transparent)]
    Layout(Box<LayoutError>),
    /// The file has changed since its rows were counted.
    #[error("{0} while its rows were read; nothing of the changed file was sent")]
    Changed(FileChange),
    /// The last row of a file had no line end when the rows were counted, and has become longer since.
    #[error("this row, the last one, was still being written when the rows were counted")]
    StillWritten,
    /// A stream ended inside a row; what is wrong with the row.
    #[error(
        "the input ends within this row ({0}, and there is no line end), so it was probably cut off; nothing is recorded of \
         this row"
    )]
    CutOff(RowError),
    /// Rows are selected by outcome ([`Selection::only`](super::Selection::only)), and the input has no outcome column.
    #[error("rows are selected by outcome, but there is no outcome column")]
    NoOutcomes,
    /// The input is an earlier report with rows that were cleared, and no rows were selected explicitly.
    #[error("this is the report of an earlier run ({found}), and its ok rows are done")]
    IsReport {
        /// The evidence: its counts by outcome, or an `ok` row.
        found: String,
    },
    /// The line has another row than the report recorded: the report was made from other input.
    #[error("this is not the row that the report has for this line. {OTHER_INPUT}")]
    RowChanged,
    /// No row begins on a line that the report has a row for: the report was made from other input.
    #[error("the report has a record for this line, but no row starts there now. {OTHER_INPUT}")]
    RowGone,
}

impl InputErrorKind {
    /// The error for the whole input.
    pub fn of(self, input: &str) -> InputError {
        InputError {
            input: input.to_owned(),
            line: None,
            kind: self,
        }
    }

    /// The error for a line of the input.
    pub fn at(self, input: &str, line: u64) -> InputError {
        InputError {
            input: input.to_owned(),
            line: Some(line),
            kind: self,
        }
    }
}

impl From<&InputError> for ErrorKind {
    fn from(error: &InputError) -> ErrorKind {
        match error.kind {
            InputErrorKind::IsReport { .. } => ErrorKind::Settings,
            InputErrorKind::Open(_)
            | InputErrorKind::Read(_)
            | InputErrorKind::Empty(_)
            | InputErrorKind::NotCsv { .. }
            | InputErrorKind::Layout(_)
            | InputErrorKind::Changed(_)
            | InputErrorKind::StillWritten
            | InputErrorKind::CutOff(_)
            | InputErrorKind::NoOutcomes
            | InputErrorKind::RowChanged
            | InputErrorKind::RowGone => ErrorKind::Input,
        }
    }
}

/// Why the columns of an input can't be determined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; the columns found are {found}{}", as_sentence(.diagnosis))]
#[non_exhaustive]
pub struct LayoutError {
    /// What is wrong with the first record.
    pub problem: LayoutProblem,
    /// What was to be read.
    pub reads: Reads,
    /// The first record's fields.
    pub found: String,
    /// What the text probably is instead, if that can be guessed.
    pub diagnosis: Option<Diagnosis>,
}

fn as_sentence(diagnosis: &Option<Diagnosis>) -> String {
    diagnosis.map(|diagnosis| format!(". {diagnosis}")).unwrap_or_default()
}

/// Why a first record does not show which column is which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutProblem {
    /// These columns were not found.
    #[error("no column for {}", joined(.0))]
    Missing(Vec<MissingColumn>),
    /// Several headers match the column.
    #[error("more than one column for {} ({})", .0, .1.join(", "))]
    Ambiguous(Column, Vec<String>),
    /// The column with this number, from 1, would be two of user, conversation and type.
    #[error("column {0} would be two of user, conv and type")]
    Shared(usize),
}

/// What a text whose columns are unknown probably is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Diagnosis {
    /// Text in another encoding; the most likely one, if it can be guessed.
    NotUtf8(Option<&'static Encoding>),
    /// UTF-16 without a byte order mark.
    Utf16,
    /// A line for Excel that names the delimiter.
    ExcelDelimiter,
    /// A record with `|` in it, which may be the delimiter.
    Pipes,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Diagnosis::NotUtf8(None) => f.write_str("The text is not UTF-8"),
            Diagnosis::NotUtf8(Some(likely)) => {
                let windows = if likely.name() == "GBK" {
                    " (Chinese Windows)"
                } else {
                    ""
                };
                write!(f, "The text is not UTF-8 but most likely {}{windows}", likely.name())
            }
            Diagnosis::Utf16 => f.write_str("The text looks like UTF-16 without a byte order mark"),
            Diagnosis::ExcelDelimiter => f.write_str("The first line names Excel's delimiter"),
            Diagnosis::Pipes => f.write_str("Perhaps '|' is the delimiter"),
        }
    }
}

/// A column that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingColumn {
    /// Which.
    pub column: Column,
    /// How it was given in [`Columns`](super::Columns).
    pub given: Option<ColumnRef>,
    /// How many columns there are.
    pub columns: usize,
}

impl fmt::Display for MissingColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingColumn { column, columns, .. } = self;
        match &self.given {
            None => column.fmt(f),
            Some(ColumnRef::Name(name)) => write!(f, "{column} ('{name}')"),
            Some(ColumnRef::Number(number)) => write!(f, "{column} (column {number}, and there are {columns})"),
        }
    }
}

fn joined(columns: &[MissingColumn]) -> String {
    let names: Vec<String> = columns.iter().map(MissingColumn::to_string).collect();
    names.join(", ")
}

/// How a file has changed since its rows were counted. Passes through the decoders as an I/O error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileChange {
    /// It is shorter.
    #[error("the file was cut short")]
    Cut,
    /// Its bytes differ.
    #[error("the file was rewritten or replaced")]
    Rewritten,
    /// It no longer exists.
    #[error("the file was removed or renamed")]
    Removed,
}

/// The explanation when a row differs from the one in the report.
const OTHER_INPUT: &str = "The report belongs to other input: resume with the input as it was (rows may be added at its \
                           end), or begin a new report";
