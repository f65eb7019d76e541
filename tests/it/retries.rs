//! Codes that concern more than their row: those that stop the run, slow it, or are retried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{
    APP_CODES, Answer, Desk, FATAL_CODES, LIMITED_CODES, Outcome, Record, SIGNATURE_CODES, Server, as_the_user_says,
    code_body, html, named_rows, rows,
};

/// Sends five rows one after another, the second of which gets this user's answer.
fn second_of_five(server: &Server, desk: &Desk, user: &str) -> Outcome {
    let rows = named_rows(["first", user, "third", "fourth", "fifth"]);
    desk.clear(server, rows).flag("--max-in-flight", "1").run()
}

fn users_of(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.user.as_str()).collect()
}

/// The reason in the summary contains the code as a separate number.
#[track_caller]
fn assert_stopped_by(outcome: &Outcome, code: i64) {
    let why = outcome.summary().stopped();
    let mut numbers = why.split(|c: char| !c.is_ascii_digit());
    assert!(
        numbers.any(|number| number == code.to_string()),
        "stopped by {code}: {why}"
    );
}

#[test]
fn a_fatal_code_stops_the_run_immediately_and_leaves_its_row_without_a_record() {
    for code in FATAL_CODES {
        let (desk, server) = (Desk::new(), Server::start(as_the_user_says));

        let outcome = second_of_five(&server, &desk, &format!("code{code}"));

        outcome.assert_status(6);
        assert_stopped_by(&outcome, *code);
        assert_eq!(users_of(&desk.report()), ["first"], "after {code}");
        assert_eq!(server.requests().len(), 2, "after {code}");
        let summary = outcome.summary();
        summary.assert_counts(&[("rows", 5), ("ok", 1), ("not_run", 4), ("failed", 0)]);
    }
}

#[test]
fn a_persistent_app_code_stops_the_run_after_a_few_attempts() {
    let stay = |code: i64| {
        let (desk, server) = (Desk::new(), Server::start(as_the_user_says));
        let user = format!("code{code}");

        let outcome = second_of_five(&server, &desk, &user);

        outcome.assert_status(6).assert_names_the_app_id();
        assert_stopped_by(&outcome, code);
        let tries = server.requests_of(&user).len();
        assert!((2..=6).contains(&tries), "{tries} tries for {code}");
        assert!(!desk.report_by_user().contains_key(&user));
    };
    std::thread::scope(|scope| {
        for code in APP_CODES {
            scope.spawn(move || stay(*code));
        }
    });
}

#[test]
fn a_temporary_signature_or_app_code_costs_only_the_second_attempt() {
    for code in SIGNATURE_CODES.iter().chain(APP_CODES) {
        let server = Server::start(|request, n| {
            if n == 1 {
                as_the_user_says(request, n)
            } else {
                Answer::Code(0, "")
            }
        });
        let (desk, user) = (Desk::new(), format!("code{code}"));

        second_of_five(&server, &desk, &user).assert_status(0);

        let record = &desk.report_by_user()[&user];
        assert_eq!((record.outcome.as_str(), record.attempts), ("ok", 2), "{record:?}");
        server.assert_well_formed();
    }
}

#[test]
fn a_signature_that_is_refused_twice_stops_the_run() {
    for code in SIGNATURE_CODES {
        let (desk, server) = (Desk::new(), Server::start(as_the_user_says));
        let user = format!("code{code}");

        // No other signature was accepted before.
        let outcome = desk.clear(&server, named_rows([&user])).run();

        outcome.assert_status(6);
        assert_eq!(server.requests_of(&user).len(), 2, "tries for {code}");
        assert!(!desk.report_by_user().contains_key(&user));
        server.assert_well_formed();
    }
}

#[test]
fn limited_answers_use_up_no_attempts() {
    let limit_twice = |code: i64| {
        let server = Server::start(|request, n| match n {
            1..=2 => as_the_user_says(request, n),
            _ => Answer::Code(0, "success"),
        });
        let (desk, user) = (Desk::new(), format!("code{code}"));
        let call = desk.clear(&server, named_rows(["first", &user, "third"]));

        let outcome = call.flag("--max-attempts", "1").run();

        outcome.assert_status(0);
        let record = &desk.report_by_user()[&user];
        assert_eq!((record.outcome.as_str(), record.attempts), ("ok", 3), "{record:?}");
        outcome
            .summary()
            .assert_counts(&[("limited", 2), ("requests", 5), ("ok", 3)]);
        server.assert_well_formed();
    };
    std::thread::scope(|scope| {
        for code in LIMITED_CODES {
            scope.spawn(move || limit_twice(*code));
        }
    });
}

/// The first answer to the second row has this status and `Retry-After`, which the run must respect.
#[track_caller]
fn assert_retry_after_is_kept(status: u16, body: String, retry_after: fn() -> String) {
    let server = Server::start(move |request, n| {
        let headers = vec![("Retry-After", retry_after())];
        let is_refused = request.user() == "it" && n == 1;
        if is_refused {
            Answer::Raw {
                status,
                headers,
                body: body.clone(),
            }
        } else {
            Answer::Code(0, "success")
        }
    });
    let desk = Desk::new();

    desk.clear(&server, named_rows(["first", "it", "third"]))
        .run()
        .assert_status(0);

    let [first, second] = server.requests_of("it").try_into().expect("two attempts");
    let gap = second.at - first.at;
    assert!(
        gap >= Duration::from_millis(1900),
        "HTTP {status}: tried again after {gap:?}"
    );
}

#[test]
fn retry_after_in_seconds_is_kept_with_429() {
    assert_retry_after_is_kept(429, "<html>".into(), || "2".into());
}

#[test]
fn retry_after_as_a_date_is_kept_with_429() {
    // A date has no fractions of a second.
    let in_two_seconds = || httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3));
    assert_retry_after_is_kept(429, String::new(), in_two_seconds);
}

#[test]
fn retry_after_in_seconds_is_kept_with_503() {
    assert_retry_after_is_kept(503, "<html>".into(), || "2".into());
}

#[test]
fn retry_after_is_kept_with_a_transient_code() {
    assert_retry_after_is_kept(200, code_body(1, "server busy"), || "2".into());
}

#[test]
fn http_429_without_a_code_is_limited() {
    let server = Server::start(|request, n| match (request.user().as_str(), n) {
        ("it", 1..=2) => html(429),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, named_rows(["it", "other"]))
        .flag("--max-attempts", "1")
        .run();

    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("limited", 2), ("ok", 2)]);
    assert_eq!(desk.report_by_user()["it"].attempts, 3);
}

/// Sends 80 rows to a server that refuses those of the first 40 requests that the function names, with this status and
/// `Retry-After`. Returns how many lines of the log contain the text.
fn lines_about(status: u16, retry_after: Option<&'static str>, is_refused: fn(usize) -> bool, text: &str) -> usize {
    let arrived = AtomicUsize::new(0);
    let server = Server::start(move |_, _| {
        let nth = arrived.fetch_add(1, Ordering::SeqCst);
        if nth < 40 && is_refused(nth) {
            let headers = retry_after.map(|seconds| ("Retry-After", seconds.to_owned()));
            Answer::Raw {
                status,
                headers: headers.into_iter().collect(),
                body: String::new(),
            }
        } else {
            Answer::Code(0, "success")
        }
    });
    let desk = Desk::new();
    let outcome = desk.clear(&server, rows(80)).run();
    outcome.assert_status(0).summary().assert_counts(&[("ok", 80)]);
    outcome.stderr.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_rate_limit_that_answers_503_or_403_is_said_once() {
    for status in [503, 403] {
        let about = |is_refused| lines_about(status, None, is_refused, "503 or 403");
        assert_eq!(about(|nth| nth % 4 != 1), 1, "HTTP {status}");
        assert_eq!(about(|nth| nth % 10 == 1), 0, "HTTP {status}, now and then");
    }
}

#[test]
fn a_retry_after_that_stops_the_run_is_said_and_one_that_delays_a_row_is_not() {
    let about = |is_refused| lines_about(429, Some("2"), is_refused, "nothing starts until then");
    assert_eq!(about(|nth| (10..14).contains(&nth)), 1);
    assert_eq!(about(|nth| nth == 10), 0);
}
