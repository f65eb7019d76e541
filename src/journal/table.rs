//! A CSV file whose first record names its columns: its records are read by these names, with serde.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::FileExt;

use serde::de::value::{self, MapDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::csv_reader::{CsvReader, CsvRecord, RecordError};

/// The size of a read, in bytes.
pub(super) const CHUNK: usize = 256 * 1024;

/// The maximum length of a torn record, in bytes. A record has a few hundred.
pub(super) const MAX_TORN: usize = 32 * 1024;

/// The first bytes of a file.
pub(crate) type FileStart<'a> = BufReader<Take<&'a File>>;

/// The first `len` bytes of a file; all of a pipe.
pub(super) fn start_of(mut file: &File, len: u64) -> io::Result<FileStart<'_>> {
    if file.metadata()?.is_file() {
        file.seek(SeekFrom::Start(0))?;
    }
    Ok(BufReader::with_capacity(CHUNK, file.take(len)))
}

/// The length of a file without zeros at its end; its whole length if it has only zeros, because then it is not a report.
/// The greatest number for a pipe.
pub(super) fn len_without_zeros(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(u64::MAX);
    }
    let mut chunk = vec![0; CHUNK];
    let mut end = metadata.len();
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let chunk = &mut chunk[..(end - start) as usize];
        file.read_exact_at(chunk, start)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(metadata.len())
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

/// A CSV file with columns by name.
pub(super) struct Table<R> {
    csv: CsvReader<R>,
    columns: &'static [&'static str],
    /// The fields of the current record, if some are not UTF-8: with what is not replaced.
    lossy: Vec<String>,
}

/// How a file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// It is empty.
    Missing,
    /// An incomplete header, or a few zeros in place of one.
    Torn,
    /// The header, which may lack its line end.
    Complete,
    /// Something else.
    Other,
}

impl<R: BufRead> Table<R> {
    /// Its header must be read first.
    pub fn new(input: R) -> Table<R> {
        Table::with_columns(input, &[])
    }

    /// Records without a header before them.
    pub fn with_columns(input: R, columns: &'static [&'static str]) -> Table<R> {
        Table {
            csv: CsvReader::new(input, b',').keeping_bytes(MAX_TORN),
            columns,
            lossy: Vec::new(),
        }
    }

    /// Reads the first record, which must be one of these headers.
    pub fn read_header(&mut self, headers: &[&'static [&'static str]]) -> io::Result<Header> {
        if !self.advance()? {
            return Ok(Header::Missing);
        }
        let record = self.csv.current();
        let is_header = |columns: &&&[&str]| record.iter().eq(columns.iter().map(|column| column.as_bytes()));
        if let Some(header) = headers.iter().find(is_header) {
            self.columns = header;
            return Ok(Header::Complete);
        }
        let torn = joined(&record);
        let is_torn = torn.len() <= MAX_TORN && torn.iter().all(|byte| *byte == 0)
            || headers
                .iter()
                .any(|header| header.join(",").as_bytes().starts_with(&torn));
        let may_be_torn = record.at_end && record.error.is_none();
        Ok(if may_be_torn && is_torn {
            Header::Torn
        } else {
            Header::Other
        })
    }

    /// Advances to the next record; returns `false` at the end of the input.
    pub fn advance(&mut self) -> io::Result<bool> {
        self.lossy.clear();
        let has_more = self.csv.advance()?;
        let record = self.csv.current();
        if has_more && record.texts().is_none() {
            let fields = record.iter().map(|field| String::from_utf8_lossy(field).into_owned());
            self.lossy.extend(fields);
        }
        Ok(has_more)
    }

    /// The current record, by the names of its columns; `None` if it does not have these, or they have other values.
    pub fn record<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let record = self.csv.current();
        if record.error.is_some() || record.len() != self.columns.len() {
            return None;
        }
        match record.texts() {
            Some(texts) => from_fields(self.columns, texts),
            None => from_fields(self.columns, self.lossy.iter().map(String::as_str)),
        }
    }

    /// The fields of the current record, as they stand in the file.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.csv.current().iter()
    }

    /// The columns of its header.
    pub fn columns(&self) -> &'static [&'static str] {
        self.columns
    }

    /// The current record, by position.
    pub fn current(&self) -> CsvRecord<'_> {
        self.csv.current()
    }

    /// The first bytes of the current record as they stand in the file, at most [`MAX_TORN`].
    pub fn kept_bytes(&self) -> &[u8] {
        self.csv.kept_bytes()
    }

    /// Whether the current record is UTF-8. If not, what is not was replaced.
    pub fn is_utf8(&self) -> bool {
        self.lossy.is_empty()
    }

    /// The line reached so far, for messages about a failed read.
    pub fn line_reached(&self) -> u64 {
        self.csv.line()
    }

    /// The line on which the current record begins.
    pub fn line(&self) -> u64 {
        self.csv.current().line
    }

    /// Where the current record ends, in bytes: after its line end, or after the CR of a CRLF.
    pub fn offset(&self) -> u64 {
        self.csv.offset()
    }

    /// The file ends with the current record, without a line end.
    pub fn lacks_line_end(&self) -> bool {
        self.csv.current().at_end
    }

    /// The file ends with the current record, which may be incomplete.
    pub fn may_be_torn(&self) -> bool {
        let record = self.csv.current();
        record.at_end || record.error == Some(RecordError::UnclosedQuote)
    }
}

fn from_fields<'a, T: Deserialize<'a>>(columns: &[&'a str], fields: impl Iterator<Item = &'a str>) -> Option<T> {
    let fields = columns.iter().copied().zip(fields.map(Field));
    T::deserialize(MapDeserializer::new(fields)).ok()
}

/// A field of a record, for serde.
struct Field<'a>(&'a str);

impl<'a> IntoDeserializer<'a> for Field<'a> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// An empty field is `None`.
impl<'de> Deserializer<'de> for Field<'de> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        if self.0.is_empty() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_u64(self.0.parse().map_err(value::Error::custom)?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_i64(self.0.parse().map_err(value::Error::custom)?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, value::Error> {
        visitor.visit_u16(self.0.parse().map_err(value::Error::custom)?)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The fields of a record with commas between them.
pub(super) fn joined(record: &CsvRecord) -> Vec<u8> {
    record.iter().collect::<Vec<_>>().join(&b","[..])
}
