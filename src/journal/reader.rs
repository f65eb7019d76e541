//! Reads reports back: for a run that resumes, for `report`, and wherever else their records are needed.
//!
//! A killed process, a full disk or a power cut can leave the last record torn, even inside a quoted field, so the last
//! line end does not prove that a record is complete. Records are therefore parsed as CSV, and only those with all fields
//! count. A last record without a line end, as spreadsheets write it, counts if its last field is complete. Zeros at the
//! end, which a power cut can leave in place of data, are ignored. A byte order mark and CRLF line ends are accepted.

use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;

use super::error::{NotAReport, ReportError};
use super::record::{Kind, ROWS_COLUMNS, ReportRecord, RowRecord};
use super::table::{FileStart, Header, MAX_TORN, Table, joined, len_without_zeros, start_of};
use crate::csv_reader::CsvRecord;

/// Calls `on_record` with each complete record of a report, and the line of the report on which it begins. Returns what kind
/// of report it is, and what can't be read. `place` names it in errors.
pub(crate) fn read_report(
    input: impl BufRead,
    place: &str,
    mut on_record: impl FnMut(&ReportRecord, u64),
) -> Result<(Kind, Unreadable), ReportError> {
    let mut records = ReportReader::new(input);
    if records.read_header().map_err(|source| read_error(place, 1, source))? != Header::Complete {
        return Err(ReportError::NotAReport {
            place: place.to_owned(),
            reason: records.not_a_report(),
            is_output: false,
        });
    }
    loop {
        let line = records.table.line_reached();
        match records.next().map_err(|source| read_error(place, line, source))? {
            Some(Entry {
                record: Some(record),
                line,
                ..
            }) => on_record(&record, line),
            Some(_) => {}
            None => return Ok((records.kind, records.unreadable())),
        }
    }
}

/// Calls `on_row` with each complete row of a rows file. `place` names it in errors.
pub(crate) fn read_rows(
    input: impl BufRead,
    place: &str,
    mut on_row: impl FnMut(&RowRecord),
) -> Result<(), ReportError> {
    let mut rows = Table::new(input);
    rows.read_header(&[&ROWS_COLUMNS])
        .map_err(|source| read_error(place, 1, source))?;
    loop {
        let line = rows.line_reached();
        if !rows.advance().map_err(|source| read_error(place, line, source))? {
            return Ok(());
        }
        rows.record().iter().for_each(&mut on_row);
    }
}

/// Opens a file, and calls `read` with its content and its name.
pub(crate) fn read_file<T>(
    path: &Path,
    read: impl FnOnce(FileStart, &str) -> Result<T, ReportError>,
) -> Result<T, ReportError> {
    let place = path.display().to_string();
    let error = |source| ReportError::Open {
        place: place.clone(),
        source,
    };
    let file = File::open(path).map_err(error)?;
    let start = || {
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        start_of(&file, len_without_zeros(&file)?)
    };
    read(start().map_err(error)?, &place)
}

fn read_error(place: &str, line: u64, source: io::Error) -> ReportError {
    let place = place.to_owned();
    ReportError::Read { place, line, source }
}

/// A report or an outside log.
pub(super) struct ReportReader<R> {
    table: Table<R>,
    kind: Kind,
    /// Where the last complete record or the header ends.
    len: u64,
    lacks_line_end: bool,
    skipped: Skipped,
}

/// The parts of a report that are no records.
#[derive(Default)]
struct Skipped {
    /// Before the last complete record.
    damaged: Option<Lines>,
    /// After it.
    tail: Option<Lines>,
    /// The beginning of the tail, at least [`MAX_TORN`] bytes if it is so long.
    tail_bytes: Vec<u8>,
}

/// Lines of a report that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lines {
    pub first: u64,
    pub count: u64,
    bytes: u64,
}

impl Lines {
    fn and(earlier: Option<Lines>, later: Lines) -> Lines {
        let Some(earlier) = earlier else { return later };
        Lines {
            first: earlier.first,
            count: earlier.count + later.count,
            bytes: earlier.bytes + later.bytes,
        }
    }
}

impl Skipped {
    fn note(&mut self, record: &CsvRecord, bytes: &[u8]) {
        let lines = Lines {
            first: record.line,
            count: 1,
            bytes: record.bytes(),
        };
        self.tail = Some(Lines::and(self.tail, lines));
        if self.tail_bytes.len() <= MAX_TORN {
            self.tail_bytes.extend_from_slice(bytes);
        }
    }

    /// Notes that a complete record follows.
    fn close(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.damaged = Some(Lines::and(self.damaged, tail));
            self.tail_bytes.clear();
        }
    }

    /// Whether the tail is a torn record: not too long, and with no complete record in it, which an open quote may hide.
    fn is_torn(&self, tail: Lines, kind: Kind) -> bool {
        let has_record = |start: usize| {
            let mut later = ReportReader::of_records(&self.tail_bytes[start..], kind);
            matches!(later.next(), Ok(Some(Entry { record: Some(_), .. })))
        };
        let mut line_starts = memchr::memchr_iter(b'\n', &self.tail_bytes).map(|end| end + 1);
        tail.bytes <= MAX_TORN as u64 && !line_starts.any(has_record)
    }
}

/// A record of a report, or a part of the file that is none.
pub(super) struct Entry<'a> {
    /// `None` if it is torn or damaged.
    pub record: Option<ReportRecord<'a>>,
    /// The line of the report on which it begins.
    pub line: u64,
    /// Where it ends, as [`Table::offset`].
    pub offset: u64,
    /// The report ends with it, and it may be incomplete.
    pub may_be_torn: bool,
    /// Otherwise another program has saved the report in another encoding, and what is not UTF-8 was replaced.
    pub is_utf8: bool,
}

/// What of a report can't be read.
pub(crate) struct Unreadable {
    /// Lines whose rows have an unknown outcome.
    pub damaged: Option<Lines>,
    /// The length of a torn last record, in bytes. Its row is not done.
    pub torn: Option<u64>,
}

impl<R: BufRead> ReportReader<R> {
    pub fn new(input: R) -> ReportReader<R> {
        ReportReader::of_records(input, Kind::Clear)
    }

    /// A reader of records without a header before them.
    fn of_records(input: R, kind: Kind) -> ReportReader<R> {
        ReportReader {
            table: Table::with_columns(input, kind.columns()),
            kind,
            len: 0,
            lacks_line_end: false,
            skipped: Skipped::default(),
        }
    }

    /// Reads the header, which says of which kind the report is.
    pub fn read_header(&mut self) -> io::Result<Header> {
        let kinds = [Kind::Clear, Kind::List];
        let header = self.table.read_header(&kinds.map(Kind::columns))?;
        if header == Header::Complete {
            let is_header = |kind: &Kind| self.table.columns() == kind.columns();
            self.kind = kinds.into_iter().find(is_header).unwrap_or(self.kind);
            (self.len, self.lacks_line_end) = (self.table.offset(), self.table.lacks_line_end());
        }
        Ok(header)
    }

    /// Why the file is not a report, by its first record.
    pub fn not_a_report(&self) -> NotAReport {
        let first = self.table.current();
        let (is_readable, first) = (first.error.is_none(), joined(&first));
        let has_delimiter = |delimiter: &str| {
            let is = |kind: Kind| first == kind.columns().join(delimiter).as_bytes();
            is(Kind::Clear) || is(Kind::List)
        };
        match &first[..] {
            [] if is_readable => NotAReport::Empty,
            _ if has_delimiter(";") => NotAReport::Semicolons,
            _ if has_delimiter("\t") => NotAReport::Tabs,
            [0x1f, 0x8b, ..] => NotAReport::Compressed("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => NotAReport::Compressed("zstd"),
            [b'P', b'K', 3, 4, ..] => NotAReport::Archive,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [b'l', 0, ..] | [0, b'l', ..] => NotAReport::Utf16,
            bytes if is_readable && bytes.iter().all(|byte| *byte == 0) => NotAReport::Zeros,
            _ => NotAReport::OtherHeader,
        }
    }

    /// Of which kind the report is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The next record, or the next part of the file that is none.
    pub fn next(&mut self) -> io::Result<Option<Entry<'_>>> {
        if !self.table.advance()? {
            return Ok(None);
        }
        let table = &self.table;
        let record = table.record().filter(|record: &ReportRecord| {
            // Without a line end it may be incomplete, unless its last field is complete.
            !table.lacks_line_end() || (record.finished_at.ends_with('Z') && record.finished_at().is_some())
        });
        if record.is_some() {
            (self.len, self.lacks_line_end) = (table.offset(), table.lacks_line_end());
            self.skipped.close();
        } else {
            self.skipped.note(&table.current(), table.kept_bytes());
        }
        Ok(Some(Entry {
            record,
            line: table.line(),
            offset: table.offset(),
            may_be_torn: table.may_be_torn(),
            is_utf8: table.is_utf8(),
        }))
    }

    /// The fields of the current record, as they stand in the file.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.table.fields()
    }

    /// Where the last complete record ends, as [`Table::offset`]; 0 if not even the header is complete.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The last complete record has no line end.
    pub fn lacks_line_end(&self) -> bool {
        self.lacks_line_end
    }

    /// What can't be read. To be called after the last record.
    pub fn unreadable(&self) -> Unreadable {
        let Skipped { damaged, tail, .. } = self.skipped;
        match tail {
            Some(tail) if self.skipped.is_torn(tail, self.kind) => Unreadable {
                damaged,
                torn: Some(tail.bytes),
            },
            Some(tail) => Unreadable {
                damaged: Some(Lines::and(damaged, tail)),
                torn: None,
            },
            None => Unreadable { damaged, torn: None },
        }
    }
}
