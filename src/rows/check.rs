//! What can be said of an input without sending anything: problems by line, duplicates, users with too many rows.
//!
//! One pass, and about twenty bytes a row: duplicates and busy users are found by sorting fingerprints at the end, not
//! by keeping the rows.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;

use super::plan::Outcomes;
use super::{Column, Format, PlanError, RowError, Rows, Selection, Source, suspect};
use crate::row::ConvType;

/// How many lines of each kind of finding are kept.
const LINES_KEPT: usize = 5;

/// How many of a user's conversations the API reaches by default (ZEGO, "ClearConversationUnread").
pub const NEWEST: u64 = 1000;

/// The characters that ZEGO's documents allow in IDs, besides letters and digits. The documents disagree among
/// themselves, so another one is worth a warning and no more.
const USUAL: &[u8] = b"!#$%&()+-:;<=.>?@[]^_{}|~ ";

/// A kind of finding: how often, and where first.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// In how many rows.
    pub rows: u64,
    /// The first of their lines, at most five.
    pub first_lines: Vec<u64>,
    /// What was found in the first of them, where that differs from row to row.
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

/// A user with more rows than the API reaches conversations.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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
pub struct Findings {
    /// Rows in all.
    pub rows: u64,
    /// Rows that can be sent, by type.
    pub peer: u64,
    /// Likewise.
    pub group: u64,
    /// Different users among the rows that can be sent.
    pub users: u64,
    /// Invalid rows, by what is wrong.
    pub invalid: BTreeMap<String, Finding>,
    /// Warnings about rows that are sent all the same.
    pub warnings: BTreeMap<String, Finding>,
    /// Rows that say the same as an earlier one.
    pub duplicates: Finding,
    /// Users with more than [`NEWEST`] conversations in the input, the busiest first.
    pub busy_users: Vec<BusyUser>,
}

/// A row that can be sent, as five numbers that sort by user, then by what it says, then by line.
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

/// Reads the whole input and says what is to be said of it.
///
/// ```
/// use zim_batch::rows::{Format, Rows, Selection, check::check_rows};
///
/// let csv = "user,conv,type\na,b,0\na,b,peer\na,,0\n";
/// let rows = Rows::from_reader(Box::new(csv.as_bytes()), "example", &Format::default())?;
/// let findings = check_rows(rows, "example", &Selection::default())?;
/// assert_eq!((findings.rows, findings.users), (3, 1));
/// assert_eq!(findings.duplicates.first_lines, [3]);
/// assert_eq!(findings.invalid["conv is empty"].first_lines, [4]);
/// # Ok::<(), zim_batch::rows::PlanError>(())
/// ```
pub fn check_rows(mut rows: Rows, place: &str, selection: &Selection) -> Result<Findings, PlanError> {
    selection.may_be_used_on(&rows, place)?;
    let mut findings = Findings::default();
    let mut keys: Vec<Key> = Vec::new();
    let is_wary = selection.is_wary_of(&rows);
    let mut outcomes = Outcomes::default();
    while let Some(row) = rows.next_raw()? {
        if !selection.takes(&row) {
            continue;
        }
        if is_wary {
            outcomes.count(&row);
        }
        findings.rows += 1;
        match row.check() {
            Ok((user, conv, conv_type)) => {
                match conv_type {
                    ConvType::Peer => findings.peer += 1,
                    ConvType::Group => findings.group += 1,
                }
                findings.warn(Column::User, user, row.line());
                findings.warn(Column::Conv, conv, row.line());
                if row.is_perhaps_cut_off() {
                    findings.add_warning(
                        "the input ends within this row, without a line end: perhaps it was cut off",
                        row.line(),
                    );
                }
                let (user, triple) = fingerprints(user, conv, conv_type);
                keys.push(key(user, triple, row.line()));
            }
            Err(problem) => {
                let (kind, example) = kind_of(&problem);
                let finding = findings.invalid.entry(kind).or_default();
                finding.add(row.line(), example.as_deref());
            }
        }
    }
    outcomes.refuse_ok(place)?;
    keys.sort_unstable();
    findings.count_users(&keys);
    Ok(findings)
}

/// [`check_rows`] for a file or standard input. A file is looked into once more if there are busy users, for their
/// names.
pub fn check(source: &Source, format: &Format, selection: &Selection) -> Result<Findings, PlanError> {
    let place = source.to_string();
    let mut findings = check_rows(Rows::open(source, format)?, &place, selection)?;
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
    /// Rows that can't be sent.
    pub fn invalid_rows(&self) -> u64 {
        self.invalid.values().map(|finding| finding.rows).sum()
    }

    /// Warnings in all.
    pub fn warned_rows(&self) -> u64 {
        self.warnings.values().map(|finding| finding.rows).sum()
    }

    fn add_warning(&mut self, what: impl Into<String>, line: u64) {
        self.warnings.entry(what.into()).or_default().add(line, None);
    }

    fn warn(&mut self, column: Column, id: &str, line: u64) {
        let bytes = id.as_bytes();
        let is_blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        if !bytes.iter().all(|byte| IS_USUAL[usize::from(*byte)]) {
            self.warn_of_characters(column, id, line);
        }
        if is_blank(bytes.first()) || is_blank(bytes.last()) {
            self.add_warning(
                format!("{column} begins or ends with a blank, which is part of the ID"),
                line,
            );
        }
        if let Some(nothing) = suspect::nothing(id) {
            let what = format!("{column} is {nothing}, which programs write where there is nothing");
            self.add_warning(what, line);
        }
        if suspect::is_shortened_number(id) {
            let what = format!("{column} is a number that a spreadsheet has shortened");
            self.warnings.entry(what).or_default().add(line, Some(id.trim()));
        }
    }

    /// Characters that ZEGO's documents don't list, by name where nobody would see what it is.
    fn warn_of_characters(&mut self, column: Column, id: &str, line: u64) {
        let is_usual = |c: char| c.is_ascii() && IS_USUAL[c as usize];
        let mut unusual: Vec<char> = id.chars().filter(|c| !is_usual(*c)).collect();
        unusual.sort_unstable();
        unusual.dedup();
        let mut is_other = false;
        let mut is_line_end = false;
        for character in unusual {
            match suspect::name_of(character) {
                Some(name) => {
                    let what = format!("{column} has U+{:04X}, {name}, in it", u32::from(character));
                    self.add_warning(what, line);
                }
                None if matches!(character, '\r' | '\n') => is_line_end = true,
                None => is_other = true,
            }
        }
        if is_line_end {
            self.add_warning(
                format!("{column} has a line break in it; perhaps a quote is not closed"),
                line,
            );
        }
        if is_other {
            self.add_warning(
                format!("{column} has a character that ZEGO's documents don't list"),
                line,
            );
        }
    }

    /// Walks the sorted keys: each user is a run of them, and so is each repeated row.
    fn count_users(&mut self, keys: &[Key]) {
        let mut repeats: Vec<u32> = Vec::new();
        for user in keys.chunk_by(|one, other| one[..2] == other[..2]) {
            self.users += 1;
            let mut conversations = 0;
            for alike in user.chunk_by(|one, other| one[..4] == other[..4]) {
                conversations += 1;
                repeats.extend(alike[1..].iter().map(|key| key[4]));
            }
            if conversations > NEWEST {
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

/// Which bytes are of characters that ZEGO's documents list: letters, digits and [`USUAL`].
const IS_USUAL: [bool; 256] = {
    let mut is_usual = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is_usual[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < USUAL.len() {
        is_usual[USUAL[index] as usize] = true;
        index += 1;
    }
    is_usual
};

/// Numbers that differ for different users, and for different rows.
fn fingerprints(user: &str, conv: &str, conv_type: ConvType) -> (u64, u64) {
    let mut hasher = crate::fingerprint::hasher();
    hasher.write(user.as_bytes());
    let of_user = hasher.finish();
    hasher.write_u8(0xff);
    hasher.write(conv.as_bytes());
    hasher.write_u8(conv_type as u8);
    (of_user, hasher.finish())
}

/// What is wrong, without the particulars of one row, and these.
fn kind_of(problem: &RowError) -> (String, Option<String>) {
    match problem {
        RowError::TooLong(column, _) => (format!("{column} is longer than {} bytes", crate::row::MAX_ID), None),
        RowError::BadType(found) => {
            let found: String = found.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let kind = "type is not 0, peer, 2 or group".to_owned();
            (kind, Some(format!("'{found}'")))
        }
        RowError::Spanning {
            problem,
            lines: (first, last),
        } => {
            let kind = format!(
                "{}, and the row spans several lines; perhaps a quote is not closed",
                kind_of(problem).0
            );
            (kind, Some(format!("it spans lines {first} to {last}")))
        }
        other => (other.to_string(), None),
    }
}
