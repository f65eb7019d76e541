//! The types that the stages share: a row, its outcome, and its record. No stage imports another stage for a type.

use std::borrow::Cow;
use std::fmt;
use std::ops::{AddAssign, Index, IndexMut};
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::entries::Entries;

/// The longest user or conversation ID, in bytes (ZEGO, "ClearConversationUnread").
pub const MAX_ID: usize = 32;

/// A word that is not one of the expected names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not a known {kind}; it must be one of {expected}")]
#[non_exhaustive]
pub struct UnknownName {
    /// The word.
    pub found: String,
    /// The kind of name expected.
    pub kind: &'static str,
    /// The known names.
    pub expected: String,
}

impl UnknownName {
    pub(crate) fn new(found: &str, kind: &'static str, names: &[&str]) -> UnknownName {
        UnknownName {
            found: found.to_owned(),
            kind,
            expected: names.join(", "),
        }
    }
}

/// The type of a conversation, as the API numbers it. (1 and 3 exist in ZIM's client SDKs; this API takes neither.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConvType {
    /// One-to-one: the conversation's ID is the peer's user ID.
    Peer = 0,
    /// Group: the conversation's ID is the group ID.
    Group = 2,
}

impl ConvType {
    /// Parses a field of any bytes in the same way as [`ConvType::from_str`].
    ///
    /// ```
    /// use zim_batch::row::ConvType;
    ///
    /// assert_eq!(ConvType::from_bytes(b" Group"), Some(ConvType::Group));
    /// assert_eq!(ConvType::from_bytes(b"\xff"), None);
    /// ```
    pub fn from_bytes(field: &[u8]) -> Option<ConvType> {
        let field = field.trim_ascii();
        let is_any = |words: [&str; 3]| words.iter().any(|word| field.eq_ignore_ascii_case(word.as_bytes()));
        if is_any(["0", "peer", "单聊"]) {
            Some(ConvType::Peer)
        } else if is_any(["2", "group", "群聊"]) {
            Some(ConvType::Group)
        } else {
            None
        }
    }

    /// The digit in the API and the report: `0` or `2`.
    pub fn digit(self) -> &'static str {
        match self {
            ConvType::Peer => "0",
            ConvType::Group => "2",
        }
    }
}

/// `peer` or `group`.
impl fmt::Display for ConvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ConvType::Peer => "peer",
            ConvType::Group => "group",
        })
    }
}

/// As [`Display`](fmt::Display) shows it.
impl Serialize for ConvType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a text that [`FromStr`] parses, or from the number 0 or 2.
impl<'de> Deserialize<'de> for ConvType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ConvType, D::Error> {
        struct TextOrNumber;

        impl Visitor<'_> for TextOrNumber {
            type Value = ConvType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0, peer, 2 or group")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConvType, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ConvType, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

/// Parses `0`, `peer` or `单聊`, `2`, `group` or `群聊`, ignoring case and surrounding blanks.
///
/// ```
/// use zim_batch::row::ConvType;
///
/// assert_eq!("单聊".parse(), Ok(ConvType::Peer));
/// assert!("1".parse::<ConvType>().is_err());
/// ```
impl FromStr for ConvType {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<ConvType, UnknownName> {
        ConvType::from_bytes(text.as_bytes())
            .ok_or_else(|| UnknownName::new(text, "type of conversation", &["0", "peer", "2", "group"]))
    }
}

/// A column of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Column {
    /// The user.
    User,
    /// The conversation.
    Conv,
    /// The conversation's type.
    Type,
    /// The outcome, in an earlier report.
    Outcome,
    /// The line, in an earlier report.
    Line,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::User => "user",
            Column::Conv => "conv",
            Column::Type => "type",
            Column::Outcome => "outcome",
            Column::Line => "line",
        })
    }
}

/// Why a row is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowError {
    /// The record has too few fields.
    Missing(Column),
    /// The field is empty.
    Empty(Column),
    /// An ID of this many bytes, more than [`MAX_ID`].
    TooLong(Column, usize),
    /// Bytes that are not valid in the input's encoding.
    NotText(Column),
    /// Neither 0, peer, 2 nor group; the field as read.
    BadType(String),
    /// A quote opened in this row is never closed, so the row contains the rest of the input.
    UnclosedQuote,
    /// The record is longer than 1 MiB; probably a quote is not closed.
    RecordTooLong,
    /// The header again, as in concatenated files.
    HeaderAgain,
    /// Another error, in a row that spans several lines: perhaps a quote was opened by mistake.
    Spanning {
        /// What is wrong with the row.
        error: Box<RowError>,
        /// The line on which it begins, and the one on which it ends.
        lines: (u64, u64),
    },
}

impl std::error::Error for RowError {}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RowError::Missing(column) => write!(f, "{column} is missing"),
            RowError::Empty(column) => write!(f, "{column} is empty"),
            RowError::TooLong(column, bytes) => {
                write!(f, "{column} is {bytes} bytes long, at most {MAX_ID} are allowed")
            }
            RowError::NotText(column) => write!(
                f,
                "{column} is not valid text in the input's encoding (UTF-8 unless another is given)"
            ),
            RowError::BadType(found) => write!(f, "type is '{found}', it must be 0 or peer, 2 or group"),
            RowError::UnclosedQuote => {
                f.write_str("a quote opened here is never closed, so the rest of the input is in this row")
            }
            RowError::RecordTooLong => f.write_str("longer than 1 MiB; most likely a quote that is not closed"),
            RowError::HeaderAgain => f.write_str("the header again"),
            RowError::Spanning {
                error,
                lines: (first, last),
            } => write!(
                f,
                "{error}, and the row spans lines {first} to {last}; perhaps a quote is not closed"
            ),
        }
    }
}

/// One call to make: clear `user`'s unread count for `conv`. Its IDs have been checked.
///
/// With serde it has the fields `user`, `conv` and `type`; deserializing checks them as [`Row::new`] does.
///
/// ```
/// use zim_batch::{ConvType, Row};
///
/// let row = Row::new("alice", "bob", ConvType::Peer)?;
/// assert_eq!(row.user(), "alice");
/// assert!(Row::new("alice", "", ConvType::Peer).is_err());
/// # Ok::<(), zim_batch::RowError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRow")]
pub struct Row {
    user: String,
    conv: String,
    #[serde(rename = "type")]
    conv_type: ConvType,
}

/// A row as deserialized.
#[derive(Deserialize)]
struct UncheckedRow {
    user: String,
    conv: String,
    #[serde(rename = "type")]
    conv_type: ConvType,
}

impl TryFrom<UncheckedRow> for Row {
    type Error = RowError;

    fn try_from(row: UncheckedRow) -> Result<Row, RowError> {
        Row::new(row.user, row.conv, row.conv_type)
    }
}

impl Row {
    /// A row to send. IDs are taken as they are, never trimmed.
    ///
    /// # Errors
    /// [`RowError::Empty`] or [`RowError::TooLong`], if an ID is not 1 to [`MAX_ID`] bytes long.
    pub fn new(user: impl Into<String>, conv: impl Into<String>, conv_type: ConvType) -> Result<Row, RowError> {
        Ok(Row {
            user: checked(Column::User, user.into())?,
            conv: checked(Column::Conv, conv.into())?,
            conv_type,
        })
    }

    /// A row that has been checked, or a user read as a row without a conversation.
    pub(crate) fn read(user: &str, conv: &str, conv_type: ConvType) -> Row {
        Row {
            user: user.to_owned(),
            conv: conv.to_owned(),
            conv_type,
        }
    }

    /// `FromUserId`, 1 to 32 bytes.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `ConvId`, 1 to 32 bytes.
    pub fn conv(&self) -> &str {
        &self.conv
    }

    /// `ConvType`.
    pub fn conv_type(&self) -> ConvType {
        self.conv_type
    }
}

/// A user, to list conversations of or to look up. Its ID has been checked.
///
/// With serde it has the field `user`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "UncheckedUser")]
pub struct User {
    user: String,
}

/// A user as deserialized.
#[derive(Deserialize)]
struct UncheckedUser {
    user: String,
}

impl TryFrom<UncheckedUser> for User {
    type Error = RowError;

    fn try_from(user: UncheckedUser) -> Result<User, RowError> {
        User::new(user.user)
    }
}

impl User {
    /// A user. The ID is taken as it is, never trimmed.
    ///
    /// # Errors
    /// [`RowError::Empty`] or [`RowError::TooLong`], if the ID is not 1 to [`MAX_ID`] bytes long.
    pub fn new(id: impl Into<String>) -> Result<User, RowError> {
        let user = checked(Column::User, id.into())?;
        Ok(User { user })
    }

    /// The user's ID, 1 to 32 bytes.
    pub fn id(&self) -> &str {
        &self.user
    }
}

/// The user of a row, whatever its conversation.
impl From<Row> for User {
    fn from(row: Row) -> User {
        User { user: row.user }
    }
}

fn checked(column: Column, id: String) -> Result<String, RowError> {
    check_id(column, &id)?;
    Ok(id)
}

/// Checks the length of an ID.
pub(crate) fn check_id(column: Column, id: &str) -> Result<(), RowError> {
    match id.len() {
        0 => Err(RowError::Empty(column)),
        1..=MAX_ID => Ok(()),
        bytes => Err(RowError::TooLong(column, bytes)),
    }
}

/// An item of a run, with the number that identifies it in records and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered<I> {
    /// The 1-based line of the input on which it begins; without an input, its place in the order of the items, from 1.
    pub line: u64,
    /// The item.
    pub item: I,
}

impl<I> Numbered<I> {
    /// The same line with another kind of item.
    pub fn map<J>(self, convert: impl FnOnce(I) -> J) -> Numbered<J> {
        Numbered {
            line: self.line,
            item: convert(self.item),
        }
    }
}

/// A conversation of a user, as ZIM lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Conversation {
    /// `ConvId`.
    pub conv: String,
    /// `ConvType`.
    #[serde(rename = "type")]
    pub conv_type: ConvType,
    /// `UpdateTime`, in milliseconds; `None` if the answer had none.
    #[serde(serialize_with = "optional_rfc3339_millis")]
    pub updated_at: Option<SystemTime>,
}

/// Users that were looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LookedUp {
    /// How many of them exist.
    pub existing: u64,
    /// Those who do not exist.
    pub missing: Vec<User>,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A row that is cleared.
    #[default]
    Row,
    /// A user who is listed, or users who are looked up.
    User,
}

/// The result of a row, a user or a lookup: one record of the report.
///
/// With serde it has the report's columns (`line`, `user`, `conv`, `type`, `outcome`, `code`, `http`, `message`,
/// `request_id`, `attempts`, `latency_ms`, `finished_at`), and what was found, if anything was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Whether it is about a row or a user.
    #[serde(skip)]
    pub subject: Subject,
    /// The 1-based line of the input on which the row begins; without an input, its place in the order of the rows, from 1.
    pub line: u64,
    /// The user, as sent; empty for a lookup.
    pub user: String,
    /// The conversation, as sent; empty for a user or a lookup.
    pub conv: String,
    /// `0` or `2`; for an invalid row, the field as read; empty for a user or a lookup.
    #[serde(rename = "type")]
    pub conv_type: Cow<'static, str>,
    /// The outcome.
    pub outcome: Outcome,
    /// ZIM's return code of the last answer.
    pub code: Option<i64>,
    /// The HTTP status of the last answer.
    pub http: Option<u16>,
    /// ZIM's message, or what went wrong.
    pub message: String,
    /// ZIM's RequestId of the last answer; may be empty.
    pub request_id: String,
    /// Requests sent for the row.
    pub attempts: u32,
    /// The duration of the last attempt, from when its request was sent or, if it never was, from the start of the
    /// attempt. `None` if there was no attempt.
    #[serde(rename = "latency_ms", serialize_with = "optional_millis")]
    pub latency: Option<Duration>,
    /// When the row got its outcome.
    #[serde(serialize_with = "rfc3339_millis")]
    pub finished_at: SystemTime,
    /// The conversations that were listed for a user, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conversations: Vec<Conversation>,
    /// What became of the entries that ZIM has listed for the user. The report has it in `message`.
    #[serde(skip)]
    pub(crate) entries: Entries,
    /// What was found in a lookup of users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_up: Option<LookedUp>,
}

impl Record {
    /// The record of a row that gets its outcome now, with nothing sent. `key`: its user, conversation and type.
    pub fn new(line: u64, key: [String; 3], outcome: Outcome, message: String) -> Record {
        let [user, conv, conv_type] = key;
        Record {
            subject: Subject::Row,
            line,
            user,
            conv,
            conv_type: conv_type.into(),
            outcome,
            code: None,
            http: None,
            message,
            request_id: String::new(),
            attempts: 0,
            latency: None,
            finished_at: SystemTime::now(),
            conversations: Vec::new(),
            entries: Entries::default(),
            looked_up: None,
        }
    }
}

pub(crate) fn rfc3339_millis<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

fn optional_rfc3339_millis<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.map(|time| humantime::format_rfc3339_millis(time).to_string());
    text.serialize(serializer)
}

fn optional_millis<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_millis() as u64).serialize(serializer)
}

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Cleared, or listed.
    Ok,
    /// Not reachable: the conversation does not exist, or is not among the user's newest 1000.
    Outside,
    /// Could not be cleared or listed.
    Failed,
    /// Not sent, because it can't be: see the message.
    Invalid,
    /// Not sent, because it repeats an earlier row.
    Skipped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] = [
        Outcome::Ok,
        Outcome::Outside,
        Outcome::Failed,
        Outcome::Invalid,
        Outcome::Skipped,
    ];

    /// The form in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Outside => "outside",
            Outcome::Failed => "failed",
            Outcome::Invalid => "invalid",
            Outcome::Skipped => "skipped",
        }
    }

    /// Parses a field of a report.
    pub(crate) fn from_bytes(field: &[u8]) -> Option<Outcome> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.as_str().as_bytes() == field)
    }
}

/// Parses the form of [`Outcome::as_str`].
///
/// ```
/// use zim_batch::row::Outcome;
///
/// assert_eq!("outside".parse(), Ok(Outcome::Outside));
/// assert!("fine".parse::<Outcome>().is_err());
/// ```
impl FromStr for Outcome {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Outcome, UnknownName> {
        Outcome::from_bytes(text.as_bytes())
            .ok_or_else(|| UnknownName::new(text, "outcome", &Outcome::ALL.map(Outcome::as_str)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many rows have each outcome.
///
/// ```
/// use zim_batch::row::{Counts, Outcome};
///
/// let mut counts = Counts::default();
/// counts[Outcome::Ok] += 2;
/// assert_eq!((counts[Outcome::Ok], counts[Outcome::Failed], counts.total()), (2, 0, 2));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; Outcome::ALL.len()]);

impl Counts {
    /// How many rows there are in total.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Outcome> for Counts {
    type Output = u64;

    fn index(&self, outcome: Outcome) -> &u64 {
        &self.0[outcome as usize]
    }
}

impl IndexMut<Outcome> for Counts {
    fn index_mut(&mut self, outcome: Outcome) -> &mut u64 {
        &mut self.0[outcome as usize]
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        for outcome in Outcome::ALL {
            self[outcome] += other[outcome];
        }
    }
}
