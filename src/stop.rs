//! Why and how a run stops before its last row.
//!
//! A stop has two strengths. *Draining* starts no more rows and no more requests, and finishes the requests in flight, which
//! takes at most the time for one attempt. *Aborting* gives those up too. The first reason remains the run's reason, and a
//! later one can only make the stop stronger. Exceptions are a bug and a report that can't be written: they replace it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::row::Subject;
use crate::text::{clock, with_causes};

/// Why a run stopped before its last row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// A signal, by its number: SIGINT 2, SIGTERM 15, SIGHUP 1.
    Signal(i32),
    /// [`StopHandle::cancel`] was called.
    Cancelled,
    /// The run has reached its maximum duration.
    MaxDuration(Duration),
    /// The run was to last until this time.
    Until(SystemTime),
    /// The service was unreachable for [`Limits::give_up_after`](crate::run::Limits::give_up_after).
    GaveUp {
        /// The limit.
        after: Duration,
        /// The result of the last attempt.
        why: String,
    },
    /// The quota that runs share could not be used for so long.
    NoQuota {
        /// The limit.
        after: Duration,
        /// Why not.
        why: String,
    },
    /// So many rows and users have failed, which together is the limit.
    MaxFailures {
        /// Rows that could not be cleared.
        rows: u64,
        /// Users that could not be listed, and lookups.
        users: u64,
    },
    /// The first rows, or the first users, were all rejected with this answer.
    AllRejected {
        /// Whether they were rows or users.
        subject: Subject,
        /// How many there were.
        rows: u64,
        /// What was answered.
        why: String,
    },
    /// No row can succeed: the app, the secret, the signature or the server's certificate.
    Fatal {
        /// The line of the row that showed it.
        line: u64,
        /// The server's certificate would be trusted if that of its authority were: see
        /// [`ca_cert`](crate::ClientBuilder::ca_cert).
        unknown_ca: bool,
        /// What was answered, and what to do.
        why: String,
    },
    /// The server's certificate was trusted, and then was not for as long as `GaveUp`'s limit.
    Untrusted {
        /// The limit.
        after: Duration,
        /// The server's certificate would be trusted if that of its authority were: see
        /// [`ca_cert`](crate::ClientBuilder::ca_cert).
        unknown_ca: bool,
        /// Why it is not trusted.
        why: String,
    },
    /// The report can't be written; where and why, a [`ReportError`](crate::journal::ReportError).
    ReportFailed(Cause),
    /// The input could not be read to its end; where and why, an [`InputError`](crate::rows::InputError).
    InputFailed(Cause),
    /// A part of this crate failed, which is a bug; which, and how.
    Bug(String),
    /// Nothing stopped the run, and yet rows were left over: a bug too.
    RowsLeft,
}

/// What kind of reason it is, to decide by. [`StopReason::kind`] returns it.
///
/// There may be new reasons in any version, each of one of these kinds. So this enum is exhaustive on purpose, as
/// [`ErrorKind`](crate::ErrorKind) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopKind {
    /// A signal, by its number. Resume the run when it suits.
    Signal(i32),
    /// The program that embeds this crate has [cancelled](StopHandle::cancel) it. Resume the run when it suits.
    Cancelled,
    /// The run has reached its time limit. Resume it when there is time again.
    TimeLimit,
    /// The service or the rows failed as long or as often as the run's [`Limits`](crate::Limits) allow. Resume the run when
    /// the cause is gone.
    Policy,
    /// No row can succeed, because ZIM rejects the app, the secret or the signature, or because the server or the proxy
    /// can't be used as it is set up. Resume the run when that is corrected.
    Rejected,
    /// The rest of the rows can't be read, or a row is not the one that was recorded.
    Input,
    /// A result can't be written. Resume the run when it can be.
    Output,
    /// A bug in this crate.
    Bug,
}

impl StopReason {
    /// What kind of reason it is.
    pub fn kind(&self) -> StopKind {
        match self {
            StopReason::Signal(number) => StopKind::Signal(*number),
            StopReason::Cancelled => StopKind::Cancelled,
            StopReason::MaxDuration(_) | StopReason::Until(_) => StopKind::TimeLimit,
            StopReason::GaveUp { .. }
            | StopReason::NoQuota { .. }
            | StopReason::MaxFailures { .. }
            | StopReason::AllRejected { .. } => StopKind::Policy,
            StopReason::Fatal { .. } | StopReason::Untrusted { .. } => StopKind::Rejected,
            StopReason::InputFailed(_) => StopKind::Input,
            StopReason::ReportFailed(_) => StopKind::Output,
            StopReason::Bug(_) | StopReason::RowsLeft => StopKind::Bug,
        }
    }

    /// Whether a configured limit ended the run, rather than a signal, an outage or an error.
    pub fn is_policy(&self) -> bool {
        matches!(
            self,
            StopReason::MaxDuration(_)
                | StopReason::Until(_)
                | StopReason::NoQuota { .. }
                | StopReason::MaxFailures { .. }
                | StopReason::AllRejected { .. }
        )
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::Signal(2) => f.write_str("SIGINT"),
            StopReason::Signal(15) => f.write_str("SIGTERM"),
            StopReason::Signal(1) => f.write_str("SIGHUP"),
            StopReason::Signal(number) => write!(f, "signal {number}"),
            StopReason::Cancelled => f.write_str("cancelled"),
            StopReason::MaxDuration(limit) => {
                write!(
                    f,
                    "the maximum duration of {} was reached",
                    humantime::format_duration(*limit)
                )
            }
            StopReason::Until(at) => write!(f, "the run was to last until {}", clock(*at)),
            StopReason::GaveUp { after, why } => write!(
                f,
                "the service was unreachable, or accepted no request, for {}; last: {why}",
                humantime::format_duration(*after)
            ),
            StopReason::Untrusted { after, why, .. } => {
                write!(f, "for {} {why}", humantime::format_duration(*after))
            }
            StopReason::NoQuota { after, why } => write!(
                f,
                "the app's quota could not be used for {}: {why}",
                humantime::format_duration(*after)
            ),
            StopReason::MaxFailures { rows, users } => {
                let count = |number: &u64, noun: &str| match number {
                    1 => format!("1 {noun}"),
                    more => format!("{more} {noun}s"),
                };
                match (rows, users) {
                    (rows, 0) => f.write_str(&count(rows, "row"))?,
                    (0, users) => f.write_str(&count(users, "user"))?,
                    (rows, users) => write!(f, "{} and {}", count(rows, "row"), count(users, "user"))?,
                }
                f.write_str(if rows + users == 1 {
                    " has failed"
                } else {
                    " have failed"
                })
            }
            StopReason::AllRejected { subject, rows, why } => {
                let noun = match subject {
                    Subject::Row => "rows",
                    Subject::User => "users",
                };
                write!(
                    f,
                    "the first {rows} {noun} were all rejected with the same error: {why}"
                )
            }
            StopReason::Fatal { line, why, .. } => write!(f, "line {line}: {why}"),
            StopReason::ReportFailed(_) => f.write_str("writing the report failed"),
            StopReason::InputFailed(_) => f.write_str("reading the rows failed"),
            StopReason::Bug(why) => f.write_str(why),
            StopReason::RowsLeft => f.write_str(
                "rows were left over though nothing stopped the run, which is a bug in zim-batch, please report it",
            ),
        }
    }
}

impl Error for StopReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StopReason::ReportFailed(cause) | StopReason::InputFailed(cause) => Some(&*cause.0),
            _ => None,
        }
    }
}

/// What is said of a part of the program that failed.
pub(crate) fn bug(part: &str, how: &dyn fmt::Display) -> String {
    format!("{part} failed, which is a bug in zim-batch, please report it: {how}")
}

/// The error that stopped a run, whichever part it came from; clones share it.
///
/// ```
/// use std::io;
/// use zim_batch::journal::ReportError;
/// use zim_batch::stop::Cause;
///
/// let source = io::ErrorKind::StorageFull.into();
/// let cause = Cause::from(ReportError::Write { path: "out.csv".into(), source });
/// assert!(matches!(cause.downcast_ref(), Some(ReportError::Write { source, .. }) if source.kind() == io::ErrorKind::StorageFull));
/// ```
#[derive(Debug, Clone)]
pub struct Cause(Arc<dyn Error + Send + Sync>);

impl Cause {
    /// The error, if it is of this type.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Cause {
    fn from(error: E) -> Cause {
        Cause(error.into().into())
    }
}

/// The error with its own causes.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&with_causes(&*self.0))
    }
}

/// Two causes are the same if they say the same.
impl PartialEq for Cause {
    fn eq(&self, other: &Cause) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Cause {}

/// Stops a run, and lets its parts wait for that. Clones share one state.
///
/// ```
/// use zim_batch::stop::{StopReason, StopHandle};
///
/// let stop = StopHandle::new();
/// assert_eq!(stop.reason(), None);
/// stop.cancel();
/// stop.abort(StopReason::Signal(15));
/// assert_eq!(stop.reason(), Some(StopReason::Cancelled));
/// ```
#[derive(Debug, Clone)]
pub struct StopHandle {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    reason: Option<StopReason>,
    aborts: bool,
}

impl StopHandle {
    /// A handle of a run that is not stopping.
    pub fn new() -> StopHandle {
        StopHandle {
            state: Arc::new(watch::Sender::new(State::default())),
        }
    }

    /// Cancels the run: drains it, as [`StopReason::Cancelled`]. It ends when the requests in flight have ended, and can be
    /// resumed; dropping the future of [`Job::run`](crate::Job::run) ends it at once.
    pub fn cancel(&self) {
        self.drain(StopReason::Cancelled);
    }

    /// Starts no more rows and requests, and finishes those in flight. Returns whether this is the first stop.
    pub fn drain(&self, reason: StopReason) -> bool {
        self.state.send_if_modified(|state| {
            let first = state.reason.is_none();
            state.reason.get_or_insert(reason);
            first
        })
    }

    /// Gives up the requests in flight too.
    pub fn abort(&self, reason: StopReason) {
        self.state.send_modify(|state| {
            state.reason.get_or_insert(reason);
            state.aborts = true;
        });
    }

    /// Gives up the requests in flight too, because their records could not be written. Replaces any other reason.
    pub fn report_failed(&self, error: impl Into<Cause>) {
        self.state.send_modify(|state| {
            state.reason = Some(StopReason::ReportFailed(error.into()));
            state.aborts = true;
        });
    }

    /// Drains because a part of the program has failed. Replaces any other reason but a report that can't be written.
    pub(crate) fn bug(&self, part: &str, how: &dyn fmt::Display) {
        self.state.send_modify(|state| {
            if !matches!(state.reason, Some(StopReason::ReportFailed(_))) {
                state.reason = Some(StopReason::Bug(bug(part, how)));
            }
        });
    }

    /// Why the run is stopping: the first reason, unless a bug or the report has replaced it.
    pub fn reason(&self) -> Option<StopReason> {
        self.state.borrow().reason.clone()
    }

    /// Whether the run is stopping.
    pub fn is_stopping(&self) -> bool {
        self.state.borrow().reason.is_some()
    }

    /// Completes when the run is stopping, with either strength.
    pub async fn stopping(&self) {
        self.wait_for(|state| state.reason.is_some()).await;
    }

    /// Completes when the requests in flight are to be given up.
    pub async fn aborting(&self) {
        self.wait_for(|state| state.aborts).await;
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
