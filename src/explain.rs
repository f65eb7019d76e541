//! Why rows were outside: ZIM's answer to a clear is the same for a conversation that does not exist and for one beyond the
//! user's newest 1000. A list of the user's conversations separates the two.
//!
//! It is an inference, not an answer of ZIM's: if fewer than 1000 conversations of a user are listed, the list is whole, so a
//! conversation that is not among them does not exist, or its group was disbanded. If 1000 are listed, older ones may exist.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::entries::Entries;
use crate::fingerprint::fingerprint;
use crate::journal::{self, ReportError, ReportRecord, RowRecord};
use crate::row::Outcome;
use crate::rows::check::MAX_REACHABLE;
use crate::rows::{Format, InputError, Rows, Source};

/// The columns of an explanation, in order.
pub const EXPLANATION_COLUMNS: [&str; 5] = ["line", "user", "conv", "type", "found"];

/// How many rows were explained, by what was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Explained {
    /// The conversation is listed now.
    pub listed: u64,
    /// It does not exist, or its group was disbanded.
    pub missing: u64,
    /// It may be beyond the user's newest 1000.
    pub beyond: u64,
    /// Unknown, because the user could not be listed, or not all of the user's conversations were selected.
    pub unknown: u64,
}

/// Why rows can't be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The rows can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The list can't be read.
    #[error(transparent)]
    List(#[from] ReportError),
    /// The explanation can't be written.
    #[error("can't be written")]
    Write(#[from] io::Error),
}

/// A row of the explanation: the fields are [`EXPLANATION_COLUMNS`].
#[derive(Serialize)]
struct Line<'a> {
    line: u64,
    user: &'a str,
    conv: &'a str,
    #[serde(rename = "type")]
    conv_type: &'a str,
    found: &'static str,
}

/// Writes for each valid row of an outside log, or each outside row of a report, whether its conversation is `listed`,
/// `missing` or `beyond` the newest 1000, as a CSV. If the user could not be listed, that is left empty. `rows` and `report`
/// are the results of a whole list of the users. Takes about twenty bytes per row and user.
///
/// # Errors
/// An [`ExplainError`] if a file can't be read or written.
pub fn explain(
    outside: &Source,
    format: &Format,
    rows: &Path,
    report: &Path,
    out: impl Write,
) -> Result<Explained, ExplainError> {
    let listed = listed_conversations(outside, format, rows)?;
    let entries = entries_of_users(report)?;
    let mut out = csv::Writer::from_writer(out);
    let mut explained = Explained::default();
    for_each_outside(outside, format, |line, [user, conv, conv_type]| {
        let counted = match (
            listed.get(&fingerprint(user, conv, conv_type)),
            entries.get(&of_user(user)),
        ) {
            (Some(true), _) => ("listed", &mut explained.listed),
            (_, None) => ("", &mut explained.unknown),
            (_, Some(Entries { unselected: 1.., .. })) => ("", &mut explained.unknown),
            (
                _,
                Some(Entries {
                    all: ..MAX_REACHABLE, ..
                }),
            ) => ("missing", &mut explained.missing),
            (_, Some(_)) => ("beyond", &mut explained.beyond),
        };
        let (found, count) = counted;
        *count += 1;
        let line = Line {
            line,
            user,
            conv,
            conv_type,
            found,
        };
        out.serialize(line).map_err(io::Error::from).map_err(ExplainError::from)
    })?;
    if explained == Explained::default() {
        out.write_record(EXPLANATION_COLUMNS).map_err(io::Error::from)?;
    }
    out.flush()?;
    Ok(explained)
}

/// For each outside conversation, by its fingerprint: whether it is listed.
fn listed_conversations(outside: &Source, format: &Format, rows: &Path) -> Result<HashMap<u64, bool>, ExplainError> {
    let mut listed = HashMap::new();
    for_each_outside(outside, format, |_, [user, conv, conv_type]| {
        listed.insert(fingerprint(user, conv, conv_type), false);
        Ok(())
    })?;
    let look_up = |row: &RowRecord| {
        if let Some(is_listed) = listed.get_mut(&fingerprint(row.user, row.conv, row.conv_type)) {
            *is_listed = true;
        }
    };
    journal::read_file(rows, |input, place| journal::read_rows(input, place, look_up))?;
    Ok(listed)
}

/// How many conversations ZIM has listed for each user who could be listed, by the user's fingerprint.
fn entries_of_users(report: &Path) -> Result<HashMap<u64, Entries>, ExplainError> {
    let mut entries = HashMap::new();
    let count = |record: &ReportRecord, _| {
        if record.outcome == Outcome::Ok {
            entries.insert(of_user(record.user), record.entries());
        }
    };
    journal::read_file(report, |input, place| journal::read_report(input, place, count))?;
    Ok(entries)
}

fn of_user(user: &str) -> u64 {
    fingerprint(user, "", "")
}

/// Calls `on_row` with the line, the user, the conversation and the type of each row that was outside.
fn for_each_outside(
    source: &Source,
    format: &Format,
    mut on_row: impl FnMut(u64, [&str; 3]) -> Result<(), ExplainError>,
) -> Result<(), ExplainError> {
    let mut rows = Rows::open(source, format)?;
    while let Some(row) = rows.next_raw()? {
        let is_outside = row
            .outcome()
            .is_none_or(|outcome| outcome == Outcome::Outside.as_str().as_bytes());
        if let (true, Ok((user, conv, conv_type))) = (is_outside, row.check()) {
            on_row(row.line(), [user, conv, conv_type.digit()])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{LIST_COLUMNS, ROWS_COLUMNS};

    #[test]
    fn each_outside_row_is_listed_missing_or_beyond() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let outside = "line,user,conv,type,outcome\n7,a,\"x,1\",0,outside\n8,a,x,2,outside\n9,b,y,0,outside\n10,c,z,0,outside\n\
                       11,d,y,0,outside\n12,d,y,0,ok\n13,,y,0,outside\n14,e,y,0,outside\n15,f,y,0,outside\n";
        let outside = Source::File(write("outside.csv", outside));
        let rows = write("rows.csv", "user,conv,type,updated_at\na,\"x,1\",0,\na,x,0,\n");
        let record = |line: u32, user: &str, outcome: &str, conversations: u32| {
            let (conversations, message) = match conversations {
                1001 => (999, "success; of 1000 entries, listed again: 1"),
                1002 => (1, "success; of 2 entries, not selected: 1"),
                other => (other, "success"),
            };
            format!("{line},{user},{outcome},{conversations},0,200,\"{message}\",,1,1,2026-11-25T03:00:00.000Z\n")
        };
        let report = LIST_COLUMNS.join(",")
            + "\n"
            + &record(2, "a", "ok", 2)
            + &record(3, "b", "ok", 1000)
            + &record(4, "c", "ok", 999)
            + &record(5, "d", "failed", 0)
            + &record(6, "a", "skipped", 0)
            + &record(7, "e", "ok", 1001)
            + &record(8, "f", "ok", 1002);
        let report = write("list.csv", &report);
        let mut out = Vec::new();
        let explained = explain(&outside, &Format::default(), &rows, &report, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "line,user,conv,type,found\n2,a,\"x,1\",0,listed\n3,a,x,2,missing\n4,b,y,0,beyond\n5,c,z,0,missing\n6,d,y,0,\n\
             9,e,y,0,beyond\n10,f,y,0,\n"
        );
        let expected = Explained {
            listed: 1,
            missing: 2,
            beyond: 2,
            unknown: 2,
        };
        assert_eq!(explained, expected);
    }

    #[test]
    fn an_explanation_of_no_rows_is_a_header() {
        let directory = tempfile::tempdir().unwrap();
        let [outside, rows, report] = ["outside.csv", "rows.csv", "list.csv"].map(|name| directory.path().join(name));
        std::fs::write(&outside, "user,conv,type\n").unwrap();
        std::fs::write(&rows, ROWS_COLUMNS.join(",") + "\n").unwrap();
        std::fs::write(&report, LIST_COLUMNS.join(",") + "\n").unwrap();
        let mut out = Vec::new();
        explain(&Source::File(outside), &Format::default(), &rows, &report, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "line,user,conv,type,found\n");
    }
}
