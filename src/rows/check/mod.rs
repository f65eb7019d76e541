//! Checks an input without sending anything: errors by line, duplicates, users with too many rows.
//!
//! One pass, with about twenty bytes per row: duplicates and busy users are found by sorting fingerprints at the end, not
//! by keeping the rows.

mod unusual_ids;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher;

use super::columns::{AssumedUser, FoundColumns};
use super::error::{Diagnosis, InputError};
use super::format::Format;
use super::reader::Rows;
use super::selection::{OkRows, SelectedRows, Selection};
use super::source::Source;
use crate::row::ConvType;
use crate::row::{Column, RowError};
use unusual_ids::for_each_warning;

/// How many lines of each kind of finding are kept.
const LINES_KEPT: usize = 5;

/// How many of a user's newest conversations the API reaches by default (ZEGO, "ClearConversationUnread").
pub const MAX_REACHABLE: u64 = 1000;

/// A kind of finding: how many rows, and the first lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How many rows have it.
    pub rows: u64,
    /// The first of their lines, at most five.
    pub first_lines: Vec<u64>,
    /// What was found in the first of them, if that differs between rows.
    pub example: Option<String>,
}

impl Finding {
    fn add(&mut self, line: u64, example: Option<&str>) {
        self.rows += 1;
        if self.first_lines.len() < LINES_KEPT {
            self.first_lines.push(line);
        }
        if self.rows == 1 {
            self.example = example.map(str::to_owned);
        }
    }
}

/// A user with more conversations than the API reaches.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BusyUser {
    /// The user; empty if the input could be read only once.
    pub user: String,
    /// How many different conversations the input has for the user.
    pub conversations: u64,
    /// The line of the user's first row.
    pub first_line: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Findings {
    /// Where the columns are, and whether there is a header.
    pub columns: FoundColumns,
    /// Set if users are read and nothing says which of several columns is the user.
    pub assumed_user: Option<AssumedUser>,
    /// All rows.
    pub rows: u64,
    /// Rows of type peer that can be sent; all that can, if [users](super::Reads::Users) are read.
    pub peer: u64,
    /// Rows of type group that can be sent.
    pub group: u64,
    /// Different users among the rows that can be sent.
    pub users: u64,
    /// Invalid rows, by error.
    pub invalid: BTreeMap<String, Finding>,
    /// What the text probably is, if a row is not valid text.
    pub diagnosis: Option<Diagnosis>,
    /// Warnings about rows that are sent nevertheless.
    pub warnings: BTreeMap<String, Finding>,
    /// Rows that repeat an earlier one.
    pub duplicates: Finding,
    /// How many users have [`MAX_REACHABLE`] conversations in the input, or more.
    pub users_full: u64,
    /// Users with more than [`MAX_REACHABLE`] conversations in the input, the busiest first.
    pub busy_users: Vec<BusyUser>,
}

/// A row that can be sent, as five numbers that sort by user, then by row content, then by line.
type Key = [u32; 5];

fn key(user: u64, triple: u64, line: u64) -> Key {
    let line = u32::try_from(line).unwrap_or(u32::MAX);
    [
        (user >> 32) as u32,
        user as u32,
        (triple >> 32) as u32,
        triple as u32,
        line,
    ]
}

/// Reads the whole input and checks it.
///
/// ```
/// use zim_batch::rows::{Format, Rows, Selection, check::check_rows};
///
/// let csv = "user,conv,type\na,b,0\na,b,peer\na,,0\n";
/// let rows = Rows::from_reader(Box::new(csv.as_bytes()), "example", &Format::default())?;
/// let findings = check_rows(rows, &Selection::default())?;
/// assert_eq!((findings.rows, findings.users), (3, 1));
/// assert_eq!(findings.duplicates.first_lines, [3]);
/// assert_eq!(findings.invalid["conv is empty"].first_lines, [4]);
/// # Ok::<(), zim_batch::rows::InputError>(())
/// ```
pub fn check_rows(rows: Rows, selection: &Selection) -> Result<Findings, InputError> {
    check_each(rows, selection, |_, _, _| {})
}

/// [`check_rows`], which also calls `on_row` with the line, the user and the user's fingerprint of each row that can be
/// sent.
fn check_each(
    rows: Rows,
    selection: &Selection,
    mut on_row: impl FnMut(u64, &str, u64),
) -> Result<Findings, InputError> {
    let mut findings = Findings {
        columns: rows.columns(),
        assumed_user: rows.assumed_user().cloned(),
        ..Findings::default()
    };
    let mut keys: Vec<Key> = Vec::new();
    let are_users = rows.are_users();
    let mut rows = SelectedRows::new(rows, selection, OkRows::counted())?;
    while let Some(row) = rows.next()? {
        findings.rows += 1;
        match row.check() {
            Ok((user, conv, conv_type)) => {
                match conv_type {
                    ConvType::Peer => findings.peer += 1,
                    ConvType::Group => findings.group += 1,
                }
                findings.warn(Column::User, user, row.line());
                if !are_users {
                    findings.warn(Column::Conv, conv, row.line());
                }
                if row.may_be_cut_off() {
                    let what = "the input ends within this row, without a line end: it may have been cut off";
                    findings.add_warning(what, row.line(), None);
                }
                let (user_fingerprint, triple) = fingerprints(user, conv, conv_type);
                keys.push(key(user_fingerprint, triple, row.line()));
                on_row(row.line(), user, user_fingerprint);
            }
            Err(error) => {
                if findings.diagnosis.is_none() {
                    findings.diagnosis = row.diagnosis(&error);
                }
                let (kind, example) = kind_and_example(&error);
                let finding = findings.invalid.entry(kind).or_default();
                finding.add(row.line(), example.as_deref());
            }
        }
    }
    keys.sort_unstable();
    findings.count_users(&keys);
    Ok(findings)
}

/// [`check_rows`] for a file or standard input. If there are busy users, a file is read again to find their names.
pub fn check(source: &Source, format: &Format, selection: &Selection) -> Result<Findings, InputError> {
    let findings = check_rows(Rows::open(source, format)?, selection)?;
    name_busy_users(findings, source, format)
}

/// [`check`], which also calls `on_user` once for each different user among the rows that can be sent, in the order of the
/// input, with the line of the user's first row. Takes up to twenty more bytes per user.
///
/// ```
/// use zim_batch::rows::{Format, Selection, Source, check::check_with_users};
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, "user,conv,type\nb,x,0\na,,0\na,x,0\nb,y,0\n")?;
/// let (source, mut users) = (Source::File(file.path().to_owned()), Vec::new());
/// let keep = |line, user: &str| users.push((line, user.to_owned()));
/// check_with_users(&source, &Format::default(), &Selection::default(), keep)?;
/// assert_eq!(users, [(2, "b".to_owned()), (4, "a".to_owned())]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_with_users(
    source: &Source,
    format: &Format,
    selection: &Selection,
    mut on_user: impl FnMut(u64, &str),
) -> Result<Findings, InputError> {
    let mut seen = HashSet::new();
    let on_row = |line, user: &str, fingerprint| {
        if seen.insert(fingerprint) {
            on_user(line, user);
        }
    };
    let findings = check_each(Rows::open(source, format)?, selection, on_row)?;
    name_busy_users(findings, source, format)
}

fn name_busy_users(mut findings: Findings, source: &Source, format: &Format) -> Result<Findings, InputError> {
    if !findings.busy_users.is_empty() && source.can_be_read_twice() {
        let mut rows = Rows::open(source, format)?;
        let busy = findings.busy_users.iter_mut().map(|busy| (busy.first_line, busy));
        let mut unnamed: HashMap<u64, &mut BusyUser> = busy.collect();
        while !unnamed.is_empty()
            && let Some(row) = rows.next_raw()?
        {
            if let Some(busy) = unnamed.remove(&row.line()) {
                busy.user = row.shown()[0].to_string();
            }
        }
    }
    Ok(findings)
}

impl Findings {
    /// Whether users were read, not rows.
    pub fn are_users(&self) -> bool {
        self.columns.conv.is_none()
    }

    /// Rows that can't be sent.
    pub fn invalid_rows(&self) -> u64 {
        self.invalid.values().map(|finding| finding.rows).sum()
    }

    /// Rows with warnings; a row with two warnings counts twice.
    pub fn warned_rows(&self) -> u64 {
        self.warnings.values().map(|finding| finding.rows).sum()
    }

    /// Warns about an ID that may be a mistake.
    fn warn(&mut self, column: Column, id: &str, line: u64) {
        for_each_warning(id, |what, example| {
            self.add_warning(format!("{column} {what}"), line, example)
        });
    }

    fn add_warning(&mut self, what: impl Into<String>, line: u64, example: Option<&str>) {
        self.warnings.entry(what.into()).or_default().add(line, example);
    }

    /// Counts users and repeated rows: both are consecutive in the sorted keys.
    fn count_users(&mut self, keys: &[Key]) {
        let mut repeats: Vec<u32> = Vec::new();
        for user in keys.chunk_by(|one, other| one[..2] == other[..2]) {
            self.users += 1;
            let mut conversations = 0;
            for group in user.chunk_by(|one, other| one[..4] == other[..4]) {
                conversations += 1;
                repeats.extend(group[1..].iter().map(|key| key[4]));
            }
            self.users_full += u64::from(conversations >= MAX_REACHABLE);
            if conversations > MAX_REACHABLE {
                let first_line = user.iter().map(|key| u64::from(key[4])).min().unwrap_or_default();
                self.busy_users.push(BusyUser {
                    user: String::new(),
                    conversations,
                    first_line,
                });
            }
        }
        repeats.sort_unstable();
        self.duplicates = Finding {
            rows: repeats.len() as u64,
            first_lines: repeats.into_iter().take(LINES_KEPT).map(u64::from).collect(),
            example: None,
        };
        self.busy_users
            .sort_by_key(|busy| std::cmp::Reverse(busy.conversations));
    }
}

/// Fingerprints of the user and of the whole row.
fn fingerprints(user: &str, conv: &str, conv_type: ConvType) -> (u64, u64) {
    let mut hasher = crate::fingerprint::hasher();
    hasher.write(user.as_bytes());
    let user_fingerprint = hasher.finish();
    hasher.write_u8(0xff);
    hasher.write(conv.as_bytes());
    hasher.write_u8(conv_type as u8);
    (user_fingerprint, hasher.finish())
}

/// The error without the details of one row, and these details.
fn kind_and_example(error: &RowError) -> (String, Option<String>) {
    match error {
        RowError::TooLong(column, _) => (format!("{column} is longer than {} bytes", crate::row::MAX_ID), None),
        RowError::BadType(found) => {
            let kind = "type is not 0, peer, 2 or group".to_owned();
            (kind, Some(format!("'{found}'")))
        }
        RowError::Spanning {
            error,
            lines: (first, last),
        } => {
            let kind = format!(
                "{}, and the row spans several lines; perhaps a quote is not closed",
                kind_and_example(error).0
            );
            (kind, Some(format!("it spans lines {first} to {last}")))
        }
        other => (other.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Reads;
    use super::super::selection::Only;
    use super::*;
    use crate::row::Outcome;

    fn checked(csv: &str, reads: Reads, only: Option<Only>) -> (Findings, Vec<(u64, String)>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, csv).unwrap();
        let format = Format {
            reads,
            ..Format::default()
        };
        let selection = Selection {
            only,
            ..Selection::default()
        };
        let (source, mut users) = (Source::File(file.path().to_owned()), Vec::new());
        let keep = |line, user: &str| users.push((line, user.to_owned()));
        let findings = check_with_users(&source, &format, &selection, keep).unwrap();
        assert_eq!(findings, check(&source, &format, &selection).unwrap());
        assert_eq!(findings.users, users.len() as u64);
        (findings, users)
    }

    #[test]
    fn each_user_who_can_be_sent_is_found_once_with_the_first_line() {
        let csv =
            "user,conv,type,outcome\nb,x,0,failed\n\na,,0,failed\nb,y,0,failed\n,x,0,failed\na,x,2,failed\nc,x,0,ok\n";
        let failed = Only::Outcomes(vec![Outcome::Failed]);
        for (only, expected) in [
            (Only::All, &[(2, "b"), (7, "a"), (8, "c")][..]),
            (failed, &[(2, "b"), (7, "a")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(line, user)| (*line, (*user).to_owned()))
                .collect();
            assert_eq!(checked(csv, Reads::Rows, Some(only)).1, expected);
        }
    }

    #[test]
    fn users_are_checked_as_rows_are() {
        let (findings, users) = checked("a\nNULL\na\n\"\"\nb \n", Reads::Users, None);
        assert_eq!(
            users,
            [(1, "a"), (2, "NULL"), (5, "b ")].map(|(line, user)| (line, user.to_owned()))
        );
        assert_eq!((findings.rows, findings.peer), (5, 4));
        assert_eq!(findings.duplicates.first_lines, [3]);
        assert_eq!(findings.invalid["user is empty"].first_lines, [4]);
        assert_eq!(findings.warnings.len(), 2, "{:?}", findings.warnings);
    }
}
