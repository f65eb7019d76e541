//! Which column is the user, if an input is read as users: any first record could be one, so the header must be recognised.

use super::columns::ColumnRef;
use super::encoding::guesses;
use super::file_kind::is_certainly_not_csv;
use super::format::Format;
use super::layout::{
    CONV_NAMES, DELIMITERS, Layout, OUTCOME_NAMES, TYPE_NAMES, USER_NAMES, find, has_columns, is_name, names,
    to_first_record,
};
use super::layout_error::{LayoutError, MissingColumn};
use crate::csv_reader::{CsvReader, CsvRecord};

/// The names that show a header, beside those of the user: of rows, reports and list reports.
const OTHER_NAMES: [&[&str]; 4] = [CONV_NAMES, TYPE_NAMES, OUTCOME_NAMES, &["line"]];

/// The delimiter: the given one, or one with which the first record has several columns and is a header or a row. Otherwise
/// the first record is a user, who may have semicolons in the ID, and it is the comma; or it is `None` if the user's column
/// shows it.
pub(super) fn delimiter(start: &[u8], format: &Format) -> Option<u8> {
    let user = &format.columns.user;
    if format.delimiter.is_some() || matches!(user, Some(ColumnRef::Name(_))) {
        return format.delimiter;
    }
    let shown = DELIMITERS
        .into_iter()
        .find(|delimiter| shows_columns(start, *delimiter, format));
    shown.or(user.is_none().then_some(b','))
}

fn shows_columns(start: &[u8], delimiter: u8, format: &Format) -> bool {
    let mut records = CsvReader::new(start, delimiter);
    let has_record = to_first_record(&mut records);
    let first = records.current();
    let is_row = first.get(2).is_some_and(|field| format.types.parse(field).is_some());
    has_record && first.len() > 1 && (is_row || has_usual_name(&first))
}

/// The layout that the first record shows with this delimiter.
pub(super) fn layout_of(first: &CsvRecord, delimiter: u8, format: &Format) -> Result<Layout, LayoutError> {
    let given = &format.columns.user;
    let has_header = has_usual_name(first) || matches!(given, Some(ColumnRef::Name(_)));
    let user = match given {
        Some(ColumnRef::Number(number)) => Some(number.get() - 1).filter(|index| *index < first.len()),
        Some(ColumnRef::Name(name)) => find(first, Some(name), USER_NAMES, "user")?,
        None if has_header => find(first, None, USER_NAMES, "user")?,
        None => Some(0),
    };
    match user {
        Some(user) => Layout::new(first, delimiter, format, user, None, has_header),
        None => Err(missing(first, given)),
    }
}

fn missing(first: &CsvRecord, given: &Option<ColumnRef>) -> LayoutError {
    LayoutError::Missing(vec![MissingColumn {
        column: "user",
        given: given.clone(),
        columns: first.len(),
    }])
}

fn has_usual_name(record: &CsvRecord) -> bool {
    (0..record.len()).any(|index| is_name(record, index, USER_NAMES) || is_other_name(record, index))
}

fn is_other_name(record: &CsvRecord, index: usize) -> bool {
    OTHER_NAMES.iter().any(|names| is_name(record, index, names))
}

/// Whether the record is this header, or a usual one. With several columns, more than one of its fields must be a name: a
/// user may be called `user`.
pub(super) fn is_header(layout: &Layout, record: &CsvRecord) -> bool {
    let is_ours = || {
        let columns = layout.header.as_ref().map(Vec::len);
        columns == Some(record.len()) && (0..record.len()).all(|index| layout.has_name(record, index))
    };
    let is_usual = || {
        let mut others = (0..record.len()).filter(|index| *index != layout.user);
        record.len() == 1 || others.any(|index| is_other_name(record, index))
    };
    (is_name(record, layout.user, USER_NAMES) && is_usual()) || (layout.has_name(record, layout.user) && is_ours())
}

/// Whether a first record without a header is more likely something else than a user.
pub(super) fn is_doubtful(layout: &Layout, start: &[u8], signature: &[u8], format: &Format) -> bool {
    if layout.header.is_some() {
        return false;
    }
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .find(|line| !line.trim_ascii().is_empty())
        .unwrap_or_default();
    let is_in_another_encoding = || {
        let guesses = guesses(first_line).into_iter().flatten();
        format.encoding.is_none()
            && std::str::from_utf8(first_line).is_err()
            && guesses.into_iter().any(|(text, _)| has_columns(&text, format))
    };
    first_line.contains(&0)
        || is_certainly_not_csv(start, signature)
        || start.starts_with(b"sep=")
        || (format.delimiter.is_none() && shows_columns(start, b'|', format))
        || is_in_another_encoding()
}

/// What to say about a doubtful first record: its line, its fields, and that there is no user.
pub(super) fn failure(start: &[u8], delimiter: u8) -> (u64, String, LayoutError) {
    let mut records = CsvReader::new(start, delimiter);
    to_first_record(&mut records);
    let first = records.current();
    (first.line, names(&first), missing(&first, &None))
}
