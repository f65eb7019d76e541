//! Reads a report back: what is done, and where its last whole record ends.
//!
//! A process that is killed, a full disk or a power cut can leave the last record torn, also inside a quoted field, so
//! that the last line end is no proof of a whole record. Records are therefore read as CSV, and only what has all its
//! fields counts; a last record without a line end, as spreadsheets leave it, if its last field is whole. Zeros at
//! the end, which a power cut leaves where data was to be, are no part of a report.
//!
//! A report that another program has saved in another encoding or with other delimiters is refused: nobody could tell its
//! records from torn ones. A byte order mark and CRLF line ends do no harm; what is appended has LF.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{NotAReport, ReportError};
use super::outcomes::{COLUMNS, SIMULATED};
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::done::Done;
use crate::row::Outcome;

/// Read from the report at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// More than this at the end of a report is no torn record, in bytes: a record has a few hundred.
const MAX_TORN: u64 = 32 * 1024;

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Earlier {
    /// Where the last whole record ends, in bytes; 0 if there is not even a whole header.
    pub len: u64,
    /// The last whole record has no line end.
    pub lacks_line_end: bool,
    /// The rows that have a record.
    pub done: Done,
    /// Their outcomes, counted.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// Those of them that are outside, which the outside log may have.
    pub outside: Done,
}

/// Reads the report of a run that `is_simulated`, or not. A record that is torn or damaged, with nothing whole behind it,
/// is left out of `len`; one in the middle is an error, since nobody could say what became of its row.
pub(super) fn read_back(path: &Path, file: &File, is_simulated: bool) -> Result<Earlier, ReportError> {
    let io_error = |source| ReportError::Write {
        path: path.to_owned(),
        source,
    };
    let damaged_at = |line| ReportError::Damaged {
        path: path.to_owned(),
        line,
    };
    let mut earlier = Earlier::default();
    let size = len_without_zeros(file).map_err(io_error)?;
    let mut records = records_of(file, size).map_err(io_error)?;
    let mut damaged = None;
    while records.advance().map_err(io_error)? {
        let record = records.current();
        if earlier.len == 0 {
            if !is_header(&record) {
                // A header that was torn while it was written can be written again; anything else is not a report.
                return match is_torn_header(&record) {
                    true => Ok(earlier),
                    false => Err(not_a_report(path, &record)),
                };
            }
        } else if let Some(row) = whole(&record) {
            if let Some(line) = damaged {
                return Err(damaged_at(line));
            }
            if row.is_simulated != is_simulated {
                let (path, line) = (path.to_owned(), record.line);
                return Err(match row.is_simulated {
                    true => ReportError::IsSimulated { path, line },
                    false => ReportError::IsReal { path, line },
                });
            }
            earlier.outcomes[row.outcome as usize] += 1;
            match row.outcome {
                Outcome::Invalid => earlier.done.insert_invalid(row.line, row.user, row.conv, row.conv_type),
                _ => earlier.done.insert(row.line, row.user, row.conv, row.conv_type),
            }
            if row.outcome == Outcome::Outside {
                earlier.outside.insert(row.line, row.user, row.conv, row.conv_type);
            }
            earlier.lacks_line_end = record.at_end;
        } else if is_in_another_encoding(&record) {
            return Err(ReportError::OtherEncoding {
                path: path.to_owned(),
                line: record.line,
            });
        } else {
            damaged.get_or_insert(record.line);
            continue;
        }
        earlier.len = records.offset();
    }
    if let Some(line) = damaged {
        let tail = size.saturating_sub(earlier.len);
        if tail > MAX_TORN || holds_whole_records(file, earlier.len..size).map_err(io_error)? {
            return Err(damaged_at(line));
        }
        tracing::warn!(
            "{}: a torn last record of {tail} bytes is dropped; its row is sent again",
            path.display()
        );
    }
    earlier.len = past_line_end(file, earlier.len).map_err(io_error)?;
    let twice = |line| ReportError::Twice {
        path: path.to_owned(),
        line,
    };
    earlier.done.seal().map_err(twice)?;
    earlier.outside.seal().map_err(twice)?;
    Ok(earlier)
}

/// What the outside log of a report that is to be overwritten may hold, as far as the report can be read.
pub(super) fn read_for_overwriting(file: &File) -> io::Result<Earlier> {
    let mut earlier = Earlier::default();
    let mut records = records_of(file, len_without_zeros(file)?)?;
    while records.advance()? {
        let record = records.current();
        if let Some(row) = whole(&record) {
            earlier.done.insert(row.line, row.user, row.conv, row.conv_type);
            if row.outcome == Outcome::Outside {
                earlier.outside.insert(row.line, row.user, row.conv, row.conv_type);
            }
        }
    }
    // A row that is there twice is found all the same.
    let _ = (earlier.done.seal(), earlier.outside.seal());
    Ok(earlier)
}

/// The records in the first `len` bytes.
pub(super) fn records_of(mut file: &File, len: u64) -> io::Result<CsvReader<impl io::BufRead>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(CsvReader::new(BufReader::with_capacity(CHUNK, file.take(len)), b','))
}

/// The file's length without the zeros at its end, of which there may be any number; the whole length if it holds nothing
/// else, for then it is no report with zeros behind it.
pub(super) fn len_without_zeros(file: &File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let mut chunk = vec![0; CHUNK];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let chunk = &mut chunk[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(size)
}

/// `offset` is behind a record; behind its line end too if that is a CRLF, whose halves are read one by one.
pub(super) fn past_line_end(file: &File, offset: u64) -> io::Result<u64> {
    let mut line_end = [0; 2];
    let is_crlf = match offset.checked_sub(1) {
        Some(before) => file.read_at(&mut line_end, before)? == 2 && line_end == *b"\r\n",
        None => false,
    };
    Ok(offset + u64::from(is_crlf))
}

/// What a resume needs of a record.
pub(super) struct Row<'a> {
    pub line: u64,
    pub user: &'a str,
    pub conv: &'a str,
    pub conv_type: &'a str,
    pub outcome: Outcome,
    is_simulated: bool,
}

pub(super) fn whole<'a>(record: &CsvRecord<'a>) -> Option<Row<'a>> {
    if record.error.is_some() || record.len() != COLUMNS.len() {
        return None;
    }
    let text = |index| std::str::from_utf8(record.get(index)?).ok();
    if record.at_end && humantime::parse_rfc3339(text(COLUMNS.len() - 1)?).is_err() {
        return None;
    }
    Some(Row {
        line: text(0)?.parse().ok()?,
        user: text(1)?,
        conv: text(2)?,
        conv_type: text(3)?,
        outcome: text(4)?.parse().ok()?,
        is_simulated: text(7)?.starts_with(SIMULATED),
    })
}

/// Whether a whole record begins on one of the lines behind the damaged line at the beginning of `tail`: then an opened
/// quote may hide it, but this is no torn end.
fn holds_whole_records(file: &File, tail: std::ops::Range<u64>) -> io::Result<bool> {
    let mut bytes = vec![0; (tail.end - tail.start) as usize];
    file.read_exact_at(&mut bytes, tail.start)?;
    let line_starts = memchr::memchr_iter(b'\n', &bytes).map(|end| end + 1);
    for start in line_starts {
        let mut records = CsvReader::new(&bytes[start..], b',');
        if records.advance()? && whole(&records.current()).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A record in every respect, but for bytes that are not UTF-8: torn or damaged ones don't look like that.
fn is_in_another_encoding(record: &CsvRecord) -> bool {
    let is_record = record.error.is_none() && record.len() == COLUMNS.len();
    let is_number = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    is_record && record.get(0).is_some_and(is_number) && record.iter().any(|field| std::str::from_utf8(field).is_err())
}

/// Whether it is the header, whole.
pub(super) fn is_header(record: &CsvRecord) -> bool {
    !record.at_end && record.iter().eq(COLUMNS.iter().map(|column| column.as_bytes()))
}

/// Whether it is the beginning of a header, or all of it but for the line end, or a few zeros in its place; with nothing
/// behind it.
pub(super) fn is_torn_header(record: &CsvRecord) -> bool {
    let torn = joined(record);
    let is_all_zeros = torn.len() as u64 <= MAX_TORN && torn.iter().all(|byte| *byte == 0);
    record.at_end && record.error.is_none() && (is_all_zeros || COLUMNS.join(",").as_bytes().starts_with(&torn))
}

fn joined(record: &CsvRecord) -> Vec<u8> {
    record.iter().collect::<Vec<_>>().join(&b","[..])
}

fn not_a_report(path: &Path, first: &CsvRecord) -> ReportError {
    let (is_readable, first) = (first.error.is_none(), joined(first));
    let has_delimiter = |delimiter: &str| first == COLUMNS.join(delimiter).as_bytes();
    let reason = match &first[..] {
        _ if has_delimiter(";") => NotAReport::Semicolons,
        _ if has_delimiter("\t") => NotAReport::Tabs,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'l', 0, ..] | [0, b'l', ..] => NotAReport::Utf16,
        bytes if is_readable && bytes.iter().all(|byte| *byte == 0) => NotAReport::Zeros,
        _ => NotAReport::OtherHeader,
    };
    ReportError::NotAReport {
        place: path.display().to_string(),
        reason,
    }
}
