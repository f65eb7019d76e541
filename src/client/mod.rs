//! What leaves and what the answer means: one attempt = sign now, send, classify.
//!
//! The client sends exactly one HTTP request for each call of [`Client::clear_conversation_unread`], so that the
//! limiter's count is the server's count: redirects are not followed (a signature would go along), the HTTP library's
//! own re-sends are off, and idle connections are dropped before a server is likely to close them. Everything that
//! can go wrong is a [`Verdict`], never an `Err`: whether a row failed is for the run to say.

pub mod code;
pub mod sign;
pub mod verdict;

use std::error::Error as StdError;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use crate::rows::Row;
use verdict::{Transport, Verdict};

/// How long an idle connection is kept: shorter than the idle time-outs of usual servers, so that a request hardly
/// ever meets a connection the server is just closing.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The most of an answer that is read, in bytes. ZIM's are about a hundred.
const BODY_MAX: usize = 64 * 1024;

/// The longest `Retry-After` that is kept; a longer one counts as this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest text of a server that is kept, in characters. ZIM's messages are a few words; a gateway's could be a page.
const TEXT_MAX: usize = 300;

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

/// Sends signed requests; cheap to share behind an `Arc`.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    app: App,
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
    /// One attempt at clearing the row's conversation: exactly one request.
    fn attempt(&self, row: &Row) -> impl Future<Output = Attempt> + Send;
}

impl Service for Client {
    fn attempt(&self, row: &Row) -> impl Future<Output = Attempt> + Send {
        self.clear_conversation_unread(row)
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
}

impl Client {
    /// Sets the connection pool up; sends nothing. Installs ring as rustls's provider for the process, unless another
    /// one is installed already.
    pub fn new(app: App) -> Result<Client, SetupError> {
        // Err means that the embedding program has chosen a provider of its own, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(app.max_in_flight)
            .user_agent(concat!("zim-batch/", env!("CARGO_PKG_VERSION")));
        if app.endpoint.scheme() == "http" {
            // Loopback: a proxy would see the signed URL, and the system's root certificates aren't worth loading.
            // `localhost` is loopback here whatever the resolver says.
            let loopback = [
                SocketAddr::from(([127, 0, 0, 1], 0)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
            ];
            builder = builder
                .no_proxy()
                .tls_certs_only([])
                .resolve_to_addrs("localhost", &loopback);
        } else if let Some(pem) = &app.ca_cert {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| SetupError::CaCert)?;
            if certificates.is_empty() {
                return Err(SetupError::CaCert);
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|error| match app.ca_cert {
            Some(_) => SetupError::CaCert,
            None => SetupError::Tls(root_cause(&error.without_url()).to_string()),
        })?;
        Ok(Client { http, app })
    }

    /// One attempt at ClearConversationUnread for `row`: signs now, sends once, and judges what comes back.
    pub async fn clear_conversation_unread(&self, row: &Row) -> Attempt {
        let signature;
        let request = {
            let nonce = sign::nonce();
            let timestamp = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs());
            let secret = self.app.server_secret.expose_secret();
            signature = sign::sign(self.app.app_id, &nonce, secret, timestamp);
            let mut url = self.app.endpoint.clone();
            url.set_query(Some(&format!(
                "Action=ClearConversationUnread&FromUserId={}&ConvId={}&ConvType={}\
                 &AppId={}&SignatureNonce={nonce}&Timestamp={timestamp}&SignatureVersion=2.0&Signature={}",
                utf8_percent_encode(&row.user, STRICT),
                utf8_percent_encode(&row.conv, STRICT),
                row.conv_type as u8,
                self.app.app_id,
                signature.expose(),
            )));
            self.http.get(url)
        };
        let sent_at = Instant::now();
        let mut clock_ahead = None;
        let mut verdict = match tokio::time::timeout(self.app.timeout, exchange(request, &mut clock_ahead)).await {
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

    /// A server may echo what it was sent; what goes into reports and logs must not. Cut only afterwards, for half a
    /// signature would not be found.
    fn redact(&self, verdict: &mut Verdict, signature: &sign::Signature) {
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

async fn exchange(request: reqwest::RequestBuilder, clock_ahead: &mut Option<i64>) -> Verdict {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return transport(&error.without_url(), None),
    };
    let status = response.status();
    *clock_ahead = ahead_of(response.headers(), SystemTime::now());
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return transport(&error.without_url(), Some(status.as_u16())),
        }
        if body.len() > BODY_MAX {
            break;
        }
    }
    verdict::judge(status, &body, retry_after)
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

/// Says what a transport error was, in words an operator knows, without the URL.
fn transport(error: &reqwest::Error, http: Option<u16>) -> Verdict {
    if let Some(certificate) = causes(error).find_map(certificate_error) {
        let message = format!("the server's certificate is not trusted: {certificate}");
        return verdict::no_answer(Transport::Untrusted, message, http);
    }
    let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
    let hyper = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    let cause = root_cause(error).to_string();
    let message = match kind {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "connection closed before the answer was complete".to_owned(),
        Some(io::ErrorKind::BrokenPipe) => "connection closed by the server".to_owned(),
        _ if hyper.is_some_and(|hyper| hyper.is_incomplete_message()) => {
            "connection closed before the answer was complete".to_owned()
        }
        _ if hyper.is_some_and(|hyper| hyper.is_parse()) => format!("the answer is not HTTP ({cause})"),
        _ if error.is_connect() => format!("can't connect: {cause}"),
        _ => cause,
    };
    let transport = if error.is_connect() {
        Transport::Unreachable
    } else {
        Transport::Broken
    };
    verdict::no_answer(transport, message, http)
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

    fn headers(pairs: &[(reqwest::header::HeaderName, &str)]) -> HeaderMap {
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
