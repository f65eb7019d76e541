//! Pacing and whole runs in Tokio's paused time: hours of sending, exact and at once. No sockets: the service is a
//! function, and what it sees is when requests start.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bugs;
mod connecting;
mod embedding;
mod holds;
mod observers;
mod strict;

use std::collections::HashMap;
use std::future::Future;
use std::io::Write as _;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use reqwest::StatusCode;
use tokio::time::{Instant, advance, sleep};
use zim_batch::client::verdict::{TransportError, Verdict, judge, no_answer};
use zim_batch::client::{Attempt, Gate, Service};
use zim_batch::event::Event;
use zim_batch::limiter::Limiter;
use zim_batch::report::summary::Summary;
use zim_batch::report::{IfExists, Report};
use zim_batch::row::Row;
use zim_batch::rows::{Format, Plan, Rows, Selection, Source};
use zim_batch::run::{Job, Limits};
use zim_batch::stop::StopReason;

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

/// What one caller does at the gate, again and again.
#[derive(Debug, Clone)]
struct Caller {
    /// How long it stays away between two requests, in milliseconds.
    away: u64,
    requests: usize,
    /// The nth request is told that there are too many.
    limited: Option<usize>,
}

fn caller() -> impl Strategy<Value = Caller> {
    let away = prop_oneof![Just(0), 1..200u64, 200..5000u64];
    (away, 1..60usize, prop::option::of(0..60usize)).prop_map(|(away, requests, limited)| Caller {
        away,
        requests,
        limited,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_second_ever_holds_more_than_the_cap(
        rate in prop_oneof![Just(20.0), Just(1.0), Just(7.0), Just(150.0), Just(0.5)],
        callers in prop::collection::vec(caller(), 1..20),
        stalls in prop::collection::vec((0..20_000u64, 1..3000u64), 0..6),
    ) {
        let starts = in_paused_time(async move {
            let limiter = Arc::new(Limiter::new(rate));
            let starts = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for caller in callers {
                let (limiter, starts) = (Arc::clone(&limiter), Arc::clone(&starts));
                tasks.push(tokio::spawn(async move {
                    for nth in 0..caller.requests {
                        let _ = limiter.ready().await;
                        let now = Instant::now();
                        starts.lock().unwrap().push(now);
                        sleep(Duration::from_millis(caller.away)).await;
                        match caller.limited == Some(nth) {
                            true => limiter.limited(now, None),
                            false => limiter.accepted(),
                        };
                    }
                }));
            }
            // A stall: the process sleeps, and wakes to find that every timer is long due.
            tokio::spawn(async move {
                for (after, long) in stalls {
                    sleep(Duration::from_millis(after)).await;
                    advance(Duration::from_millis(long)).await;
                }
            });
            for task in tasks {
                task.await.unwrap();
            }
            Arc::try_unwrap(starts).unwrap().into_inner().unwrap()
        });
        let cap = f64::ceil(rate) as usize;
        prop_assert!(peak(&starts) <= cap, "{} within a second, {cap} allowed", peak(&starts));
    }
}

#[test]
fn twenty_a_second_are_at_least_19_9_and_evenly_spaced() {
    in_paused_time(async {
        let limiter = Limiter::new(20.0);
        let started_at = Instant::now();
        let mut last = None;
        for _ in 0..2000 {
            let _ = limiter.ready().await;
            let now = Instant::now();
            if let Some(last) = last.replace(now) {
                let gap = now - last;
                assert!((40..=61).contains(&gap.as_millis()), "{gap:?}");
            }
        }
        let rate = 1999.0 / started_at.elapsed().as_secs_f64();
        assert!((19.9..20.0).contains(&rate), "{rate}");
    });
}

#[test]
fn after_a_stall_nothing_is_made_up_for() {
    in_paused_time(async {
        let limiter = Limiter::new(20.0);
        for _ in 0..40 {
            let _ = limiter.ready().await;
        }
        advance(Duration::from_secs(600)).await;
        let started_at = Instant::now();
        for _ in 0..21 {
            let _ = limiter.ready().await;
        }
        assert!(started_at.elapsed() >= SECOND, "21 within {:?}", started_at.elapsed());
    });
}

#[test]
fn a_retry_after_keeps_everybody_waiting() {
    in_paused_time(async {
        let limiter = Limiter::new(20.0);
        let _ = limiter.ready().await;
        let started_at = Instant::now();
        limiter.limited(started_at, Some(Duration::from_secs(30)));
        let _ = limiter.ready().await;
        assert!(started_at.elapsed() >= Duration::from_secs(30));
    });
}

#[test]
fn one_refusal_now_and_then_hardly_slows_a_long_run() {
    in_paused_time(async {
        let limiter = Limiter::new(20.0);
        let started_at = Instant::now();
        for nth in 0..20_000 {
            let _ = limiter.ready().await;
            match nth % 2000 {
                999 => limiter.limited(Instant::now(), None),
                _ => limiter.accepted(),
            };
        }
        let rate = 20_000.0 / started_at.elapsed().as_secs_f64();
        assert!(rate > 19.75, "{rate}");
    });
}

#[test]
fn after_a_refusal_the_very_next_start_waits_for_what_the_last_second_was_too_short() {
    in_paused_time(async {
        let limiter = Limiter::new(20.0);
        let mut starts = Vec::new();
        for _ in 0..60 {
            let _ = limiter.ready().await;
            starts.push(Instant::now());
            if starts.len() == 40 {
                limiter.limited(Instant::now(), None);
            }
        }
        for nth in 40..60 {
            let span = starts[nth] - starts[nth - 20];
            assert!(
                span >= Duration::from_millis(1024),
                "20 starts in {span:?} before number {nth}"
            );
        }
    });
}

/// A service that answers as the function says, after as long as it says, and remembers when requests started.
struct Scripted<F> {
    answer: F,
    sent: Arc<Mutex<Vec<(u64, Instant)>>>,
}

impl<F: Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static> Service for Scripted<F> {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        gate.pass().await;
        let sent_at = Instant::now();
        gate.started(sent_at);
        let nth = {
            let mut sent = self.sent.lock().unwrap();
            sent.push((row.line, sent_at));
            sent.iter().filter(|(line, _)| *line == row.line).count()
        };
        let (latency, verdict) = (self.answer)(row, nth);
        sleep(latency).await;
        Some(Attempt {
            verdict,
            started_at: Some(sent_at),
            latency,
            clock_skew: None,
            has_more: false,
        })
    }
}

fn code(code: i64) -> Verdict {
    judge(
        StatusCode::OK,
        format!(r#"{{"Code":{code},"Message":"m"}}"#).as_bytes(),
        None,
    )
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
    let plan = Plan::open(&source, &Format::default(), Arc::new(Selection::default())).unwrap();
    let report = path("out.csv");
    let job = job(service, plan, Some(rows as u64), rate, &report).limits(limits);
    let summary = observed(job, &report).run().await.unwrap();
    (summary, outcomes(&path("out.csv")))
}

fn job<S: Service<Item = Row>>(service: S, plan: Plan, total: Option<u64>, rate: f64, report: &Path) -> Job<S> {
    let outside = report.with_file_name("outside.csv");
    let report = Report::open(report, &outside, IfExists::Refuse, false).unwrap();
    Job::planned(service, plan, total).rate(rate).report(report)
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
    let mut x = row.line.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (nth as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 29)
}

#[test]
fn retries_pay_like_everyone_else_and_every_row_ends_once() {
    in_paused_time(async {
        let (summary, sent, outcomes) = run_all(3000, Limits::default(), |row, nth| {
            let chance = mixed(row, nth);
            let latency = Duration::from_millis(chance % 3000);
            let verdict = match chance % 100 {
                0..10 => code(660_000_001),
                10..14 => no_answer(TransportError::Broken, "connection reset".into(), None),
                14 => code(7),
                15..20 => code(660_800_002),
                20..23 => code(660_500_002),
                _ => code(0),
            };
            (latency, verdict)
        })
        .await;
        let starts: Vec<Instant> = sent.iter().map(|(_, at)| *at).collect();
        assert!(peak(&starts) <= 20, "{} within a second", peak(&starts));
        assert_eq!(outcomes.len(), 3000);
        assert_eq!(
            (summary.rows, summary.not_run, summary.requests),
            (3000, 0, sent.len() as u64)
        );
        assert!(summary.is_consistent() && summary.peak_1s <= 20);
        assert!(
            summary.retries > 300 && summary.outside > 100 && summary.failed > 50,
            "{summary:?}"
        );
        // Rows leave in file order: their first requests do.
        let mut seen = std::collections::HashSet::new();
        let firsts: Vec<u64> = sent
            .iter()
            .map(|(line, _)| *line)
            .filter(|line| seen.insert(*line))
            .collect();
        assert!(firsts.is_sorted());
    });
}

#[test]
fn rows_that_wait_for_a_retry_keep_no_new_ones_waiting() {
    in_paused_time(async {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let service = Scripted {
            answer: |row: &Row, nth| {
                let is_failure = mixed(row, nth) % 10 < 3;
                (Duration::from_millis(5), code(if is_failure { 660_000_001 } else { 0 }))
            },
            sent: Arc::clone(&sent),
        };
        let (summary, _) = run_with(10_000, 2000.0, Limits::default(), service).await;
        assert_eq!(summary.rows, summary.ok + summary.failed);
        let mut firsts: HashMap<u64, Instant> = HashMap::new();
        for (line, at) in sent.lock().unwrap().iter() {
            firsts.entry(*line).or_insert(*at);
        }
        let time = *firsts.values().max().unwrap() - *firsts.values().min().unwrap();
        let rate = 10_000.0 / time.as_secs_f64();
        assert!(rate > 1000.0, "{rate} new rows per second");
    });
}

#[test]
fn the_summary_counts_refusals_beside_the_peak_and_the_cap_which_tell_whose_they_probably_were() {
    for one_in in [300, 10] {
        in_paused_time(async {
            let (summary, _, _) = run_all(600, Limits::default(), move |row, nth| {
                let is_refused = nth == 1 && row.line % one_in == 5;
                (Duration::from_millis(30), code(if is_refused { 7 } else { 0 }))
            })
            .await;
            assert_eq!((summary.ok, summary.limited), (600, 600 / one_in));
            assert_eq!((summary.requests, summary.cap), (600 + summary.limited, 20));
            assert!(summary.peak_1s <= summary.cap, "{summary:?}");
        });
    }
}

#[test]
fn an_outage_of_an_hour_costs_no_row_and_few_requests() {
    in_paused_time(async {
        let started_at = Instant::now();
        let is_down = move || (20..3620).contains(&started_at.elapsed().as_secs());
        let limits = Limits {
            max_attempts: NonZeroU32::new(3).unwrap(),
            give_up_after: Duration::from_secs(7200),
            ..Limits::default()
        };
        let (summary, sent, outcomes) = run_all(1000, limits, move |_, _| match is_down() {
            true => (Duration::from_millis(5), judge(StatusCode::BAD_GATEWAY, b"", None)),
            false => (Duration::from_millis(30), code(0)),
        })
        .await;
        assert_eq!((summary.ok, summary.is_success()), (1000, true));
        assert!(outcomes.values().all(|outcome| outcome == "ok"));
        let in_outage = sent
            .iter()
            .filter(|(_, at)| (20..3620).contains(&(*at - started_at).as_secs()))
            .count();
        assert!(in_outage < 180, "{in_outage} requests in an hour without service");
    });
}

#[test]
fn a_service_that_stays_away_ends_the_run_after_the_given_time() {
    in_paused_time(async {
        let started_at = Instant::now();
        let limits = Limits {
            give_up_after: Duration::from_secs(600),
            ..Limits::default()
        };
        let (summary, sent, outcomes) = run_all(1000, limits, |_, _| {
            let refused = no_answer(TransportError::Unreachable, "connection refused".into(), None);
            (Duration::from_millis(1), refused)
        })
        .await;
        assert_eq!((summary.not_run, outcomes.len()), (1000, 0));
        assert!(
            (600..605).contains(&started_at.elapsed().as_secs()),
            "{:?}",
            started_at.elapsed()
        );
        assert!(sent.len() < 60, "{} requests", sent.len());
        assert!(
            matches!(&summary.stopped, Some(StopReason::GaveUp { why, .. }) if why.contains("connection refused")),
            "{summary:?}"
        );
    });
}

#[test]
fn a_few_rows_that_reach_nobody_are_not_failed_either() {
    in_paused_time(async {
        let started_at = Instant::now();
        let limits = Limits {
            max_attempts: NonZeroU32::new(2).unwrap(),
            ..Limits::default()
        };
        let (summary, _, _) = run_all(3, limits, move |_, _| match started_at.elapsed().as_secs() {
            0..300 => {
                let refused = no_answer(TransportError::Unreachable, "connection refused".into(), None);
                (Duration::from_millis(1), refused)
            }
            _ => (Duration::from_millis(30), code(0)),
        })
        .await;
        assert_eq!((summary.ok, summary.is_success()), (3, true), "{summary:?}");
    });
}

#[test]
fn a_wrong_secret_costs_a_handful_of_requests_however_slow_the_answers() {
    in_paused_time(async {
        for latency in [30, 300, 900] {
            let (summary, sent, outcomes) = run_all(500, Limits::default(), move |_, _| {
                (Duration::from_millis(latency), code(100_000_005))
            })
            .await;
            assert!(matches!(summary.stopped, Some(StopReason::Fatal { .. })), "{summary:?}");
            assert_eq!((summary.not_run, outcomes.len()), (500, 0));
            // Those that are under way when the first answer comes can't be helped.
            let under_way = latency as usize / 50 + 2;
            assert!(sent.len() <= under_way + 1, "{} requests at {latency} ms", sent.len());
        }
    });
}

#[test]
fn pages_that_are_not_zim_s_are_an_outage_and_fail_no_row() {
    for (status, body) in [(200, "<html>please log in</html>"), (403, "no"), (404, ""), (302, "")] {
        in_paused_time(async move {
            let started_at = Instant::now();
            let (summary, sent, outcomes) = run_all(300, Limits::default(), move |_, _| {
                let page = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), None);
                match started_at.elapsed().as_secs() {
                    2..600 => (Duration::from_millis(5), page),
                    _ => (Duration::from_millis(30), code(0)),
                }
            })
            .await;
            assert_eq!(
                (summary.ok, summary.is_success(), outcomes.len()),
                (300, true, 300),
                "{summary:?}"
            );
            let meanwhile = sent
                .iter()
                .filter(|(_, at)| (2..600).contains(&(*at - started_at).as_secs()));
            assert!(meanwhile.count() < 60, "single probes");
        });
    }
}

#[test]
fn a_page_that_answers_a_probe_does_not_end_the_hold() {
    in_paused_time(async {
        let started_at = Instant::now();
        let (summary, _, _) = run_all(200, Limits::default(), move |_, _| {
            match started_at.elapsed().as_secs() {
                2..60 => (Duration::from_millis(5), judge(StatusCode::BAD_GATEWAY, b"", None)),
                60..120 => (Duration::from_millis(5), judge(StatusCode::NOT_FOUND, b"", None)),
                _ => (Duration::from_millis(30), code(0)),
            }
        })
        .await;
        assert_eq!((summary.ok, summary.is_success()), (200, true), "{summary:?}");
    });
}

#[test]
fn signatures_that_are_refused_for_a_few_seconds_in_mid_run_end_nothing() {
    in_paused_time(async {
        let started_at = Instant::now();
        let (summary, sent, _) = run_all(200, Limits::default(), move |_, _| {
            match started_at.elapsed().as_secs() {
                2..12 => (Duration::from_millis(30), code(100_000_004)),
                _ => (Duration::from_millis(30), code(0)),
            }
        })
        .await;
        assert_eq!((summary.ok, summary.is_success()), (200, true), "{summary:?}");
        let meanwhile = sent
            .iter()
            .filter(|(_, at)| (2..12).contains(&(*at - started_at).as_secs()));
        assert!(meanwhile.count() < 20);
    });
}

#[test]
fn signatures_that_stay_refused_end_the_run_within_minutes() {
    in_paused_time(async {
        let started_at = Instant::now();
        let (summary, _, outcomes) = run_all(200, Limits::default(), move |row, _| {
            (
                Duration::from_millis(30),
                code(if row.line < 50 { 0 } else { 100_000_005 }),
            )
        })
        .await;
        assert!(matches!(summary.stopped, Some(StopReason::Fatal { .. })), "{summary:?}");
        assert_eq!(summary.not_run + outcomes.len() as u64, 200);
        assert!(
            started_at.elapsed() < Duration::from_secs(200),
            "{:?}",
            started_at.elapsed()
        );
    });
}
