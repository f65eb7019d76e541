//! What a run says to the world: the only contract between the run and what records or shows it.
//!
//! The run knows no file, terminal or JSON; the report knows no request. Whatever the report, the summary and the
//! [`Observer`](crate::run::Observer)s of a run show, they know from these events.

use std::time::Duration;

use tokio::time::Instant;

use crate::code::Class;
use crate::row::Record;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request was handed to an open connection.
    Sent {
        /// When.
        at: Instant,
        /// Not the row's first.
        is_retry: bool,
    },
    /// An attempt came to its end: a request was answered, or it is certain that it won't be, or none could be sent.
    Answered {
        /// What the batch does about it.
        class: Class,
        /// ZIM's return code, if there was one.
        code: Option<i64>,
        /// How long it took from when it was sent; `None` if it never was.
        latency: Option<Duration>,
        /// How far this machine's clock is ahead of the server's, in seconds.
        clock_skew: Option<i64>,
        /// What went wrong, if the service failed: no answer, or none that is about the row.
        trouble: Option<String>,
    },
    /// A row waits for its next attempt.
    Retrying,
    /// A row has waited, and its next attempt begins.
    Waited,
    /// A row has got its outcome. Boxed, because it is much larger than the others.
    Settled(Box<Record>),
    /// An earlier run has settled this many rows more.
    AlreadyDone(u64),
    /// A row was taken, and a stop came before it got an outcome.
    NotRun {
        /// It was waiting for its next attempt.
        was_retrying: bool,
    },
    /// The service is not there; the run sends single probes until it is.
    Held {
        /// What the last attempts came to.
        why: String,
    },
    /// The service is back.
    Released,
}
