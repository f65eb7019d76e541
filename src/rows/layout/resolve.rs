//! Which column is which: what the first record shows, and what the caller says about it.

use super::first_record::FirstRecord;
use crate::csv_reader::CsvRecord;
use crate::row::Column;
use crate::rows::columns::{AssumedUser, ColumnRef, Columns, FoundColumns};
use crate::rows::error::{LayoutProblem, MissingColumn};
use crate::rows::format::{Format, Reads};
use crate::rows::types::Types;

/// How the records of an input are read, as rows or as users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rows) struct Layout {
    pub delimiter: u8,
    pub user: usize,
    /// The columns of the conversation and its type; `None` if users are read.
    pub conversation: Option<(usize, usize)>,
    pub outcome: Option<usize>,
    /// The words for the types.
    pub types: Types,
    /// The names of all columns, if there is a header.
    pub header: Option<Vec<Vec<u8>>>,
    /// The line of the first record.
    first_line: u64,
    /// Set if nothing says that the first column is the user.
    pub assumed_user: Option<AssumedUser>,
}

/// Why no delimiter gives a layout: the problem with the one that divides the first record into the most columns, which
/// gives the most helpful message.
pub(super) struct Unresolved {
    pub line: u64,
    /// The fields, for a message.
    pub found: String,
    pub problem: LayoutProblem,
}

impl Unresolved {
    pub fn new(first: &FirstRecord, problem: LayoutProblem) -> Unresolved {
        Unresolved {
            line: first.line,
            found: first.shown(),
            problem,
        }
    }
}

impl Layout {
    /// Finds the layout from the possible first records. Fails with `None` if there is no record.
    pub(super) fn resolve(guesses: &[FirstRecord], format: &Format) -> Result<Layout, Option<Unresolved>> {
        match format.reads {
            Reads::Rows => Layout::resolve_first(guesses, |first| rows(first, format)),
            Reads::Users => Layout::resolve_first(candidates_for_users(guesses, format), |first| users(first, format)),
            Reads::RowsOrUsers => Layout::resolve_first(guesses, |first| rows(first, format)).or_else(|unresolved| {
                let mut lists = candidates_for_users(guesses, format).iter();
                let list = lists.find(|first| is_list_of_users(first, &format.columns));
                list.and_then(|first| users(first, format).ok()).ok_or(unresolved)
            }),
        }
    }

    /// The layout of the first candidate that has one.
    fn resolve_first(
        candidates: &[FirstRecord],
        layout: impl Fn(&FirstRecord) -> Result<Layout, LayoutProblem>,
    ) -> Result<Layout, Option<Unresolved>> {
        let mut failed: Option<(&FirstRecord, LayoutProblem)> = None;
        for first in candidates {
            match layout(first) {
                Ok(layout) => return Ok(layout),
                Err(problem)
                    if failed
                        .as_ref()
                        .is_none_or(|(best, _)| best.fields.len() < first.fields.len()) =>
                {
                    failed = Some((first, problem));
                }
                Err(_) => {}
            }
        }
        Err(failed.map(|(first, problem)| Unresolved::new(first, problem)))
    }

    fn new(
        first: &FirstRecord,
        format: &Format,
        user: usize,
        conversation: Option<(usize, usize)>,
        has_header: bool,
    ) -> Result<Layout, LayoutProblem> {
        Ok(Layout {
            delimiter: first.delimiter,
            user,
            conversation,
            outcome: if has_header {
                named(first, Column::Outcome)?
            } else {
                None
            },
            types: format.types.clone(),
            header: has_header.then(|| first.fields.clone()),
            first_line: first.line,
            assumed_user: None,
        })
    }

    /// Where the columns are, for people.
    pub fn columns(&self) -> FoundColumns {
        let (conv, conv_type) = self.conversation.unzip();
        FoundColumns {
            header: self.header.is_some().then_some(self.first_line),
            user: self.user + 1,
            conv: conv.map(|index| index + 1),
            conv_type: conv_type.map(|index| index + 1),
        }
    }

    /// Whether the record is this header, or a usual one: files may have been concatenated.
    pub fn is_header(&self, record: &CsvRecord) -> bool {
        match self.conversation {
            Some((conv, conv_type)) => {
                let columns = [
                    (self.user, Column::User),
                    (conv, Column::Conv),
                    (conv_type, Column::Type),
                ];
                columns.iter().all(|&(index, _)| self.has_own_name(record, index))
                    || columns
                        .iter()
                        .all(|&(index, column)| usual_name(record, index) == Some(column))
            }
            None => self.is_header_of_users(record),
        }
    }

    /// With several columns, more than one of the fields must be a name: a user may be called `user`.
    fn is_header_of_users(&self, record: &CsvRecord) -> bool {
        let other_has_name =
            || (0..record.len()).any(|index| usual_name(record, index).is_some_and(|column| column != Column::User));
        let is_usual = usual_name(record, self.user) == Some(Column::User) && (record.len() == 1 || other_has_name());
        let columns = self.header.as_ref().map(Vec::len);
        is_usual || (columns == Some(record.len()) && (0..record.len()).all(|index| self.has_own_name(record, index)))
    }

    /// Whether a field of the record is the name of its column.
    fn has_own_name(&self, record: &CsvRecord, index: usize) -> bool {
        let name = self.header.as_ref().and_then(|header| header.get(index));
        match (name, record.get(index)) {
            (Some(name), Some(field)) => without_mark(field).trim_ascii().eq_ignore_ascii_case(name.trim_ascii()),
            _ => false,
        }
    }
}

/// The column that has a field of the record as its usual name.
fn usual_name(record: &CsvRecord, index: usize) -> Option<Column> {
    Column::of_name(without_mark(record.get(index)?))
}

/// In concatenated files the second header may begin with a byte order mark.
fn without_mark(field: &[u8]) -> &[u8] {
    field.strip_prefix("\u{feff}".as_bytes()).unwrap_or(field)
}

/// Reads the record as a header with all three columns, or else as a row of user, conversation and type.
fn rows(first: &FirstRecord, format: &Format) -> Result<Layout, LayoutProblem> {
    let Columns { user, conv, conv_type } = &format.columns;
    let wanted = [(Column::User, user), (Column::Conv, conv), (Column::Type, conv_type)];
    let mut found = [None; 3];
    for (index, (column, given)) in found.iter_mut().zip(wanted) {
        *index = find(first, column, given)?;
    }
    let layout = |[user, conv, conv_type]: [usize; 3], has_header| -> Result<Layout, LayoutProblem> {
        if user == conv || user == conv_type || conv == conv_type {
            let shared = if user == conv { user } else { conv_type };
            return Err(LayoutProblem::Shared(shared + 1));
        }
        Layout::new(first, format, user, Some((conv, conv_type)), has_header)
    };
    let is_numbered = wanted.map(|(_, given)| matches!(given, Some(ColumnRef::Number(_))));
    if let [Some(user), Some(conv), Some(conv_type)] = found {
        let indexes = [user, conv, conv_type];
        // Column numbers don't show whether there is a header; the fields of these columns do.
        let has_header = is_numbered != [true; 3]
            || (!first.is_type(conv_type, &format.types) && indexes.iter().any(|index| first.is_header_word(*index)));
        return layout(indexes, has_header);
    }
    let is_named = wanted
        .iter()
        .any(|(_, given)| matches!(given, Some(ColumnRef::Name(_))));
    let in_usual_order = [0, 1, 2].map(|index| if is_numbered[index] { found[index] } else { Some(index) });
    if let [Some(user), Some(conv), Some(conv_type)] = in_usual_order
        && !is_named
        && first.is_type(conv_type, &format.types)
    {
        return layout([user, conv, conv_type], false);
    }
    let missing = wanted.iter().zip(found).filter(|(_, found)| found.is_none());
    let missing = missing.map(|((column, given), _)| MissingColumn {
        column: *column,
        given: (*given).clone(),
        columns: first.fields.len(),
    });
    Err(LayoutProblem::Missing(missing.collect()))
}

/// The first records that users may be read from: that of the given delimiter, or of the one with which it has several
/// columns and is a header or a row. Otherwise that of a comma, because a user's ID may have semicolons in it; but all of
/// them if only the user's column, by its name or number, can show the delimiter.
fn candidates_for_users<'a>(guesses: &'a [FirstRecord], format: &Format) -> &'a [FirstRecord] {
    let given = &format.columns.user;
    if matches!(given, Some(ColumnRef::Name(_))) {
        return guesses;
    }
    match guesses.iter().position(|first| first.has_known_columns(&format.types)) {
        Some(shown) => &guesses[shown..=shown],
        None if given.is_some() => guesses,
        None => {
            let default = format.delimiter.unwrap_or(b',');
            let index = guesses.iter().position(|first| first.delimiter == default);
            index.map_or(&[], |index| &guesses[index..=index])
        }
    }
}

/// Reads the record as a header with a column of users, or else as one that begins with a user.
fn users(first: &FirstRecord, format: &Format) -> Result<Layout, LayoutProblem> {
    let given = &format.columns.user;
    let has_names = first.is_header() || matches!(given, Some(ColumnRef::Name(_)));
    let user = if has_names || given.is_some() {
        find(first, Column::User, given)?
    } else {
        Some(0)
    };
    match user {
        Some(user) => {
            let layout = Layout::new(first, format, user, None, has_names || first.is_header_word(user))?;
            let is_assumed = layout.header.is_none() && given.is_none() && first.fields.len() > 1;
            Ok(Layout {
                // A row's first column is its user.
                assumed_user: (is_assumed && !first.is_type(2, &format.types)).then(|| AssumedUser {
                    line: first.line,
                    columns: first.fields.len(),
                    first: first.shown_field(0),
                }),
                ..layout
            })
        }
        None => Err(LayoutProblem::Missing(vec![MissingColumn {
            column: Column::User,
            given: given.clone(),
            columns: first.fields.len(),
        }])),
    }
}

/// Whether the record can only be that of a list of users.
fn is_list_of_users(first: &FirstRecord, columns: &Columns) -> bool {
    let is_of_rows = |name: &Option<Column>| matches!(name, Some(Column::Conv | Column::Type));
    let has_header = first.is_header() || first.is_header_word(0) || columns.user.is_some();
    columns.conv.is_none()
        && columns.conv_type.is_none()
        && !first.names.iter().any(is_of_rows)
        && (has_header || first.fields.len() < 3)
}

/// The index of a column: as it is given, or by its usual names.
fn find(first: &FirstRecord, column: Column, given: &Option<ColumnRef>) -> Result<Option<usize>, LayoutProblem> {
    match given {
        None => named(first, column),
        Some(ColumnRef::Number(number)) => Ok(Some(number.get() - 1).filter(|index| *index < first.fields.len())),
        Some(ColumnRef::Name(name)) => {
            let text = |index: usize| std::str::from_utf8(&first.fields[index]).map(str::trim).ok();
            let exactly = only_one(first, column, |index| text(index) == Some(name))?;
            match exactly {
                Some(index) => Ok(Some(index)),
                None => only_one(first, column, |index| {
                    text(index).is_some_and(|text| text.to_lowercase() == name.to_lowercase())
                }),
            }
        }
    }
}

/// The index of the one column with a usual name.
fn named(first: &FirstRecord, column: Column) -> Result<Option<usize>, LayoutProblem> {
    only_one(first, column, |index| first.names[index] == Some(column))
}

fn only_one(
    first: &FirstRecord,
    column: Column,
    matches: impl Fn(usize) -> bool,
) -> Result<Option<usize>, LayoutProblem> {
    let found: Vec<usize> = (0..first.fields.len()).filter(|index| matches(*index)).collect();
    match found[..] {
        [] => Ok(None),
        [index] => Ok(Some(index)),
        _ => {
            let header = |index: &usize| String::from_utf8_lossy(&first.fields[*index]).trim().to_owned();
            Err(LayoutProblem::Ambiguous(column, found.iter().map(header).collect()))
        }
    }
}
