//! What a run needs: rows, a client, bounds, and where results go.

use std::error::Error as StdError;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::task::Context;
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::observer::Observer;
use super::sleep::Clocks;
use super::source::Source;
use crate::client::{ClearUsers, Service, UserOrRow};
use crate::error::Error;
use crate::event::Event;
use crate::journal::{Journal, UsersReport};
use crate::limiter::{Limiter, Rate, Timetable};
use crate::row::{Record, Row};
use crate::rows::Plan;
use crate::run::stats::Total;
use crate::run::summary::Summary;
use crate::stop::{self, Cause, StopHandle};

/// The bounds of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Maximum requests in flight.
    pub max_in_flight: NonZeroUsize,
    /// Attempts for each row; `limited` answers and probes don't count.
    pub max_attempts: NonZeroU32,
    /// Stop when the service has been unreachable this long. Time in which the machine sleeps is included.
    pub give_up_after: Duration,
    /// Stop when this many rows have failed.
    pub max_failures: Option<NonZeroU64>,
    /// Take no more rows after this long. Time in which the machine sleeps is included.
    pub max_duration: Option<Duration>,
    /// Take no more rows from this time on, by the system's clock. With `max_duration` too, what comes first applies.
    pub until: Option<SystemTime>,
    /// Stop when this many first rows have failed, all with the same answer: the others would fail too. Rows of one user count
    /// once, because an answer may be about the user.
    pub max_rejected_alike: NonZeroU64,
}

impl Default for Limits {
    /// The defaults of the program too.
    fn default() -> Limits {
        Limits {
            max_in_flight: NonZeroUsize::new(64).expect("it is not zero"),
            max_attempts: NonZeroU32::new(6).expect("it is not zero"),
            give_up_after: Duration::from_secs(30 * 60),
            max_failures: None,
            max_duration: None,
            until: None,
            max_rejected_alike: NonZeroU64::new(20).expect("it is not zero"),
        }
    }
}

/// A run that has not begun.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zim_batch::{Client, ConvType, Job, Row};
///
/// let client = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38").build()?;
/// let rows = ["alice", "bob"].map(|user| Row::new(user, "#team", ConvType::Group));
/// let summary = Job::try_new(client, rows)
///     .rate(5.0.try_into()?)
///     .on_record(|record| println!("{}: {}", record.user, record.outcome))
///     .run()
///     .await?;
/// assert!(summary.is_success());
/// # Ok(())
/// # }
/// ```
#[must_use = "a job does nothing until it is run"]
pub struct Job<S: Service> {
    pub(super) service: S,
    pub(super) source: Source<S::Item>,
    pub(super) total: Total,
    /// How many rows are done already, if they have been counted before the run.
    pub(super) already_done: Option<u64>,
    pub(super) limiter: Limiter,
    pub(super) report: Option<Box<dyn Journal>>,
    pub(super) observers: Vec<Box<dyn Observer>>,
    pub(super) limits: Limits,
    pub(super) stop: StopHandle,
    pub(super) started_at: Instant,
    pub(super) clocks: Clocks,
}

impl<S: Service> fmt::Debug for Job<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("total", &self.total)
            .field("limiter", &self.limiter)
            .field("report", &self.report)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Job<ClearUsers> {
    /// Lists the users, writes their conversations to the rows file of the report, and clears these rows in the same run.
    /// Rows that are listed are cleared before more users are listed; listing stays at most about 1000 rows ahead.
    ///
    /// `users` is planned with the [list report](UsersReport::list), `rows` is [`Plan::of_listed`].
    pub fn listed(service: ClearUsers, users: Plan, rows: Plan, report: UsersReport) -> Job<ClearUsers> {
        let total = Total {
            users: users.total(),
            is_limited: rows.has_limit(),
            ..Total::default()
        };
        let rows_done = rows.rows_done();
        let users = users.map(|user| user.map(|user| user.map(UserOrRow::user)).map_err(Cause::from));
        let source = Source::Listed {
            users: Box::new(users),
            listed: report.listed(),
            rows_done,
            rows: Box::new(rows.map(|row| row.map(|row| row.map(UserOrRow::Row)).map_err(Cause::from))),
        };
        Job {
            total,
            already_done: Some(rows_done),
            ..Job::of(service, source)
        }
        .report(report)
    }
}

impl<S: Service> Job<S> {
    /// Sends these rows, in order.
    ///
    /// They are iterated over on a thread of their own, which may block; at most 64 are taken before their turn. A run that
    /// stops early counts those as [`Summary::not_run`]; an iterator that blocks at that moment, for more than 100 ms, may
    /// return one more, which is not counted. If the iterator panics, the run ends as after an error of [`Job::try_new`].
    pub fn new<R>(service: S, rows: R) -> Job<S>
    where
        R: IntoIterator<Item: Into<S::Item>>,
        R::IntoIter: Send + 'static,
    {
        let rows = rows.into_iter();
        let total = match rows.size_hint() {
            (least, Some(most)) if least == most => u64::try_from(most).ok(),
            _ => None,
        };
        Job {
            total: total.into(),
            ..Job::of(service, Source::iterator(rows.map(|row| Ok(row.into()))))
        }
    }

    /// Sends these rows, in order, until the first error: when the rows before it have their outcomes, the run ends as
    /// [`StopReason::InputFailed`](crate::StopReason::InputFailed), of which the error is the source. As for [`Job::new`], a
    /// thread iterates over them.
    pub fn try_new<R, T, E>(service: S, rows: R) -> Job<S>
    where
        R: IntoIterator<Item = Result<T, E>>,
        R::IntoIter: Send + 'static,
        T: Into<S::Item>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let rows = rows.into_iter();
        let rows = rows.map(|row| row.map(Into::into).map_err(Cause::from));
        Job::of(service, Source::iterator(rows))
    }

    /// Sends the rows of a stream, in order, until the first error, as [`Job::try_new`] does. There is no thread: the stream is
    /// polled in a task of the runtime. One row at most is taken before its turn.
    pub fn from_stream<R, T, E>(service: S, rows: R) -> Job<S>
    where
        R: Stream<Item = Result<T, E>> + Send + 'static,
        T: Into<S::Item>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut rows = Box::pin(rows);
        let poll = move |context: &mut Context<'_>| {
            let next = rows.as_mut().poll_next(context);
            next.map_ok(Into::into).map_err(Cause::from)
        };
        Job::of(service, Source::Stream(Box::new(poll)))
    }

    /// Works on the rows of an input as planned.
    pub fn planned(service: S, plan: Plan) -> Job<S>
    where
        S::Item: From<Row>,
    {
        let total = plan.total();
        // All of them have been found in the input, however early the run stops.
        let already_done = total.map(|_| plan.rows_done());
        let tasks = plan.map(|task| task.map(|task| task.map(S::Item::from)).map_err(Cause::from));
        Job {
            total: total.into(),
            already_done,
            ..Job::of(service, Source::Input(Box::new(tasks)))
        }
    }

    fn of(service: S, source: Source<S::Item>) -> Job<S> {
        Job {
            service,
            source,
            total: Total::default(),
            already_done: None,
            limiter: Limiter::new(Rate::default()),
            report: None,
            observers: Vec::new(),
            limits: Limits::default(),
            stop: StopHandle::new(),
            started_at: Instant::now(),
            clocks: Clocks::default(),
        }
    }

    /// Maximum requests in any second; default: 20.
    pub fn rate(self, rate: Rate) -> Job<S> {
        self.limiter(Limiter::new(rate))
    }

    /// Maximum requests in any second by the time of day, by the system's clock and in the local time zone,
    /// or UTC if none is known.
    pub fn timetable(self, timetable: Timetable) -> Job<S> {
        self.limiter(Limiter::by_timetable(timetable, None))
    }

    /// Uses this limiter, for instance one that [shares a quota](Limiter::sharing).
    pub fn limiter(self, limiter: Limiter) -> Job<S> {
        Job { limiter, ..self }
    }

    /// Writes each record to this report. Rows that the report has already are not sent: so a run with a report that was
    /// opened with [`IfExists::Resume`](crate::journal::IfExists::Resume) resumes the earlier one.
    ///
    /// A report identifies rows by their line. Rows without an input are numbered in their order, from 1, so a run that
    /// resumes must get the same rows in the same order; there may be more behind them. A row that differs from its record
    /// ends the run as [`StopReason::InputFailed`](crate::StopReason::InputFailed).
    pub fn report(self, report: impl Journal + 'static) -> Job<S> {
        Job {
            report: Some(Box::new(report)),
            ..self
        }
    }

    /// Puts something around the report. For this crate's own tests.
    #[doc(hidden)]
    pub fn around_report(self, wrap: impl FnOnce(Box<dyn Journal>) -> Box<dyn Journal>) -> Job<S> {
        Job {
            report: self.report.map(wrap),
            ..self
        }
    }

    /// Tells this observer too what happens.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Job<S> {
        self.observers.push(Box::new(observer));
        self
    }

    /// Calls this with every event.
    pub fn on_event(self, on_event: impl FnMut(&Event) + Send + 'static) -> Job<S> {
        self.observer(on_event)
    }

    /// Calls this with every record, once it is written.
    pub fn on_record(self, mut on_record: impl FnMut(&Record) + Send + 'static) -> Job<S> {
        self.observer(move |event: &Event| {
            if let Event::Settled(record) = event {
                on_record(record);
            }
        })
    }

    /// Bounds the run.
    pub fn limits(self, limits: Limits) -> Job<S> {
        Job { limits, ..self }
    }

    /// Lets this handle stop the run; it also tells why the run stopped.
    pub fn stop_handle(self, stop: StopHandle) -> Job<S> {
        Job { stop, ..self }
    }

    /// The start time for [`Limits::max_duration`]; default: when the job was created.
    pub fn started_at(self, started_at: Instant) -> Job<S> {
        Job { started_at, ..self }
    }

    /// By other clocks: that of the system, and how long the machine has slept since it was started. For this crate's own
    /// tests.
    #[doc(hidden)]
    pub fn by_clocks(
        self,
        wall: impl Fn() -> SystemTime + Send + 'static,
        slept: impl Fn() -> Duration + Send + 'static,
    ) -> Job<S> {
        let clocks = Clocks {
            wall: Box::new(wall),
            slept: Box::new(slept),
        };
        Job { clocks, ..self }
    }

    /// Runs to the end, or to the stop that comes first; the summary says which. Dropping the future ends the run
    /// immediately; what was recorded stays.
    ///
    /// Log lines, observers and the iterator or stream of rows are in the [`tracing`] span of the caller: the one in which
    /// the future is first polled or, if there is none, the one in which this was called.
    ///
    /// # Errors
    /// If the run could not begin, or a bug in this crate ended it without a summary; what was recorded stays.
    pub fn run(self) -> impl Future<Output = Result<Summary, Error>> + Send {
        let called_in = Span::current();
        async move {
            let polled_in = Span::current();
            let span = if polled_in.is_none() { called_in } else { polled_in };
            // In a task of its own: a panic of the loop doesn't reach the caller, and messages wake it cheaply.
            let mut run = JoinSet::new();
            run.spawn(super::run(self).instrument(span));
            match run.join_next().await {
                Some(Ok(ended)) => ended,
                Some(Err(panic)) => Err(Error::Bug(stop::bug("the part that records results", &panic))),
                None => unreachable!("it was just spawned"),
            }
        }
    }
}
