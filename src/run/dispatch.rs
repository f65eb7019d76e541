//! From the reading thread to the gate: rows in file order, one at a time.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Message, NOT_RUN, Shared, permit_of};
use crate::client::Service;
use crate::event::Event;
use crate::row::{Item, Outcome, Record};
use crate::rows::{InputError, Task};
use crate::stop::{StopHandle, StopReason};

/// Rows that are read ahead, at most.
const READ_AHEAD: usize = 1024;

/// Rows for which room is reserved at once.
const PORTION: usize = 256;

/// What is to be done about each row, in order.
pub(super) type Tasks<I> = Box<dyn Iterator<Item = Result<Task<I>, InputError>> + Send>;

/// The thread that reads rows ahead, for reading blocks.
pub(super) struct Reader<I> {
    rows: mpsc::Receiver<Read<I>>,
    thread: JoinHandle<()>,
}

/// What the reading thread has found.
enum Read<I> {
    Task(Task<I>),
    /// There is nothing more, or what there is can't be read.
    End(Result<(), InputError>),
}

impl<I: Item> Reader<I> {
    /// Starts to read. `counts_done`: rows that are done already are counted on the way, not known before.
    pub fn start(tasks: Tasks<I>, counts_done: bool) -> io::Result<Reader<I>> {
        let (send, rows) = mpsc::channel(READ_AHEAD);
        let runtime = Handle::current();
        let thread = std::thread::Builder::new()
            .name("rows".into())
            .spawn(move || read_ahead(tasks, counts_done, &send, &runtime))?;
        Ok(Reader { rows, thread })
    }

    /// Returns the next item. After a stop, returns the items already in the channel, then `None`.
    async fn next(&mut self, stop: &StopHandle) -> Option<Read<I>> {
        tokio::select! {
            biased;
            // The channel itself ends only when the thread gives up the room that it has reserved, and it may read for ever.
            () = stop.stopping() => self.rows.try_recv().ok(),
            read = self.rows.recv() => read,
        }
    }
}

/// Reads to the end, or until the run has stopped. Each row is sent on immediately, because the next one may take long; room
/// for them is reserved in portions, so that a fast input costs few wake-ups.
fn read_ahead<I>(mut tasks: Tasks<I>, counts_done: bool, out: &mpsc::Sender<Read<I>>, runtime: &Handle) {
    loop {
        // An error means that the run has stopped.
        let Ok(room) = runtime.block_on(out.reserve_many(PORTION)) else {
            return;
        };
        for permit in room {
            let task = loop {
                match tasks.next() {
                    Some(Ok(Task::AlreadyDone)) if !counts_done => {}
                    task => break task,
                }
            };
            let read = match task {
                Some(Ok(task)) => Read::Task(task),
                Some(Err(error)) => Read::End(Err(error)),
                None => Read::End(Ok(())),
            };
            let is_end = matches!(read, Read::End(_));
            permit.send(read);
            if is_end {
                return;
            }
        }
    }
}

/// Takes rows until the last one, or until the run stops. A row starts when its first request may be tried; a row that is not
/// sent is recorded.
pub(super) async fn dispatch<S: Service>(mut reader: Reader<S::Item>, run: Arc<Shared<S>>) {
    while let Some(read) = reader.next(&run.stop).await {
        match read {
            Read::Task(task) => dispatch_one(task, &run).await,
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

async fn dispatch_one<S: Service>(task: Task<S::Item>, run: &Arc<Shared<S>>) {
    if run.stop.is_stopping() && !matches!(task, Task::AlreadyDone) {
        // What was read ahead counts, though it is not run.
        return run.tell(NOT_RUN);
    }
    let (key, line, outcome, message) = match task {
        Task::AlreadyDone => return run.tell(Event::AlreadyDone(1)),
        Task::Send(item) => {
            let message = tokio::select! {
                biased;
                begin = begin(item, run) => begin,
                () = run.stop.stopping() => Message::Event(NOT_RUN, None),
            };
            return run.send(message);
        }
        Task::Invalid(row) => {
            let message = row.error.to_string();
            ([row.user, row.conv, row.conv_type], row.line, Outcome::Invalid, message)
        }
        Task::Skip { item, first } => {
            let message = format!("the same as line {first}");
            (item.key().map(str::to_owned), item.line(), Outcome::Skipped, message)
        }
    };
    let record = unsent(key, line, outcome, message);
    run.send(Message::Event(
        Event::Settled(Box::new(record)),
        Some(run.in_flight().await),
    ));
}

async fn begin<S: Service>(item: S::Item, run: &Shared<S>) -> Message<S::Item> {
    run.breaker.admits_new_rows().await;
    let place = permit_of(&run.rows).await;
    let entry = run.enter(true).await;
    Message::Begin(item, place, entry)
}

/// The record of a row that is not sent.
fn unsent([user, conv, conv_type]: [String; 3], line: u64, outcome: Outcome, message: String) -> Record {
    Record {
        line,
        user,
        conv,
        conv_type: conv_type.into(),
        outcome,
        code: None,
        http: None,
        message,
        request_id: String::new(),
        attempts: 0,
        latency: None,
        finished_at: SystemTime::now(),
        conversations: Vec::new(),
    }
}
