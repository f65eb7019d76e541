//! Reading a world's conversations from a CSV.
//!
//! Fields are taken byte for byte, since an ID may begin with `#` or end with a space. Whoever writes such a file by
//! hand makes mistakes, so every error names the line and what was expected there. The file is read whole: a world is
//! kept in memory anyway, and so lines can be counted whatever ends them.

use super::rules::MAX_ID_BYTES;
use super::world::Kind;
use csv::ByteRecord;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::io::{self, Read};

/// Why a world could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The reader failed.
    #[error("the conversations can't be read")]
    Read(#[source] io::Error),
    /// A line is not what it should be.
    #[error("line {line}: {problem}")]
    Line {
        /// The line on which the record begins, counted from 1.
        line: u64,
        /// What was found and what was expected.
        problem: String,
    },
}

/// One conversation of one user.
pub(super) struct Row {
    pub(super) user: String,
    pub(super) conv: String,
    pub(super) kind: Kind,
    pub(super) unread: u32,
    last_active: i64,
}

/// The rows of a file, each user's from newest to oldest.
pub(super) fn read(mut reader: impl Read) -> Result<Vec<Row>, WorldError> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(WorldError::Read)?;
    let mut records = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(&text[..]);
    let mut record = ByteRecord::new();
    let mut lines = Lines {
        text: &text,
        byte: 0,
        line: 1,
    };
    let mut next = |record: &mut ByteRecord| -> Result<Option<u64>, WorldError> {
        let start = records.position().byte();
        let read = records
            .read_byte_record(record)
            .map_err(|error| WorldError::Read(error.into()))?;
        Ok(read.then(|| lines.of(start)))
    };

    let Some(header_line) = next(&mut record)? else {
        return Err(problem(
            1,
            "the file is empty; expected a header line with user, conv and type".to_owned(),
        ));
    };
    let columns = Columns::find(&record).map_err(|text| problem(header_line, text))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut seen = HashMap::new();
    while let Some(line) = next(&mut record)? {
        let row = columns.row(&record).map_err(|text| problem(line, text))?;
        if let Some(first) = seen.insert((row.user.clone(), row.conv.clone(), row.kind), line) {
            let Row { user, conv, .. } = &row;
            let text = format!("user `{user}` has conversation `{conv}` of this type already, on line {first}");
            return Err(problem(line, text));
        }
        rows.push(row);
    }
    // Stable: rows of the same age, which is all of them without the column, keep the order of the file.
    rows.sort_by_key(|row| Reverse(row.last_active));
    Ok(rows)
}

fn problem(line: u64, problem: String) -> WorldError {
    WorldError::Line { line, problem }
}

/// Counts lines up to a byte, whether they end in LF, CRLF or CR.
struct Lines<'a> {
    text: &'a [u8],
    byte: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line of the record that the reader finds from byte `start` on: blank lines before it are skipped.
    fn of(&mut self, start: u64) -> u64 {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        while let Some(&byte) = self.text.get(self.byte) {
            let ends_line = byte == b'\n' || (byte == b'\r' && self.text.get(self.byte + 1) != Some(&b'\n'));
            if self.byte >= start && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(ends_line);
            self.byte += 1;
        }
        self.line
    }
}

/// Where each column stands.
struct Columns {
    user: usize,
    conv: usize,
    kind: usize,
    unread: Option<usize>,
    last_active: Option<usize>,
}

impl Columns {
    fn find(header: &ByteRecord) -> Result<Self, String> {
        let names: Vec<_> = header
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_lowercase())
            .collect();
        let find = |aliases: &[&str]| {
            let mut found = (0..names.len()).filter(|&at| aliases.contains(&names[at].as_str()));
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(format!("the header names column {} twice", aliases[0])),
                (column, _) => Ok(column),
            }
        };
        let need = |aliases: &[&str]| {
            find(aliases)?.ok_or_else(|| {
                let name = aliases[0];
                format!(
                    "no column {name}; expected a header with user, conv and type, found `{}`",
                    names.join(",")
                )
            })
        };
        Ok(Self {
            user: need(&["user", "fromuserid", "from_user_id", "user_id"])?,
            conv: need(&["conv", "convid", "conv_id"])?,
            kind: need(&["type", "convtype", "conv_type"])?,
            unread: find(&["unread"])?,
            last_active: find(&["last_active"])?,
        })
    }

    fn row(&self, record: &ByteRecord) -> Result<Row, String> {
        let unread = self.unread.map_or("", |at| text(record, at));
        Ok(Row {
            user: id(record, self.user, "user")?,
            conv: id(record, self.conv, "conv")?,
            kind: kind(text(record, self.kind))?,
            unread: match unread {
                "" => 1,
                number => number
                    .parse()
                    .map_err(|_| format!("unread is `{number}`; expected a whole number from 0 to 4294967295"))?,
            },
            last_active: self.last_active.map_or(Ok(0), |at| {
                let number = text(record, at);
                number
                    .parse()
                    .map_err(|_| format!("last_active is `{number}`; expected an integer"))
            })?,
        })
    }
}

/// A field that is not an ID, without the blanks around it. Bytes that are not UTF-8 can't be right in one of these.
fn text(record: &ByteRecord, at: usize) -> &str {
    record
        .get(at)
        .map_or("", |field| str::from_utf8(field).unwrap_or("(not UTF-8)").trim())
}

fn id(record: &ByteRecord, at: usize, name: &str) -> Result<String, String> {
    let field = record
        .get(at)
        .ok_or_else(|| format!("{name} is missing: the line has {} fields", record.len()))?;
    let id = str::from_utf8(field).map_err(|_| format!("{name} is not UTF-8"))?;
    match id.len() {
        0 => Err(format!("{name} is empty; expected an ID of 1 to {MAX_ID_BYTES} bytes")),
        1..=MAX_ID_BYTES => Ok(id.to_owned()),
        bytes => Err(format!(
            "{name} is {bytes} bytes long; expected an ID of 1 to {MAX_ID_BYTES} bytes"
        )),
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "peer" => Ok(Kind::Peer),
        "2" | "group" => Ok(Kind::Group),
        _ => Err(format!("the type is `{text}`; expected 0, peer, 2 or group")),
    }
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
        assert_eq!((rows[0].kind, rows[0].unread), (Kind::Group, 4));
        assert_eq!((rows[1].kind, rows[1].unread), (Kind::Peer, 1));
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
            ("user,conv,type,user_id\n", "line 1: the header names column user twice"),
            (
                "user,conv,type\na,b\n",
                "line 2: the type is ``; expected 0, peer, 2 or group",
            ),
            (
                "type,user,conv\n0,a\n",
                "line 2: conv is missing: the line has 2 fields",
            ),
            (
                "user,conv,type\n,b,0\n",
                "line 2: user is empty; expected an ID of 1 to 32 bytes",
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
                "line 4: user `a` has conversation `b` of this type already, on line 2",
            ),
        ] {
            assert_eq!(error(csv.as_bytes()), message);
        }
        assert_eq!(error(b"user,conv,type\n\xff,b,0\n"), "line 2: user is not UTF-8");
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
    fn a_reader_that_fails_is_told_with_its_cause() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("cable pulled"))
            }
        }
        let error = read(Broken).err().unwrap();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "cable pulled");
    }
}
