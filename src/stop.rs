//! Why and how a run stops before its last row.
//!
//! A stop has two strengths. *Draining* takes no more rows and sends nothing more; what is in flight is finished, which
//! takes at most the time for one attempt. *At once* gives up what is in flight too. The first reason stays the
//! run's reason, and a later one can only make the stop stronger; but for a report that can't be written, which matters
//! more than any other.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Why a run stopped before its last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// A signal, by its number: SIGINT 2, SIGTERM 15, SIGHUP 1.
    Signal(i32),
    /// `--max-duration` is over.
    MaxDuration(Duration),
    /// The service was unreachable for `--give-up-after`; what the last attempt came to.
    GaveUp {
        /// The limit.
        after: Duration,
        /// What the last attempt came to.
        why: String,
    },
    /// Another run had the turn to use the app's quota for `--give-up-after`.
    NoTurn(Duration),
    /// `--max-failures` was reached.
    MaxFailures(u64),
    /// The first rows were all rejected with this answer.
    AllRejected {
        /// How many there were.
        rows: u64,
        /// What was answered.
        why: String,
    },
    /// No row can succeed: the app, the secret, the signature or the server's certificate.
    Fatal {
        /// The line of the row that showed it.
        line: u64,
        /// What was answered, and what to do.
        why: String,
    },
    /// The server's certificate was trusted, and then was not for `--give-up-after`.
    Untrusted {
        /// The limit.
        after: Duration,
        /// Why it is not trusted.
        why: String,
    },
    /// The report can't be written; where, why, and what to do.
    ReportFailed(String),
    /// The input could not be read to its end; why.
    InputFailed(String),
    /// A part of this program failed; which, and how.
    Bug(String),
}

impl StopReason {
    /// Whether the run stopped because it was told to stop when things go so, or so long.
    pub fn is_policy(&self) -> bool {
        matches!(
            self,
            StopReason::MaxDuration(_)
                | StopReason::NoTurn(_)
                | StopReason::MaxFailures(_)
                | StopReason::AllRejected { .. }
        )
    }

    /// The process's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            StopReason::GaveUp { .. }
            | StopReason::NoTurn(_)
            | StopReason::MaxFailures(_)
            | StopReason::AllRejected { .. } => 5,
            StopReason::Fatal { .. } | StopReason::Untrusted { .. } => 6,
            StopReason::MaxDuration(_) => 7,
            StopReason::ReportFailed(_) => 74,
            StopReason::InputFailed(_) => 4,
            StopReason::Bug(_) => 1,
            StopReason::Signal(number) => u8::try_from(128 + number).unwrap_or(1),
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Signal(2) => f.write_str("SIGINT"),
            StopReason::Signal(15) => f.write_str("SIGTERM"),
            StopReason::Signal(1) => f.write_str("SIGHUP"),
            StopReason::Signal(number) => write!(f, "signal {number}"),
            StopReason::MaxDuration(limit) => {
                write!(f, "--max-duration {} is over", humantime::format_duration(*limit))
            }
            StopReason::GaveUp { after, why } => write!(
                f,
                "the service was unreachable, or took no request, for {} (--give-up-after); last: {why}",
                humantime::format_duration(*after)
            ),
            StopReason::Untrusted { after, why } => {
                write!(f, "for {} (--give-up-after) {why}", humantime::format_duration(*after))
            }
            StopReason::NoTurn(limit) => write!(
                f,
                "other runs have used the app's quota for {} (--give-up-after)",
                humantime::format_duration(*limit)
            ),
            StopReason::MaxFailures(1) => f.write_str("1 row has failed (--max-failures)"),
            StopReason::MaxFailures(rows) => write!(f, "{rows} rows have failed (--max-failures)"),
            StopReason::AllRejected { rows, why } => write!(f, "the first {rows} rows were all rejected alike: {why}"),
            StopReason::Fatal { line, why } => write!(f, "row {line}: {why}"),
            StopReason::ReportFailed(why) | StopReason::InputFailed(why) | StopReason::Bug(why) => f.write_str(why),
        }
    }
}

/// What is said of a part of the program that panicked.
pub(crate) fn bug(part: &str, panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!(
        "{part} failed, which is a bug of zim-batch, please report it: {}",
        text.unwrap_or("it panicked")
    )
}

/// Asks a run to stop, and tells its parts that it was asked. Clones share one state.
///
/// ```
/// use zim_batch::stop::{StopReason, StopHandle};
///
/// let stopper = StopHandle::new();
/// assert_eq!(stopper.reason(), None);
/// stopper.drain(StopReason::Signal(2));
/// stopper.at_once(StopReason::Signal(15));
/// assert_eq!(stopper.reason(), Some(StopReason::Signal(2)));
/// ```
#[derive(Debug, Clone)]
pub struct StopHandle {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    reason: Option<StopReason>,
    at_once: bool,
}

impl StopHandle {
    /// Nobody has asked yet.
    pub fn new() -> StopHandle {
        StopHandle {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// Take no more rows, send nothing more, finish what is in flight. `true` if this is the first stop.
    pub fn drain(&self, reason: StopReason) -> bool {
        self.state.send_if_modified(|state| {
            let first = state.reason.is_none();
            state.reason.get_or_insert(reason);
            first
        })
    }

    /// Give up what is in flight too.
    pub fn at_once(&self, reason: StopReason) {
        self.state.send_modify(|state| {
            state.reason.get_or_insert(reason);
            state.at_once = true;
        });
    }

    /// Give up what is in flight too, for nothing that comes of it could be written down. Whatever the reason was, this
    /// is the one that matters.
    pub fn report_failed(&self, why: String) {
        self.state.send_modify(|state| {
            state.reason = Some(StopReason::ReportFailed(why));
            state.at_once = true;
        });
    }

    /// Finish what is in flight, because a part of the program has failed. Whatever the reason was, this is the one that
    /// matters, unless the report can't be written.
    pub(crate) fn bug(&self, part: &str, panic: &(dyn Any + Send)) {
        self.state.send_modify(|state| {
            if !matches!(state.reason, Some(StopReason::ReportFailed(_))) {
                state.reason = Some(StopReason::Bug(bug(part, panic)));
            }
        });
    }

    /// The reason: the first one given, unless the report has failed.
    pub fn reason(&self) -> Option<StopReason> {
        self.state.borrow().reason.clone()
    }

    /// Whether a stop was asked for.
    pub fn is_asked(&self) -> bool {
        self.state.borrow().reason.is_some()
    }

    /// Completes when a stop is asked for, of either strength.
    pub async fn asked(&self) {
        self.wait_for(|state| state.reason.is_some()).await;
    }

    /// Completes when what is in flight is to be given up.
    pub async fn asked_at_once(&self) {
        self.wait_for(|state| state.at_once).await;
    }

    async fn wait_for(&self, condition: impl FnMut(&State) -> bool) {
        let waited_for = self.state.subscribe().wait_for(condition).await.is_ok();
        debug_assert!(waited_for, "the sender lives as long as self");
    }
}

impl Default for StopHandle {
    fn default() -> StopHandle {
        StopHandle::new()
    }
}
