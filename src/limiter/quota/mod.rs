//! The app's quota: one number of requests per second that all runs of an app share, request by request.
//!
//! A run reserves each start: in turn, by the same law as its own limiter's, but for the starts of all runs. First come, first
//! served; a run has one reservation at a time, so the shares are fair, and a killed run costs one start.
//!
//! [`MachineQuota`] is the quota of all runs on one machine, `RedisQuota` (feature `redis`) that of runs on many. A program
//! that embeds this can bring a [`Quota`] of its own. A limiter without one has the quota to itself.

mod error;
mod lock_file;
mod machine;
mod place;
#[cfg(feature = "redis")]
mod redis;
mod schedule;

use std::fmt;
use std::pin::Pin;

use tokio::time::Instant;

pub use error::QuotaError;
pub use machine::MachineQuota;
pub use place::Place;
#[cfg(feature = "redis")]
pub use redis::RedisQuota;

/// A number of requests per second that several runs share.
///
/// An implementation keeps the starts of all runs in one place, and returns for each reservation the next moment at which
/// fewer starts than the [largest rate](Pace::rate) of all runs lie in the second before it, evenly spaced.
pub trait Quota: fmt::Debug + Send + Sync {
    /// Reserves the next free start. `previous` is what became of this run's previous slot.
    ///
    /// # Errors
    /// [`Unavailable`] if it is not known whether a start is free. Nothing may start then; the caller tries again.
    fn reserve<'a>(&'a self, pace: Pace, previous: Option<Previous>) -> Reserving<'a>;
}

/// The future of [`Quota::reserve`].
pub type Reserving<'a> = Pin<Box<dyn Future<Output = Result<Reserved, Unavailable>> + Send + 'a>>;

/// How fast a run may start requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Maximum starts in any second, of all runs together. If runs differ, the largest applies.
    pub rate: f64,
    /// The share of it that is used, 0 to 1, because the server has refused requests.
    pub share: f64,
}

/// What a reservation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The run's next start.
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
    /// How many there are: more than one at hundreds per second, where each reservation would cost too much.
    pub starts: u32,
    /// When the last of several must have started.
    pub until: Instant,
    /// How many runs share the quota at present, including this one.
    pub runs: usize,
}

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// Its request started at this moment.
    Started(Slot, Instant),
    /// Nothing started, so it is free again.
    Unused(Slot),
}

/// The quota can't be used at present: why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// A process that a test starts has, for a moment, all files that other tests have locked; in paused time this moment can
/// last for seconds.
#[cfg(test)]
static STARTING_A_PROCESS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
