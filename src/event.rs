//! What happens in a run: the only contract between the run and whatever records or shows it.
//!
//! The run knows no terminal and no JSON; the report knows no request. Everything that the report, the summary and the
//! [`Observer`](crate::run::Observer)s of a run show comes from these events.

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
    /// An attempt ended: with an answer, without one, or because no request could be sent.
    Answered {
        /// What the batch does about it.
        class: Class,
        /// ZIM's return code, if there was one.
        code: Option<i64>,
        /// How long it took since its request was sent; `None` if none was.
        latency: Option<Duration>,
        /// How far this machine's clock is ahead of the server's, in seconds.
        clock_skew: Option<i64>,
        /// What went wrong, if the service failed: no answer, or one that is not about the row.
        trouble: Option<String>,
    },
    /// A row waits for its next attempt.
    Retrying,
    /// A row has waited, and its next attempt begins.
    Waited,
    /// A row got its outcome. Boxed, because it is much larger than the others.
    Settled(Box<Record>),
    /// This many more rows were done by an earlier run.
    AlreadyDone(u64),
    /// A row was read, and the run stopped before it got an outcome.
    NotRun {
        /// It was waiting for its next attempt.
        was_retrying: bool,
    },
    /// The run is on hold: the service is unavailable, and single probes are sent until it answers.
    Held {
        /// The error of the last attempt.
        why: String,
    },
    /// The service answers again, and the run continues.
    Released,
}
