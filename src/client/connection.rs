//! Connections, and the moment at which a request is handed to one.
//!
//! The limiter's cap is kept only if a request leaves when the limiter lets it: not when a connection for it has been
//! opened at last, after a handshake or a name look-up of any length. reqwest opens connections by itself; what makes
//! the moment exact are three things:
//!
//! - a `connector_layer` that keeps a connection back when it is open, until the request has passed
//!   [`Gate::pass`]. The request's future is not polled meanwhile, so no time-out of it counts the wait at the gate;
//! - a `reqwest::Client` for each connection, used for one request at a time. With one client for all, a request
//!   that waits for its own connection may take one that another request has just given back, and leave past the gate;
//! - an empty body that tells when hyper looks at it, which is when it writes the request's head.
//!
//! hyper-util sends a request again by itself if its connection was closed before any of it was written. The server has not
//! seen the first, and the second needs a new connection, so it passes the gate; there is no other re-send.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use hyper::body::Bytes;
use reqwest::header::{CONNECTION, HeaderMap};
use reqwest::{Client, ClientBuilder, Request, Response, StatusCode, Version};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tower::{Layer, Service};

use super::{BuildError, Gate};

/// How long a connection may be idle and still be used: shorter than the idle time-outs of usual servers, so that a
/// request hardly ever meets a connection that the server is just closing.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(4);

/// So many connections in a row that were closed without a word make the server one that leaves none open.
const CLOSED_IN_A_ROW: u32 = 3;

/// How long that is believed. Meanwhile each request gets a connection of its own before it starts, for one that starts and
/// finds its connection closed has to start once more.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// The most of an answer that is read, in bytes. ZIM's are about a hundred.
const MAX_BODY: usize = 64 * 1024;

/// Makes connections, and keeps those that are idle.
pub(super) struct Connections {
    build: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The latest used last, and it is used next: so few are in use.
    connections: Vec<Connection>,
    /// How many were found closed since one was found open.
    closed_in_a_row: u32,
    /// None is kept before.
    keep_from: Option<Instant>,
}

/// A connection, or the place of one that is yet to be opened.
pub(super) struct Connection {
    client: Client,
    /// Connections that are open and wait to be let go.
    opened: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// Since when it is open and idle, as far as is known here.
    idle_since: Option<Instant>,
    /// Whether it was still open when the last request came, which took it to be.
    was_open: Option<bool>,
}

/// An answer, read to its end, or to the most that is read of one.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What became of a request.
pub(super) enum Exchange {
    Answered(Answer),
    /// There is no whole answer; with the HTTP status, if at least the head arrived.
    Failed(reqwest::Error, Option<u16>),
    /// There is none within the time, counted from the start; likewise.
    TimedOut(Option<u16>),
    /// The connection grew old at the gate. Nothing was sent.
    Expired,
}

impl Connections {
    /// `build` makes the builder of a client, each time the same.
    pub fn new(build: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Result<Connections, BuildError> {
        let connections = Connections {
            build: Box::new(build),
            idle: Mutex::default(),
        };
        let first = connections
            .create()
            .map_err(|error| BuildError::Tls(error.to_string()))?;
        connections.idle().connections.push(first);
        Ok(connections)
    }

    /// One that is open, if any is, as far as is known here.
    pub fn take(&self) -> reqwest::Result<Connection> {
        let mut idle = self.idle();
        match idle.connections.pop() {
            Some(latest) if latest.idle_since.is_none_or(|since| since.elapsed() <= MAX_IDLE) => return Ok(latest),
            // The others have been idle for even longer.
            _ => idle.connections.clear(),
        }
        drop(idle);
        self.create()
    }

    /// Keeps one for the next request, if it is open and there is reason to believe that it will be then.
    pub fn give_back(&self, connection: Connection) {
        let mut idle = self.idle();
        match connection.was_open {
            Some(true) => idle.closed_in_a_row = 0,
            Some(false) => idle.closed_in_a_row += 1,
            None => {}
        }
        if idle.closed_in_a_row >= CLOSED_IN_A_ROW {
            idle.closed_in_a_row = 0;
            idle.keep_from = Some(Instant::now() + BELIEVED_FOR);
            idle.connections.clear();
        }
        let is_believed = idle.keep_from.is_some_and(|from| from > Instant::now());
        if connection.is_open() && !is_believed {
            idle.connections.push(connection);
        }
    }

    fn create(&self) -> reqwest::Result<Connection> {
        let (open, opened) = mpsc::unbounded_channel();
        let client = (self.build)()
            .connector_layer(KeepBack { open })
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(None)
            .build()?;
        Ok(Connection {
            client,
            opened,
            idle_since: None,
            was_open: None,
        })
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        // A stack of connections is never half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether it is open, as far as is known here: a request can start at once, and after an exchange the next one can.
    pub fn is_open(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Sends a request and reads its answer, and says when it started. If [`Connection::is_open`], the request must have
    /// passed the gate. `time` is how long the answer may take.
    pub async fn exchange(
        &mut self,
        mut request: Request,
        gate: &impl Gate,
        time: Duration,
    ) -> (Exchange, Option<Instant>) {
        self.was_open = self.idle_since.take().map(|_| true);
        let (departs, mut departed) = oneshot::channel();
        *request.body_mut() = Some(reqwest::Body::wrap(Departing(Mutex::new(Some(departs)))));
        let status = OnceLock::new();
        let http = || status.get().map(StatusCode::as_u16);
        let mut started_at: Option<Instant> = None;
        let mut exchange = pin!(send(&self.client, request, &status));
        let answered = loop {
            let deadline = started_at.and_then(|at| at.checked_add(time));
            tokio::select! {
                biased;
                answered = &mut exchange => break answered,
                Ok(at) = &mut departed, if started_at.is_none() => {
                    started_at = Some(at);
                    gate.started(at);
                }
                Some(let_go) = self.opened.recv() => {
                    // One that was opened for an earlier request is not needed any more.
                    if started_at.is_none() && !let_go.is_closed() {
                        self.was_open = self.was_open.map(|_| false);
                        if timeout(MAX_IDLE, gate.pass()).await.is_err() {
                            return (Exchange::Expired, None);
                        }
                        // Somebody waits for it, or it is closed: then the next one is told.
                        let _ = let_go.send(());
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return (Exchange::TimedOut(http()), started_at);
                }
            }
        };
        if started_at.is_none()
            && let Ok(at) = departed.try_recv()
        {
            started_at = Some(at);
            gate.started(at);
        }
        match answered {
            Ok((answer, may_go_on)) => {
                self.idle_since = may_go_on.then(Instant::now);
                (Exchange::Answered(answer), started_at)
            }
            Err(error) => (Exchange::Failed(error, http()), started_at),
        }
    }
}

/// No body; it tells when hyper looks whether there is one: when it writes the request's head.
struct Departing(Mutex<Option<oneshot::Sender<Instant>>>);

impl Body for Departing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        let departs = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        // If nobody listens, the request has been given up.
        let _ = departs.map(|departs| departs.send(Instant::now()));
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// The answer, and whether the connection can take another request. `status` is told as soon as it is known.
async fn send(client: &Client, request: Request, status: &OnceLock<StatusCode>) -> reqwest::Result<(Answer, bool)> {
    let mut response = client.execute(request).await?;
    // It is set only here.
    let _ = status.set(response.status());
    let mut body = Vec::new();
    let mut is_whole = false;
    while body.len() <= MAX_BODY {
        match response.chunk().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => {
                is_whole = true;
                break;
            }
        }
    }
    let may_go_on = is_whole && is_kept_alive(&response);
    let answer = Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body,
    };
    Ok((answer, may_go_on))
}

/// Whether the server leaves the connection open (RFC 9112, section 9.3).
fn is_kept_alive(response: &Response) -> bool {
    let says = |word: &str| {
        let values = response.headers().get_all(CONNECTION).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(word))
    };
    match response.version() {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive"),
    }
}

/// The layer around reqwest's connector.
#[derive(Clone)]
struct KeepBack {
    open: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// A connector that keeps back what it has connected until it is let go.
#[derive(Clone)]
struct KeptBack<S> {
    connector: S,
    layer: KeepBack,
}

// The types of reqwest's connector can't be named, so this is for any.
impl<S> Layer<S> for KeepBack {
    type Service = KeptBack<S>;

    fn layer(&self, connector: S) -> KeptBack<S> {
        KeptBack {
            connector,
            layer: self.clone(),
        }
    }
}

impl<S, R> Service<R> for KeptBack<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let (connecting, open) = (self.connector.call(destination), self.layer.open.clone());
        Box::pin(async move {
            let connection = connecting.await?;
            let (let_go, may_go) = oneshot::channel();
            if open.send(let_go).is_ok() {
                // An error is a request that was given up; hyper-util then keeps the connection.
                let _ = may_go.await;
            }
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Connections {
        let build = || Client::builder().tls_backend_preconfigured(super::super::tls::none().unwrap());
        Connections::new(build).unwrap()
    }

    /// As it comes from an exchange whose answer said nothing of closing.
    fn used(connections: &Connections, was_open: Option<bool>) -> Connection {
        let mut connection = connections.create().unwrap();
        (connection.idle_since, connection.was_open) = (Some(Instant::now()), was_open);
        connection
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_used_is_used_next_and_none_after_a_long_wait() {
        let connections = connections();
        assert!(!connections.take().unwrap().is_open());
        let first = used(&connections, None);
        connections.give_back(first);
        tokio::time::advance(MAX_IDLE / 2).await;
        let second = used(&connections, None);
        connections.give_back(second);
        assert_eq!(connections.take().unwrap().idle_since, Some(Instant::now()));
        tokio::time::advance(MAX_IDLE / 2 + Duration::from_millis(2)).await;
        assert!(!connections.take().unwrap().is_open(), "the first is too old by now");
    }

    #[tokio::test(start_paused = true)]
    async fn where_connections_are_closed_without_a_word_none_is_kept_for_a_while() {
        let connections = connections();
        drop(connections.take());
        for nth in 1..=CLOSED_IN_A_ROW {
            let closed = used(&connections, Some(false));
            connections.give_back(closed);
            assert_eq!(
                connections.take().unwrap().is_open(),
                nth < CLOSED_IN_A_ROW,
                "after {nth}"
            );
        }
        tokio::time::advance(BELIEVED_FOR).await;
        for was_open in [Some(false), Some(false), Some(true), Some(false), Some(false)] {
            let connection = used(&connections, was_open);
            connections.give_back(connection);
            assert!(connections.take().unwrap().is_open(), "not so many in a row");
        }
    }
}
