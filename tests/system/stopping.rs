//! Policies that stop a run, and what does not.

use std::time::Duration;

use crate::support::{Answer, Desk, Options, Server, named_rows, rows};

#[test]
fn the_first_twenty_rows_all_rejected_alike_stop_the_run() {
    let server = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let desk = Desk::new();

    let call = desk.clear(&server, rows(60)).flag("--rate", "50");
    let outcome = call.flag("--max-in-flight", "4").run();

    outcome.assert_status(5).assert_says(&["660500002", "--overwrite"]);
    assert!(!outcome.stderr.contains("--resume"), "one command: {}", outcome.stderr);
    let sent = server.requests().len();
    assert!((20..=24).contains(&sent), "{sent} requests");
    assert_eq!(desk.report().len(), sent, "what was answered is on record");
    let failed = sent as u64;
    outcome
        .summary()
        .assert_counts(&[("rows", 60), ("failed", failed), ("not_run", 60 - failed)]);
    // With those that were in flight: the same number as in the table.
    let stopped = outcome.summary().stopped();
    assert!(stopped.contains(&format!("first {sent} rows")), "{stopped}");

    // Rows that were rejected before count when it is resumed: the first twenty were not all.
    desk.clear(&server, rows(60)).arg("--resume").run().assert_status(3);
    assert_eq!((desk.report_by_user().len(), server.count()), (60, 60));
}

#[test]
fn rows_of_one_user_that_does_not_exist_stop_nothing() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "gone" => Answer::Code(660_500_002, "FromUserId is not registered"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let of_one = (0..30).map(|number| format!("gone,c{number},0\n"));
    let outcome = desk.clear(&server, rows(0) + &of_one.collect::<String>() + "good,c,0\n");
    let summary = outcome.flag("--max-in-flight", "1").run().assert_status(3).summary();
    summary.assert_counts(&[("rows", 31), ("failed", 30), ("ok", 1)]);

    // But users that do not exist, with any number of rows each, do.
    let server = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let desk = Desk::new();
    let of_many = (0..120).map(|number| format!("u{},c{number},0\n", number / 2));
    let outcome = desk.clear(&server, rows(0) + &of_many.collect::<String>());
    let outcome = outcome.flag("--max-in-flight", "1").run();
    outcome
        .assert_status(5)
        .assert_says(&["the first 39 rows", "--overwrite"]);
    let report = desk.zim_batch(["report", "out.csv"]).run().stdout;
    assert!(
        report.contains("--overwrite") && !report.contains("--resume"),
        "{report}"
    );
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
        // One after the other: in the order of the rows.
        let desk = Desk::new();
        let outcome = desk.clear(&server, rows(60)).flag("--max-in-flight", "1").run();
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
    let server = Server::start(|request, _| {
        if request.user().starts_with("bad") {
            Answer::Code(660_600_001, "the group does not exist")
        } else {
            Answer::Code(0, "success")
        }
    });
    let users: Vec<_> = (0..200)
        .map(|n| if n % 4 == 3 { format!("bad{n}") } else { format!("u{n}") })
        .collect();
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, named_rows(&users))
        .flag("--rate", "50")
        .flag("--max-failures", "5")
        .flag("--max-in-flight", "2")
        .run();

    outcome.assert_status(5).assert_says(&["--max-failures", "--resume"]);
    let summary = outcome.summary();
    assert!(summary.stopped().contains("--max-failures"), "{summary:?}");
    assert!((5..=7).contains(&summary.count("failed")), "{summary:?}");
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
        .flag("--max-duration", "1s")
        .run();

    outcome.assert_status(7);
    let summary = outcome.summary();
    assert!((1..=21).contains(&summary.count("ok")), "{summary:?}");
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
        ("steady", _) => Answer::After(Duration::from_millis(300), Box::new(Answer::Code(0, "success"))),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let call = desk.clear(&server, named_rows(["slow", "steady", "b"]));

    let outcome = call.flag("--timeout", "2s").flag("--max-attempts", "1").run();

    outcome.assert_status(3);
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
    assert!(slow.message.contains("timed out after 2s"), "{slow:?}");
    assert_eq!(records["steady"].outcome, "ok");
    let latency: f64 = slow.latency_ms.parse().unwrap();
    assert!(latency >= 2000.0, "{slow:?}");
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
        .clear(&server, rows(40))
        .flag("--rate", "20")
        .flag("--max-attempts", "1")
        .run();

    outcome.assert_status(0);
    let refused = server.requests().iter().filter(|request| !request.is_accepted).count() as u64;
    // If refusals did not slow the run, there would be as many as accepted ones.
    assert!((1..20).contains(&refused), "{refused} refused of 40 accepted");
    outcome
        .summary()
        .assert_counts(&[("ok", 40), ("limited", refused), ("requests", 40 + refused)]);
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

    // Its pipe is open until it has ended.
    outcome.assert_status(6);
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
