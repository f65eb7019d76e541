//! Reads an input record by record.

use std::fmt;
use std::io::{self, BufRead, Read};

use super::columns::{AssumedUser, FoundColumns};
use super::error::{InputError, InputErrorKind};
use super::format::Format;
use super::layout::{self, Layout};
use super::parsed::ParsedRow;
use super::raw_row::RawRow;
use super::snapshot::{self, Snapshot};
use super::source::{self, Source};
use super::text::Text;
use crate::csv_reader::CsvReader;

/// The rows of an input, in its order.
///
/// ```
/// use zim_batch::rows::{ParsedRow, Format, Rows};
///
/// let csv = "Type;ConvId;FromUserId\ngroup;#team;alice\n3;bob;alice\n";
/// let mut rows = Rows::from_reader(Box::new(csv.as_bytes()), "example", &Format::default())?;
/// let Some(Ok(ParsedRow::Row(row))) = rows.next() else { panic!() };
/// assert_eq!((row.line, row.item.user(), row.item.conv()), (2, "alice", "#team"));
/// let Some(Ok(ParsedRow::Invalid(row))) = rows.next() else { panic!() };
/// assert_eq!(row.error.to_string(), "type is '3', it must be 0 or peer, 2 or group");
/// # Ok::<(), zim_batch::rows::InputError>(())
/// ```
pub struct Rows {
    records: CsvReader<Box<dyn BufRead + Send>>,
    layout: Layout,
    name: String,
    /// The header, if there is one, has been skipped.
    header_passed: bool,
    /// The input was decoded from another encoding: bytes that could not be decoded are U+FFFD.
    is_decoded: bool,
    /// The input can be read only once and may be cut off: see [`InputErrorKind::CutOff`].
    is_stream: bool,
    /// The file as it was when its rows were counted.
    snapshot: Option<Snapshot>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("name", &self.name)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file or standard input. An input that can be read only once and ends inside an invalid row is an error at
    /// that row.
    pub fn open(source: &Source, format: &Format) -> Result<Rows, InputError> {
        let rows = Rows::from_reader(source::open(source)?, &source.to_string(), format)?;
        Ok(Rows {
            is_stream: !source.can_be_read_twice(),
            ..rows
        })
    }

    /// Opens a file as it was when the snapshot was taken. Bytes appended since are not read; any other change is an
    /// error before a row of the changed file is returned.
    pub(super) fn open_snapshot(snapshot: &Snapshot, format: &Format) -> Result<Rows, InputError> {
        let rows = Rows::from_reader(snapshot.open()?, &snapshot.name(), format)?;
        Ok(Rows {
            snapshot: Some(snapshot.clone()),
            ..rows
        })
    }

    /// Reads from any reader; `name` is what messages call it.
    pub fn from_reader(reader: Box<dyn io::Read + Send>, name: &str, format: &Format) -> Result<Rows, InputError> {
        let error = |source| read_error(name, 1, source);
        let text = Text::new(reader, format.encoding).map_err(error)?;
        let (start, input) = layout::read_start(text.reader, format.delimiter).map_err(error)?;
        let layout = layout::find(&start, &text.signature, format, name)?;
        let whole: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(start).chain(input));
        Ok(Rows {
            records: CsvReader::new(whole, layout.delimiter),
            layout,
            name: name.to_owned(),
            header_passed: false,
            is_decoded: text.is_decoded,
            is_stream: false,
            snapshot: None,
        })
    }

    /// What messages call the input.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the input has an outcome column, as a report has.
    pub fn has_outcomes(&self) -> bool {
        self.layout.outcome.is_some()
    }

    /// Whether only the users of its records are read.
    pub(super) fn are_users(&self) -> bool {
        self.layout.conversation.is_none()
    }

    /// Where the columns are, and whether there is a header.
    pub fn columns(&self) -> FoundColumns {
        self.layout.columns()
    }

    /// Set if users are read and nothing says which of several columns is the user.
    pub fn assumed_user(&self) -> Option<&AssumedUser> {
        self.layout.assumed_user.as_ref()
    }

    /// The delimiter, and the names of all columns if there is a header.
    pub(super) fn dialect(&self) -> (u8, Option<&[Vec<u8>]>) {
        (self.layout.delimiter, self.layout.header.as_deref())
    }

    /// Reads to the end and counts the rows, valid and invalid ones.
    pub fn count_rows(mut self) -> Result<u64, InputError> {
        let mut rows = 0;
        while self.advance()? {
            rows += 1;
        }
        Ok(rows)
    }

    /// The next row, borrowed: for passes over the whole input that keep nothing.
    pub(crate) fn next_raw(&mut self) -> Result<Option<RawRow<'_>>, InputError> {
        Ok(if self.advance()? { Some(self.current()) } else { None })
    }

    /// Advances to the next row; returns `false` at the end of the input.
    pub(super) fn advance(&mut self) -> Result<bool, InputError> {
        loop {
            let line = self.records.line();
            let more = self.records.advance();
            if !more.map_err(|source| read_error(&self.name, line, source))? {
                return Ok(false);
            }
            let record = self.records.current();
            let (is_blank, is_ctrl_z, at_end) = (record.is_blank(), record.is_ctrl_z(), record.at_end);
            if is_blank {
                continue;
            }
            if is_ctrl_z {
                let is_last = at_end
                    || self
                        .records
                        .is_last()
                        .map_err(|source| read_error(&self.name, line, source))?;
                if is_last {
                    return Ok(false);
                }
            }
            if !std::mem::replace(&mut self.header_passed, true) && self.layout.header.is_some() {
                continue;
            }
            if at_end {
                self.check_end()?;
            }
            return Ok(true);
        }
    }

    /// Checks a last row that has no line end: it may be incomplete.
    fn check_end(&self) -> Result<(), InputError> {
        if let Some(snapshot) = &self.snapshot {
            snapshot.check_last_row(self.records.current().line)?;
        }
        if self.is_stream
            && let Err(error) = self.current().check()
        {
            return Err(InputErrorKind::CutOff(error).at(&self.name, self.records.current().line));
        }
        Ok(())
    }

    /// The current row: valid after [`Rows::advance`] returned `true`.
    pub(super) fn current(&self) -> RawRow<'_> {
        RawRow::new(self.records.current(), &self.layout, self.is_decoded, self.is_stream)
    }
}

/// The error for a failed read, which may mean that the file has changed.
fn read_error(name: &str, line: u64, source: io::Error) -> InputError {
    match snapshot::file_change(&source) {
        Some(change) => InputErrorKind::Changed(change).of(name),
        None => InputErrorKind::Read(source).at(name, line),
    }
}

impl Iterator for Rows {
    type Item = Result<ParsedRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_raw().map(|row| row.map(RawRow::parsed)).transpose()
    }
}
