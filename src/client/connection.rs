//! Connections, and the moment at which a request is handed to one.
//!
//! The limiter's cap holds only if a request leaves when the limiter allows it, and not later, after a handshake or a name
//! look-up of any length. reqwest opens connections by itself. Three things make the moment exact:
//!
//! - a `connector_layer` that holds back an open connection until the request has passed [`Gate::pass`]. The request's
//!   future is not polled meanwhile, so none of its time-outs count the wait at the gate;
//! - a `reqwest::Client` for each connection, used for one request at a time. With one client for all, a request that
//!   waits for its own connection may take one that another request has just released, and so bypass the gate;
//! - a body that reports when hyper asks whether it is empty, which is when hyper writes the request's head.
//!
//! hyper-util sends a request again by itself if its connection was closed before any of it was written. The server has not
//! seen the first request, and the second needs a new connection, so it passes the gate. There is no other re-send.

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

use super::error::BuildError;
use super::gate::Gate;
use super::verdict::TransportError;

/// How long a connection may be idle and still be used: shorter than the idle time-outs of common servers, so that a
/// request rarely gets a connection that the server is closing.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(4);

/// After this many consecutive connections that were closed without notice, connections are not reused for a while.
const MAX_CLOSED_IN_A_ROW: u32 = 3;

/// How long connections are not reused then. Each request gets a new connection before it starts: one that starts and
/// finds its connection closed would have to start again.
const NO_REUSE_FOR: Duration = Duration::from_secs(60);

/// The maximum length of an answer that is read, in bytes. A page of 500 conversations has about 60 000.
const MAX_BODY: usize = 1024 * 1024;

/// Creates connections, and keeps idle ones for reuse.
pub(super) struct Connections {
    build: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// A stack: the most recently used is used next, so that few are in use.
    connections: Vec<Connection>,
    /// How many consecutive connections were found closed.
    closed_in_a_row: u32,
    /// Connections are not kept before this time.
    reuse_from: Option<Instant>,
}

/// A connection, open or to be opened by the next request.
pub(super) struct Connection {
    client: Client,
    /// A sender for each connection that was opened and is held back; sending releases it.
    opened: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// Since when it is open and idle, as far as is known.
    idle_since: Option<Instant>,
    /// For the last request on a connection that was thought to be open: whether it was.
    was_open: Option<bool>,
}

/// An answer, read to its end or to the maximum length.
pub(super) struct Answer {
    /// The HTTP status.
    pub http: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// The result of a request.
pub(super) enum Exchange {
    Answered(Answer),
    /// No complete answer; with the HTTP status, if at least the head arrived.
    Failed(reqwest::Error, Option<u16>),
    /// No complete answer, for a reason that is known already.
    NoAnswer(TransportError, String),
    /// No complete answer within the time-out, counted from the start; likewise.
    TimedOut(Option<u16>),
    /// The connection waited too long at the gate. Nothing was sent.
    Expired,
}

impl Connections {
    /// `build` returns a client builder; it is called for each connection.
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

    /// Takes an idle connection, or creates a new one.
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

    /// Keeps a connection for the next request, if it is open and connections are currently reused.
    pub fn put(&self, connection: Connection) {
        let mut idle = self.idle();
        match connection.was_open {
            Some(true) => idle.closed_in_a_row = 0,
            Some(false) => idle.closed_in_a_row += 1,
            None => {}
        }
        if idle.closed_in_a_row >= MAX_CLOSED_IN_A_ROW {
            idle.closed_in_a_row = 0;
            idle.reuse_from = Some(Instant::now() + NO_REUSE_FOR);
            idle.connections.clear();
        }
        let is_reused = idle.reuse_from.is_none_or(|from| from <= Instant::now());
        if connection.is_open() && is_reused {
            idle.connections.push(connection);
        }
    }

    fn create(&self) -> reqwest::Result<Connection> {
        let (open, opened) = mpsc::unbounded_channel();
        let client = (self.build)()
            .connector_layer(HoldBack { open })
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
        // The stack is consistent even after a panic elsewhere.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether it is open, as far as is known, so that the next request can start immediately.
    pub fn is_open(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Sends a request with this body and reads its answer; returns the result and when the request started. If [`Connection::is_open`],
    /// the request must already have passed the gate. `time_limit` is the time-out, counted from the start.
    pub async fn exchange(
        &mut self,
        mut request: Request,
        body: Bytes,
        gate: &impl Gate,
        time_limit: Duration,
    ) -> (Exchange, Option<Instant>) {
        self.was_open = self.idle_since.take().map(|_| true);
        let (on_start, mut start) = oneshot::channel();
        *request.body_mut() = Some(reqwest::Body::wrap(StartSignal {
            on_start: Mutex::new(Some(on_start)),
            body,
        }));
        let status = OnceLock::new();
        let http = || status.get().map(StatusCode::as_u16);
        let mut started_at: Option<Instant> = None;
        let mut exchange = pin!(send(&self.client, request, &status));
        let answered = loop {
            let deadline = started_at.and_then(|at| at.checked_add(time_limit));
            tokio::select! {
                biased;
                answered = &mut exchange => break answered,
                Ok(at) = &mut start, if started_at.is_none() => {
                    started_at = Some(at);
                    gate.started(at);
                }
                Some(release) = self.opened.recv() => {
                    // A connection opened for an earlier request is no longer needed.
                    if started_at.is_none() && !release.is_closed() {
                        self.was_open = self.was_open.map(|_| false);
                        if timeout(MAX_IDLE, gate.pass()).await.is_err() {
                            return (Exchange::Expired, None);
                        }
                        // If the receiver is gone, hyper-util opens another connection, which is handled in turn.
                        let _ = release.send(());
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return (Exchange::TimedOut(http()), started_at);
                }
            }
        };
        if started_at.is_none()
            && let Ok(at) = start.try_recv()
        {
            started_at = Some(at);
            gate.started(at);
        }
        match answered {
            Ok((answer, is_reusable)) => {
                self.idle_since = is_reusable.then(Instant::now);
                (Exchange::Answered(answer), started_at)
            }
            Err(error) => (Exchange::Failed(error, http()), started_at),
        }
    }
}

/// A body that reports when hyper checks whether it is empty: when it writes the request's head.
struct StartSignal {
    on_start: Mutex<Option<oneshot::Sender<Instant>>>,
    /// What is still to be sent.
    body: Bytes,
}

impl Body for StartSignal {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = std::mem::take(&mut self.body);
        Poll::Ready((!body.is_empty()).then(|| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        let on_start = self.on_start.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without a receiver, the request has been cancelled.
        let _ = on_start.map(|on_start| on_start.send(Instant::now()));
        self.body.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.len() as u64)
    }
}

/// Returns the answer and whether the connection is reusable. `status` is set as soon as the head has arrived.
async fn send(client: &Client, request: Request, status: &OnceLock<StatusCode>) -> reqwest::Result<(Answer, bool)> {
    let mut response = client.execute(request).await?;
    // It is set only once.
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
    let is_reusable = is_whole && is_kept_alive(&response);
    let answer = Answer {
        http: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        body,
    };
    Ok((answer, is_reusable))
}

/// Whether the server leaves the connection open (RFC 9112, section 9.3).
fn is_kept_alive(response: &Response) -> bool {
    let has_option = |name: &str| {
        let values = response.headers().get_all(CONNECTION).iter();
        values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case(name))
    };
    match response.version() {
        Version::HTTP_11 => !has_option("close"),
        _ => has_option("keep-alive"),
    }
}

/// A layer around reqwest's connector that holds back each connection until it is released.
#[derive(Clone)]
struct HoldBack {
    open: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// The connector of a [`HoldBack`] layer.
#[derive(Clone)]
struct HoldBackConnector<S> {
    connector: S,
    layer: HoldBack,
}

// Generic, because the types of reqwest's connector can't be named.
impl<S> Layer<S> for HoldBack {
    type Service = HoldBackConnector<S>;

    fn layer(&self, connector: S) -> HoldBackConnector<S> {
        HoldBackConnector {
            connector,
            layer: self.clone(),
        }
    }
}

impl<S, R> Service<R> for HoldBackConnector<S>
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
            let (release, released) = oneshot::channel();
            if open.send(release).is_ok() {
                // An error means that the request was cancelled; hyper-util then keeps the connection.
                let _ = released.await;
            }
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Connections {
        let build = || Client::builder().tls_backend_preconfigured(crate::tls::untrusting().unwrap());
        Connections::new(build).unwrap()
    }

    /// A connection after an exchange that left it open.
    fn used(connections: &Connections, was_open: Option<bool>) -> Connection {
        let mut connection = connections.create().unwrap();
        (connection.idle_since, connection.was_open) = (Some(Instant::now()), was_open);
        connection
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_recently_used_is_used_next_and_none_after_a_long_idle_time() {
        let connections = connections();
        assert!(!connections.take().unwrap().is_open());
        let first = used(&connections, None);
        connections.put(first);
        tokio::time::advance(MAX_IDLE / 2).await;
        let second = used(&connections, None);
        connections.put(second);
        assert_eq!(connections.take().unwrap().idle_since, Some(Instant::now()));
        tokio::time::advance(MAX_IDLE / 2 + Duration::from_millis(2)).await;
        assert!(!connections.take().unwrap().is_open(), "the first is too old by now");
    }

    #[tokio::test(start_paused = true)]
    async fn where_connections_are_closed_without_notice_none_is_reused_for_a_while() {
        let connections = connections();
        drop(connections.take());
        for nth in 1..=MAX_CLOSED_IN_A_ROW {
            let closed = used(&connections, Some(false));
            connections.put(closed);
            assert_eq!(
                connections.take().unwrap().is_open(),
                nth < MAX_CLOSED_IN_A_ROW,
                "after {nth}"
            );
        }
        tokio::time::advance(NO_REUSE_FOR).await;
        for was_open in [Some(false), Some(false), Some(true), Some(false), Some(false)] {
            let connection = used(&connections, was_open);
            connections.put(connection);
            assert!(connections.take().unwrap().is_open(), "not so many in a row");
        }
    }
}
