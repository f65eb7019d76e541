//! Why there is no answer, in terms that operators know, and without any URL.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use super::proxy::ProxyName;
use super::verdict::{self, TransportError, Verdict};
use crate::text::causes;

const INCOMPLETE: &str = "connection closed before the answer was complete";

/// Why a request failed, and what is needed to explain it.
pub(super) struct Failure<'a> {
    pub error: reqwest::Error,
    /// The HTTP status, if at least the head of an answer arrived.
    pub http: Option<u16>,
    /// The proxy, if one is used.
    pub proxy: Option<&'a ProxyName>,
    /// The time-out for opening a connection.
    pub connect_timeout: Duration,
}

impl Failure<'_> {
    pub fn verdict(&self) -> Verdict {
        if self.error.is_connect() {
            self.connect_failed()
        } else if self.error.is_builder() {
            verdict::no_answer(TransportError::Broken, "the URL would be too long".into(), None)
        } else {
            self.exchange_failed()
        }
    }

    /// No connection could be opened.
    fn connect_failed(&self) -> Verdict {
        if let Some((transport, why)) = causes(&self.error).find_map(certificate_error) {
            let message = format!("the server's certificate is not trusted: {why}");
            return verdict::no_answer(transport, message, None);
        }
        // hyper-util's error for tunnels can't be named outside of it.
        let is = |text: &str| causes(&self.error).any(|cause| cause.to_string() == text);
        if let Some(proxy) = self.proxy
            && is("tunnel error: proxy authorization required")
        {
            let variable = proxy.variable;
            let message = format!(
                "{proxy} requires a user and a password (HTTP 407); set the right ones in {variable}, as in \
                 {variable}=http://user:password@host:port"
            );
            return verdict::no_answer(TransportError::ProxyRefused, message, None);
        }
        if let Some(message) = causes(&self.error).find_map(local_error) {
            return verdict::no_answer(TransportError::Local, message, None);
        }
        let refused_by_socks = ["credentials not accepted", "does not support user/pass authentication"];
        if let Some(proxy) = self.proxy
            && causes(&self.error).any(|cause| refused_by_socks.iter().any(|text| cause.to_string().contains(text)))
        {
            let message = format!("{proxy} requires a user and a password, or refuses these");
            return verdict::no_answer(TransportError::ProxyRefused, message, None);
        }
        let message = match io_error_name(&self.error) {
            _ if self.error.is_timeout() => format!(
                "can't connect: no connection within {}",
                humantime::format_duration(self.connect_timeout)
            ),
            _ if is("tunnel error: unsuccessful") => {
                "can't connect: the proxy refuses or can't reach the endpoint".into()
            }
            Some(name) => name,
            None => format!("can't connect: {}", root_cause(&self.error)),
        };
        let through = self.proxy.map(|proxy| format!(", through {proxy}"));
        verdict::no_answer(
            TransportError::Unreachable,
            message + &through.unwrap_or_default(),
            None,
        )
    }

    /// The connection broke before the answer was complete.
    fn exchange_failed(&self) -> Verdict {
        let hyper = causes(&self.error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
        let message = io_error_name(&self.error).unwrap_or_else(|| match root_cause(&self.error).to_string() {
            _ if hyper.is_some_and(hyper::Error::is_incomplete_message) => INCOMPLETE.to_owned(),
            cause if hyper.is_some_and(hyper::Error::is_parse) => format!("the answer is not HTTP ({cause})"),
            cause => cause,
        });
        verdict::no_answer(TransportError::Broken, message, self.http)
    }
}

/// Which local resource for another connection is exhausted.
fn local_error(cause: &(dyn StdError + 'static)) -> Option<String> {
    match cause.downcast_ref::<io::Error>()?.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some("too many open files on this machine (ulimit -n)".to_owned()),
        libc::EADDRNOTAVAIL => Some("no local address or port is free for another connection".to_owned()),
        libc::ENOBUFS | libc::ENOMEM => Some("no memory is left on this machine for another connection".to_owned()),
        _ => None,
    }
}

/// The usual name of an I/O error, if it has one.
fn io_error_name(error: &(dyn StdError + 'static)) -> Option<String> {
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

/// Why a certificate is not trusted, and what to do about it.
fn certificate_error(cause: &(dyn StdError + 'static)) -> Option<(TransportError, String)> {
    // rustls's error is wrapped in one io::Error or several, whose `source()` skips the wrapped error.
    let mut inner = cause;
    while let Some(wrapped) = inner.downcast_ref::<io::Error>().and_then(|error| error.get_ref()) {
        inner = wrapped;
    }
    let rustls::Error::InvalidCertificate(reason) = inner.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(match reason.to_string() {
        // The inner error is webpki's, which is not a dependency of this crate.
        text if text.contains("CaUsedAsEndEntity") => (
            TransportError::NotAServer,
            "it is a certificate of an authority, as `openssl req -x509` makes by default, not of a server; make one with \
             CA:FALSE (openssl req -x509 … -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=…)"
                .to_owned(),
        ),
        text => (
            TransportError::Untrusted,
            format!("{text}; check the endpoint, or trust its CA's certificate"),
        ),
    })
}

fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}
