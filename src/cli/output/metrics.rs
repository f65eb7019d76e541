//! Prometheus metrics of a run, in a text file for node_exporter's textfile collector.
//!
//! The file is replaced as a whole about every ten seconds and at the end. Everyone may read it: the collector is another
//! user, and the file contains no IDs. A failed write costs the metrics, never the run.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
    core::Collector,
};
use tokio::time::Instant;
use zim_batch::Rate;
use zim_batch::code::Class;
use zim_batch::event::Event;
use zim_batch::files::{self, READABLE};
use zim_batch::row::{Outcome, Subject};
use zim_batch::run::stats::Users;
use zim_batch::run::summary::Summary;
use zim_batch::run::{Observer, Status};

use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::work::Work;
use crate::cli::settings::files::check_target;
use crate::cli::settings::labels::METRICS;
use crate::cli::settings::labels::MetricsFile;

/// How often the file is written.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// The bucket bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The start of every metrics file.
const MAGIC: &str = "# HELP zim_batch_";

const EXIT_STATUS: &str = "zim_batch_last_exit_status";
const RUNNING: &str = "zim_batch_running";

/// The metrics of a run, and the file to write them to.
pub struct Metrics {
    file: MetricsFile,
    /// The number of rows, if known.
    total: Option<u64>,
    registry: Registry,
    /// In the order of [`Outcome::ALL`].
    rows: [IntCounter; Outcome::ALL.len()],
    /// Of a run that clears what it lists.
    users: Option<UserMetrics>,
    already_done: IntGauge,
    rows_left: IntGauge,
    requests: IntCounter,
    retries: IntCounter,
    limited: IntCounter,
    latency: Histogram,
    on_hold: IntGauge,
    running: IntGauge,
    target_rate: Gauge,
    rate_limit: Gauge,
    rate: Gauge,
    updated_at: Gauge,
    exit_status: IntGauge,
    /// When the file was last written, and the number of requests then.
    written: (Instant, u64),
    writing: Option<JoinHandle<io::Result<()>>>,
    /// The value of `on_hold` in the file; a change is written immediately.
    hold_written: i64,
    has_warned: bool,
    /// Invalid rows still count as success.
    ignore_invalid: bool,
}

/// The users of a run that clears what it lists.
struct UserMetrics {
    /// Their number, if known.
    total: Option<u64>,
    outcomes: IntCounterVec,
    left: IntGauge,
}

impl UserMetrics {
    fn set_left(&self, done: u64) {
        let left = self.total.map(|total| total.saturating_sub(done));
        self.left.set(left.map_or(-1, signed));
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Refuses a path that can't be replaced, or a file with other content, which would be lost.
    ///
    /// # Errors
    /// [`Error::Usage`], which says what the path is.
    pub fn check_target(path: &Path) -> Result<(), Error> {
        check_target(METRICS, path, MAGIC)?;
        if path.exists() && !path.is_file() {
            return Err(Error::Usage(format!(
                "--metrics {}: this is not a regular file; choose another one",
                path.display()
            )));
        }
        Ok(())
    }

    /// Writes the file for the first time. `rate` is the highest of the run.
    ///
    /// # Errors
    /// [`Error::Usage`] if the file can't be written, or has other content.
    pub fn start(file: &MetricsFile, work: &Work, rate: Rate, ignore_invalid: bool) -> Result<Metrics, Error> {
        let before = fs::read_to_string(&file.path).unwrap_or_default();
        let mut metrics = Metrics::new(file, work)
            .map_err(|error| Error::Unexpected(format!("the metrics could not be created: {error}")))?;
        let last = before
            .lines()
            .find_map(|line| line.strip_prefix(EXIT_STATUS)?.rsplit(' ').next()?.parse().ok());
        metrics.exit_status.set(last.unwrap_or_default());
        metrics.ignore_invalid = ignore_invalid;
        metrics.running.set(1);
        metrics.set_rows(work.rows, work.rows_done, work.rows_done);
        metrics.target_rate.set(rate.per_second());
        metrics.rate_limit.set(rate.per_second());
        let text = metrics.text();
        write(&file.path, &text).map_err(|error| {
            Error::Usage(format!(
                "--metrics {}: can't be written: {error}; choose a file in a directory that this user can write to",
                file.path.display()
            ))
        })?;
        warn_about_the_same_labels(&file.path, &text);
        Ok(metrics)
    }

    fn new(file: &MetricsFile, work: &Work) -> prometheus::Result<Metrics> {
        let labels = &file.labels;
        let labels = [
            ("app_id", &labels.app_id),
            ("command", &labels.command),
            ("name", &labels.name),
        ];
        let labels: HashMap<_, _> = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
        let registry = Registry::new();
        let opts = |name: &str, help: &str| Opts::new(name, help).const_labels(labels.clone());
        let gauge = |name: &str, help: &str| register(&registry, Gauge::with_opts(opts(name, help))?);
        let int_gauge = |name: &str, help: &str| register(&registry, IntGauge::with_opts(opts(name, help))?);
        let counter = |name: &str, help: &str| register(&registry, IntCounter::with_opts(opts(name, help))?);
        let rows = opts("zim_batch_rows_total", "Rows recorded by this run, by outcome.");
        let rows = register(&registry, IntCounterVec::new(rows, &["outcome"])?)?;
        let rows = Outcome::ALL.map(|outcome| rows.with_label_values(&[outcome.as_str()]));
        let users = |total| -> prometheus::Result<UserMetrics> {
            let users = opts("zim_batch_users_total", "Users recorded by this run, by outcome.");
            let users = register(&registry, IntCounterVec::new(users, &["outcome"])?)?;
            // No user is outside.
            let outcomes = Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Outside);
            outcomes.for_each(|outcome| drop(users.with_label_values(&[outcome.as_str()])));
            Ok(UserMetrics {
                total,
                outcomes: users,
                left: int_gauge(
                    "zim_batch_users_left",
                    "Users without a record; -1 if the number of users is unknown.",
                )?,
            })
        };
        let latency = HistogramOpts {
            common_opts: opts(
                "zim_batch_request_duration_seconds",
                "Time from the start of a request to its complete answer, or to its failure.",
            ),
            buckets: BOUNDS.to_vec(),
        };
        let latency = register(&registry, Histogram::with_opts(latency)?)?;
        let started_at = gauge(
            "zim_batch_start_time_seconds",
            "Start time of this run, in seconds since the epoch.",
        )?;
        started_at.set(since_epoch());
        let metrics = Metrics {
            file: file.clone(),
            total: work.rows,
            rows,
            users: work.users.map(users).transpose()?,
            already_done: int_gauge("zim_batch_rows_already_done", "Rows recorded by earlier runs.")?,
            rows_left: int_gauge(
                "zim_batch_rows_left",
                "Rows without a record; -1 if the number of rows is unknown.",
            )?,
            requests: counter("zim_batch_requests_total", "Requests sent, including retries.")?,
            retries: counter(
                "zim_batch_retries_total",
                "Requests other than the first one of each row.",
            )?,
            limited: counter("zim_batch_limited_total", "Answers that reported too many requests.")?,
            latency,
            on_hold: int_gauge(
                "zim_batch_on_hold",
                "1 while the service is unavailable and only probes are sent.",
            )?,
            running: int_gauge(RUNNING, "1 while a run is under way.")?,
            target_rate: gauge(
                "zim_batch_target_requests_per_second",
                "Target rate: the cap, or less after limited answers.",
            )?,
            rate_limit: gauge(
                "zim_batch_rate_limit",
                "Maximum requests per second in force: the run's own rate, or a lower limit; 0 in a pause and after the run.",
            )?,
            rate: gauge("zim_batch_requests_per_second", "Measured rate since the last update.")?,
            updated_at: gauge(
                "zim_batch_last_update_time_seconds",
                "Time of the last update, in seconds since the epoch.",
            )?,
            exit_status: int_gauge(
                EXIT_STATUS,
                "Exit status of the last run that ended; 0 before the first.",
            )?,
            registry,
            written: (Instant::now(), 0),
            writing: None,
            hold_written: 0,
            has_warned: false,
            ignore_invalid: false,
        };
        Ok(metrics)
    }

    /// Records that a run failed to start, or ended without a summary, with this exit status.
    pub fn ended_early(file: &MetricsFile, status: u8) {
        let Ok(text) = Metrics::check_target(&file.path).and_then(|()| {
            let mut metrics = Metrics::new(file, &Work::default())
                .map_err(|error| Error::Unexpected(format!("the metrics could not be created: {error}")))?;
            metrics.rows_left.set(-1);
            metrics.exit_status.set(status.into());
            Ok(metrics.text())
        }) else {
            return;
        };
        // An error is ignored: the run has already reported why it ended.
        let _ = write(&file.path, &text);
    }

    fn set_rates(&mut self, target_rate: f64, rate_limit: f64) {
        self.rate_limit.set(rate_limit);
        self.target_rate.set(target_rate);
        let (at, requests) = self.written;
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        self.rate
            .set(self.requests.get().saturating_sub(requests) as f64 / seconds);
        self.written = (Instant::now(), self.requests.get());
    }

    fn set_rows(&mut self, total: Option<u64>, done: u64, already_done: u64) {
        self.already_done.set(signed(already_done));
        let left = total.map(|total| total.saturating_sub(done));
        self.rows_left.set(left.map_or(-1, signed));
    }

    fn text(&mut self) -> String {
        self.updated_at.set(since_epoch());
        self.hold_written = self.on_hold.get();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            self.warn(&io::Error::other(error));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    fn warn(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                "--metrics {}: can't be written: {error}; the run continues. This warning appears only once",
                self.file.path.display()
            );
        }
    }
}

/// Each event updates the counters.
impl Observer for Metrics {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Sent { is_retry, .. } => {
                self.requests.inc();
                self.retries.inc_by((*is_retry).into());
            }
            Event::Answered { class, latency, .. } => {
                self.limited.inc_by((*class == Class::Limited).into());
                if let Some(latency) = latency {
                    self.latency.observe(latency.as_secs_f64());
                }
            }
            Event::Settled(record) => match (&self.users, record.subject) {
                (Some(users), Subject::User) => users.outcomes.with_label_values(&[record.outcome.as_str()]).inc(),
                _ => self.rows[record.outcome as usize].inc(),
            },
            Event::Held { .. } => self.on_hold.set(1),
            Event::Released => self.on_hold.set(0),
            _ => {}
        }
    }

    /// Writes the file if it is due, on a separate thread, because the disk may be slow.
    fn tick(&mut self, status: &Status<'_>) {
        let rate_limit = status.limit.rate().map_or(0.0, Rate::per_second);
        let is_changed = self.on_hold.get() != self.hold_written || self.rate_limit.get() != rate_limit;
        if (self.written.0.elapsed() < WRITE_INTERVAL && !is_changed)
            || self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
        {
            return;
        }
        if let Some(Ok(Err(error))) = self.writing.take().map(JoinHandle::join) {
            self.warn(&error);
        }
        let stats = status.stats;
        let rows = stats.users().map(Users::rows).or(self.total);
        self.set_rows(rows, stats.done(), stats.already_done());
        if let (Some(metrics), Some(users)) = (&self.users, stats.users()) {
            metrics.set_left(users.done());
        }
        self.set_rates(status.rate, rate_limit);
        let (path, text) = (self.file.path.clone(), self.text());
        let writing = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || write(&path, &text));
        match writing {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => self.warn(&error),
        }
    }

    /// Writes the file for the last time.
    fn end(&mut self, summary: &Summary) {
        let recorded: u64 = self.rows.iter().map(IntCounter::get).sum();
        let total = summary
            .users
            .as_ref()
            .map_or(self.total, |users| Some(users.conversations));
        self.set_rows(total, recorded + summary.already_done, summary.already_done);
        if let (Some(metrics), Some(users)) = (&self.users, &summary.users) {
            metrics.left.set(signed(users.not_run));
        }
        self.set_rates(0.0, 0.0);
        self.running.set(0);
        self.on_hold.set(0);
        self.exit_status
            .set(ExitStatus::of_run(summary, self.ignore_invalid).code().into());
        // A write in progress must finish first.
        let _ = self.writing.take().map(JoinHandle::join);
        let text = self.text();
        if let Err(error) = write(&self.file.path, &text) {
            self.warn(&error);
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn since_epoch() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// Warns if another file in the directory has metrics with the same labels: a collector would refuse one of them.
fn warn_about_the_same_labels(path: &Path, text: &str) {
    let Some(series) = series(text) else { return };
    let siblings = fs::read_dir(files::directory_of(path)).into_iter().flatten().flatten();
    let same = siblings.map(|entry| entry.path()).find(|other| {
        other.extension().is_some_and(|extension| extension == "prom")
            && other.is_file()
            && !files::same_file(other, path)
            && fs::read_to_string(other).is_ok_and(|text| self::series(&text) == Some(series))
    });
    if let Some(other) = same {
        tracing::warn!(
            "--metrics {}: {} has metrics of a job with the same name, app and command, so a collector refuses one of \
             them; give this job another name with --name, or remove the other file",
            path.display(),
            other.display()
        );
    }
}

/// A series that is in every metrics file, with its labels.
fn series(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with(RUNNING))?;
    line.rsplit_once(' ').map(|(series, _)| series)
}

/// Replaces the file, so that a reader sees either the new or the previous text.
fn write(path: &Path, text: &str) -> io::Result<()> {
    files::replace(path, MAGIC, READABLE, |out| out.write_all(text.as_bytes()))
}
