//! Errors of reports, outside logs and pages.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::holder::Holder;
use crate::files::TargetError;
use crate::kind::ErrorKind;

/// Why a report can't be written, resumed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The report or the rows file already exists, and it is to be neither resumed nor overwritten.
    #[error("{}: this file exists already", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What it is.
        role: Role,
    },
    /// The place is not a regular file.
    #[error("{}: this is {kind}, but the {role} must be a file that a later run can read", .path.display())]
    NotAFile {
        /// The place.
        path: PathBuf,
        /// What was to be written there.
        role: Role,
        /// What is there, with its article.
        kind: &'static str,
    },
    /// A symbolic link leads nowhere.
    #[error("{}: this is a link to {}, which does not exist", .path.display(), .target.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
        /// What was to be written there.
        role: Role,
    },
    /// Another user has put the file there, and could read and change what is written to it.
    #[error(
        "{}: this file belongs to another user (user ID {owner}), who could read and change what is written to it",
        .path.display()
    )]
    OtherOwner {
        /// The file.
        path: PathBuf,
        /// What was to be written there.
        role: Role,
        /// The other user.
        owner: u32,
    },
    /// The file in the outside log's place is something else.
    #[error("{}: this file exists already and is not an outside log, so it is left untouched", .path.display())]
    NotAnOutsideLog {
        /// The file.
        path: PathBuf,
    },
    /// The outside log belongs to another report.
    #[error(
        "{}, line {line}: this outside log has rows that are not in {}, so it is left untouched",
        .path.display(), .report.display()
    )]
    ForeignOutsideLog {
        /// The outside log.
        path: PathBuf,
        /// The line of the first such row.
        line: u64,
        /// The report.
        report: PathBuf,
    },
    /// The file in the rows file's place is something else.
    #[error("{}: this file exists already and has no rows of a list, so it is left untouched", .path.display())]
    NotARowsFile {
        /// The file.
        path: PathBuf,
    },
    /// The rows file does not belong to the list report.
    #[error(
        "{}, line {line}: this is not the row that follows from {}; both are left untouched", .path.display(), .report.display()
    )]
    ForeignRowsFile {
        /// The rows file.
        path: PathBuf,
        /// The line of the first such row.
        line: u64,
        /// The list report.
        report: PathBuf,
    },
    /// A list report has users, but its rows file does not exist.
    #[error("{}: this file does not exist, but {} has users whose rows were written to it", .path.display(), .report.display())]
    RowsFileMissing {
        /// The rows file.
        path: PathBuf,
        /// The list report.
        report: PathBuf,
    },
    /// A rows file has rows, but its list report does not exist.
    #[error("{}: this list report does not exist, but {} has rows", .path.display(), .rows.display())]
    ListReportMissing {
        /// The list report.
        path: PathBuf,
        /// The rows file.
        rows: PathBuf,
    },
    /// The file in the report's place is something else.
    #[error("{place}: this is not a report of zim-batch: {reason}{}", untouched(.is_output))]
    NotAReport {
        /// The file.
        place: String,
        /// Why it is not one.
        reason: NotAReport,
        /// It was to be written, not only to be read.
        is_output: bool,
    },
    /// Reports that can't be read as one.
    #[error("{place}: this is {what}, but {first} is {other}; only reports of the same kind can be read as one")]
    NotAlike {
        /// The report.
        place: String,
        /// What it is.
        what: &'static str,
        /// The first of the reports.
        first: String,
        /// What that one is.
        other: &'static str,
    },
    /// A record in the middle of the report can't be read, so the outcome of its row is unknown.
    #[error("{}, line {line}: this is not a record of a report, so the outcome of its row is unknown", .path.display())]
    Damaged {
        /// The report.
        path: PathBuf,
        /// The line of the report.
        line: u64,
    },
    /// Another program has saved the report in another encoding than UTF-8.
    #[error(
        "{}, line {line}: this is not UTF-8, so another program has saved the report in another encoding, perhaps GBK; it \
         is left untouched", .path.display()
    )]
    OtherEncoding {
        /// The report.
        path: PathBuf,
        /// The line of the report.
        line: u64,
    },
    /// A row has two records.
    #[error("{}: the row on line {line} of the input is reported twice", .path.display())]
    Twice {
        /// The report.
        path: PathBuf,
        /// The line of the input.
        line: u64,
    },
    /// The report is from a simulated run, and can't be resumed by a real one.
    #[error(
        "{}, line {line}: this record is from a simulated run, so its row was never cleared; a real run can't resume this \
         report", .path.display()
    )]
    IsSimulated {
        /// The report.
        path: PathBuf,
        /// The line of the report.
        line: u64,
    },
    /// The report is from a real run, and can't be resumed by a simulated one.
    #[error(
        "{}, line {line}: this record is from a real run; a simulated run can't write to this report",
        .path.display()
    )]
    IsReal {
        /// The report.
        path: PathBuf,
        /// The line of the report.
        line: u64,
    },
    /// A file can't be written, or another program has changed it ([`io::ErrorKind::Other`]).
    #[error("{}: can't be written", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another run is writing the file.
    #[error("{}: {}", .path.display(), held_by(.by))]
    Held {
        /// The file.
        path: PathBuf,
        /// The holder, if the system can show it.
        by: Option<Holder>,
    },
    /// Another run was using the file, and has removed or replaced it.
    #[error("{}: another run was just using this file and has removed or replaced it", .path.display())]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// A report can't be opened for reading.
    #[error("{place}: can't be opened")]
    Open {
        /// The report.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Reading a report failed.
    #[error("{place}, line {line}: can't be read")]
    Read {
        /// The report.
        place: String,
        /// The line reached so far.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The page can't be written there.
    #[error("{}: {reason}", .path.display())]
    Page {
        /// The place.
        path: PathBuf,
        /// Why not.
        reason: TargetError,
    },
}

impl From<&ReportError> for ErrorKind {
    fn from(error: &ReportError) -> ErrorKind {
        match error {
            ReportError::Exists { .. }
            | ReportError::NotAFile { .. }
            | ReportError::DanglingLink { .. }
            | ReportError::OtherOwner { .. }
            | ReportError::NotAnOutsideLog { .. }
            | ReportError::ForeignOutsideLog { .. }
            | ReportError::NotARowsFile { .. }
            | ReportError::Page { .. } => ErrorKind::Settings,
            ReportError::NotAReport { .. }
            | ReportError::NotAlike { .. }
            | ReportError::Damaged { .. }
            | ReportError::ForeignRowsFile { .. }
            | ReportError::RowsFileMissing { .. }
            | ReportError::ListReportMissing { .. }
            | ReportError::OtherEncoding { .. }
            | ReportError::Twice { .. }
            | ReportError::IsSimulated { .. }
            | ReportError::IsReal { .. }
            | ReportError::Open { .. }
            | ReportError::Read { .. } => ErrorKind::Input,
            ReportError::Write { .. } => ErrorKind::Output,
            ReportError::Held { .. } | ReportError::Replaced { .. } => ErrorKind::Busy,
        }
    }
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The report.
    Report,
    /// The log of the outside rows.
    Outside,
    /// The rows of listed users.
    Rows,
    /// The report on listed users.
    ListReport,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Report => "report",
            Role::Outside => "outside log",
            Role::Rows => "rows file",
            Role::ListReport => "list report",
        })
    }
}

/// Why a file is not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAReport {
    /// It is empty.
    #[error("the file is empty")]
    Empty,
    /// A report with semicolons between its fields.
    #[error("another program has saved it with semicolons as delimiters; save it with commas")]
    Semicolons,
    /// A report with tabs between its fields.
    #[error("another program has saved it with tabs as delimiters; save it with commas")]
    Tabs,
    /// UTF-16.
    #[error("it is UTF-16; if another program has saved it so, save it as UTF-8, with commas")]
    Utf16,
    /// Only zeros.
    #[error("it has only zeros, as a power cut can leave; remove it if it is not needed")]
    Zeros,
    /// Packed by this program.
    #[error("it is compressed; decompress it first, for example with {0} -d")]
    Compressed(&'static str),
    /// A workbook or a ZIP archive.
    #[error("it is a workbook or a ZIP archive")]
    Archive,
    /// The first line is something else.
    #[error("its first line is not a report's header")]
    OtherHeader,
}

fn untouched(is_output: &bool) -> &'static str {
    if *is_output { "; it is left untouched" } else { "" }
}

fn held_by(by: &Option<Holder>) -> String {
    match by {
        Some(Holder { process, program }) if program == env!("CARGO_PKG_NAME") => {
            format!("another run is writing this file (process {process})")
        }
        Some(Holder { process, program }) => format!(
            "process {process} ({program}) has locked this file: another run, or a program of any user who can read the file"
        ),
        None => "another run is writing this file, or a program of any user who can read it has locked it".into(),
    }
}
