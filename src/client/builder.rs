//! What a client is built from.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::in_process::InProcess;
use crate::endpoint::DEFAULT_ENDPOINT;

/// The default time for one attempt.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Builds a [`Client`](super::Client); made by [`Client::builder`](super::Client::builder).
///
/// ```
/// use std::time::Duration;
/// use zim_batch::Client;
///
/// let builder = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38")
///     .endpoint("https://zim-api-fra.zego.im".parse()?)
///     .timeout(Duration::from_secs(5));
/// assert!(!format!("{builder:?}").contains("9193"));
/// let client = builder.build()?;
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder builds nothing until `build` is called"]
pub struct ClientBuilder {
    pub(super) app_id: u32,
    pub(super) server_secret: SecretString,
    pub(super) endpoint: Url,
    pub(super) ca_cert: Option<Vec<u8>>,
    pub(super) timeout: Duration,
    pub(super) in_process: Option<Arc<dyn InProcess>>,
}

impl ClientBuilder {
    pub(super) fn new(app_id: u32, server_secret: SecretString) -> ClientBuilder {
        ClientBuilder {
            app_id,
            server_secret,
            endpoint: DEFAULT_ENDPOINT.parse().expect("it is a URL"),
            ca_cert: None,
            timeout: DEFAULT_TIMEOUT,
            in_process: None,
        }
    }

    /// The base URL: `https`, or `http` to a loopback address. Default: [`DEFAULT_ENDPOINT`], `https://zim-api.zego.im`.
    pub fn endpoint(self, endpoint: Url) -> ClientBuilder {
        ClientBuilder { endpoint, ..self }
    }

    /// Trusts these certificates, in PEM, besides the system's.
    pub fn ca_cert(self, pem: Vec<u8>) -> ClientBuilder {
        ClientBuilder {
            ca_cert: Some(pem),
            ..self
        }
    }

    /// The time for one attempt, from the moment the request is handed to an open connection to the last byte of the
    /// answer. Opening the connection may take eight tenths of it besides, at most 8 seconds. Default: [`DEFAULT_TIMEOUT`], 10 seconds.
    pub fn timeout(self, timeout: Duration) -> ClientBuilder {
        ClientBuilder { timeout, ..self }
    }

    /// Sends requests to this server in the same process. For this crate's own tests.
    #[doc(hidden)]
    pub fn in_process(self, server: Arc<dyn InProcess>) -> ClientBuilder {
        ClientBuilder {
            in_process: Some(server),
            ..self
        }
    }

    /// The app's ID.
    pub fn app_id(&self) -> u32 {
        self.app_id
    }

    /// Where requests go.
    pub fn endpoint_url(&self) -> &Url {
        &self.endpoint
    }
}
