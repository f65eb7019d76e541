//! What a simulator counts.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts of what a simulator received and how it answered.
///
/// Every request is in exactly one of `refused`, `outage`, `limited` and `accepted`, and every accepted one in exactly
/// one of `ok`, `outside`, `rejected`, `faults` and `reset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// HTTP requests that could be read.
    pub requests: u64,
    /// Requests that broke a rule of the common parameters, or had the wrong path or method.
    pub refused: u64,
    /// Requests that arrived during a configured outage.
    pub outage: u64,
    /// Requests over the cap.
    pub limited: u64,
    /// Requests within the cap.
    pub accepted: u64,
    /// Accepted and answered 0, whatever the `SubCode`s in the answer.
    pub ok: u64,
    /// Accepted and answered 660800002.
    pub outside: u64,
    /// Accepted and answered with another code that is due to the request: a body or business parameter that is not
    /// valid, a user that is not registered.
    pub rejected: u64,
    /// Accepted and answered with an injected code.
    pub faults: u64,
    /// Accepted, and then the connection was reset.
    pub reset: u64,
    /// Clears that found unread messages: as many as there are events. Clears whose answer was lost are among them.
    pub cleared: u64,
    /// Connections closed because they did not carry HTTP.
    pub unreadable: u64,
    /// The most correctly signed requests that arrived within any one second, whether they were within the cap or not;
    /// competing traffic and requests during an outage are not counted.
    pub peak_1s: u32,
    /// How many correctly signed requests each Action had, whether they were within the cap or not; requests during an
    /// outage are not counted.
    pub actions: BTreeMap<&'static str, u64>,
    /// How often each return code was sent.
    pub codes: BTreeMap<u32, u64>,
}
