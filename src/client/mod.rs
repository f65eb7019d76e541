//! Stage 3, what is sent and what the answer means: an attempt signs, sends and classifies.
//!
//! The client sends at most one HTTP request per attempt, and only after it has passed the [`Gate`] with an open
//! connection, so that the limiter and the server count the same requests. Redirects are not followed (they would receive
//! a signature), requests that a server may have seen are not sent again, and idle connections are dropped before a server
//! is likely to close them. Every failure is a [`Verdict`], never an `Err`: the run decides whether a row has failed.

mod builder;
mod call;
mod clear_users;
mod connection;
mod error;
mod failure;
mod gate;
mod in_process;
mod list;
mod lookup;
mod proxy;
mod redact;
mod service;
pub mod sign;
pub mod verdict;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect;
use reqwest::{Proxy, Request};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};

use url::Url;

use crate::endpoint::{self, is_loopback};
use crate::row::{Conversation, LookedUp, Row, User};
use crate::sealed::Sealed;
use crate::tls;
pub use builder::{ClientBuilder, DEFAULT_TIMEOUT};
use call::Call;
pub use clear_users::{ClearUsers, UserOrRow};
use connection::{Connections, Exchange, MAX_IDLE};
pub use error::{BuildError, CallError};
use failure::Failure;
pub use gate::{Gate, NoGate};
#[doc(hidden)]
pub use in_process::{InProcess, InProcessAnswer, InProcessFuture};
pub use list::{Lister, Listing};
pub use lookup::{MAX_USERS, UserBatch, UserLookup};
pub use proxy::proxy_for;
use proxy::{ProxyName, Route};
use redact::redact;
pub use service::{Attempt, Item, Service};
use sign::Signature;
use verdict::{TransportError, Verdict};

/// The longest `Retry-After`; a longer one is shortened to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// The longest server message that is kept, in characters. ZIM's messages are a few words; a gateway may send a page.
const MAX_TEXT: usize = 300;

/// The maximum connect time-out. It is divided among the addresses of a name, so that the next address is tried if one
/// does not answer.
const MAX_CONNECT: Duration = Duration::from_secs(8);

const USER_AGENT_NAME: &str = concat!("zim-batch/", env!("CARGO_PKG_VERSION"));

/// Sends signed requests. Cheap to clone: clones share connections, and nothing else.
///
/// As the service of a [`Job`](crate::Job) it clears rows, paced and retried; its own methods make single calls, which are
/// neither. Use it and its clones in one Tokio runtime, which drives the connections.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zim_batch::{Class, Client, ConvType, Limiter, Rate, Row, User};
///
/// let client = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38").build()?;
/// let limiter = Limiter::new(Rate::default());
/// for conversation in client.list(&User::new("alice")?).await? {
///     let row = Row::new("alice", conversation.conv, conversation.conv_type)?;
///     let permit = limiter.ready().await;
///     match client.clear(&row).await {
///         Ok(()) => println!("{}: cleared", row.conv()),
///         Err(error) if error.class() == Class::Outside => println!("{}: out of reach", row.conv()),
///         Err(error) => return Err(error.into()),
///     }
///     drop(permit);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What clones of a client share.
struct Shared {
    connections: Connections,
    settings: ClientBuilder,
    proxy: Option<ProxyName>,
    connect_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Sealed for Client {}

impl Service for Client {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        let (attempt, _) = self.call(&Call::clear(row), gate).await?;
        Some(attempt)
    }
}

impl ClientBuilder {
    /// Builds the client; opens and sends nothing. TLS is rustls with the process's crypto provider, or ring if none is set.
    ///
    /// An `https` endpoint is reached through the proxy that `HTTPS_PROXY` or `ALL_PROXY` names, unless `NO_PROXY` excludes
    /// it. Plain `http`, which is only for loopback addresses, never uses a proxy.
    ///
    /// # Errors
    /// If certificates, endpoint or proxy can't be used: see [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        Client::build(self)
    }
}

impl Client {
    /// A client for this app. The `ServerSecret` is as the console shows it; no `Debug` output shows it.
    pub fn builder(app_id: u32, server_secret: impl Into<SecretString>) -> ClientBuilder {
        ClientBuilder::new(app_id, server_secret.into())
    }

    /// The app's ID.
    pub fn app_id(&self) -> u32 {
        self.shared.settings.app_id
    }

    /// Where requests go.
    pub fn endpoint_url(&self) -> &Url {
        &self.shared.settings.endpoint
    }

    fn build(settings: ClientBuilder) -> Result<Client, BuildError> {
        let endpoint = &settings.endpoint;
        let (tls, route) = match endpoint.scheme() {
            "https" => (tls::config(settings.ca_cert.as_deref())?, proxy::route(endpoint)?),
            "http" if is_loopback(endpoint) => (tls::untrusting()?, Route::NoProxy),
            _ => return Err(BuildError::Endpoint),
        };
        let proxy = match &route {
            Route::Through { name, .. } => Some(name.clone()),
            Route::Direct | Route::NoProxy => None,
        };
        let time_limit = settings.timeout;
        let connect_timeout = MAX_CONNECT.min(time_limit.mul_f64(0.8));
        let connections = Connections::new(move || {
            let loopback = [(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()];
            let mut builder = reqwest::Client::builder()
                .user_agent(USER_AGENT_NAME)
                .http1_only()
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(connect_timeout)
                .tls_backend_preconfigured(tls.clone());
            // Otherwise, when a broken path works again, the system delivers requests that have timed out, all at once.
            #[cfg(any(target_os = "android", target_os = "linux"))]
            {
                builder = builder.tcp_user_timeout(time_limit);
            }
            for name in endpoint::LOCALHOST {
                builder = builder.resolve_to_addrs(name, &loopback);
            }
            match &route {
                Route::Direct => builder,
                Route::NoProxy => builder.no_proxy(),
                Route::Through { proxy, .. } => builder.proxy(Proxy::clone(proxy)),
            }
        })?;
        let shared = Shared {
            connections,
            settings,
            proxy,
            connect_timeout,
        };
        Ok(Client {
            shared: Arc::new(shared),
        })
    }

    /// Clears one user's unread count for one conversation, with one request.
    ///
    /// # Errors
    /// Anything but success, without a retry: see [`CallError::class`].
    pub async fn clear(&self, row: &Row) -> Result<(), CallError> {
        service::call(self, &mut row.clone()).await
    }

    /// Lists a user's conversations, at most the newest 1000, with a request for each page of 500.
    ///
    /// # Errors
    /// If a page can't be had, without a retry: see [`CallError::class`]. For a user who does not exist, too.
    pub async fn list(&self, user: &User) -> Result<Vec<Conversation>, CallError> {
        let mut listing = Listing::from(user.clone());
        service::call(&Lister::new(self.clone()), &mut listing).await?;
        Ok(listing.into_conversations())
    }

    /// Asks which of these users exist, with a request for each [`MAX_USERS`].
    ///
    /// # Errors
    /// If an answer can't be had for all of them, without a retry: see [`CallError::class`].
    pub async fn look_up(&self, users: &[User]) -> Result<LookedUp, CallError> {
        let lookup = UserLookup::new(self.clone());
        let mut all = LookedUp::default();
        for users in users.chunks(MAX_USERS) {
            let mut batch = UserBatch::new(users.to_vec());
            service::call(&lookup, &mut batch).await?;
            let found = batch.into_found();
            all.existing += found.existing;
            all.missing.extend(found.missing);
        }
        Ok(all)
    }

    /// Makes one attempt at a call. Returns the answer's body too, if there is an answer.
    async fn call(&self, call: &Call, gate: &impl Gate) -> Option<(Attempt, Vec<u8>)> {
        let attempted_at = Instant::now();
        let (exchange, started_at, signature) = self.exchange(call, gate).await;
        let latency = started_at.unwrap_or(attempted_at).elapsed();
        let (mut clock_skew, mut body) = (None, Vec::new());
        let mut verdict = match exchange {
            Exchange::Answered(answer) => {
                let now = SystemTime::now();
                clock_skew = skew(&answer.headers, now);
                let mut verdict = verdict::judge(answer.http, &answer.body, retry_after(&answer.headers, now));
                if let (None, Some(encoding)) = (verdict.code, content_encoding(&answer.headers)) {
                    verdict.message += &format!("; it is compressed ({encoding}), though that was not requested");
                }
                body = answer.body;
                verdict
            }
            Exchange::Failed(error, http) => self.failure(error, http).verdict(),
            Exchange::NoAnswer(transport, why) => verdict::no_answer(transport, why, None),
            Exchange::TimedOut(http) => {
                let message = format!(
                    "timed out after {}",
                    humantime::format_duration(self.shared.settings.timeout)
                );
                verdict::no_answer(TransportError::TimedOut, message, http)
            }
            Exchange::Expired => return None,
        };
        self.redact(&mut verdict, &signature);
        let attempt = Attempt {
            clock_skew,
            ..Attempt::new(verdict, started_at, latency)
        };
        Some((attempt, body))
    }

    /// Sends the request of a call once it has passed the gate. Returns when it started, and its signature.
    async fn exchange(&self, call: &Call, gate: &impl Gate) -> (Exchange, Option<Instant>, Signature) {
        let body = call.body.clone().unwrap_or_default();
        if let Some(server) = &self.shared.settings.in_process {
            let (request, signature) = self.request(call);
            let (exchange, started_at) = self.exchange_in_process(server.as_ref(), request, body, gate).await;
            return (exchange, started_at, signature);
        }
        let mut connection = match self.shared.connections.take() {
            Ok(connection) => connection,
            Err(error) => {
                let message = format!("no connection can be set up: {error}");
                let (_, signature) = self.request(call);
                return (
                    Exchange::NoAnswer(TransportError::Unreachable, message),
                    None,
                    signature,
                );
            }
        };
        let is_late = connection.is_open() && timeout(MAX_IDLE, gate.pass()).await.is_err();
        let (request, signature) = self.request(call);
        if is_late {
            return (Exchange::Expired, None, signature);
        }
        let exchange = connection.exchange(request, body, gate, self.shared.settings.timeout);
        let (exchange, started_at) = exchange.await;
        if !matches!(exchange, Exchange::Expired) {
            self.shared.connections.put(connection);
        }
        (exchange, started_at, signature)
    }

    fn failure(&self, error: reqwest::Error, http: Option<u16>) -> Failure<'_> {
        Failure {
            error: error.without_url(),
            http,
            proxy: self.shared.proxy.as_ref(),
            connect_timeout: self.shared.connect_timeout,
        }
    }

    /// The request for a call, signed now.
    fn request(&self, call: &Call) -> (Request, Signature) {
        let nonce = sign::nonce();
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let secret = self.shared.settings.server_secret.expose_secret();
        let signature = sign::sign(self.shared.settings.app_id, &nonce, secret, timestamp);
        let mut url = self.shared.settings.endpoint.clone();
        url.set_query(Some(&format!(
            "Action={}{}&AppId={}&SignatureNonce={nonce}&Timestamp={timestamp}&SignatureVersion=2.0&Signature={}",
            call.action,
            call.parameters,
            self.shared.settings.app_id,
            signature.expose(),
        )));
        let mut request = Request::new(call.method(), url);
        if call.body.is_some() {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        (request, signature)
    }

    /// Removes secrets that a server has echoed, before its text is written to reports and logs. The text is shortened
    /// afterwards, because a part of a signature would not be found.
    fn redact(&self, verdict: &mut Verdict, signature: &Signature) {
        let secrets = [self.shared.settings.server_secret.expose_secret(), signature.expose()];
        for text in [&mut verdict.message, &mut verdict.request_id] {
            redact(text, &secrets);
            if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
                text.truncate(end);
                text.push('…');
            }
        }
    }
}

/// `Retry-After` in either form, seconds or a date, at most [`MAX_RETRY_AFTER`].
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        // Relative to the server's own `Date`, so that clock skew does not matter.
        let now = date(headers).unwrap_or(now);
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The `Content-Encoding` of a compressed answer.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
    let is_compressed = !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity");
    is_compressed.then(|| encoding.chars().take(40).collect())
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()
}

fn skew(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let theirs = i64::try_from(date(headers)?.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    let ours = i64::try_from(now.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(ours - theirs)
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
        assert_eq!(wait("86400"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait("99999999999999999999999"), Some(MAX_RETRY_AFTER));
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
        let builder = Client::builder(1, "s3cret-s3cret").endpoint("http://127.0.0.1:1/".parse().unwrap());
        let client = builder.build().unwrap();
        let signature = sign::sign(1, "00", "s3cret-s3cret", 0);
        let echo = format!("got {} and S3CRET-s3cret é", signature.expose().to_uppercase());
        let mut verdict = verdict::no_answer(TransportError::Broken, echo, None);
        client.redact(&mut verdict, &signature);
        assert_eq!(verdict.message, "got [redacted] and [redacted] é");
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
