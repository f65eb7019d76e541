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
/// a comma, because a user's ID may have semicolons in it. `None` if only the user's column, by its name or number, can show
/// it.
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
                assert_eq!(row.conv, "");
                (row.line, row.user)
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
