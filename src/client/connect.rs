//! How a connection to the endpoint is opened, and one HTTP/1.1 exchange on it.
//!
//! hyper speaks HTTP, rustls TLS, hyper-util finds addresses and tunnels through proxies. A connection is driven by
//! whoever uses it, within the same task: no request costs a wake-up of another task.

use std::error::Error as StdError;
use std::fmt;
use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::rt::{Read, Write};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;
use url::{Host, Url};

use super::SetupError;

/// The most of an answer that is read, in bytes. ZIM's are about a hundred.
const BODY_MAX: usize = 64 * 1024;

/// Whatever went wrong on the way; its causes say what.
pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Knows the way to the endpoint.
#[derive(Debug)]
pub(super) enum Connector {
    /// Plain HTTP to this machine, at the first of these addresses that answers.
    Loopback(Vec<SocketAddr>),
    /// TLS, straight.
    Tls(HttpsConnector<HttpConnector>, Uri),
    /// TLS through an HTTP proxy.
    Tunnel(HttpsConnector<Tunnel<HttpConnector>>, Uri),
    /// TLS through a proxy that speaks TLS itself.
    TlsTunnel(HttpsConnector<Tunnel<HttpsConnector<HttpConnector>>>, Uri),
}

impl Connector {
    /// The way to `endpoint`: through a proxy if the system or `HTTPS_PROXY` and its like say so, trusting the
    /// certificates in `ca_cert` (PEM) besides the system's.
    pub fn new(endpoint: &Url, ca_cert: Option<&[u8]>) -> Result<Connector, SetupError> {
        if endpoint.scheme() != "https" {
            return loopback(endpoint).map(Connector::Loopback);
        }
        let uri: Uri = endpoint.as_str().parse().map_err(|_| SetupError::Endpoint)?;
        let tls = Arc::new(tls(ca_cert)?);
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let Some(proxy) = Matcher::from_system().intercept(&uri) else {
            return Ok(Connector::Tls(HttpsConnector::from((http, tls)), uri));
        };
        let auth = proxy.basic_auth().cloned();
        Ok(match proxy.uri().scheme_str() {
            Some("https") => {
                let http = HttpsConnector::from((http, Arc::clone(&tls)));
                let tunnel = with_auth(Tunnel::new(proxy.uri().clone(), http), auth);
                Connector::TlsTunnel(HttpsConnector::from((tunnel, tls)), uri)
            }
            Some("http") => {
                let tunnel = with_auth(Tunnel::new(proxy.uri().clone(), http), auth);
                Connector::Tunnel(HttpsConnector::from((tunnel, tls)), uri)
            }
            _ => return Err(SetupError::Proxy),
        })
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Connection, BoxError> {
        match self {
            Connector::Loopback(addresses) => {
                let stream = TcpStream::connect(&addresses[..]).await?;
                stream.set_nodelay(true)?;
                Connection::over(TokioIo::new(stream)).await
            }
            Connector::Tls(https, uri) => Connection::over(call(https, uri).await?).await,
            Connector::Tunnel(https, uri) => Connection::over(call(https, uri).await?).await,
            Connector::TlsTunnel(https, uri) => Connection::over(call(https, uri).await?).await,
        }
    }
}

/// The loopback addresses that `endpoint` means: `localhost` is this machine whatever the resolver says.
fn loopback(endpoint: &Url) -> Result<Vec<SocketAddr>, SetupError> {
    let port = endpoint.port_or_known_default().ok_or(SetupError::Endpoint)?;
    match endpoint.host() {
        Some(Host::Ipv4(address)) if address.is_loopback() => Ok(vec![(address, port).into()]),
        Some(Host::Ipv6(address)) if address.is_loopback() => Ok(vec![(address, port).into()]),
        Some(Host::Domain("localhost")) => Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]),
        _ => Err(SetupError::Endpoint),
    }
}

fn tls(ca_cert: Option<&[u8]>) -> Result<rustls::ClientConfig, SetupError> {
    // An embedding program may have chosen another provider for its process; it serves as well.
    let provider = rustls::crypto::CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let failed = |error: rustls::Error| SetupError::Tls(error.to_string());
    let verifier = match ca_cert {
        None => Verifier::new(Arc::clone(&provider)).map_err(failed)?,
        Some(pem) => {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|_| SetupError::CaCert)?;
            if certificates.is_empty() {
                return Err(SetupError::CaCert);
            }
            Verifier::new_with_extra_roots(certificates, Arc::clone(&provider)).map_err(|_| SetupError::CaCert)?
        }
    };
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous() // rustls's word for any verifier but its own
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn with_auth<C>(tunnel: Tunnel<C>, auth: Option<hyper::header::HeaderValue>) -> Tunnel<C> {
    match auth {
        Some(auth) => tunnel.with_auth(auth),
        None => tunnel,
    }
}

async fn call<S>(service: &S, uri: &Uri) -> Result<S::Response, BoxError>
where
    S: Service<Uri> + Clone,
    S::Error: Into<BoxError>,
{
    let mut service = service.clone();
    poll_fn(|context| service.poll_ready(context))
        .await
        .map_err(Into::into)?;
    service.call(uri.clone()).await.map_err(Into::into)
}

/// An open connection that no request is using.
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    /// A request has been answered on it.
    pub(super) is_used: bool,
    /// Since when nothing has been sent on it.
    pub(super) idle_since: Instant,
    /// When it was looked at last, and was open.
    pub(super) seen_open: Instant,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

/// An answer, read to its end, or to the most that is read of one.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// No whole answer.
pub(super) struct NoAnswer {
    /// The status, if at least the head arrived.
    pub status: Option<StatusCode>,
    pub error: hyper::Error,
}

impl Connection {
    async fn over<T>(io: T) -> Result<Connection, BoxError>
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let (sender, driver) = Builder::new().writev(false).handshake(io).await?;
        let now = Instant::now();
        Ok(Connection {
            sender,
            driver: Box::pin(driver),
            is_used: false,
            idle_since: now,
            seen_open: now,
        })
    }

    /// Whether the server has left it open, as far as is known here.
    pub fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.sender.is_closed() && self.driver.as_mut().poll(&mut context).is_pending()
    }

    /// Sends a request and reads its answer; gives the connection back too if it can take another request.
    pub async fn exchange(mut self, request: Request<Empty<Bytes>>) -> Result<(Answer, Option<Connection>), NoAnswer> {
        let (answer, is_whole) = {
            let mut answer = pin!(answer(&mut self.sender, request));
            let mut is_closed = false;
            poll_fn(|context| {
                // Before the connection is driven, to hand it the request; after it, to take what it has read. When it
                // is closed, what was read before is still there to be taken.
                if let Poll::Ready(answered) = answer.as_mut().poll(context) {
                    return Poll::Ready(answered);
                }
                is_closed = is_closed || self.driver.as_mut().poll(context).is_ready();
                answer.as_mut().poll(context)
            })
            .await?
        };
        (self.is_used, self.idle_since) = (true, Instant::now());
        let may_go_on = is_whole && self.is_open() && self.sender.is_ready();
        Ok((answer, may_go_on.then_some(self)))
    }
}

/// The answer, and whether that is all of it.
async fn answer(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<(Answer, bool), NoAnswer> {
    let no_head = |error| NoAnswer { status: None, error };
    let (head, mut rest) = sender.send_request(request).await.map_err(no_head)?.into_parts();
    let mut body = Vec::new();
    let mut is_whole = rest.is_end_stream();
    while !is_whole && body.len() <= BODY_MAX {
        let Some(frame) = rest.frame().await else {
            is_whole = true;
            break;
        };
        let status = Some(head.status);
        let frame = frame.map_err(|error| NoAnswer { status, error })?;
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        // Of a chunked answer only the next frame tells that there is none.
        is_whole = rest.is_end_stream();
    }
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body,
    };
    Ok((answer, is_whole))
}
