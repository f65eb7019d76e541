//! Why a client can't be built, and why a call fails.

use std::fmt;

use super::verdict::Verdict;
use crate::code::Class;
use crate::kind::ErrorKind;
use crate::tls::TlsError;

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

impl From<TlsError> for BuildError {
    fn from(error: TlsError) -> BuildError {
        match error {
            TlsError::CaCert => BuildError::CaCert,
            TlsError::Setup(why) => BuildError::Tls(why),
        }
    }
}

impl From<&BuildError> for ErrorKind {
    fn from(error: &BuildError) -> ErrorKind {
        match error {
            BuildError::CaCert | BuildError::Tls(_) | BuildError::Endpoint | BuildError::Proxy(_) => {
                ErrorKind::Settings
            }
        }
    }
}

/// Why a single call failed: a refusal, another answer, or none.
///
/// Its [class](CallError::class) says what to do: a call of class [`Transient`](Class::Transient) or
/// [`Limited`](Class::Limited) may succeed later, one of class [`Rejected`](Class::Rejected) will not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError(pub(super) Verdict);

impl CallError {
    /// What the answer means. [`Class::Outside`]: the conversation does not exist, or is not among the user's newest 1000.
    pub fn class(&self) -> Class {
        self.0.class
    }

    /// The answer in detail: return code, HTTP status, message, RequestId, `Retry-After`.
    pub fn verdict(&self) -> &Verdict {
        &self.0
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.code {
            Some(code) => write!(f, "ZIM answered with code {code}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}
