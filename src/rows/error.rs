//! Why rows can't be read, or are not those that the report was made from.

use std::io;

use super::format::Reads;
use super::layout_error::{LayoutClue, LayoutError};
use super::parsed::RowError;

/// Input that can't be read as rows at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The file can't be opened.
    #[error("{place}: can't be opened: {source}")]
    Open {
        /// The file.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("{place}, line {line}: can't be read: {source}")]
    Read {
        /// The file.
        place: String,
        /// The line reached so far.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The input has only blank lines, not even a header.
    #[error("{place}: the input is empty; expected a CSV with {}", .reads.columns())]
    Empty {
        /// The file.
        place: String,
        /// What was to be read.
        reads: Reads,
    },
    /// The file is not a CSV.
    #[error("{place}: this is not a CSV but {kind}; {advice}")]
    NotCsv {
        /// The file.
        place: String,
        /// What it is.
        kind: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file has changed since its rows were counted.
    #[error("{place}: {change} while its rows were read; nothing of the changed file was sent")]
    Changed {
        /// The file.
        place: String,
        /// How it has changed.
        change: FileChange,
    },
    /// The last row of a file had no line end when the rows were counted, and has become longer since.
    #[error("{place}, line {line}: this row, the last one, was still being written when the rows were counted")]
    StillWritten {
        /// The file.
        place: String,
        /// The line on which the row begins.
        line: u64,
    },
    /// A stream ended inside a row.
    #[error(
        "{place}, line {line}: the input ends within this row ({error}, and there is no line end), so it was probably \
         cut off; nothing is recorded of this row"
    )]
    CutOff {
        /// The stream.
        place: String,
        /// The line on which the row begins.
        line: u64,
        /// What is wrong with the row.
        error: RowError,
    },
    /// The columns can't be determined.
    #[error("{place}, line {line}: {error}; the columns found are {found}{}", as_sentence(.clue))]
    Layout {
        /// The file.
        place: String,
        /// The line of the first record.
        line: u64,
        /// What is missing or doubled.
        error: LayoutError,
        /// What was to be read.
        reads: Reads,
        /// The first record's fields.
        found: String,
        /// What the text probably is, if that can be guessed.
        clue: Option<LayoutClue>,
    },
}

fn as_sentence(clue: &Option<LayoutClue>) -> String {
    clue.map(|clue| format!(". {clue}")).unwrap_or_default()
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
    /// It has fewer rows.
    #[error("only {found} of its {counted} rows were found again")]
    FewerRows {
        /// How many were found when they were read again.
        found: u64,
        /// How many had been counted.
        counted: u64,
    },
}

/// Why the rows can't be processed as planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Rows are selected by outcome ([`Selection::only`](super::Selection::only)), and the input has no outcome column.
    #[error("{place}: rows are selected by outcome, but there is no outcome column")]
    NoOutcomes {
        /// The input.
        place: String,
    },
    /// A line has another row than the report recorded: the report was made from other input.
    #[error("{place}, line {line}: this is not the row that the report has for this line. {OTHER_INPUT}")]
    RowChanged {
        /// The input.
        place: String,
        /// The line on which the row begins.
        line: u64,
    },
    /// No row begins on a line that the report has a row for: the report was made from other input.
    #[error("{place}, line {line}: no row begins here, but the report has one for this line. {OTHER_INPUT}")]
    RowGone {
        /// The input.
        place: String,
        /// The line.
        line: u64,
    },
    /// The input is an earlier report with rows that were cleared, and no rows were selected explicitly.
    #[error("{place}: this is the report of an earlier run ({found}), and its ok rows are done")]
    IsReport {
        /// The input.
        place: String,
        /// The evidence: its counts by outcome, or an `ok` row.
        found: String,
    },
}

/// The explanation when a row differs from the one in the report.
const OTHER_INPUT: &str = "The report belongs to other input: resume with the input as it was (rows may be added at its \
                           end), or begin a new report";
