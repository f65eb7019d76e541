//! Outages that a run waits out, and policies that stop it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::{Answer, Desk, Options, Server, kind_server, named_rows, rows};

#[test]
fn a_run_waits_out_an_outage_with_occasional_probes() {
    const OUTAGE: Duration = Duration::from_secs(6);
    let sit_out = |kind: &'static str| {
        let started_at = Mutex::new(None::<Instant>);
        let server = Server::start(move |request, _| {
            let mut started_at = started_at.lock().unwrap();
            if request.user() == "u50" && started_at.is_none() {
                *started_at = Some(request.at);
            }
            match (started_at.is_some_and(|started_at| started_at.elapsed() < OUTAGE), kind) {
                (false, _) => Answer::Code(0, "success"),
                (true, "reset") => Answer::Reset,
                (true, "busy") => Answer::Code(660_000_001, "general error"),
                (true, _) => Answer::Raw {
                    status: 503,
                    headers: vec![],
                    body: String::new(),
                },
            }
        });
        let desk = Desk::new();

        let outcome = desk
            .clear(&server, rows(200))
            .flag("--rate", "100")
            .flag("--max-attempts", "3")
            .run();

        assert_eq!(outcome.status, 0, "{kind}: {}", outcome.stderr);
        outcome.summary().assert_counts(&[("rows", 200), ("ok", 200)]);
        assert_eq!(desk.report_by_user().len(), 200);
        let requests = server.requests();
        let started_at = server.requests_of("u50")[0].at;
        let seen = |from: u64, to: u64| {
            let [from, to] = [from, to].map(Duration::from_secs);
            requests
                .iter()
                .filter(|r| r.at >= started_at + from && r.at < started_at + to)
                .count()
        };
        assert!(
            seen(3, 6) <= 15,
            "{kind}: {} requests in the last 3 of 6 seconds of an outage",
            seen(3, 6)
        );
        assert!(
            seen(0, 6) <= 150,
            "{kind}: {} requests in an outage of 6 seconds",
            seen(0, 6)
        );
    };
    std::thread::scope(|scope| {
        for kind in ["503", "reset", "busy"] {
            scope.spawn(move || sit_out(kind));
        }
    });
}

#[test]
fn a_run_gives_up_on_a_long_outage_and_can_be_resumed() {
    let gone = kind_server().url(); // nobody listens there any more
    let desk = Desk::new();
    desk.write("rows.csv", rows(100));
    let call = desk
        .clear_with(&gone, "rows.csv")
        .flag("--report", "out.csv")
        .arg("--json")
        .flag("--rate", "200");

    let outcome = call.flag("--give-up-after", "2s").run();

    outcome.assert_status(5).assert_says(&["--resume"]);
    assert!(outcome.elapsed < Duration::from_secs(20), "{:?}", outcome.elapsed);
    assert!(outcome.elapsed > Duration::from_millis(1900), "{:?}", outcome.elapsed);
    let summary = outcome.summary();
    summary.assert_counts(&[("rows", 100), ("ok", 0)]);
    assert!(
        summary.count("not_run") >= 80,
        "an outage is no row's fault: {summary:?}"
    );

    let server = kind_server();
    let outcome = desk.clear(&server, rows(100)).arg("--resume").run();
    assert!([0, 3].contains(&outcome.status), "{outcome:?}");
    assert_eq!(desk.report_by_user().len(), 100);
}

#[test]
fn the_first_twenty_rows_all_rejected_alike_stop_the_run() {
    let server = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let desk = Desk::new();

    let outcome = desk.clear(&server, rows(500)).flag("--rate", "50").run();

    outcome.assert_status(5).assert_tells(&["660500002"]);
    let sent = server.requests().len();
    assert!((20..=30).contains(&sent), "{sent} requests");
    assert_eq!(desk.report().len(), sent, "what was answered is on record");
    let failed = sent as u64;
    outcome
        .summary()
        .assert_counts(&[("rows", 500), ("failed", failed), ("not_run", 500 - failed)]);
}

#[test]
fn the_first_twenty_rows_not_all_rejected_alike_stop_nothing() {
    let number = |user: &str| user.trim_start_matches('u').parse::<u64>().unwrap();
    let one_ok = Server::start(move |request, _| match number(&request.user()) {
        20 => Answer::Code(0, "success"),
        _ => Answer::Code(2, "input parameter error"),
    });
    let two_codes = Server::start(move |request, _| match number(&request.user()) {
        7 => Answer::Code(660_600_001, "no such group"),
        _ => Answer::Code(2, "input parameter error"),
    });
    let later = Server::start(move |request, _| match number(&request.user()) {
        1 => Answer::Code(660_800_002, "no such conversation"),
        _ => Answer::Code(2, "input parameter error"),
    });
    for server in [one_ok, two_codes, later] {
        let outcome = Desk::new().clear(&server, rows(60)).run();
        outcome
            .assert_status(3)
            .summary()
            .assert_counts(&[("rows", 60), ("not_run", 0), ("requests", 60)]);
    }
    let few = Server::start(|_, _| Answer::Code(2, "input parameter error"));
    Desk::new().clear(&few, rows(19)).run().assert_status(3);
}

#[test]
fn max_failures_stops_the_run() {
    let server = Server::start(|request, _| match request.user().starts_with("bad") {
        true => Answer::Code(660_600_001, "the group does not exist"),
        false => Answer::Code(0, "success"),
    });
    let users: Vec<_> = (0..200)
        .map(|n| if n % 4 == 3 { format!("bad{n}") } else { format!("u{n}") })
        .collect();
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, named_rows(&users))
        .flag("--rate", "50")
        .flag("--max-failures", "5")
        .run();

    outcome.assert_status(5);
    let summary = outcome.summary();
    assert!((5..=8).contains(&summary.count("failed")), "{summary:?}");
    assert!(
        summary.count("not_run") > 150 && summary.0["stopped"].is_string(),
        "{summary:?}"
    );

    let outcome = desk.clear(&server, named_rows(&users)).arg("--resume").run();
    outcome.assert_status(3);
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (200, 200));
}

#[test]
fn max_duration_starts_no_more_rows_and_finishes_those_in_flight() {
    let server = Server::start(|_, _| Answer::After(Duration::from_millis(700), Box::new(Answer::Code(0, "success"))));
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, rows(500))
        .flag("--rate", "20")
        .flag("--max-duration", "2s")
        .run();

    outcome.assert_status(7);
    assert!(outcome.elapsed < Duration::from_secs(10), "{:?}", outcome.elapsed);
    let summary = outcome.summary();
    assert!((10..=45).contains(&summary.count("ok")), "{summary:?}");
    assert_eq!(
        (server.requests().len(), desk.report().len()),
        (summary.count("ok") as usize, summary.count("ok") as usize)
    );
    assert_eq!(summary.count("not_run"), 500 - summary.count("ok"));
}

#[test]
fn a_timeout_applies_to_one_attempt() {
    let server = Server::start(|request, n| match (request.user().as_str(), n) {
        ("slow", 1) => Answer::Hang(Duration::from_secs(30)),
        ("steady", _) => Answer::After(Duration::from_millis(600), Box::new(Answer::Code(0, "success"))),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let call = desk.clear(&server, named_rows(["slow", "steady", "b"]));

    let outcome = call.flag("--timeout", "1500ms").flag("--max-attempts", "1").run();

    outcome.assert_status(3);
    assert!(outcome.elapsed < Duration::from_secs(8), "{:?}", outcome.elapsed);
    let records = desk.report_by_user();
    let slow = &records["slow"];
    assert_eq!(
        (
            slow.outcome.as_str(),
            slow.attempts,
            slow.code.as_str(),
            slow.http.as_str()
        ),
        ("failed", 1, "", "")
    );
    assert!(
        slow.message.contains("timed out after 1500ms")
            || slow.message.contains("timed out after 1.5s")
            || slow.message.contains("timed out after 1s 500ms"),
        "{slow:?}"
    );
    assert_eq!(records["steady"].outcome, "ok");
    let latency: f64 = slow.latency_ms.parse().unwrap();
    assert!((1400.0..4000.0).contains(&latency), "{slow:?}");
}

#[test]
fn a_cap_that_is_lower_than_the_rate_costs_time_but_no_row() {
    let options = Options {
        cap: Some(10),
        ..Options::default()
    };
    let server = Server::with(options, |_, _| Answer::Code(0, "success"));
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, rows(60))
        .flag("--rate", "20")
        .flag("--max-attempts", "1")
        .run();

    outcome.assert_status(0);
    let refused = server.requests().iter().filter(|request| !request.is_accepted).count() as u64;
    assert!((1..60).contains(&refused), "{refused} refused of 60 accepted");
    outcome
        .summary()
        .assert_counts(&[("ok", 60), ("limited", refused), ("requests", 60 + refused)]);
}

#[test]
fn a_stop_does_not_wait_for_more_input() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "u3" => Answer::Code(3, "authentication failed"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let call = desk
        .clear_with(&server.url(), "-")
        .flag("--report", "out.csv")
        .arg("--json");

    let outcome = call.open_stdin(rows(3)).run();

    outcome.assert_status(6);
    assert!(outcome.elapsed < Duration::from_secs(10), "{:?}", outcome.elapsed);
    assert_eq!(desk.report().len(), 2);
}

#[test]
fn the_reason_for_a_stop_is_on_stderr_even_with_json() {
    let server = Server::start(|_, _| Answer::Code(100_000_017, "service not enabled"));
    for flags in [&[][..], &["-q"]] {
        let desk = Desk::new();
        let outcome = flags
            .iter()
            .fold(desk.clear(&server, rows(5)), |call, flag| call.arg(flag))
            .run();
        outcome.assert_status(6).assert_says(&["100000017", "--resume"]);
    }
}

#[test]
fn the_two_signals_of_a_closed_terminal_count_once() {
    if !crate::support::signals::is_ignored("HUP") {
        let signal = "HUP";
        let server = Server::start(|_, _| Answer::After(Duration::from_secs(2), Box::new(Answer::Code(0, "success"))));
        let desk = Desk::new();
        let mut running = desk.clear(&server, rows(100)).flag("--rate", "20").spawn();
        running.wait_until("rows are in flight", || server.requests().len() >= 5);
        running.signal(signal);
        running.signal(signal);

        let outcome = running.wait();

        assert!(!outcome.stderr.contains("stopping immediately"), "{}", outcome.stderr);
        let sent = server.requests().len() as u64;
        outcome
            .summary()
            .assert_counts(&[("ok", sent), ("not_run", 100 - sent)]);
    }
}
