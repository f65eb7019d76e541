//! Unusual connections: HTTP libraries must not send requests on their own, and servers must not cause harm.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::support::{Answer, Desk, Options, Server, kind_server, named_rows};

#[test]
fn an_endless_answer_costs_a_row_but_no_memory() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "flood" => Answer::Flood(400 << 20),
        "hold" => Answer::After(Duration::from_secs(1), Box::new(Answer::Code(0, "success"))),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let call = desk
        .clear(&server, named_rows(["a", "flood", "hold"]))
        .flag("--max-attempts", "1");

    let mut running = call.flag("--timeout", "10s").spawn();
    let mut peak = 0;
    while running.is_running() {
        peak = peak.max(running.peak_memory_kib().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }

    running.wait().assert_status(3);
    assert!((1..150 << 10).contains(&peak), "{peak} KiB of memory");
    let records = desk.report_by_user();
    let outcomes = ["a", "flood", "hold"].map(|user| records[user].outcome.as_str());
    assert_eq!(outcomes, ["ok", "failed", "ok"]);
}

#[test]
fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = kind_server();
        let url = elsewhere.url();
        let server = Server::start(move |request, _| {
            let location = vec![("Location", format!("{url}{}", request.target))];
            let is_redirected = request.user() == "it";
            if is_redirected {
                Answer::Raw {
                    status,
                    headers: location,
                    body: String::new(),
                }
            } else {
                Answer::Code(0, "")
            }
        });
        let desk = Desk::new();

        desk.clear(&server, named_rows(["a", "it", "b"]))
            .flag("--max-attempts", "1")
            .run()
            .assert_status(3);

        let record = &desk.report_by_user()["it"];
        assert_eq!(
            (record.outcome.as_str(), record.http.as_str()),
            ("failed", status.to_string().as_str())
        );
        assert_eq!(
            (elsewhere.connections(), server.requests().len()),
            (0, 3),
            "after {status}"
        );
        server.assert_well_formed();
    }
}

#[test]
fn the_http_library_sends_nothing_again_by_itself() {
    let server = Server::start(
        |request, n| match (request.user().trim_start_matches('u').parse::<usize>(), n) {
            (Ok(number), 1) if number % 10 == 3 => Answer::Close,
            (Ok(number), 1) if number % 10 == 6 => Answer::Reset,
            _ => Answer::Code(0, "success"),
        },
    );
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, crate::support::rows(100))
        .flag("--rate", "50")
        .run();

    outcome.assert_status(0);
    for record in desk.report() {
        let requests = server.requests_of(&record.user).len();
        let expected = if [3, 6].contains(&(record.line as usize - 1).rem_euclid(10)) {
            2
        } else {
            1
        };
        assert_eq!((record.attempts, requests), (expected, expected), "{record:?}");
    }
    let reused = server.requests().len() > server.connections();
    assert!(reused, "no connection was reused, so that this has shown nothing");
    outcome.summary().assert_counts(&[("requests", 120), ("retries", 20)]);
}

#[test]
fn a_connection_that_the_server_closes_between_requests_costs_no_row() {
    for answers in [1, 3] {
        let options = Options {
            answers_per_connection: Some(answers),
            ..Options::default()
        };
        let server = Server::with(options, |_, _| Answer::Code(0, "success"));
        let desk = Desk::new();

        let outcome = desk.clear(&server, crate::support::rows(60)).flag("--rate", "50").run();

        outcome.assert_status(0);
        assert_eq!(desk.report_by_user().len(), 60);
        let summary = outcome.summary();
        summary.assert_counts(&[("ok", 60)]);
        assert!(
            server.requests().len() as u64 <= summary.count("requests"),
            "sends that the summary does not know"
        );
        server.assert_well_formed();
    }
}

#[test]
fn a_chunked_answer_leaves_its_connection_for_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&connections);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            seen.fetch_add(1, SeqCst);
            thread::spawn(move || {
                let mut head = BufReader::new(stream.try_clone().expect("a socket can be")).lines();
                while head.by_ref().map_while(Result::ok).any(|line| line.is_empty()) {
                    let body = crate::support::code_body(0, "success");
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                        body.len()
                    );
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let desk = Desk::new();
    desk.write("rows.csv", crate::support::rows(40));

    let call = desk.clear_with(&url, "rows.csv").flag("--report", "out.csv");
    let call = call.flag("--rate", "200").flag("--max-in-flight", "1");
    call.run().assert_status(0);

    let opened = connections.load(SeqCst);
    assert!(opened <= 2, "{opened} connections for 40 requests, one after the other");
}

#[test]
fn an_answer_with_an_unrequested_encoding_is_named() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "it" => Answer::Raw {
            status: 200,
            headers: vec![("Content-Encoding", "gzip".into())],
            body: "not to be read".into(),
        },
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    desk.clear(&server, named_rows(["a", "it", "b"])).run().assert_status(3);
    let message = &desk.report_by_user()["it"].message;
    assert!(message.contains("compressed (gzip)"), "{message}");
}
