//! Why the server can't be used, in words; and whether waiting can help.

use std::error::Error as StdError;
use std::sync::Arc;
use std::{fmt, io};

use ::redis::{ErrorKind, RedisError};

use super::server::TIMEOUT;
use crate::text::one_line;

/// The longest text of the server that is shown, in characters.
const MAX_TEXT: usize = 200;

/// Why a call has failed.
pub(super) enum Failure {
    /// It may get well by waiting, as far as is known.
    Passing(String),
    /// Somebody has to change something.
    Lasting(String),
    /// The certificate is not trusted.
    Untrusted(String),
}

impl Failure {
    pub fn of(error: &RedisError) -> Failure {
        if let Some(why) = refusal(error) {
            Failure::Lasting(why)
        } else if let Some(failure) = tls_failure(error) {
            failure
        } else if error.is_timeout() {
            Failure::Passing(format!("no answer within {} s", TIMEOUT.as_secs()))
        } else if error.is_connection_refusal() {
            Failure::Passing("connection refused".into())
        } else {
            Failure::Passing(said(error))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Passing(why) | Failure::Lasting(why) => f.write_str(why),
            Failure::Untrusted(why) => write!(f, "its certificate is not trusted ({why})"),
        }
    }
}

/// What an access list must allow, as Redis writes it.
const RIGHTS: &str =
    "~zim-batch-* +ping +eval +evalsha +script|load +time +get +set +hset +hdel +hgetall +hexists +pexpire";

fn lacks_right(error: &RedisError) -> String {
    format!("its user lacks a right ({}); it needs {RIGHTS}", said(error))
}

/// What the server refuses, for a reason that does not pass.
fn refusal(error: &RedisError) -> Option<String> {
    let code = error.code().unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    Some(match (error.kind(), code) {
        (_, "NOPERM") => lacks_right(error),
        // A right that a command in a script lacks has no separate code.
        (_, _) if detail.contains("user executing the script can't") => lacks_right(error),
        (ErrorKind::AuthenticationFailed, "") => {
            "it refuses the user or the password (authentication failed)".to_owned()
        }
        (ErrorKind::AuthenticationFailed, code) | (_, code @ ("NOAUTH" | "WRONGPASS" | "DENIED")) => {
            format!("it refuses the user or the password ({code})")
        }
        (_, "MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN") => {
            format!("it is a node of a Redis Cluster ({code}), which can't be used; use the URL of a single server")
        }
        // By the scripts. The detail is the key.
        (_, "OTHERTYPE") => {
            let key = cut(detail);
            format!("the key {key} has something else in it; remove it (DEL {key})")
        }
        (_, "READONLY" | "MASTERDOWN") => {
            format!("it is a replica, which can't be written to ({code}); use the URL of the primary")
        }
        (ErrorKind::Parse, _) => "its answer is not Redis's: is it another server?".to_owned(),
        _ if detail.contains("DB index is out of range") || detail.contains("invalid DB index") => {
            "it has no database of this number".to_owned()
        }
        _ if detail.contains("SELECT is not allowed in cluster mode") => {
            "it is a node of a Redis Cluster, which can't be used; use the URL of a single server".to_owned()
        }
        _ if detail.contains("unknown command") => {
            "it does not know a command that is needed; if it is a Sentinel, use the URL of the primary itself"
                .to_owned()
        }
        _ => return None,
    })
}

/// A failure of TLS: a certificate that is not trusted, or a server that does not speak TLS.
fn tls_failure(error: &RedisError) -> Option<Failure> {
    // rustls's error is wrapped in an io::Error, and that in an Arc; the `source()` of both skips what they wrap.
    let mut cause = error.source();
    let error = loop {
        let current = cause?;
        if let Some(error) = current.downcast_ref::<rustls::Error>() {
            break error;
        }
        cause = if let Some(shared) = current.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
            Some(&**shared)
        } else if let Some(wrapped) = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped)
        } else {
            current.source()
        };
    };
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => Failure::Untrusted(reason.to_string()),
        rustls::Error::InvalidMessage(_) => {
            Failure::Lasting("it does not speak TLS; write its URL with redis://".to_owned())
        }
        error => Failure::Lasting(format!("TLS fails ({error})")),
    })
}

/// What the server said, or what the system says about the connection.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => {
            // A command in a script is followed by the script's hash and line.
            let detail = detail.split(" script: ").next().unwrap_or_default();
            cut(&format!("{code} {detail}"))
        }
        (Some(code), None) => cut(code),
        (None, _) => match error.source() {
            Some(cause) => cut(&cause.to_string()),
            None => "connection closed by the server".to_owned(),
        },
    }
}

fn cut(text: &str) -> String {
    let short: String = text.trim().chars().take(MAX_TEXT).collect();
    one_line(&short).into_owned()
}
