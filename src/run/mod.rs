//! Joins the four stages: rows → limiter → client → report. The only place with tasks and channels, but for
//! the client's connections.
//!
//! A thread reads rows ahead, and workers take them from a queue, in file order: the one whose turn it is waits for a
//! free place, then at the limiter's gate, sends at once, and stays with its row until the row has an outcome; between
//! attempts it sleeps outside the gate, then waits at it like everyone else. Everything that happens becomes an event,
//! and one loop takes the events and writes the report. When the last worker has ended the channel closes, and with it
//! the run.
//!
//! Workers and loop are a *lane*, which is one thread. One is enough for tens of thousands of requests a second; where
//! more may start than a thread can send, there are several, each with connections of its own. They share the
//! rows, the limiter and the report.

mod attempts;
mod books;
mod health;
mod lane;
mod policy;
mod queue;
mod tries;

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Service;
use crate::error::Error;
use crate::event::Event;
use crate::limiter::Limiter;
use crate::quota::Turn;
use crate::report::Report;
use crate::report::summary::Summary;
use crate::rows::Plan;
use crate::stop::StopHandle;
use books::{Books, Disk};
use health::Health;
use policy::Policy;
use queue::Reader;

/// A lane can send somewhat fewer requests a second than this, so that lanes never wait at the gate for each other.
const LANE_RATE: f64 = 100_000.0;

/// Rows that may be under way, be it in flight or waiting for a retry, even if fewer requests may be open.
const MIN_UNDER_WAY: usize = 64;

/// How often the progress is shown and the clock is looked at.
const TICK: Duration = Duration::from_millis(125);

/// The bounds of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Requests open at once, at least 1.
    pub max_in_flight: usize,
    /// Tries for each row, at least 1; `limited` answers and probes don't count.
    pub max_attempts: u32,
    /// Stop when the service has been unreachable this long.
    pub give_up_after: Duration,
    /// Stop when this many rows have failed.
    pub max_failures: Option<u64>,
    /// Take no more rows after this long.
    pub max_duration: Option<Duration>,
}

impl Default for Limits {
    /// The command line's defaults.
    fn default() -> Limits {
        Limits {
            max_in_flight: 64,
            max_attempts: 6,
            give_up_after: Duration::from_secs(30 * 60),
            max_failures: None,
            max_duration: None,
        }
    }
}

/// Everything a run needs.
#[derive(Debug)]
pub struct Job<S> {
    /// The rows, and what to do about each.
    pub plan: Plan,
    /// How many rows there are, if that is known.
    pub total: Option<u64>,
    /// When a request may leave.
    pub limiter: Limiter,
    /// What sends it: one for each lane, mostly one. See [`lanes`].
    pub services: Vec<S>,
    /// Where results go.
    pub report: Report,
    /// The run's bounds.
    pub limits: Limits,
    /// Stops the run from outside, and remembers why it stopped.
    pub stop: StopHandle,
    /// The turn to use the app's quota; `None` if the caller sees to it that nobody else uses it.
    pub turn: Option<Turn>,
    /// From when `max_duration` counts.
    pub started_at: Instant,
}

/// How many lanes are worth having: one, but at rates that a thread can't reach; then one for each processor.
///
/// ```
/// use zim_batch::run::lanes;
///
/// assert_eq!(lanes(20.0, 64), 1);
/// assert_eq!(lanes(1_000_000.0, 1), 1);
/// ```
pub fn lanes(rate: f64, max_in_flight: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let most = processors.min(max_in_flight).max(1);
    ((rate / LANE_RATE) as usize).clamp(1, most)
}

/// What the lanes of a run share.
struct Shared {
    limiter: Limiter,
    limits: Limits,
    stop: StopHandle,
    reader: Reader,
    /// Held by a row whose answer most likely every row would get: no new rows until it is clear.
    suspicion: tokio::sync::Mutex<()>,
    health: Mutex<Health>,
    books: Mutex<Books>,
}

impl Shared {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().expect("nothing panics while it holds the health")
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nothing panics while it holds the books")
    }
}

/// Runs the job to its end, or to the stop that comes first; the summary says which. An `Err` means that it could not
/// even begin.
///
/// # Panics
/// If there is no service.
pub async fn run<S: Service>(job: Job<S>) -> Result<Summary, Error> {
    let Job {
        plan,
        total,
        limiter,
        services,
        report,
        limits,
        stop,
        turn,
        started_at,
    } = job;
    let policy = Policy::new(limits.clone(), started_at);
    let mut books = Books::open(report, policy, turn, &limiter);
    if total.is_some() {
        // All of them have been found in the input, however early this run stops.
        books.note(&Event::AlreadyDone(plan.rows_done()), &stop);
    }
    let shared = Arc::new(Shared {
        limiter,
        limits,
        stop,
        reader: Reader::start(plan, total.is_none()).map_err(Error::Thread)?,
        suspicion: tokio::sync::Mutex::new(()),
        health: Mutex::default(),
        books: Mutex::new(books),
    });
    let mut lanes = lane::split(services, &shared).into_iter();
    let here = lanes.next().expect("a run has a service");
    let elsewhere = lanes.map(lane::on_a_thread).collect::<Result<Vec<_>, _>>();
    // Those that have begun must not go on alone.
    let elsewhere = elsewhere.map_err(Error::Thread).inspect_err(|error| {
        shared.stop.report_failed(error.to_string());
    })?;
    let mut work = pin!(async {
        here.run().await;
        for lane in elsewhere {
            // An error is a lane that ended by a panic; what it had not done has no record.
            let _ = lane.await;
        }
    });

    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut disk = Disk::new(started_at);
    loop {
        tokio::select! {
            () = &mut work => break,
            _ = tick.tick() => {
                let health = shared.health().clone();
                shared.books().tick(&health, &shared);
                disk.tick(&shared).await;
            }
        }
    }
    let (report, turn) = shared.books().close();
    let summary = report.finish(total, shared.limiter.cap(), started_at.elapsed(), &shared.stop);
    if let Some(turn) = turn {
        tokio::select! {
            biased;
            () = shared.stop.asked_at_once() => {}
            () = turn.end(&shared.limiter) => {}
        }
    }
    Ok(summary)
}
