//! Classifies an answer: status, body or transport error → [`Verdict`], for every combination.
//!
//! Every documented answer is HTTP 200 with a JSON `Code`; no document mentions another status, but a gateway may send
//! one. So the JSON `Code` decides, whatever the status; the HTTP status decides only without a `Code`.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::code::{self, Class};
use crate::text::is_invisible;

/// The classified result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the run handles it.
    pub class: Class,
    /// ZIM's return code, if the answer had one.
    pub code: Option<i64>,
    /// The HTTP status, if there was an answer.
    pub http: Option<u16>,
    /// ZIM's message, or the error; without control characters.
    pub message: String,
    /// ZIM's RequestId, as text because it exceeds 2^53; empty if there was none.
    pub request_id: String,
    /// How long the server asked to wait (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Why there was no answer, if there was none.
    pub transport: Option<TransportError>,
}

impl Verdict {
    /// Whether a rate limit in front of ZIM may be the reason: HTTP 503 (nginx, APISIX) or 403 (HAProxy, Django), and no code of
    /// ZIM's. A service that is unavailable answers so too.
    pub fn may_be_limit(&self) -> bool {
        self.code.is_none() && matches!(self.http, Some(503 | 403))
    }
}

/// Why an attempt got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection: the name doesn't resolve, the connection is refused, or there is no route.
    Unreachable,
    /// No complete answer within the time-out.
    TimedOut,
    /// The connection broke before the answer was complete.
    Broken,
    /// This machine could not open another connection: no file descriptors, ports or memory for it.
    Local,
    /// The server's certificate is not trusted; that of its authority ([`ca_cert`](crate::ClientBuilder::ca_cert)) may help.
    Untrusted,
    /// The server's certificate is not trusted, because it is that of an authority and not of a server.
    NotAServer,
    /// The proxy requires a user and a password, or refuses these.
    ProxyRefused,
}

impl TransportError {
    /// Whether the server's certificate is why there was no answer.
    pub fn is_about_certificate(self) -> bool {
        matches!(self, TransportError::Untrusted | TransportError::NotAServer)
    }
}

/// The fields of ZIM's answer; others are ignored.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "Code", borrow)]
    code: &'a RawValue,
    #[serde(rename = "Message", borrow)]
    message: Option<&'a RawValue>,
    #[serde(rename = "RequestId", borrow)]
    request_id: Option<&'a RawValue>,
}

/// Classifies a complete answer: its HTTP status, its body, and `Retry-After`.
///
/// ```
/// use zim_batch::client::verdict::judge;
/// use zim_batch::code::Class;
///
/// let verdict = judge(200, br#"{"Code":660800002,"Message":"no such conversation"}"#, None);
/// assert_eq!(verdict.class, Class::Outside);
/// let verdict = judge(502, b"<html>", None);
/// assert_eq!((verdict.class, verdict.message.as_str()), (Class::Transient, "HTTP 502 Bad Gateway"));
/// ```
pub fn judge(http: u16, body: &[u8], retry_after: Option<Duration>) -> Verdict {
    // Lossy: a message in another encoding must not hide the code.
    let body = String::from_utf8_lossy(body);
    let body = body.trim_start_matches('\u{feff}').trim_ascii();
    // Serde accepts an array as the fields in order, so `[0]` would be success.
    let parsed = body
        .starts_with('{')
        .then(|| serde_json::from_str::<Body>(body).ok())
        .flatten();
    let code = parsed.as_ref().and_then(|body| parse_code(body.code));
    let (message, request_id) = match (&parsed, code) {
        (Some(body), Some(_)) => (text(body.message), text(body.request_id)),
        _ => (status_message(http), String::new()),
    };
    Verdict {
        class: code.map_or_else(|| class_of_status(http), code::class_of),
        code,
        http: Some(http),
        message,
        request_id,
        retry_after,
        transport: None,
    }
}

/// Classifies an attempt without a complete answer. `http` is the status, if at least the head arrived.
pub fn no_answer(transport: TransportError, message: String, http: Option<u16>) -> Verdict {
    Verdict {
        class: match transport {
            TransportError::Unreachable | TransportError::TimedOut | TransportError::Broken | TransportError::Local => {
                Class::Transient
            }
            TransportError::Untrusted | TransportError::NotAServer | TransportError::ProxyRefused => Class::Fatal,
        },
        code: None,
        http,
        message: clean(&message),
        request_id: String::new(),
        retry_after: None,
        transport: Some(transport),
    }
}

/// The class of an HTTP status that came without a ZIM code.
fn class_of_status(http: u16) -> Class {
    match http {
        429 => Class::Limited,
        // Request Timeout, Too Early, and the server's errors; and Forbidden, which some rate limits answer.
        403 | 408 | 425 | 500..600 => Class::Transient,
        // Anything else is not from ZIM: a portal page, a redirect (never followed).
        _ => Class::Unknown,
    }
}

fn status_message(http: u16) -> String {
    let reason = StatusCode::from_u16(http)
        .ok()
        .and_then(|status| status.canonical_reason());
    let status = match reason {
        Some(reason) => format!("HTTP {http} {reason}"),
        None => format!("HTTP {http}"),
    };
    match http {
        200..300 => format!("{status}, but the answer is not ZIM's (no Code in it)"),
        300..400 => format!("{status}; redirects are not followed"),
        _ => status,
    }
}

/// Parses `Code`: a number, or a numeric string as some gateways write it.
fn parse_code(value: &RawValue) -> Option<i64> {
    // A number is not tried as a string first: building that error costs more than the rest.
    match value.get().parse() {
        Ok(code) => Some(code),
        Err(_) => serde_json::from_str::<String>(value.get()).ok()?.trim().parse().ok(),
    }
}

/// The text of a JSON string; any other value verbatim, so that a number of any length keeps its digits.
fn text(value: Option<&RawValue>) -> String {
    let raw = value.map_or("null", RawValue::get);
    match serde_json::from_str::<Option<String>>(raw) {
        Ok(text) => clean(&text.unwrap_or_default()),
        Err(_) => clean(raw),
    }
}

/// Server text made safe for a CSV field and a terminal: invisible characters become spaces.
fn clean(text: &str) -> String {
    text.replace(is_invisible, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_code(code: i64) -> Vec<u8> {
        format!(r#"{{"Code":{code},"Message":"m","RequestId":"343649807833778782"}}"#).into_bytes()
    }

    #[test]
    fn the_code_decides_whatever_the_status() {
        for status in 100..=599 {
            for known in code::TABLE {
                let verdict = judge(status, &with_code(known.code), None);
                assert_eq!(verdict.class, known.class, "code {} with HTTP {status}", known.code);
                assert_eq!(verdict.code, Some(known.code));
                assert_eq!(verdict.http, Some(status));
                assert_eq!(verdict.request_id, "343649807833778782");
            }
            assert_eq!(judge(status, &with_code(987_654), None).class, Class::Unknown);
        }
    }

    #[test]
    fn without_a_code_every_status_has_its_class_and_none_is_success() {
        for status in 100..=599 {
            let expected = match status {
                429 => Class::Limited,
                403 | 408 | 425 | 500..=599 => Class::Transient,
                _ => Class::Unknown,
            };
            for body in [
                &b""[..],
                b"<html>busy</html>",
                br#"{"Code":"#,
                br#"{"code":0}"#,
                b"[]",
                b"0",
                b"\xff",
            ] {
                let verdict = judge(status, body, None);
                assert_eq!(verdict.class, expected, "HTTP {status}");
                assert_eq!(verdict.code, None);
                assert!(
                    verdict.message.starts_with(&format!("HTTP {status}")),
                    "{}",
                    verdict.message
                );
            }
        }
    }

    #[test]
    fn a_code_may_be_a_numeric_string_and_nothing_else() {
        let class = |body: &str| judge(200, body.as_bytes(), None).class;
        assert_eq!(class(r#"{"Code":"0"}"#), Class::Ok);
        assert_eq!(class(r#"{"Code":" 660800002 ","More":{"x":[1]}}"#), Class::Outside);
        for odd in ["null", "true", "[0]", "{}", r#""zero""#, r#""""#, "0.5", "1e999"] {
            assert_eq!(class(&format!(r#"{{"Code":{odd}}}"#)), Class::Unknown, "{odd}");
        }
    }

    #[test]
    fn unusual_messages_and_request_ids_don_t_hide_the_code() {
        let verdict = judge(
            200,
            br#"{"Code":0,"Message":null,"RequestId":343649807833778782}"#,
            None,
        );
        assert_eq!(
            (verdict.class, verdict.request_id.as_str()),
            (Class::Ok, "343649807833778782")
        );
        let verdict = judge(200, br#"{"Code":2,"Message":"a\nb\u0000\u202ec\u001b[31m"}"#, None);
        assert_eq!(verdict.message, "a b  c [31m");
        let not_utf8 = judge(200, b"{\"Code\":0,\"Message\":\"\xb3\xc9\xb9\xa6\"}", None);
        assert_eq!(not_utf8.class, Class::Ok);
    }

    #[test]
    fn only_an_untrusted_certificate_among_transport_errors_ends_the_run() {
        for (transport, class) in [
            (TransportError::Unreachable, Class::Transient),
            (TransportError::TimedOut, Class::Transient),
            (TransportError::Broken, Class::Transient),
            (TransportError::Untrusted, Class::Fatal),
            (TransportError::NotAServer, Class::Fatal),
        ] {
            assert_eq!(no_answer(transport, "m".into(), None).class, class);
        }
    }
}
