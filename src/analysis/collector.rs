//! Adds records to the analysis.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;

use super::model::{Analysis, LAST_MINUTE};
use super::present::Present;
use super::spans::Spans;
use super::timeline::Timeline;
use super::users::Users;
use super::values::MAX_LATENCY;
use crate::journal::{Kind, ReportRecord};
use crate::reasons::Reasons;
use crate::row::{Counts, Outcome};
use crate::text::milliseconds;

/// The maximum number of codes that are counted separately. ZIM has a few hundred.
pub(super) const MAX_CODES: usize = 2000;

/// The maximum number of users in the analysis.
const TOP_USERS: usize = 1000;

/// Collects records into an analysis.
pub(super) struct Collector {
    analysis: Analysis,
    users: Users,
    reasons: Reasons,
    /// Records after this moment are recent, in milliseconds since 1970.
    recent_since: i64,
    /// When the last of them was made so far.
    recent_until: i64,
}

impl Collector {
    /// For reports whose run, if one is under way, began at `began`.
    pub fn new(began: Option<i64>) -> Collector {
        let read_at = milliseconds(SystemTime::now());
        let recent_since = began.unwrap_or(i64::MIN).max(read_at - LAST_MINUTE);
        Collector {
            recent_since,
            recent_until: recent_since,
            analysis: Analysis {
                report: String::new(),
                parts: Vec::new(),
                superseded: 0,
                kind: Kind::Clear,
                rows: 0,
                counts: Counts::default(),
                requests: 0,
                retries: 0,
                conversations: 0,
                users_full: 0,
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
                recent_gap: 0,
                runs: Vec::new(),
                to_do: None,
                listed: None,
                under_way: None,
                present: Present::default(),
                read_at,
                is_torn: false,
                damaged: None,
            },
            users: Users::default(),
            reasons: Reasons::default(),
        }
    }

    /// Adds a record. Returns when its row got its outcome, if that can be read.
    pub fn add(&mut self, record: &ReportRecord) -> Option<i64> {
        self.add_row(record, Some(record.line));
        self.add_work(record)
    }

    /// Adds what the record says of its row, which stands on this line of the input.
    pub fn add_row(&mut self, record: &ReportRecord, line: Option<u64>) {
        let analysis = &mut self.analysis;
        analysis.rows += 1;
        analysis.counts[record.outcome] += 1;
        let conversations = record.conversations.unwrap_or_default();
        analysis.conversations = analysis.conversations.saturating_add(conversations);
        analysis.users_full += u64::from(record.entries().are_full());
        if let Some(code) = record.code {
            if analysis.codes.len() < MAX_CODES || analysis.codes.contains_key(&code) {
                *analysis.codes.entry(code).or_default() += 1;
            } else {
                analysis.other_codes += 1;
            }
        }
        if matches!(record.outcome, Outcome::Failed | Outcome::Outside) {
            self.users.insert(record.user, record.outcome);
        }
        self.reasons
            .insert(record.outcome, record.code, record.message.text, line);
    }

    /// Adds what the record says of the requests that were sent, and when.
    pub fn add_work(&mut self, record: &ReportRecord) -> Option<i64> {
        let analysis = &mut self.analysis;
        let attempts = record.attempts.unwrap_or_default();
        analysis.requests = analysis.requests.saturating_add(attempts);
        analysis.retries = analysis.retries.saturating_add(attempts.saturating_sub(1));
        analysis.simulated |= record.message.is_simulated;
        if let Some(latency) = record.latency_ms {
            analysis.latencies.saturating_record(latency);
            analysis.longest = analysis.longest.max(latency);
        }
        let finished_at = record.finished_at();
        match finished_at {
            Some(time) => {
                analysis.first = Some(analysis.first.map_or(time, |first| first.min(time)));
                analysis.last = Some(analysis.last.map_or(time, |last| last.max(time)));
                if time > self.recent_since {
                    analysis.recent += 1;
                    analysis.recent_gap = analysis.recent_gap.max(time - self.recent_until);
                    self.recent_until = self.recent_until.max(time);
                }
                analysis.spans.insert(time);
                analysis.timeline.insert(time, record.outcome, record.latency_ms);
            }
            None => analysis.untimed += 1,
        }
        finished_at
    }

    /// Adds a record whose row has a later one.
    pub fn add_superseded(&mut self) {
        self.analysis.superseded += 1;
    }

    /// Completes the analysis, except for what the log of runs says.
    pub fn finish(self, kind: Kind) -> Analysis {
        let mut analysis = self.analysis;
        analysis.kind = kind;
        analysis.recent_gap = analysis.recent_gap.max(analysis.read_at - self.recent_until);
        (analysis.users, analysis.users_missed) = self.users.top(TOP_USERS);
        analysis.reasons = self.reasons.sorted();
        analysis
    }
}
