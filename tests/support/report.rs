//! Reads the results of a run: the report, the outside log and the summary.

use std::fs;
use std::path::Path;

use serde_json::Value;

pub const REPORT_HEADER: &str =
    "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at";

/// What `--json` prints.
#[derive(Debug)]
pub struct Summary(pub Value);

impl Summary {
    #[track_caller]
    pub fn count(&self, key: &str) -> u64 {
        self.0[key]
            .as_u64()
            .unwrap_or_else(|| panic!("`{key}` is no count in {}", self.0))
    }

    /// Why the run stopped; empty if it did not.
    pub fn stopped(&self) -> String {
        self.0["stopped"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn assert_counts(&self, counts: &[(&str, u64)]) {
        for (key, count) in counts {
            assert_eq!(self.count(key), *count, "`{key}` in {}", self.0);
        }
    }

    #[track_caller]
    pub fn assert_adds_up(&self) {
        let parts = [
            "ok",
            "outside",
            "failed",
            "invalid",
            "skipped",
            "already_done",
            "not_run",
        ];
        let sum: u64 = parts.iter().map(|part| self.count(part)).sum();
        assert_eq!(self.count("rows"), sum, "the summary does not add up: {}", self.0);
    }
}

/// One record of a report, by the names of its header.
#[derive(Clone, Debug)]
pub struct Record {
    pub line: u64,
    pub user: String,
    pub conv: String,
    pub kind: String,
    pub outcome: String,
    pub code: String,
    pub http: String,
    pub message: String,
    pub request_id: String,
    pub attempts: usize,
    pub latency_ms: String,
    pub finished_at: String,
}

impl Record {
    /// Panics unless `finished_at` is like `2026-08-01T12:34:56.789Z`.
    #[track_caller]
    pub fn assert_is_finished(&self) {
        let digit_as_0 = |c: char| if c.is_ascii_digit() { '0' } else { c };
        let shape: String = self.finished_at.chars().map(digit_as_0).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{self:?}");
        assert!(self.finished_at.as_str() > "2025", "{self:?}");
    }
}

pub const LIST_HEADER: &str =
    "line,user,outcome,conversations,code,http,message,request_id,attempts,latency_ms,finished_at";
pub const ROWS_HEADER: &str = "user,conv,type,updated_at";

/// One record of a list report.
#[derive(Clone, Debug)]
pub struct ListRecord {
    pub line: u64,
    pub user: String,
    pub outcome: String,
    pub conversations: usize,
    pub code: String,
    pub http: String,
    pub message: String,
    pub request_id: String,
    pub attempts: usize,
    pub latency_ms: String,
    pub finished_at: String,
}

/// Reads a list report.
#[track_caller]
pub fn read_list(path: &Path) -> Vec<ListRecord> {
    let read = |record: [String; 11]| {
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("`{text}` is no number"));
        let [
            line,
            user,
            outcome,
            conversations,
            code,
            http,
            message,
            request_id,
            attempts,
            ..,
        ] = &record;
        ListRecord {
            line: number(line) as u64,
            user: user.clone(),
            outcome: outcome.clone(),
            conversations: number(conversations),
            code: code.clone(),
            http: http.clone(),
            message: message.clone(),
            request_id: request_id.clone(),
            attempts: number(attempts),
            latency_ms: record[9].clone(),
            finished_at: record[10].clone(),
        }
    };
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    fields(&text, LIST_HEADER).into_iter().map(read).collect()
}

/// Reads what a list wrote as rows: user, conversation, type, time.
#[track_caller]
pub fn read_rows(text: &str) -> Vec<[String; 4]> {
    fields(text, ROWS_HEADER)
}

/// The records of a CSV with this header.
#[track_caller]
fn fields<const N: usize>(text: &str, header: &str) -> Vec<[String; N]> {
    assert_eq!(text.lines().next(), Some(header), "the header");
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records = reader.records().map(|record| record.expect("it is well-formed CSV"));
    records
        .map(|record| std::array::from_fn(|index| record[index].to_owned()))
        .collect()
}

/// Reads a report or an outside log; its header must be the one of the contract.
#[track_caller]
pub fn read_report(path: &Path) -> Vec<Record> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(
        text.lines().next(),
        Some(REPORT_HEADER),
        "the header of {}",
        path.display()
    );
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("it has a header").clone();
    let read = |record: csv::StringRecord| {
        let at = |name| {
            header
                .iter()
                .position(|column| column == name)
                .expect("the header is the contract's")
        };
        let field = |name| record[at(name)].to_owned();
        let number = |name| {
            field(name)
                .parse()
                .unwrap_or_else(|_| panic!("`{name}` is no number in {record:?}"))
        };
        Record {
            line: number("line") as u64,
            attempts: number("attempts"),
            user: field("user"),
            conv: field("conv"),
            kind: field("type"),
            outcome: field("outcome"),
            code: field("code"),
            http: field("http"),
            message: field("message"),
            request_id: field("request_id"),
            latency_ms: field("latency_ms"),
            finished_at: field("finished_at"),
        }
    };
    reader
        .records()
        .map(|record| read(record.expect("the report is well-formed CSV")))
        .collect()
}
