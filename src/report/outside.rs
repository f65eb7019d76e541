//! The outside log, which is made from the report: what it lacks can be added at any time, but only a log that is this
//! report's may be touched, for the rows of another would be lost.
//!
//! A log is a report's if each of its rows is an outside row of the report, by line and values. Rows at its end that the
//! report has no record of are what a power cut leaves when it takes the end of the report alone; they are dropped if
//! rows before them show whose log it is. A log without rows is anybody's.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::error::ReportError;
use super::outcomes::Appender;
use super::place::Opened;
use super::resume::{Earlier, is_header, is_torn_header, len_without_zeros, past_line_end, records_of, whole};
use crate::csv_reader::{CsvReader, RecordError};
use crate::row::Outcome;

/// Refuses a file that is no outside log, or one with rows that are not those of the report that `earlier` was read
/// from. Reads only.
pub(super) fn check(log: &Opened, report: &Path, earlier: &Earlier) -> Result<(), ReportError> {
    let io_error = |source| log.error(source);
    let path = || log.path.clone();
    let len = len_without_zeros(&log.file).map_err(io_error)?;
    let mut records = records_of(&log.file, len).map_err(io_error)?;
    if !records.advance().map_err(io_error)? || is_torn_header(&records.current()) {
        return Ok(());
    }
    if !is_header(&records.current()) {
        return Err(ReportError::NotAnOutsideLog { path: path() });
    }
    let (mut rows, mut extra) = (0_u64, 0_u64);
    while records.advance().map_err(io_error)? {
        let record = records.current();
        let is_ours = match whole(&record) {
            Some(row) if row.outcome != Outcome::Outside => false,
            Some(row) if extra == 0 && earlier.outside.contains(row.line, row.user, row.conv, row.conv_type) => {
                rows += 1;
                true
            }
            Some(row) => {
                extra += 1;
                rows > 0 && !earlier.done.contains_line(row.line)
            }
            // A torn last record is nobody's.
            None => record.at_end || record.error == Some(RecordError::UnclosedQuote),
        };
        if !is_ours {
            return Err(ReportError::ForeignOutsideLog {
                path: path(),
                line: record.line,
                report: report.to_owned(),
            });
        }
    }
    Ok(())
}

/// Brings a log that was checked up to its report, which has `report_len` bytes: keeps what the two have in common from
/// the beginning, and writes the rest. Wherever that is cut short, the log is still its report's.
pub(super) fn complete(
    log: Opened,
    report: &Opened,
    report_len: u64,
    is_simulated: bool,
) -> Result<Appender, ReportError> {
    if report_len == 0 {
        log.cut(0)?;
        return Appender::new(log, 0, is_simulated);
    }
    let (file, path) = (Arc::clone(&log.file), log.path.clone());
    let log_error = |source| ReportError::Write {
        path: path.clone(),
        source,
    };
    let report_error = |source| report.error(source);
    let mut logged = records_of(&file, len_without_zeros(&file).map_err(log_error)?).map_err(log_error)?;
    let mut records = records_of(&report.file, report_len).map_err(report_error)?;
    let mut is_more = to_outside(&mut records).map_err(report_error)?;
    let mut kept = 0;
    if logged.advance().map_err(log_error)? && is_header(&logged.current()) {
        kept = logged.offset();
        while is_more && logged.advance().map_err(log_error)? && are_alike(&records, &logged) {
            kept = logged.offset();
            is_more = to_outside(&mut records).map_err(report_error)?;
        }
    }
    let kept = past_line_end(&file, kept).map_err(log_error)?;
    log.cut(kept)?;
    let mut appender = Appender::new(log, kept, is_simulated)?;
    while is_more {
        appender.push_copy(records.current().iter());
        appender.commit_when_large()?;
        is_more = to_outside(&mut records).map_err(report_error)?;
    }
    appender.commit()?;
    Ok(appender)
}

/// Goes on to the report's next outside record.
fn to_outside(records: &mut CsvReader<impl BufRead>) -> io::Result<bool> {
    while records.advance()? {
        if whole(&records.current()).is_some_and(|row| row.outcome == Outcome::Outside) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether both have come to the same record, and it is whole in the log.
fn are_alike(report: &CsvReader<impl BufRead>, log: &CsvReader<impl BufRead>) -> bool {
    !log.current().at_end && report.current().iter().eq(log.current().iter())
}
