//! The result of an analysis.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::present::Present;
use super::runs::{Run, UnderWay};
use super::several::Part;
use super::spans::Spans;
use super::timeline::Timeline;
use super::users::UserRows;
use crate::journal::Kind;
use crate::limiter::Timetable;
use crate::reasons::Reason;
use crate::row::{Counts, Outcome};
use crate::run::stats::ListedUsers;
use crate::run::summary::{Latencies, Summary, UsersSummary};
use crate::text::{milliseconds, system_time};

/// The period of [`Analysis::recent_rate`], in milliseconds.
pub(super) const LAST_MINUTE: i64 = 60_000;

/// In this time, in milliseconds, a run that is neither slow nor interrupted makes a record.
const INTERRUPTION: i64 = 10_000;

/// The analysis of a report. Times are in milliseconds since 1970, UTC.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Analysis {
    /// The report's path; of several, the first one's.
    pub report: String,
    /// The reports, if several were [read as one](Analysis::from_files).
    pub parts: Vec<Part>,
    /// Which command wrote it.
    pub kind: Kind,
    /// Its records. Of several reports: those that count.
    pub rows: u64,
    /// Records that don't count, because another report has a later one of the same conversation.
    pub superseded: u64,
    pub(super) counts: Counts,
    /// Requests sent for them, and for the users if the runs have listed them. So are the retries, the codes, the latencies,
    /// and the times of the first and the last record.
    pub requests: u64,
    /// Requests that were not a row's first; of users, those for further pages too.
    pub retries: u64,
    /// Conversations found; only in reports of `list`.
    pub conversations: u64,
    /// Users with 1000 conversations, the most that ZIM lists; only in reports of `list`.
    pub users_full: u64,
    /// Records by ZIM's return code of the last answer.
    pub codes: BTreeMap<i64, u64>,
    /// Records with codes beyond the maximum number of separate codes.
    pub other_codes: u64,
    /// Why rows are `failed` or `invalid`; the most frequent first.
    pub reasons: Vec<Reason>,
    /// The users with most `failed` and `outside` rows, most first; at most 1000.
    pub users: Vec<UserRows>,
    /// How many more rows any user may have: 0 unless more than 100 000 users have such rows.
    pub users_missed: u64,
    /// The time of the first record.
    pub first: Option<i64>,
    /// The time of the last record.
    pub last: Option<i64>,
    pub(crate) spans: Spans,
    pub(crate) timeline: Timeline,
    pub(crate) latencies: Histogram<u64>,
    pub(super) longest: u64,
    /// The rows were sent to the simulator, not to ZIM.
    pub simulated: bool,
    /// Records whose time can't be read.
    pub untimed: u64,
    /// The runs, in the order in which they began; none if there is no log of runs.
    pub runs: Vec<Run>,
    /// How many records the report is to have, by the log of runs.
    pub to_do: Option<u64>,
    /// The list report, if the rows are those that the runs have listed.
    pub listed: Option<Box<Analysis>>,
    /// The run that holds the report, if there is one.
    pub under_way: Option<UnderWay>,
    /// What that run is doing at present, as far as the caller has added it.
    pub present: Present,
    /// Records of the present run in the minute before the analysis began.
    pub(super) recent: u64,
    /// The longest time without a record in that minute, in milliseconds.
    pub(super) recent_gap: i64,
    pub(super) read_at: i64,
    /// The last record is torn and was ignored.
    pub is_torn: bool,
    /// Lines in the middle of the report that are not records and were ignored: the first one, and how many.
    pub damaged: Option<(u64, u64)>,
}

impl Analysis {
    /// The summary of all runs together, as far as the report tells.
    pub fn summary(&self) -> Summary {
        // While a run is under way, they are its own.
        let not_run = self
            .left()
            .or(self.listed_left())
            .filter(|_| self.under_way.is_none())
            .unwrap_or_default();
        Summary {
            rows: self.rows + not_run,
            not_run,
            requests: self.requests,
            retries: self.retries,
            conversations: (self.kind == Kind::List).then_some(self.conversations),
            users_full: match &self.listed {
                Some(listed) => Some(listed.users_full),
                None => (self.kind == Kind::List).then_some(self.users_full),
            },
            latency_ms: self.latency_ms(),
            codes: self.codes.clone(),
            reasons: self.reasons.clone(),
            input: self.input(),
            simulated: self.simulated,
            users: self.listed.as_ref().map(|listed| listed.users_summary()),
            ..Summary::of_outcomes(self.counts, Counts::default())
        }
    }

    /// The input of the newest run. Several reports may have different ones.
    fn input(&self) -> Option<String> {
        let newest = self.runs.last().filter(|_| self.parts.is_empty())?;
        Some(newest.begin.input.clone())
    }

    /// As the users of a report of the rows that were listed.
    fn users_summary(&self) -> UsersSummary {
        let not_run = self.left().unwrap_or_default();
        UsersSummary {
            total: self.rows + not_run,
            ok: self.counts[Outcome::Ok],
            failed: self.counts[Outcome::Failed],
            invalid: self.counts[Outcome::Invalid],
            skipped: self.counts[Outcome::Skipped],
            not_run,
            full: self.users_full,
            conversations: self.conversations,
            reasons: self.reasons.clone(),
        }
    }

    /// Adds the list report of the users, of which there are so many. When all of them are listed, it is known how many rows
    /// there are to be.
    pub(super) fn add_listed(&mut self, mut listed: Analysis, users: Option<u64>) {
        listed.or_to_do(users);
        self.to_do = (listed.left() == Some(0)).then_some(listed.conversations);
        self.to_do = self.to_do.filter(|to_do| *to_do >= self.rows);
        self.set_listed(listed);
    }

    /// Sets the list report of the users, and adds its requests and times.
    pub(super) fn set_listed(&mut self, listed: Analysis) {
        self.requests = self.requests.saturating_add(listed.requests);
        self.retries = self.retries.saturating_add(listed.retries);
        for (code, users) in &listed.codes {
            *self.codes.entry(*code).or_default() += users;
        }
        self.other_codes += listed.other_codes;
        // Both have the same bounds.
        let _ = self.latencies.add(&listed.latencies);
        self.longest = self.longest.max(listed.longest);
        self.first = [self.first, listed.first].into_iter().flatten().min();
        self.last = self.last.max(listed.last);
        self.spans.extend(&listed.spans);
        self.listed = Some(Box::new(listed));
    }

    /// Whether some of [`Analysis::retries`] may be no retries but requests for further pages of users, which a list report
    /// can't tell apart.
    pub fn may_have_further_pages(&self) -> bool {
        self.kind == Kind::List || self.listed.as_ref().is_some_and(|listed| listed.retries > 0)
    }

    /// All records, with those that don't count.
    pub fn records(&self) -> u64 {
        self.rows + self.superseded
    }

    /// Records of this outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.counts[outcome]
    }

    /// Quantiles of the latencies of the rows' last attempts, in milliseconds.
    pub fn latency_ms(&self) -> Latencies {
        let quantile = |q| self.latencies.value_at_quantile(q).min(self.longest) as f64;
        Latencies {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.longest as f64,
        }
    }

    /// Whether any record has a latency.
    pub fn has_latency(&self) -> bool {
        !self.latencies.is_empty()
    }

    /// The pauses, in order: from the last record before to the first record after.
    pub fn pauses(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.spans.pauses()
    }

    /// The minimum duration of a pause, in milliseconds: a minute, unless there are too many pauses.
    pub fn min_pause(&self) -> i64 {
        self.spans.min_pause()
    }

    /// Records per second in the minute before the report was read, or since the present run began: by the log of runs, or
    /// else with the first record after the last pause.
    pub fn recent_rate(&self) -> f64 {
        self.recently(self.recent)
    }

    /// So many records in the time of [`Analysis::recent_rate`], per second.
    fn recently(&self, records: u64) -> f64 {
        records as f64 * 1000.0 / self.recent_time() as f64
    }

    /// The time of [`Analysis::recent_rate`], in milliseconds, at least a second.
    fn recent_time(&self) -> i64 {
        let minute_ago = self.read_at - LAST_MINUTE;
        let after_pause = self.spans.iter().next_back().map_or(minute_ago, |(start, _)| start);
        let began = self.under_way.and_then(|run| run.began).unwrap_or(after_pause);
        (self.read_at - began.max(after_pause).max(minute_ago)).max(1000)
    }

    /// Sets how many records the report is to have, unless the log of runs says so, or says that not all rows are listed yet.
    pub fn or_to_do(&mut self, rows: Option<u64>) {
        let rows = rows.filter(|_| self.listed.is_none());
        self.to_do = self.to_do.or(rows).filter(|to_do| *to_do >= self.rows);
    }

    /// How many of the rows that were listed so far have no record yet; `None` if the rows were not listed by the runs.
    pub fn listed_left(&self) -> Option<u64> {
        // The rows of several runs may be the same.
        let listed = self.listed.as_ref().filter(|_| self.parts.is_empty())?;
        listed.conversations.checked_sub(self.rows)
    }

    /// How many rows have no record yet; `None` if it is not known how many there are.
    pub fn left(&self) -> Option<u64> {
        self.to_do?.checked_sub(self.rows)
    }

    /// When the run under way will end, in milliseconds since 1970: at its recent rate or, if that changes, by its timetable
    /// and the limit of its quota; at its time limit at the latest. `None` if that can't be told, also while it waits for the
    /// service or for an operator, and for up to a minute afterwards.
    pub fn until(&self) -> Option<i64> {
        self.until_after(self.left()? as f64, self.recent_rate())
    }

    /// While users are being listed and it is not known how many rows there are to be: about when the run under way will end,
    /// if the users that are left have as many rows as those so far. As [`Analysis::until`].
    pub fn until_about(&self) -> Option<i64> {
        let listed = self.listed.as_ref().filter(|_| self.left().is_none())?;
        let users = ListedUsers {
            listed: listed.outcome(Outcome::Ok),
            rows: listed.conversations,
            left: listed.left()?,
        };
        let left = users.requests_left(self.rows)?;
        self.until_after(left, self.recently(self.recent + listed.recent))
    }

    /// When so many requests will have been sent. `recent`: how many per second were sent lately.
    fn until_after(&self, left: f64, recent: f64) -> Option<i64> {
        self.under_way?;
        if self.waits_for_others().is_some() {
            return None;
        }
        let recent = Some(recent).filter(|_| !self.was_interrupted());
        let now = system_time(self.read_at);
        let takes = match (self.present.limit, self.timetable()) {
            (Some(limit), Some(timetable)) => {
                // Others may have a part of it.
                let share = recent? / limit.rate?.per_second();
                let share = if share > 0.0 { share.min(1.0) } else { 1.0 };
                timetable.time_for_limited(left / share, limit, now)?.as_secs_f64()
            }
            (None, Some(timetable)) if timetable.constant().is_none() => {
                let minute_ago = self.read_at - LAST_MINUTE;
                // Just after a change, the recent rate says nothing.
                let is_measured = timetable.rate_since(system_time(minute_ago), now);
                let efficiency = match is_measured {
                    Some(rate) => recent? / rate.per_second(),
                    None => 1.0,
                };
                timetable.time_for(left / efficiency, now)?.as_secs_f64()
            }
            _ => left / recent.filter(|recent| *recent > 0.0)?,
        };
        let until = self.read_at.saturating_add((takes * 1000.0) as i64);
        Some(self.ends_at().map_or(until, |end| until.min(end)))
    }

    /// Whether the recent rate is that of a run that waited for a part of the time: without a record for much longer than
    /// between its other ones.
    fn was_interrupted(&self) -> bool {
        let others = self.recent_time().saturating_sub(self.recent_gap).max(0);
        self.recent_gap > INTERRUPTION && self.recent_gap as f64 * self.recent as f64 > 10.0 * others as f64
    }

    /// Until when the timetable of the run under way pauses it, in milliseconds since 1970.
    pub fn paused_until(&self) -> Option<i64> {
        let until = self.timetable()?.paused_until(system_time(self.read_at))?;
        Some(milliseconds(until))
    }

    /// The rate of the run under way, by the time of day.
    fn timetable(&self) -> Option<Timetable> {
        let run = self.runs.iter().rfind(|run| run.is_under_way)?;
        run.begin.rate.parse().ok()
    }

    /// When the analysis began.
    pub fn read_at(&self) -> i64 {
        self.read_at
    }
}
