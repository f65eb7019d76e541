//! The breaker by itself, in paused time.

use tokio::time::{advance, timeout};

use super::*;
use crate::client::verdict::{judge, no_answer};

fn unreachable() -> Verdict {
    no_answer(TransportError::Unreachable, "connection refused".into(), None)
}

fn ok() -> Verdict {
    judge(200, br#"{"Code":0}"#, None)
}

fn breaker() -> Arc<CircuitBreaker> {
    Arc::default()
}

/// Admits an attempt of a row that has failed before.
async fn admit(breaker: &Arc<CircuitBreaker>) -> Admission {
    let queued = breaker.queue(true);
    queued.ready().await;
    queued.try_admit().unwrap()
}

/// Records an attempt of a row that has not failed before.
fn first(breaker: &Arc<CircuitBreaker>, admission: &Admission, verdict: &Verdict) -> Option<Transition> {
    breaker
        .record(admission, verdict, &mut FirstFailure::default(), false)
        .1
}

/// A breaker that has just opened.
async fn open() -> Arc<CircuitBreaker> {
    let breaker = breaker();
    let admission = admit(&breaker).await;
    for nth in 1..=MANY {
        let transition = first(&breaker, &admission, &unreachable());
        assert_eq!(transition, (nth == MANY).then_some(Transition::Opened));
    }
    breaker
}

#[tokio::test(start_paused = true)]
async fn many_rows_in_a_row_are_an_outage_and_one_row_many_times_is_not() {
    let breaker = breaker();
    let admission = admit(&breaker).await;
    let mut stubborn = FirstFailure::default();
    for _ in 0..100 {
        let recorded = breaker.record(&admission, &unreachable(), &mut stubborn, false);
        assert_eq!(recorded, (true, None));
    }
    for nth in 2..=MANY {
        let (counts, transition) = breaker.record(&admission, &unreachable(), &mut FirstFailure::default(), false);
        assert_eq!((counts, transition.is_some()), (nth < MANY, nth == MANY), "row {nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_not_zim_s_make_an_outage_and_unknown_codes_of_zim_s_don_t() {
    for status in [200, 302, 403, 404] {
        let breaker = breaker();
        let admission = admit(&breaker).await;
        for nth in 1..=MANY {
            let page = judge(status, b"<html>", None);
            assert_eq!(Signal::from(&page), Signal::Down);
            assert_eq!(first(&breaker, &admission, &page).is_some(), nth == MANY);
        }
        let unknown = judge(status, br#"{"Code":424242}"#, None);
        assert_eq!(first(&breaker, &admission, &unknown), Some(Transition::Closed));
        assert_eq!(breaker.unreachable(Some), None);
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_failed_before_an_answer_don_t_make_an_outage_after_it() {
    let breaker = breaker();
    let admission = admit(&breaker).await;
    let mut stubborn = [FirstFailure::default(); 50];
    for row in &mut stubborn {
        first(&breaker, &admission, &ok());
        breaker.record(&admission, &unreachable(), row, false);
    }
    for row in &mut stubborn {
        assert_eq!(breaker.record(&admission, &unreachable(), row, false), (true, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_s_last_attempt_opens_the_breaker_only_while_nothing_reaches_the_service() {
    let busy = judge(502, b"", None);
    for (verdict, is_answered_between, opens) in [
        (unreachable(), false, true),
        (busy, false, false),
        (unreachable(), true, false),
    ] {
        let (breaker, mut row) = (breaker(), FirstFailure::default());
        let admission = admit(&breaker).await;
        breaker.record(&admission, &unreachable(), &mut row, false);
        if is_answered_between {
            first(&breaker, &admission, &ok());
        }
        let (counts, transition) = breaker.record(&admission, &verdict, &mut row, true);
        assert_eq!((counts, transition.is_some()), (!opens, opens), "{verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_without_an_answer_begins_with_the_first_failure_and_ends_with_an_answer() {
    let breaker = breaker();
    let admission = admit(&breaker).await;
    let due = |seconds| {
        breaker
            .unreachable(|since| since.checked_add(Duration::from_secs(seconds)))
            .map(|(due, _)| due)
    };
    assert_eq!(due(5), None);
    let first_failure = Instant::now();
    first(&breaker, &admission, &unreachable());
    advance(Duration::from_secs(5)).await;
    assert_eq!(due(5), None, "perhaps nothing has been sent since");
    first(&breaker, &admission, &unreachable());
    assert_eq!(due(5), Some(first_failure + Duration::from_secs(5)));
    assert_eq!(due(6), None);
    for _ in 2..MANY {
        first(&breaker, &admission, &unreachable());
    }
    assert_eq!(
        due(60),
        Some(first_failure + Duration::from_secs(60)),
        "on hold, time goes on"
    );
    first(&breaker, &admission, &ok());
    assert_eq!(due(5), None);
}

#[tokio::test(start_paused = true)]
async fn while_open_one_probe_at_a_time_is_admitted_at_growing_intervals() {
    let breaker = open().await;
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        let opened_at = Instant::now();
        let probe = admit(&breaker).await;
        assert_eq!(opened_at.elapsed(), Duration::from_secs(pause));
        assert!(timeout(MAX_PAUSE, admit(&breaker)).await.is_err(), "only the probe");
        assert!(probe.holds());
        assert_eq!(first(&breaker, &probe, &unreachable()), None);
    }
    let probe = admit(&breaker).await;
    assert_eq!(first(&breaker, &probe, &ok()), Some(Transition::Closed));
    assert_eq!(admit(&breaker).await.probe, None);
}

#[tokio::test(start_paused = true)]
async fn what_was_admitted_before_waits_for_the_probe_and_a_dropped_probe_makes_room() {
    let breaker = breaker();
    let before = admit(&breaker).await;
    for _ in 0..MANY {
        first(&breaker, &before, &unreachable());
    }
    assert!(!before.holds());
    drop(admit(&breaker).await);
    let probe = admit(&breaker).await;
    assert!(timeout(MAX_PAUSE, before.held()).await.is_err());
    first(&breaker, &probe, &ok());
    before.held().await;
}

#[tokio::test(start_paused = true)]
async fn rows_that_have_not_failed_are_probes_before_those_that_have_and_then_each_in_turn() {
    let breaker = open().await;
    let mut queue: Vec<Queued> = [true, true, false, false]
        .map(|has_failed| breaker.queue(has_failed))
        .into();
    for next in [2, 2, 0, 0] {
        queue[next].ready().await;
        for (other, waiting) in queue.iter().enumerate().filter(|(other, _)| *other != next) {
            assert!(
                timeout(MAX_PAUSE, waiting.ready()).await.is_err(),
                "{other} before {next}"
            );
        }
        let probe = queue[next].try_admit().unwrap();
        drop(queue.remove(next));
        assert!(
            queue.iter().all(|waiting| waiting.try_admit().is_none()),
            "one probe at a time"
        );
        queue.push(breaker.queue(true));
        first(&breaker, &probe, &unreachable());
    }
}

#[tokio::test(start_paused = true)]
async fn new_rows_wait_while_one_is_tried_alone() {
    let breaker = breaker();
    let alone = breaker.try_alone().await;
    assert!(timeout(MAX_PAUSE, breaker.try_alone()).await.is_err(), "one at a time");
    assert!(timeout(MAX_PAUSE, breaker.admits_new_rows()).await.is_err());
    assert!(
        admit(&breaker).await.holds(),
        "the row itself, and others that have begun"
    );
    drop(alone);
    breaker.admits_new_rows().await;
}
