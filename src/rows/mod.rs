//! Stage 1, where work comes from: a CSV → [`Row`], or what is wrong with it.
//!
//! Rows stream: one record is in memory at a time, however long the file. A row that can't be sent is data
//! ([`InvalidRow`]), for the report; an [`InputError`] is for input that can't be read at all. IDs are taken byte for
//! byte, never trimmed or normalised, and no character begins a comment: ZIM's group IDs begin with `#`.

pub mod check;
mod header;
mod input;
mod parsed;
mod plan;
mod snapshot;
mod suspect;
mod types;

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

use crate::csv_reader::{CsvReader, CsvRecord, RecordError};
use crate::row::{ConvType, MAX_ID, Row};
use header::Layout;
pub use header::{ColumnRef, Columns, LayoutClue, LayoutError, MissingColumn};
pub use input::Source;
pub use parsed::{Column, InvalidRow, ParsedRow, RowError};
pub use plan::{Only, Plan, PlanError, Selection, Survey, Task};
pub use snapshot::{FileChange, Snapshot};
pub use types::Types;

/// The longest field of an invalid row that is shown in a report, in characters.
const MAX_SHOWN: usize = 1000;

/// How the input is to be read, where its first line doesn't say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// The delimiter; found from the header line when not given.
    pub delimiter: Option<u8>,
    /// Which columns are the user, the conversation and the type.
    pub columns: Columns,
    /// Words for the types besides the usual ones.
    pub types: Types,
    /// The encoding, if it is neither UTF-8 nor UTF-16 with a byte order mark.
    pub encoding: Option<&'static Encoding>,
}

/// A WHATWG encoding, by its label: see [`encoding`].
pub use encoding_rs::Encoding;

/// The encoding with this label, as the WHATWG's list has it, or by the number of its Windows code page, such as
/// `cp936`.
///
/// ```
/// assert!(zim_batch::rows::encoding("gbk").is_some());
/// assert!(zim_batch::rows::encoding("windows-1252").is_some());
/// assert_eq!(zim_batch::rows::encoding("CP936"), zim_batch::rows::encoding("gbk"));
/// assert!(zim_batch::rows::encoding("klingon").is_none());
/// ```
pub fn encoding(label: &str) -> Option<&'static Encoding> {
    let label = label.trim().to_ascii_lowercase();
    Encoding::for_label_no_replacement(label.as_bytes()).or_else(|| {
        let page = ["cp", "windows-", "ms"]
            .iter()
            .find_map(|prefix| label.strip_prefix(prefix));
        Some(match page.unwrap_or(&label).parse().ok()? {
            932_u32 => encoding_rs::SHIFT_JIS,
            936 => encoding_rs::GBK,
            949 => encoding_rs::EUC_KR,
            950 => encoding_rs::BIG5,
            54936 => encoding_rs::GB18030,
            65001 => encoding_rs::UTF_8,
            page => return Encoding::for_label_no_replacement(format!("windows-{page}").as_bytes()),
        })
    })
}

/// Input that can't be read as rows at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The file can't be opened.
    #[error("{place}: can't be opened: {source}")]
    Open {
        /// The file.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// Reading failed in the middle.
    #[error("{place}, line {line}: can't be read: {source}")]
    Read {
        /// The file.
        place: String,
        /// The line that was reached.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// Nothing but blank lines, not even a header.
    #[error("{place}: there is nothing in it; expected a CSV with the columns user, conv and type")]
    Empty {
        /// The file.
        place: String,
    },
    /// The file is no CSV.
    #[error("{place}: this is no CSV but {kind}; {advice}")]
    NotCsv {
        /// The file.
        place: String,
        /// What it is.
        kind: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file is not what it was when its rows were counted.
    #[error("{place}: {change} while its rows were read; nothing of the changed file was sent")]
    Changed {
        /// The file.
        place: String,
        /// What became of it.
        change: FileChange,
    },
    /// The last row of a file had no line end when the rows were counted, and has gone on since.
    #[error("{place}, line {line}: this row, the last one, was still being written when the rows were counted")]
    StillWritten {
        /// The file.
        place: String,
        /// The line on which the row begins.
        line: u64,
    },
    /// A stream ended within a row.
    #[error(
        "{place}, line {line}: the input ends within this row ({problem}, and there is no line end), so it was probably \
         cut off; nothing is recorded of this row"
    )]
    CutOff {
        /// The stream.
        place: String,
        /// The line on which the row begins.
        line: u64,
        /// What is wrong with the row.
        problem: RowError,
    },
    /// The columns can't be told.
    #[error("{place}, line {line}: {problem}; the columns found are {found}{}", as_sentence(.clue))]
    Layout {
        /// The file.
        place: String,
        /// The line of the first record.
        line: u64,
        /// What is missing or doubled.
        problem: LayoutError,
        /// The first record's fields.
        found: String,
        /// What the text probably is, if it shows.
        clue: Option<LayoutClue>,
    },
}

fn as_sentence(clue: &Option<LayoutClue>) -> String {
    clue.map(|clue| format!(". {clue}")).unwrap_or_default()
}

/// The rows of an input, in its order.
///
/// ```
/// use zim_batch::rows::{ParsedRow, Format, Rows};
///
/// let csv = "Type;ConvId;FromUserId\ngroup;#team;alice\n3;bob;alice\n";
/// let mut rows = Rows::from_reader(Box::new(csv.as_bytes()), "example", &Format::default())?;
/// let Some(Ok(ParsedRow::Row(row))) = rows.next() else { panic!() };
/// assert_eq!((row.line, row.user.as_str(), row.conv.as_str()), (2, "alice", "#team"));
/// let Some(Ok(ParsedRow::Invalid(row))) = rows.next() else { panic!() };
/// assert_eq!(row.problem.to_string(), "type is '3', it must be 0 or peer, 2 or group");
/// # Ok::<(), zim_batch::rows::InputError>(())
/// ```
pub struct Rows {
    records: CsvReader<Box<dyn BufRead + Send>>,
    layout: Layout,
    place: String,
    /// The header, if there is one, has been read over.
    started_at: bool,
    /// What could not be decoded is U+FFFD.
    is_decoded: bool,
    /// What can be read only once may be cut off: see [`InputError::CutOff`].
    is_stream: bool,
    /// What the file was when its rows were counted.
    snapshot: Option<Snapshot>,
}

/// A row as it stands in the input, lent from it.
#[derive(Debug, Clone, Copy)]
pub struct RawRow<'a> {
    record: CsvRecord<'a>,
    layout: &'a Layout,
    is_decoded: bool,
    is_stream: bool,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("place", &self.place)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file or standard input. What can be read only once and ends within a row that can't be valid is an error
    /// at that row.
    pub fn open(source: &Source, format: &Format) -> Result<Rows, InputError> {
        let rows = Rows::from_reader(input::open(source)?, &source.to_string(), format)?;
        Ok(Rows {
            is_stream: !source.can_be_read_twice(),
            ..rows
        })
    }

    /// Opens a file as it was when the snapshot was taken: what was appended since is not read, and any other change is
    /// an error before a row of the changed file is given.
    pub fn open_snapshot(snapshot: &Snapshot, format: &Format) -> Result<Rows, InputError> {
        let rows = Rows::from_reader(snapshot.open()?, snapshot.place(), format)?;
        Ok(Rows {
            snapshot: Some(snapshot.clone()),
            ..rows
        })
    }

    /// Reads from anything; `place` names it in messages.
    pub fn from_reader(reader: Box<dyn io::Read + Send>, place: &str, format: &Format) -> Result<Rows, InputError> {
        let error = |source| read_error(place, 1, source);
        let text = input::Text::new(reader, format.encoding).map_err(error)?;
        let (start, input) = input::first_record(text.reader, format.delimiter).map_err(error)?;
        let layout = header::find_layout(&start, &text.signature, format, place)?;
        let whole: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(start).chain(input));
        Ok(Rows {
            records: CsvReader::new(whole, layout.delimiter),
            layout,
            place: place.to_owned(),
            started_at: false,
            is_decoded: text.is_decoded,
            is_stream: false,
            snapshot: None,
        })
    }

    /// The next row, lent: for passes over the whole input that keep nothing.
    pub fn next_raw(&mut self) -> Result<Option<RawRow<'_>>, InputError> {
        Ok(if self.advance()? { Some(self.current()) } else { None })
    }

    /// Goes on to the next row; `false` at the end of the input.
    fn advance(&mut self) -> Result<bool, InputError> {
        loop {
            let line = self.records.line();
            let more = self.records.advance();
            if !more.map_err(|source| read_error(&self.place, line, source))? {
                return Ok(false);
            }
            let record = self.records.current();
            let (is_blank, is_mark, at_end) = (record.is_blank(), record.is_end_mark(), record.at_end);
            if is_blank {
                continue;
            }
            if is_mark {
                let is_last = at_end
                    || self
                        .records
                        .is_last()
                        .map_err(|source| read_error(&self.place, line, source))?;
                if is_last {
                    return Ok(false);
                }
            }
            if !std::mem::replace(&mut self.started_at, true) && self.layout.header.is_some() {
                continue;
            }
            if at_end {
                self.check_end()?;
            }
            return Ok(true);
        }
    }

    /// To be called at a last row that has no line end: perhaps it was meant to be longer.
    fn check_end(&self) -> Result<(), InputError> {
        if let Some(snapshot) = &self.snapshot {
            snapshot.check_open_end(self.records.current().line)?;
        }
        if self.is_stream
            && let Err(problem) = self.current().check()
        {
            return Err(InputError::CutOff {
                place: self.place.clone(),
                line: self.records.current().line,
                problem,
            });
        }
        Ok(())
    }

    /// The row that [`Rows::advance`] came to.
    fn current(&self) -> RawRow<'_> {
        RawRow {
            record: self.records.current(),
            layout: &self.layout,
            is_decoded: self.is_decoded,
            is_stream: self.is_stream,
        }
    }
}

/// Reading failed, or the file has changed.
fn read_error(place: &str, line: u64, source: io::Error) -> InputError {
    match snapshot::what_changed(&source) {
        Some(change) => InputError::Changed {
            place: place.to_owned(),
            change,
        },
        None => InputError::Read {
            place: place.to_owned(),
            line,
            source,
        },
    }
}

impl Iterator for Rows {
    type Item = Result<ParsedRow, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_raw().map(|row| row.map(|row| row.to_entry())).transpose()
    }
}

impl<'a> RawRow<'a> {
    /// The 1-based line on which it begins.
    pub fn line(&self) -> u64 {
        self.record.line
    }

    /// The line on which it ends: another one if there are line ends within its quotes.
    pub fn last_line(&self) -> u64 {
        self.record.last_line
    }

    /// A stream ends with this row, without a line end: perhaps it was cut off.
    pub fn is_perhaps_cut_off(&self) -> bool {
        self.is_stream && self.record.at_end
    }

    /// The row's outcome in an earlier report, if the input is one.
    pub fn outcome(&self) -> Option<&'a [u8]> {
        self.record.get(self.layout.outcome?)
    }

    /// Checks the row: its user, conversation and type, or the first problem found.
    pub fn check(&self) -> Result<(&'a str, &'a str, ConvType), RowError> {
        match self.record.flaw {
            Some(RecordError::UnclosedQuote) => return Err(RowError::UnclosedQuote),
            Some(RecordError::TooLong) => return Err(RowError::RecordTooLong),
            None => {}
        }
        self.check_fields().map_err(|problem| {
            let Layout {
                user, conv, conv_type, ..
            } = *self.layout;
            let lines = (self.line(), self.last_line());
            if self
                .layout
                .is_header([user, conv, conv_type].map(|index| self.record.get(index)))
            {
                RowError::HeaderAgain
            } else if lines.0 < lines.1 {
                let problem = Box::new(problem);
                RowError::Spanning { problem, lines }
            } else {
                problem
            }
        })
    }

    fn check_fields(&self) -> Result<(&'a str, &'a str, ConvType), RowError> {
        let user = self.id(self.layout.user, Column::User)?;
        let conv = self.id(self.layout.conv, Column::Conv)?;
        let field = self
            .record
            .get(self.layout.conv_type)
            .ok_or(RowError::Missing(Column::Type))?;
        let conv_type = self.layout.types.parse(field).ok_or_else(|| match field.trim_ascii() {
            b"" => RowError::Empty(Column::Type),
            other => RowError::BadType(
                shown(Some(other))
                    .chars()
                    .take(40)
                    .flat_map(char::escape_debug)
                    .collect(),
            ),
        })?;
        Ok((user, conv, conv_type))
    }

    fn id(&self, index: usize, column: Column) -> Result<&'a str, RowError> {
        let field = self.record.get(index).ok_or(RowError::Missing(column))?;
        if field.is_empty() {
            return Err(RowError::Empty(column));
        }
        let text = std::str::from_utf8(field).map_err(|_| RowError::NotText(column))?;
        // In a report it stands for what was not text when the row was read first.
        let is_lossy = self.is_decoded || self.layout.outcome.is_some();
        if is_lossy && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(RowError::NotText(column));
        }
        if field.len() > MAX_ID {
            return Err(RowError::TooLong(column, field.len()));
        }
        Ok(text)
    }

    /// The row as the report writes it: user, conversation, type.
    pub fn shown(&self) -> [Cow<'a, str>; 3] {
        let conv_type = self.record.get(self.layout.conv_type);
        [
            shown(self.record.get(self.layout.user)),
            shown(self.record.get(self.layout.conv)),
            match conv_type.and_then(|field| self.layout.types.parse(field)) {
                Some(known) => Cow::Borrowed(known.as_str()),
                None => shown(conv_type),
            },
        ]
    }

    /// An owned copy, checked.
    pub fn to_entry(&self) -> ParsedRow {
        let line = self.line();
        match self.check() {
            Ok((user, conv, conv_type)) => ParsedRow::Row(Row {
                line,
                user: user.to_owned(),
                conv: conv.to_owned(),
                conv_type,
            }),
            Err(problem) => {
                let [user, conv, conv_type] = self.shown().map(Cow::into_owned);
                ParsedRow::Invalid(InvalidRow {
                    line,
                    user,
                    conv,
                    conv_type,
                    problem,
                })
            }
        }
    }
}

fn shown(field: Option<&[u8]>) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(field.unwrap_or_default());
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => text,
    }
}

/// `-` is standard input.
impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        if path.as_os_str() == "-" {
            Source::Stdin
        } else {
            Source::File(path)
        }
    }
}
