//! Which column is which: from the header line, from what the caller says, or from the shape of a first record without
//! header.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use encoding_rs::Encoding;

use super::{Format, InputError, Types};
use crate::csv_reader::{CsvReader, CsvRecord};

/// Delimiters tried, in this order: a comma can't be part of an ID, the others can.
pub(super) const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

const USER_NAMES: &[&str] = &["user", "fromuserid", "from_user_id", "user_id", "userid", "用户id"];
const CONV_NAMES: &[&str] = &[
    "conv",
    "convid",
    "conv_id",
    "conversationid",
    "conversation_id",
    "会话id",
];
const TYPE_NAMES: &[&str] = &[
    "type",
    "convtype",
    "conv_type",
    "conversationtype",
    "conversation_type",
    "会话类型",
];
const OUTCOME_NAMES: &[&str] = &["outcome"];

/// How a file's records are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub delimiter: u8,
    pub user: usize,
    pub conv: usize,
    pub conv_type: usize,
    pub outcome: Option<usize>,
    /// The words for the types.
    pub types: Types,
    /// The header's user, conversation and type, if there is a header.
    pub header: Option<[Vec<u8>; 3]>,
}

impl Layout {
    /// Whether these fields are the header's, or those of another file's usual header.
    pub fn is_header(&self, fields: [Option<&[u8]>; 3]) -> bool {
        let [Some(user), Some(conv), Some(conv_type)] = fields else {
            return false;
        };
        // Where files were joined, the second one's byte order mark stands before its header.
        let mark = "\u{feff}".as_bytes();
        let fields = [user, conv, conv_type].map(|field| field.strip_prefix(mark).unwrap_or(field));
        let is_ours = self.header.as_ref().is_some_and(|header| {
            let is_alike = |(one, other): (&[u8], &Vec<u8>)| one.trim_ascii().eq_ignore_ascii_case(other.trim_ascii());
            fields.into_iter().zip(header).all(is_alike)
        });
        is_ours
            || [USER_NAMES, CONV_NAMES, TYPE_NAMES]
                .into_iter()
                .zip(fields)
                .all(|(names, field)| is_one_of(names, field))
    }
}

/// Where a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRef {
    /// Where the header has this name.
    Name(String),
    /// The column with this number, from 1.
    Number(NonZeroUsize),
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnRef::Name(name) => f.write_str(name),
            ColumnRef::Number(number) => number.fmt(f),
        }
    }
}

/// Which columns are the user, the conversation and the type, read from text like `user=A,conv=B,type=C`: header names,
/// or numbers from 1. What is not mentioned keeps its usual names, or without a header its usual place.
///
/// ```
/// use zim_batch::rows::{ColumnRef, Columns};
///
/// let columns: Columns = "user=2, conv=Room ID".parse()?;
/// assert_eq!(columns.conv, Some(ColumnRef::Name("Room ID".into())));
/// assert!(matches!(columns.user, Some(ColumnRef::Number(number)) if number.get() == 2));
/// assert!("colour=red".parse::<Columns>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The users' column.
    pub user: Option<ColumnRef>,
    /// The conversations' column.
    pub conv: Option<ColumnRef>,
    /// The types' column.
    pub conv_type: Option<ColumnRef>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for pair in text.split(',') {
            let (key, name) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not KEY=NAME; write user=A,conv=B,type=C"))?;
            let place = match key.trim() {
                "user" => &mut columns.user,
                "conv" => &mut columns.conv,
                "type" => &mut columns.conv_type,
                other => {
                    return Err(format!(
                        "'{other}' is not a column; the columns are user, conv and type"
                    ));
                }
            };
            let name = name.trim();
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            let column = match (is_number, name.parse()) {
                _ if name.is_empty() => return Err(format!("'{}' has no name after the '='", key.trim())),
                (true, Ok(number)) => ColumnRef::Number(number),
                (true, Err(_)) => return Err(format!("'{name}' is no column; columns are numbered from 1")),
                (false, _) => ColumnRef::Name(name.to_owned()),
            };
            if place.replace(column).is_some() {
                return Err(format!("'{}' is given twice", key.trim()));
            }
        }
        let given = [&columns.user, &columns.conv, &columns.conv_type];
        for (index, column) in given.iter().enumerate() {
            if let Some(column) = column
                && given[..index].iter().any(|other| other.as_ref() == Some(column))
            {
                return Err(format!("'{column}' can't be two columns at once"));
            }
        }
        Ok(columns)
    }
}

/// As [`Columns::from_str`] reads it.
impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [("user", &self.user), ("conv", &self.conv), ("type", &self.conv_type)];
        let given = pairs
            .into_iter()
            .filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?)));
        f.write_str(&given.collect::<Vec<_>>().join(","))
    }
}

/// Finds the layout from the first bytes of the input, which hold its first record whole (or are all there is).
/// `signature` is what the file began with before anything was decoded.
pub(super) fn find_layout(start: &[u8], signature: &[u8], format: &Format, place: &str) -> Result<Layout, InputError> {
    let (line, columns, problem) = match try_delimiters(start, format) {
        Ok(layout) => return Ok(layout),
        Err(None) => {
            return Err(InputError::Empty {
                place: place.to_owned(),
            });
        }
        Err(Some(first_try)) => first_try,
    };
    if let Some((kind, advice)) = kind_of_file(start, signature) {
        return Err(InputError::NotCsv {
            place: place.to_owned(),
            kind,
            advice,
        });
    }
    let (found, clue) = match format.encoding.is_none().then(|| not_utf8(start, format)).flatten() {
        Some((decoded, likely)) => (decoded.unwrap_or(columns), Some(LayoutClue::NotUtf8(likely))),
        None => (columns, clue(start, &problem)),
    };
    Err(InputError::Layout {
        place: place.to_owned(),
        line,
        problem,
        found,
        clue,
    })
}

/// Tries each delimiter on the first record. `Err(None)` if there is no record; else its line, its fields and the
/// problem, as the delimiter sees it that splits the record into the most columns: that gives the most helpful message.
fn try_delimiters(start: &[u8], format: &Format) -> Result<Layout, Option<(u64, String, LayoutError)>> {
    let given = format.delimiter.map(|delimiter| [delimiter]);
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
            Err(problem) => {
                if best.as_ref().is_none_or(|(columns, _)| *columns < first.len()) {
                    best = Some((first.len(), (first.line, names(&first), problem)));
                }
            }
        }
    }
    Err(best.map(|(_, first_try)| first_try))
}

/// Files that people take for a CSV: what they begin with, what they are, and what to do about it.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (
        b"PK\x03\x04",
        "an Excel workbook (.xlsx) or a ZIP archive",
        "save it as CSV (UTF-8), or unpack it, and take that",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls)",
        "save it as CSV (UTF-8) and take that",
    ),
    (b"\xfd7zX", "a file packed by xz", "unpack it first (xz -d)"),
    (b"\x1f\x9d", "a file packed by compress", "unpack it first (gzip -d)"),
    (b"\x04\x22\x4d\x18", "a file packed by lz4", "unpack it first (lz4 -d)"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (
        b"PAR1",
        "a Parquet file",
        "export it as CSV with a user, a conversation and a type",
    ),
    (
        b"Obj\x01",
        "an Avro file",
        "export it as CSV with a user, a conversation and a type",
    ),
    (
        b"SQLi",
        "an SQLite database",
        "export it as CSV with a user, a conversation and a type",
    ),
    (b"%PDF", "a PDF", "export the rows as CSV from where it was made"),
];

/// What kind of file it is, if no CSV, and what to do about it.
fn kind_of_file(start: &[u8], signature: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Some((_, kind, advice)) = SIGNATURES.iter().find(|(magic, ..)| signature.starts_with(magic)) {
        return Some((kind, advice));
    }
    if matches!(signature, [b'B', b'Z', b'h', b'1'..=b'9']) {
        return Some(("a file packed by bzip2", "unpack it first (bzip2 -d)"));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it first (tar -x)"));
    }
    match start.trim_ascii_start() {
        [b'{' | b'[', ..] => Some((
            "JSON",
            "make it a CSV first, for instance with jq -r '.[] | [.user, .conv, .type] | @csv'",
        )),
        [b'<', ..] => Some(("HTML or XML", "export the rows as CSV from where it was made")),
        _ => None,
    }
}

/// If the start is not UTF-8: the encoding that it most likely is in, and the first record's fields in it.
fn not_utf8(start: &[u8], format: &Format) -> Option<(Option<String>, Option<&'static Encoding>)> {
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .find(|line| !line.trim_ascii().is_empty())?;
    if std::str::from_utf8(first_line).is_ok() || first_line.contains(&0) {
        return None;
    }
    let decoded_by = |encoding: &'static Encoding| encoding.decode_without_bom_handling(first_line).0;
    let has_columns = |text: &str| try_delimiters(text.as_bytes(), format).is_ok();
    let fields = |text: &str| match try_delimiters(text.as_bytes(), format) {
        Err(Some((_, found, _))) => found,
        Err(None) => String::new(),
        Ok(layout) => {
            let mut records = CsvReader::new(text.as_bytes(), layout.delimiter);
            to_first_record(&mut records);
            names(&records.current())
        }
    };
    let gbk = decoded_by(encoding_rs::GBK);
    let big5 = decoded_by(encoding_rs::BIG5);
    Some(if has_columns(&gbk) || (!has_columns(&big5) && is_paired(first_line)) {
        (Some(fields(&gbk)), Some(encoding_rs::GBK))
    } else if has_columns(&big5) {
        (Some(fields(&big5)), Some(encoding_rs::BIG5))
    } else {
        (None, None)
    })
}

/// Whether all bytes beyond ASCII come in pairs, as Chinese characters do in GBK.
fn is_paired(text: &[u8]) -> bool {
    text.chunk_by(|one, other| one.is_ascii() == other.is_ascii())
        .all(|run| run[0].is_ascii() || run.len().is_multiple_of(2))
}

/// What a start that is no header most likely is.
fn clue(start: &[u8], problem: &LayoutError) -> Option<LayoutClue> {
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    match problem {
        _ if first_line.contains(&0) => Some(LayoutClue::Utf16),
        _ if start.starts_with(b"sep=") => Some(LayoutClue::ExcelDelimiter),
        LayoutError::Missing(_) if first_line.contains(&b'|') => Some(LayoutClue::Pipes),
        _ => None,
    }
}

/// Goes to the first record that is not blank; `false` if there is none.
pub(super) fn to_first_record(records: &mut CsvReader<&[u8]>) -> bool {
    while records.advance().expect("reading from memory does not fail") {
        if !records.current().is_blank() {
            return true;
        }
    }
    false
}

/// Why the first record does not tell which column is which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No column has one of the names that these have.
    #[error("no column for {}", joined(.0))]
    Missing(Vec<MissingColumn>),
    /// Several columns could be it: which, and their headers.
    #[error("more than one column for {} ({})", .0, .1.join(", "))]
    Twice(&'static str, Vec<String>),
    /// The column with this number, from 1, would be two of user, conversation and type.
    #[error("column {0} would be two of user, conv and type")]
    Same(usize),
}

/// A column that was not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingColumn {
    /// Which: `user`, `conv` or `type`.
    pub column: &'static str,
    /// What [`Columns`] says of it.
    pub given: Option<ColumnRef>,
    /// How many columns there are.
    pub columns: usize,
}

impl fmt::Display for MissingColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.given {
            None => f.write_str(self.column),
            Some(ColumnRef::Name(name)) => write!(f, "{} ('{name}')", self.column),
            Some(ColumnRef::Number(number)) => {
                write!(f, "{} (column {number}, and there are {})", self.column, self.columns)
            }
        }
    }
}

fn joined(columns: &[MissingColumn]) -> String {
    let names: Vec<String> = columns.iter().map(MissingColumn::to_string).collect();
    names.join(", ")
}

/// What a first record that does not tell the columns most likely is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayoutClue {
    /// Text in another encoding; the one that it most likely is, if that shows.
    NotUtf8(Option<&'static Encoding>),
    /// UTF-16 without a byte order mark.
    Utf16,
    /// A line for Excel that names the delimiter.
    ExcelDelimiter,
    /// A record with `|` in it, which may be the delimiter.
    Pipes,
}

impl fmt::Display for LayoutClue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutClue::NotUtf8(None) => f.write_str("The text is not UTF-8"),
            LayoutClue::NotUtf8(Some(likely)) => {
                let windows = if *likely == encoding_rs::GBK {
                    " (Chinese Windows)"
                } else {
                    ""
                };
                write!(f, "The text is not UTF-8 but most likely {}{windows}", likely.name())
            }
            LayoutClue::Utf16 => f.write_str("The text looks like UTF-16 without a byte order mark"),
            LayoutClue::ExcelDelimiter => f.write_str("The first line names Excel's delimiter"),
            LayoutClue::Pipes => f.write_str("Perhaps '|' is the delimiter"),
        }
    }
}

fn layout_of(first: &CsvRecord, delimiter: u8, format: &Format) -> Result<Layout, LayoutError> {
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
        let header = places.map(|index| first.get(index).unwrap_or_default().to_vec());
        Ok(Layout {
            delimiter,
            user,
            conv,
            conv_type,
            outcome: match has_header {
                true => find(first, None, OUTCOME_NAMES, "outcome")?,
                false => None,
            },
            types: format.types.clone(),
            header: has_header.then_some(header),
        })
    };
    if let [Some(user), Some(conv), Some(conv_type)] = found
        // Numbers alone don't tell whether there is a header; a type in its column does.
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

/// Whether a header's field is one of the usual `names`, ignoring case and blanks around.
fn is_one_of(names: &[&str], field: &[u8]) -> bool {
    std::str::from_utf8(field).is_ok_and(|field| names.iter().any(|name| field.trim().eq_ignore_ascii_case(name)))
}

/// The index of the one column with the mapped name or one of the usual `names`, ignoring case and blanks around.
fn find(
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
        // A mapped name in another case is still meant.
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
fn names(first: &CsvRecord) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = first
        .iter()
        .take(SHOWN)
        .map(|field| {
            let field = String::from_utf8_lossy(field);
            let short: String = field
                .chars()
                .take(40)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            format!("'{short}'")
        })
        .collect();
    if first.len() > SHOWN {
        names.push(format!("and {} more", first.len() - SHOWN));
    }
    names.join(", ")
}
