//! Starts a simulator and sends it requests, with raw sockets and an independent signature.

use md5::{Digest, Md5};
use serde_json::Value;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zim_batch::simulator::{Options, Stats, World, serve};

pub const APP: &str = "12345";
pub const SECRET: &str = "9193cc662a4c0ec135ec71fb57194b38";
pub const NONCE: &str = "4fd24687296dd9f3";

/// A running simulator.
pub struct Simulator {
    port: u16,
    events: Arc<Mutex<Vec<u8>>>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<io::Result<Stats>>,
}

/// A sink for events that the test can read.
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panics with it").extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One answer of the simulator.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the answer is JSON")
    }

    pub fn code(&self) -> u64 {
        self.json()["Code"].as_u64().expect("Code is a number")
    }
}

impl Simulator {
    pub async fn start(world: World, options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink: Box<dyn Write + Send> = Box::new(Shared(Arc::clone(&events)));
        let stopped = async {
            let _ = stopped.await;
        };
        let serving = tokio::spawn(serve(listener, world, options, Some(sink), stopped));
        Self {
            port,
            events,
            stop,
            serving,
        }
    }

    /// Without a cap and latency, for tests that do not depend on time.
    pub async fn quick() -> Self {
        Self::start(World::sample(), quick()).await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port))
            .await
            .expect("the simulator listens")
    }

    /// Sends a request on a connection of its own and reads until the connection ends.
    pub async fn raw(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.connect().await;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map(|_| answer)
    }

    pub async fn try_get(&self, target: &str) -> io::Result<Answer> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        Ok(parse(&self.raw(request.as_bytes()).await?))
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.try_get(target).await.expect("the simulator answers")
    }

    /// Sends a POST with a body of type `application/json`.
    pub async fn post(&self, target: &str, body: &str) -> Answer {
        self.post_as("Content-Type: application/json\r\n", target, body).await
    }

    /// Sends a POST with these headers.
    pub async fn post_as(&self, headers: &str, target: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        parse(&self.raw(request.as_bytes()).await.expect("the simulator answers"))
    }

    pub async fn clear(&self, user: &str, conv: &str, kind: &str) -> u64 {
        self.get(&signed(user, conv, kind)).await.code()
    }

    pub fn events(&self) -> Vec<Value> {
        let bytes = self.events.lock().expect("no test panics with it");
        let lines = str::from_utf8(&bytes).expect("JSON is UTF-8").lines();
        lines
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    }

    pub async fn stop(self) -> Stats {
        self.stop.send(()).expect("it is still running");
        self.serving.await.expect("it never panics").expect("it served")
    }
}

pub fn quick() -> Options {
    Options {
        cap: 0,
        latency: Duration::ZERO,
        ..Options::default()
    }
}

pub fn parse(answer: &[u8]) -> Answer {
    let text = str::from_utf8(answer).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head[9..12].parse().expect("a status line");
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

pub fn unix_now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("before 292 billion AD")
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn signature(app: &str, nonce: &str, secret: &str, timestamp: &str) -> String {
    let digest = Md5::digest(format!("{app}{nonce}{secret}{timestamp}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A correctly signed target with some parameters replaced after signing; `None` leaves one out.
pub fn target_with(changes: &[(&str, Option<&str>)]) -> String {
    let now = unix_now().to_string();
    let signature = signature(APP, NONCE, SECRET, &now);
    let good = [
        ("Action", "ClearConversationUnread"),
        ("FromUserId", "alice"),
        ("ConvId", "bob"),
        ("ConvType", "0"),
        ("AppId", APP),
        ("SignatureNonce", NONCE),
        ("Timestamp", &now),
        ("SignatureVersion", "2.0"),
        ("Signature", &signature),
    ];
    let changed = |name| {
        changes
            .iter()
            .find(|(changed, _)| *changed == name)
            .map(|(_, value)| *value)
    };
    let pairs = good.iter().filter_map(|&(name, value)| {
        let value = changed(name).unwrap_or(Some(value))?;
        Some(format!("{name}={}", encode(value.as_bytes())))
    });
    format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// A correctly signed target of a call whose business parameters are in its body.
pub fn query(action: &str) -> String {
    target_with(&[
        ("Action", Some(action)),
        ("FromUserId", None),
        ("ConvId", None),
        ("ConvType", None),
    ])
}

pub fn signed(user: &str, conv: &str, kind: &str) -> String {
    target_with(&[
        ("FromUserId", Some(user)),
        ("ConvId", Some(conv)),
        ("ConvType", Some(kind)),
    ])
}
