//! Which column is which: what the first record shows, and what the caller says about it.

use super::columns::{ColumnRef, Columns, FoundColumns};
use super::error::{LayoutProblem, MissingColumn};
use super::first_record::FirstRecord;
use super::format::{Format, Reads};
use super::types::Types;
use crate::csv_reader::CsvRecord;
use crate::row::Column;

/// How the records of an input are read, as rows or as users.
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
    /// The line of the first record.
    first_line: u64,
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
    pub fn resolve(guesses: &[FirstRecord], format: &Format) -> Result<Layout, Option<Unresolved>> {
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
        Some(user) => Layout::new(first, format, user, None, has_names || first.is_header_word(user)),
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
    is_it: impl Fn(usize) -> bool,
) -> Result<Option<usize>, LayoutProblem> {
    let found: Vec<usize> = (0..first.fields.len()).filter(|index| is_it(*index)).collect();
    match found[..] {
        [] => Ok(None),
        [index] => Ok(Some(index)),
        _ => {
            let header = |index: &usize| String::from_utf8_lossy(&first.fields[*index]).trim().to_owned();
            Err(LayoutProblem::Ambiguous(column, found.iter().map(header).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoding::encoding;
    use super::super::format::Reads;
    use super::super::parsed::ParsedRow;
    use super::super::reader::Rows;
    use super::*;

    fn open(bytes: &[u8], columns: &str, format: Format) -> Result<Rows, String> {
        let format = Format {
            reads: Reads::Users,
            columns: columns.parse().unwrap_or_default(),
            ..format
        };
        let reader = Box::new(std::io::Cursor::new(bytes.to_vec()));
        Rows::from_reader(reader, "input", &format).map_err(|error| error.to_string())
    }

    /// Each user with the line, or what is wrong with it.
    fn read(bytes: impl AsRef<[u8]>, columns: &str, format: Format) -> Vec<(u64, String)> {
        let bytes = bytes.as_ref();
        let rows = open(bytes, columns, format).unwrap_or_else(|error| panic!("{error}"));
        rows.map(|row| match row.unwrap() {
            ParsedRow::Row(row) => {
                assert_eq!(row.item.conv(), "");
                (row.line, row.item.user().to_owned())
            }
            ParsedRow::Invalid(row) => {
                assert_eq!((row.conv, row.conv_type), (String::new(), String::new()));
                (row.line, format!("invalid: {}", row.error))
            }
        })
        .collect()
    }

    fn users(bytes: impl AsRef<[u8]>, columns: &str) -> Vec<String> {
        let users = read(bytes, columns, Format::default());
        users.into_iter().map(|(_, user)| user).collect()
    }

    fn error(bytes: impl AsRef<[u8]>, columns: &str, format: Format) -> String {
        open(bytes.as_ref(), columns, format).expect_err("it is no list of users")
    }

    #[test]
    fn a_header_is_recognised_by_its_user_column_alone() {
        for name in [
            "user",
            "FromUserId",
            "from_user_id",
            "USER_ID",
            "UserId",
            " user ",
            "用户ID",
        ] {
            assert_eq!(users(format!("{name}\nalice\n"), ""), ["alice"], "{name}");
            assert_eq!(users(format!("\u{feff}{name}\nalice\n"), ""), ["alice"], "{name}");
            assert_eq!(users(format!("id,{name}\n1,alice\n"), ""), ["alice"], "{name}");
            for delimiter in ["\t", ";"] {
                let csv = format!("note{delimiter}{name}\na{delimiter}alice\n");
                assert_eq!(users(csv, ""), ["alice"], "{name} {delimiter:?}");
            }
        }
    }

    #[test]
    fn without_a_header_the_first_column_is_the_user() {
        for (csv, expected) in [
            ("alice\nbob", &["alice", "bob"][..]),
            ("\r\nalice\r\n\r\nbob\r\n", &["alice", "bob"]),
            ("alice,Alice\nbob,Bob\n", &["alice", "bob"]),
            // An ID may have these in it.
            ("alice;bob\ncarol\n", &["alice;bob", "carol"]),
            ("alice|bob\n", &["alice|bob"]),
            ("name\n#1\n", &["name", "#1"]),
            ("{x}\n[y]\n<z>\n", &["{x}", "[y]", "<z>"]),
            ("Rar!\nPAR1\n", &["Rar!", "PAR1"]),
            // Rows.
            ("alice,bob,0\nbob,#team,group\n", &["alice", "bob"]),
            ("alice\tbob\t0\nbob\t#team\t2\n", &["alice", "bob"]),
            ("alice;bob;peer\n", &["alice"]),
        ] {
            assert_eq!(users(csv, ""), expected, "{csv:?}");
        }
        let semicolons = Format {
            delimiter: Some(b';'),
            ..Format::default()
        };
        assert_eq!(read("alice;bob\n", "", semicolons), [(1, "alice".to_owned())]);
    }

    #[test]
    fn a_word_that_only_headers_have_is_no_user() {
        for (csv, columns, expected) in [
            ("uid\nalice\n", "", &["alice"][..]),
            ("\n Account_ID \nalice\n", "", &["alice"]),
            ("用户编号,名字\nalice,Alice\n", "", &["alice"]),
            ("name,uid\nAlice,alice\n", "user=2", &["alice"]),
            ("uid1\nalice\n", "", &["uid1", "alice"]),
            ("alice\nuid\n", "", &["alice", "uid"]),
            ("name,uid\nAlice,alice\n", "", &["name", "Alice"]),
        ] {
            assert_eq!(users(csv, columns), expected, "{csv:?} {columns}");
        }
    }

    #[test]
    fn rows_and_reports_are_users_too() {
        let report = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n\
                      2,alice,bob,0,ok,0,200,success,1,1,5,2026-11-25T03:00:00.000Z\n\
                      3,,x,0,invalid,,,user is empty,,0,,2026-11-25T03:00:00.000Z\n";
        let list = "line,user,outcome,conversations,code,http,message,request_id,attempts,latency_ms,finished_at\n\
                    2,alice,ok,4,0,200,success,1,1,5,2026-11-25T03:00:00.000Z\n\
                    3,,invalid,0,,,user is empty,,0,,2026-11-25T03:00:00.000Z\n";
        let rows = "type,conv,user\n0,bob,alice\n2,\"x\ny\",\n";
        for csv in [
            report,
            list,
            rows,
            "user,conv,type,updated_at\nalice,bob,0,2026\n,,,2026\n",
        ] {
            let found = users(csv, "");
            assert_eq!(found[0], "alice", "{csv}");
            assert!(found[1].starts_with("invalid: user is empty"), "{csv}: {found:?}");
        }
    }

    #[test]
    fn other_encodings_are_read() {
        let utf16: Vec<u8> = "\u{feff}x\t用户ID\r\n1\té\r\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let read_utf16 = open(&utf16, "", Format::default());
        match cfg!(feature = "encodings") {
            true => assert_eq!(users(&utf16, ""), ["é"]),
            false => assert!(read_utf16.is_err()),
        }
        assert_eq!(users("\u{feff}alice\n", ""), ["alice"]);
        if let Some(gbk) = encoding("gbk") {
            let format = Format {
                encoding: Some(gbk),
                ..Format::default()
            };
            let bytes = b"\xbb\xe1\xbb\xb0ID,\xd3\xc3\xbb\xa7ID\nx,\xd3\xc3\n";
            assert_eq!(read(bytes, "", format), [(2, "用".to_owned())]);
            let refused = error(bytes, "", Format::default());
            assert!(refused.contains("most likely GBK"), "{refused}");
        }
        // Not text, but nothing shows that it is a header.
        let found = users(b"\xff\xfa\nalice\n", "");
        assert!(found[0].starts_with("invalid: user is not valid text"), "{found:?}");
        assert_eq!(found[1], "alice");
    }

    #[test]
    fn the_column_can_be_named_or_numbered() {
        for (csv, columns, expected) in [
            ("account,user\na,b\n", "user=account", &["a"][..]),
            ("Account;x\na;b\n", "user=account", &["a"]),
            ("account\na\n", "user=account", &["a"]),
            ("x,y\na,b\n", "user=2", &["y", "b"]),
            ("x;y\na;b\n", "user=2", &["y", "b"]),
            ("x\ty\na\tb\n", "user=2,conv=1,type=3", &["y", "b"]),
            ("x;y\n", "user=1", &["x;y"]),
            // A usual name of any column shows a header.
            ("account,outcome\na,ok\n", "user=1", &["a"]),
            ("account;conv\na;b\n", "user=1", &["a"]),
            ("user,other\na,b\n", "user=2", &["b"]),
            // Those of other columns are not needed.
            ("user,x\na,b\n", "conv=room,type=9", &["a"]),
        ] {
            assert_eq!(users(csv, columns), expected, "{csv:?} {columns}");
        }
        for (csv, columns, part) in [
            (
                "account;x\n",
                "user=name",
                "no column for user ('name'); the columns found are 'account', 'x'",
            ),
            ("a\n", "user=2", "no column for user (column 2, and there are 1)"),
        ] {
            let refused = error(csv, columns, Format::default());
            assert!(refused.contains(part), "{csv:?} {columns}: {refused}");
        }
    }

    #[test]
    fn what_is_no_list_of_users_is_refused() {
        for (bytes, part) in [
            (&b"\n\r\n"[..], "the input is empty; expected a CSV with a user column"),
            (
                b"uid,conv,type\n",
                "line 1: no column for user; the columns found are 'uid', 'conv', 'type'",
            ),
            (
                b"\nname;TYPE\n",
                "line 2: no column for user; the columns found are 'name', 'TYPE'",
            ),
            (b"\xe4\xbc\x9a\xe8\xaf\x9dID\n", "no column for user"),
            (b"user,user_id\n", "more than one column for user (user, user_id)"),
            (b"user|conv|type\n", "Perhaps '|' is the delimiter"),
            (b"sep=;\nuser;x\n", "The first line names Excel's delimiter"),
            (b"a\0l\0\n\0", "UTF-16 without a byte order mark"),
            (b"[\n {\"user\": \"a\"}]", "[.user] | @csv"),
            (b"{\"user\":\"a\"}\n", "JSON"),
            (b"<!DOCTYPE html>", "export the users as CSV"),
            (
                b"PAR1\x15\x04\0\0\n",
                "a Parquet file; export it as CSV with a user column",
            ),
            (b"PK\x03\x04\x14\0", "an Excel workbook"),
        ] {
            let refused = error(bytes, "", Format::default());
            assert!(
                refused.contains(part),
                "{:?}: {refused}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn a_header_that_is_repeated_is_no_user() {
        for (csv, columns, is_again) in [
            ("user\nuser\n", "", true),
            ("用户ID\n\u{feff}User\n", "", true),
            ("alice\nuser\n", "", true),
            ("account\naccount\n", "user=account", true),
            ("account,x\nACCOUNT, x\n", "user=account", true),
            ("account,x\naccount,y\n", "user=account", false),
            ("user,name\nuser,name\n", "", true),
            ("user,name\nuser,A User\n", "", false),
            ("user,conv,type\nUserId,ConvId,ConvType\n", "", true),
            ("user,conv,type\nuser,bob,0\n", "", false),
        ] {
            let found = users(csv, columns);
            let last = found.last().unwrap();
            assert_eq!(last == "invalid: the header again", is_again, "{csv:?}: {found:?}");
        }
    }

    #[test]
    fn invalid_users_are_reported_with_their_line() {
        let long = "é".repeat(17);
        let csv = format!("id,user\n1,\n,\n2\n3,{long}\n4,\"{}\"\n5, a \n", "é".repeat(16));
        let read = read(csv, "", Format::default());
        let expected = [
            (2, "invalid: user is empty"),
            (4, "invalid: user is missing"),
            (5, "invalid: user is 34 bytes long, at most 32 are allowed"),
            (6, &"é".repeat(16)),
            (7, " a "),
        ];
        assert_eq!(read, expected.map(|(line, user)| (line, user.to_owned())));
        let alone = users(b"alice\n\n\"\"\n,x\n \nb\xff\n", "");
        assert_eq!(
            alone[..3],
            ["alice", "invalid: user is empty", "invalid: user is empty"]
        );
        let open_quote = users("user\n\"a\nb\n", "");
        assert!(open_quote[0].contains("never closed"), "{open_quote:?}");
    }
}
