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

/// Rows that the reading thread hands over at once, at most.
const READ_AT_ONCE: usize = 256;

/// How many such portions may wait.
const READ_AHEAD: usize = 4;

/// What is to be done about each row, in order.
pub(super) type Tasks = Box<dyn Iterator<Item = Result<Task, PlanError>> + Send>;

/// The thread that reads rows ahead, for reading blocks.
pub(super) struct Reader {
    portions: mpsc::Receiver<Portion>,
    thread: JoinHandle<()>,
}

/// What the reading thread hands over at once.
#[derive(Default)]
struct Portion {
    tasks: Vec<Task>,
    /// Rows before them that are done already; these are only counted, if nobody has counted them before.
    done: u64,
    /// There is nothing more after it, or what there is can't be read.
    end: Option<Result<(), PlanError>>,
}

impl Reader {
    /// Starts to read. `counts_done`: rows that are done already are counted on the way, not known before.
    pub fn start(tasks: Tasks, counts_done: bool) -> io::Result<Reader> {
        let (send, portions) = mpsc::channel(READ_AHEAD);
        let thread = std::thread::Builder::new()
            .name("rows".into())
            .spawn(move || read_ahead(tasks, counts_done, &send))?;
        Ok(Reader { portions, thread })
    }

    /// The next portion, whatever stops the run; `None` after the last, or after a stop after the last that was read.
    async fn next(&mut self, stop: &StopHandle) -> Option<Portion> {
        if !self.portions.is_closed() {
            tokio::select! {
                biased;
                // From then on only what has been read already is received.
                () = stop.asked() => self.portions.close(),
                portion = self.portions.recv() => return portion,
            }
        }
        self.portions.recv().await
    }
}

/// Reads to the end, or until nobody listens. A row is handed over at once where there is room, so that a slow input is
/// worked on as it comes; where there is none, rows gather, so that a fast one costs few wake-ups.
fn read_ahead(mut tasks: Tasks, counts_done: bool, out: &mpsc::Sender<Portion>) {
    let mut portion = Portion::default();
    loop {
        match tasks.next() {
            None => portion.end = Some(Ok(())),
            Some(Err(error)) => portion.end = Some(Err(error)),
            Some(Ok(Task::AlreadyDone)) => {
                portion.done += u64::from(counts_done);
                continue;
            }
            Some(Ok(task)) => portion.tasks.push(task),
        }
        let is_last = portion.end.is_some();
        let is_full = is_last || portion.tasks.len() >= READ_AT_ONCE;
        let is_sent = match out.try_reserve() {
            Ok(permit) => {
                permit.send(std::mem::take(&mut portion));
                true
            }
            Err(TrySendError::Full(())) if !is_full => continue,
            Err(_) => out.blocking_send(std::mem::take(&mut portion)).is_ok(),
        };
        if is_last || !is_sent {
            return;
        }
    }
}

/// Takes rows until the last, or until a stop. A row that is to be sent begins when it may try its first request; what is
/// not to be sent is recorded.
pub(super) async fn dispatch<S: Service>(mut reader: Reader, run: Arc<Shared<S>>) {
    while let Some(portion) = reader.next(&run.stop).await {
        if portion.done > 0 {
            run.tell(Event::AlreadyDone(portion.done));
        }
        for task in portion.tasks {
            dispatch_one(task, &run).await;
        }
        match portion.end {
            Some(Ok(())) => return,
            Some(Err(error)) => {
                run.stop.drain(StopReason::InputFailed(error.into()));
                return;
            }
            None => {}
        }
    }
    // There was no end: a stop, or else the thread is gone.
    if !run.stop.is_asked()
        && let Err(panic) = reader.thread.join()
    {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let how = format!("panicked with message {:?}", text.unwrap_or_default());
        run.stop.bug("the thread that reads the rows", &how);
    }
}

async fn dispatch_one<S: Service>(task: Task, run: &Arc<Shared<S>>) {
    if run.stop.is_asked() {
        // What was read ahead counts, though it is not run.
        return run.tell(NOT_RUN);
    }
    let message = match task {
        Task::Send(row) => tokio::select! {
            biased;
            begin = begin(row, run) => begin,
            () = run.stop.asked() => Message::Event(NOT_RUN, None),
        },
        other => Message::Event(Event::Settled(Box::new(unsent(other))), Some(run.in_flight().await)),
    };
    run.send(message);
}

async fn begin<S: Service>(row: Row, run: &Shared<S>) -> Message {
    run.breaker.admits_new_rows().await;
    let place = permit_of(&run.rows).await;
    let entry = run.enter().await;
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
