//! The record of a row, a user or a lookup, and what was found.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::conv_type::ConvType;
use super::item::User;
use super::outcome::Outcome;
use crate::entries::Entries;

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
