//! The states of a run. Each is made from the one before, so their order can't be wrong.

use std::path::Path;
use std::time::SystemTime;

use tokio::time::Instant;
use zim_batch::client::{Client, Service};
use zim_batch::limiter::{Limiter, RateLimit};
use zim_batch::rows::Snapshot;
use zim_batch::run::summary::Summary;
use zim_batch::run::{Job, Limits};
use zim_batch::stop::{StopHandle, StopReason};

use crate::cli::engine::input::watch;
use crate::cli::engine::{client, process, quota, signals, simulator};
use crate::cli::errors::{Error, hints};
use crate::cli::output::metrics::Metrics;
use crate::cli::output::next;
use crate::cli::output::print::{print_error, print_note};
use crate::cli::output::progress::{Ends, Progress, Terminal};
use crate::cli::output::rate_changes::RateChanges;
use crate::cli::output::work::Work;
use crate::cli::settings::run::RunSettings;

/// The process is ready: it has the threads and handles the signals that a run needs.
pub struct Prepared {
    settings: RunSettings,
    terminal: Terminal,
    started_at: Instant,
    status_signal: signals::StatusSignal,
}

/// The client is built: where requests go is known, and the secret is read.
pub struct Connected {
    prepared: Prepared,
    client: Client,
    limits: Limits,
}

/// The run has joined the others that share the app's quota, so requests may be sent.
pub struct Joined {
    connected: Connected,
    /// What it does, for the log.
    name: String,
    /// All jobs of the run share it.
    limiter: Limiter,
    stop: StopHandle,
}

/// The run has ended.
pub struct Ended {
    pub summary: Summary,
    pub settings: RunSettings,
    pub terminal: Terminal,
    /// Names the app and the endpoint.
    service: String,
}

impl Prepared {
    /// The maximum duration begins here.
    pub fn new(settings: RunSettings, terminal: Terminal) -> Result<Prepared, Error> {
        let started_at = Instant::now();
        process::start_threads()?;
        let status_signal = signals::StatusSignal::listen();
        if let Some(metrics) = &settings.metrics {
            Metrics::check_target(&metrics.path)?;
        }
        Ok(Prepared {
            settings,
            terminal,
            started_at,
            status_signal,
        })
    }

    /// Builds the client of ZIM, or of a simulator in this process.
    pub async fn connect(self) -> Result<Connected, Error> {
        let RunSettings { app, pace, .. } = &self.settings;
        let client = match app {
            Some(app) => client::build(app, pace.timeout)?,
            None => simulator::start(pace).await?,
        };
        // A simulator's end of each connection is a file of this process too.
        let files_each = if app.is_some() { 1 } else { 2 };
        let limits = Limits {
            max_in_flight: process::usable_in_flight(pace.limits.max_in_flight, files_each)?,
            ..pace.limits.clone()
        };
        Ok(Connected {
            prepared: self,
            client,
            limits,
        })
    }
}

impl Connected {
    /// Joins the runs that share the app's quota. `name` is what this run does, for the log.
    pub async fn join(self, name: String, report: Option<&Path>) -> Result<Joined, Error> {
        Ok(Joined {
            limiter: quota::join(&self.prepared.settings, &self.client, report).await?,
            connected: self,
            name,
            stop: StopHandle::new(),
        })
    }
}

impl Joined {
    pub fn settings(&self) -> &RunSettings {
        &self.connected.prepared.settings
    }

    /// The client, for the calls of a job.
    pub fn client(&self) -> Client {
        self.connected.client.clone()
    }

    /// Shows the progress of a job with so many items.
    pub fn progress(&self, work: &Work, items: &'static str) -> Progress {
        let terminal = self.connected.prepared.terminal.clone();
        let progress = match work.users {
            None => Progress::new(self.settings().progress, terminal, work.rows, items),
            Some(users) => Progress::of_users(self.settings().progress, terminal, users),
        };
        progress.ending(self.ends())
    }

    /// The time limit that is due first.
    pub fn ends(&self) -> Option<Ends> {
        let limits = &self.connected.limits;
        let passed = self.connected.prepared.started_at.elapsed();
        let after = limits.max_duration.map(|limit| limit.saturating_sub(passed));
        let after = after.and_then(|after| SystemTime::now().checked_add(after));
        let after = after.map(|at| Ends {
            at,
            flag: "--max-duration",
        });
        let until = limits.until.map(|at| Ends { at, flag: "--until" });
        after.into_iter().chain(until).min_by_key(|ends| ends.at)
    }

    /// Makes a job a part of this run: it shares the run's limiter, and stops with the run.
    pub fn attach<S: Service>(&self, job: Job<S>) -> Job<S> {
        job.limiter(self.limiter.clone())
            .limits(self.connected.limits.clone())
            .stop_handle(self.stop.clone())
            .started_at(self.connected.prepared.started_at)
            .observer(RateChanges::default())
    }

    /// Runs to the end, or to the stop that comes first. `work` are the jobs of the run. A change of the `watched` file
    /// stops it.
    pub async fn drive(
        self,
        work: impl Future<Output = Result<Summary, zim_batch::Error>>,
        watched: Option<Snapshot>,
    ) -> Result<Ended, Error> {
        let Joined {
            connected: Connected { prepared, client, .. },
            name,
            limiter,
            stop,
        } = self;
        let Prepared {
            settings,
            terminal,
            status_signal,
            ..
        } = prepared;
        if let Some(app) = &settings.app {
            client::announce(&client, app, &settings.pace.rate);
        }
        tracing::info!(
            "the run begins: job {}, {name}, {}",
            settings.labels.name,
            settings.pace.rate.value.in_words()
        );
        let at_most = humantime::format_duration(settings.pace.timeout);
        let draining = |reason: &StopReason| {
            tracing::warn!(
                "{reason}: starting no more rows, finishing the requests in flight (at most {at_most}); a second signal \
                 stops immediately"
            );
        };
        let ended = tokio::select! {
            ended = work => ended,
            () = signals::watch(&stop, status_signal, draining, || terminal.request_status()) => unreachable!("it never completes"),
            () = watch(watched, &stop) => unreachable!("it never completes"),
        };
        tokio::select! {
            biased;
            () = stop.aborting() => {}
            () = limiter.leave() => {}
        }
        Ok(Ended {
            summary: ended?,
            service: format!(
                "the AppId was {}, the endpoint {}",
                client.app_id(),
                client.endpoint_url()
            ),
            settings,
            terminal,
        })
    }
}

impl Ended {
    /// Says why the run stopped, if it did.
    pub fn print_stop_reason(&self) {
        let (Some(stop), Some(why)) = (&self.summary.stopped, hints::stopped(&self.summary)) else {
            return;
        };
        print_error(&format!("stopped: {why}"));
        if let Some(RateLimit::Quota(_)) = hints::restricted_at_end(&self.summary) {
            let command = next::end_limit(&self.settings.given);
            print_note(&format!("to end that, for all runs of the app: {command}"));
        }
        if let (Some(error), StopReason::Signal(_) | StopReason::MaxDuration(_) | StopReason::Until(_)) =
            (&self.summary.last_error, stop)
        {
            print_error(&format!("the service did not answer: {error}"));
        }
        if matches!(
            stop,
            StopReason::GaveUp { .. }
                | StopReason::Fatal { .. }
                | StopReason::Untrusted { .. }
                | StopReason::AllRejected { .. }
        ) {
            print_error(&self.service);
        }
    }
}
