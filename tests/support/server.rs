//! A minimal HTTP/1.1 server on loopback that answers as a test requires.
//!
//! It shares nothing with the program under test: it parses requests, checks signatures and counts a second by code of
//! its own, so that a mistake in the program can't cancel itself out. One blocking thread for each connection: whatever
//! misbehaviour a test asks for stays a few lines of plain code.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::pace;
use super::request::{Request, header, parse};

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// HTTP 200 with this `Code` and `Message`, and a `RequestId` of its own.
    Code(i64, &'static str),
    /// HTTP 200 with this body as JSON.
    Json(String),
    /// Status, further headers, body.
    Raw {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// The connection is reset (RST) instead of an answer.
    Reset,
    /// The connection is closed instead of an answer.
    Close,
    /// The body ends before its `Content-Length`, then the connection is closed.
    Truncate,
    /// A whole HTTP answer with half a JSON object in it.
    HalfJson,
    /// Nothing for this long, then the connection is closed.
    Hang(Duration),
    /// The head of an answer immediately, then like `Hang`.
    HangInBody(Duration),
    /// A body of this many bytes that is no JSON.
    Flood(usize),
    /// The same, later.
    After(Duration, Box<Answer>),
    /// HTTP 302 to this address.
    Redirect(String),
}

/// The options of a server, apart from its answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// More requests than this accepted within any second: code 7 for the rest.
    pub cap: Option<usize>,
    /// Close each connection after this many answers, without a header that announces it.
    pub answers_per_connection: Option<usize>,
    /// Leave wrong signatures to the closure instead of answering 100000005.
    pub takes_any_signature: bool,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    connections: AtomicUsize,
    is_stopped: AtomicBool,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    per_row: HashMap<[Vec<u8>; 3], usize>,
    accepted: VecDeque<Instant>,
}

/// The server; it stops listening when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts a server whose answer to each request is what `answer` says; its second argument is `Request::n`.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::with(Options::default(), answer)
    }

    pub fn with(options: Options, answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        pace::watch();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let (of_server, answer) = (Arc::clone(&shared), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.is_stopped.load(SeqCst) {
                    return;
                }
                let number = shared.connections.fetch_add(1, SeqCst) + 1;
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                // A client that disconnects is not an error of the test.
                thread::spawn(move || serve(stream, number, options, &shared, &*answer).ok());
            }
        });
        Self {
            address,
            shared: of_server,
        }
    }

    /// The base URL, for `--endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared
            .log
            .lock()
            .expect("no test panics while it holds the log")
            .requests
            .clone()
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.shared
            .log
            .lock()
            .expect("no test panics while it holds the log")
            .requests
            .len()
    }

    /// The requests after the first `count`.
    pub fn requests_after(&self, count: usize) -> Vec<Request> {
        self.shared
            .log
            .lock()
            .expect("no test panics while it holds the log")
            .requests[count..]
            .to_vec()
    }

    /// When each of them arrived.
    pub fn arrivals(&self) -> Vec<Instant> {
        self.requests().iter().map(|request| request.at).collect()
    }

    pub fn requests_of(&self, user: &str) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| request.user() == user)
            .collect()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// The maximum number of requests in flight (arrived, not yet answered).
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(SeqCst)
    }

    /// Panics unless every request was one that ZIM's documents allow, rightly signed, each with a nonce of its own.
    pub fn assert_well_formed(&self) {
        let mut nonces = HashMap::new();
        for (index, request) in self.requests().iter().enumerate() {
            assert!(
                request.faults.is_empty(),
                "request {index}: {:?} in {}",
                request.faults,
                request.target
            );
            assert!(
                request.has_right_signature,
                "request {index} has a wrong signature: {}",
                request.target
            );
            if let Some(earlier) = nonces.insert(request.text("SignatureNonce"), index) {
                panic!("requests {earlier} and {index} share a nonce");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, SeqCst);
        TcpStream::connect(self.address).ok(); // wakes `incoming`
    }
}

fn serve(
    mut stream: TcpStream,
    connection: usize,
    options: Options,
    shared: &Shared,
    answer: &dyn Fn(&Request, usize) -> Answer,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answered = 0;
    while let Some((head, body)) = peek_request(&stream)? {
        let request = shared.take(parse(&head, &body, connection), options);
        let answer = if !request.is_accepted {
            Answer::Code(7, "more requests per second than allowed")
        } else if !request.has_right_signature && !options.takes_any_signature {
            Answer::Code(100_000_005, "signature error")
        } else {
            answer(&request, request.n)
        };
        let (delay, answer) = match answer {
            Answer::After(delay, answer) => (delay, *answer),
            answer => (Duration::ZERO, answer),
        };
        thread::sleep(delay);
        if matches!(answer, Answer::Reset) {
            shared.open.fetch_sub(1, SeqCst);
            return Ok(()); // closing a socket with bytes unread makes the kernel send RST
        }
        stream.read_exact(&mut vec![0; head.len() + body.len()])?;
        answered += 1;
        let stays = send(&mut stream, answer, shared)?;
        if !stays || options.answers_per_connection == Some(answered) {
            return Ok(());
        }
    }
    Ok(())
}

/// The next request's head and body, still unread; `None` once the client has closed.
fn peek_request(stream: &TcpStream) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = stream.peek(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        if let Some(end) = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n") {
            let (head, rest) = buffer[..length].split_at(end + 4);
            let body = header(&String::from_utf8_lossy(head), "content-length");
            let body = body.and_then(|length| length.parse().ok()).unwrap_or(0);
            if rest.len() >= body {
                return Ok(Some((head.to_vec(), rest[..body].to_vec())));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Sends an answer; false if the connection is to be closed after it.
fn send(stream: &mut TcpStream, answer: Answer, shared: &Shared) -> io::Result<bool> {
    let date = httpdate::fmt_http_date(SystemTime::now());
    let whole = |status: u16, headers: &str, body: &str| {
        let length = body.len();
        format!("HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
    };
    let json = |body: &str| {
        whole(
            200,
            &format!("Date: {date}\r\nContent-Type: application/json\r\n"),
            body,
        )
    };
    let (bytes, pause) = match &answer {
        Answer::Code(code, message) => (json(&code_body(*code, message)), None),
        Answer::Json(body) => (json(body), None),
        Answer::Raw { status, headers, body } => {
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\r\n"))
                .collect();
            (whole(*status, &headers, body), None)
        }
        Answer::Redirect(url) => (whole(302, &format!("Location: {url}\r\n"), ""), None),
        Answer::HalfJson => (json(r#"{"Code":0,"Message":"succ"#), None),
        Answer::Truncate => (
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Code\":0,\"Mess".to_vec(),
            None,
        ),
        Answer::HangInBody(pause) => (
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"Co".to_vec(),
            Some(*pause),
        ),
        Answer::Flood(length) => (
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes(),
            None,
        ),
        Answer::Hang(pause) => (Vec::new(), Some(*pause)),
        Answer::Close => (Vec::new(), None),
        Answer::Reset | Answer::After(..) => unreachable!("`serve` has dealt with them"),
    };
    if pause.is_none() {
        shared.open.fetch_sub(1, SeqCst); // before the client can know, so that `most_open` never counts too many
    }
    stream.write_all(&bytes)?;
    if let Answer::Flood(length) = answer {
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..length / chunk.len() {
            stream.write_all(&chunk)?;
        }
    }
    if let Some(pause) = pause {
        thread::sleep(pause);
        shared.open.fetch_sub(1, SeqCst);
    }
    Ok(!matches!(
        answer,
        Answer::Truncate | Answer::HangInBody(_) | Answer::Hang(_) | Answer::Close | Answer::Flood(_)
    ))
}

/// The body of ZIM's answer, with a request ID that is larger than 2^53.
pub fn code_body(code: i64, message: &str) -> String {
    let request_id = 9_007_199_254_740_993_u64 + fastrand::u64(..1 << 60);
    serde_json::json!({"Code": code, "Message": message, "RequestId": request_id.to_string()}).to_string()
}

impl Shared {
    /// Enters a request into the log and decides whether the cap lets it in.
    fn take(&self, mut request: Request, options: Options) -> Request {
        let open = self.open.fetch_add(1, SeqCst) + 1;
        self.most_open.fetch_max(open, SeqCst);
        let mut log = self.log.lock().expect("no test panics while it holds the log");
        let n = log.per_row.entry(request.row()).or_default();
        *n += 1;
        request.n = *n;
        request.at = Instant::now(); // under the lock: the log is in the order of time
        while log
            .accepted
            .front()
            .is_some_and(|first| request.at - *first >= Duration::from_secs(1))
        {
            log.accepted.pop_front();
        }
        request.is_accepted = options.cap.is_none_or(|cap| log.accepted.len() < cap);
        if request.is_accepted && options.cap.is_some() {
            log.accepted.push_back(request.at);
        }
        log.requests.push(request.clone());
        request
    }
}
