//! Why a client can't be built.

/// Why a client can't be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The PEM text has no readable certificate.
    #[error("no certificate could be read from it; it must contain PEM blocks that begin with BEGIN CERTIFICATE")]
    CaCert,
    /// TLS could not be set up, usually because the system has no root certificates.
    #[error("TLS could not be set up: {0}; if the system has no root certificates, install ca-certificates")]
    Tls(String),
    /// The endpoint is neither `https` nor `http` to a loopback address.
    #[error("the endpoint can't be used; it must be an https URL, or http to a loopback address")]
    Endpoint,
    /// The environment names a proxy that can't be used; which variable.
    #[error(
        "{0} names a proxy that can't be used, and without it signed requests would bypass the intended proxy; it must be \
         a URL that begins with http://, https://, socks4://, socks4a://, socks5:// or socks5h://, with special \
         characters in the user and the password percent-encoded (a space is %20, an @ is %40); or unset {0}"
    )]
    Proxy(&'static str),
}
