//! What a run came to: counts that add up, latencies, and an audit of the run's own pace.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::code::{self, Class};
use crate::event::Event;
use crate::row::{Outcome, Record};
use crate::stop::StopReason;
use crate::window::Window;

/// The longest latency that the histogram tells from longer ones.
const MAX_LATENCY: Duration = Duration::from_secs(3600);

/// How long a run has to send before the time between its first request and its last tells its rate.
const RATE_FROM: Duration = Duration::from_secs(5);

/// Up to this share of `limited` answers it may be jitter alone that made them: requests that left evenly and arrived
/// closer together.
const JITTER_UP_TO: f64 = 0.05;

/// An attempt that failed is news while no other was answered for so long.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

/// Causes of failure without a code that are told apart.
const MAX_CAUSES: usize = 20;

/// The counts while a run goes on, in constant memory.
pub(super) struct Stats {
    outcomes: [u64; Outcome::ALL.len()],
    already_done: u64,
    /// The outcomes of the rows that are done already.
    earlier: [u64; Outcome::ALL.len()],
    not_run: u64,
    requests: u64,
    retries: u64,
    retrying: u64,
    limited: u64,
    codes: BTreeMap<i64, u64>,
    /// Those of them that a row ended with.
    last_codes: BTreeMap<i64, u64>,
    failures: BTreeMap<Failure, u64>,
    /// What went wrong with the last attempt, if the service failed.
    trouble: Option<String>,
    /// When the service last answered.
    answered: Option<Instant>,
    latencies: Histogram<u64>,
    starts: Window,
    /// The first start and the last.
    span: Option<(Instant, Instant)>,
}

/// What a row failed with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// A return code.
    Code(i64),
    /// No code; what went wrong instead.
    Cause(String),
}

/// What a record adds to the counts.
#[derive(Debug)]
pub(super) struct Settled {
    outcome: Outcome,
    code: Option<i64>,
    failure: Option<Failure>,
}

impl From<&Record> for Settled {
    fn from(record: &Record) -> Settled {
        let failure = || match record.code {
            Some(code) => Failure::Code(code),
            None => Failure::Cause(record.message.clone()),
        };
        Settled {
            outcome: record.outcome,
            code: record.code,
            failure: (record.outcome == Outcome::Failed).then(failure),
        }
    }
}

impl Stats {
    /// `earlier`: the outcomes of the rows that are done already.
    pub fn new(earlier: [u64; Outcome::ALL.len()]) -> Stats {
        let longest = MAX_LATENCY.as_micros() as u64;
        Stats {
            outcomes: [0; Outcome::ALL.len()],
            already_done: 0,
            earlier,
            not_run: 0,
            requests: 0,
            retries: 0,
            retrying: 0,
            limited: 0,
            codes: BTreeMap::new(),
            last_codes: BTreeMap::new(),
            failures: BTreeMap::new(),
            trouble: None,
            answered: None,
            latencies: Histogram::new_with_bounds(1, longest, 2).expect("the bounds are in order"),
            starts: Window::new(Duration::from_secs(1)),
            span: None,
        }
    }

    /// Counts everything but records, which count when they are written.
    pub fn count(&mut self, event: &Event) {
        match event {
            Event::Sent { at, is_retry } => {
                self.requests += 1;
                self.retries += u64::from(*is_retry);
                self.starts.push(*at);
                let (first, last) = self.span.unwrap_or((*at, *at));
                self.span = Some((first.min(*at), last.max(*at)));
            }
            Event::Answered {
                class,
                code,
                latency,
                trouble,
                ..
            } => {
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
                self.not_run += 1;
                self.retrying -= u64::from(*was_retrying);
            }
            Event::Settled(_) | Event::Held { .. } | Event::Released => {}
        }
    }

    /// Counts a record that is written.
    pub fn settled(&mut self, settled: Settled) {
        self.outcomes[settled.outcome as usize] += 1;
        if let Some(code) = settled.code {
            *self.last_codes.entry(code).or_default() += 1;
        }
        if let Some(failure) = settled.failure {
            let failure = match failure {
                Failure::Cause(_) if self.failures.len() >= MAX_CAUSES && !self.failures.contains_key(&failure) => {
                    Failure::Cause("other causes".into())
                }
                failure => failure,
            };
            *self.failures.entry(failure).or_default() += 1;
        }
    }

    /// What went wrong last, if the service has not answered since, and had not for a while before.
    pub fn trouble(&self, now: Instant) -> Option<&str> {
        let is_news = self.answered.is_none_or(|answered| now - answered >= TROUBLE_AFTER);
        self.trouble.as_deref().filter(|_| is_news)
    }

    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Rows that wait for their next attempt.
    pub fn retrying(&self) -> u64 {
        self.retrying
    }

    /// Rows that have an outcome, of this run or an earlier one.
    pub fn done(&self) -> u64 {
        self.outcomes.iter().sum::<u64>() + self.already_done
    }

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

    /// Requests a second, by the gaps between them. In the first seconds of a run a few milliseconds would show as a
    /// rate that never was, so a short run's rate is that of its whole time.
    fn rate(&self, elapsed: Duration) -> f64 {
        let sending = self.span.map_or(Duration::ZERO, |(first, last)| last - first);
        let time = if sending < RATE_FROM { elapsed } else { sending };
        match time.is_zero() {
            true => 0.0,
            false => rounded(self.requests.saturating_sub(1) as f64 / time.as_secs_f64()),
        }
    }

    /// Adds up. Rows that were never taken are `not_run`, with those that were and got no outcome.
    pub fn summary(
        &self,
        rows: Option<u64>,
        cap: usize,
        elapsed: Duration,
        stopped: Option<&StopReason>,
        paths: &(PathBuf, PathBuf),
    ) -> Summary {
        let taken = self.done() + self.not_run;
        let (rows, rows_known) = (rows.unwrap_or_default(), rows.is_some());
        let rows = rows.max(taken);
        let not_run = self.not_run + (rows - taken);
        // A policy that would have stopped a run that ended with just that row has stopped nothing.
        let stopped = stopped.filter(|stop| !(stop.is_policy() && rows_known && not_run == 0));
        let milliseconds = |micros: u64| rounded(micros as f64 / 1000.0);
        let quantile = |q| milliseconds(self.latencies.value_at_quantile(q));
        let failed = self.outcome(Outcome::Failed);
        let invalid = self.outcome(Outcome::Invalid);
        let earlier = |outcome: Outcome| self.earlier[outcome as usize];
        let left = (not_run > 0).then_some(StopReason::RowsLeft);
        let mut failures: Vec<(Failure, u64)> = self.failures.clone().into_iter().collect();
        failures.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let retried = self.codes.iter().filter_map(|(code, answers)| {
            let last = self.last_codes.get(code).copied().unwrap_or_default();
            Some((*code, answers.checked_sub(last).filter(|answers| *answers > 0)?))
        });
        Summary {
            rows,
            ok: self.outcome(Outcome::Ok),
            outside: self.outcome(Outcome::Outside),
            failed,
            invalid,
            skipped: self.outcome(Outcome::Skipped),
            already_done: self.already_done,
            already_failed: earlier(Outcome::Failed) + earlier(Outcome::Invalid),
            all_failed: failed + earlier(Outcome::Failed),
            all_invalid: invalid + earlier(Outcome::Invalid),
            all_outside: self.outcome(Outcome::Outside) + earlier(Outcome::Outside),
            failures,
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
            report: paths.0.display().to_string(),
            outside_log: paths.1.display().to_string(),
            last_error: self.trouble.clone(),
            stopped: stopped.cloned().or(left),
            simulated: false,
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// What a run came to. As JSON it is one object with these names, but for what only adds to them.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    /// What the failed rows of this run failed with, and how many with each, most first.
    #[serde(skip)]
    pub failures: Vec<(Failure, u64)>,
    /// Return codes of answers that were not a row's last, with how many had each.
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
    /// Requests a second, between the first and the last; in a run of a few seconds, from its start to its end.
    pub rate: f64,
    /// The most requests that started within any one second.
    pub peak_1s: u64,
    /// The most that may; as long as it is kept, `limited` answers are not this run's doing.
    #[serde(skip)]
    pub cap: u64,
    /// How long attempts took, in milliseconds.
    pub latency_ms: Latencies,
    /// ZIM's return codes, with how many answers had each.
    pub codes: BTreeMap<i64, u64>,
    /// The report's path.
    pub report: String,
    /// The outside log's path.
    pub outside_log: String,
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

    /// What is known of why the server refused requests.
    fn why_limited(&self) -> String {
        match self.limited as f64 / self.requests as f64 {
            _ if self.peak_1s > self.cap => "refused: too many requests per second".into(),
            ..JITTER_UP_TO => format!("refused, although at most {} start in any second", grouped(self.cap)),
            _ => "refused: other traffic probably shares the quota".into(),
        }
    }

    fn took(&self) -> String {
        match self.elapsed_s {
            ..60.0 => format!("{:.1} s", self.elapsed_s),
            more => humantime::format_duration(Duration::from_secs(more as u64)).to_string(),
        }
    }

    /// `in 10.1 s: 19.91/s, peak 20 in one second`; without what a few requests don't tell.
    pub fn pace(&self) -> String {
        let rate = match self.rate {
            ..0.005 => return format!("in {}", self.took()),
            _ if self.elapsed_s < 1.0 => return format!("in {}", self.took()),
            ..1000.0 => format!("{:.2}", self.rate),
            many => grouped(many as u64),
        };
        let (took, peak) = (self.took(), grouped(self.peak_1s));
        format!("in {took}: {rate}/s, peak {peak} in one second")
    }
}

/// The table for people, but for why the run stopped: whoever shows it words that in terms of its own settings.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str| match number {
            0 => Ok(()),
            number => writeln!(f, "  {name:<13}{:>12}  {note}", grouped(number)),
        };
        if self.simulated {
            writeln!(
                f,
                "simulated      by --simulate: nothing was sent to ZIM, and nothing was cleared"
            )?;
        }
        writeln!(f, "rows           {:>12}", grouped(self.rows))?;
        writeln!(f, "  ok           {:>12}", grouped(self.ok))?;
        line(f, "outside", self.outside, "out of reach: see the outside log")?;
        line(f, "failed", self.failed, "see the report's message column")?;
        for (failure, rows) in &self.failures {
            match failure {
                Failure::Code(code) => line(f, &format!("  {code}"), *rows, &meaning(*code))?,
                Failure::Cause(cause) => line(f, "  no code", *rows, &shortened(cause))?,
            }
        }
        line(f, "invalid", self.invalid, "not sent; see the report's message column")?;
        line(f, "skipped", self.skipped, "repeated rows, not sent")?;
        let earlier = match self.already_failed {
            0 => "by an earlier run".to_owned(),
            bad => format!("by an earlier run; {} of them failed or invalid", grouped(bad)),
        };
        line(f, "already done", self.already_done, &earlier)?;
        line(f, "not run", self.not_run, "not in the report; --resume sends them")?;
        writeln!(f, "requests       {:>12}  {}", grouped(self.requests), self.pace())?;
        line(f, "retries", self.retries, "requests that were not a row's first")?;
        line(f, "limited", self.limited, &self.why_limited())?;
        let retried = self.retried.iter().filter(|(code, _)| **code != 0);
        for (index, (&code, &answers)) in retried.enumerate() {
            if index == 0 {
                writeln!(f, "answers that were not a row's last:")?;
            }
            line(f, &code.to_string(), answers, &meaning(code))?;
        }
        let latency = self.latency_ms;
        if self.requests > 0 {
            let [p50, p90, p99, max] =
                [latency.p50, latency.p90, latency.p99, latency.max].map(|time| grouped(time.round() as u64));
            writeln!(
                f,
                "latency        {p50:>9} ms  median; 90 % {p90} ms, 99 % {p99} ms, longest {max} ms",
            )?;
        }
        writeln!(f, "report         {}", in_one_line(&self.report))?;
        write!(f, "outside log    {}", in_one_line(&self.outside_log))?;
        if let Some(error) = &self.last_error {
            write!(f, "\nlast error     {error}")?;
        }
        Ok(())
    }
}

/// What a return code means, short enough for the table.
fn meaning(code: i64) -> String {
    shortened(code::find(code).map_or("not in ZEGO's lists", |known| known.meaning))
}

/// A name of a file as it can be shown: whatever is in it, it takes one line.
fn in_one_line(name: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    name.chars().map(shown).collect()
}

/// At most as much as fits beside a count at 80 columns, cut between words.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 50;
    let Some((end, _)) = text.char_indices().nth(WIDTH) else {
        return text.to_owned();
    };
    let start = &text[..end];
    let words = start.rsplit_once(' ').map_or(start, |(words, _)| words);
    format!("{words} …")
}

/// A number with a comma between thousands, as it is shown to people: `1,201`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            let _ = grouped.write_char(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Stats {
        Stats::new([0; Outcome::ALL.len()])
    }

    fn record(outcome: Outcome, code: Option<i64>, message: &str) -> Settled {
        Settled::from(&Record {
            line: 2,
            user: "u".into(),
            conv: "c".into(),
            conv_type: "0".into(),
            outcome,
            code,
            http: None,
            message: message.into(),
            request_id: String::new(),
            attempts: 1,
            latency: None,
            finished_at: std::time::SystemTime::UNIX_EPOCH,
        })
    }

    fn answer(code: Option<i64>, trouble: Option<&str>) -> Event {
        Event::Answered {
            class: Class::Unknown,
            code,
            latency: Some(Duration::from_millis(1234)),
            clock_skew: None,
            trouble: trouble.map(str::to_owned),
        }
    }

    fn summary(tally: Stats, rows: u64, stopped: Option<&StopReason>) -> Summary {
        let paths = ("out.csv".into(), "out.outside.csv".into());
        tally.summary(Some(rows), 20, Duration::from_millis(140), stopped, &paths)
    }

    #[test]
    fn rows_that_nobody_ran_and_nobody_stopped_are_a_bug_and_no_success() {
        let mut counts = tally();
        counts.settled(record(Outcome::Ok, Some(0), ""));
        let left_over = summary(counts, 3, None);
        assert_eq!(left_over.stopped, Some(StopReason::RowsLeft));
        assert_eq!((left_over.is_complete(), left_over.not_run), (false, 2));
        let stopped = summary(tally(), 3, Some(&StopReason::Signal(15)));
        assert_eq!(stopped.stopped, Some(StopReason::Signal(15)));
        assert!(summary(tally(), 0, None).is_success());
    }

    #[test]
    fn a_row_that_failed_or_was_invalid_in_an_earlier_run_is_no_success_either() {
        let counted = |outcome: Outcome, is_earlier: bool| {
            let mut earlier = [0; Outcome::ALL.len()];
            earlier[outcome as usize] = u64::from(is_earlier);
            let mut counts = Stats::new(earlier);
            match is_earlier {
                true => counts.count(&Event::AlreadyDone(1)),
                false => counts.settled(record(outcome, None, "user is empty")),
            }
            summary(counts, 1, None)
        };
        for is_earlier in [true, false] {
            for outcome in Outcome::ALL {
                let summary = counted(outcome, is_earlier);
                let is_bad = matches!(outcome, Outcome::Failed | Outcome::Invalid);
                assert!(summary.is_complete());
                assert_eq!(summary.is_success(), !is_bad, "{outcome} {is_earlier}");
            }
        }
    }

    #[test]
    fn failed_rows_are_told_by_what_they_failed_with_and_answers_that_were_retried_apart() {
        let mut counts = tally();
        for code in [660000001, 660000001, 660500002, 0] {
            counts.count(&answer(Some(code), None));
        }
        counts.settled(record(Outcome::Failed, Some(660500002), "not registered"));
        counts.settled(record(Outcome::Failed, None, "timed out after 10s"));
        counts.settled(record(Outcome::Failed, None, "timed out after 10s"));
        counts.settled(record(Outcome::Ok, Some(0), "success"));
        let table = summary(counts, 4, None).to_string();
        let (rows, answers) = table.split_once("answers that were not a row's last").unwrap();
        assert!(rows.contains("660500002") && !rows.contains("660000001"), "{table}");
        assert!(
            answers.contains("660000001") && !answers.contains("660500002"),
            "{table}"
        );
        let timed_out = rows.find("timed out after 10s").unwrap();
        assert!(timed_out < rows.find("660500002").unwrap(), "most first: {table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn causes_without_end_are_not_told_apart_without_end() {
        let mut counts = tally();
        for number in 0..1000 {
            counts.settled(record(Outcome::Failed, None, &format!("cause {number}")));
        }
        let failures = summary(counts, 1000, None).failures;
        assert!(failures.len() <= MAX_CAUSES + 1, "{}", failures.len());
        assert_eq!(failures.iter().map(|(_, rows)| rows).sum::<u64>(), 1000);
    }

    #[test]
    fn one_request_has_no_rate_and_many_have_one() {
        let now = Instant::now();
        let mut counts = tally();
        counts.count(&Event::Sent {
            at: now,
            is_retry: false,
        });
        assert_eq!(summary(counts, 0, None).pace(), "in 0.1 s");
        let mut counts = tally();
        for nth in 0..202 {
            let at = now + Duration::from_millis(50) * nth;
            counts.count(&Event::Sent { at, is_retry: false });
        }
        let pace = Summary {
            elapsed_s: 10.1,
            ..summary(counts, 0, None)
        };
        assert_eq!(pace.pace(), "in 10.1 s: 20.00/s, peak 20 in one second");
    }

    #[test]
    fn refusals_are_worded_by_what_is_known() {
        let mut counts = tally();
        counts.count(&answer(Some(7), None));
        let mut refused = summary(counts, 0, None);
        (refused.limited, refused.requests) = (7, 600);
        let table = refused.to_string();
        assert!(table.contains("although at most 20 start in any second"), "{table}");
        refused.limited = 60;
        assert!(refused.to_string().contains("other traffic probably"), "{refused}");
        refused.peak_1s = 21;
        assert!(refused.to_string().contains("too many requests"), "{refused}");
    }

    #[test]
    fn the_last_error_is_known_from_the_first_failure_to_the_next_answer() {
        let mut counts = tally();
        counts.count(&answer(None, Some("connection refused")));
        assert_eq!(counts.trouble(Instant::now()), Some("connection refused"));
        counts.count(&answer(Some(0), None));
        counts.count(&answer(None, Some("timed out after 10s")));
        assert_eq!(counts.trouble(Instant::now()), None, "others are answered");
        assert_eq!(
            counts.trouble(Instant::now() + TROUBLE_AFTER),
            Some("timed out after 10s")
        );
        let table = summary(counts, 0, Some(&StopReason::Signal(2))).to_string();
        assert!(table.contains("last error     timed out after 10s"), "{table}");
    }

    #[test]
    fn numbers_are_grouped_by_commas() {
        let shown = [0, 999, 1201, 1234567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,201", "1,234,567"]);
    }
}
