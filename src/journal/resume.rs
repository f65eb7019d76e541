//! Reads a report back: the rows that are done, and where the last complete record ends.
//!
//! A killed process, a full disk or a power cut can leave the last record torn, even inside a quoted field, so the last
//! line end does not prove that a record is complete. Records are therefore parsed as CSV, and only those with all fields
//! count. A last record without a line end, as spreadsheets write it, counts if its last field is complete. Zeros at the
//! end, which a power cut can leave in place of data, are ignored.
//!
//! A report that another program has saved in another encoding or with other delimiters is refused, because its records
//! can't be distinguished from torn ones. A byte order mark and CRLF line ends are accepted; appended records end with LF.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{NotAReport, ReportError};
use super::outcomes::SIMULATED;
use super::schema::Schema;
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::done::Done;
use crate::row::Outcome;

/// The size of a read, in bytes.
const CHUNK: usize = 256 * 1024;

/// The maximum length of a torn record, in bytes. A record has a few hundred.
const MAX_TORN: u64 = 32 * 1024;

/// What an earlier run left.
#[derive(Default)]
pub(super) struct Earlier {
    /// Where the last complete record ends, in bytes; 0 if not even the header is complete.
    pub len: u64,
    /// The last complete record has no line end.
    pub lacks_line_end: bool,
    /// The rows that have a record.
    pub done: Done,
    /// Their outcomes, counted.
    pub outcomes: [u64; Outcome::ALL.len()],
    /// The `outside` rows among them, which the outside log may have.
    pub outside: Done,
    /// How many conversations were listed.
    pub conversations: u64,
}

/// Reads the report of a simulated or a real run. A torn or damaged record at the end is excluded from `len`; one in the
/// middle is an error, because the outcome of its row is unknown.
pub(super) fn read_back(path: &Path, file: &File, schema: &Schema, is_simulated: bool) -> Result<Earlier, ReportError> {
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
            if !is_header(&record, schema.columns) {
                // A torn header can be written again; anything else is not a report.
                return match is_torn_header(&record, schema.columns) {
                    true => Ok(earlier),
                    false => Err(not_a_report(path, &record, schema)),
                };
            }
        } else if let Some(row) = complete_row(&record, schema) {
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
            earlier.conversations += row.conversations;
            match row.outcome {
                Outcome::Invalid => earlier.done.insert_invalid(row.line, row.user, row.conv, row.conv_type),
                _ => earlier.done.insert(row.line, row.user, row.conv, row.conv_type),
            }
            if row.outcome == Outcome::Outside {
                earlier.outside.insert(row.line, row.user, row.conv, row.conv_type);
            }
            earlier.lacks_line_end = record.at_end;
        } else if is_in_another_encoding(&record, schema) {
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
        if tail > MAX_TORN || has_complete_record(file, earlier.len..size, schema).map_err(io_error)? {
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

/// Reads a report that is about to be overwritten, as far as it can be read, to recognise its outside log.
pub(super) fn read_for_overwriting(file: &File, schema: &Schema) -> io::Result<Earlier> {
    let mut earlier = Earlier::default();
    let mut records = records_of(file, len_without_zeros(file)?)?;
    while records.advance()? {
        let record = records.current();
        if let Some(row) = complete_row(&record, schema) {
            earlier.done.insert(row.line, row.user, row.conv, row.conv_type);
            if row.outcome == Outcome::Outside {
                earlier.outside.insert(row.line, row.user, row.conv, row.conv_type);
            }
        }
    }
    // Duplicate rows don't matter here.
    let _ = (earlier.done.seal(), earlier.outside.seal());
    Ok(earlier)
}

/// The records in the first `len` bytes.
pub(super) fn records_of(mut file: &File, len: u64) -> io::Result<CsvReader<impl io::BufRead>> {
    file.seek(SeekFrom::Start(0))?;
    Ok(CsvReader::new(BufReader::with_capacity(CHUNK, file.take(len)), b','))
}

/// The file's length without trailing zeros; its whole length if it has only zeros, because then it is not a report.
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

/// Moves an `offset` that is between the CR and the LF of a record's line end past the LF.
pub(super) fn past_line_end(file: &File, offset: u64) -> io::Result<u64> {
    let mut line_end = [0; 2];
    let is_crlf = match offset.checked_sub(1) {
        Some(before) => file.read_at(&mut line_end, before)? == 2 && line_end == *b"\r\n",
        None => false,
    };
    Ok(offset + u64::from(is_crlf))
}

/// The fields of a record that a resume needs.
pub(super) struct Row<'a> {
    pub line: u64,
    pub user: &'a str,
    pub conv: &'a str,
    pub conv_type: &'a str,
    pub outcome: Outcome,
    /// How many conversations were listed for a user.
    pub conversations: u64,
    is_simulated: bool,
}

/// Parses a record; `None` if it is torn or damaged.
pub(super) fn complete_row<'a>(record: &CsvRecord<'a>, schema: &Schema) -> Option<Row<'a>> {
    let columns = schema.columns.len();
    if record.error.is_some() || record.len() != columns {
        return None;
    }
    let text = |index| std::str::from_utf8(record.get(index)?).ok();
    if record.at_end && humantime::parse_rfc3339(text(columns - 1)?).is_err() {
        return None;
    }
    let (conv, conv_type) = match schema.conv {
        Some([conv, conv_type]) => (text(conv)?, text(conv_type)?),
        None => ("", ""),
    };
    Some(Row {
        line: text(0)?.parse().ok()?,
        user: text(1)?,
        conv,
        conv_type,
        outcome: text(schema.outcome)?.parse().ok()?,
        conversations: match schema.conversations {
            Some(index) => text(index)?.parse().ok()?,
            None => 0,
        },
        is_simulated: text(schema.message)?.starts_with(SIMULATED),
    })
}

/// Whether a complete record begins on any line after the damaged first line of `tail`, perhaps hidden by an open quote.
/// Then the tail is not a torn record.
fn has_complete_record(file: &File, tail: std::ops::Range<u64>, schema: &Schema) -> io::Result<bool> {
    let mut bytes = vec![0; (tail.end - tail.start) as usize];
    file.read_exact_at(&mut bytes, tail.start)?;
    let line_starts = memchr::memchr_iter(b'\n', &bytes).map(|end| end + 1);
    for start in line_starts {
        let mut records = CsvReader::new(&bytes[start..], b',');
        if records.advance()? && complete_row(&records.current(), schema).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether it is a complete record except that its bytes are not UTF-8, unlike a torn or damaged one.
fn is_in_another_encoding(record: &CsvRecord, schema: &Schema) -> bool {
    let is_record = record.error.is_none() && record.len() == schema.columns.len();
    let is_number = |field: &[u8]| !field.is_empty() && field.iter().all(u8::is_ascii_digit);
    is_record && record.get(0).is_some_and(is_number) && record.iter().any(|field| std::str::from_utf8(field).is_err())
}

/// Whether it is the complete header.
pub(super) fn is_header(record: &CsvRecord, columns: &[&str]) -> bool {
    !record.at_end && record.iter().eq(columns.iter().map(|column| column.as_bytes()))
}

/// Whether it is the last record, and an incomplete header or a few zeros in place of one.
pub(super) fn is_torn_header(record: &CsvRecord, columns: &[&str]) -> bool {
    let torn = joined(record);
    let is_all_zeros = torn.len() as u64 <= MAX_TORN && torn.iter().all(|byte| *byte == 0);
    record.at_end && record.error.is_none() && (is_all_zeros || columns.join(",").as_bytes().starts_with(&torn))
}

fn joined(record: &CsvRecord) -> Vec<u8> {
    record.iter().collect::<Vec<_>>().join(&b","[..])
}

fn not_a_report(path: &Path, first: &CsvRecord, schema: &Schema) -> ReportError {
    let (is_readable, first) = (first.error.is_none(), joined(first));
    let has_delimiter = |delimiter: &str| first == schema.columns.join(delimiter).as_bytes();
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
