//! What leaves and what the answer means: one attempt = sign now, send, classify.
//!
//! The client sends exactly one HTTP request for each attempt, so that the limiter's count is the server's count:
//! redirects are not followed (a signature would go along), nothing is sent again when a connection breaks, and idle
//! connections are dropped before a server is likely to close them. Everything that can go wrong is a [`Verdict`], never
//! an `Err`: whether a row failed is for the run to say.

pub mod code;
mod connect;
mod connections;
pub mod sign;
pub mod verdict;

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use url::{Position, Url};

use crate::rows::Row;
use connect::{Connector, NoAnswer};
use connections::Connections;
pub use connections::Lease;
use sign::Signature;
use verdict::{Transport, Verdict};

/// The longest `Retry-After` that is kept; a longer one counts as this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest text of a server that is kept, in characters. ZIM's messages are a few words; a gateway's could be a page.
const TEXT_MAX: usize = 300;

/// A request's target is hardly ever longer, in bytes.
const TARGET_USUAL: usize = 320;

const INCOMPLETE: &str = "connection closed before the answer was complete";

const USER_AGENT_NAME: &str = concat!("zim-batch/", env!("CARGO_PKG_VERSION"));

/// RFC 3986's unreserved characters stay; everything else is encoded, for `#` would cut the URL and `+` become a space.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The app and where its requests go.
#[derive(Debug, Clone)]
pub struct App {
    /// The `AppId`.
    pub app_id: u32,
    /// The `ServerSecret`, as the console shows it; its `Debug` output is redacted.
    pub server_secret: SecretString,
    /// The base URL: `https`, or `http` to a loopback address.
    pub endpoint: Url,
    /// Certificates to trust besides the system's, in PEM.
    pub ca_cert: Option<Vec<u8>>,
    /// The time for one attempt, from the first byte of the connection to the last of the answer.
    pub timeout: Duration,
    /// How many connections may be kept open for the next request.
    pub max_in_flight: usize,
}

impl App {
    /// The app at `endpoint`, with ten seconds for an attempt and 64 connections.
    ///
    /// ```
    /// use zim_batch::client::App;
    ///
    /// let app = App::new(12345, "9193cc662a4c0ec135ec71fb57194b38", "https://zim-api.zego.im".parse()?);
    /// assert!(!format!("{app:?}").contains("9193"));
    /// # Ok::<(), url::ParseError>(())
    /// ```
    pub fn new(app_id: u32, server_secret: impl Into<SecretString>, endpoint: Url) -> App {
        App {
            app_id,
            server_secret: server_secret.into(),
            endpoint,
            ca_cert: None,
            timeout: Duration::from_secs(10),
            max_in_flight: 64,
        }
    }
}

/// Sends signed requests; cheap to share behind an `Arc`. It lives in the Tokio runtime in which it is first used.
#[derive(Debug)]
pub struct Client {
    connections: Connections,
    app: App,
    /// The same for each request.
    headers: HeaderMap,
}

/// One attempt and what came of it.
#[derive(Debug)]
pub struct Attempt {
    /// What the answer, or its absence, means.
    pub verdict: Verdict,
    /// When the request was handed to the connection.
    pub sent_at: Instant,
    /// From then until the whole answer was there, or it was certain that none would come.
    pub latency: Duration,
    /// How far this machine's clock is ahead of the answer's `Date` header; negative if it is behind. Seconds.
    pub clock_ahead: Option<i64>,
}

/// What a run sends its rows to: [`Client`], or something that behaves like it.
pub trait Service: Send + Sync + 'static {
    /// What a request needs before it may leave, and what takes time to get: for [`Client`], an open connection.
    type Lease: Send;

    /// Gets it. The run asks before it waits at the limiter's gate, for what the gate lets through must leave at once.
    fn lease(&self) -> impl Future<Output = Self::Lease> + Send;

    /// One attempt at clearing the row's conversation: exactly one request.
    fn attempt(&self, row: &Row, lease: Self::Lease) -> impl Future<Output = Attempt> + Send;
}

impl Service for Client {
    type Lease = Lease;

    fn lease(&self) -> impl Future<Output = Lease> + Send {
        self.connections.lease()
    }

    fn attempt(&self, row: &Row, lease: Lease) -> impl Future<Output = Attempt> + Send {
        self.send(row, lease)
    }
}

/// The client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The PEM file holds no certificate that can be read.
    #[error("no certificate could be read from it; it must hold PEM blocks that say BEGIN CERTIFICATE")]
    CaCert,
    /// TLS could not be set up, mostly because the system has no root certificates.
    #[error("TLS could not be set up: {0}; if the system has no root certificates, install ca-certificates")]
    Tls(String),
    /// The endpoint is neither `https` nor `http` to a loopback address.
    #[error("the endpoint can't be used; it must be an https URL, or http to a loopback address")]
    Endpoint,
    /// The system's proxy is of a kind that is not supported.
    #[error("the proxy that the system, HTTPS_PROXY or ALL_PROXY names must be an http:// or https:// one")]
    Proxy,
}

impl Client {
    /// Sets it up; opens and sends nothing. TLS is rustls with the process's crypto provider, ring if there is none.
    pub fn new(app: App) -> Result<Client, SetupError> {
        let connector = Connector::new(&app.endpoint, app.ca_cert.as_deref())?;
        let host = app.endpoint[Position::BeforeHost..Position::AfterPort].parse();
        let headers = [
            (HOST, host.map_err(|_| SetupError::Endpoint)?),
            (ACCEPT, HeaderValue::from_static("*/*")),
            (USER_AGENT, HeaderValue::from_static(USER_AGENT_NAME)),
        ];
        Ok(Client {
            connections: Connections::new(connector, app.max_in_flight, app.timeout),
            headers: headers.into_iter().collect(),
            app,
        })
    }

    /// One attempt at ClearConversationUnread for `row`: signs now, sends once, and judges what comes back.
    pub async fn clear_conversation_unread(&self, row: &Row) -> Attempt {
        self.send(row, self.connections.lease_now()).await
    }

    async fn send(&self, row: &Row, lease: Lease) -> Attempt {
        let sent_at = Instant::now();
        let Some((request, signature)) = self.request(row) else {
            let too_long = verdict::no_answer(Transport::Broken, "the URL would be too long".into(), None);
            return Attempt {
                verdict: too_long,
                sent_at,
                latency: Duration::ZERO,
                clock_ahead: None,
            };
        };
        let mut clock_ahead = None;
        let mut verdict = match timeout(self.app.timeout, exchange(request, lease, &mut clock_ahead)).await {
            Ok(verdict) => verdict,
            Err(_) => {
                let message = format!("timed out after {}", humantime::format_duration(self.app.timeout));
                verdict::no_answer(Transport::TimedOut, message, None)
            }
        };
        self.redact(&mut verdict, &signature);
        Attempt {
            verdict,
            sent_at,
            latency: sent_at.elapsed(),
            clock_ahead,
        }
    }

    /// The request for `row`, signed now; `None` if it is longer than HTTP takes, which no row of a [`Plan`] is.
    ///
    /// [`Plan`]: crate::rows::Plan
    fn request(&self, row: &Row) -> Option<(Request<Empty<Bytes>>, Signature)> {
        let nonce = sign::nonce();
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let secret = self.app.server_secret.expose_secret();
        let signature = sign::sign(self.app.app_id, &nonce, secret, timestamp);
        let mut target = String::with_capacity(TARGET_USUAL);
        let written = write!(
            target,
            "{}?Action=ClearConversationUnread&FromUserId={}&ConvId={}&ConvType={}\
             &AppId={}&SignatureNonce={nonce}&Timestamp={timestamp}&SignatureVersion=2.0&Signature={}",
            self.app.endpoint.path(),
            utf8_percent_encode(&row.user, STRICT),
            utf8_percent_encode(&row.conv, STRICT),
            row.conv_type as u8,
            self.app.app_id,
            signature.expose(),
        );
        written.expect("a String takes any text");
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = Uri::try_from(target).ok()?;
        *request.headers_mut() = self.headers.clone();
        Some((request, signature))
    }

    /// A server may echo what it was sent; what goes into reports and logs must not. Cut only afterwards, for half a
    /// signature would not be found.
    fn redact(&self, verdict: &mut Verdict, signature: &Signature) {
        for text in [&mut verdict.message, &mut verdict.request_id] {
            for secret in [self.app.server_secret.expose_secret(), signature.expose()] {
                let mut from = 0;
                while let Some(at) = text.get(from..).and_then(|rest| find_ignoring_case(rest, secret)) {
                    text.replace_range(from + at..from + at + secret.len(), "[redacted]");
                    from += at + "[redacted]".len();
                }
            }
            if let Some((end, _)) = text.char_indices().nth(TEXT_MAX) {
                text.truncate(end);
                text.push('…');
            }
        }
    }
}

fn find_ignoring_case(text: &str, wanted: &str) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.as_bytes()
        .windows(wanted.len())
        .position(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

async fn exchange(request: Request<Empty<Bytes>>, mut lease: Lease, clock_ahead: &mut Option<i64>) -> Verdict {
    let connection = match lease.connection().await {
        Ok(connection) => connection,
        Err(error) => return unreachable(&*error),
    };
    let (answer, connection) = match connection.exchange(request).await {
        Ok(answered) => answered,
        Err(no_answer) => return broken(&no_answer),
    };
    if let Some(connection) = connection {
        lease.give_back(connection);
    }
    let now = SystemTime::now();
    *clock_ahead = ahead_of(&answer.headers, now);
    verdict::judge(answer.status, &answer.body, retry_after(&answer.headers, now))
}

/// `Retry-After` in either form, seconds or a date, at most [`RETRY_AFTER_MAX`].
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        // The date is the server's: measured from its own `Date`, so that a clock that is off doesn't matter.
        let now = date(headers).unwrap_or(now);
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn ahead_of(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let theirs = i64::try_from(date(headers)?.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let ours = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(ours - theirs)
}

/// Why there was no connection, in words an operator knows.
fn unreachable(error: &(dyn StdError + 'static)) -> Verdict {
    match causes(error).find_map(certificate_error) {
        Some(certificate) => verdict::no_answer(
            Transport::Untrusted,
            format!("the server's certificate is not trusted: {certificate}"),
            None,
        ),
        None => {
            let message = known(error).unwrap_or_else(|| format!("can't connect: {}", root_cause(error)));
            verdict::no_answer(Transport::Unreachable, message, None)
        }
    }
}

/// Why the connection gave no whole answer.
fn broken(no_answer: &NoAnswer) -> Verdict {
    let error = &no_answer.error;
    let message = known(error).unwrap_or_else(|| match root_cause(error).to_string() {
        _ if error.is_incomplete_message() => INCOMPLETE.to_owned(),
        cause if error.is_parse() => format!("the answer is not HTTP ({cause})"),
        cause => cause,
    });
    let status = no_answer.status.map(|status| status.as_u16());
    verdict::no_answer(Transport::Broken, message, status)
}

/// What the system calls it, where operators have a word for it.
fn known(error: &(dyn StdError + 'static)) -> Option<String> {
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind))?;
    let word = match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::UnexpectedEof => INCOMPLETE,
        io::ErrorKind::BrokenPipe => "connection closed by the server",
        _ => return None,
    };
    Some(word.to_owned())
}

fn certificate_error(cause: &(dyn StdError + 'static)) -> Option<String> {
    // rustls's error travels inside one io::Error or several, whose `source()` skips what they wrap.
    let mut inner = cause;
    while let Some(wrapped) = inner.downcast_ref::<io::Error>().and_then(|error| error.get_ref()) {
        inner = wrapped;
    }
    match inner.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// The error, its cause, the cause of that, and so on.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause: &&'a (dyn StdError + 'static)| cause.source())
}

fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(hyper::header::HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_bounded() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let wait = |value: &str| retry_after(&headers(&[(RETRY_AFTER, value)]), now);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("86400"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(wait("Sun, 09 Sep 2001 01:46:50 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("Sun, 09 Sep 2001 01:46:30 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait(""), None);
        assert_eq!(wait("-1"), None);
    }

    #[test]
    fn a_retry_after_date_is_measured_from_the_servers_own_date() {
        let theirs = headers(&[
            (RETRY_AFTER, "Sun, 09 Sep 2001 01:46:50 GMT"),
            (DATE, "Sun, 09 Sep 2001 01:46:45 GMT"),
        ]);
        assert_eq!(retry_after(&theirs, SystemTime::now()), Some(Duration::from_secs(5)));
    }

    #[test]
    fn an_echoed_secret_or_signature_is_redacted_in_any_case() {
        let client = Client::new(App {
            app_id: 1,
            server_secret: "s3cret-s3cret".into(),
            endpoint: "http://127.0.0.1:1/".parse().unwrap(),
            ca_cert: None,
            timeout: Duration::from_secs(1),
            max_in_flight: 1,
        })
        .unwrap();
        let signature = sign::sign(1, "00", "s3cret-s3cret", 0);
        let echo = format!("got {} and S3CRET-s3cret é", signature.expose().to_uppercase());
        let mut verdict = verdict::no_answer(Transport::Broken, echo, None);
        client.redact(&mut verdict, &signature);
        assert_eq!(verdict.message, "got [redacted] and [redacted] é");
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
