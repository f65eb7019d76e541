//! Rows that come from elsewhere than a file: standard input, and iterators and streams of a program that embeds the library.
//! What they come from takes its time, stalls, ends within a row, fails or panics.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::dispatcher::{get_default, with_default};
use zim_batch::journal::{IfExists, Journal, Report, RunBegin, RunLog};
use zim_batch::rows::{Done, Format, Input, InputError, Plan, Rows, Selection, Source};
use zim_batch::{Client, ConvType, Job, Row};

use crate::input::{self, Expected};
use crate::job::{Ended, Failed, Paths, begin, drive, process};
use crate::life::{Feed, FeedKind, Flags, Millis};
use crate::report;
use crate::stage::{JobState, Stage, name};
use crate::world::RunId;

/// What a source says when it fails.
pub const BROKEN: &str = "the source broke off";

/// The source of a run's rows.
#[derive(Debug, Clone)]
pub struct Fed {
    pub kind: FeedKind,
    /// How many rows it has.
    pub rows: usize,
    /// Behind them it breaks off, though there are more.
    pub breaks: bool,
    /// How many rows have been taken from it.
    pub taken: Arc<AtomicU64>,
}

impl Fed {
    /// Whether this is why a run stopped: it ended within a row, failed or panicked.
    pub fn is_why(&self, cause: &str) -> bool {
        self.breaks && (self.kind == FeedKind::Pipe || cause.contains(BROKEN))
    }
}

/// What writes the rows, until this is dropped.
struct Feeder(JoinHandle<()>);

impl Drop for Feeder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands over one portion after the other, each some time after the one before.
fn feed<T: Send + 'static>(
    items: Vec<T>,
    portion: usize,
    pause: Millis,
    mut send: impl FnMut(T) + Send + 'static,
) -> Feeder {
    Feeder(tokio::spawn(async move {
        for (nth, item) in items.into_iter().enumerate() {
            if nth > 0 && nth % portion == 0 {
                sleep(Duration::from_millis(pause)).await;
            }
            send(item);
        }
        sleep(Duration::from_millis(pause)).await;
    }))
}

/// A run whose rows do not come from a file.
pub async fn run(stage: &Arc<Stage>, run: RunId, flags: &Flags, client: Client, feed: &Feed) -> Result<Ended, Failed> {
    let plan = &stage.life.jobs[run.0];
    let mut flags = *flags;
    if feed.kind.is_of_program() {
        // The library has no such settings.
        (flags.dedupe, flags.limit) = (false, None);
    }
    let flags = &flags;
    let JobState { directory, lines, .. } = stage.job(run.0).clone();
    let paths = Paths::in_directory(stage, run.0, &directory);
    let mut journal = Report::open(&paths.report, &paths.outside, IfExists::Resume, false)?;
    let expected = input::expected(plan, &lines);
    // It breaks off behind the rows that have a record: otherwise the run could not even begin.
    let recorded = report::read(&paths.report)?.iter().map(|record| record.line).max();
    let recorded = expected.iter().filter(|row| Some(row.line) <= recorded).count();
    let breaks_at = feed.breaks.get(run.1).copied().flatten().map(|rows| recorded + rows);
    let breaks_at = breaks_at.filter(|rows| *rows < lines.len());
    let fed = Fed {
        kind: feed.kind,
        rows: breaks_at.unwrap_or(lines.len()),
        breaks: breaks_at.is_some(),
        taken: Arc::default(),
    };
    stage.tell(format!(
        "{} gets its rows from a source: {:?}, {} rows, {}",
        name(run),
        fed.kind,
        fed.rows,
        if fed.breaks { "breaks off" } else { "whole" }
    ));
    let portion = feed.portion;
    // Not for so long that a life would not end.
    let pause = feed.pause.min(300_000 * portion as u64 / (lines.len() as u64 + 1));
    let (job, _feeder) = match feed.kind {
        FeedKind::Pipe | FeedKind::Reader => {
            let mut portions = input::lines_of(plan, &lines);
            if let (FeedKind::Pipe, Some(breaks_at)) = (feed.kind, breaks_at) {
                // The first line is the header.
                let within = input::within_user(plan, &portions[breaks_at + 1]);
                portions.truncate(breaks_at + 1);
                portions.push(within);
            } else {
                portions.truncate(fed.rows + 1);
            }
            let selection = Selection {
                dedupe: flags.dedupe,
                limit: flags.limit,
                ..Selection::default()
            };
            let done = journal.take_done();
            let (planned, feeder) = if feed.kind == FeedKind::Pipe {
                let (reader, mut writer) = io::pipe()?;
                let source = Source::File(format!("/proc/self/fd/{}", reader.as_raw_fd()).into());
                let feeder = self::feed(portions, portion, pause, move |bytes| _ = writer.write_all(&bytes));
                let open = move || {
                    let input = Input::open(&source, &Format::default());
                    drop(reader);
                    input?.plan(&selection, done)
                };
                (planned(open).await?, feeder)
            } else {
                let (sender, bytes) = mpsc::channel();
                let is_broken = fed.breaks;
                let feeder = self::feed(portions, portion, pause, move |bytes| _ = sender.send(bytes));
                let reader = ChannelReader {
                    bytes,
                    rest: Vec::new(),
                    is_broken,
                };
                (planned(move || plan_of(reader, &selection, done)).await?, feeder)
            };
            journal.forget(planned.stale())?;
            (Job::planned(client, planned), feeder)
        }
        FeedKind::Iterator | FeedKind::Panics => {
            let (sender, rows) = mpsc::channel();
            let (is_broken, panics) = (fed.breaks, feed.kind == FeedKind::Panics);
            let feeder = self::feed(items(&expected[..fed.rows])?, portion, pause, move |row| {
                _ = sender.send(row)
            });
            let end = std::iter::from_fn(move || {
                if is_broken && panics {
                    // Without a message on stderr.
                    std::panic::resume_unwind(Box::new(BROKEN));
                }
                is_broken.then_some(Err(BROKEN))
            });
            let taken = Arc::clone(&fed.taken);
            let rows = rows.into_iter().map(Ok).chain(end.take(1));
            let rows = rows.inspect(move |_| _ = taken.fetch_add(1, Ordering::Relaxed));
            (Job::try_new(client, rows), feeder)
        }
        FeedKind::Stream => {
            let (sender, rows) = tokio::sync::mpsc::unbounded_channel();
            let feeder = self::feed(items(&expected[..fed.rows])?, portion, pause, move |row| {
                _ = sender.send(row)
            });
            let rows = ChannelStream {
                rows,
                breaks: fed.breaks,
                taken: Arc::clone(&fed.taken),
            };
            (Job::from_stream(client, rows), feeder)
        }
    };
    let is_resumed = journal.is_resumed();
    let log = RunLog::begin(RunLog::path_of(&paths.report), &RunBegin { ..begin(flags) }, is_resumed)?;
    let process = process(
        stage,
        run,
        &paths,
        vec![paths.report.clone(), paths.outside.clone()],
        is_resumed,
    );
    drive(stage, process, flags, job.report(journal), log, Some(fed)).await
}

/// The rows, without their lines.
fn items(expected: &[Expected]) -> Result<Vec<Row>, Failed> {
    let row = |row: &Expected| {
        let [user, conv, conv_type] = row.key.clone().ok_or("an invalid row has no place here")?;
        let conv_type = if conv_type == "2" {
            ConvType::Group
        } else {
            ConvType::Peer
        };
        Ok(Row::new(user, conv, conv_type)?)
    };
    expected.iter().map(row).collect()
}

fn plan_of(reader: ChannelReader, selection: &Selection, done: Done) -> Result<Plan, InputError> {
    let rows = Rows::from_reader(Box::new(reader), "a reader", &Format::default())?;
    Input::from(rows).plan(selection, done)
}

/// Plans on a thread, which may have to wait for rows.
async fn planned(plan: impl FnOnce() -> Result<Plan, InputError> + Send + 'static) -> Result<Plan, Failed> {
    let (sender, planned) = oneshot::channel();
    let (subscriber, span) = (get_default(Clone::clone), tracing::Span::current());
    let plan = move || with_default(&subscriber, || span.in_scope(plan));
    // By its name, `quiet` knows it.
    std::thread::Builder::new()
        .name("rows".into())
        .spawn(move || _ = sender.send(plan()))?;
    Ok(planned.await??)
}

/// Reads what is written at the other end, and fails behind it if that breaks off.
struct ChannelReader {
    bytes: Receiver<Vec<u8>>,
    rest: Vec<u8>,
    is_broken: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.bytes.recv() {
                Ok(bytes) => self.rest = bytes,
                Err(_) if self.is_broken => return Err(io::Error::other(BROKEN)),
                Err(_) => return Ok(0),
            }
        }
        let len = self.rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&self.rest[..len]);
        self.rest.drain(..len);
        Ok(len)
    }
}

struct ChannelStream {
    rows: UnboundedReceiver<Row>,
    breaks: bool,
    taken: Arc<AtomicU64>,
}

impl Stream for ChannelStream {
    type Item = Result<Row, &'static str>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.rows.poll_recv(context) {
            Poll::Ready(Some(row)) => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                Poll::Ready(Some(Ok(row)))
            }
            Poll::Ready(None) => Poll::Ready(std::mem::take(&mut self.breaks).then_some(Err(BROKEN))),
            Poll::Pending => Poll::Pending,
        }
    }
}
