//! A server in this process, in place of the network: `tests/lives` runs whole jobs against it in paused time, where sockets
//! would spoil the times. Everything else of the client is as ever: calls, signatures, verdicts, redaction, the gate.

use std::fmt;
use std::pin::Pin;

use hyper::body::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout};

use super::Client;
use super::connection::{Answer, Exchange, MAX_IDLE};
use super::gate::Gate;
use super::verdict::TransportError;
use reqwest::Request;

/// The future of a method of [`InProcess`].
pub type InProcessFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What stands in place of the network and the server.
pub trait InProcess: fmt::Debug + Send + Sync {
    /// Opens a connection, or says why there is none.
    fn connect(&self) -> InProcessFuture<'_, Result<(), String>>;

    /// Answers a request to this URL, which starts when the future is first polled; `None`: the connection breaks.
    fn answer(&self, url: String, body: Bytes) -> InProcessFuture<'_, Option<InProcessAnswer>>;
}

/// An answer of an [`InProcess`] server.
#[derive(Debug)]
pub struct InProcessAnswer {
    /// The HTTP status.
    pub http: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// As [`Connection::exchange`](super::connection::Connection::exchange) on a new connection.
    pub(super) async fn exchange_in_process(
        &self,
        server: &dyn InProcess,
        request: Request,
        body: Bytes,
        gate: &impl Gate,
    ) -> (Exchange, Option<Instant>) {
        let unreachable = |why: String| (Exchange::NoAnswer(TransportError::Unreachable, why), None);
        match timeout(self.shared.connect_timeout, server.connect()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return unreachable(why),
            Err(_) => return unreachable("connecting timed out".into()),
        }
        if timeout(MAX_IDLE, gate.pass()).await.is_err() {
            return (Exchange::Expired, None);
        }
        let started_at = Instant::now();
        gate.started(started_at);
        let answer = server.answer(request.url().to_string(), body);
        let exchange = match timeout(self.shared.settings.timeout, answer).await {
            Ok(Some(answer)) => Exchange::Answered(answer.into()),
            Ok(None) => Exchange::NoAnswer(TransportError::Broken, "connection reset".into()),
            Err(_) => Exchange::TimedOut(None),
        };
        (exchange, Some(started_at))
    }
}

impl From<InProcessAnswer> for Answer {
    fn from(answer: InProcessAnswer) -> Answer {
        let header = |(name, value): &(&'static str, String)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
        };
        Answer {
            http: answer.http,
            headers: answer.headers.iter().filter_map(header).collect::<HeaderMap>(),
            body: answer.body,
        }
    }
}
