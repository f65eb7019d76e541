//! Joins the four stages: rows → limiter → client → report.
//!
//! ```text
//! reader thread ──rows──► dispatch: waits for an in-flight permit, then at the gate ──► one task per row
//!                                                                     attempt → verdict → retry state │
//!                                                                                                     ▼ events
//!                         the loop: owns report, policies and the quota's turn ◄──────────────────────┘
//! ```
//!
//! The loop is the only owner of what is written: tasks only send it what happened. A row that got its outcome keeps its
//! in-flight permit until its record is written, so at most [`Limits::max_in_flight`] rows are answered and not recorded,
//! whenever the process ends. Rows that wait for a retry hold no such permit, and have a bound of their own. A task or
//! thread that panics stops the run, which says so and stays resumable.
//!
//! | a row's way | file |
//! |---|---|
//! | from the reading thread to the gate | `dispatch.rs` |
//! | attempt by attempt to its outcome | `row_task.rs` |
//! | whether it is the row or the service | `breaker.rs` |
//! | another attempt, or the end | `retry.rs` |
//! | to the report | `recorder.rs` |
//! | whether the run goes on | `policy.rs` |

mod breaker;
mod dispatch;
mod observer;
mod policy;
mod recorder;
mod retry;
mod row_task;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Service;
use crate::error::Error;
use crate::event::Event;
use crate::limiter::{Limiter, Permit};
use crate::quota::Turn;
use crate::report::Report;
use crate::report::summary::Summary;
use crate::row::Row;
use crate::rows::Plan;
use crate::stop::{self, StopHandle};
use breaker::{Admission, CircuitBreaker};
use dispatch::Reader;
pub use observer::{Observer, Status};
use recorder::Recorder;

/// Rows that may wait for a retry, besides those in flight.
const MAX_WAITING: usize = 4096;

/// Messages that are recorded with one `write`.
const MESSAGES_AT_ONCE: usize = 256;

/// How often the progress is shown and the clock is checked.
const TICK: Duration = Duration::from_millis(125);

/// The bounds of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Requests open at once, at least 1.
    pub max_in_flight: usize,
    /// Attempts for each row, at least 1; `limited` answers and probes don't count.
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
    /// When a request may start.
    pub limiter: Limiter,
    /// What sends it.
    pub service: S,
    /// Where results go.
    pub report: Report,
    /// Who else is told what happens.
    pub observers: Vec<Box<dyn Observer>>,
    /// The run's bounds.
    pub limits: Limits,
    /// Stops the run from outside, and remembers why it stopped.
    pub stop: StopHandle,
    /// The turn to use the app's quota; `None` if the caller sees to it that nobody else uses it.
    pub turn: Option<Turn>,
    /// From when `max_duration` counts.
    pub started_at: Instant,
}

/// What the tasks of a run share.
struct Shared<S> {
    service: S,
    limiter: Limiter,
    breaker: Arc<CircuitBreaker>,
    limits: Limits,
    stop: StopHandle,
    /// Requests that may be open.
    in_flight: Arc<Semaphore>,
    /// Rows that may be under way: in flight, or waiting for a retry.
    rows: Arc<Semaphore>,
    /// Bounded by the in-flight permits, which are free again only when a row's record is written, and by what is read
    /// ahead.
    messages: UnboundedSender<Message>,
}

/// What the tasks tell the loop.
enum Message {
    /// A row may try its first request.
    Begin(Row, RowPermit, Entry),
    /// Something happened; the permit is free when it is recorded.
    Event(
        Event,
        #[expect(dead_code, reason = "it is held, and dropped")] Option<InFlightPermit>,
    ),
}

impl Message {
    fn event(&self) -> Option<&Event> {
        match self {
            Message::Event(event, _) => Some(event),
            Message::Begin(..) => None,
        }
    }
}

/// A row was taken, and has no outcome.
const NOT_RUN: Event = Event::NotRun { was_retrying: false };

/// One of the requests that may be open.
type InFlightPermit = OwnedSemaphorePermit;

/// One of the rows that may be under way.
type RowPermit = OwnedSemaphorePermit;

/// The right to try one request.
struct Pass {
    admission: Admission,
    permit: Permit,
}

/// The right to try one request, with the place that it occupies.
struct Entry {
    in_flight: InFlightPermit,
    pass: Pass,
}

impl<S> Shared<S> {
    async fn in_flight(&self) -> InFlightPermit {
        permit_of(&self.in_flight).await
    }

    /// Waits at the gate: until the breaker is closed and the limiter lets another request try.
    async fn pass(&self) -> Pass {
        loop {
            let admission = self.breaker.admit().await;
            let permit = self.limiter.acquire().await;
            if admission.holds() {
                return Pass { admission, permit };
            }
        }
    }

    /// Waits until a request may be tried.
    async fn enter(&self) -> Entry {
        let in_flight = self.in_flight().await;
        let pass = self.pass().await;
        Entry { in_flight, pass }
    }

    fn send(&self, message: Message) {
        // The loop receives until all tasks have ended.
        let _ = self.messages.send(message);
    }

    fn tell(&self, event: Event) {
        self.send(Message::Event(event, None));
    }
}

async fn permit_of(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.expect("nobody closes the semaphore")
}

/// Runs the job to its end, or to the stop that comes first; the summary says which.
///
/// # Errors
/// If the run could not begin, or a bug of this library's ended it without a summary; what was recorded until then stays.
pub async fn run<S: Service>(job: Job<S>) -> Result<Summary, Error> {
    // In a task of its own: then what it owns can't take the caller down by a panic, and messages wake it cheaply.
    let mut job_task = JoinSet::new();
    job_task.spawn(run_here(job));
    match job_task.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(panic)) => Err(Error::Bug(stop::bug(
            "the part that records results",
            &*panic.into_panic(),
        ))),
        None => unreachable!("it was just spawned"),
    }
}

async fn run_here<S: Service>(job: Job<S>) -> Result<Summary, Error> {
    let rows_done = job.plan.rows_done();
    let reader = Reader::start(Box::new(job.plan), job.total.is_none()).map_err(Error::Thread)?;
    let (messages, mut received) = mpsc::unbounded_channel();
    let run = Arc::new(Shared {
        service: job.service,
        limiter: job.limiter,
        breaker: Arc::default(),
        in_flight: Arc::new(Semaphore::new(job.limits.max_in_flight)),
        rows: Arc::new(Semaphore::new(job.limits.max_in_flight + MAX_WAITING)),
        limits: job.limits,
        stop: job.stop,
        messages,
    });
    let mut recorder = Recorder::new(job.report, job.observers, job.turn, job.started_at, &run);
    if job.total.is_some() {
        // All of them have been found in the input, however early this run stops.
        run.tell(Event::AlreadyDone(rows_done));
    }
    work(reader, &mut received, &mut recorder, &run).await;
    Ok(recorder.finish(job.total, &run).await)
}

/// The loop: begins rows, records what happens, and looks after time and tasks, until there is nothing left to do.
async fn work<S: Service>(
    reader: Reader,
    received: &mut UnboundedReceiver<Message>,
    recorder: &mut Recorder,
    run: &Arc<Shared<S>>,
) {
    let mut tasks = JoinSet::new();
    let dispatcher = tasks.spawn(dispatch::dispatch(reader, Arc::clone(run))).id();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(MESSAGES_AT_ONCE);
    while !tasks.is_empty() || !received.is_empty() {
        tokio::select! {
            biased;
            _ = tick.tick() => recorder.tick(run).await,
            _ = received.recv_many(&mut batch, MESSAGES_AT_ONCE) => {
                recorder.record(&batch, run);
                for message in batch.drain(..) {
                    if let Message::Begin(row, place, entry) = message {
                        // Boxed, for a row's future is large, and would be moved several times.
                        tasks.spawn(Box::pin(row_task::run(row, place, entry, Arc::clone(run))));
                    }
                }
            }
            Some(ended) = tasks.join_next() => {
                if let Err(panic) = ended {
                    if panic.id() != dispatcher {
                        run.tell(NOT_RUN);
                    }
                    run.stop.bug("a task of the run", &*panic.into_panic());
                }
            }
        }
    }
}
