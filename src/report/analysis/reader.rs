//! One record after another, added to the analysis; and what becomes of lines that are no records.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::reasons::Reasons;
use super::users::Users;
use super::{Analysis, Counts, Kind, LAST_MINUTE, LONGEST, Spans, Timeline, milliseconds};
use crate::csv_reader::CsvRecord;
use crate::report::outcomes::SIMULATED;
use crate::row::Outcome;

/// More than this at the end of a report is no torn record, in bytes: a record has a few hundred.
const MAX_TORN: u64 = 32 * 1024;

/// The most different codes that are counted one by one. ZIM has a few hundred.
pub(super) const MAX_CODES: usize = 2000;

/// The most users that are named.
const USERS_NAMED: usize = 1000;

/// What could not be read as records.
#[derive(Default)]
pub(super) struct Unread {
    /// The first of them in the middle of the report, and how many.
    damaged: Option<(u64, u64)>,
    /// Those with no record behind them so far: the first, how many, their bytes.
    tail: Option<(u64, u64, u64)>,
    /// There are whole records inside, behind a quote that is not closed.
    hides_records: bool,
}

impl Unread {
    pub fn note(&mut self, record: &CsvRecord) {
        let tail = self.tail.get_or_insert((record.line, 0, 0));
        tail.1 += 1;
        tail.2 += record.bytes();
        self.hides_records |= record.iter().any(holds_record);
    }

    /// A record follows, so what could not be read is not the torn end.
    pub fn close(&mut self) {
        if let Some((line, count, _)) = self.tail.take() {
            let damaged = self.damaged.get_or_insert((line, 0));
            damaged.1 += count;
        }
    }
}

/// Whether one of the lines after the first is a whole record.
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

/// Adds up records.
pub(super) struct Reader {
    analysis: Analysis,
    users: Users,
    reasons: Reasons,
}

/// Where the columns are, in either kind of report.
struct Places {
    len: usize,
    outcome: usize,
    code: usize,
    message: usize,
    attempts: usize,
    latency: usize,
    finished: usize,
}

impl Kind {
    fn places(self) -> Places {
        let outcome = match self {
            Kind::Clear => 4,
            Kind::List => 2,
        };
        let code = match self {
            Kind::Clear => 5,
            Kind::List => 4,
        };
        Places {
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
                latencies: Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are in order"),
                longest: 0,
                simulated: false,
                untimed: 0,
                recent: 0,
                asked_at: milliseconds(SystemTime::now()),
                is_torn: false,
                damaged: None,
            },
            users: Users::default(),
            reasons: Reasons::default(),
        }
    }

    /// Adds a record; `false` if it is none.
    pub fn take(&mut self, record: &CsvRecord) -> bool {
        let places = self.analysis.kind.places();
        if record.error.is_some() || record.len() != places.len {
            return false;
        }
        let field = |index| record.get(index).unwrap_or_default();
        let number = |index| std::str::from_utf8(field(index)).ok()?.parse::<u64>().ok();
        let (Some(line), Some(outcome)) = (number(0), Outcome::from_bytes(field(places.outcome))) else {
            return false;
        };
        let finished_at = time(field(places.finished));
        // Without a line end it may have been meant to be longer, unless its last field can't be.
        if record.at_end && (finished_at.is_none() || !field(places.finished).ends_with(b"Z")) {
            return false;
        }
        let analysis = &mut self.analysis;
        analysis.rows += 1;
        analysis.counts[outcome as usize] += 1;
        let attempts = number(places.attempts).unwrap_or_default();
        analysis.requests = analysis.requests.saturating_add(attempts);
        analysis.retries = analysis.retries.saturating_add(attempts.saturating_sub(1));
        if analysis.kind == Kind::List {
            analysis.conversations = analysis.conversations.saturating_add(number(3).unwrap_or_default());
        }
        let code = std::str::from_utf8(field(places.code))
            .ok()
            .and_then(|code| code.parse::<i64>().ok());
        if let Some(code) = code {
            if analysis.codes.len() < MAX_CODES || analysis.codes.contains_key(&code) {
                *analysis.codes.entry(code).or_default() += 1;
            } else {
                analysis.other_codes += 1;
            }
        }
        let message = field(places.message);
        let (message, is_simulated) = match message.strip_prefix(SIMULATED.as_bytes()) {
            Some(message) => (message, true),
            None => (message, false),
        };
        analysis.simulated |= is_simulated;
        let latency = number(places.latency);
        if let Some(latency) = latency {
            analysis.latencies.saturating_record(latency);
            analysis.longest = analysis.longest.max(latency);
        }
        match finished_at {
            Some(time) => {
                analysis.first = Some(analysis.first.map_or(time, |first| first.min(time)));
                analysis.last = Some(analysis.last.map_or(time, |last| last.max(time)));
                analysis.recent += u64::from(time > analysis.asked_at - LAST_MINUTE);
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

    /// All records are taken.
    pub fn finish(self, unread: &Unread) -> Analysis {
        let mut analysis = self.analysis;
        (analysis.users, analysis.users_missed) = self.users.top(USERS_NAMED);
        analysis.reasons = self.reasons.sorted();
        analysis.damaged = unread.damaged;
        if let Some((line, count, bytes)) = unread.tail {
            if bytes > MAX_TORN || unread.hides_records {
                let (first, damaged) = unread.damaged.unwrap_or((line, 0));
                analysis.damaged = Some((first, damaged + count));
            } else {
                analysis.is_torn = true;
            }
        }
        analysis
    }
}

/// RFC 3339, as the report writes it or as other programs do.
fn time(field: &[u8]) -> Option<i64> {
    let time: Timestamp = std::str::from_utf8(field).ok()?.parse().ok()?;
    Some(time.as_millisecond())
}
