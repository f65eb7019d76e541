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
use super::earlier::Earlier;
use super::error::ReportError;
use super::file::OpenFile;
use super::reader::ReportReader;
use super::record::Kind;
use super::table::{Header, len_without_zeros, past_line_end, start_of};
use crate::row::Outcome;

/// Fails if the file is not an outside log, or has rows that are not in the report that `earlier` was read from. Changes
/// nothing.
pub(super) fn check(log: &OpenFile, report: &Path, earlier: &Earlier) -> Result<(), ReportError> {
    let io_error = |source| log.error(source);
    let path = || log.path.clone();
    let input = || start_of(&log.file, len_without_zeros(&log.file)?);
    let mut logged = ReportReader::new(input().map_err(io_error)?);
    match logged.read_header().map_err(io_error)? {
        Header::Missing | Header::Torn => return Ok(()),
        Header::Complete if logged.kind() == Kind::Clear => {}
        Header::Complete | Header::Other => return Err(ReportError::NotAnOutsideLog { path: path() }),
    }
    let (mut rows, mut extra) = (0_u64, 0_u64);
    while let Some(entry) = logged.next().map_err(io_error)? {
        let belongs_here = match &entry.record {
            Some(row) if row.outcome != Outcome::Outside => false,
            Some(row) => {
                let [user, conv, conv_type] = row.key();
                if extra == 0 && earlier.outside.contains(row.line, user, conv, conv_type) {
                    rows += 1;
                    true
                } else {
                    extra += 1;
                    rows > 0 && !earlier.done.contains_line(row.line)
                }
            }
            // A torn last record belongs to any report.
            None => entry.may_be_torn,
        };
        if !belongs_here {
            return Err(ReportError::ForeignOutsideLog {
                path: path(),
                line: entry.line,
                report: report.to_owned(),
            });
        }
    }
    Ok(())
}

/// Completes a checked log from its report, which is `report_len` bytes long: keeps their common beginning, and writes the
/// rest. If this is interrupted, the log still belongs to its report.
pub(super) fn complete(log: OpenFile, report: &OpenFile, report_len: u64) -> Result<Appender, ReportError> {
    let columns = Kind::Clear.columns();
    if report_len == 0 {
        log.truncate(0)?;
        return Appender::new(log, 0, columns);
    }
    let (file, path) = (Arc::clone(&log.file), log.path.clone());
    let log_error = |source| ReportError::Write {
        path: path.clone(),
        source,
    };
    let report_error = |source| report.error(source);
    let input = || start_of(&file, len_without_zeros(&file)?);
    let mut logged = ReportReader::new(input().map_err(log_error)?);
    let mut records = ReportReader::new(start_of(&report.file, report_len).map_err(report_error)?);
    records.read_header().map_err(report_error)?;
    let mut has_more = next_outside(&mut records).map_err(report_error)?;
    let mut kept = 0;
    if logged.read_header().map_err(log_error)? == Header::Complete && !logged.lacks_line_end() {
        kept = logged.len();
        while has_more && let Some(entry) = logged.next().map_err(log_error)? {
            let (offset, may_be_torn) = (entry.offset, entry.may_be_torn);
            if may_be_torn || !logged.fields().eq(records.fields()) {
                break;
            }
            kept = offset;
            has_more = next_outside(&mut records).map_err(report_error)?;
        }
    }
    let kept = past_line_end(&file, kept).map_err(log_error)?;
    log.truncate(kept)?;
    let mut appender = Appender::new(log, kept, columns)?;
    while has_more {
        appender.push_fields(records.fields());
        appender.commit_when_large()?;
        has_more = next_outside(&mut records).map_err(report_error)?;
    }
    appender.commit()?;
    Ok(appender)
}

/// Advances to the report's next outside record; returns `false` if there is none.
fn next_outside(records: &mut ReportReader<impl BufRead>) -> io::Result<bool> {
    while let Some(entry) = records.next()? {
        if entry.record.is_some_and(|record| record.outcome == Outcome::Outside) {
            return Ok(true);
        }
    }
    Ok(false)
}
