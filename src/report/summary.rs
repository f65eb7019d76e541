//! What a run came to, as data: its JSON is made from it, and the command line's table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stop::StopReason;

/// What a run came to. As JSON it is one object with these names, but for what only adds to them.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Rows of the input; from standard input, those that were read. The sum of the next seven.
    pub rows: u64,
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
    /// Rows that the report had already.
    pub already_done: u64,
    /// Those of them that are failed or invalid.
    #[serde(skip)]
    pub already_failed: u64,
    /// Rows of the report that failed, also those of earlier runs.
    #[serde(skip)]
    pub all_failed: u64,
    /// Rows of the report that could not be sent, likewise.
    #[serde(skip)]
    pub all_invalid: u64,
    /// Rows of the report whose conversation is not reachable, likewise.
    #[serde(skip)]
    pub all_outside: u64,
    /// Why rows of this run failed, with the number of rows for each cause, most first.
    #[serde(skip)]
    pub failures: Vec<(Failure, u64)>,
    /// Return codes of answers that were not a row's last, with the number of answers for each.
    #[serde(skip)]
    pub retried: BTreeMap<i64, u64>,
    /// Rows that got no record, because the run stopped first.
    pub not_run: u64,
    /// Requests sent by this run.
    pub requests: u64,
    /// Those of them that were not a row's first.
    pub retries: u64,
    /// Answers that said "too many requests".
    pub limited: u64,
    /// From start to end, in seconds.
    pub elapsed_s: f64,
    /// Requests per second, between the first and the last; in a run of a few seconds, from its start to its end.
    pub rate: f64,
    /// The most requests that started within any one second.
    pub peak_1s: u64,
    /// The maximum allowed in any one second; while it is kept, `limited` answers are not caused by this run.
    #[serde(skip)]
    pub cap: u64,
    /// How long attempts took, in milliseconds.
    pub latency_ms: Latencies,
    /// ZIM's return codes, with the number of answers for each.
    pub codes: BTreeMap<i64, u64>,
    /// The report's path; `None` if there is none.
    pub report: Option<String>,
    /// The outside log's path, likewise.
    pub outside_log: Option<String>,
    /// What the last attempt came to, if the service failed; `null` if it answered.
    pub last_error: Option<String>,
    /// Why the run stopped before its last row; `None` if it did not. No part of the JSON, for whoever writes that words
    /// it in terms of its own settings.
    #[serde(skip)]
    pub stopped: Option<StopReason>,
    /// The answers came from a simulator: nothing was cleared.
    pub simulated: bool,
}

/// Quantiles of the attempts' latencies, in milliseconds; 0 if there were no attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Latencies {
    /// Half took at most this.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// Ninety-nine in a hundred.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Summary {
    /// Whether every row has a record now: nothing stopped the run before its last row.
    pub fn is_complete(&self) -> bool {
        self.stopped.is_none()
    }

    /// Whether every row has a record, and none of the report is failed or invalid, be it of this run or an earlier one.
    pub fn is_success(&self) -> bool {
        self.is_complete() && self.all_failed == 0 && self.all_invalid == 0
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
}

/// What a row failed with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A return code.
    Code(i64),
    /// No code; what went wrong instead.
    Cause(String),
}
