//! Clocks that are wrong or jump: reported with the difference, and without effect on pacing and time-outs.

use std::time::{Duration, SystemTime};

use crate::support::below::Below;
use crate::support::{Answer, Desk, Outcome, Server, code_body, kind_server, pace, rows};

const MINUTE: i64 = 60;

/// A server whose clock is this many seconds ahead of this machine's clock, and which answers with this code.
fn server_ahead_by(seconds: i64, code: i64) -> Server {
    Server::start(move |_, _| {
        let now = SystemTime::now();
        let shift = Duration::from_secs(seconds.unsigned_abs());
        let theirs = if seconds < 0 { now - shift } else { now + shift };
        Answer::Raw {
            status: 200,
            headers: vec![("Date", httpdate::fmt_http_date(theirs))],
            body: code_body(code, "as told"),
        }
    })
}

fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.contains("clock")).collect()
}

#[test]
fn a_clock_that_is_two_minutes_off_is_one_warning_with_the_amount() {
    for (ahead, way) in [(2 * MINUTE, "behind"), (-2 * MINUTE, "ahead")] {
        let (desk, server) = (Desk::new(), server_ahead_by(ahead, 0));
        let outcome = desk.clear(&server, rows(60)).run();

        outcome.assert_status(0);
        let [warning] = warnings(&outcome)[..] else {
            panic!("not one warning: {}", outcome.stderr);
        };
        let has_amount = ["2m", "1m 5"].iter().any(|amount| warning.contains(amount));
        assert!(
            has_amount && warning.contains(way) && warning.contains("WARN"),
            "{warning}"
        );
    }
}

#[test]
fn a_difference_below_a_minute_or_an_unknown_one_is_not_reported() {
    let odd = |date: Option<&'static str>| {
        Server::start(move |_, _| Answer::Raw {
            status: 200,
            headers: date.map(|date| ("Date", date.to_owned())).into_iter().collect(),
            body: code_body(0, "success"),
        })
    };
    for server in [
        server_ahead_by(50, 0),
        server_ahead_by(-50, 0),
        odd(None),
        odd(Some("yesterday")),
    ] {
        let outcome = Desk::new().clear(&server, rows(5)).run();
        outcome.assert_status(0);
        assert!(warnings(&outcome).is_empty(), "{}", outcome.stderr);
    }
}

#[test]
fn a_clock_that_is_a_quarter_of_an_hour_off_explains_why_signatures_are_refused() {
    for (ahead, way) in [(15 * MINUTE, "behind"), (-15 * MINUTE, "ahead")] {
        for code in [100_000_004, 100_000_005] {
            let (desk, server) = (Desk::new(), server_ahead_by(ahead, code));
            let outcome = desk.clear(&server, rows(5)).run();

            outcome
                .assert_status(6)
                .assert_says(&[&code.to_string(), "clock", way, "--resume"]);
            let has_amount = ["15m", "14m 5"].iter().any(|amount| outcome.stderr.contains(amount));
            assert!(has_amount, "{}", outcome.stderr);
            let summary = outcome.summary();
            summary.assert_counts(&[("rows", 5), ("not_run", 5), ("failed", 0)]);
            let stopped = summary.0["stopped"].as_str().unwrap_or_default();
            assert!(
                stopped.contains("clock"),
                "the reason does not name the clock: {stopped}"
            );
        }
    }
    // With a correct clock there is another cause.
    let outcome = Desk::new().clear(&server_ahead_by(0, 100_000_004), rows(5)).run();
    outcome.assert_status(6);
    assert!(
        !outcome.stderr.contains("this machine's clock is 0"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn this_machine_s_own_clock_is_compared_with_the_service_s() {
    let Some(below) = Below::new() else { return };
    below.move_clock(2 * MINUTE);
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = below.under(desk.clear(&server, rows(5))).run();
    outcome.assert_status(0).assert_says(&["clock", "ahead"]);
    let finished = &desk.report()[0].finished_at;
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    assert!(*finished > now, "the clock was not moved: {finished}");
}

#[test]
fn a_clock_that_jumps_changes_neither_the_pace_nor_the_time_outs() {
    std::thread::scope(|scope| {
        for jump in [60 * MINUTE, -60 * MINUTE] {
            scope.spawn(move || assert_is_unmoved_by(jump));
        }
    });
}

/// A run during which the clock jumps by this many seconds.
fn assert_is_unmoved_by(jump: i64) {
    let Some(below) = Below::new() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(80)).flag("--rate", "20");
    let call = call.flag("--timeout", "20s").flag("--max-duration", "10m");
    let mut running = below.under(call).spawn();
    running.wait_until("the run is under way", || server.requests().len() >= 30);
    below.move_clock(jump);
    let outcome = running.wait();

    outcome.assert_status(0).assert_says(&["clock"]);
    let has_amount = ["1h", "59m 5"].iter().any(|amount| outcome.stderr.contains(amount));
    assert!(has_amount, "{}", outcome.stderr);
    let summary = outcome.summary();
    summary.assert_counts(&[("ok", 80), ("requests", 80), ("retries", 0)]);
    pace::assert_within_cap(&server.arrivals(), 20);
    // The jump of an hour is neither waited for nor counted.
    let seconds = summary.0["elapsed_s"].as_f64();
    assert!(
        seconds.is_some_and(|seconds| (3.9..600.0).contains(&seconds)),
        "{jump} s: {seconds:?}"
    );
}
