//! What a list writes: a row for each conversation, and a record for each user.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::outcomes::{message, rfc3339_millis};
use crate::row::{Conversation, Outcome, Record};

/// The columns of a list report, in order.
pub const LIST_COLUMNS: [&str; 11] = [
    "line",
    "user",
    "outcome",
    "conversations",
    "code",
    "http",
    "message",
    "request_id",
    "attempts",
    "latency_ms",
    "finished_at",
];

/// The columns of a rows file, in order.
pub const ROWS_COLUMNS: [&str; 4] = ["user", "conv", "type", "updated_at"];

/// A user's record in serialised form: the fields are [`LIST_COLUMNS`].
#[derive(Serialize)]
pub(super) struct UserLine<'a> {
    line: u64,
    user: &'a str,
    outcome: Outcome,
    conversations: usize,
    code: Option<i64>,
    http: Option<u16>,
    message: Cow<'a, str>,
    request_id: &'a str,
    attempts: u32,
    latency_ms: Option<u128>,
    #[serde(serialize_with = "rfc3339_millis")]
    finished_at: SystemTime,
}

impl<'a> UserLine<'a> {
    pub fn new(record: &'a Record, is_simulated: bool) -> UserLine<'a> {
        UserLine {
            line: record.line,
            user: &record.user,
            outcome: record.outcome,
            conversations: record.conversations.len(),
            code: record.code,
            http: record.http,
            message: message(record, is_simulated),
            request_id: &record.request_id,
            attempts: record.attempts,
            latency_ms: record.latency.map(|latency| latency.as_millis()),
            finished_at: record.finished_at,
        }
    }
}

/// A row in serialised form: the fields are [`ROWS_COLUMNS`].
#[derive(Serialize)]
pub(super) struct RowLine<'a> {
    user: &'a str,
    conv: &'a str,
    #[serde(rename = "type")]
    conv_type: &'a str,
    #[serde(serialize_with = "if_known")]
    updated_at: Option<SystemTime>,
}

impl<'a> RowLine<'a> {
    pub fn new(user: &'a str, conversation: &'a Conversation) -> RowLine<'a> {
        RowLine {
            user,
            conv: &conversation.conv,
            conv_type: conversation.conv_type.as_str(),
            updated_at: conversation.updated_at,
        }
    }
}

fn if_known<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339_millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::row::ConvType;

    fn csv(line: impl Serialize) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(line).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn the_fields_are_the_columns_and_an_unknown_time_is_empty() {
        let conversation = Conversation {
            conv: "#a,b".into(),
            conv_type: ConvType::Group,
            updated_at: Some(UNIX_EPOCH + Duration::from_millis(1_615_186_943_007)),
        };
        let record = Record {
            line: 2,
            user: "alice".into(),
            conv: String::new(),
            conv_type: "".into(),
            outcome: Outcome::Ok,
            code: Some(0),
            http: Some(200),
            message: "success".into(),
            request_id: "7".into(),
            attempts: 3,
            latency: Some(Duration::from_millis(31)),
            finished_at: UNIX_EPOCH,
            conversations: vec![conversation.clone(), conversation.clone()],
        };
        assert_eq!(
            csv(UserLine::new(&record, true)),
            LIST_COLUMNS.join(",") + "\n2,alice,ok,2,0,200,simulated: success,7,3,31,1970-01-01T00:00:00.000Z\n"
        );
        assert_eq!(
            csv(RowLine::new("alice", &conversation)),
            "user,conv,type,updated_at\nalice,\"#a,b\",2,2021-03-08T07:02:23.007Z\n"
        );
        let unknown = Conversation {
            updated_at: None,
            ..conversation
        };
        assert!(csv(RowLine::new("alice", &unknown)).ends_with("alice,\"#a,b\",2,\n"));
    }
}
