//! The types that the stages share: a row, its outcome, and its record. No stage imports another stage for a type.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

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

    /// The form in the API and the report.
    pub fn as_str(self) -> &'static str {
        match self {
            ConvType::Peer => "0",
            ConvType::Group => "2",
        }
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

/// One call to make: clear `user`'s unread count for `conv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The 1-based line of the input on which the row begins; for rows from elsewhere, any number of their own. A report
    /// identifies rows by it.
    pub line: u64,
    /// `FromUserId`, 1 to 32 bytes.
    pub user: String,
    /// `ConvId`, 1 to 32 bytes.
    pub conv: String,
    /// `ConvType`.
    pub conv_type: ConvType,
}

impl Item for Row {
    fn line(&self) -> u64 {
        self.line
    }

    fn key(&self) -> [&str; 3] {
        [&self.user, &self.conv, self.conv_type.as_str()]
    }
}

/// A user whose conversations are to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As [`Row::line`].
    pub line: u64,
    /// The user's ID, 1 to 32 bytes.
    pub user: String,
}

/// The user of a row, whatever its conversation.
impl From<Row> for User {
    fn from(row: Row) -> User {
        User {
            line: row.line,
            user: row.user,
        }
    }
}

/// A conversation of a user, as ZIM lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// `ConvId`.
    pub conv: String,
    /// `ConvType`.
    pub conv_type: ConvType,
    /// `UpdateTime`, in milliseconds; `None` if the answer had none.
    pub updated_at: Option<SystemTime>,
}

/// What a run processes: a [`Row`], or a user whose conversations are listed.
pub trait Item: Send + 'static {
    /// The line that identifies it: see [`Row::line`].
    fn line(&self) -> u64;

    /// Its user, conversation and type, as a report writes them. What it does not have is empty.
    fn key(&self) -> [&str; 3];

    /// The conversations that were listed for it.
    fn into_conversations(self) -> Vec<Conversation>
    where
        Self: Sized,
    {
        Vec::new()
    }
}

/// The result of a row or a user: one line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// The user, as sent.
    pub user: String,
    /// The conversation, as sent; empty for a user.
    pub conv: String,
    /// `0` or `2`; for an invalid row, the field as read; empty for a user.
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
    pub latency: Option<Duration>,
    /// When the row got its outcome.
    pub finished_at: SystemTime,
    /// The conversations that were listed for a user, each once.
    pub conversations: Vec<Conversation>,
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
