//! The outcome of a row for each kind of answer, and without one.

use std::collections::BTreeMap;

use crate::support::{Answer, Desk, ROW_CODES, Server, among_ok_rows, as_the_user_says, code_body, named_rows};

#[test]
fn every_kind_of_answer_leads_to_its_outcome_attempts_and_exit_status() {
    let (desk, server) = (Desk::new(), Server::start(as_the_user_says));
    let mut expected: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    for (code, class) in ROW_CODES {
        let outcome = if ["ok", "outside"].contains(class) {
            *class
        } else {
            "failed"
        };
        let attempts = if ["transient", "unknown"].contains(class) { 3 } else { 1 };
        expected.insert(format!("code{code}"), (outcome, attempts));
    }
    let faults = [
        "reset",
        "close",
        "truncate",
        "half",
        "empty",
        "no-code",
        "odd-code",
        "null-code",
        "array",
    ];
    let slow = [
        "hang",
        "hang-in-body",
        "http200",
        "http500",
        "http502",
        "http503",
        "http504",
    ];
    expected.extend(
        faults
            .into_iter()
            .chain(slow)
            .map(|user| (user.to_owned(), ("failed", 3))),
    );

    let users: Vec<_> = expected.keys().cloned().collect();
    let call = desk.clear(&server, among_ok_rows(&users, 300));
    let outcome = call
        .flag("--rate", "100")
        .flag("--max-attempts", "3")
        .flag("--timeout", "1500ms")
        .run();

    outcome.assert_status(3);
    let records = desk.report_by_user();
    for (user, (outcome, attempts)) in &expected {
        let record = &records[user];
        assert_eq!(
            (record.outcome.as_str(), record.attempts),
            (*outcome, *attempts),
            "{record:?}"
        );
        assert_eq!(server.requests_of(user).len(), *attempts, "requests of {user}");
        assert!(!record.message.is_empty(), "{record:?}");
        let code = user.strip_prefix("code").unwrap_or_default();
        assert_eq!(record.code, code, "{record:?}");
        if !code.is_empty() {
            assert_eq!(
                (record.http.as_str(), record.message.as_str()),
                ("200", "as you asked"),
                "{record:?}"
            );
        }
    }
    let says = |user: &str, part: &str| assert!(records[user].message.contains(part), "{:?}", records[user]);
    says("reset", "connection reset");
    says("hang", "timed out after 1s 500ms");
    says("hang-in-body", "timed out after 1s 500ms");
    for status in ["500", "502", "503", "504"] {
        assert_eq!(records[&format!("http{status}")].http, status);
        says(&format!("http{status}"), &format!("HTTP {status}"));
    }
    assert_eq!(
        (records["reset"].http.as_str(), records["hang"].http.as_str()),
        ("", "")
    );

    let summary = outcome.summary();
    let all = (records.len(), server.requests().len());
    let failed = expected.values().filter(|(outcome, _)| *outcome == "failed").count();
    summary.assert_counts(&[
        ("rows", all.0 as u64),
        ("failed", failed as u64),
        ("outside", 1),
        ("not_run", 0),
    ]);
    summary.assert_counts(&[
        ("requests", all.1 as u64),
        ("retries", (all.1 - all.0) as u64),
        ("limited", 0),
    ]);
    assert_eq!(
        records.values().map(|record| record.attempts).sum::<usize>(),
        all.1,
        "attempts and requests"
    );
    server.assert_well_formed();
}

#[test]
fn a_row_that_succeeds_after_retries_is_ok_with_its_number_of_attempts() {
    let server = Server::start(|request, n| match (n, request.user().as_str()) {
        (1, _) => as_the_user_says(request, n),
        (2, "reset") => Answer::Code(1, "server busy"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let troubles = [
        "code1",
        "code424242",
        "reset",
        "close",
        "truncate",
        "half",
        "http200",
        "http503",
        "hang",
    ];
    let rows = among_ok_rows(&troubles.map(String::from), 150);

    let outcome = desk
        .clear(&server, rows)
        .flag("--rate", "100")
        .flag("--timeout", "1500ms")
        .run();

    outcome.assert_status(0);
    let records = desk.report_by_user();
    for user in troubles {
        let record = &records[user];
        let attempts = if user == "reset" { 3 } else { 2 };
        assert_eq!(
            (record.outcome.as_str(), record.code.as_str()),
            ("ok", "0"),
            "{record:?}"
        );
        assert_eq!(
            (record.attempts, record.message.as_str()),
            (attempts, "success"),
            "{record:?}"
        );
    }
    outcome.summary().assert_counts(&[("retries", 10), ("failed", 0)]);
    server.assert_well_formed();
}

#[test]
fn an_unknown_code_is_tried_at_most_three_times_however_many_attempts_a_row_may_have() {
    let (desk, server) = (Desk::new(), Server::start(as_the_user_says));

    let rows = named_rows(["a", "code424242", "b"]);
    desk.clear(&server, rows)
        .flag("--max-attempts", "6")
        .run()
        .assert_status(3);

    let record = &desk.report_by_user()["code424242"];
    assert_eq!((record.outcome.as_str(), record.code.as_str()), ("failed", "424242"));
    assert!((2..=3).contains(&record.attempts), "{record:?}");
}

#[test]
fn the_code_in_the_json_takes_precedence_over_the_http_status() {
    let server = Server::start(|request, _| {
        let code = request.user().parse().unwrap_or(0);
        let status = if code == 0 { 500 } else { 404 };
        Answer::Raw {
            status,
            headers: vec![],
            body: code_body(code, "it"),
        }
    });
    let desk = Desk::new();

    let outcome = desk.clear(&server, named_rows(["0", "660800002", "660600001"])).run();

    outcome.assert_status(3);
    let seen = desk
        .report_by_user()
        .into_values()
        .map(|r| (r.user, r.outcome, r.code, r.http, r.attempts))
        .collect::<Vec<_>>();
    let row = |user: &str, outcome: &str, http: &str| (user.into(), outcome.into(), user.into(), http.into(), 1);
    assert_eq!(
        seen,
        [
            row("0", "ok", "500"),
            row("660600001", "failed", "404"),
            row("660800002", "outside", "404")
        ]
    );
}

#[test]
fn unusual_but_unambiguous_answers_are_accepted() {
    let server = Server::start(|request, _| {
        let body = match request.user().as_str() {
            "string" => r#"{"Code":"0","Message":"success","RequestId":"1"}"#,
            "outside" => r#"{"Code":"660800002","Message":"none"}"#,
            "no-id" => r#"{"Code":0,"Message":"success"}"#,
            "no-message" => r#"{"Code":0}"#,
            "long-id" => r#"{"Code":0,"Message":"success","RequestId":"98765432109876543210"}"#,
            "number-id" => r#"{"Code":0,"Message":"success","RequestId":9007199254740993}"#,
            "null-id" => r#"{"Code":0,"Message":null,"RequestId":null}"#,
            "more" => r#" {"RequestId":"3","Data":{"Code":2,"x":[1,null]},"Code":0,"Message":"fine","Time":1.5}"#,
            user => panic!("no such user: {user}"),
        };
        Answer::Json(body.into())
    });
    let desk = Desk::new();
    let users = [
        "string",
        "outside",
        "no-id",
        "no-message",
        "long-id",
        "number-id",
        "null-id",
        "more",
    ];

    desk.clear(&server, named_rows(users)).run().assert_status(0);

    let records = desk.report_by_user();
    for user in users {
        let expected = if user == "outside" {
            ("outside", "660800002", 1)
        } else {
            ("ok", "0", 1)
        };
        let record = &records[user];
        assert_eq!(
            (record.outcome.as_str(), record.code.as_str(), record.attempts),
            expected,
            "{record:?}"
        );
    }
    let ids = ["string", "no-id", "long-id", "number-id", "null-id"].map(|user| records[user].request_id.as_str());
    assert_eq!(ids, ["1", "", "98765432109876543210", "9007199254740993", ""]);
    assert_eq!(
        (records["more"].message.as_str(), records["more"].request_id.as_str()),
        ("fine", "3")
    );
}

#[test]
fn a_request_id_that_is_a_long_number_keeps_its_digits() {
    let body = r#"{"Code":0,"Message":"success","RequestId":98765432109876543210}"#;
    let server = Server::start(|_, _| Answer::Json(body.into()));
    let desk = Desk::new();

    desk.clear(&server, named_rows(["u"])).run().assert_status(0);

    assert_eq!(desk.report_by_user()["u"].request_id, "98765432109876543210");
}

#[test]
fn control_characters_of_a_server_reach_neither_report_nor_terminal() {
    let server = Server::start(|request, _| {
        let message = "bad\r\n\u{1b}[31mred\u{0}\t\u{7f}\u{9b}2J end";
        let code = if request.user() == "it" { 2 } else { 0 };
        Answer::Json(serde_json::json!({"Code": code, "Message": message, "RequestId": "1\n2\u{1b}"}).to_string())
    });
    let desk = Desk::new();

    let outcome = desk.clear(&server, named_rows(["it", "b"])).arg("-vv").run();

    outcome.assert_status(3);
    let record = &desk.report_by_user()["it"];
    assert!(
        !record
            .message
            .chars()
            .chain(record.request_id.chars())
            .any(char::is_control),
        "{record:?}"
    );
    assert!(
        record.message.starts_with("bad") && record.message.ends_with("end"),
        "{record:?}"
    );
    assert!(record.message.contains("red"), "{record:?}");
    assert_eq!(desk.read("out.csv").lines().count(), 3);
    let has_escape = |text: &str| text.contains(['\u{1b}', '\u{9b}', '\0', '\u{7f}']);
    assert!(
        !has_escape(&outcome.stderr) && !has_escape(&outcome.stdout),
        "{}",
        outcome.stderr
    );
}
