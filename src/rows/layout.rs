//! Which column is which: from the header line, from the caller, or from a first record that is no header.

use std::io::{self, BufRead, BufReader, Read};

use super::columns::ColumnRef;
use super::encoding::{Encoding, guesses};
use super::error::{InputError, InputErrorKind, UnknownLayout};
use super::file_kind::kind_of_file;
use super::format::{Format, Reads};
use super::layout_error::{LayoutClue, LayoutError, MissingColumn};
use super::types::Types;
use super::user_layout;
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::text::one_line;

/// The size of a read, in bytes.
const CHUNK: usize = 64 * 1024;

/// How far the end of the first record is searched for, in bytes.
const MAX_START: usize = 1024 * 1024;

/// The delimiters tried, in this order: a comma can't be part of an ID, the others can.
pub(super) const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

pub(super) const USER_NAMES: &[&str] = &["user", "fromuserid", "from_user_id", "user_id", "userid", "用户id"];
pub(super) const CONV_NAMES: &[&str] = &[
    "conv",
    "convid",
    "conv_id",
    "conversationid",
    "conversation_id",
    "会话id",
];
pub(super) const TYPE_NAMES: &[&str] = &[
    "type",
    "convtype",
    "conv_type",
    "conversationtype",
    "conversation_type",
    "会话类型",
];
pub(super) const OUTCOME_NAMES: &[&str] = &["outcome"];

/// How a file's records are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub delimiter: u8,
    pub user: usize,
    /// The columns of the conversation and its type; `None` if users are read.
    pub conversation: Option<(usize, usize)>,
    pub outcome: Option<usize>,
    /// The words for the types.
    pub types: Types,
    /// The names of all columns, if there is a header.
    pub header: Option<Vec<Vec<u8>>>,
}

impl Layout {
    /// Whether the record is this header, or a usual one: files may have been concatenated.
    pub fn is_header(&self, record: &CsvRecord) -> bool {
        match self.conversation {
            Some((conv, conv_type)) => {
                let columns = [(self.user, USER_NAMES), (conv, CONV_NAMES), (conv_type, TYPE_NAMES)];
                columns.iter().all(|&(index, _)| self.has_name(record, index))
                    || columns.iter().all(|&(index, names)| is_name(record, index, names))
            }
            None => user_layout::is_header(self, record),
        }
    }

    /// `first` is the first record, and the header if `has_header`.
    pub fn new(
        first: &CsvRecord,
        delimiter: u8,
        format: &Format,
        user: usize,
        conversation: Option<(usize, usize)>,
        has_header: bool,
    ) -> Result<Layout, LayoutError> {
        Ok(Layout {
            delimiter,
            user,
            conversation,
            outcome: match has_header {
                true => find(first, None, OUTCOME_NAMES, "outcome")?,
                false => None,
            },
            types: format.types.clone(),
            header: has_header.then(|| first.iter().map(<[u8]>::to_vec).collect()),
        })
    }

    /// Whether a field of the record is the name of its column.
    pub fn has_name(&self, record: &CsvRecord, index: usize) -> bool {
        let name = self.header.as_ref().and_then(|header| header.get(index));
        match (name, record.get(index)) {
            (Some(name), Some(field)) => without_mark(field).trim_ascii().eq_ignore_ascii_case(name.trim_ascii()),
            _ => false,
        }
    }
}

/// Whether a field of the record is one of the usual `names`.
pub(super) fn is_name(record: &CsvRecord, index: usize, names: &[&str]) -> bool {
    record
        .get(index)
        .is_some_and(|field| is_one_of(names, without_mark(field)))
}

/// In concatenated files the second header may begin with a byte order mark.
fn without_mark(field: &[u8]) -> &[u8] {
    field.strip_prefix("\u{feff}".as_bytes()).unwrap_or(field)
}

/// Reads until the first record is complete, and no further, because standard input may be slow. Returns the bytes read
/// and a reader of the rest.
pub(super) fn first_record(
    mut reader: Box<dyn Read + Send>,
    delimiter: Option<u8>,
) -> io::Result<(Vec<u8>, impl BufRead + Send + use<>)> {
    let mut start = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = reader.read(&mut chunk)?;
        start.extend_from_slice(&chunk[..read]);
        if read == 0 || start.len() >= MAX_START || holds_first_record(&start, delimiter) {
            return Ok((start, BufReader::with_capacity(CHUNK, reader)));
        }
    }
}

/// Whether the first record ends within `start`, for any possible delimiter.
fn holds_first_record(start: &[u8], delimiter: Option<u8>) -> bool {
    let ends_here = |delimiter: &u8| {
        let mut records = CsvReader::new(start, *delimiter);
        to_first_record(&mut records)
            && records.current().error.is_none()
            && (!records.input().is_empty() || matches!(start.last(), Some(b'\n' | b'\r')))
    };
    match delimiter {
        Some(given) => ends_here(&given),
        None => DELIMITERS.iter().all(ends_here),
    }
}

/// Finds the layout from the first bytes of the input, which contain its whole first record or are the whole input.
/// `signature` is the first bytes before decoding.
pub(super) fn find_layout(start: &[u8], signature: &[u8], format: &Format, place: &str) -> Result<Layout, InputError> {
    let (line, columns, error) = match try_delimiters(start, format) {
        Ok(layout) if layout.conversation.is_some() || !user_layout::is_doubtful(&layout, start, signature, format) => {
            return Ok(layout);
        }
        Ok(layout) => user_layout::failure(start, layout.delimiter),
        Err(None) => {
            return Err(InputErrorKind::Empty(format.reads).of(place));
        }
        Err(Some(failure)) => failure,
    };
    if let Some((kind, advice)) = kind_of_file(start, signature, format.reads) {
        return Err(InputErrorKind::NotCsv { kind, advice }.of(place));
    }
    let (found, clue) = match format.encoding.is_none().then(|| not_utf8(start, format)).flatten() {
        Some((decoded, likely)) => (decoded.unwrap_or(columns), Some(LayoutClue::NotUtf8(likely))),
        None => (columns, clue(start, &error)),
    };
    let reads = format.reads;
    let unknown = UnknownLayout {
        error,
        reads,
        found,
        clue,
    };
    Err(InputErrorKind::Layout(Box::new(unknown)).at(place, line))
}

/// Tries each delimiter on the first record. `Err(None)` if there is no record. Otherwise its line, its fields and the
/// error for the delimiter that splits it into the most columns, which gives the most helpful message.
fn try_delimiters(start: &[u8], format: &Format) -> Result<Layout, Option<(u64, String, LayoutError)>> {
    let given = match format.reads {
        Reads::Rows => format.delimiter,
        Reads::Users => user_layout::delimiter(start, format),
    };
    let given = given.map(|delimiter| [delimiter]);
    let delimiters = given.as_ref().map_or(&DELIMITERS[..], |given| &given[..]);
    let mut best: Option<(usize, (u64, String, LayoutError))> = None;
    for &delimiter in delimiters {
        let mut records = CsvReader::new(start, delimiter);
        if !to_first_record(&mut records) {
            continue;
        }
        let first = records.current();
        match layout_of(&first, delimiter, format) {
            Ok(layout) => return Ok(layout),
            Err(error) => {
                if best.as_ref().is_none_or(|(columns, _)| *columns < first.len()) {
                    best = Some((first.len(), (first.line, names(&first), error)));
                }
            }
        }
    }
    Err(best.map(|(_, failure)| failure))
}

/// If the start is not UTF-8: the first record's fields in the most likely encoding, and that encoding.
fn not_utf8(start: &[u8], format: &Format) -> Option<(Option<String>, Option<&'static Encoding>)> {
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .find(|line| !line.trim_ascii().is_empty())?;
    if std::str::from_utf8(first_line).is_ok() || first_line.contains(&0) {
        return None;
    }
    let has_columns = |text: &str| has_columns(text, format);
    let fields = |text: &str| match try_delimiters(text.as_bytes(), format) {
        Err(Some((_, found, _))) => found,
        Err(None) => String::new(),
        Ok(layout) => {
            let mut records = CsvReader::new(text.as_bytes(), layout.delimiter);
            to_first_record(&mut records);
            names(&records.current())
        }
    };
    let [gbk, big5] = guesses(first_line);
    let fits = |guess: &Option<(String, _)>| guess.as_ref().is_some_and(|(text, _)| has_columns(text));
    let likely = if fits(&gbk) || (!fits(&big5) && is_paired(first_line)) {
        gbk
    } else {
        big5.filter(|(text, _)| has_columns(text))
    };
    Some(likely.map(|(text, encoding)| (fields(&text), encoding)).unzip())
}

/// Whether the first record of a decoded text shows its columns. As a user alone, any record could be read.
pub(super) fn has_columns(text: &str, format: &Format) -> bool {
    try_delimiters(text.as_bytes(), format).is_ok_and(|layout| layout.conversation.is_some() || layout.header.is_some())
}

/// Whether all bytes beyond ASCII come in pairs, as Chinese characters do in GBK.
fn is_paired(text: &[u8]) -> bool {
    text.chunk_by(|one, other| one.is_ascii() == other.is_ascii())
        .all(|run| run[0].is_ascii() || run.len().is_multiple_of(2))
}

/// What a start without a header probably is.
fn clue(start: &[u8], error: &LayoutError) -> Option<LayoutClue> {
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    match error {
        _ if first_line.contains(&0) => Some(LayoutClue::Utf16),
        _ if start.starts_with(b"sep=") => Some(LayoutClue::ExcelDelimiter),
        LayoutError::Missing(_) if first_line.contains(&b'|') => Some(LayoutClue::Pipes),
        _ => None,
    }
}

/// Advances to the first record that is not blank; returns `false` if there is none.
pub(super) fn to_first_record(records: &mut CsvReader<&[u8]>) -> bool {
    while records.advance().expect("reading from memory does not fail") {
        if !records.current().is_blank() {
            return true;
        }
    }
    false
}

fn layout_of(first: &CsvRecord, delimiter: u8, format: &Format) -> Result<Layout, LayoutError> {
    match format.reads {
        Reads::Rows => layout_of_rows(first, delimiter, format),
        Reads::Users => user_layout::layout_of(first, delimiter, format),
    }
}

fn layout_of_rows(first: &CsvRecord, delimiter: u8, format: &Format) -> Result<Layout, LayoutError> {
    let columns = &format.columns;
    let wanted = [
        (&columns.user, USER_NAMES, "user"),
        (&columns.conv, CONV_NAMES, "conv"),
        (&columns.conv_type, TYPE_NAMES, "type"),
    ];
    let mut found = [None; 3];
    for (place, (column, names, name)) in found.iter_mut().zip(wanted) {
        *place = match column {
            Some(ColumnRef::Number(number)) => Some(number.get() - 1).filter(|index| *index < first.len()),
            Some(ColumnRef::Name(name_given)) => find(first, Some(name_given), names, name)?,
            None => find(first, None, names, name)?,
        };
    }
    let is_type = |index: usize| {
        first
            .get(index)
            .is_some_and(|field| format.types.parse(field).is_some())
    };
    let is_numbered = wanted.map(|(column, ..)| matches!(column, Some(ColumnRef::Number(_))));
    let layout = |places: [usize; 3], has_header: bool| -> Result<Layout, LayoutError> {
        let [user, conv, conv_type] = places;
        if user == conv || user == conv_type || conv == conv_type {
            let twice = if user == conv { user } else { conv_type };
            return Err(LayoutError::Same(twice + 1));
        }
        Layout::new(first, delimiter, format, user, Some((conv, conv_type)), has_header)
    };
    if let [Some(user), Some(conv), Some(conv_type)] = found
        // Column numbers don't show whether there is a header; a type in its column does.
        && !(is_numbered == [true; 3] && is_type(conv_type))
    {
        return layout([user, conv, conv_type], true);
    }
    let is_named = wanted
        .iter()
        .any(|(column, ..)| matches!(column, Some(ColumnRef::Name(_))));
    let usual = [0, 1, 2];
    let places = [0, 1, 2].map(|at| if is_numbered[at] { found[at] } else { Some(usual[at]) });
    if !is_named
        && let [Some(user), Some(conv), Some(conv_type)] = places
        && is_type(conv_type)
    {
        return layout([user, conv, conv_type], false);
    }
    let missing = wanted
        .iter()
        .zip(found)
        .filter(|(_, found)| found.is_none())
        .map(|((given, _, column), _)| MissingColumn {
            column,
            given: (*given).clone(),
            columns: first.len(),
        })
        .collect();
    Err(LayoutError::Missing(missing))
}

/// Whether a header's field is one of the usual `names`, ignoring case and surrounding blanks.
pub(super) fn is_one_of(names: &[&str], field: &[u8]) -> bool {
    std::str::from_utf8(field).is_ok_and(|field| names.iter().any(|name| field.trim().eq_ignore_ascii_case(name)))
}

/// The index of the one column with the `mapped` name or one of the usual `names`, ignoring case and surrounding blanks.
pub(super) fn find(
    first: &CsvRecord,
    mapped: Option<&str>,
    names: &[&str],
    column: &'static str,
) -> Result<Option<usize>, LayoutError> {
    let is_it = |field: &[u8]| match mapped {
        Some(name) => std::str::from_utf8(field).is_ok_and(|field| field.trim() == name),
        None => is_one_of(names, field),
    };
    let matches = |is_it: &dyn Fn(&[u8]) -> bool| -> Vec<usize> {
        first
            .iter()
            .enumerate()
            .filter(|(_, field)| is_it(field))
            .map(|(index, _)| index)
            .collect()
    };
    let mut found = matches(&is_it);
    if found.is_empty() {
        // Without an exact match, a mapped name matches in any case.
        if let Some(name) = mapped {
            let in_any_case = |field: &[u8]| {
                std::str::from_utf8(field).is_ok_and(|field| field.trim().to_lowercase() == name.to_lowercase())
            };
            found = matches(&in_any_case);
        }
    }
    match found[..] {
        [] => Ok(None),
        [index] => Ok(Some(index)),
        _ => {
            let headers = found.iter().filter_map(|&index| first.get(index));
            Err(LayoutError::Twice(
                column,
                headers
                    .map(|name| String::from_utf8_lossy(name).trim().to_owned())
                    .collect(),
            ))
        }
    }
}

/// The first record's fields, for a message.
pub(super) fn names(first: &CsvRecord) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = first
        .iter()
        .take(SHOWN)
        .map(|field| {
            let field = String::from_utf8_lossy(field);
            let short: String = field.chars().take(40).collect();
            format!("'{}'", one_line(&short))
        })
        .collect();
    if first.len() > SHOWN {
        names.push(format!("and {} more", first.len() - SHOWN));
    }
    names.join(", ")
}
