//! A proxy between the program and a server that can simulate a failing network.
//!
//! It passes requests on, or refuses connections (its listener is gone, and comes back on the same port), resets them,
//! answers 502 by itself, or takes requests and never answers. The server behind it sees only what was passed on.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often the switch is checked.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// It takes this much longer.
    Delay(Duration),
    /// Nobody listens, and the connections there were are closed.
    Refuse,
    Reset,
    BadGateway,
    /// Taken, and never answered.
    Silence,
    /// The proxy has ended.
    End,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    server: SocketAddr,
    mode: Mutex<Mode>,
    kept: AtomicUsize,
}

impl Proxy {
    /// In front of the server with this base URL.
    pub fn start(server: &str) -> Self {
        let server = server
            .trim_start_matches("http://")
            .parse()
            .expect("the server has an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            server,
            mode: Mutex::new(Mode::Pass),
            kept: AtomicUsize::new(0),
        });
        let of_proxy = Arc::clone(&shared);
        thread::spawn(move || listen(listener, address, &shared));
        Self {
            address,
            shared: of_proxy,
        }
    }

    /// The base URL, for `--endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn switch(&self, mode: Mode) {
        *self.shared.mode.lock().expect("nobody panics while holding it") = mode;
        thread::sleep(LOOK_EVERY * 4); // seen by all its threads
    }

    /// Requests that arrived and were not passed on.
    pub fn kept(&self) -> usize {
        self.shared.kept.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.switch(Mode::End);
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().expect("nobody panics while holding it")
    }
}

fn listen(listener: TcpListener, address: SocketAddr, shared: &Arc<Shared>) {
    let mut listener = Some(listener);
    loop {
        match (shared.mode(), &listener) {
            (Mode::End, _) => return,
            (Mode::Refuse, _) => listener = None,
            (_, None) => listener = TcpListener::bind(address).ok(),
            (_, Some(open)) => {
                open.set_nonblocking(true).expect("a listener can be");
                while let Ok((stream, _)) = open.accept() {
                    let shared = Arc::clone(shared);
                    // A client that disconnects is not an error of the test.
                    thread::spawn(move || serve(stream, &shared).ok());
                }
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let mut behind = None;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mode = shared.mode();
        if matches!(mode, Mode::Refuse | Mode::End) {
            return Ok(());
        }
        let length = match stream.peek(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        let Some(end) = buffer[..length].windows(4).position(|window| window == b"\r\n\r\n") else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        if mode == Mode::Reset {
            shared.kept.fetch_add(1, SeqCst);
            return Ok(()); // closing a socket with bytes unread makes the kernel send RST
        }
        let mut head = vec![0; end + 4];
        stream.read_exact(&mut head)?;
        match mode {
            Mode::BadGateway => {
                shared.kept.fetch_add(1, SeqCst);
                stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")?;
            }
            Mode::Silence => {
                shared.kept.fetch_add(1, SeqCst);
                while shared.mode() == Mode::Silence {
                    thread::sleep(LOOK_EVERY);
                }
                return Ok(());
            }
            _ => {
                if let Mode::Delay(delay) = mode {
                    thread::sleep(delay);
                }
                let behind = match &mut behind {
                    Some(open) => open,
                    none => none.insert(TcpStream::connect(shared.server)?),
                };
                behind.write_all(&head)?;
                let answer = whole_answer(behind)?;
                stream.write_all(&answer)?;
            }
        }
    }
}

/// An answer with its `Content-Length` of bytes.
fn whole_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let length = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let body = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .and_then(|length| length.parse().ok())
                .unwrap_or(0);
            if answer.len() >= head.len() + 4 + body {
                return Ok(answer);
            }
        }
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
