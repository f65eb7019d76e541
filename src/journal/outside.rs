//! The outside log, which is derived from the report: missing rows can be added at any time. But only the log of this
//! report may be changed, because the rows of another would be lost.
//!
//! A log belongs to a report if each of its rows is an outside row of the report, by line and values. A power cut may take
//! the end of the report alone, so rows at the end of the log that the report does not have are dropped, if earlier rows
//! show whose log it is. A log without rows belongs to any report.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;

use super::appender::Appender;
use super::error::ReportError;
use super::place::OpenFile;
use super::resume::{Earlier, complete_row, is_header, is_torn_header, len_without_zeros, past_line_end, records_of};
use super::schema::ROWS;
use crate::csv_reader::{CsvReader, RecordError};
use crate::row::Outcome;

/// Fails if the file is not an outside log, or has rows that are not in the report that `earlier` was read from. Changes
/// nothing.
pub(super) fn check(log: &OpenFile, report: &Path, earlier: &Earlier) -> Result<(), ReportError> {
    let io_error = |source| log.error(source);
    let path = || log.path.clone();
    let len = len_without_zeros(&log.file).map_err(io_error)?;
    let mut records = records_of(&log.file, len).map_err(io_error)?;
    if !records.advance().map_err(io_error)? || is_torn_header(&records.current(), ROWS.columns) {
        return Ok(());
    }
    if !is_header(&records.current(), ROWS.columns) {
        return Err(ReportError::NotAnOutsideLog { path: path() });
    }
    let (mut rows, mut extra) = (0_u64, 0_u64);
    while records.advance().map_err(io_error)? {
        let record = records.current();
        let is_ours = match complete_row(&record, &ROWS) {
            Some(row) if row.outcome != Outcome::Outside => false,
            Some(row) if extra == 0 && earlier.outside.contains(row.line, row.user, row.conv, row.conv_type) => {
                rows += 1;
                true
            }
            Some(row) => {
                extra += 1;
                rows > 0 && !earlier.done.contains_line(row.line)
            }
            // A torn last record belongs to any report.
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

/// Completes a checked log from its report, which is `report_len` bytes long: keeps their common beginning, and writes the
/// rest. If this is interrupted, the log still belongs to its report.
pub(super) fn complete(log: OpenFile, report: &OpenFile, report_len: u64) -> Result<Appender, ReportError> {
    if report_len == 0 {
        log.truncate(0)?;
        return Appender::new(log, 0, ROWS.columns);
    }
    let (file, path) = (Arc::clone(&log.file), log.path.clone());
    let log_error = |source| ReportError::Write {
        path: path.clone(),
        source,
    };
    let report_error = |source| report.error(source);
    let mut logged = records_of(&file, len_without_zeros(&file).map_err(log_error)?).map_err(log_error)?;
    let mut records = records_of(&report.file, report_len).map_err(report_error)?;
    let mut has_more = next_outside(&mut records).map_err(report_error)?;
    let mut kept = 0;
    if logged.advance().map_err(log_error)? && is_header(&logged.current(), ROWS.columns) {
        kept = logged.offset();
        while has_more && logged.advance().map_err(log_error)? && are_equal(&records, &logged) {
            kept = logged.offset();
            has_more = next_outside(&mut records).map_err(report_error)?;
        }
    }
    let kept = past_line_end(&file, kept).map_err(log_error)?;
    log.truncate(kept)?;
    let mut appender = Appender::new(log, kept, ROWS.columns)?;
    while has_more {
        appender.push_copy(records.current().iter());
        appender.commit_when_large()?;
        has_more = next_outside(&mut records).map_err(report_error)?;
    }
    appender.commit()?;
    Ok(appender)
}

/// Advances to the report's next outside record; returns `false` if there is none.
fn next_outside(records: &mut CsvReader<impl BufRead>) -> io::Result<bool> {
    while records.advance()? {
        if complete_row(&records.current(), &ROWS).is_some_and(|row| row.outcome == Outcome::Outside) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether both are at the same record, and it is complete in the log.
fn are_equal(report: &CsvReader<impl BufRead>, log: &CsvReader<impl BufRead>) -> bool {
    !log.current().at_end && report.current().iter().eq(log.current().iter())
}
