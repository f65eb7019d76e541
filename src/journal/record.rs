//! The format of the files: the columns of a report, of a list report and of a rows file, by name.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::entries::Entries;
use crate::row::{Conversation, Outcome, Record};

/// The columns of a report, and of an outside log, in order.
pub const COLUMNS: [&str; 12] = [
    "line",
    "user",
    "conv",
    "type",
    "outcome",
    "code",
    "http",
    "message",
    "request_id",
    "attempts",
    "latency_ms",
    "finished_at",
];

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

/// Which command wrote a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `clear`: a record for each row. An outside log is of this kind too.
    Clear,
    /// `list`: a record for each user.
    List,
}

impl Kind {
    /// What it has records of: `rows` or `users`.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Clear => "rows",
            Kind::List => "users",
        }
    }

    /// The columns of such a report, in order.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Kind::Clear => &COLUMNS,
            Kind::List => &LIST_COLUMNS,
        }
    }
}

/// A record as it stands in a report. The fields are the columns: `conv` and `type` only in a report of `clear`,
/// `conversations` only in a list report.
///
/// Another program may have saved the report, with numbers and times in another form. So only `line`, `outcome` and
/// `conversations` must be valid.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReportRecord<'a> {
    pub line: u64,
    pub user: &'a str,
    /// `None` in a list report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conv: Option<&'a str>,
    /// `None` in a list report.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub conv_type: Option<&'a str>,
    pub outcome: Outcome,
    /// `None` in a report of `clear`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<u64>,
    #[serde(deserialize_with = "csv::invalid_option")]
    pub code: Option<i64>,
    #[serde(deserialize_with = "csv::invalid_option")]
    pub http: Option<u16>,
    #[serde(borrow)]
    pub message: Message<'a>,
    pub request_id: &'a str,
    #[serde(deserialize_with = "csv::invalid_option")]
    pub attempts: Option<u64>,
    #[serde(deserialize_with = "csv::invalid_option")]
    pub latency_ms: Option<u64>,
    /// RFC 3339, unless another program has saved the report.
    #[serde(borrow)]
    pub finished_at: Cow<'a, str>,
}

impl<'a> ReportRecord<'a> {
    /// The record of a simulated or a real run, for a report of this kind.
    pub fn new(record: &'a Record, kind: Kind, is_simulated: bool) -> ReportRecord<'a> {
        let is_clear = kind == Kind::Clear;
        ReportRecord {
            line: record.line,
            user: &record.user,
            conv: is_clear.then_some(&record.conv),
            conv_type: is_clear.then_some(&record.conv_type),
            outcome: record.outcome,
            conversations: (!is_clear).then_some(record.conversations.len() as u64),
            code: record.code,
            http: record.http,
            message: Message {
                is_simulated,
                text: &record.message,
                entries: Some(record.entries),
            },
            request_id: &record.request_id,
            attempts: Some(record.attempts.into()),
            latency_ms: record.latency.map(|latency| latency.as_millis() as u64),
            finished_at: humantime::format_rfc3339_millis(record.finished_at).to_string().into(),
        }
    }

    /// When the row got its outcome, in milliseconds since 1970; `None` if another program has changed the format.
    pub fn finished_at(&self) -> Option<i64> {
        let time: jiff::Timestamp = self.finished_at.parse().ok()?;
        Some(time.as_millisecond())
    }

    /// What became of the entries that were listed for a user.
    pub fn entries(&self) -> Entries {
        let all_rows = || Entries::all_rows(self.conversations.unwrap_or_default());
        self.message.entries.unwrap_or_else(all_rows)
    }

    /// The user, conversation and type. What it does not have is empty.
    pub fn key(&self) -> [&'a str; 3] {
        [
            self.user,
            self.conv.unwrap_or_default(),
            self.conv_type.unwrap_or_default(),
        ]
    }
}

/// The message of a record. It also says what has no column: whether the record was made by a simulated run, so that such a
/// report is never mistaken for that of a real one, and what became of the entries that were listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub is_simulated: bool,
    pub text: &'a str,
    /// `None` if it does not say so, because each entry became a row.
    pub entries: Option<Entries>,
}

const SIMULATED: &str = "simulated: ";

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_simulated { SIMULATED } else { "" };
        write!(f, "{prefix}{}{}", self.text, self.entries.unwrap_or_default())
    }
}

impl Serialize for Message<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message<'a>, D::Error> {
        let field = <&str>::deserialize(deserializer)?;
        let simulated = field.strip_prefix(SIMULATED);
        let (text, entries) = Entries::split_off(simulated.unwrap_or(field));
        Ok(Message {
            is_simulated: simulated.is_some(),
            text,
            entries,
        })
    }
}

/// A row as it stands in a rows file. The fields are [`ROWS_COLUMNS`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RowRecord<'a> {
    pub user: &'a str,
    pub conv: &'a str,
    #[serde(rename = "type")]
    pub conv_type: &'a str,
    /// RFC 3339; empty if it is not known.
    pub updated_at: Cow<'a, str>,
}

impl<'a> RowRecord<'a> {
    pub fn new(user: &'a str, conversation: &'a Conversation) -> RowRecord<'a> {
        let updated_at = conversation.updated_at.map(humantime::format_rfc3339_millis);
        RowRecord {
            user,
            conv: &conversation.conv,
            conv_type: conversation.conv_type.digit(),
            updated_at: updated_at.map(|time| time.to_string()).unwrap_or_default().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::row::{ConvType, Subject};

    fn record() -> Record {
        Record {
            subject: Subject::Row,
            line: 2,
            user: "alice".into(),
            conv: "b,ob".into(),
            conv_type: "0".into(),
            outcome: Outcome::Outside,
            code: Some(-1),
            http: Some(200),
            message: "said \"no\"".into(),
            request_id: String::new(),
            attempts: 3,
            latency: Some(Duration::from_micros(31_999)),
            finished_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_615_186_943_007),
            conversations: Vec::new(),
            entries: Entries::default(),
            looked_up: None,
        }
    }

    /// The header and the record.
    fn csv(line: impl Serialize) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(line).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn a_record_of_clear_is_a_line_with_the_columns_of_a_report() {
        assert_eq!(
            csv(ReportRecord::new(&record(), Kind::Clear, false)),
            COLUMNS.join(",")
                + "\n2,alice,\"b,ob\",0,outside,-1,200,\"said \"\"no\"\"\",,3,31,2021-03-08T07:02:23.007Z\n"
        );
        let without = Record {
            outcome: Outcome::Invalid,
            conv: String::new(),
            code: None,
            http: None,
            message: "conv is empty".into(),
            latency: None,
            ..record()
        };
        assert_eq!(
            csv(ReportRecord::new(&without, Kind::Clear, true)),
            COLUMNS.join(",") + "\n2,alice,,0,invalid,,,simulated: conv is empty,,3,,2021-03-08T07:02:23.007Z\n"
        );
    }

    #[test]
    fn a_record_of_list_is_a_line_with_the_columns_of_a_list_report() {
        let conversation = Conversation {
            conv: "#a,b".into(),
            conv_type: ConvType::Group,
            updated_at: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_615_186_943_007)),
        };
        let listed = Record {
            outcome: Outcome::Ok,
            conversations: vec![conversation.clone(), conversation.clone()],
            entries: Entries {
                all: 3,
                repeated: 1,
                ..Entries::default()
            },
            ..record()
        };
        assert_eq!(
            csv(ReportRecord::new(&listed, Kind::List, true)),
            LIST_COLUMNS.join(",")
                + "\n2,alice,ok,2,-1,200,\"simulated: said \"\"no\"\"; of 3 entries, listed again: 1\",,3,31,2021-03-08T07:02:23.007Z\n"
        );
        assert_eq!(
            csv(RowRecord::new("alice", &conversation)),
            "user,conv,type,updated_at\nalice,\"#a,b\",2,2021-03-08T07:02:23.007Z\n"
        );
        let unknown = Conversation {
            updated_at: None,
            ..conversation
        };
        assert!(csv(RowRecord::new("alice", &unknown)).ends_with("alice,\"#a,b\",2,\n"));
    }
}
