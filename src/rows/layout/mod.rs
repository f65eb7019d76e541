//! Which column is which.
//!
//! [`first_record`] guesses: it reads the first record with each possible delimiter, as data. [`resolve`] decides, by the
//! guesses and what the caller says. If that fails, [`diagnosis`] says what the input probably is instead.

mod diagnosis;
mod file_kind;
mod first_record;
mod resolve;

use super::error::{InputError, InputErrorKind};
use super::format::Format;
use diagnosis::Start;
use first_record::guess;
pub(super) use first_record::read_start;
pub(super) use resolve::Layout;

/// Finds the layout from the first bytes of the input, which contain its whole first record or are the whole input.
/// `signature` is the first bytes before decoding.
pub(super) fn find(text: &[u8], signature: &[u8], format: &Format, name: &str) -> Result<Layout, InputError> {
    let start = Start {
        text,
        signature,
        format,
    };
    let unresolved = match Layout::resolve(&guess(text, format.delimiter), format) {
        Ok(layout) => match start.problem_of_users(&layout) {
            Some(unresolved) => unresolved,
            None => return Ok(layout),
        },
        Err(Some(unresolved)) => unresolved,
        Err(None) => return Err(InputErrorKind::Empty(format.reads).of(name)),
    };
    Err(start.error(unresolved, name))
}

#[cfg(test)]
mod tests {
    use super::super::format::Reads;
    use super::super::parsed::ParsedRow;
    use super::super::reader::Rows;
    use super::super::text::encoding;
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
        if cfg!(feature = "encodings") {
            assert_eq!(users(&utf16, ""), ["é"])
        } else {
            assert!(read_utf16.is_err())
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
