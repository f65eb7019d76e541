//! Certificates that change during a run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Authority, date_time_ymd, named, new_key, server_config};
use crate::support::{Call, Desk, Outcome, code_body, rows};

/// A server that answers one request on each connection.
pub struct OnceServer {
    pub address: SocketAddr,
    /// The certificate to trust, as PEM.
    pub authority: String,
    answered: Arc<AtomicUsize>,
}

impl OnceServer {
    /// Requests answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(SeqCst)
    }
}

/// Starts it with a certificate for these names. `shows_good` decides by the number of the connection whether it shows the
/// valid certificate or an expired one.
pub fn serve_once(names: &[&str], shows_good: fn(usize) -> bool) -> OnceServer {
    let authority = Authority::new();
    let configs = [2020, 4000].map(|year| {
        let (mut params, key) = (named(names), new_key());
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &authority.0).expect("it can sign");
        Arc::new(server_config(certificate.der().clone(), &key))
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let answered = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&answered);
    thread::spawn(move || {
        for (nth, stream) in listener.incoming().flatten().enumerate() {
            let config = Arc::clone(&configs[usize::from(shows_good(nth))]);
            let seen = Arc::clone(&seen);
            thread::spawn(move || once(stream, config, &seen));
        }
    });
    OnceServer {
        address,
        authority: authority.pem(),
        answered,
    }
}

fn clear_forty_rows(shows_good: fn(usize) -> bool, prepare: impl FnOnce(Call) -> Call) -> (Desk, Outcome, usize) {
    let server = serve_once(&["127.0.0.1"], shows_good);
    let desk = Desk::new();
    desk.write("rows.csv", rows(40));
    let ca_cert = desk.write("ca.pem", &server.authority);
    let call = desk
        .clear_with(&format!("https://{}", server.address), "rows.csv")
        .flag("--ca-cert", ca_cert.to_str().expect("a plain path"))
        .flag("--report", "out.csv")
        .flag("--rate", "50")
        .arg("--json");
    let outcome = prepare(call).run();
    (desk, outcome, server.answered())
}

/// Answers one request with `Connection: close`.
fn once(stream: TcpStream, config: Arc<ServerConfig>, seen: &AtomicUsize) -> std::io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    seen.fetch_add(1, SeqCst);
    let body = code_body(0, "success");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

#[test]
fn one_server_of_three_with_an_expired_certificate_costs_no_row() {
    let (desk, outcome, requests) = clear_forty_rows(
        |nth| nth % 3 != 2,
        // One after the other, so that no row meets it twice in a row.
        |call| call.flag("--max-attempts", "1").flag("--max-in-flight", "1"),
    );
    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 40), ("requests", 40)]);
    assert_eq!((desk.report_by_user().len(), requests), (40, 40));
}

#[test]
fn a_certificate_that_expires_during_a_run_ends_it() {
    let (desk, outcome, _) = clear_forty_rows(|nth| nth < 10, |call| call.flag("--give-up-after", "3s"));
    outcome
        .assert_status(6)
        .assert_tells(&["certificate", "--give-up-after"]);
    let done = desk.report().len();
    assert!((1..=10).contains(&done), "{done} rows");
    outcome
        .summary()
        .assert_counts(&[("rows", 40), ("failed", 0), ("not_run", 40 - done as u64)]);
}
