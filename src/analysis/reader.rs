//! Adds records to the analysis, and collects lines that are not records.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::model::{Analysis, Kind, LAST_MINUTE};
use super::reasons::Reasons;
use super::spans::Spans;
use super::timeline::Timeline;
use super::users::Users;
use super::values::{Counts, MAX_LATENCY, milliseconds};
use crate::csv_reader::CsvRecord;
use crate::journal::outcomes::SIMULATED;
use crate::row::Outcome;

/// The maximum length of a torn record, in bytes. A record has a few hundred.
const MAX_TORN: u64 = 32 * 1024;

/// The maximum number of codes that are counted separately. ZIM has a few hundred.
pub(super) const MAX_CODES: usize = 2000;

/// The maximum number of users in the analysis.
const TOP_USERS: usize = 1000;

/// Lines that could not be read as records.
#[derive(Default)]
pub(super) struct UnreadableLines {
    /// Those in the middle of the report: the first one, and how many.
    damaged: Option<(u64, u64)>,
    /// Those after the last record so far: the first one, how many, and their bytes.
    tail: Option<(u64, u64, u64)>,
    /// They contain complete records, after a quote that is not closed.
    hides_records: bool,
}

impl UnreadableLines {
    pub fn note(&mut self, record: &CsvRecord) {
        let tail = self.tail.get_or_insert((record.line, 0, 0));
        tail.1 += 1;
        tail.2 += record.bytes();
        self.hides_records |= record.iter().any(holds_record);
    }

    /// Call when a record follows: the lines before it are not a torn end.
    pub fn close(&mut self) {
        if let Some((line, count, _)) = self.tail.take() {
            let damaged = self.damaged.get_or_insert((line, 0));
            damaged.1 += count;
        }
    }
}

/// Whether a line of the field, after the first, is a complete record.
fn holds_record(field: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', field).any(|end| {
        let line = field[end + 1..].split(|&byte| byte == b'\n').next().unwrap_or_default();
        let outcome = |index| {
            line.split(|&byte| byte == b',')
                .nth(index)
                .and_then(Outcome::from_bytes)
        };
        outcome(4).or(outcome(2)).is_some()
    })
}

/// Collects records into an analysis.
pub(super) struct Reader {
    analysis: Analysis,
    users: Users,
    reasons: Reasons,
}

/// The indexes of the columns in a kind of report.
struct ColumnIndexes {
    len: usize,
    outcome: usize,
    code: usize,
    message: usize,
    attempts: usize,
    latency: usize,
    finished: usize,
}

impl Kind {
    fn indexes(self) -> ColumnIndexes {
        let outcome = match self {
            Kind::Clear => 4,
            Kind::List => 2,
        };
        let code = match self {
            Kind::Clear => 5,
            Kind::List => 4,
        };
        ColumnIndexes {
            len: code + 7,
            outcome,
            code,
            message: code + 2,
            attempts: code + 4,
            latency: code + 5,
            finished: code + 6,
        }
    }
}

impl Reader {
    pub fn new(kind: Kind) -> Reader {
        Reader {
            analysis: Analysis {
                kind,
                rows: 0,
                counts: Counts::default(),
                requests: 0,
                retries: 0,
                conversations: 0,
                codes: BTreeMap::new(),
                other_codes: 0,
                reasons: Vec::new(),
                users: Vec::new(),
                users_missed: 0,
                first: None,
                last: None,
                spans: Spans::default(),
                timeline: Timeline::default(),
                latencies: Histogram::new_with_bounds(1, MAX_LATENCY, 3).expect("the bounds are in order"),
                longest: 0,
                simulated: false,
                untimed: 0,
                recent: 0,
                read_at: milliseconds(SystemTime::now()),
                is_torn: false,
                damaged: None,
            },
            users: Users::default(),
            reasons: Reasons::default(),
        }
    }

    /// Adds a record; returns `false` if it is not valid.
    pub fn add(&mut self, record: &CsvRecord) -> bool {
        let indexes = self.analysis.kind.indexes();
        if record.error.is_some() || record.len() != indexes.len {
            return false;
        }
        let field = |index| record.get(index).unwrap_or_default();
        let number = |index| std::str::from_utf8(field(index)).ok()?.parse::<u64>().ok();
        let (Some(line), Some(outcome)) = (number(0), Outcome::from_bytes(field(indexes.outcome))) else {
            return false;
        };
        let finished_at = time(field(indexes.finished));
        // Without a line end it may be incomplete, unless its last field is complete.
        if record.at_end && (finished_at.is_none() || !field(indexes.finished).ends_with(b"Z")) {
            return false;
        }
        let analysis = &mut self.analysis;
        analysis.rows += 1;
        analysis.counts[outcome as usize] += 1;
        let attempts = number(indexes.attempts).unwrap_or_default();
        analysis.requests = analysis.requests.saturating_add(attempts);
        analysis.retries = analysis.retries.saturating_add(attempts.saturating_sub(1));
        if analysis.kind == Kind::List {
            analysis.conversations = analysis.conversations.saturating_add(number(3).unwrap_or_default());
        }
        let code = std::str::from_utf8(field(indexes.code))
            .ok()
            .and_then(|code| code.parse::<i64>().ok());
        if let Some(code) = code {
            if analysis.codes.len() < MAX_CODES || analysis.codes.contains_key(&code) {
                *analysis.codes.entry(code).or_default() += 1;
            } else {
                analysis.other_codes += 1;
            }
        }
        let message = field(indexes.message);
        let (message, is_simulated) = match message.strip_prefix(SIMULATED.as_bytes()) {
            Some(message) => (message, true),
            None => (message, false),
        };
        analysis.simulated |= is_simulated;
        let latency = number(indexes.latency);
        if let Some(latency) = latency {
            analysis.latencies.saturating_record(latency);
            analysis.longest = analysis.longest.max(latency);
        }
        match finished_at {
            Some(time) => {
                analysis.first = Some(analysis.first.map_or(time, |first| first.min(time)));
                analysis.last = Some(analysis.last.map_or(time, |last| last.max(time)));
                analysis.recent += u64::from(time > analysis.read_at - LAST_MINUTE);
                analysis.spans.insert(time);
                analysis.timeline.insert(time, outcome, latency);
            }
            None => analysis.untimed += 1,
        }
        if matches!(outcome, Outcome::Failed | Outcome::Outside) {
            self.users.insert(field(1), outcome);
        }
        if matches!(outcome, Outcome::Failed | Outcome::Invalid) {
            self.reasons.insert(outcome, code, message, line);
        }
        true
    }

    /// Completes the analysis.
    pub fn finish(self, unreadable: &UnreadableLines) -> Analysis {
        let mut analysis = self.analysis;
        (analysis.users, analysis.users_missed) = self.users.top(TOP_USERS);
        analysis.reasons = self.reasons.sorted();
        analysis.damaged = unreadable.damaged;
        if let Some((line, count, bytes)) = unreadable.tail {
            if bytes > MAX_TORN || unreadable.hides_records {
                let (first, damaged) = unreadable.damaged.unwrap_or((line, 0));
                analysis.damaged = Some((first, damaged + count));
            } else {
                analysis.is_torn = true;
            }
        }
        analysis
    }
}

/// Parses RFC 3339, as the report or another program writes it.
fn time(field: &[u8]) -> Option<i64> {
    let time: Timestamp = std::str::from_utf8(field).ok()?.parse().ok()?;
    Some(time.as_millisecond())
}
