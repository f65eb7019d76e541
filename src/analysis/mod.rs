//! Analyses a whole report, over all its runs: in one pass, in bounded memory.
//!
//! Everything that could grow has a bound: buckets of time are merged pairwise, adjacent spans of time are merged, and the
//! numbers of separate users, codes and reasons are limited. The analysis shows where a limit made it inexact.

mod model;
mod reader;
mod reasons;
mod spans;
#[cfg_attr(not(feature = "page"), expect(dead_code, reason = "only the page shows all of it"))]
mod timeline;
mod users;
mod values;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::csv_reader::{CsvReader, CsvRecord};
use crate::journal::COLUMNS;
use crate::journal::LIST_COLUMNS;
use crate::journal::{NotAReport, ReportError};
pub use model::{Analysis, Kind};
use reader::{Reader, UnreadableLines};
pub use reasons::Reason;
#[cfg(feature = "page")]
pub(crate) use spans::Spans;
#[cfg(feature = "page")]
pub(crate) use timeline::Timeline;
pub use users::UserRows;
#[cfg(feature = "page")]
pub(crate) use values::milliseconds;

/// The size of a read, in bytes.
const CHUNK: usize = 256 * 1024;

impl Analysis {
    /// Analyses the report in this file, as it is now. A run may be writing it.
    pub fn from_file(path: &Path) -> Result<Analysis, ReportError> {
        let place = path.display().to_string();
        let open = || {
            let mut file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let len = match metadata.is_file() {
                true => len_without_zeros(&mut file, metadata.len())?,
                false => u64::MAX,
            };
            Ok(BufReader::with_capacity(CHUNK, file.take(len)))
        };
        let input = open().map_err(|source| ReportError::Open {
            place: place.clone(),
            source,
        })?;
        Analysis::from_reader(input, &place)
    }

    /// Analyses a report from any reader; `place` names it in messages.
    pub fn from_reader(mut input: impl BufRead, place: &str) -> Result<Analysis, ReportError> {
        let error = |line, source| ReportError::Read {
            place: place.to_owned(),
            line,
            source,
        };
        // Some spreadsheets write a byte order mark.
        if input
            .fill_buf()
            .map_err(|source| error(1, source))?
            .starts_with(b"\xef\xbb\xbf")
        {
            input.consume(3);
        }
        let mut records = CsvReader::new(input, b',');
        let advance = |records: &mut CsvReader<_>| {
            let line = records.line();
            records.advance().map_err(|source| error(line, source))
        };
        let kind = match advance(&mut records)? {
            true => kind(&records.current(), place)?,
            false => return Err(no_report(place, "the file is empty")),
        };
        let mut reader = Reader::new(kind);
        let mut unreadable = UnreadableLines::default();
        while advance(&mut records)? {
            let record = records.current();
            match reader.add(&record) {
                true => unreadable.close(),
                false => unreadable.note(&record),
            }
            // Nothing can follow a record without a line end.
            if record.at_end {
                break;
            }
        }
        Ok(reader.finish(&unreadable))
    }
}

/// The kind of the report, by its header.
fn kind(header: &CsvRecord, place: &str) -> Result<Kind, ReportError> {
    let is = |columns: &[&str]| header.iter().eq(columns.iter().map(|column| column.as_bytes()));
    if is(&COLUMNS) {
        Ok(Kind::Clear)
    } else if is(&LIST_COLUMNS) {
        Ok(Kind::List)
    } else {
        let first = header.get(0).unwrap_or_default();
        Err(no_report(
            place,
            match first {
                [0x1f, 0x8b, ..] => "it is compressed; decompress it first, for example with gzip -d",
                [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is compressed; decompress it first, for example with zstd -d",
                [b'P', b'K', 3, 4, ..] => "it is a workbook or a ZIP archive",
                _ if first.contains(&0) => "its text is not UTF-8",
                _ if first.starts_with(b"line;") || first.starts_with(b"line\t") => {
                    "another program has saved it with other delimiters"
                }
                _ => "its first line is not a report's header",
            },
        ))
    }
}

fn no_report(place: &str, why: &'static str) -> ReportError {
    ReportError::NotAReport {
        place: place.to_owned(),
        reason: NotAReport::Unreadable(why),
    }
}

/// The length without trailing zeros, which a power cut can leave.
fn len_without_zeros(file: &mut File, mut len: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    while len > 0 {
        let size = len.min(block.len() as u64);
        file.seek(SeekFrom::Start(len - size))?;
        let block = &mut block[..size as usize];
        file.read_exact(block)?;
        if let Some(last) = block.iter().rposition(|&byte| byte != 0) {
            len = len - size + last as u64 + 1;
            break;
        }
        len -= size;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(len)
}

#[cfg(test)]
mod tests;
