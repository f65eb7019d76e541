//! The connection to the server: its address and settings from the URL, TLS, and answers of limited length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    ScriptInvocation,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use url::{Position, Url};

use super::super::BoxFuture;
use super::super::error::QuotaError;
use crate::tls;

/// How long to wait for the server: for a connection, and for an answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for the server's part of a TLS handshake: less than [`TIMEOUT`], so that it is told from a connection.
const HANDSHAKE: Duration = Duration::from_millis(800);

/// The longest answer, in bytes. The entries of a few hundred runs are shorter.
const MAX_ANSWER: usize = 1024 * 1024;

pub(super) struct Server {
    address: Address,
    settings: RedisConnectionInfo,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The server, without user and password.
    pub shown: String,
    connection: Mutex<Option<Arc<Connection>>>,
}

/// Where the server is.
enum Address {
    Network(ConnectionAddr),
    /// In this process, for this crate's own tests.
    InProcess(Connect),
}

/// Opens a connection to a server in this process.
pub(super) type Connect = Box<dyn Fn() -> BoxFuture<'static, io::Result<Box<dyn Stream>>> + Send + Sync>;

/// An open connection, until this is dropped.
struct Connection {
    commands: MultiplexedConnection,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Server {
    /// The server at `url`. A certificate of it is trusted by the system's roots, and by the certificates in `ca_cert` (PEM).
    pub fn new(url: &str, ca_cert: Option<&[u8]>) -> Result<Server, QuotaError> {
        let shown = shown(url)?;
        let unusable = |_| QuotaError::Url("it is not the URL of a Redis server");
        let mut url = Url::parse(url).map_err(|_| QuotaError::Url("it is not a URL"))?;
        let is_tls = url.scheme() == "rediss";
        if is_tls {
            // TLS is set up here, as for the requests to ZIM.
            url.set_scheme("redis")
                .map_err(|()| QuotaError::Url("its scheme is not one of these"))?;
        }
        let info = url.into_connection_info().map_err(unusable)?;
        let address = info.addr().clone();
        let tls = match &address {
            ConnectionAddr::Tcp(host, _) if is_tls => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(|_| QuotaError::Url("its host is not the name of a TLS server"))?;
                let config = tls::config(ca_cert).map_err(|error| QuotaError::Refused {
                    server: shown.clone(),
                    why: error.to_string(),
                })?;
                Some((Arc::new(config), name))
            }
            _ => None,
        };
        Ok(Server {
            address: Address::Network(address),
            settings: info.redis_settings().clone(),
            tls,
            shown,
            connection: Mutex::new(None),
        })
    }

    pub fn in_process(connect: Connect) -> Server {
        Server {
            address: Address::InProcess(connect),
            settings: RedisConnectionInfo::default(),
            tls: None,
            shown: "in this process".to_owned(),
            connection: Mutex::new(None),
        }
    }

    /// Calls a script. Returns its answer, and how long that took with the connection open.
    ///
    /// A connection that turns out to be closed is opened anew, once: servers close those that were idle.
    pub async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<(T, Duration), RedisError> {
        loop {
            let (connection, is_new) = self.connection().await?;
            let sent_at = Instant::now();
            match script.invoke_async(&mut connection.commands.clone()).await {
                Ok(answer) => return Ok((answer, sent_at.elapsed())),
                Err(error) => {
                    self.disconnect().await;
                    if is_new || !error.is_connection_dropped() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The next call opens another connection.
    pub async fn disconnect(&self) {
        *self.connection.lock().await = None;
    }

    /// The open connection, or a new one.
    async fn connection(&self) -> Result<(Arc<Connection>, bool), RedisError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = &*connection {
            return Ok((Arc::clone(open), false));
        }
        let opened = timeout(TIMEOUT, self.connect()).await;
        let opened = Arc::new(opened.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??);
        *connection = Some(Arc::clone(&opened));
        Ok((opened, true))
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        let address = match &self.address {
            Address::Network(address) => address,
            Address::InProcess(connect) => return self.greet(Bounded::new(connect().await?)).await,
        };
        let stream = match address {
            ConnectionAddr::Unix(path) => Bounded::new(UnixStream::connect(path).await.map_err(missing)?),
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    None => Bounded::new(stream),
                    Some((config, name)) => {
                        let connector = TlsConnector::from(Arc::clone(config));
                        let handshake = timeout(HANDSHAKE, connector.connect(name.clone(), stream)).await;
                        // A Redis without TLS waits for the end of what it takes for a command.
                        let stalled = |_| io::Error::other("no answer to a TLS handshake; does it speak TLS?");
                        Bounded::new(handshake.map_err(stalled)??)
                    }
                }
            }
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        self.greet(stream).await
    }

    /// Begins to speak on a stream.
    async fn greet(&self, stream: Bounded) -> Result<Connection, RedisError> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
        let (mut commands, driver) = MultiplexedConnection::new_with_config(&self.settings, stream, config).await?;
        let driver = tokio::spawn(driver);
        let connection = Connection {
            commands: commands.clone(),
            driver,
        };
        // A server that asks for a password answers a longer call with a protocol error.
        ::redis::cmd("PING").exec_async(&mut commands).await?;
        Ok(connection)
    }
}

/// A socket that is not there is no server that refuses.
fn missing(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("there is no such socket"),
        _ => error,
    }
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream that fails when more than [`MAX_ANSWER`] is read in a row: an answer is kept in memory until it is complete.
struct Bounded {
    stream: Box<dyn Stream>,
    /// What was read since the last request.
    read: usize,
}

impl Bounded {
    fn new(stream: impl Stream + 'static) -> Bounded {
        Bounded {
            stream: Box::new(stream),
            read: 0,
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read += buffer.filled().len() - before;
        if self.read > MAX_ANSWER {
            return Poll::Ready(Err(io::Error::other("its answer is too long")));
        }
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The server in a URL, without user and password, and whether the URL can be used.
pub(super) fn shown(url: &str) -> Result<String, QuotaError> {
    let url = Url::parse(url).map_err(|_| QuotaError::Url("it is not a URL"))?;
    // Such a password would end the URL's host early, and the rest of it would be shown.
    let rest = match url.scheme() {
        "redis+unix" => url.path(),
        _ => &url[Position::BeforePath..],
    };
    if rest.contains('@') {
        return Err(QuotaError::Url(
            "there is an '@' after the host: in a password, write / as %2F, ? as %3F, # as %23 and @ as %40",
        ));
    }
    match url.scheme() {
        "redis" | "rediss" if url.host_str().is_none_or(str::is_empty) => Err(QuotaError::Url("it has no host")),
        scheme @ ("redis" | "rediss") => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Ok(format!(
                "{scheme}://{}{port}{}",
                url.host_str().unwrap_or_default(),
                url.path()
            ))
        }
        "redis+unix" => Ok(format!("redis+unix://{}", url.path())),
        _ => Err(QuotaError::Url("its scheme is not one of these")),
    }
}
