//! The summary of a run, from which its JSON and its table are made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::journal::{Description, RowsTo};
use crate::limiter::RateLimit;
use crate::reasons::Reason;
use crate::row::{Counts, Outcome};
use crate::stop::StopReason;

/// The summary of a run. Its JSON is one object with these names, except for skipped fields.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Rows of the input; from standard input, those that were read. The sum of `ok`, `outside`, `failed`, `invalid`,
    /// `skipped`, `already_done` and `not_run`.
    pub rows: u64,
    /// The users of a run that clears what it lists, over all its runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<UsersSummary>,
    /// Rows cleared.
    pub ok: u64,
    /// Rows whose conversation is not reachable.
    pub outside: u64,
    /// Rows that could not be cleared.
    pub failed: u64,
    /// Rows that could not be sent.
    pub invalid: u64,
    /// Repeated rows that were not sent.
    pub skipped: u64,
    /// Rows that the report already had.
    pub already_done: u64,
    /// The failed and invalid rows among them.
    #[serde(skip)]
    pub already_failed: u64,
    /// Failed rows of the report, including earlier runs.
    #[serde(skip)]
    pub all_failed: u64,
    /// Invalid rows of the report, including earlier runs.
    #[serde(skip)]
    pub all_invalid: u64,
    /// Outside rows of the report, including earlier runs.
    #[serde(skip)]
    pub all_outside: u64,
    /// Why rows of the report failed, including earlier runs, and why rows of this run were invalid; most rows first.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
    /// The path of the input that has the lines of these reasons; `-` is standard input. `None` if that is not known.
    #[serde(skip)]
    pub input: Option<String>,
    /// Return codes of answers that were retried, with the number of answers for each.
    #[serde(skip)]
    pub retried: BTreeMap<i64, u64>,
    /// Rows without a record, because the run stopped first.
    pub not_run: u64,
    /// Requests sent by this run.
    pub requests: u64,
    /// The requests among them that were not a row's first.
    pub retries: u64,
    /// Answers that said "too many requests".
    pub limited: u64,
    /// The duration of the run, in seconds.
    pub elapsed_s: f64,
    /// Requests per second, between the first and the last; in a run of a few seconds, from its start to its end.
    pub rate: f64,
    /// The maximum number of requests that started within any one second.
    pub peak_1s: u64,
    /// The maximum allowed in any one second. If `peak_1s` is within it, this run did not cause the `limited` answers.
    #[serde(skip)]
    pub cap: u64,
    /// The most runs that shared the app's quota at a time, including this one; 0 if it was not shared.
    pub runs: usize,
    /// The latencies of attempts, in milliseconds.
    pub latency_ms: Latencies,
    /// ZIM's return codes, with the number of answers for each.
    pub codes: BTreeMap<i64, u64>,
    /// The report's path; `None` if there is none.
    pub report: Option<String>,
    /// The outside log's path; likewise.
    pub outside_log: Option<String>,
    /// For a run that clears what it lists: the list report's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub list_report: Option<String>,
    /// For a list: the path of the rows file, or `-` for standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_file: Option<String>,
    /// For a list: the rows written by this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<u64>,
    /// For a list: the users listed by this run who have 1000 conversations, the most that ZIM lists. Older ones, if any, are
    /// out of reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users_full: Option<u64>,
    /// How far this machine's clock was ahead of the server's, by the first answer that said the time; in seconds.
    #[serde(skip)]
    pub clock_skew: Option<i64>,
    /// The error of the last attempt, if the service failed; `null` if it answered.
    pub last_error: Option<String>,
    /// Why the run stopped before its last row; `None` if it did not. Not in the JSON, because the caller words it in terms
    /// of its own settings.
    #[serde(skip)]
    pub stopped: Option<StopReason>,
    /// What limited the rate when the run ended; `None` for a summary of several runs.
    #[serde(skip)]
    pub limit: Option<RateLimit>,
    /// The answers came from a simulator: nothing was cleared.
    pub simulated: bool,
}

/// The users of a run that clears what it lists, over all its runs. `total` is the sum of `ok`, `failed`, `invalid`,
/// `skipped` and `not_run`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct UsersSummary {
    /// Users of the input; from standard input, those with a record.
    pub total: u64,
    /// Users that were listed.
    pub ok: u64,
    /// Users that could not be listed.
    pub failed: u64,
    /// Users that could not be sent.
    pub invalid: u64,
    /// Repeated users.
    pub skipped: u64,
    /// Users without a record, because the run stopped first.
    pub not_run: u64,
    /// Users with 1000 conversations, the most that ZIM lists. Older ones, if any, are out of reach.
    pub full: u64,
    /// The rows that were listed.
    pub conversations: u64,
    /// Why users of this run failed or were invalid, most users first.
    #[serde(skip)]
    pub reasons: Vec<Reason>,
}

/// Quantiles of the attempts' latencies, in milliseconds; 0 if there were no attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latencies {
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

impl Summary {
    /// The summary of rows with these outcomes, and of the rows of `earlier` runs.
    pub(crate) fn of_outcomes(counts: Counts, earlier: Counts) -> Summary {
        let all = |outcome: Outcome| counts[outcome] + earlier[outcome];
        Summary {
            rows: counts.total(),
            ok: counts[Outcome::Ok],
            outside: counts[Outcome::Outside],
            failed: counts[Outcome::Failed],
            invalid: counts[Outcome::Invalid],
            skipped: counts[Outcome::Skipped],
            already_failed: earlier[Outcome::Failed] + earlier[Outcome::Invalid],
            all_failed: all(Outcome::Failed),
            all_invalid: all(Outcome::Invalid),
            all_outside: all(Outcome::Outside),
            ..Summary::default()
        }
    }

    /// Adds the files of the journal. Of a list, also the rows that it has listed, and the users with as many as ZIM lists.
    pub(crate) fn describe(&mut self, journal: Description, conversations: u64, users_full: u64) {
        let text = |path: PathBuf| path.display().to_string();
        self.report = journal.report.map(text);
        self.outside_log = journal.outside_log.map(text);
        let is_list = self.users.is_none() && journal.rows.is_some();
        self.list_report = journal.list_report.map(text);
        self.conversations = is_list.then_some(conversations);
        self.users_full = match &self.users {
            Some(users) => Some(users.full),
            None => is_list.then_some(users_full),
        };
        self.rows_file = journal.rows.map(|rows| match rows {
            RowsTo::File(path) => text(path),
            RowsTo::Stdout => "-".to_owned(),
        });
        self.simulated = journal.is_simulated;
    }

    /// Whether every row has a record: the run did not stop before its last row.
    pub fn is_complete(&self) -> bool {
        self.stopped.is_none()
    }

    /// Whether every row has a record and none is failed or invalid, including those of earlier runs.
    pub fn is_success(&self) -> bool {
        self.is_complete() && self.failed_at_all() == 0 && self.invalid_at_all() == 0
    }

    /// Whether the run had nothing to do: every row had a record already, or every user, if none of them has rows.
    pub fn had_nothing_to_do(&self) -> bool {
        // This run has sent nothing, so an earlier one has listed them.
        let were_listed = self.users.as_ref().is_some_and(|users| users.ok + users.failed > 0);
        let is_done = self.already_done == self.rows && (self.rows > 0 || were_listed);
        self.is_complete() && self.requests == 0 && is_done
    }

    /// Whether the run has begun. One that ended because its input could not be read, with nothing sent before, has not, and
    /// leaves no new files.
    pub fn has_begun(&self) -> bool {
        has_begun(self.stopped.as_ref(), self.requests)
    }

    /// Whether every row is accounted for exactly once.
    pub fn is_consistent(&self) -> bool {
        let parts = [
            self.ok,
            self.outside,
            self.failed,
            self.invalid,
            self.skipped,
            self.already_done,
            self.not_run,
        ];
        self.rows == parts.iter().sum::<u64>()
    }

    /// Rows, and users where rows are listed, that failed, including those of earlier runs.
    pub fn failed_at_all(&self) -> u64 {
        self.all_failed + self.users.as_ref().map_or(0, |users| users.failed)
    }

    /// Rows, and users where rows are listed, that are invalid, including those of earlier runs.
    pub fn invalid_at_all(&self) -> u64 {
        self.all_invalid + self.users.as_ref().map_or(0, |users| users.invalid)
    }
}

/// See [`Summary::has_begun`].
pub(super) fn has_begun(stopped: Option<&StopReason>, requests: u64) -> bool {
    !matches!(stopped, Some(StopReason::InputFailed(_))) || requests > 0
}
