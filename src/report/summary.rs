//! What a run came to: counts that add up, latencies, and an audit of the run's own pace.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::time::Instant;

use crate::client::code::{self, Class};
use crate::event::{Event, Outcome};
use crate::limiter::Window;
use crate::stop::Stop;

/// The longest latency that the histogram tells from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// How long a run has to send before the time between its first request and its last tells its rate.
const RATE_FROM: Duration = Duration::from_secs(5);

/// Up to this share of `limited` answers it is most likely jitter that made them: requests that left evenly and arrived
/// closer together.
const JITTER_UP_TO: f64 = 0.01;

/// The counts while a run goes on, in constant memory.
pub(super) struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    already_done: u64,
    done_badly: u64,
    not_run: u64,
    requests: u64,
    retries: u64,
    retrying: u64,
    limited: u64,
    codes: BTreeMap<i64, u64>,
    latencies: Histogram<u64>,
    starts: Window,
    /// The first start and the last.
    span: Option<(Instant, Instant)>,
}

impl Tally {
    /// `done_badly`: how many of the rows that are done already are failed or invalid.
    pub fn new(done_badly: u64) -> Tally {
        let longest = LATENCY_MAX.as_micros() as u64;
        Tally {
            outcomes: [0; Outcome::ALL.len()],
            already_done: 0,
            done_badly,
            not_run: 0,
            requests: 0,
            retries: 0,
            retrying: 0,
            limited: 0,
            codes: BTreeMap::new(),
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
                self.retrying -= u64::from(*is_retry);
                self.starts.push(*at);
                let (first, last) = self.span.unwrap_or((*at, *at));
                self.span = Some((first.min(*at), last.max(*at)));
            }
            Event::Answered {
                class, code, latency, ..
            } => {
                self.limited += u64::from(*class == Class::Limited);
                if let Some(code) = code {
                    *self.codes.entry(*code).or_default() += 1;
                }
                self.latencies.saturating_record(latency.as_micros() as u64);
            }
            Event::Retrying => self.retrying += 1,
            Event::AlreadyDone(rows) => self.already_done += rows,
            Event::NotRun { was_retrying } => {
                self.not_run += 1;
                self.retrying -= u64::from(*was_retrying);
            }
            Event::Settled(_) | Event::Held { .. } | Event::Released => {}
        }
    }

    /// Counts a record that is written.
    pub fn settled(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
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
        self,
        rows: Option<u64>,
        cap: usize,
        elapsed: Duration,
        stopped: Option<&Stop>,
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
        Summary {
            rows,
            ok: self.outcome(Outcome::Ok),
            outside: self.outcome(Outcome::Outside),
            failed,
            invalid,
            skipped: self.outcome(Outcome::Skipped),
            already_done: self.already_done,
            done_badly: self.done_badly,
            not_run,
            requests: self.requests,
            retries: self.retries,
            limited: self.limited,
            elapsed_s: rounded(elapsed.as_secs_f64()),
            rate: self.rate(elapsed),
            peak_1s: self.starts.peak() as u64,
            kept_cap: self.starts.peak() <= cap,
            latency_ms: Latencies {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p99: quantile(0.99),
                max: milliseconds(self.latencies.max()),
            },
            codes: self.codes,
            report: paths.0.display().to_string(),
            outside_log: paths.1.display().to_string(),
            stopped: stopped.map(Stop::to_string),
            exit: match stopped {
                Some(stop) => stop.exit_status(),
                None if failed + invalid + self.done_badly > 0 => 3,
                None => 0,
            },
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// What a run came to. As JSON it is one object with these names.
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
    /// Repeated rows that were not sent (`--dedupe`).
    pub skipped: u64,
    /// Rows that the report had already (`--resume`).
    pub already_done: u64,
    /// Those of them that are failed or invalid: the exit status is that of the whole report.
    #[serde(skip)]
    pub done_badly: u64,
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
    /// Whether that is no more than may be: then `limited` answers are not this run's doing.
    #[serde(skip)]
    pub kept_cap: bool,
    /// How long attempts took, in milliseconds.
    pub latency_ms: Latencies,
    /// ZIM's return codes, with how many answers had each.
    pub codes: BTreeMap<i64, u64>,
    /// The report's path.
    pub report: String,
    /// The outside log's path.
    pub outside_log: String,
    /// Why the run stopped before its last row; `null` if it did not.
    pub stopped: Option<String>,
    /// The exit status.
    pub exit: u8,
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
    /// Whether every row is accounted for exactly once.
    pub fn adds_up(&self) -> bool {
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

    /// Whose requests were probably too many.
    fn why_limited(&self) -> &'static str {
        match self.limited as f64 / self.requests as f64 {
            _ if !self.kept_cap => "refused: too many requests a second",
            ..JITTER_UP_TO => "refused: most likely bunched up on the way",
            _ => "refused: others use the quota too, or it is smaller",
        }
    }
}

/// The table for people.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str| match number {
            0 => Ok(()),
            number => writeln!(f, "  {name:<13}{:>12}  {note}", grouped(number)),
        };
        writeln!(f, "rows           {:>12}", grouped(self.rows))?;
        writeln!(f, "  ok           {:>12}", grouped(self.ok))?;
        line(f, "outside", self.outside, "out of reach: see the outside log")?;
        line(f, "failed", self.failed, "see the report's message column")?;
        line(f, "invalid", self.invalid, "not sent; see the report's message column")?;
        line(f, "skipped", self.skipped, "repeated rows, not sent")?;
        let earlier = match self.done_badly {
            0 => "by an earlier run".to_owned(),
            bad => format!("by an earlier run; {} of them failed or invalid", grouped(bad)),
        };
        line(f, "already done", self.already_done, &earlier)?;
        line(f, "not run", self.not_run, "not in the report; --resume sends them")?;
        let took = match self.elapsed_s {
            ..60.0 => format!("{:.1} s", self.elapsed_s),
            more => humantime::format_duration(Duration::from_secs(more as u64)).to_string(),
        };
        writeln!(
            f,
            "requests       {:>12}  in {took}: {} a second, at most {} in any one",
            grouped(self.requests),
            match self.rate {
                ..1000.0 => format!("{:.2}", self.rate),
                many => grouped(many as u64),
            },
            grouped(self.peak_1s)
        )?;
        line(f, "retries", self.retries, "requests that were not a row's first")?;
        line(f, "limited", self.limited, self.why_limited())?;
        let latency = self.latency_ms;
        if self.requests > 0 {
            writeln!(
                f,
                "latency        {:>9.0} ms  median; 90 % {:.0} ms, 99 % {:.0} ms, longest {:.0} ms",
                latency.p50, latency.p90, latency.p99, latency.max
            )?;
        }
        for (&code, &count) in self.codes.iter().filter(|(code, _)| **code != 0) {
            let meaning = code::find(code).map_or("not in ZEGO's lists", |known| known.meaning);
            writeln!(f, "code {code:<10}{:>12}  {}", grouped(count), shortened(meaning))?;
        }
        writeln!(f, "report         {}", self.report)?;
        write!(f, "outside log    {}", self.outside_log)?;
        if let Some(reason) = &self.stopped {
            write!(f, "\nstopped        {reason}")?;
        }
        Ok(())
    }
}

/// At most as much as fits beside a count at 80 columns, cut between words.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 50;
    match text.get(..WIDTH) {
        Some(start) if text.len() > WIDTH => {
            let words = start.rsplit_once(' ').map_or(start, |(words, _)| words);
            format!("{words} …")
        }
        _ => text.to_owned(),
    }
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
