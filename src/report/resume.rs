//! Reads a report back: what is done, and where its last whole record ends.
//!
//! A process that is killed, a full disk or a power cut can leave the last record torn, also inside a quoted field, so
//! that the last line end is no proof of a whole record. Records are therefore read as CSV, and only what ends with a
//! line end and has all its fields counts.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::outcomes::{Appender, COLUMNS};
use crate::error::Error;
use crate::event::Outcome;
use crate::rows::Done;
use crate::rows::record::{Record, Records};

/// Read from the report at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// More than this at the end of a report is no torn record, in bytes: a record has a few hundred.
const TORN_MAX: u64 = 32 * 1024;

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Earlier {
    /// Where the last whole record ends, in bytes; 0 if there is not even a whole header.
    pub len: u64,
    /// The rows that have a record.
    pub done: Done,
    /// How many of them are failed or invalid.
    pub bad: u64,
}

/// Reads the report. A record that is torn or damaged, with nothing whole behind it, is left out of `len`; one in the
/// middle is an error, since nobody could say what became of its row.
pub(super) fn read_back(path: &Path, file: &File) -> Result<Earlier, Error> {
    let io_error = |source| Error::Report {
        path: path.to_owned(),
        source,
    };
    let mut earlier = Earlier::default();
    let mut records = Records::new(BufReader::with_capacity(CHUNK, file), b',');
    let size = file.metadata().map_err(io_error)?.len();
    let mut damaged = None;
    while records.advance().map_err(io_error)? {
        let record = records.current();
        if earlier.len == 0 {
            if !record.iter().eq(COLUMNS.iter().map(|column| column.as_bytes())) || record.at_end {
                // A header that was torn while it was written can be written again; anything else is not a report.
                let begins_like_one = record.at_end && is_torn_header(&record);
                match begins_like_one {
                    true => return Ok(earlier),
                    false => return Err(not_a_report(path)),
                }
            }
        } else if let Some(row) = whole(&record) {
            if let Some(line) = damaged {
                return Err(damaged_at(path, line));
            }
            earlier.bad += u64::from(matches!(row.outcome, Outcome::Failed | Outcome::Invalid));
            match row.outcome {
                Outcome::Invalid => earlier.done.insert_invalid(row.line, row.user, row.conv, row.conv_type),
                _ => earlier.done.insert(row.line, row.user, row.conv, row.conv_type),
            }
        } else {
            damaged.get_or_insert(record.line);
            continue;
        }
        earlier.len = records.offset();
    }
    if let Some(line) = damaged {
        let tail = size.saturating_sub(earlier.len);
        if tail > TORN_MAX || holds_whole_records(path, earlier.len).map_err(io_error)? {
            return Err(damaged_at(path, line));
        }
        tracing::warn!(
            "{}: a torn last record of {tail} bytes is dropped; its row is sent again",
            path.display()
        );
    }
    earlier.done.seal().map_err(|line| {
        Error::Mismatch(format!(
            "{}: the row on line {line} of the input is reported twice; remove one of its records and resume",
            path.display()
        ))
    })?;
    Ok(earlier)
}

/// Writes the report's outside rows, from its first `len` bytes, to the outside log.
pub(super) fn copy_outside(path: &Path, len: u64, outside: &mut Appender) -> Result<(), Error> {
    if len == 0 {
        return Ok(());
    }
    let io_error = |source| Error::Report {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io_error)?;
    let mut records = Records::new(BufReader::with_capacity(CHUNK, file.take(len)), b',');
    while records.advance().map_err(io_error)? {
        let record = records.current();
        if whole(&record).is_some_and(|row| row.outcome == Outcome::Outside) {
            outside.push_copy(record.iter());
            outside.commit_when_large()?;
        }
    }
    outside.commit()
}

/// What a resume needs of a record.
struct Row<'a> {
    line: u64,
    user: &'a str,
    conv: &'a str,
    conv_type: &'a str,
    outcome: Outcome,
}

fn whole<'a>(record: &Record<'a>) -> Option<Row<'a>> {
    if record.at_end || record.flaw.is_some() || record.len() != COLUMNS.len() {
        return None;
    }
    let text = |index| std::str::from_utf8(record.get(index)?).ok();
    Some(Row {
        line: text(0)?.parse().ok()?,
        user: text(1)?,
        conv: text(2)?,
        conv_type: text(3)?,
        outcome: Outcome::parse(text(4)?)?,
    })
}

/// Whether a whole record begins on one of the lines behind the first `len` bytes and the damaged line there: then an
/// opened quote may hide it, but this is no torn end.
fn holds_whole_records(path: &Path, len: u64) -> std::io::Result<bool> {
    let mut tail = Vec::new();
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(len))?;
    file.read_to_end(&mut tail)?;
    let line_starts = memchr::memchr_iter(b'\n', &tail).map(|end| end + 1);
    for start in line_starts {
        let mut records = Records::new(&tail[start..], b',');
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

fn is_torn_header(record: &Record) -> bool {
    let torn: Vec<u8> = record.iter().collect::<Vec<_>>().join(&b","[..]);
    COLUMNS.join(",").as_bytes().starts_with(&torn)
}

fn not_a_report(path: &Path) -> Error {
    Error::Mismatch(format!(
        "{}: this is not a report of zim-batch (its first line is another one), so it is left untouched; name another \
         file with --report",
        path.display()
    ))
}
