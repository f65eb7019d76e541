//! Where a list writes its rows: a file, or standard output.
//!
//! The rows of a user are written before the user's record, so after any end the file has the rows of every user with a
//! record, in the order of the records, and then perhaps rows of users without one. Resuming removes the latter. A power cut
//! can also take rows of the last users with a record: these users are listed again.

use std::io::{self, Write};
use std::path::PathBuf;

use tokio::task::{JoinHandle, spawn_blocking};

use super::appender::Appender;
use super::buffer::Buffer;
use super::error::ReportError;
use super::file::OpenFile;
use super::reader::ReportReader;
use super::record::{ROWS_COLUMNS, RowRecord};
use super::table::{Header, Table, len_without_zeros, start_of};
use crate::row::Record;

/// Where the listed conversations are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsTo {
    /// To this file.
    File(PathBuf),
    /// To standard output, whose reader may be slow.
    Stdout,
}

/// The rows of listed users: whole users only.
pub(super) enum RowsFile {
    File(Appender),
    Stdout(Stream),
}

impl RowsFile {
    pub fn push(&mut self, record: &Record) {
        for conversation in &record.conversations {
            let row = RowRecord::new(&record.user, conversation);
            match self {
                RowsFile::File(file) => file.push(row),
                RowsFile::Stdout(stream) => stream.pending.push(row),
            }
        }
    }

    /// Where the rows are written.
    pub fn to(&self) -> RowsTo {
        match self {
            RowsFile::File(file) => RowsTo::File(file.path().to_owned()),
            RowsFile::Stdout(_) => RowsTo::Stdout,
        }
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Appender> {
        match self {
            RowsFile::File(file) => Some(file),
            RowsFile::Stdout(_) => None,
        }
    }

    /// As [`RowsFile::file`].
    pub fn file_mut(&mut self) -> Option<&mut Appender> {
        match self {
            RowsFile::File(file) => Some(file),
            RowsFile::Stdout(_) => None,
        }
    }

    /// Whether a slow reader has not taken everything yet.
    pub fn is_unfinished(&self) -> bool {
        matches!(self, RowsFile::Stdout(stream) if stream.is_unfinished())
    }

    pub fn commit(&mut self) -> Result<(), ReportError> {
        match self {
            RowsFile::File(file) => file.commit(),
            RowsFile::Stdout(stream) => stream.commit(),
        }
    }
}

/// Standard output. It is written by another thread, because its reader may be slow.
pub(super) struct Stream {
    /// Rows that are not written yet.
    pending: Buffer,
    writing: Option<JoinHandle<io::Result<()>>>,
    error: Option<io::Error>,
}

impl Stream {
    pub fn new() -> Stream {
        let mut pending = Buffer::new();
        pending.push_fields(ROWS_COLUMNS);
        Stream {
            pending,
            writing: None,
            error: None,
        }
    }

    /// Whether something was pushed that is not written yet.
    pub fn is_unfinished(&self) -> bool {
        !self.pending.is_empty() || self.writing.is_some()
    }

    /// Writes what is pending. May be dropped and called again.
    pub async fn write(&mut self) {
        if !self.pending.is_empty() && self.writing.is_none() {
            let bytes = self.pending.take();
            self.writing = Some(spawn_blocking(move || write(&bytes)));
        }
        if let Some(writing) = &mut self.writing {
            let written = writing.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            (self.writing, self.error) = (None, written.err());
        }
    }

    /// Writes what is pending, on this thread.
    pub fn finish(&mut self) -> Result<(), ReportError> {
        if !self.pending.is_empty() && self.writing.is_none() {
            self.error = write(&self.pending.take()).err();
        }
        self.commit()
    }

    /// Fails if writing has failed.
    fn commit(&mut self) -> Result<(), ReportError> {
        match self.error.take() {
            None => Ok(()),
            Some(source) => Err(ReportError::Write {
                path: "standard output".into(),
                source,
            }),
        }
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// How much of a rows file and its list report is kept.
pub(super) struct Kept {
    /// The length of the rows file, in bytes.
    pub rows: u64,
    /// The length of the list report, in bytes, if some of its last users have lost rows.
    pub report: Option<u64>,
}

/// Compares a rows file with its list report, which is `report_len` bytes long. Changes nothing.
pub(super) fn compare(rows: &OpenFile, report: &OpenFile, report_len: u64) -> Result<Kept, ReportError> {
    let (rows_error, report_error) = (|source| rows.error(source), |source| report.error(source));
    let input = || start_of(&rows.file, len_without_zeros(&rows.file)?);
    let mut written = Table::new(input().map_err(rows_error)?);
    let mut records = ReportReader::new(start_of(&report.file, report_len).map_err(report_error)?);
    let mut kept = Kept { rows: 0, report: None };
    match written.read_header(&[&ROWS_COLUMNS]).map_err(rows_error)? {
        Header::Complete if !written.lacks_line_end() => kept.rows = written.offset(),
        Header::Complete | Header::Missing | Header::Torn => {}
        Header::Other => {
            let path = rows.path.clone();
            return Err(ReportError::NotARowsFile { path });
        }
    }
    records.read_header().map_err(report_error)?;
    let mut report_kept = records.len();
    while let Some(entry) = records.next().map_err(report_error)? {
        let listed = entry
            .record
            .as_ref()
            .and_then(|user| user.conversations)
            .unwrap_or_default();
        for _ in 0..listed {
            let has_row = kept.rows > 0 && written.advance().map_err(rows_error)?;
            if !has_row || written.may_be_torn() {
                kept.report = Some(report_kept);
                return Ok(kept);
            }
            let user = entry.record.as_ref().map(|record| record.user);
            if written.record().map(|row: RowRecord| row.user) != user {
                return Err(ReportError::ForeignRowsFile {
                    path: rows.path.clone(),
                    line: written.line(),
                    report: report.path.clone(),
                });
            }
        }
        if listed > 0 {
            kept.rows = written.offset();
        }
        report_kept = entry.offset;
    }
    Ok(kept)
}
