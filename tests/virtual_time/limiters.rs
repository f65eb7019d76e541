//! Whole runs through rate limits that are not ZIM's: what a gateway answers in its place.

use super::*;

/// A server that takes ten requests in each second of the clock, and answers others with this status.
fn takes_ten(status: u16) -> impl Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static {
    let zero = Instant::now();
    let taken = Mutex::new((0, 0));
    move |_, _| {
        let mut taken = taken.lock().unwrap();
        let second = zero.elapsed().as_secs();
        if taken.0 != second {
            *taken = (second, 0);
        }
        taken.1 += 1;
        let verdict = if taken.1 <= 10 {
            code(0)
        } else {
            judge(status, b"<html>", None)
        };
        (Duration::from_millis(30), verdict)
    }
}

#[test]
fn a_limiter_that_answers_as_if_the_service_were_unavailable_slows_the_run_and_fails_no_row() {
    for status in [429, 503, 403] {
        in_paused_time(async move {
            let (summary, sent, _) = run_all(1000, Limits::default(), takes_ten(status)).await;
            assert_eq!((summary.ok, summary.failed), (1000, 0), "HTTP {status}");
            let refused = sent.len() - 1000;
            assert!(refused <= 100, "HTTP {status}: {refused} refused");
            let rate = 1000.0 / (sent[sent.len() - 1].1 - sent[0].1).as_secs_f64();
            assert!(rate > 9.0, "HTTP {status}: {rate} per second");
        });
    }
}

#[test]
fn a_row_that_is_always_answered_503_or_403_fails_and_slows_nobody() {
    for status in [503, 403] {
        in_paused_time(async move {
            let (summary, sent, outcomes) = run_all(1000, Limits::default(), move |row, _| {
                let is_refused = line_of(row) == 100;
                let verdict = if is_refused {
                    judge(status, b"<html>", None)
                } else {
                    code(0)
                };
                (Duration::from_millis(30), verdict)
            })
            .await;
            assert_eq!((summary.ok, summary.failed), (999, 1), "HTTP {status}");
            assert_eq!((outcomes[&100].as_str(), sent.len()), ("failed", 1005), "HTTP {status}");
            let rate = 1004.0 / (sent[sent.len() - 1].1 - sent[0].1).as_secs_f64();
            // The thread that reads the rows knows no paused time, and may come late.
            assert!(rate > 19.0, "HTTP {status}: {rate} per second");
        });
    }
}

#[test]
fn one_refusal_with_retry_after_delays_its_row_and_no_other() {
    in_paused_time(async move {
        let asked = Duration::from_secs(20);
        let (summary, sent, _) = run_all(200, Limits::default(), move |row, nth| {
            let is_refused = line_of(row) == 50 && nth == 1;
            let verdict = if is_refused {
                judge(429, b"", Some(asked))
            } else {
                code(0)
            };
            (Duration::from_millis(30), verdict)
        })
        .await;
        assert_eq!((summary.ok, summary.limited), (200, 1));
        let starts: Vec<Instant> = sent.iter().filter(|(line, _)| *line == 50).map(|(_, at)| *at).collect();
        assert!(starts[1] - starts[0] >= asked, "{:?}", starts[1] - starts[0]);
        let gaps = sent[..200].windows(2).map(|two| two[1].1 - two[0].1);
        assert!(gaps.max().unwrap() < SECOND / 10, "the others don't wait");
    });
}
