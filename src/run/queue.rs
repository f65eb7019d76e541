//! The rows that wait for a worker, and the thread that reads them ahead.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use std::vec;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};

use super::Shared;
use super::attempts::Granted;
use crate::client::Service;
use crate::event::{Event, Outcome, Record};
use crate::rows::{Plan, PlanError, Row, Step};
use crate::stop::{Stop, Stopper};

/// Rows that the reading thread hands over at once, at most.
const READ_AT_ONCE: usize = 256;

/// How many such portions may wait.
const READ_AHEAD: usize = 4;

/// A row's place among those under way: in flight, waiting for a retry, or answered and not in the report yet.
pub(super) type Place = OwnedSemaphorePermit;

/// Rows in file order, for the workers. One of them waits for the next row at a time, the others behind it.
pub(super) struct Queue {
    rows: Mutex<Rows>,
    places: Arc<Semaphore>,
}

/// The rows that have been read and not taken.
struct Rows {
    read: mpsc::Receiver<Read>,
    portion: vec::IntoIter<Step>,
    /// Why there will be no more after the portion.
    error: Option<PlanError>,
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

impl Queue {
    /// Starts to read. `counts_done`: rows that are done already are counted on the way, not known before. As many rows
    /// as there are `places` are under way at once.
    pub fn new(plan: Plan, counts_done: bool, places: usize) -> io::Result<Queue> {
        let (send, read) = mpsc::channel(READ_AHEAD);
        std::thread::Builder::new()
            .name("rows".into())
            .spawn(move || read_ahead(plan, counts_done, &send))?;
        Ok(Queue {
            rows: Mutex::new(Rows {
                read,
                portion: Vec::new().into_iter(),
                error: None,
            }),
            places: Arc::new(Semaphore::new(places)),
        })
    }

    async fn place(&self) -> Place {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.expect("nobody closes the semaphore")
    }
}

impl<S: Service> Shared<S> {
    /// The next row that is to be sent, its place, and the right to send it now; `None` after the last, or after a stop.
    /// What is not to be sent is reported on the way.
    pub(super) async fn next_row(&self) -> Option<(Row, Place, Granted<S>)> {
        let mut rows = self.queue.rows.lock().await;
        loop {
            let step = rows.next(self).await?;
            let place = self.queue.place().await;
            let event = match step {
                // What was read ahead counts, though it is not run.
                _ if self.stopper.is_asked() => Event::NotRun { was_retrying: false },
                Step::Send(row) => {
                    let may_start = tokio::select! {
                        biased;
                        () = self.stopper.asked() => None,
                        granted = Granted::first(self) => Some(granted),
                    };
                    match may_start {
                        Some(granted) => return Some((row, place, granted)),
                        None => Event::NotRun { was_retrying: false },
                    }
                }
                other => Event::Settled(Box::new(unsent(other))),
            };
            self.tell(event, Some(place));
        }
    }
}

impl Rows {
    /// The next step; `None` after the last, be it the last of all or of those that were read before a stop.
    async fn next<S>(&mut self, shared: &Shared<S>) -> Option<Step> {
        loop {
            if let Some(step) = self.portion.next() {
                return Some(step);
            }
            if let Some(error) = self.error.take() {
                shared.stopper.drain(Stop::InputFailed(error.to_string()));
            }
            let read = self.receive(&shared.stopper).await?;
            if read.done > 0 {
                shared.tell(Event::AlreadyDone(read.done), None);
            }
            self.portion = read.steps.into_iter();
            self.error = read.error;
        }
    }

    async fn receive(&mut self, stopper: &Stopper) -> Option<Read> {
        if !self.read.is_closed() {
            tokio::select! {
                biased;
                // From then on only what has been read already is received.
                () = stopper.asked() => self.read.close(),
                read = self.read.recv() => return read,
            }
        }
        self.read.recv().await
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
