//! Where a run's rows come from: an iterator, which may block and so has a thread, or a stream.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tracing::Span;
use tracing::dispatcher::{Dispatch, get_default, with_default};

use crate::listed::Listed;
use crate::row::Numbered;
use crate::rows::Task;
use crate::stop::{Cause, StopHandle};

/// How many rows of an input are read ahead. They are read in portions, so that a fast input costs few wake-ups.
const READ_AHEAD_OF_INPUT: usize = 1024;

/// How many rows of a caller's iterator are taken ahead. With the one that waits for its first request these are the 64 that
/// [`Job::new`](crate::Job::new) promises.
const READ_AHEAD_OF_CALLER: usize = 63;

/// How many rows are listed ahead of those that are cleared, but for the rest of a user's.
const LIST_AHEAD: u64 = 1000;

/// How long a stop waits for an iterator to return what it is about to return. It may block forever.
const ITERATOR_MAY_TAKE: Duration = Duration::from_millis(100);

/// What is to be done about each row, in order.
pub(super) type Tasks<I> = Box<dyn Iterator<Item = Result<Task<I>, Cause>> + Send>;

/// Polls a stream for its next row.
pub(super) type PollRow<I> = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<I, Cause>>> + Send>;

/// Where rows come from.
pub(super) enum Source<I> {
    /// An input, read by this crate.
    Input(Tasks<I>),
    /// An iterator of the caller's.
    Iterator(Tasks<I>),
    /// A stream of the caller's.
    Stream(PollRow<I>),
    /// Users to list, and the rows that are listed for them.
    Listed {
        users: Tasks<I>,
        rows: Tasks<I>,
        listed: Listed,
        /// The rows of the file that are done already.
        rows_done: u64,
    },
}

impl<I> Source<I> {
    /// Items of the caller's, numbered in their order.
    pub fn iterator(items: impl Iterator<Item = Result<I, Cause>> + Send + 'static) -> Source<I> {
        let tasks = items.zip(1..).map(|(item, line)| {
            let item = item?;
            Ok(Task::Send(Numbered { line, item }))
        });
        Source::Iterator(Box::new(tasks))
    }
}

/// What the source returns next.
pub(super) enum Next<I> {
    Task(Task<I>),
    /// There are no more rows.
    End,
    /// There are more rows, but they can't be had.
    Failed(Cause),
    /// The source panicked; with its message.
    Panicked(String),
}

/// A source that is being read.
pub(super) struct Reader<I> {
    rows: Rows<I>,
    /// The rows come from the caller, not from an input that this crate reads.
    pub is_of_caller: bool,
}

enum Rows<I> {
    Thread(Reading<I>),
    Stream {
        poll: PollRow<I>,
        line: u64,
    },
    Listed {
        /// `None` after the last one.
        users: Option<Reading<I>>,
        rows: Reading<I>,
        listed: Listed,
        /// The rows of the file that are done or have been returned.
        rows_taken: u64,
    },
}

/// A thread that takes rows from an iterator.
struct Reading<I> {
    received: mpsc::Receiver<Next<I>>,
    thread: JoinHandle<()>,
}

impl<I: Send + 'static> Reader<I> {
    /// Begins to read. `counts_done`: rows that are done already are counted on the way, not known before.
    pub fn start(source: Source<I>, counts_done: bool, stop: &StopHandle) -> io::Result<Reader<I>> {
        let is_of_caller = !matches!(source, Source::Input(_));
        let rows = match source {
            Source::Input(tasks) => Rows::Thread(Reading::start(tasks, READ_AHEAD_OF_INPUT, counts_done, stop)?),
            Source::Iterator(tasks) => Rows::Thread(Reading::start(tasks, READ_AHEAD_OF_CALLER, counts_done, stop)?),
            Source::Stream(poll) => Rows::Stream { poll, line: 0 },
            Source::Listed {
                users,
                rows,
                listed,
                rows_done,
            } => Rows::Listed {
                users: Some(Reading::start(users, READ_AHEAD_OF_INPUT, counts_done, stop)?),
                rows: Reading::start(rows, READ_AHEAD_OF_INPUT, counts_done, stop)?,
                listed,
                rows_taken: rows_done,
            },
        };
        Ok(Reader { rows, is_of_caller })
    }

    /// Waits for the next row; `None` if the run stops before it is there.
    pub async fn next(&mut self, stop: &StopHandle) -> Option<Next<I>> {
        tokio::select! {
            biased;
            () = stop.stopping() => None,
            next = self.rows.next() => Some(next),
        }
    }

    /// After a stop: the rows that were taken from the source, and that [`Reader::next`] has not returned.
    pub async fn left_over(self) -> Vec<Task<I>> {
        // Rows and users of files are counted by what the files have.
        let Rows::Thread(Reading { mut received, thread }) = self.rows else {
            return Vec::new();
        };
        // It ends before it takes another row.
        let waited = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            while !thread.is_finished() && began.elapsed() < ITERATOR_MAY_TAKE {
                thread::sleep(Duration::from_millis(1));
            }
        });
        // An error means that the runtime shuts down.
        let _ = waited.await;
        let received = std::iter::from_fn(|| received.try_recv().ok());
        let tasks = received.filter_map(|next| match next {
            Next::Task(task) => Some(task),
            _ => None,
        });
        tasks.collect()
    }
}

impl<I: Send + 'static> Reading<I> {
    fn start(tasks: Tasks<I>, read_ahead: usize, counts_done: bool, stop: &StopHandle) -> io::Result<Reading<I>> {
        let (send, received) = mpsc::channel(read_ahead);
        let reading = ReadingThread {
            tasks,
            counts_done,
            portion: read_ahead.div_ceil(4),
            stop: stop.clone(),
        };
        let runtime = Handle::current();
        // What is logged there is logged where the run logs, and in its span.
        let (subscriber, span) = (get_default(Dispatch::clone), Span::current());
        let read = move || with_default(&subscriber, || span.in_scope(|| reading.run(&send, &runtime)));
        let thread = thread::Builder::new().name("rows".into()).spawn(read)?;
        Ok(Reading { received, thread })
    }

    async fn next(&mut self) -> Next<I> {
        let next = self.received.recv().await;
        next.unwrap_or_else(|| Next::Panicked("ended without a result".into()))
    }
}

impl<I: Send + 'static> Rows<I> {
    async fn next(&mut self) -> Next<I> {
        match self {
            Rows::Thread(reading) => reading.next().await,
            Rows::Listed {
                users,
                rows,
                listed,
                rows_taken,
            } => loop {
                let next_user = async {
                    listed.ahead_less_than(LIST_AHEAD, *rows_taken).await;
                    match users {
                        Some(users) => users.next().await,
                        None => pending().await,
                    }
                };
                tokio::select! {
                    // Rows that were listed are cleared before more are listed.
                    biased;
                    next = rows.next() => {
                        *rows_taken += 1;
                        return next;
                    }
                    next = next_user => match next {
                        Next::End => {
                            *users = None;
                            listed.all_users_taken();
                        }
                        next => {
                            listed.take_user();
                            return next;
                        }
                    }
                }
            },
            Rows::Stream { poll, line } => {
                let next = poll_fn(|context| match catch(|| poll(context)) {
                    Ok(poll) => poll.map(Ok),
                    Err(message) => Poll::Ready(Err(message)),
                });
                match next.await {
                    Ok(Some(Ok(item))) => {
                        *line += 1;
                        Next::Task(Task::Send(Numbered { line: *line, item }))
                    }
                    Ok(Some(Err(error))) => Next::Failed(error),
                    Ok(None) => Next::End,
                    Err(message) => Next::Panicked(message),
                }
            }
        }
    }
}

/// The thread that takes rows from an iterator.
struct ReadingThread<I> {
    tasks: Tasks<I>,
    counts_done: bool,
    /// Rows for which room is reserved at once.
    portion: usize,
    stop: StopHandle,
}

impl<I> ReadingThread<I> {
    /// Reads to the end, or until the run stops. Each row is sent on immediately, because the next one may take long.
    fn run(mut self, out: &mpsc::Sender<Next<I>>, runtime: &Handle) {
        // An error means that the run has ended.
        while let Ok(room) = runtime.block_on(out.reserve_many(self.portion)) {
            for permit in room {
                if self.stop.is_stopping() {
                    return;
                }
                let next = self.next();
                let is_task = matches!(next, Next::Task(_));
                permit.send(next);
                if !is_task {
                    return;
                }
            }
        }
    }

    fn next(&mut self) -> Next<I> {
        loop {
            match catch(|| self.tasks.next()) {
                Ok(Some(Ok(Task::AlreadyDone))) if !self.counts_done => {}
                Ok(Some(Ok(task))) => return Next::Task(task),
                Ok(Some(Err(error))) => return Next::Failed(error),
                Ok(None) => return Next::End,
                Err(message) => return Next::Panicked(message),
            }
        }
    }
}

/// Returns the message of a panic as an error. What panicked is not used again.
fn catch<T>(source: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(source)).map_err(|panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("panicked with message {:?}", text.unwrap_or_default())
    })
}
