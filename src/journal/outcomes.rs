//! The report's records: one per row.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use crate::row::{Outcome, Record};

/// The report's columns, in order.
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

/// A record in serialised form: the fields are [`COLUMNS`].
#[derive(Serialize)]
pub(super) struct Line<'a> {
    line: u64,
    user: &'a str,
    conv: &'a str,
    #[serde(rename = "type")]
    conv_type: &'a str,
    outcome: Outcome,
    code: Option<i64>,
    http: Option<u16>,
    message: Cow<'a, str>,
    request_id: &'a str,
    attempts: u32,
    latency_ms: Option<u128>,
    #[serde(serialize_with = "rfc3339_millis")]
    finished_at: SystemTime,
}

impl<'a> Line<'a> {
    pub fn new(record: &'a Record, is_simulated: bool) -> Line<'a> {
        Line {
            line: record.line,
            user: &record.user,
            conv: &record.conv,
            conv_type: &record.conv_type,
            outcome: record.outcome,
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

/// The message as it is written.
pub(super) fn message(record: &Record, is_simulated: bool) -> Cow<'_, str> {
    match is_simulated {
        true => format!("{SIMULATED}{}", record.message).into(),
        false => record.message.as_str().into(),
    }
}

pub(super) fn rfc3339_millis<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// The prefix of every message of a simulated run, so that its report is never mistaken for that of a real run.
pub(crate) const SIMULATED: &str = "simulated: ";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::appender::writer;
    use super::*;

    fn record() -> Record {
        Record {
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
        }
    }

    fn written(record: &Record, is_simulated: bool) -> String {
        let mut writer = writer(Vec::new());
        writer.serialize(Line::new(record, is_simulated)).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn the_fields_of_a_record_are_the_columns() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(Line::new(&record(), false)).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        assert_eq!(text.lines().next().unwrap(), COLUMNS.join(","));
    }

    #[test]
    fn a_record_is_a_line_of_csv_with_empty_fields_for_missing_values() {
        assert_eq!(
            written(&record(), false),
            "2,alice,\"b,ob\",0,outside,-1,200,\"said \"\"no\"\"\",,3,31,2021-03-08T07:02:23.007Z\n"
        );
        let without = Record {
            outcome: Outcome::Invalid,
            code: None,
            http: None,
            message: "user is empty".into(),
            latency: None,
            ..record()
        };
        assert_eq!(
            written(&without, true),
            "2,alice,\"b,ob\",0,invalid,,,simulated: user is empty,,3,,2021-03-08T07:02:23.007Z\n"
        );
    }
}
