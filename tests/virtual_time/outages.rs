//! Whole runs while the service does not work, or refuses everything: what is waited out, and what ends them.

use std::num::NonZeroU32;

use zim_batch::client::verdict::{TransportError, no_answer};
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{BoxFuture, Limit, Quota, Request, Reserved, Slot, Unavailable};
use zim_batch::stop::StopReason;

use super::*;

#[test]
fn an_outage_of_an_hour_costs_no_row_and_few_requests() {
    wait_out(3600, || judge(502, b"", None));
}

#[test]
fn an_outage_of_other_kinds_costs_no_row_either() {
    wait_out(300, || code(660_000_001)); // busy
    wait_out(300, || {
        no_answer(TransportError::Broken, "connection reset".into(), None)
    });
}

/// An outage of so many seconds, in which each attempt ends like this.
fn wait_out(seconds: u64, failure: impl Fn() -> Verdict + Send + Sync + 'static) {
    in_paused_time(async {
        let started_at = Instant::now();
        let is_down = move || (20..20 + seconds).contains(&started_at.elapsed().as_secs());
        let limits = Limits {
            max_attempts: NonZeroU32::new(3).unwrap(),
            give_up_after: Duration::from_secs(7200),
            ..Limits::default()
        };
        let (summary, sent, outcomes) = run_all(1000, limits, move |_, _| {
            if is_down() {
                (Duration::from_millis(5), failure())
            } else {
                (Duration::from_millis(30), code(0))
            }
        })
        .await;
        assert_eq!((summary.ok, summary.is_success()), (1000, true));
        assert!(outcomes.values().all(|outcome| outcome == "ok"));
        let in_outage = sent
            .iter()
            .filter(|(_, at)| (20..20 + seconds).contains(&(*at - started_at).as_secs()))
            .count();
        assert!(in_outage < 180, "{in_outage} requests in {seconds} s without service");
    });
}

#[test]
fn a_time_limit_is_met_when_it_is_due() {
    let (short, long) = (Duration::from_millis(1333), Duration::from_secs(600));
    for (max_duration, give_up_after) in [(Some(short), long), (None, short)] {
        in_paused_time(async {
            let limits = Limits {
                max_duration,
                give_up_after,
                ..Limits::default()
            };
            let started_at = Instant::now();
            let (_, sent, _) = run_all(1000, limits, |_, _| {
                let refused = no_answer(TransportError::Unreachable, "connection refused".into(), None);
                (Duration::ZERO, refused)
            })
            .await;
            // The service is away from the first failure on; the reading thread knows no paused time.
            let since = if max_duration.is_some() { started_at } else { sent[0].1 };
            let late = since.elapsed() - short;
            assert!(late <= Duration::from_millis(5), "{late:?} late");
        });
    }
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
fn a_wrong_secret_or_app_costs_a_handful_of_requests_however_slow_the_answers() {
    in_paused_time(async {
        for (refusal, latency) in [100_000_005, 100_000_010]
            .into_iter()
            .flat_map(|code| [30, 300, 900].map(|ms| (code, ms)))
        {
            let (summary, sent, outcomes) = run_all(500, Limits::default(), move |_, _| {
                (Duration::from_millis(latency), code(refusal))
            })
            .await;
            assert!(matches!(summary.stopped, Some(StopReason::Fatal { .. })), "{summary:?}");
            assert_eq!((summary.not_run, outcomes.len()), (500, 0));
            // Those that are under way when the first answer comes can't be helped.
            let under_way = latency as usize / 50 + 2;
            let more = if refusal == 100_000_005 { 1 } else { 6 };
            assert!(
                sent.len() <= under_way + more,
                "{refusal}: {} requests at {latency} ms",
                sent.len()
            );
        }
    });
}

#[test]
fn pages_that_are_not_zim_s_are_an_outage_and_fail_no_row() {
    for (status, body) in [(200, "<html>please log in</html>"), (403, "no"), (404, ""), (302, "")] {
        in_paused_time(async move {
            let started_at = Instant::now();
            let (summary, sent, outcomes) = run_all(300, Limits::default(), move |_, _| {
                let page = judge(status, body.as_bytes(), None);
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
                2..60 => (Duration::from_millis(5), judge(502, b"", None)),
                60..120 => (Duration::from_millis(5), judge(404, b"", None)),
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
                code(if line_of(row) < 50 { 0 } else { 100_000_005 }),
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

/// A quota with free starts at any time, and an operator's pause of three hours that begins after ten seconds.
#[derive(Debug)]
struct PausedFor3h(Instant);

impl Quota for PausedFor3h {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        let at = request.not_before;
        Box::pin(async move {
            Ok(Reserved::Slot(Slot {
                id: 0,
                at,
                until: at + Duration::from_millis(10),
                starts: request.starts,
                runs: 1,
            }))
        })
    }

    fn limit(&self) -> Option<Limit> {
        let is_paused = (10..3 * 3600).contains(&self.0.elapsed().as_secs());
        is_paused.then(|| Limit::new(None, None))
    }
}

#[test]
fn a_pause_is_no_outage_and_an_outage_around_it_is_given_up_after_the_time_without_it() {
    for outage in [0..0, 5..4 * 3600_u64, 5..3 * 3600 + 60] {
        in_paused_time(async {
            let started_at = Instant::now();
            let give_up_after = Duration::from_secs(600);
            let limits = Limits {
                give_up_after,
                ..Limits::default()
            };
            let sent = Arc::new(Mutex::new(Vec::new()));
            let is_down = outage.clone();
            let service = Scripted {
                answer: move |_: &Row, _| match is_down.contains(&started_at.elapsed().as_secs()) {
                    true => (Duration::from_millis(5), judge(502, b"", None)),
                    false => (Duration::from_millis(30), code(0)),
                },
                sent: Arc::clone(&sent),
            };
            let limiter = Limiter::sharing(Rate::default(), Arc::new(PausedFor3h(started_at)));
            let (summary, _) = run_observed(1000, 20.0, limits, service, |job, _| job.limiter(limiter)).await;
            let in_pause = |(_, at): &&(u64, Instant)| (10..3 * 3600).contains(&(*at - started_at).as_secs());
            assert_eq!(sent.lock().unwrap().iter().filter(in_pause).count(), 0);
            if outage.end == 4 * 3600 {
                let ended = Duration::from_secs(5 + 3 * 3600 - 10) + give_up_after;
                // Waiting rows look again every second, and the reading thread knows no paused time.
                let late = started_at.elapsed().abs_diff(ended);
                assert!(late < Duration::from_secs(10), "{late:?}");
                assert!(
                    matches!(summary.stopped, Some(StopReason::GaveUp { .. })),
                    "{summary:?}"
                );
            } else {
                assert_eq!((summary.ok, &summary.stopped), (1000, &None), "{summary:?}");
            }
        });
    }
}

#[test]
fn after_an_outage_the_run_is_as_fast_as_before_whatever_the_answers_looked_like() {
    for status in [502, 503, 403] {
        in_paused_time(async move {
            let started_at = Instant::now();
            let (summary, sent, _) = run_all(1000, Limits::default(), move |_, _| {
                match started_at.elapsed().as_secs() {
                    20..23 => (Duration::from_millis(5), judge(status, b"<html>", None)),
                    _ => (Duration::from_millis(30), code(0)),
                }
            })
            .await;
            assert_eq!((summary.ok, summary.failed), (1000, 0), "HTTP {status}");
            let again = started_at + 26 * SECOND;
            let within = sent
                .iter()
                .filter(|(_, at)| again <= *at && *at < again + 5 * SECOND)
                .count();
            assert!(within >= 98, "HTTP {status}: {within} requests in five seconds");
        });
    }
}

/// A quota that can't be used for the first seconds.
#[derive(Debug)]
struct AwayFor(Duration, Instant);

impl Quota for AwayFor {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        let is_away = self.1.elapsed() < self.0;
        Box::pin(async move {
            if is_away {
                return Err(Unavailable("the server is away".into()));
            }
            PausedFor3h(self.1).reserve(request).await
        })
    }
}

/// A service whose connections are refused after the first second, so that nothing reaches the gate.
struct RefusedSoon(Instant);

impl Sealed for RefusedSoon {}

impl Service for RefusedSoon {
    type Item = Row;

    async fn attempt(&self, _: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        if self.0.elapsed() < SECOND {
            let _ = tokio::time::timeout(SECOND, gate.pass()).await;
            return None;
        }
        sleep(Duration::from_millis(5)).await;
        let verdict = no_answer(TransportError::Unreachable, "connection refused".into(), None);
        Some(Attempt::new(verdict, None, Duration::from_millis(5)))
    }
}

#[test]
fn a_quota_that_was_not_tried_since_is_not_said_to_be_away() {
    in_paused_time(async {
        let began = Instant::now();
        let limits = Limits {
            give_up_after: 60 * SECOND,
            ..Limits::default()
        };
        let limiter = Limiter::sharing(per_second(20.0), Arc::new(AwayFor(3 * SECOND, began)));
        let (summary, _) = run_observed(50, 20.0, limits, RefusedSoon(began), |job, _| job.limiter(limiter)).await;
        assert!(
            matches!(summary.stopped, Some(StopReason::GaveUp { .. })),
            "{:?}",
            summary.stopped
        );
    });
}
