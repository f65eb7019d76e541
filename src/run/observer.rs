//! Observers of a run: a progress bar, metrics, or a callback of an embedding program.

use std::fmt;

use tokio::time::Instant;

use crate::event::Event;
use crate::limiter::{Limiter, RateLimit};
use crate::run::stats::Stats;
use crate::run::summary::Summary;

/// Is told of everything that happens in a run, in the order in which it happens.
///
/// All methods are called on the thread that writes the report, one at a time: they must not block. A closure that takes
/// an [`Event`] is an observer too:
///
/// ```
/// use zim_batch::event::Event;
/// use zim_batch::run::Observer;
///
/// let observer: Box<dyn Observer> = Box::new(|event: &Event| {
///     if let Event::Settled(record) = event {
///         println!("line {}: {}", record.line, record.outcome);
///     }
/// });
/// # drop(observer);
/// ```
pub trait Observer: Send {
    /// Something happened. A record is told once it is written.
    fn event(&mut self, event: &Event);

    /// Several times a second: how far the run is.
    fn tick(&mut self, status: &Status<'_>) {
        let _ = status;
    }

    /// The run has ended.
    fn end(&mut self, summary: &Summary) {
        let _ = summary;
    }
}

impl<F: FnMut(&Event) + Send> Observer for F {
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    /// The counts so far.
    pub stats: &'a Stats,
    /// Requests per second that the run aims at now; 0 in a pause.
    pub rate: f64,
    /// What limits the rate at present.
    pub limit: RateLimit,
    /// Tells [how long requests will take](Limiter::time_for).
    pub limiter: &'a Limiter,
    /// When the service is tried again, if the run is on hold.
    pub next_probe: Option<Instant>,
}
