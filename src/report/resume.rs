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

use super::outcomes::{COLUMNS, SIMULATED};
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::done::Done;
use crate::error::Error;
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
pub(super) fn read_back(path: &Path, file: &File, is_simulated: bool) -> Result<Earlier, Error> {
    let io_error = |source| Error::Report {
        path: path.to_owned(),
        source,
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
                return Err(damaged_at(path, line));
            }
            if row.is_simulated != is_simulated {
                return Err(not_the_same_world(path, record.line, is_simulated));
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
            return Err(in_another_encoding(path, record.line));
        } else {
            damaged.get_or_insert(record.line);
            continue;
        }
        earlier.len = records.offset();
    }
    if let Some(line) = damaged {
        let tail = size.saturating_sub(earlier.len);
        if tail > MAX_TORN || holds_whole_records(file, earlier.len..size).map_err(io_error)? {
            return Err(damaged_at(path, line));
        }
        tracing::warn!(
            "{}: a torn last record of {tail} bytes is dropped; its row is sent again",
            path.display()
        );
    }
    earlier.len = past_line_end(file, earlier.len).map_err(io_error)?;
    let twice = |line| {
        Error::Mismatch(format!(
            "{}: the row on line {line} of the input is reported twice; remove one of its records and resume",
            path.display()
        ))
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
    if record.flaw.is_some() || record.len() != COLUMNS.len() {
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
        outcome: Outcome::parse(text(4)?)?,
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

fn damaged_at(path: &Path, line: u64) -> Error {
    Error::Mismatch(format!(
        "{}, line {line}: this is no record of a report, so what became of its row is unknown; remove the line and \
         resume: its row will be sent again",
        path.display()
    ))
}

/// A record in every respect, but for bytes that are not UTF-8: torn or damaged ones don't look like that.
fn is_in_another_encoding(record: &CsvRecord) -> bool {
    let is_record = record.flaw.is_none() && record.len() == COLUMNS.len();
    let is_number = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    is_record && record.get(0).is_some_and(is_number) && record.iter().any(|field| std::str::from_utf8(field).is_err())
}

fn in_another_encoding(path: &Path, line: u64) -> Error {
    Error::Mismatch(format!(
        "{}, line {line}: this is not UTF-8, so another program has saved the report in another encoding, perhaps GBK; it \
         is left untouched: save it as UTF-8, with commas, and resume",
        path.display()
    ))
}

/// `is_simulated`: whether the run that wants to resume the report is.
fn not_the_same_world(path: &Path, line: u64, is_simulated: bool) -> Error {
    let why = match is_simulated {
        false => {
            "this record was made with --simulate, so its row was never cleared, and the report can't be resumed for \
             real; name another report (--report FILE), or replace this one (--overwrite)"
        }
        true => {
            "this record was not made with --simulate: the report is that of a real run, in which a simulated one must \
             not write; name another report (--report FILE)"
        }
    };
    Error::Mismatch(format!("{}, line {line}: {why}", path.display()))
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
    record.at_end && record.flaw.is_none() && (is_all_zeros || COLUMNS.join(",").as_bytes().starts_with(&torn))
}

fn joined(record: &CsvRecord) -> Vec<u8> {
    record.iter().collect::<Vec<_>>().join(&b","[..])
}

fn not_a_report(path: &Path, first: &CsvRecord) -> Error {
    let (is_readable, first) = (first.flaw.is_none(), joined(first));
    let has_delimiter = |delimiter: &str| first == COLUMNS.join(delimiter).as_bytes();
    let why = match &first[..] {
        _ if has_delimiter(";") => "another program has saved this report with semicolons; save it with commas",
        _ if has_delimiter("\t") => "another program has saved this report with tabs; save it with commas",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'l', 0, ..] | [0, b'l', ..] => {
            "this is UTF-16; if it is a report that another program has saved, save it as UTF-8, with commas"
        }
        bytes if is_readable && bytes.iter().all(|byte| *byte == 0) => {
            "there is nothing but zeros in this file, as a power cut leaves them; remove it if it is of no use"
        }
        _ => "this is not a report of zim-batch (its first line is another one); name another file with --report",
    };
    Error::Mismatch(format!("{}: {why}; it is left untouched", path.display()))
}
