//! From the reading thread to the gate: rows in file order, one at a time.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::{Message, NOT_RUN, Shared, permit_of};
use crate::client::Service;
use crate::event::Event;
use crate::row::{Outcome, Record, Row};
use crate::rows::{PlanError, Task};
use crate::stop::{StopHandle, StopReason};

/// Rows that are read ahead, at most.
const READ_AHEAD: usize = 1024;

/// What is to be done about each row, in order.
pub(super) type Tasks = Box<dyn Iterator<Item = Result<Task, PlanError>> + Send>;

/// The thread that reads rows ahead, for reading blocks.
pub(super) struct Reader {
    rows: mpsc::Receiver<Read>,
    thread: JoinHandle<()>,
}

/// What the reading thread has found.
enum Read {
    Task(Task),
    /// This many rows are done already. They are counted here if they have not been counted before the run.
    Done(u64),
    /// There is nothing more, or what there is can't be read.
    End(Result<(), PlanError>),
}

impl Reader {
    /// Starts to read. `counts_done`: rows that are done already are counted on the way, not known before.
    pub fn start(tasks: Tasks, counts_done: bool) -> io::Result<Reader> {
        let (send, rows) = mpsc::channel(READ_AHEAD);
        let thread = std::thread::Builder::new()
            .name("rows".into())
            .spawn(move || read_ahead(tasks, counts_done, &send))?;
        Ok(Reader { rows, thread })
    }

    /// What was read next; after a stop only what has been read already, and then `None`.
    async fn next(&mut self, stop: &StopHandle) -> Option<Read> {
        if !self.rows.is_closed() {
            tokio::select! {
                biased;
                () = stop.stopping() => self.rows.close(),
                read = self.rows.recv() => return read,
            }
        }
        self.rows.recv().await
    }
}

/// Reads to the end, or until the run has stopped. Each row is sent on immediately, because the next one may take long.
fn read_ahead(tasks: Tasks, counts_done: bool, out: &mpsc::Sender<Read>) {
    let mut done = 0;
    for task in tasks {
        let read = match task {
            Ok(Task::AlreadyDone) if !counts_done => continue,
            Ok(Task::AlreadyDone) => {
                done += 1;
                match out.try_send(Read::Done(done)) {
                    Err(TrySendError::Closed(_)) => return,
                    // Rows that are done are counted together while there is no room.
                    Err(TrySendError::Full(_)) => {}
                    Ok(()) => done = 0,
                }
                continue;
            }
            Ok(task) => Read::Task(task),
            Err(error) => Read::End(Err(error)),
        };
        let is_end = matches!(read, Read::End(_));
        if (done > 0 && out.blocking_send(Read::Done(done)).is_err()) || out.blocking_send(read).is_err() || is_end {
            return;
        }
        done = 0;
    }
    // An error means that the run has stopped.
    let _ = out.blocking_send(Read::Done(done));
    let _ = out.blocking_send(Read::End(Ok(())));
}

/// Takes rows until the last one, or until the run stops. A row starts when its first request may be tried; a row that is not
/// sent is recorded.
pub(super) async fn dispatch<S: Service>(mut reader: Reader, run: Arc<Shared<S>>) {
    while let Some(read) = reader.next(&run.stop).await {
        match read {
            Read::Task(task) => dispatch_one(task, &run).await,
            Read::Done(0) => {}
            Read::Done(rows) => run.tell(Event::AlreadyDone(rows)),
            Read::End(Ok(())) => return,
            Read::End(Err(error)) => {
                run.stop.drain(StopReason::InputFailed(error.into()));
                return;
            }
        }
    }
    // There was no end: a stop, or else the thread is gone.
    if !run.stop.is_stopping()
        && let Err(panic) = reader.thread.join()
    {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let how = format!("panicked with message {:?}", text.unwrap_or_default());
        run.stop.bug("the thread that reads the rows", &how);
    }
}

async fn dispatch_one<S: Service>(task: Task, run: &Arc<Shared<S>>) {
    if run.stop.is_stopping() {
        // What was read ahead counts, though it is not run.
        return run.tell(NOT_RUN);
    }
    let message = match task {
        Task::Send(row) => tokio::select! {
            biased;
            begin = begin(row, run) => begin,
            () = run.stop.stopping() => Message::Event(NOT_RUN, None),
        },
        other => Message::Event(Event::Settled(Box::new(unsent(other))), Some(run.in_flight().await)),
    };
    run.send(message);
}

async fn begin<S: Service>(row: Row, run: &Shared<S>) -> Message {
    run.breaker.admits_new_rows().await;
    let place = permit_of(&run.rows).await;
    let entry = run.enter(true).await;
    Message::Begin(row, place, entry)
}

/// The record of a row that is not sent.
fn unsent(task: Task) -> Record {
    let (line, user, conv, conv_type, outcome, message) = match task {
        Task::Invalid(row) => {
            let message = row.error.to_string();
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
            let conv_type = row.conv_type.as_str().into();
            (row.line, row.user, row.conv, conv_type, Outcome::Skipped, message)
        }
        Task::Send(_) | Task::AlreadyDone => unreachable!("these are not recorded unsent"),
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
