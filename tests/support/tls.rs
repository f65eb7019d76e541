//! A service behind TLS, with a certificate of its own for `zim.test`: one answer for each connection, so that each
//! request has to find the name again.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::code_body;
use super::passed_over;

/// The service; its certificate is `cert.pem` in the given directory.
pub struct Tls {
    port: u16,
    answered: Arc<AtomicUsize>,
}

impl Tls {
    /// `None`, with a message, if no certificate can be created here.
    pub fn start(directory: &Path) -> Option<Self> {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=zim.test",
            ])
            .args(["-addext", "subjectAltName=DNS:zim.test"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(directory)
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            passed_over("no certificate can be made without `openssl`");
            return None;
        }
        let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).expect("it was just made");
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).expect("it was just made");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let answered = Arc::new(AtomicUsize::new(0));
        let of_server = Arc::clone(&answered);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answered) = (Arc::clone(&config), Arc::clone(&answered));
                thread::spawn(move || serve(stream, config, &answered).ok());
            }
        });
        let answered = of_server;
        Some(Self { port, answered })
    }

    /// The base URL, for `--endpoint`.
    pub fn url(&self) -> String {
        format!("https://zim.test:{}", self.port)
    }

    /// Requests answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(SeqCst)
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, answered: &AtomicUsize) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        head.extend_from_slice(&chunk[..length]);
    }
    answered.fetch_add(1, SeqCst);
    let body = code_body(0, "success");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}
