//! The columns of an input, their usual names, and which of them a caller names.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::Serialize;

use crate::row::Column;

/// The usual names of the columns in a header, in lower case.
const USUAL_NAMES: [(Column, &[&str]); 5] = [
    (
        Column::User,
        &["user", "fromuserid", "from_user_id", "user_id", "userid", "用户id"],
    ),
    (
        Column::Conv,
        &[
            "conv",
            "convid",
            "conv_id",
            "conversationid",
            "conversation_id",
            "会话id",
        ],
    ),
    (
        Column::Type,
        &[
            "type",
            "convtype",
            "conv_type",
            "conversationtype",
            "conversation_type",
            "会话类型",
        ],
    ),
    (Column::Outcome, &["outcome"]),
    (Column::Line, &["line"]),
];

/// Other words that stand in headers and are neither IDs nor types, in lower case and without blanks, `_` and `-`.
const OTHER_HEADER_WORDS: [&str; 12] = [
    "uid",
    "account",
    "accountid",
    "memberid",
    "conversation",
    "kind",
    "chattype",
    "用户",
    "账号",
    "会话",
    "类型",
    "用户编号",
];

/// Whether a field is a word that a header has: a usual name of a column, or another such word.
pub(super) fn is_header_word(field: &[u8]) -> bool {
    let is_other_word = |field: &str| {
        let word = field.trim().to_lowercase().replace([' ', '_', '-'], "");
        OTHER_HEADER_WORDS.contains(&word.as_str())
    };
    Column::of_name(field).is_some() || std::str::from_utf8(field).is_ok_and(is_other_word)
}

/// Where the columns of an input are; columns and lines are counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FoundColumns {
    /// The line of the header, if there is one.
    pub header: Option<u64>,
    /// The column of the user.
    pub user: usize,
    /// The column of the conversation; `None` if [users](super::Reads::Users) are read.
    pub conv: Option<usize>,
    /// The column of the conversation's type, likewise.
    #[serde(rename = "type")]
    pub conv_type: Option<usize>,
}

/// `line 1 is the header; user is column 1, conv column 2, type column 3`.
impl fmt::Display for FoundColumns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.header {
            Some(line) => write!(f, "line {line} is the header")?,
            None => f.write_str("no header")?,
        }
        write!(f, "; user is column {}", self.user)?;
        let others = [(Column::Conv, self.conv), (Column::Type, self.conv_type)];
        others
            .into_iter()
            .filter_map(|(column, number)| Some((column, number?)))
            .try_for_each(|(column, number)| write!(f, ", {column} column {number}"))
    }
}

/// A list of users without a known header has several columns, and nothing says which one is the user: it is the first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AssumedUser {
    /// The line of the first record, counted from 1. It is taken for a user.
    pub line: u64,
    /// How many columns the first record has.
    pub columns: usize,
    /// The first user, shortened and made safe to show.
    pub first: String,
}

impl Column {
    /// The column with this usual name, ignoring case and surrounding blanks.
    pub(super) fn of_name(field: &[u8]) -> Option<Column> {
        let field = std::str::from_utf8(field).ok()?.trim();
        let has_name = |names: &[&str]| names.iter().any(|name| field.eq_ignore_ascii_case(name));
        USUAL_NAMES
            .iter()
            .find(|(_, names)| has_name(names))
            .map(|(column, _)| *column)
    }
}

/// Where a column is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRef {
    /// The column with this name in the header.
    Name(String),
    /// The column with this number, from 1.
    Number(NonZeroUsize),
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnRef::Name(name) => f.write_str(name),
            ColumnRef::Number(number) => number.fmt(f),
        }
    }
}

/// Which columns are the user, the conversation and the type, read from text like `user=A,conv=B,type=C`: header names,
/// or numbers from 1. A column that is not mentioned keeps its usual names or, without a header, its usual position.
///
/// ```
/// use zim_batch::rows::{ColumnRef, Columns};
///
/// let columns: Columns = "user=2, conv=Room ID".parse()?;
/// assert_eq!(columns.conv, Some(ColumnRef::Name("Room ID".into())));
/// assert!(matches!(columns.user, Some(ColumnRef::Number(number)) if number.get() == 2));
/// assert!("colour=red".parse::<Columns>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The column of the user.
    pub user: Option<ColumnRef>,
    /// The column of the conversation.
    pub conv: Option<ColumnRef>,
    /// The column of the type.
    pub conv_type: Option<ColumnRef>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for pair in text.split(',') {
            let (key, name) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not KEY=NAME; write user=A,conv=B,type=C"))?;
            let given = match key.trim() {
                "user" => &mut columns.user,
                "conv" => &mut columns.conv,
                "type" => &mut columns.conv_type,
                other => {
                    return Err(format!(
                        "'{other}' is not a column; the columns are user, conv and type"
                    ));
                }
            };
            let name = name.trim();
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            let column = match (is_number, name.parse()) {
                _ if name.is_empty() => return Err(format!("'{}' has no name after the '='", key.trim())),
                (true, Ok(number)) => ColumnRef::Number(number),
                (true, Err(_)) => return Err(format!("'{name}' is no column; columns are numbered from 1")),
                (false, _) => ColumnRef::Name(name.to_owned()),
            };
            if given.replace(column).is_some() {
                return Err(format!("'{}' is given twice", key.trim()));
            }
        }
        let given = [&columns.user, &columns.conv, &columns.conv_type];
        for (index, column) in given.iter().enumerate() {
            if let Some(column) = column
                && given[..index].iter().any(|other| other.as_ref() == Some(column))
            {
                return Err(format!("'{column}' can't be two columns at once"));
            }
        }
        Ok(columns)
    }
}

/// In the form that [`Columns::from_str`] reads.
impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [("user", &self.user), ("conv", &self.conv), ("type", &self.conv_type)];
        let given = pairs
            .into_iter()
            .filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?)));
        f.write_str(&given.collect::<Vec<_>>().join(","))
    }
}
