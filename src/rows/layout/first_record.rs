//! A first guess: what the first record of an input shows, before anything is known about its columns.

use std::io::{self, BufRead, BufReader, Read};

use crate::csv_reader::CsvReader;
use crate::row::Column;
use crate::rows::columns::is_header_word;
use crate::rows::types::Types;
use crate::text::one_line;

/// The size of a read, in bytes.
const CHUNK: usize = 64 * 1024;

/// How far the end of the first record is searched for, in bytes.
const MAX_START: usize = 1024 * 1024;

/// The delimiters tried, in this order: a comma can't be part of an ID, the others can.
const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

/// How many fields of a record a message shows, and how many characters of each.
const FIELDS_SHOWN: usize = 20;
const CHARACTERS_SHOWN: usize = 40;

/// The first record, as one delimiter divides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FirstRecord {
    pub delimiter: u8,
    /// The line on which it begins.
    pub line: u64,
    pub fields: Vec<Vec<u8>>,
    /// For each field, the column that has this usual name.
    pub names: Vec<Option<Column>>,
}

impl FirstRecord {
    /// The first record that is not blank, if there is one.
    fn read(start: &[u8], delimiter: u8) -> Option<FirstRecord> {
        let mut records = CsvReader::new(start, delimiter);
        advance_to_first(&mut records).then(|| {
            let record = records.current();
            FirstRecord {
                delimiter,
                line: record.line,
                fields: record.iter().map(<[u8]>::to_vec).collect(),
                names: record.iter().map(Column::of_name).collect(),
            }
        })
    }

    /// Whether it is a header, because a field is a usual name of a column.
    pub fn is_header(&self) -> bool {
        self.names.iter().any(Option::is_some)
    }

    /// Whether the field is a word that a header has.
    pub fn is_header_word(&self, index: usize) -> bool {
        self.fields.get(index).is_some_and(|field| is_header_word(field))
    }

    /// Whether the field is a type. In a row without a header the third one is.
    pub fn is_type(&self, index: usize, types: &Types) -> bool {
        self.fields.get(index).is_some_and(|field| types.parse(field).is_some())
    }

    /// Whether this delimiter divides it into columns that are known: it is a header or a row.
    pub fn has_known_columns(&self, types: &Types) -> bool {
        self.fields.len() > 1 && (self.is_header() || self.is_type(2, types))
    }

    /// A field, shortened, for a message.
    pub fn shown_field(&self, index: usize) -> String {
        let field = String::from_utf8_lossy(&self.fields[index]);
        let short: String = field.chars().take(CHARACTERS_SHOWN).collect();
        one_line(&short).into_owned()
    }

    /// Its fields, for a message.
    pub fn shown(&self) -> String {
        let shown = |index| format!("'{}'", self.shown_field(index));
        let mut names: Vec<String> = (0..self.fields.len()).take(FIELDS_SHOWN).map(shown).collect();
        if self.fields.len() > FIELDS_SHOWN {
            names.push(format!("and {} more", self.fields.len() - FIELDS_SHOWN));
        }
        names.join(", ")
    }
}

/// What the first record would be with each possible delimiter; nothing if there are only blank lines. `start` contains the
/// whole first record, or is the whole input.
pub(super) fn guess(start: &[u8], delimiter: Option<u8>) -> Vec<FirstRecord> {
    possible_delimiters(&delimiter)
        .iter()
        .filter_map(|delimiter| FirstRecord::read(start, *delimiter))
        .collect()
}

fn possible_delimiters(given: &Option<u8>) -> &[u8] {
    match given {
        Some(given) => std::slice::from_ref(given),
        None => &DELIMITERS,
    }
}

/// Reads until the first record is complete, and no further, because standard input may be slow. Returns the bytes read
/// and a reader of the rest.
pub(in crate::rows) fn read_start(
    mut reader: Box<dyn Read + Send>,
    delimiter: Option<u8>,
) -> io::Result<(Vec<u8>, impl BufRead + Send + use<>)> {
    let mut start = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = reader.read(&mut chunk)?;
        start.extend_from_slice(&chunk[..read]);
        let is_complete = |delimiter: &u8| has_first_record(&start, *delimiter);
        if read == 0 || start.len() >= MAX_START || possible_delimiters(&delimiter).iter().all(is_complete) {
            return Ok((start, BufReader::with_capacity(CHUNK, reader)));
        }
    }
}

/// Whether the first record ends within `start`.
fn has_first_record(start: &[u8], delimiter: u8) -> bool {
    let mut records = CsvReader::new(start, delimiter);
    advance_to_first(&mut records)
        && records.current().error.is_none()
        && (!records.input().is_empty() || matches!(start.last(), Some(b'\n' | b'\r')))
}

/// Advances to the first record that is not blank; returns `false` if there is none.
fn advance_to_first(records: &mut CsvReader<&[u8]>) -> bool {
    while records.advance().expect("reading from memory does not fail") {
        if !records.current().is_blank() {
            return true;
        }
    }
    false
}
