//! Certificates: an untrusted one stops the run, one that `--ca-cert` makes trusted does not.

mod changing;
mod proxies;
mod quota;
mod slow;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub use changing::serve_once;

use crate::support::{Desk, Outcome, code_body, pace, rows};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server that answers every HTTPS request with success.
struct TlsServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

/// Simulated network delays of a server.
#[derive(Clone, Copy, Default)]
struct Delays {
    /// Before a new connection's handshake.
    handshake: Duration,
    /// Before each answer.
    answer: Duration,
    /// No handshake for this long after the first connection.
    stall: Duration,
    /// At this request all connections are closed, and handshakes stall for `stall` again.
    cut_at: Option<usize>,
}

/// When handshakes continue, and the connections that can be closed.
#[derive(Default)]
struct Door {
    opens_at: Option<Instant>,
    streams: Vec<TcpStream>,
}

impl TlsServer {
    fn start(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        Self::with_delays(certificate, key, Delays::default())
    }

    fn with_delays(certificate: CertificateDer<'static>, key: &KeyPair, delays: Delays) -> Self {
        pace::watch();
        let config = Arc::new(server_config(certificate, key));
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (Arc::clone(&connections), Arc::clone(&requests));
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let (seen, door) = (Arc::clone(&arrivals), Arc::new(Mutex::new(Door::default())));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counters.0.fetch_add(1, SeqCst);
                let (config, requests, seen) = (Arc::clone(&config), Arc::clone(&counters.1), Arc::clone(&seen));
                let door = Arc::clone(&door);
                thread::spawn(move || {
                    let opens_at = {
                        let mut door = door.lock().expect("nobody panics with it");
                        door.streams.extend(stream.try_clone());
                        *door.opens_at.get_or_insert_with(|| Instant::now() + delays.stall)
                    };
                    thread::sleep(delays.handshake.max(opens_at.saturating_duration_since(Instant::now())));
                    let arrived = || {
                        let nth = requests.fetch_add(1, SeqCst) + 1;
                        seen.lock().expect("nobody panics with it").push(Instant::now());
                        if delays.cut_at == Some(nth) {
                            let mut door = door.lock().expect("nobody panics with it");
                            door.opens_at = Some(Instant::now() + delays.stall);
                            for stream in door.streams.drain(..) {
                                let _ = stream.shutdown(Shutdown::Both);
                            }
                        }
                        thread::sleep(delays.answer);
                    };
                    answer(stream, config, arrived).ok()
                });
            }
        });
        Self {
            address,
            connections,
            requests,
            arrivals,
        }
    }
}

fn server_config(certificate: CertificateDer<'static>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("rcgen makes keys that rustls reads");
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth();
    builder
        .with_single_cert(vec![certificate], key)
        .expect("key and certificate fit")
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, arrived: impl Fn()) -> std::io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).map_err(std::io::Error::other)?, stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    loop {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            arrived();
            let body = code_body(0, "success");
            stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
    }
}

/// A certificate authority that nobody trusts.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = named(&[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, new_key()).expect("it can sign itself"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate for this name that expires at the start of the year `until`.
    fn serve(&self, name: &str, until: i32) -> TlsServer {
        let mut params = named(&[name]);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = new_key();
        TlsServer::start(
            params.signed_by(&key, &self.0).expect("it can sign").der().clone(),
            &key,
        )
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("ring makes keys")
}

fn named(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().copied().map(String::from).collect::<Vec<_>>()).expect("the names are plain")
}

fn clear(desk: &Desk, server: &TlsServer, ca_cert: Option<&str>) -> Outcome {
    desk.write("rows.csv", rows(100));
    let call = desk
        .clear_with(&format!("https://{}", server.address), "rows.csv")
        .flag("--report", "out.csv");
    let call = call
        .flag("--rate", "100")
        .flag("--give-up-after", "5s")
        .arg("--json")
        .arg("-vv");
    match ca_cert {
        Some(pem) => call
            .flag("--ca-cert", desk.write("ca.pem", pem).to_str().expect("a plain path"))
            .run(),
        None => call.run(),
    }
}

/// Asserts exit 6 after a few connections, with nothing sent and nothing recorded.
#[track_caller]
fn assert_not_trusted(desk: &Desk, server: &TlsServer, outcome: &Outcome) {
    outcome
        .assert_status(6)
        .assert_tells(&["certificate", "trust", "--ca-cert"]);
    let connections = server.connections.load(SeqCst);
    assert!((1..=10).contains(&connections), "{connections} connections");
    assert_eq!((server.requests.load(SeqCst), desk.report().len()), (0, 0));
    outcome
        .summary()
        .assert_counts(&[("rows", 100), ("not_run", 100), ("failed", 0)]);
}

#[test]
fn an_untrusted_certificate_stops_the_run() {
    let (desk, server) = (Desk::new(), Authority::new().serve("127.0.0.1", 4000));

    assert_not_trusted(&desk, &server, &clear(&desk, &server, None));
}

#[test]
fn a_self_signed_certificate_stops_the_run_unless_it_is_trusted_by_name() {
    let key = new_key();
    let certificate = named(&["127.0.0.1"]).self_signed(&key).expect("it can sign itself");
    let server = TlsServer::start(certificate.der().clone(), &key);

    let desk = Desk::new();
    assert_not_trusted(&desk, &server, &clear(&desk, &server, None));

    let desk = Desk::new();
    clear(&desk, &server, Some(&certificate.pem())).assert_status(0);
    assert_eq!((server.requests.load(SeqCst), desk.report().len()), (100, 100));
}

#[test]
fn a_ca_certificate_used_by_a_server_is_reported_with_what_to_create_instead() {
    let (authority, desk) = (Authority::new(), Desk::new());
    let server = TlsServer::start(authority.0.der().clone(), authority.0.key());
    let outcome = clear(&desk, &server, Some(&authority.pem()));
    outcome
        .assert_status(6)
        .assert_tells(&["basicConstraints=critical,CA:FALSE"]);
    for never in ["CaUsedAsEndEntity", "--ca-cert FILE"] {
        assert!(!outcome.stderr.contains(never), "{}", outcome.stderr);
    }
}

#[test]
fn a_certificate_of_an_authority_named_by_ca_cert_is_trusted() {
    let authority = Authority::new();
    let (desk, server) = (Desk::new(), authority.serve("127.0.0.1", 4000));

    clear(&desk, &server, Some(&authority.pem())).assert_status(0);

    assert_eq!((server.requests.load(SeqCst), desk.report_by_user().len()), (100, 100));
}

#[test]
fn another_authority_another_name_or_a_date_long_past_is_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let servers = [
        other.serve("127.0.0.1", 4000),
        authority.serve("127.0.0.2", 4000),
        authority.serve("127.0.0.1", 2020),
    ];
    for server in servers {
        let desk = Desk::new();
        let outcome = clear(&desk, &server, Some(&authority.pem()));
        outcome.assert_status(6).assert_tells(&["certificate"]);
        assert_eq!((server.requests.load(SeqCst), desk.report().len()), (0, 0));
        assert!(server.connections.load(SeqCst) <= 10);
    }
}

#[test]
fn a_ca_cert_that_is_missing_or_no_certificate_is_a_configuration_error() {
    let (desk, server) = (Desk::new(), Authority::new().serve("127.0.0.1", 4000));
    let no_pem = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n";
    for pem in ["", "no PEM at all\n", no_pem] {
        let outcome = clear(&desk, &server, Some(pem));
        outcome.assert_status(2);
        let names_it = ["ca.pem", "--ca-cert"].iter().any(|name| outcome.stderr.contains(name));
        assert!(names_it, "which file? {}", outcome.stderr);
    }
    let endpoint = format!("https://{}", server.address);
    let call = desk.clear_with(&endpoint, "rows.csv").flag("--ca-cert", "no-such.pem");
    call.run().assert_status(2).assert_says(&["no-such.pem"]);
    assert!(!desk.has("out.csv") && server.connections.load(SeqCst) == 0);
}
