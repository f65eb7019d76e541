//! What an earlier run has left in a report: the rows that are done, and where the last complete record ends.
//!
//! A report that another program has saved in another encoding or with other delimiters is refused, because its records
//! can't be distinguished from torn ones. Appended records end with LF, whatever the line ends before them.

use super::error::ReportError;
use super::file::OpenFile;
use super::reader::ReportReader;
use super::record::{Kind, ReportRecord};
use super::table::{FileStart, Header, len_without_zeros, past_line_end, start_of};
use crate::done::Done;
use crate::reasons::Reasons;
use crate::row::{Counts, Outcome};

/// What an earlier run has left.
#[derive(Default)]
pub(super) struct Earlier {
    /// Where the last complete record ends, in bytes; 0 if not even the header is complete.
    pub len: u64,
    /// The last complete record has no line end.
    pub lacks_line_end: bool,
    /// The rows that have a record.
    pub done: Done,
    /// Their outcomes, counted.
    pub outcomes: Counts,
    /// Why those that failed did.
    pub failures: Reasons,
    /// The `outside` rows among them, which the outside log may have.
    pub outside: Done,
    /// How many conversations were listed.
    pub conversations: u64,
    /// Users with as many conversations as ZIM lists.
    pub users_full: u64,
}

impl Earlier {
    /// Reads the report of a simulated or a real run. A torn or damaged record at the end is excluded from `len`; one in the
    /// middle is an error, because the outcome of its row is unknown.
    pub fn read(report: &OpenFile, kind: Kind, is_simulated: bool) -> Result<Earlier, ReportError> {
        let path = || report.path.clone();
        let io_error = |source| report.error(source);
        let mut earlier = Earlier::default();
        let mut records = records_of(report)?;
        match records.read_header().map_err(io_error)? {
            Header::Complete if records.kind() == kind => {}
            // Such a header can be written again; anything else is not a report.
            Header::Missing | Header::Torn => return Ok(earlier),
            Header::Complete | Header::Other => {
                return Err(ReportError::NotAReport {
                    place: report.path.display().to_string(),
                    reason: records.not_a_report(),
                    is_output: true,
                });
            }
        }
        while let Some(entry) = records.next().map_err(io_error)? {
            let Some(record) = entry.record else { continue };
            if !entry.is_utf8 {
                let (path, line) = (path(), entry.line);
                return Err(ReportError::OtherEncoding { path, line });
            }
            if record.message.is_simulated != is_simulated {
                let (path, line) = (path(), entry.line);
                return Err(if is_simulated {
                    ReportError::IsReal { path, line }
                } else {
                    ReportError::IsSimulated { path, line }
                });
            }
            earlier.add(&record);
        }
        let unreadable = records.unreadable();
        if let Some(damaged) = unreadable.damaged {
            let (path, line) = (path(), damaged.first);
            return Err(ReportError::Damaged { path, line });
        }
        if let Some(bytes) = unreadable.torn {
            tracing::warn!(
                "{}: a torn last record of {bytes} bytes is dropped; its row is sent again",
                report.path.display()
            );
        }
        earlier.len = past_line_end(&report.file, records.len()).map_err(io_error)?;
        earlier.lacks_line_end = records.lacks_line_end();
        let twice = |line| ReportError::Twice { path: path(), line };
        earlier.done.seal().map_err(twice)?;
        earlier.outside.seal().map_err(twice)?;
        Ok(earlier)
    }

    /// Reads a report that is about to be overwritten, as far as it can be read, to recognise its outside log.
    pub fn read_as_far_as_possible(report: &OpenFile) -> Result<Earlier, ReportError> {
        let mut earlier = Earlier::default();
        let mut records = records_of(report)?;
        records.read_header().map_err(|source| report.error(source))?;
        while let Some(entry) = records.next().map_err(|source| report.error(source))? {
            if let Some(record) = entry.record {
                earlier.add(&record);
            }
        }
        // Repeated rows don't matter here.
        let _ = (earlier.done.seal(), earlier.outside.seal());
        Ok(earlier)
    }

    fn add(&mut self, record: &ReportRecord) {
        let [user, conv, conv_type] = record.key();
        self.outcomes[record.outcome] += 1;
        self.conversations += record.conversations.unwrap_or_default();
        self.users_full += u64::from(record.entries().are_full());
        if record.outcome == Outcome::Failed {
            self.failures
                .insert(record.outcome, record.code, record.message.text, record.line);
        }
        match record.outcome {
            Outcome::Invalid => self.done.insert_invalid(record.line, user, conv, conv_type),
            Outcome::Skipped => self.done.insert_skipped(record.line, user, conv, conv_type),
            _ => self.done.insert(record.line, user, conv, conv_type),
        }
        if record.outcome == Outcome::Outside {
            self.outside.insert(record.line, user, conv, conv_type);
        }
    }
}

fn records_of(report: &OpenFile) -> Result<ReportReader<FileStart<'_>>, ReportError> {
    let open = || start_of(&report.file, len_without_zeros(&report.file)?);
    Ok(ReportReader::new(open().map_err(|source| report.error(source))?))
}
