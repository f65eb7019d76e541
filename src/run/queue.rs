//! The rows that wait for a worker, and the thread that reads them ahead.

use std::io;
use std::time::SystemTime;
use std::vec;

use tokio::sync::{Mutex, mpsc};

use super::attempts::Granted;
use super::lane::Lane;
use crate::client::Service;
use crate::event::Event;
use crate::row::Row;
use crate::row::{Outcome, Record};
use crate::rows::{Plan, PlanError, Task};
use crate::stop::{StopHandle, StopReason};

/// Rows that the reading thread hands over at once, at most.
const READ_AT_ONCE: usize = 256;

/// How many such portions may wait.
const READ_AHEAD: usize = 4;

/// What a row comes to that was read and not taken.
const NOT_RUN: Event = Event::NotRun { was_retrying: false };

/// The thread that reads rows ahead, and what it has read and no lane has taken.
pub(super) struct Reader {
    read: Mutex<mpsc::Receiver<Read>>,
}

/// A lane's rows, in file order. One worker waits for the next row at a time, the others behind it.
#[derive(Default)]
pub(super) struct Queue {
    rows: Mutex<Rows>,
}

/// A portion of rows that a lane has taken.
#[derive(Default)]
struct Rows {
    portion: vec::IntoIter<Task>,
    /// Why there will be no more after it.
    error: Option<PlanError>,
}

/// What the reading thread found.
#[derive(Default)]
struct Read {
    steps: Vec<Task>,
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
            Some(Ok(Task::AlreadyDone)) => {
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

impl Reader {
    /// Starts to read. `counts_done`: rows that are done already are counted on the way, not known before.
    pub fn start(plan: Plan, counts_done: bool) -> io::Result<Reader> {
        let (send, read) = mpsc::channel(READ_AHEAD);
        std::thread::Builder::new()
            .name("rows".into())
            .spawn(move || read_ahead(plan, counts_done, &send))?;
        Ok(Reader { read: Mutex::new(read) })
    }

    /// The next portion; `None` after the last, be it the last of all or of those that were read before a stop.
    async fn next(&self, stop: &StopHandle) -> Option<Read> {
        let mut read = self.read.lock().await;
        if !read.is_closed() {
            tokio::select! {
                biased;
                // From then on only what has been read already is received.
                () = stop.asked() => read.close(),
                next = read.recv() => return next,
            }
        }
        read.recv().await
    }
}

impl<S: Service> Lane<S> {
    /// The next row that is to be sent, and the right to send it now; `None` after the last, or after a stop. What is not
    /// to be sent is reported on the way.
    pub(super) async fn next_row(&self) -> Option<(Row, Granted)> {
        let stop = &self.shared.stop;
        let mut rows = self.queue.rows.lock().await;
        loop {
            let step = self.next_step(&mut rows).await?;
            match step {
                // What was read ahead counts, though it is not run.
                _ if stop.is_asked() => self.tell(NOT_RUN, None),
                Task::Send(row) => {
                    let may_start = tokio::select! {
                        biased;
                        granted = Granted::first(self) => Some(granted),
                        () = stop.asked() => None,
                    };
                    match may_start {
                        Some(granted) if !stop.is_asked() => return Some((row, granted)),
                        _ => self.tell(NOT_RUN, None),
                    }
                }
                other => {
                    let slot = self.slot().await;
                    self.tell(Event::Settled(Box::new(unsent(other))), Some(slot));
                }
            }
        }
    }

    async fn next_step(&self, rows: &mut Rows) -> Option<Task> {
        loop {
            if let Some(step) = rows.portion.next() {
                return Some(step);
            }
            if let Some(error) = rows.error.take() {
                self.shared.stop.drain(StopReason::InputFailed(error.into()));
            }
            let read = self.shared.reader.next(&self.shared.stop).await?;
            if read.done > 0 {
                self.tell(Event::AlreadyDone(read.done), None);
            }
            rows.portion = read.steps.into_iter();
            rows.error = read.error;
        }
    }
}

/// The record of a row that is not sent.
fn unsent(step: Task) -> Record {
    let (line, user, conv, conv_type, outcome, message) = match step {
        Task::Invalid(row) => {
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
        Task::Skip { row, first } => {
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
        Task::Send(_) | Task::AlreadyDone => unreachable!("these are not reported unsent"),
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
