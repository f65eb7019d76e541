//! Proxies that the environment names: used, or refused by name before anything is sent; never silently ignored.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::{Authority, TlsServer};
use crate::support::{Call, Desk, Outcome, rows};

/// The kind of a proxy.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// HTTP CONNECT.
    Http,
    /// HTTP CONNECT, only for `user:pa ss`.
    HttpWithPassword,
    Socks5,
}

/// A proxy that counts its tunnels.
struct Proxy {
    address: SocketAddr,
    tunnels: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let tunnels = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&tunnels);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                thread::spawn(move || serve(stream, kind, &count).ok());
            }
        });
        Self { address, tunnels }
    }

    fn tunnels(&self) -> usize {
        self.tunnels.load(SeqCst)
    }
}

fn serve(mut stream: TcpStream, kind: Kind, tunnels: &AtomicUsize) -> io::Result<()> {
    let target = match kind {
        Kind::Socks5 => {
            let mut greeting = [0; 2];
            stream.read_exact(&mut greeting)?;
            stream.read_exact(&mut vec![0; greeting[1].into()])?;
            stream.write_all(&[5, 0])?; // no authentication
            let mut request = [0; 10]; // version, command, reserved, IPv4, address, port
            stream.read_exact(&mut request)?;
            assert_eq!(request[3], 1, "an IPv4 address");
            stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            SocketAddr::from((
                [request[4], request[5], request[6], request[7]],
                u16::from_be_bytes([request[8], request[9]]),
            ))
        }
        Kind::Http | Kind::HttpWithPassword => {
            let mut head = BufReader::new(stream.try_clone()?).lines();
            let lines: Vec<_> = head
                .by_ref()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            // user:pa ss
            let is_known = lines
                .iter()
                .any(|line| line.eq_ignore_ascii_case("Proxy-Authorization: Basic dXNlcjpwYSBzcw=="));
            if kind == Kind::HttpWithPassword && !is_known {
                return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            let target = lines[0].split(' ').nth(1).and_then(|target| target.parse().ok());
            target.expect("CONNECT names an address")
        }
    };
    tunnels.fetch_add(1, SeqCst);
    let mut behind = TcpStream::connect(target)?;
    let (mut back, mut front) = (behind.try_clone()?, stream.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut back, &mut front);
        let _ = front.shutdown(Shutdown::Both);
    });
    io::copy(&mut stream, &mut behind)?;
    behind.shutdown(Shutdown::Both)
}

/// Clears ten rows at a TLS server, with the environment that `prepare` sets.
fn clear_ten_rows(prepare: impl FnOnce(Call) -> Call) -> (Desk, TlsServer, Outcome) {
    let authority = Authority::new();
    let (desk, server) = (Desk::new(), authority.serve("127.0.0.1", 4000));
    desk.write("rows.csv", rows(10));
    let ca_cert = desk.write("ca.pem", authority.pem());
    let call = desk
        .clear_with(&format!("https://{}", server.address), "rows.csv")
        .flag("--ca-cert", ca_cert.to_str().expect("a plain path"))
        .flag("--report", "out.csv")
        .flag("--rate", "100")
        .flag("--give-up-after", "3s")
        .arg("--json");
    let outcome = prepare(call).run();
    (desk, server, outcome)
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names() {
    for (kind, scheme, variable) in [
        (Kind::Http, "http", "HTTPS_PROXY"),
        (Kind::Http, "http", "https_proxy"),
        (Kind::HttpWithPassword, "http", "ALL_PROXY"),
        (Kind::Socks5, "socks5", "ALL_PROXY"),
        (Kind::Socks5, "socks5h", "all_proxy"),
    ] {
        let proxy = Proxy::start(kind);
        let url = format!("{scheme}://user:pa%20ss@{}", proxy.address);
        let url = if kind == Kind::Socks5 {
            url.replace("user:pa%20ss@", "")
        } else {
            url
        };
        let (_desk, server, outcome) = clear_ten_rows(|call| call.env(variable, &url));
        outcome.assert_status(0);
        assert_eq!(proxy.tunnels(), server.connections.load(SeqCst), "{variable}={url}");
        assert_eq!(server.requests.load(SeqCst), 10);
    }
}

#[test]
fn no_proxy_and_an_empty_setting_are_respected() {
    let proxy = Proxy::start(Kind::Http);
    let url = format!("http://{}", proxy.address);
    for (variable, value) in [
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "127.0.0.0/8"),
        ("HTTPS_PROXY", ""),
    ] {
        let (_desk, _server, outcome) = clear_ten_rows(|call| call.env("HTTPS_PROXY", &url).env(variable, value));
        outcome.assert_status(0);
        assert_eq!(proxy.tunnels(), 0, "{variable}={value}");
    }
}

#[test]
fn a_proxy_that_can_t_be_used_is_refused_before_anything_is_sent() {
    for value in [
        "http://us er:s3cret@127.0.0.1:1",
        "socks://user:s3cret@127.0.0.1:1",
        "gopher://127.0.0.1",
    ] {
        let (desk, server, outcome) = clear_ten_rows(|call| call.env("HTTPS_PROXY", value));
        outcome.assert_status(2).assert_tells(&["HTTPS_PROXY", "http://"]);
        assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
        assert!(!desk.has("out.csv") && server.connections.load(SeqCst) == 0);
    }
}

#[test]
fn a_proxy_that_requires_a_password_ends_the_run_immediately() {
    let proxy = Proxy::start(Kind::HttpWithPassword);
    let url = format!("http://user:wr0ng@{}", proxy.address);
    let (desk, server, outcome) = clear_ten_rows(|call| call.env("HTTPS_PROXY", &url).arg("-vv"));
    let named = format!("the proxy http://{} (HTTPS_PROXY)", proxy.address);
    outcome.assert_status(6).assert_tells(&[&named, "407", "password"]);
    assert!(!(outcome.stderr.clone() + &outcome.stdout).contains("wr0ng"));
    outcome.summary().assert_counts(&[("not_run", 10), ("requests", 0)]);
    assert_eq!((desk.report().len(), server.connections.load(SeqCst)), (0, 0));
}

#[test]
fn a_proxy_that_is_down_is_named_without_its_password() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = gone.local_addr().expect("it is bound");
    drop(gone);
    let url = format!("http://user:s3cret@{address}");
    let (_desk, server, outcome) = clear_ten_rows(|call| call.env("https_proxy", &url).arg("-vv"));
    let named = format!("the proxy http://{address} (https_proxy)");
    outcome.assert_status(5).assert_tells(&["connection refused", &named]);
    assert!(!(outcome.stderr.clone() + &outcome.stdout).contains("s3cret"));
    assert_eq!(server.connections.load(SeqCst), 0);
}
