//! What a run says to the world: the only contract between the run and its report.
//!
//! The run knows no file, terminal or JSON; the report knows no request. Whatever the report, the bar, the logs and
//! the summary show, they know from these events.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use crate::client::code::Class;

/// Something that happened.
#[derive(Debug)]
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
        clock_ahead: Option<i64>,
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

/// What became of a row: one line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// The user, as sent.
    pub user: String,
    /// The conversation, as sent.
    pub conv: String,
    /// `0` or `2`; of an invalid row, what was read.
    pub conv_type: Cow<'static, str>,
    /// What became of it.
    pub outcome: Outcome,
    /// ZIM's return code of the last answer.
    pub code: Option<i64>,
    /// The HTTP status of the last answer.
    pub http: Option<u16>,
    /// ZIM's message, or what went wrong.
    pub message: String,
    /// ZIM's RequestId of the last answer; may be empty.
    pub request_id: String,
    /// Requests sent for the row.
    pub attempts: u32,
    /// How long the last attempt took from when its request was sent; if it never was, from its beginning.
    pub latency: Option<Duration>,
    /// When the row got its outcome.
    pub finished_at: SystemTime,
}

/// What became of a row, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Cleared.
    Ok,
    /// Not reachable: no such conversation, or not among the user's newest 1000.
    Outside,
    /// Could not be cleared.
    Failed,
    /// Not sent, because it can't be: see the message.
    Invalid,
    /// Not sent, because an earlier row says the same (`--dedupe`).
    Skipped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] = [
        Outcome::Ok,
        Outcome::Outside,
        Outcome::Failed,
        Outcome::Invalid,
        Outcome::Skipped,
    ];

    /// As the report writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Outside => "outside",
            Outcome::Failed => "failed",
            Outcome::Invalid => "invalid",
            Outcome::Skipped => "skipped",
        }
    }

    /// Reads what [`Outcome::as_str`] wrote.
    ///
    /// ```
    /// use zim_batch::event::Outcome;
    ///
    /// assert_eq!(Outcome::parse("outside"), Some(Outcome::Outside));
    /// assert_eq!(Outcome::parse("fine"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
