//! Joins the four stages: rows → limiter → client → report.
//!
//! ```text
//! reader thread ──rows──► dispatch: waits for an in-flight permit, then at the gate ──► one task per row
//!                                                                     attempt → verdict → retry state │
//!                                                                                                     ▼ events
//!                         the loop: owns report, statistics, policies ◄───────────────────────────────┘
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
//! | attempt by attempt to its outcome | `row_task.rs`, `attempt_gate.rs` |
//! | whether it is the row or the service | `breaker.rs` |
//! | another attempt, or the end | `retry.rs` |
//! | to the report | `recorder.rs` |
//! | whether the run continues | `policy.rs` |

mod attempt_gate;
mod breaker;
mod dispatch;
mod job;
mod observer;
mod pauses;
mod policy;
mod recorder;
mod retry;
mod row_task;
mod sleep;
mod source;
pub mod stats;
pub mod summary;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::Instrument;

use crate::client::Service;
use crate::done::Done;
use crate::error::Error;
use crate::event::Event;
use crate::limiter::{Limiter, Permit};
use crate::row::Numbered;
use crate::run::summary::Summary;
use crate::stop::{StopHandle, StopReason};
use breaker::{Admission, CircuitBreaker};
pub use job::{Job, Limits};
pub use observer::{Observer, Status};
use recorder::Recorder;
use source::Reader;

/// Maximum rows that wait for a retry, besides those in flight.
const MAX_RETRYING: usize = 4096;

/// Messages that are recorded with one `write`.
const MESSAGES_AT_ONCE: usize = 256;

/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(125);

/// What the tasks of a run share.
struct Shared<S: Service> {
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
    messages: UnboundedSender<Message<S::Item>>,
}

/// What the tasks tell the loop.
enum Message<I> {
    /// A row may try its first request.
    Begin(Numbered<I>, RowPermit, Entry),
    /// Something happened; the permit is free when it is recorded.
    Event(
        Event,
        #[expect(dead_code, reason = "it is held, and dropped")] Option<InFlightPermit>,
    ),
}

impl<I> Message<I> {
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

/// The right to try one request, with the in-flight permit that it occupies.
struct Entry {
    in_flight: InFlightPermit,
    admission: Admission,
    permit: Permit,
}

impl<S: Service> Shared<S> {
    async fn in_flight(&self) -> InFlightPermit {
        permit_of(&self.in_flight).await
    }

    /// Waits at the gate: until the breaker is closed, there is an in-flight permit, and the limiter lets a request try.
    /// The first request that the limiter permits is the breaker's probe when one is due.
    async fn enter(&self, has_failed: bool) -> Entry {
        let queued = self.breaker.queue(has_failed);
        loop {
            queued.ready().await;
            let in_flight = self.in_flight().await;
            let permit = self.limiter.acquire().await;
            if let Some(admission) = queued.try_admit() {
                return Entry {
                    in_flight,
                    admission,
                    permit,
                };
            }
        }
    }

    fn send(&self, message: Message<S::Item>) {
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

/// Runs a job to its end, or to the stop that comes first.
async fn run<S: Service>(job: Job<S>) -> Result<Summary, Error> {
    let max_in_flight = job.limits.max_in_flight.get();
    let reader = Reader::start(job.source, job.already_done.is_none(), &job.stop).map_err(Error::Thread)?;
    let mut report = job.report;
    let done = report.as_mut().map(|report| report.take_done()).unwrap_or_default();
    let (messages, mut received) = mpsc::unbounded_channel();
    let run = Arc::new(Shared {
        service: job.service,
        limiter: job.limiter,
        breaker: Arc::default(),
        in_flight: Arc::new(Semaphore::new(max_in_flight)),
        rows: Arc::new(Semaphore::new(max_in_flight + MAX_RETRYING)),
        limits: job.limits,
        stop: job.stop,
        messages,
    });
    let mut recorder = Recorder::new(report, job.observers, job.started_at, job.clocks, &run);
    if let Some(rows) = job.already_done {
        run.tell(Event::AlreadyDone(rows));
    }
    work(reader, done, &mut received, &mut recorder, &run).await;
    Ok(recorder.finish(job.total, &run).await)
}

/// Completes when a time limit is reached; never if there is none.
async fn reached(limit: Option<(Instant, StopReason)>) -> StopReason {
    let Some((due, reason)) = limit else {
        return pending().await;
    };
    sleep_until(due).await;
    reason
}

/// The loop: starts rows, records events, and checks time and tasks, until all tasks have ended.
async fn work<S: Service>(
    reader: Reader<S::Item>,
    done: Done,
    received: &mut UnboundedReceiver<Message<S::Item>>,
    recorder: &mut Recorder,
    run: &Arc<Shared<S>>,
) {
    let mut tasks = JoinSet::new();
    let dispatcher = tasks
        .spawn(dispatch::dispatch(reader, done, Arc::clone(run)).in_current_span())
        .id();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(MESSAGES_AT_ONCE);
    while !tasks.is_empty() || !received.is_empty() || !batch.is_empty() {
        let limit = recorder.next_limit(run);
        tokio::select! {
            biased;
            _ = tick.tick() => recorder.tick(run).await,
            reason = reached(limit) => {
                run.stop.drain(reason);
            }
            () = recorder.handed_over(run), if !batch.is_empty() => {
                recorder.commit(&batch, run);
                for message in batch.drain(..) {
                    if let Message::Begin(row, place, entry) = message {
                        // Boxed, because the future of a row is large and would be moved several times.
                        let row = row_task::run(row, place, entry, Arc::clone(run)).in_current_span();
                        tasks.spawn(Box::pin(row));
                    }
                }
            }
            _ = received.recv_many(&mut batch, MESSAGES_AT_ONCE), if batch.is_empty() => recorder.push::<S>(&batch),
            Some(ended) = tasks.join_next() => {
                if let Err(panic) = ended {
                    if panic.id() != dispatcher {
                        run.tell(NOT_RUN);
                    }
                    run.stop.bug("a task of the run", &panic);
                }
            }
        }
    }
}
