//! Reads a world's conversations from a CSV.
//!
//! Such files are often written by hand, so every error names the line and what was expected there. IDs are used byte
//! for byte, because an ID may begin with `#` or end with a space. The whole file is read first: a world is kept in
//! memory anyway, and this way a line number is right whatever ends the lines.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Read};

use csv::ByteRecord;
use serde::de::{Deserialize, Deserializer, Error as _};

use super::conversation::{ConvType, ConversationKey, MAX_ID_BYTES};

/// Why a world could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The reader failed.
    #[error("can't be read: {0}")]
    Read(io::Error),
    /// A line is not valid.
    #[error("line {line}: {problem}")]
    Line {
        /// The line on which the record begins, counted from 1.
        line: u64,
        /// What was found and what was expected.
        problem: String,
    },
}

/// One conversation of one user.
#[derive(serde::Deserialize)]
pub(super) struct Row {
    pub user: String,
    pub conv: String,
    #[serde(rename = "type", deserialize_with = "conv_type")]
    pub conv_type: ConvType,
    #[serde(default = "one", deserialize_with = "unread")]
    pub unread: u32,
    /// `None` if the file has no such column.
    #[serde(default, deserialize_with = "last_active")]
    pub last_active: Option<i64>,
}

impl Row {
    pub fn key(&self) -> ConversationKey<'_> {
        ConversationKey {
            user: &self.user,
            conv: &self.conv,
            conv_type: self.conv_type,
        }
    }
}

/// The name of each column in [`Row`], the other names for it, and whether it is required.
const COLUMNS: [(&str, &[&str], bool); 5] = [
    ("user", &["fromuserid", "from_user_id", "user_id"], true),
    ("conv", &["convid", "conv_id"], true),
    ("type", &["convtype", "conv_type"], true),
    ("unread", &[], false),
    ("last_active", &[], false),
];

/// Reads the rows of a file, each user's from newest to oldest.
pub(super) fn read(mut reader: impl Read) -> Result<Vec<Row>, WorldError> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(WorldError::Read)?;
    let line_error = |start, problem| WorldError::Line {
        line: line_of(&text, start),
        problem,
    };
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(&text[..]);
    let found = csv.byte_headers().map_err(|error| WorldError::Read(error.into()))?;
    let headers = canonical(found).map_err(|problem| line_error(0, problem))?;
    let mut rows: Vec<(Row, u64)> = Vec::new();
    let mut record = ByteRecord::new();
    loop {
        let start = csv.position().byte();
        if !csv
            .read_byte_record(&mut record)
            .map_err(|error| WorldError::Read(error.into()))?
        {
            break;
        }
        let row = parse(&mut record, &headers).map_err(|problem| line_error(start, problem))?;
        rows.push((row, start));
    }
    let mut seen = HashMap::new();
    for (row, start) in &rows {
        if let Some(first) = seen.insert(row.key(), *start) {
            let (Row { user, conv, .. }, first) = (row, line_of(&text, first));
            let problem = format!(
                "user `{user}` already has conversation `{conv}` of this type on line {first}; remove one of the two"
            );
            return Err(line_error(*start, problem));
        }
    }
    drop(seen);
    let mut rows: Vec<Row> = rows.into_iter().map(|(row, _)| row).collect();
    // The sort is stable: rows of equal age keep the order of the file. Without the column these are all rows.
    rows.sort_by_key(|row| Reverse(row.last_active));
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

/// Returns the header with the column names of [`Row`] in place of their aliases.
fn canonical(header: &ByteRecord) -> Result<ByteRecord, String> {
    if header.is_empty() {
        return Err("the file is empty; expected a header line with user, conv and type".to_owned());
    }
    let found: Vec<_> = header
        .iter()
        .map(|name| String::from_utf8_lossy(name).trim().to_lowercase())
        .collect();
    let mut names = found.clone();
    for (column, aliases, required) in COLUMNS {
        let mut same = names
            .iter_mut()
            .filter(|name| *name == column || aliases.contains(&name.as_str()));
        match (same.next(), same.next()) {
            (Some(_), Some(_)) => return Err(format!("the header names column {column} twice; remove one of the two")),
            (Some(name), None) => column.clone_into(name),
            (None, _) if required => {
                let found = found.join(",");
                return Err(format!(
                    "no column {column}; expected a header with user, conv and type, found `{found}`"
                ));
            }
            (None, _) => {}
        }
    }
    Ok(names.into())
}

/// Parses one record. Fields that a short record leaves out are empty.
fn parse(record: &mut ByteRecord, headers: &ByteRecord) -> Result<Row, String> {
    while record.len() < headers.len() {
        record.push_field(b"");
    }
    let row: Row = record.deserialize(Some(headers)).map_err(|error| match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => match (err.kind(), err.field()) {
            (csv::DeserializeErrorKind::InvalidUtf8(_), Some(field)) => {
                let name = usize::try_from(field).ok().and_then(|field| headers.get(field));
                format!("{} is not UTF-8", String::from_utf8_lossy(name.unwrap_or(b"a field")))
            }
            (kind, _) => kind.to_string(),
        },
        _ => error.to_string(),
    })?;
    for (name, id) in [("user", &row.user), ("conv", &row.conv)] {
        let found = match id.len() {
            0 => "empty or missing".to_owned(),
            1..=MAX_ID_BYTES => continue,
            bytes => format!("{bytes} bytes long"),
        };
        return Err(format!(
            "{name} is {found}; expected an ID of 1 to {MAX_ID_BYTES} bytes"
        ));
    }
    Ok(row)
}

fn conv_type<'de, D: Deserializer<'de>>(field: D) -> Result<ConvType, D::Error> {
    let text = <&str>::deserialize(field)?.trim();
    match text.to_ascii_lowercase().as_str() {
        "0" | "peer" => Ok(ConvType::Peer),
        "2" | "group" => Ok(ConvType::Group),
        _ => Err(D::Error::custom(format!(
            "the type is `{text}`; expected 0, peer, 2 or group"
        ))),
    }
}

fn one() -> u32 {
    1
}

fn unread<'de, D: Deserializer<'de>>(field: D) -> Result<u32, D::Error> {
    match <&str>::deserialize(field)?.trim() {
        "" => Ok(one()),
        text => text.parse().map_err(|_| {
            D::Error::custom(format!(
                "unread is `{text}`; expected a whole number from 0 to 4294967295"
            ))
        }),
    }
}

fn last_active<'de, D: Deserializer<'de>>(field: D) -> Result<Option<i64>, D::Error> {
    let text = <&str>::deserialize(field)?.trim();
    text.parse()
        .map(Some)
        .map_err(|_| D::Error::custom(format!("last_active is `{text}`; expected an integer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(csv: &[u8]) -> String {
        read(csv).err().expect("the file is wrong").to_string()
    }

    #[test]
    fn columns_are_found_in_any_order_and_case() {
        let csv =
            "\u{feff}ConvType, unread ,extra,FromUserId,CONV\r\n Group ,\"4\",,\"a,\"\"b \", #x\r\npeer,,,c,d\r\n";
        let rows = read(csv.as_bytes()).unwrap();
        assert_eq!((rows[0].user.as_str(), rows[0].conv.as_str()), ("a,\"b ", " #x"));
        assert_eq!((rows[0].conv_type, rows[0].unread), (ConvType::Group, 4));
        assert_eq!((rows[1].conv_type, rows[1].unread), (ConvType::Peer, 1));
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
                "user,conv,type\na,b,0\na,b,2\na,b,peer\n",
                "line 4: user `a` already has conversation `b` of this type on line 2; remove one of the two",
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
        assert_eq!((rows[0].conv.as_str(), rows[0].unread), ("b", 1));
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
        assert_eq!(read(Broken).err().unwrap().to_string(), "can't be read: cable pulled");
    }
}
