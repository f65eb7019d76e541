//! Reads a world's users and conversations from a CSV.
//!
//! Such files are often written by hand, so every error names the line and what was expected there. IDs are used byte
//! for byte, because an ID may begin with `#` or end with a space. The whole file is read first: a world is kept in
//! memory anyway, and this way a line number is right whatever ends the lines.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Read};

use csv::ByteRecord;

use super::conversation::{ConvType, MAX_ID_BYTES};

/// Why a world could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The reader failed.
    #[error("can't be read")]
    Read(#[source] io::Error),
    /// A line is not valid.
    #[error("line {line}: {problem}")]
    Line {
        /// The line on which the record begins, counted from 1.
        line: u64,
        /// What was found and what was expected.
        problem: String,
    },
}

/// A line of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub user: String,
    /// `None` if the line only names a user.
    pub conversation: Option<RowConversation>,
}

/// The conversation that a line names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowConversation {
    pub id: String,
    pub conv_type: ConvType,
    pub unread: u32,
    /// `None` if the file has no such column.
    pub last_active: Option<i64>,
}

impl Row {
    /// What a row is about: only one row may say something about it.
    fn key(&self) -> (&str, Option<(&str, ConvType)>) {
        let conversation = self.conversation.as_ref();
        (
            &self.user,
            conversation.map(|conversation| (conversation.id.as_str(), conversation.conv_type)),
        )
    }
}

/// Where the columns are.
struct Columns {
    user: usize,
    conv: usize,
    conv_type: usize,
    unread: Option<usize>,
    last_active: Option<usize>,
}

/// The names of the columns, in lower case.
const USER: &[&str] = &["user", "fromuserid", "from_user_id", "user_id", "userid", "用户id"];
const CONV: &[&str] = &[
    "conv",
    "convid",
    "conv_id",
    "conversationid",
    "conversation_id",
    "会话id",
];
const TYPE: &[&str] = &[
    "type",
    "convtype",
    "conv_type",
    "conversationtype",
    "conversation_type",
    "会话类型",
];
const UNREAD: &[&str] = &["unread"];
const LAST_ACTIVE: &[&str] = &["last_active"];

/// Reads the rows of a file, each user's from newest to oldest. Lines that repeat another one are left out.
pub(super) fn read(mut reader: impl Read) -> Result<Vec<Row>, WorldError> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(WorldError::Read)?;
    let line_error = |start, problem| WorldError::Line {
        line: line_of(&text, start),
        problem,
    };
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(&text[..]);
    let header = csv.byte_headers().map_err(|error| WorldError::Read(error.into()))?;
    let columns = Columns::of(header).map_err(|problem| line_error(0, problem))?;
    let mut rows: Vec<(Row, u64)> = Vec::new();
    let mut record = ByteRecord::new();
    loop {
        let start = csv.position().byte();
        let more = csv.read_byte_record(&mut record);
        if !more.map_err(|error| WorldError::Read(error.into()))? {
            break;
        }
        let row = parse(&record, &columns).map_err(|problem| line_error(start, problem))?;
        rows.push((row, start));
    }
    let mut seen = HashMap::new();
    let mut repeats = Vec::new();
    for (index, (row, start)) in rows.iter().enumerate() {
        match seen.insert(row.key(), (row, *start)) {
            Some((same, _)) if same == row => repeats.push(index),
            Some((_, first)) => {
                let first = line_of(&text, first);
                let problem =
                    format!("this is the conversation of line {first}, with other values; remove one of the two");
                return Err(line_error(*start, problem));
            }
            None => {}
        }
    }
    let is_kept = |index: &usize| repeats.binary_search(index).is_err();
    let kept = rows.into_iter().enumerate().filter(|(index, _)| is_kept(index));
    let mut rows: Vec<Row> = kept.map(|(_, (row, _))| row).collect();
    // The sort is stable: rows of equal age keep the order of the file. Without the column these are all rows.
    rows.sort_by_key(|row| {
        Reverse(
            row.conversation
                .as_ref()
                .and_then(|conversation| conversation.last_active),
        )
    });
    Ok(rows)
}

/// Returns the line of the record that begins at or after byte `start`, past blank lines. Lines end in LF, CRLF or CR.
fn line_of(text: &[u8], start: u64) -> u64 {
    let is_line_end = |&byte: &u8| matches!(byte, b'\r' | b'\n');
    let mut at = usize::try_from(start).unwrap_or(usize::MAX).min(text.len());
    at += text[at..].iter().take_while(|byte| is_line_end(byte)).count();
    let before = &text[..at];
    let crlf = before.windows(2).filter(|pair| pair == b"\r\n").count();
    (1 + before.iter().filter(|byte| is_line_end(byte)).count() - crlf) as u64
}

impl Columns {
    fn of(header: &ByteRecord) -> Result<Columns, String> {
        if header.is_empty() {
            return Err("the file is empty; expected a header line with user, conv and type".to_owned());
        }
        let header: Vec<String> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_lowercase())
            .collect();
        let optional = |names: &[&str]| {
            let mut found = (0..header.len()).filter(|index| names.contains(&header[*index].as_str()));
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(format!(
                    "the header names column {} twice; remove one of the two",
                    names[0]
                )),
                (index, _) => Ok(index),
            }
        };
        let required = |names: &[&str]| {
            optional(names)?.ok_or_else(|| {
                let (name, found) = (names[0], header.join(","));
                format!("no column {name}; expected a header with user, conv and type, found `{found}`")
            })
        };
        Ok(Columns {
            user: required(USER)?,
            conv: required(CONV)?,
            conv_type: required(TYPE)?,
            unread: optional(UNREAD)?,
            last_active: optional(LAST_ACTIVE)?,
        })
    }
}

/// Parses one record. Fields that a short record leaves out are empty.
fn parse(record: &ByteRecord, columns: &Columns) -> Result<Row, String> {
    let text = |name: &str, index: usize| {
        str::from_utf8(record.get(index).unwrap_or_default()).map_err(|_| format!("{name} is not UTF-8"))
    };
    let (user, conv) = (text("user", columns.user)?, text("conv", columns.conv)?);
    let conv_type = text("type", columns.conv_type)?.trim();
    check_id("user", user)?;
    if conv.is_empty() && conv_type.is_empty() {
        return Ok(Row {
            user: user.to_owned(),
            conversation: None,
        });
    }
    let conv_type = match conv_type.to_ascii_lowercase().as_str() {
        "0" | "peer" | "单聊" => ConvType::Peer,
        "2" | "group" | "群聊" => ConvType::Group,
        _ => return Err(format!("the type is `{conv_type}`; expected 0, peer, 2 or group")),
    };
    check_id("conv", conv)?;
    let unread = match columns
        .unread
        .map(|index| text("unread", index))
        .transpose()?
        .map(str::trim)
    {
        None | Some("") => 1,
        Some(unread) => unread
            .parse()
            .map_err(|_| format!("unread is `{unread}`; expected a whole number from 0 to 4294967295"))?,
    };
    let last_active = columns
        .last_active
        .map(|index| text("last_active", index))
        .transpose()?;
    let last_active = last_active.map(str::trim).map(|time| {
        time.parse()
            .map_err(|_| format!("last_active is `{time}`; expected an integer"))
    });
    Ok(Row {
        user: user.to_owned(),
        conversation: Some(RowConversation {
            id: conv.to_owned(),
            conv_type,
            unread,
            last_active: last_active.transpose()?,
        }),
    })
}

fn check_id(name: &str, id: &str) -> Result<(), String> {
    let found = match id.len() {
        0 => "empty or missing".to_owned(),
        1..=MAX_ID_BYTES => return Ok(()),
        bytes => format!("{bytes} bytes long"),
    };
    Err(format!(
        "{name} is {found}; expected an ID of 1 to {MAX_ID_BYTES} bytes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(csv: &[u8]) -> String {
        read(csv).expect_err("the file is wrong").to_string()
    }

    fn row(user: &str, conv: &str, conv_type: ConvType, unread: u32) -> Row {
        Row {
            user: user.to_owned(),
            conversation: Some(RowConversation {
                id: conv.to_owned(),
                conv_type,
                unread,
                last_active: None,
            }),
        }
    }

    #[test]
    fn lines_that_repeat_another_one_are_one_and_a_line_may_name_only_a_user() {
        let csv = "user,conv,type\na,b,0\nc,,\na,b,2\na,b,peer\nc,d,0\nc\ne,\n";
        let only = |user: &str| Row {
            user: user.to_owned(),
            conversation: None,
        };
        let expected = [
            row("a", "b", ConvType::Peer, 1),
            only("c"),
            row("a", "b", ConvType::Group, 1),
            row("c", "d", ConvType::Peer, 1),
            only("e"),
        ];
        assert_eq!(read(csv.as_bytes()).unwrap(), expected);
        let csv = "用户ID,会话ID,会话类型\na,b,单聊\na,c,群聊\n";
        let expected = [row("a", "b", ConvType::Peer, 1), row("a", "c", ConvType::Group, 1)];
        assert_eq!(read(csv.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn columns_are_found_in_any_order_and_case() {
        let csv =
            "\u{feff}ConvType, unread ,extra,FromUserId,CONV\r\n Group ,\"4\",,\"a,\"\"b \", #x\r\npeer,,,c,d\r\n";
        let rows = read(csv.as_bytes()).unwrap();
        assert_eq!(
            rows,
            [
                row("a,\"b ", " #x", ConvType::Group, 4),
                row("c", "d", ConvType::Peer, 1)
            ]
        );
    }

    #[test]
    fn an_error_names_the_line_and_what_was_expected() {
        let long = format!("user,conv,type\na,{},0\n", "x".repeat(33));
        for (csv, message) in [
            (
                "",
                "line 1: the file is empty; expected a header line with user, conv and type",
            ),
            (
                "a,b,0\n",
                "line 1: no column user; expected a header with user, conv and type, found `a,b,0`",
            ),
            (
                "user,conv,type,user_id\n",
                "line 1: the header names column user twice; remove one of the two",
            ),
            (
                "user,conv,type\na,b\n",
                "line 2: the type is ``; expected 0, peer, 2 or group",
            ),
            (
                "type,user,conv\n0,a\n",
                "line 2: conv is empty or missing; expected an ID of 1 to 32 bytes",
            ),
            (
                "user,conv,type\n,b,0\n",
                "line 2: user is empty or missing; expected an ID of 1 to 32 bytes",
            ),
            (&long, "line 2: conv is 33 bytes long; expected an ID of 1 to 32 bytes"),
            (
                "user,conv,type\na,b,3\n",
                "line 2: the type is `3`; expected 0, peer, 2 or group",
            ),
            (
                "user,conv,type,unread\na,b,0,-1\n",
                "line 2: unread is `-1`; expected a whole number from 0 to 4294967295",
            ),
            (
                "user,conv,type,last_active\na,b,0,\n",
                "line 2: last_active is ``; expected an integer",
            ),
            (
                "user,conv,type,unread\na,b,0,1\na,b,2,2\na,b,peer,2\n",
                "line 4: this is the conversation of line 2, with other values; remove one of the two",
            ),
            (
                "user,conv,type\n,,\n",
                "line 2: user is empty or missing; expected an ID of 1 to 32 bytes",
            ),
        ] {
            assert_eq!(error(csv.as_bytes()), message);
        }
        assert_eq!(error(b"user,conv,type\n\xff,b,0\n"), "line 2: user is not UTF-8");
        assert_eq!(error(b"user,x,conv,type\na,,b,\xff\n"), "line 2: type is not UTF-8");
    }

    #[test]
    fn columns_that_are_not_used_may_hold_anything_and_short_lines_leave_out_optional_ones() {
        let rows = read(&b"user,\xff,conv,type,unread,note\na,\xff,b,0\n"[..]).unwrap();
        assert_eq!(rows, [row("a", "b", ConvType::Peer, 1)]);
    }

    #[test]
    fn lines_are_counted_over_blank_lines_and_quoted_line_breaks_whatever_ends_them() {
        for end in ["\n", "\r\n", "\r"] {
            let csv = ["", "user,conv,type", "", "\"a", "\",b,0", "", "", "a,b,9", ""].join(end);
            assert!(
                error(csv.as_bytes()).starts_with("line 8: "),
                "{end:?}: {}",
                error(csv.as_bytes())
            );
        }
    }

    #[test]
    fn the_error_of_a_reader_is_reported_with_its_cause() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cable pulled"))
            }
        }
        let error = read(Broken).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("cable pulled"));
    }
}
