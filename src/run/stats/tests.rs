//! Statistics, counted event by event.

use super::*;
use crate::entries::Entries;

fn record(outcome: Outcome, code: Option<i64>, message: &str) -> Event {
    Event::Settled(Box::new(Record {
        subject: Subject::Row,
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
        conversations: Vec::new(),
        entries: Entries::default(),
        looked_up: None,
    }))
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

fn summary(stats: Stats, rows: u64, stopped: Option<&StopReason>) -> Summary {
    stats.summary(Some(rows).into(), 20, Duration::from_millis(140), stopped)
}

#[test]
fn rows_left_without_a_reason_are_a_bug_and_not_a_success() {
    let mut stats = Stats::default();
    stats.count(&record(Outcome::Ok, Some(0), ""));
    let left_over = summary(stats, 3, None);
    assert_eq!(left_over.stopped, Some(StopReason::RowsLeft));
    assert_eq!((left_over.is_complete(), left_over.not_run), (false, 2));
    let stopped = summary(Stats::default(), 3, Some(&StopReason::Signal(15)));
    assert_eq!(stopped.stopped, Some(StopReason::Signal(15)));
    assert!(summary(Stats::default(), 0, None).is_success());
}

#[test]
fn a_row_that_failed_or_was_invalid_in_an_earlier_run_is_not_a_success() {
    let counted = |outcome: Outcome, is_earlier: bool| {
        let mut earlier = Counts::default();
        earlier[outcome] = u64::from(is_earlier);
        let mut stats = Stats::new(earlier, Reasons::default(), None);
        if is_earlier {
            stats.count(&Event::AlreadyDone(1));
        } else {
            stats.count(&record(outcome, None, "user is empty"));
        }
        summary(stats, 1, None)
    };
    for is_earlier in [true, false] {
        for outcome in Outcome::ALL {
            let summary = counted(outcome, is_earlier);
            let fails = matches!(outcome, Outcome::Failed | Outcome::Invalid);
            assert!(summary.is_complete());
            assert_eq!(summary.is_success(), !fails, "{outcome} {is_earlier}");
        }
    }
}

#[test]
fn failed_rows_are_counted_by_cause_and_retried_answers_separately() {
    let mut stats = Stats::default();
    for code in [660000001, 660000001, 660500002, 0] {
        stats.count(&answer(Some(code), None));
    }
    stats.count(&record(Outcome::Failed, Some(660500002), "not registered"));
    stats.count(&record(Outcome::Failed, None, "timed out after 10s"));
    stats.count(&record(Outcome::Failed, None, "timed out after 10s"));
    stats.count(&record(Outcome::Ok, Some(0), "success"));
    let summary = summary(stats, 4, None);
    let reasons = summary.reasons.iter();
    let reasons: Vec<_> = reasons
        .map(|reason| (reason.code, reason.message.as_str(), reason.rows))
        .collect();
    assert_eq!(
        reasons,
        [(None, "timed out after 10s", 2), (Some(660500002), "not registered", 1)]
    );
    assert_eq!(summary.retried, BTreeMap::from([(660000001, 2)]));
}

#[test]
fn one_request_has_no_rate_and_many_have_one() {
    let now = Instant::now();
    let mut stats = Stats::default();
    stats.count(&Event::Sent {
        at: now,
        is_retry: false,
    });
    assert_eq!(summary(stats, 0, None).rate, 0.0);
    let mut stats = Stats::default();
    for nth in 0..202 {
        let at = now + Duration::from_millis(50) * nth;
        stats.count(&Event::Sent { at, is_retry: false });
    }
    let summary = summary(stats, 0, None);
    assert_eq!((summary.rate, summary.peak_1s), (20.0, 20));
}

#[test]
fn the_last_error_is_known_from_the_first_failure_to_the_next_answer() {
    let mut stats = Stats::default();
    stats.count(&answer(None, Some("connection refused")));
    assert_eq!(stats.trouble(Instant::now()), Some("connection refused"));
    stats.count(&answer(Some(0), None));
    stats.count(&answer(None, Some("timed out after 10s")));
    assert_eq!(stats.trouble(Instant::now()), None, "others are answered");
    assert_eq!(
        stats.trouble(Instant::now() + TROUBLE_AFTER),
        Some("timed out after 10s")
    );
    let summary = summary(stats, 0, Some(&StopReason::Signal(2)));
    assert_eq!(summary.last_error.as_deref(), Some("timed out after 10s"));
}
