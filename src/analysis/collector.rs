//! Adds records to the analysis.

use std::collections::BTreeMap;
use std::time::SystemTime;

use hdrhistogram::Histogram;

use super::model::{Analysis, LAST_MINUTE};
use super::runs::Runs;
use super::spans::Spans;
use super::timeline::Timeline;
use super::users::Users;
use super::values::MAX_LATENCY;
use crate::journal::{Kind, ReportRecord, Unreadable};
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
    runs: Runs,
    /// Records after this moment are recent, in milliseconds since 1970.
    recent_since: i64,
}

impl Collector {
    pub fn new(runs: Runs) -> Collector {
        let read_at = milliseconds(SystemTime::now());
        let began = runs.under_way.and_then(|run| run.began).unwrap_or(i64::MIN);
        Collector {
            recent_since: began.max(read_at - LAST_MINUTE),
            analysis: Analysis {
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
                runs: Vec::new(),
                to_do: None,
                listed: None,
                under_way: runs.under_way,
                read_at,
                is_torn: false,
                damaged: None,
            },
            users: Users::default(),
            reasons: Reasons::default(),
            runs,
        }
    }

    /// Adds a record.
    pub fn add(&mut self, record: &ReportRecord) {
        let analysis = &mut self.analysis;
        analysis.rows += 1;
        analysis.counts[record.outcome] += 1;
        let attempts = record.attempts.unwrap_or_default();
        analysis.requests = analysis.requests.saturating_add(attempts);
        analysis.retries = analysis.retries.saturating_add(attempts.saturating_sub(1));
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
        analysis.simulated |= record.message.is_simulated;
        if let Some(latency) = record.latency_ms {
            analysis.latencies.saturating_record(latency);
            analysis.longest = analysis.longest.max(latency);
        }
        match record.finished_at() {
            Some(time) => {
                analysis.first = Some(analysis.first.map_or(time, |first| first.min(time)));
                analysis.last = Some(analysis.last.map_or(time, |last| last.max(time)));
                analysis.recent += u64::from(time > self.recent_since);
                analysis.spans.insert(time);
                self.runs.note(time);
                analysis.timeline.insert(time, record.outcome, record.latency_ms);
            }
            None => analysis.untimed += 1,
        }
        if matches!(record.outcome, Outcome::Failed | Outcome::Outside) {
            self.users.insert(record.user, record.outcome);
        }
        self.reasons
            .insert(record.outcome, record.code, record.message.text, record.line);
    }

    /// Completes the analysis.
    pub fn finish(mut self, kind: Kind, unreadable: &Unreadable) -> Analysis {
        let mut analysis = self.analysis;
        analysis.kind = kind;
        analysis.to_do = self.runs.finish(analysis.rows);
        analysis.runs = self.runs.list;
        (analysis.users, analysis.users_missed) = self.users.top(TOP_USERS);
        analysis.reasons = self.reasons.sorted();
        analysis.damaged = unreadable.damaged.map(|lines| (lines.first, lines.count));
        analysis.is_torn = unreadable.torn.is_some();
        analysis
    }
}
