//! Joins the four stages: rows → limiter → client → report. The only place with tasks, channels and `select!`.
//!
//! A thread reads rows ahead, and workers take them from a queue, in file order: the one whose turn it is waits for a
//! free place, then at the limiter's gate, sends at once, and stays with its row until the row has an outcome; between
//! attempts it sleeps outside the gate, then waits at it like everyone else. Everything that happens becomes an event,
//! and one loop takes the events and writes the report. When the last worker has ended the channel closes, and with it
//! the run.

mod attempts;
mod health;
mod policy;
mod queue;
mod tries;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Service;
use crate::error::Error;
use crate::event::Event;
use crate::limiter::Limiter;
use crate::quota::Turn;
use crate::report::Report;
use crate::report::summary::Summary;
use crate::rows::Plan;
use crate::stop::Stopper;
use health::Health;
use policy::Policy;
use queue::{Place, Queue};

/// Events that are written with one `write`.
const EVENTS_AT_ONCE: usize = 256;

/// Rows that may be under way, be it in flight or waiting for a retry, even if fewer requests may be open.
const UNDER_WAY_MIN: usize = 64;

/// How often the progress is shown and the clock is looked at.
const TICK: Duration = Duration::from_millis(125);

/// How often what was written is brought to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

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
pub struct Job<S> {
    /// The rows, and what to do about each.
    pub plan: Plan,
    /// How many rows there are, if that is known.
    pub total: Option<u64>,
    /// When a request may leave.
    pub limiter: Limiter,
    /// What sends it.
    pub service: S,
    /// Where results go.
    pub report: Report,
    /// The run's bounds.
    pub limits: Limits,
    /// Stops the run from outside, and remembers why it stopped.
    pub stopper: Stopper,
    /// The turn to use the app's quota; `None` if the caller sees to it that nobody else uses it.
    pub turn: Option<Turn>,
    /// From when `max_duration` counts.
    pub begun: Instant,
}

/// What the tasks of a run share.
struct Shared<S> {
    limiter: Arc<Limiter>,
    service: S,
    limits: Limits,
    stopper: Stopper,
    /// Requests that may be open.
    slots: Arc<Semaphore>,
    /// Held by a row whose answer most likely every row would get: no new rows until it is clear.
    suspicion: tokio::sync::Mutex<()>,
    health: Arc<Mutex<Health>>,
    queue: Queue,
    /// Bounded by the places: a row has a few events, and its place is free again only when the last is written.
    events: mpsc::UnboundedSender<Message>,
}

/// An event on its way to the report, with the row's place if it is the row's last one.
struct Message {
    event: Event,
    _place: Option<Place>,
}

impl<S> Shared<S> {
    fn tell(&self, event: Event, place: Option<Place>) {
        let message = Message { event, _place: place };
        // The loop that receives ends only after all senders.
        let _ = self.events.send(message);
    }
}

/// Runs the job to its end, or to the stop that comes first; the summary says which. An `Err` means that it could not
/// even begin.
pub async fn run<S: Service>(job: Job<S>) -> Result<Summary, Error> {
    let Job {
        plan,
        total,
        limiter,
        service,
        mut report,
        limits,
        stopper,
        mut turn,
        begun,
    } = job;
    if let Some(turn) = &mut turn {
        limiter.count_earlier(&turn.earlier_starts());
        turn.write_down(&limiter.recent_starts());
    }
    let (events, mut received) = mpsc::unbounded_channel();
    let done = plan.rows_done();
    let under_way = limits.max_in_flight.max(UNDER_WAY_MIN);
    let queue = Queue::new(plan, total.is_none(), under_way)
        .map_err(|error| Error::Unexpected(format!("no thread could be started to read the rows: {error}")))?;
    let limiter = Arc::new(limiter);
    let health = Arc::new(Mutex::new(Health::default()));
    let mut policy = Policy::new(limits.clone(), begun);
    let shared = Arc::new(Shared {
        slots: Arc::new(Semaphore::new(limits.max_in_flight)),
        limiter: Arc::clone(&limiter),
        service,
        limits,
        stopper: stopper.clone(),
        suspicion: tokio::sync::Mutex::new(()),
        health: Arc::clone(&health),
        queue,
        events,
    });
    if total.is_some() {
        // All of them have been found in the input, however early this run stops.
        let done = Event::AlreadyDone(done);
        report.record(&done);
        policy.note(&done, &stopper);
    }
    for _ in 0..under_way {
        tokio::spawn(attempts::work(Arc::clone(&shared)));
    }
    drop(shared);

    let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut disk = Disk::new(begun);
    loop {
        tokio::select! {
            count = received.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                for message in &batch {
                    report.record(&message.event);
                }
                match report.commit() {
                    Ok(()) => batch.iter().for_each(|message| policy.note(&message.event, &stopper)),
                    Err(error) => stopper.report_failed(error.to_string()),
                }
                batch.clear();
                // At once, not at the next tick: the process may be killed, and the next one begin, at any moment.
                turn.iter_mut().for_each(|turn| turn.write_down(&limiter.recent_starts()));
                if count == 0 {
                    break;
                }
            }
            _ = tick.tick() => {
                report.show(limiter.rate());
                {
                    let health = health.lock().expect("nothing panics while it holds the health");
                    policy.check_time(health.failing_for(Instant::now(), limiter.is_held()), &stopper);
                }
                if let Some(error) = disk.sync(&report).await {
                    stopper.report_failed(error.to_string());
                }
            }
        }
    }
    Ok(report.finish(total, limiter.cap(), begun.elapsed(), &stopper))
}

/// Brings what was written to the disk, about once a second, on a thread where waiting hurts nobody.
struct Disk {
    last: Instant,
    under_way: Option<tokio::task::JoinHandle<Result<(), Error>>>,
}

impl Disk {
    fn new(now: Instant) -> Disk {
        Disk {
            last: now,
            under_way: None,
        }
    }

    /// Starts a sync if one is due; gives the error of the last one.
    async fn sync(&mut self, report: &Report) -> Option<Error> {
        if let Some(under_way) = &mut self.under_way {
            if !under_way.is_finished() {
                return None;
            }
            let ended = under_way.await;
            self.under_way = None;
            if let Ok(Err(error)) = ended {
                return Some(error);
            }
        }
        if self.last.elapsed() >= SYNC_EVERY {
            self.last = Instant::now();
            let sync = report.sync_later();
            self.under_way = Some(tokio::task::spawn_blocking(sync));
        }
        None
    }
}
