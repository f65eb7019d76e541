//! The app's quota: one number of requests per second that all runs of an app share, request by request.
//!
//! A run reserves each start among those of all runs. First come, first served, and one reservation at a time for each run:
//! so the shares are equal, and a killed run costs one start.
//!
//! An operator can see who shares it, and can set a [`Limit`] for all of them: [`MachineQuota::look`],
//! [`MachineQuota::set_limit`], and the same of `RedisQuota`.
//!
//! [`MachineQuota`] is the quota of all runs on one machine, `RedisQuota` (feature `redis`) that of runs on several. A
//! program that embeds this library can bring its own [`Quota`]. A limiter without one does not share.

mod error;
mod limit;
mod limit_entry;
mod location;
mod lock_file;
mod machine;
mod presence;
#[cfg(feature = "redis")]
mod redis;
mod sharing;

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

pub use super::schedule::Pace;
use super::schedule::{Made, Wanted, micros};
pub use error::QuotaError;
pub use limit::Limit;
pub use limit_entry::LimitEntry;
pub use location::QuotaLocation;
pub use machine::MachineQuota;
pub use presence::{Activity, Presence};
#[cfg(feature = "redis")]
pub use redis::RedisQuota;
pub use sharing::Sharing;

/// A number of requests per second that several runs share.
///
/// An implementation keeps the starts of all runs in one place. For each reservation it returns the next moment at which the
/// second before has fewer starts than the [largest rate](Pace::rate) of all runs, evenly spaced.
pub trait Quota: fmt::Debug + Send + Sync {
    /// Reserves the next free starts.
    ///
    /// # Errors
    /// [`Unavailable`] if it is not known whether a start is free. Then nothing may start, and the caller tries again.
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>>;

    /// The limit that an operator has set for all runs, if there is one at present. Called for each start, and at least once
    /// per second while requests wait; must not block.
    fn limit(&self) -> Option<Limit> {
        None
    }

    /// Whether the quota can be used, if that is known without a reservation; `None` if it is not. In a pause by its
    /// [limit](Quota::limit) nothing is reserved: then this is asked several times a second, and must not block.
    fn is_usable(&self) -> Option<Result<(), Unavailable>> {
        None
    }

    /// What the run is doing at present, for its entry among the runs that share the quota. Called several times a second; must
    /// not block.
    fn note(&self, activity: Activity) {
        let _ = activity;
    }

    /// The run starts no more requests. `last` is what became of its last slot.
    fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
        let _ = last;
        Box::pin(async {})
    }
}

/// The future of a method of [`Quota`].
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a run wants to reserve.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// How fast the run may start requests: its rate is the one in force, so the run's own or a lower [limit](Quota::limit).
    pub pace: Pace,
    /// How many starts: more than one at hundreds per second, where a reservation for each would cost too much.
    pub starts: u32,
    /// When the run may start them by its own pace: now, or a few milliseconds later.
    pub not_before: Instant,
    /// What became of the run's previous slot.
    pub previous: Option<Previous>,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The run's next starts.
    Slot(Slot),
    /// The next free start is more than a second away. Nothing is reserved; try again at this time.
    NotBefore(Instant),
}

/// One or more reserved starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Identifies it for the quota.
    pub id: u64,
    /// When the first may start.
    pub at: Instant,
    /// When the last must have started: what is not used by then is given up.
    pub until: Instant,
    /// How many there are.
    pub starts: u32,
    /// How many runs share the quota at present, including this one.
    pub runs: usize,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The slot.
    pub slot: Slot,
    /// How many of its starts were used. The others are free again.
    pub used: u32,
    /// When the last of those started.
    pub last: Instant,
}

impl Request {
    /// The slot of a run that has the quota to itself: what it asks for.
    pub(super) fn granted(&self) -> Slot {
        let lasts = Duration::from_micros(self.pace.lasts(self.starts));
        Slot {
            id: 0,
            at: self.not_before,
            until: self.not_before + lasts,
            starts: self.starts,
            runs: 0,
        }
    }

    /// The request to a schedule whose answer takes up to `delay`, in microseconds.
    pub(super) fn wanted(&self, run: u32, delay: u64) -> Wanted {
        let ahead = micros(self.not_before.saturating_duration_since(Instant::now()));
        Wanted {
            run,
            pace: self.pace,
            count: self.starts,
            // The starts are later by the time that the answer takes.
            ahead: ahead.saturating_sub(delay),
            delay,
            limit: None,
            previous: self.previous.map(|previous| previous.made()),
        }
    }
}

impl Previous {
    /// The same for a schedule.
    fn made(&self) -> Made {
        Made {
            at: self.slot.id,
            count: self.used,
            late: micros(self.last.saturating_duration_since(self.slot.at)),
        }
    }
}

/// The quota can't be used at present, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Says once that another run has a higher rate than this one. Then they may start more requests together than this run's rate
/// says.
#[derive(Debug)]
struct HigherRate {
    /// This run's own rate, which may not be in force at present.
    own: f64,
    is_said: AtomicBool,
}

impl HigherRate {
    fn new(presence: &Presence) -> HigherRate {
        HigherRate {
            own: presence.rate,
            is_said: AtomicBool::new(false),
        }
    }

    /// `largest` is the largest rate among the starts that are known, `runs` how many runs are active. The last start of a run
    /// that was killed long ago may be known too.
    fn note(&self, largest: f64, runs: usize) {
        let own = self.own;
        if runs > 1 && largest > own && !self.is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "another run of this app has a rate of {largest} requests per second, this one {own}: together they may send \
                 {largest}"
            );
        }
    }
}

/// Held by tests that start a process, and by tests in paused time that lock files: a process that is being started has, for
/// a moment, all files that are locked in this one, and in paused time this moment can last for seconds.
#[cfg(test)]
static STARTING_A_PROCESS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
