//! Joins the four stages: rows → limiter → client → report. The only place with tasks, channels and `select!`.
//!
//! A thread reads rows ahead. One task takes them in file order: it waits for a free place, then at the limiter's gate,
//! and starts a task for the row. That task sends at once and stays with its row until the row has an outcome; between
//! attempts it sleeps outside the gate, then queues at it like everyone else. Everything that happens becomes an
//! event, and one loop takes the events and writes the report. When the last task has ended the channel closes, and
//! with it the run.

mod attempts;
mod health;
mod policy;
mod tries;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Service;
use crate::error::Error;
use crate::event::{Event, Outcome, Record};
use crate::limiter::Limiter;
use crate::quota::Turn;
use crate::report::Report;
use crate::report::summary::Summary;
use crate::rows::{Plan, PlanError, Step};
use crate::stop::{Stop, Stopper};
use health::Health;
use policy::Policy;

/// Rows that the reading thread hands over at once, at most.
const READ_AT_ONCE: usize = 64;

/// How many such portions may wait.
const READ_AHEAD: usize = 4;

/// Events that may wait for the report.
const EVENTS_WAITING: usize = 1024;

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
    events: mpsc::Sender<Message>,
}

/// An event on its way to the report, with the row's place among those under way: free again when it is written.
struct Message {
    event: Event,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Shared<S> {
    async fn tell(&self, event: Event, place: Option<OwnedSemaphorePermit>) {
        let message = Message { event, _place: place };
        // The loop that receives ends only after all senders.
        let _ = self.events.send(message).await;
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
    let (events, mut received) = mpsc::channel(EVENTS_WAITING);
    let (read, rows) = mpsc::channel(READ_AHEAD);
    let (done, counts_done) = (plan.rows_done(), total.is_none());
    std::thread::Builder::new()
        .name("rows".into())
        .spawn(move || read_ahead(plan, counts_done, &read))
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
        events,
    });
    if total.is_some() {
        // All of them have been found in the input, however early this run stops.
        let done = Event::AlreadyDone(done);
        report.record(&done);
        policy.note(&done, &stopper);
    }
    tokio::spawn(take_rows(rows, shared));

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

/// What the reading thread found.
#[derive(Default)]
struct Read {
    steps: Vec<Step>,
    /// Rows before them that are done already; these are only counted, if nobody has counted them before.
    done: u64,
    /// Why there will be no more.
    error: Option<PlanError>,
}

/// Walks the plan, on a thread of its own because reading blocks. A row goes out at once where there is room, so that a
/// slow input is worked on as it comes; where there is none, rows gather, so that a fast one costs few wake-ups.
fn read_ahead(mut plan: Plan, counts_done: bool, out: &mpsc::Sender<Read>) {
    let mut read = Read::default();
    while read.error.is_none() {
        match plan.next() {
            None => break,
            Some(Ok(Step::AlreadyDone)) => {
                read.done += u64::from(counts_done);
                continue;
            }
            Some(Ok(step)) => read.steps.push(step),
            Some(Err(error)) => read.error = Some(error),
        }
        let sent = match out.try_reserve() {
            Ok(permit) => {
                permit.send(std::mem::take(&mut read));
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(())) if read.steps.len() < READ_AT_ONCE => Ok(()),
            Err(_) => out.blocking_send(std::mem::take(&mut read)),
        };
        if sent.is_err() {
            return; // The run has stopped.
        }
    }
    // If nobody listens any more, the run has stopped.
    let _ = out.blocking_send(read);
}

/// Takes rows in file order until the last, or until a stop.
async fn take_rows<S: Service>(mut rows: mpsc::Receiver<Read>, shared: Arc<Shared<S>>) {
    let under_way = Arc::new(Semaphore::new(shared.limits.max_in_flight.max(UNDER_WAY_MIN)));
    let stopper = shared.stopper.clone();
    loop {
        let read = tokio::select! {
            biased;
            // From then on only what has been read already is received.
            () = stopper.asked(), if !rows.is_closed() => {
                rows.close();
                continue;
            }
            read = rows.recv() => read,
        };
        let Some(read) = read else { return };
        if read.done > 0 {
            shared.tell(Event::AlreadyDone(read.done), None).await;
        }
        for step in read.steps {
            let event = match step {
                // What was read ahead counts, though it is not run.
                _ if stopper.is_asked() => Event::NotRun { was_retrying: false },
                Step::Send(row) => {
                    let may_start = tokio::select! {
                        biased;
                        () = stopper.asked() => None,
                        granted = attempts::may_start(&shared, &under_way) => Some(granted),
                    };
                    match may_start {
                        Some((place, granted)) => {
                            tokio::spawn(attempts::work_on(row, place, granted, Arc::clone(&shared)));
                            continue;
                        }
                        None => Event::NotRun { was_retrying: false },
                    }
                }
                other => Event::Settled(Box::new(unsent(other))),
            };
            shared.tell(event, None).await;
        }
        if let Some(error) = read.error {
            stopper.drain(Stop::InputFailed(error.to_string()));
        }
    }
}

/// The record of a row that is not sent.
fn unsent(step: Step) -> Record {
    let (line, user, conv, conv_type, outcome, message) = match step {
        Step::Invalid(row) => {
            let message = row.problem.to_string();
            (
                row.line,
                row.user,
                row.conv,
                row.conv_type.into(),
                Outcome::Invalid,
                message,
            )
        }
        Step::Skip { row, first } => {
            let message = format!("the same as line {first}");
            (
                row.line,
                row.user,
                row.conv,
                row.conv_type.as_str().into(),
                Outcome::Skipped,
                message,
            )
        }
        Step::Send(_) | Step::AlreadyDone => unreachable!("these are not reported unsent"),
    };
    Record {
        line,
        user,
        conv,
        conv_type,
        outcome,
        code: None,
        http: None,
        message,
        request_id: String::new(),
        attempts: 0,
        latency: None,
        finished_at: SystemTime::now(),
    }
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
