//! The stats of a run, in constant memory, and its summary.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::summary::{Latencies, Summary, UsersSummary};
use crate::code::Class;
use crate::event::Event;
use crate::journal::EarlierUsers;
use crate::reasons::Reasons;
use crate::row::{Counts, Outcome, Record, Subject};
use crate::stop::StopReason;
use crate::window::Window;

/// The longest latency that the histogram distinguishes from longer ones.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// The minimum time between the first and the last request from which the rate is computed.
const MIN_RATE_SPAN: Duration = Duration::from_secs(5);

/// A failed attempt is reported as trouble if no other attempt was answered for this long.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

/// The stats of a run so far, in constant memory.
#[derive(Debug, Clone)]
pub struct Stats {
    outcomes: Counts,
    already_done: u64,
    /// The outcomes of the rows that were already done.
    earlier: Counts,
    not_run: u64,
    requests: u64,
    retries: u64,
    retrying: u64,
    limited: u64,
    codes: BTreeMap<i64, u64>,
    /// The codes of the rows' last answers.
    last_codes: BTreeMap<i64, u64>,
    /// Of the rows of this run, and of those that failed in earlier ones.
    reasons: Reasons,
    conversations: u64,
    users_full: u64,
    /// The users of a run that clears what it lists.
    users: Option<Users>,
    /// The error of the last attempt, if the service failed.
    trouble: Option<String>,
    /// See [`Summary::clock_skew`].
    clock_skew: Option<i64>,
    /// When the service last answered.
    answered: Option<Instant>,
    latencies: Histogram<u64>,
    starts: Window,
    /// The first and the last start.
    span: Option<(Instant, Instant)>,
}

/// The users of a run that clears what it lists, over all its runs.
#[derive(Debug, Clone, Default)]
pub struct Users {
    outcomes: Counts,
    /// The rows that were listed for them.
    rows: u64,
    /// Those with as many conversations as ZIM lists.
    full: u64,
    /// Why users of this run failed or were invalid.
    reasons: Reasons,
}

impl Users {
    /// The users that an earlier run has recorded.
    fn of_earlier(earlier: EarlierUsers) -> Users {
        Users {
            outcomes: earlier.outcomes,
            rows: earlier.rows,
            full: earlier.full,
            reasons: earlier.failures,
        }
    }

    fn count(&mut self, record: &Record) {
        self.outcomes[record.outcome] += 1;
        self.rows += record.conversations.len() as u64;
        self.full += u64::from(record.entries.are_full());
        self.reasons
            .insert(record.outcome, record.code, &record.message, record.line);
    }

    /// Users with an outcome.
    pub fn done(&self) -> u64 {
        self.outcomes.total()
    }

    /// The rows that were listed.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn summary(&self, total: Option<u64>) -> UsersSummary {
        let total = total.unwrap_or_default().max(self.done());
        UsersSummary {
            total,
            ok: self.outcomes[Outcome::Ok],
            failed: self.outcomes[Outcome::Failed],
            invalid: self.outcomes[Outcome::Invalid],
            skipped: self.outcomes[Outcome::Skipped],
            not_run: total - self.done(),
            full: self.full,
            conversations: self.rows,
            reasons: self.reasons.clone().sorted(),
        }
    }
}

/// Users whose rows are cleared as they are listed, so far.
pub(crate) struct ListedUsers {
    /// Users that were listed.
    pub listed: u64,
    /// The rows that were listed for them.
    pub rows: u64,
    /// Users that are left to list.
    pub left: u64,
}

impl ListedUsers {
    /// The requests that are probably left when so many rows are done, if each user that is left has as many rows as those so
    /// far. `None` if none was listed yet.
    pub fn requests_left(&self, rows_done: u64) -> Option<f64> {
        let rows_left = self.rows.saturating_sub(rows_done) as f64;
        if self.left == 0 {
            return Some(rows_left);
        }
        if self.listed == 0 {
            return None;
        }
        // A row is one request, and so is a user, but for the few with many conversations.
        let for_each_user = 1.0 + self.rows as f64 / self.listed as f64;
        Some(rows_left + self.left as f64 * for_each_user)
    }
}

/// The stats at the beginning of a run without earlier records.
impl Default for Stats {
    fn default() -> Stats {
        Stats::new(Counts::default(), Reasons::default(), None)
    }
}

impl Stats {
    /// `earlier`: the outcomes of the rows that were already done. `failures`: why those that failed did. `users`: those of a
    /// run that clears what it lists.
    pub(crate) fn new(earlier: Counts, failures: Reasons, users: Option<EarlierUsers>) -> Stats {
        let longest = MAX_LATENCY.as_micros() as u64;
        Stats {
            outcomes: Counts::default(),
            already_done: 0,
            earlier,
            not_run: 0,
            requests: 0,
            retries: 0,
            retrying: 0,
            limited: 0,
            codes: BTreeMap::new(),
            last_codes: BTreeMap::new(),
            reasons: failures,
            conversations: 0,
            users_full: 0,
            users: users.map(Users::of_earlier),
            trouble: None,
            clock_skew: None,
            answered: None,
            latencies: Histogram::new_with_bounds(1, longest, 2).expect("the bounds are in order"),
            starts: Window::new(Duration::from_secs(1)),
            span: None,
        }
    }

    /// Counts an event; a record only once it is written.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Sent { at, is_retry } => {
                self.requests += 1;
                self.retries += u64::from(*is_retry);
                self.starts.insert(*at);
                let (first, last) = self.span.unwrap_or((*at, *at));
                self.span = Some((first.min(*at), last.max(*at)));
            }
            Event::Answered {
                class,
                code,
                latency,
                trouble,
                clock_skew,
            } => {
                self.clock_skew = self.clock_skew.or(*clock_skew);
                self.trouble.clone_from(trouble);
                if trouble.is_none() {
                    self.answered = Some(Instant::now());
                }
                self.limited += u64::from(*class == Class::Limited);
                if let Some(code) = code {
                    *self.codes.entry(*code).or_default() += 1;
                }
                if let Some(latency) = latency {
                    self.latencies.saturating_record(latency.as_micros() as u64);
                }
            }
            Event::Retrying => self.retrying += 1,
            Event::Waited => self.retrying -= 1,
            Event::AlreadyDone(rows) => self.already_done += rows,
            Event::NotRun { was_retrying } => {
                // Where rows are listed, those that are not run are the rest of the rows file.
                self.not_run += u64::from(self.users.is_none());
                self.retrying -= u64::from(*was_retrying);
            }
            Event::Settled(record) => self.count_record(record),
            Event::Held { .. } | Event::Released => {}
        }
    }

    fn count_record(&mut self, record: &Record) {
        if let Some(code) = record.code {
            *self.last_codes.entry(code).or_default() += 1;
        }
        if let (Some(users), Subject::User) = (&mut self.users, record.subject) {
            return users.count(record);
        }
        self.outcomes[record.outcome] += 1;
        self.conversations += record.conversations.len() as u64;
        self.users_full += u64::from(record.entries.are_full());
        self.reasons
            .insert(record.outcome, record.code, &record.message, record.line);
    }

    /// The last error, if the service has not answered since, nor in the second before `now`.
    pub fn trouble(&self, now: Instant) -> Option<&str> {
        let is_recent = self.answered.is_none_or(|answered| now - answered >= TROUBLE_AFTER);
        self.trouble.as_deref().filter(|_| is_recent)
    }

    /// Rows with this outcome in this run.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome]
    }

    /// Conversations that were listed in this run.
    pub fn conversations(&self) -> u64 {
        self.conversations
    }

    /// Users listed in this run with as many conversations as ZIM lists.
    pub fn users_full(&self) -> u64 {
        self.users_full
    }

    /// The users of a run that clears what it lists.
    pub fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// Where what is listed is cleared: the requests that are probably left with so many users to list, by what the users so
    /// far needed in this run. `None` if none was listed yet.
    pub fn requests_left(&self, users_left: u64) -> Option<f64> {
        let users = self.users.as_ref()?;
        let users = ListedUsers {
            listed: users.outcomes[Outcome::Ok],
            rows: users.rows,
            left: users_left,
        };
        users.requests_left(self.done())
    }

    /// Rows that wait for their next attempt.
    pub fn retrying(&self) -> u64 {
        self.retrying
    }

    /// Rows with an outcome, from this run or an earlier one.
    pub fn done(&self) -> u64 {
        self.outcomes.total() + self.already_done
    }

    /// Rows that an earlier run has recorded.
    pub fn already_done(&self) -> u64 {
        self.already_done
    }

    /// Requests that were not a row's first.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Answers that said "too many requests".
    pub fn limited(&self) -> u64 {
        self.limited
    }

    /// Requests sent.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests per second, from the first request to the last. For a short run this would be inaccurate, so its rate is
    /// that of its whole duration.
    fn rate(&self, elapsed: Duration) -> f64 {
        let sending = self.span.map_or(Duration::ZERO, |(first, last)| last - first);
        let time = if sending < MIN_RATE_SPAN { elapsed } else { sending };
        if time.is_zero() {
            return 0.0;
        }
        rounded(self.requests.saturating_sub(1) as f64 / time.as_secs_f64())
    }

    /// The summary of the run. Rows that were never read and rows that got no outcome are `not_run`.
    pub(crate) fn summary(&self, total: Total, cap: usize, elapsed: Duration, stopped: Option<&StopReason>) -> Summary {
        let users = self.users.as_ref().map(|users| users.summary(total.users));
        let users_left = users.as_ref().is_some_and(|users| users.not_run > 0) && !total.is_limited;
        let rows = match &self.users {
            Some(users) if !total.is_limited => Some(users.rows),
            _ => total.rows,
        };
        let taken = self.done() + self.not_run;
        // With users of a stream, there may be more of them.
        let rows_known = rows.is_some() && (users.is_none() || total.users.is_some());
        let rows = rows.unwrap_or_default();
        let rows = rows.max(taken);
        let not_run = self.not_run + (rows - taken);
        // A limit that was reached with the last row has not stopped the run.
        let stopped = stopped.filter(|stop| !(stop.is_policy() && rows_known && not_run == 0 && !users_left));
        let milliseconds = |micros: u64| rounded(micros as f64 / 1000.0);
        let quantile = |q| milliseconds(self.latencies.value_at_quantile(q));
        let left = (not_run > 0 || users_left).then_some(StopReason::RowsLeft);
        let retried = self.codes.iter().filter_map(|(code, answers)| {
            let last = self.last_codes.get(code).copied().unwrap_or_default();
            Some((*code, answers.checked_sub(last).filter(|answers| *answers > 0)?))
        });
        Summary {
            rows,
            users,
            already_done: self.already_done,
            reasons: self.reasons.clone().sorted(),
            retried: retried.collect(),
            not_run,
            requests: self.requests,
            retries: self.retries,
            limited: self.limited,
            elapsed_s: rounded(elapsed.as_secs_f64()),
            rate: self.rate(elapsed),
            peak_1s: self.starts.peak() as u64,
            cap: cap as u64,
            latency_ms: Latencies {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                max: milliseconds(self.latencies.max()),
            },
            codes: self.codes.clone(),
            clock_skew: self.clock_skew,
            last_error: self.trouble.clone(),
            stopped: stopped.cloned().or(left),
            // The recorder adds the journal's files, and how many runs there were.
            ..Summary::of_outcomes(self.outcomes, self.earlier)
        }
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Total {
    /// Rows of the input, if their number is known. Where rows are listed, they are counted on the way.
    pub rows: Option<u64>,
    /// Where rows are listed: users of the input, if their number is known.
    pub users: Option<u64>,
    /// Where rows are listed: the run ends after so many rows.
    pub is_limited: bool,
}

impl From<Option<u64>> for Total {
    fn from(rows: Option<u64>) -> Total {
        Total {
            rows,
            ..Total::default()
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests;
