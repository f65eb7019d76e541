//! Connections that are slow to open: requests start when they are handed to an open connection, and no second has more of
//! them than the cap.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::{Delays, TlsServer, named, new_key};
use crate::support::below::Below;
use crate::support::{Call, Desk, Outcome, pace, rows};

const SECOND: Duration = Duration::from_secs(1);

/// Clears 60 rows at a server with these delays and a certificate for 127.0.0.1 and `zim.test`. `prepare` gets the call
/// and the server's port.
fn clear_sixty_rows(delays: Delays, host: &str, prepare: impl FnOnce(Call, u16) -> Call) -> (TlsServer, Desk, Outcome) {
    let key = new_key();
    let certificate = named(&["127.0.0.1", "zim.test"])
        .self_signed(&key)
        .expect("it can sign itself");
    let server = TlsServer::with_delays(certificate.der().clone(), &key, delays);
    let desk = Desk::new();
    desk.write("rows.csv", rows(60));
    let ca_cert = desk.write("ca.pem", certificate.pem());
    let call = desk
        .clear_with(&format!("https://{host}:{}", server.address.port()), "rows.csv")
        .flag("--ca-cert", ca_cert.to_str().expect("a plain path"))
        .flag("--report", "out.csv")
        .arg("--json");
    let outcome = prepare(call, server.address.port()).run();
    (server, desk, outcome)
}

#[track_caller]
fn assert_all_cleared_within_cap(server: &TlsServer, outcome: &Outcome, requests: usize) {
    outcome.assert_status(0);
    let summary = outcome.summary();
    summary.assert_counts(&[("ok", 60), ("requests", requests as u64), ("limited", 0)]);
    let arrivals = server.arrivals.lock().expect("nobody panics with it");
    assert_eq!(arrivals.len(), requests);
    pace::assert_within_cap(&arrivals, 20);
    let peak = summary.count("peak_1s");
    assert!(peak <= 20, "peak_1s {peak}");
}

#[test]
fn handshakes_that_stall_at_the_beginning_cause_no_burst() {
    let delays = Delays {
        stall: 2 * SECOND,
        ..Delays::default()
    };
    let (server, _desk, outcome) = clear_sixty_rows(delays, "127.0.0.1", |call, _| call);
    assert_all_cleared_within_cap(&server, &outcome, 60);
}

#[test]
fn connections_that_each_take_seconds_cause_no_burst() {
    let delays = Delays {
        handshake: 2 * SECOND,
        answer: Duration::from_millis(500),
        ..Delays::default()
    };
    let (server, _desk, outcome) = clear_sixty_rows(delays, "127.0.0.1", |call, _| call);
    assert_all_cleared_within_cap(&server, &outcome, 60);
}

#[test]
fn a_server_that_is_cut_off_and_comes_back_slowly_is_not_flooded() {
    let delays = Delays {
        stall: 2 * SECOND,
        answer: Duration::from_millis(200),
        cut_at: Some(30),
        ..Delays::default()
    };
    let (server, _desk, outcome) = clear_sixty_rows(delays, "127.0.0.1", |call, _| call);
    outcome.assert_status(0);
    let arrivals = server.arrivals.lock().expect("nobody panics with it");
    // Interrupted requests are sent again; some may have been lost on the way.
    let requests = outcome.summary().count("requests") as usize;
    assert!(
        (61..=requests).contains(&arrivals.len()),
        "{} of {requests}",
        arrivals.len()
    );
    pace::assert_within_cap(&arrivals, 20);
    assert!(outcome.summary().count("peak_1s") <= 20);
}

#[test]
fn names_that_take_seconds_to_resolve_cause_no_burst() {
    let Some(below) = Below::new() else { return };
    below.slow_names(2);
    let (server, _desk, outcome) = clear_sixty_rows(Delays::default(), "zim.test", |call, _| below.under(call));
    assert_all_cleared_within_cap(&server, &outcome, 60);
}

#[test]
fn a_silent_address_is_skipped_for_the_next_one_of_the_name() {
    let Some(below) = Below::new() else { return };
    below.add_address();
    let mut silent = Vec::new();
    let (server, _desk, outcome) = clear_sixty_rows(Delays::default(), "zim.test", |call, port| {
        // A listener that never accepts: once its backlog is full, connections get no answer.
        let address = SocketAddr::from(([127, 0, 0, 2], port));
        let listener = TcpListener::bind(address).expect("all of 127.0.0.0/8 is this machine");
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            silent.push(stream);
        }
        std::mem::forget(listener);
        below.under(call).flag("--max-attempts", "1")
    });
    assert_all_cleared_within_cap(&server, &outcome, 60);
}
