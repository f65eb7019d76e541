//! The library without the program: pacing and whole runs in Tokio's paused time, hours of sending, exact and at once. No
//! sockets but in one test: the service is a function, and what it sees is when requests start. And arbitrary bytes through
//! what reads rows and reports.
//!
//! No test here starts another process: what a child inherits while it starts would keep the locks of these reports.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod arbitrary;
mod bugs;
mod connecting;
mod embedding;
mod holds;
mod limiters;
mod names;
mod observers;
mod outages;
mod pacing;
mod runs;
mod strict;

use std::collections::HashMap;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zim_batch::Rate;
use zim_batch::client::verdict::{Verdict, judge};
use zim_batch::client::{Attempt, Gate, Service};
use zim_batch::journal::{IfExists, Report};
use zim_batch::row::Row;
use zim_batch::rows::{Done, Format, Input, Plan, Rows, Selection, Source};
use zim_batch::run::summary::Summary;
use zim_batch::run::{Job, Limits};
use zim_batch::sealed::Sealed;

const SECOND: Duration = Duration::from_secs(1);

fn in_paused_time<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

/// The most starts within any one second, the window closed at neither end moment more than it has to be.
fn peak(starts: &[Instant]) -> usize {
    let mut sorted = starts.to_vec();
    sorted.sort();
    (0..sorted.len())
        .map(|first| {
            sorted[first..]
                .iter()
                .take_while(|start| **start - sorted[first] < SECOND)
                .count()
        })
        .max()
        .unwrap_or(0)
}

/// A service that answers as the function says, after as long as it says, and remembers when requests started.
struct Scripted<F> {
    answer: F,
    sent: Arc<Mutex<Vec<(u64, Instant)>>>,
}

impl<F> Sealed for Scripted<F> {}

impl<F: Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static> Scripted<F> {
    /// Sends a request that has passed the gate.
    async fn exchange(&self, row: &Row, gate: &impl Gate) -> Attempt {
        let sent_at = Instant::now();
        gate.started(sent_at);
        let nth = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((line_of(row), sent_at));
            sent.iter().filter(|(line, _)| *line == line_of(row)).count()
        };
        let (latency, verdict) = (self.answer)(row, nth);
        sleep(latency).await;
        Attempt::new(verdict, Some(sent_at), latency)
    }
}

impl<F: Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static> Service for Scripted<F> {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        gate.pass().await;
        Some(self.exchange(row, gate).await)
    }
}

/// The line of a row in the files of these tests, where the user of line 2 is `u0`.
fn line_of(row: &Row) -> u64 {
    row.user().strip_prefix('u').unwrap().parse::<u64>().unwrap() + 2
}

fn code(code: i64) -> Verdict {
    judge(200, format!(r#"{{"Code":{code},"Message":"m"}}"#).as_bytes(), None)
}

/// Runs `rows` rows against the function at 20 a second; gives the summary, what was sent, and the report's lines with their
/// outcomes.
async fn run_all<F>(rows: usize, limits: Limits, answer: F) -> (Summary, Vec<(u64, Instant)>, HashMap<u64, String>)
where
    F: Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static,
{
    let sent = Arc::new(Mutex::new(Vec::new()));
    let service = Scripted {
        answer,
        sent: Arc::clone(&sent),
    };
    let (summary, outcomes) = run_with(rows, 20.0, limits, service).await;
    let sent = sent.lock().unwrap().clone();
    (summary, sent, outcomes)
}

/// Runs `rows` rows against the service; gives the summary, and the report's lines with their outcomes.
async fn run_with(
    rows: usize,
    rate: f64,
    limits: Limits,
    service: impl Service<Item = Row>,
) -> (Summary, HashMap<u64, String>) {
    run_observed(rows, rate, limits, service, |job, _| job).await
}

/// The same with a job to which observers are added; they are given the report's path.
async fn run_observed<S: Service<Item = Row>>(
    rows: usize,
    rate: f64,
    limits: Limits,
    service: S,
    observed: impl FnOnce(Job<S>, &Path) -> Job<S>,
) -> (Summary, HashMap<u64, String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut csv = std::fs::File::create(path("rows.csv")).unwrap();
    writeln!(csv, "user,conv,type").unwrap();
    for row in 0..rows {
        writeln!(csv, "u{row},c{row},0").unwrap();
    }
    let source = Source::File(path("rows.csv"));
    let plan = Input::open(&source, &Format::default())
        .and_then(|input| input.plan(&Selection::default(), Done::default()))
        .unwrap();
    let report = path("out.csv");
    let job = job(service, plan, rate, &report).limits(limits);
    let summary = observed(job, &report).run().await.unwrap();
    (summary, outcomes(&path("out.csv")))
}

fn job<S: Service<Item = Row>>(service: S, plan: Plan, rate: f64, report: &Path) -> Job<S> {
    let outside = report.with_file_name("outside.csv");
    let report = Report::open(report, &outside, IfExists::Refuse, false).unwrap();
    Job::planned(service, plan).rate(per_second(rate)).report(report)
}

fn per_second(rate: f64) -> Rate {
    rate.try_into().unwrap()
}

/// The outcome of each line; fails if a line is there twice.
fn outcomes(report: &Path) -> HashMap<u64, String> {
    let mut outcomes = HashMap::new();
    for record in csv::Reader::from_path(report).unwrap().records() {
        let record = record.unwrap();
        let twice = outcomes.insert(record[0].parse().unwrap(), record[4].to_owned());
        assert_eq!(twice, None, "line {} is reported twice", &record[0]);
    }
    outcomes
}

/// A number that looks random and is the same each time.
fn mixed(row: &Row, nth: usize) -> u64 {
    let mut x = line_of(row).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (nth as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 29)
}
