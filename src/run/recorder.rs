//! What is written and shown: the report, what follows from it for the run, and when the last requests started, for the
//! next run with the same quota. The run's loop is its only owner.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::policy::Policy;
use super::{Message, NOT_RUN, Observer, Shared, Status};
use crate::client::Service;
use crate::event::Event;
use crate::quota::Turn;
use crate::report::stats::Stats;
use crate::report::summary::Summary;
use crate::report::{Journal, ReportError};
use crate::stop::StopReason;

/// How often what was written is synced to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Recorder {
    report: Option<Box<dyn Journal>>,
    stats: Stats,
    observers: Vec<Box<dyn Observer>>,
    policy: Policy,
    turn: Option<Turn>,
    started_at: Instant,
    synced_at: Instant,
    syncing: Option<JoinHandle<Result<(), ReportError>>>,
}

impl Recorder {
    /// Registers in the limiter what the previous run with the same quota has started within the last second.
    pub fn new<S: Service>(
        report: Option<Box<dyn Journal>>,
        observers: Vec<Box<dyn Observer>>,
        mut turn: Option<Turn>,
        started_at: Instant,
        run: &Shared<S>,
    ) -> Recorder {
        if let Some(turn) = &mut turn {
            run.limiter.record_external(&turn.earlier_starts());
            turn.write_down(&run.limiter.recent_starts());
        }
        Recorder {
            stats: Stats::new(report.as_ref().map(|report| report.earlier()).unwrap_or_default()),
            report,
            observers,
            policy: Policy::new(run.limits.clone(), started_at),
            turn,
            started_at,
            synced_at: started_at,
            syncing: None,
        }
    }

    /// Takes the records of what happened; [`Recorder::commit`] must follow.
    pub fn push<S: Service>(&mut self, happened: &[Message<S::Item>]) {
        let Some(report) = &mut self.report else { return };
        for event in happened.iter().filter_map(Message::event) {
            if let Event::Settled(record) = event {
                report.push(record);
            }
        }
    }

    /// Completes when what was pushed can be committed: a reader may be slow. An aborted run doesn't wait.
    pub async fn handed_over<S: Service>(&mut self, run: &Shared<S>) {
        let Some(report) = &mut self.report else { return };
        tokio::select! {
            biased;
            () = report.handed_over() => {}
            () = run.stop.aborting() => {}
        }
    }

    /// Records what happened, with one `write`. A row whose record can't be written is not run.
    pub fn commit<S: Service>(&mut self, happened: &[Message<S::Item>], run: &Shared<S>) {
        let events = || happened.iter().filter_map(Message::event);
        let (are_written, written) = match &mut self.report {
            Some(report) => report.commit(),
            None => (true, Ok(())),
        };
        for event in events() {
            if !are_written && matches!(event, Event::Settled(_)) {
                self.stats.count(&NOT_RUN);
                continue;
            }
            self.stats.count(event);
            self.observers.iter_mut().for_each(|observer| observer.event(event));
        }
        match written {
            Ok(()) => events().for_each(|event| self.policy.note(event, &run.stop)),
            Err(error) => run.stop.report_failed(error),
        }
        if let Some(turn) = &mut self.turn
            && events().any(|event| matches!(event, Event::Sent { .. }))
        {
            // Immediately, not at the next tick: the process may be killed, and the next one begin, at any moment.
            turn.write_down(&run.limiter.recent_starts());
        }
    }

    /// Shows how far the run is, and checks whether its time is over. To be called several times a second.
    pub async fn tick<S: Service>(&mut self, run: &Shared<S>) {
        let next_probe = run
            .breaker
            .next_probe()
            .map(|at| run.limiter.paused_until().max(Some(at)).unwrap_or(at));
        let status = Status {
            stats: &self.stats,
            rate: run.limiter.rate(),
            next_probe,
        };
        self.observers.iter_mut().for_each(|observer| observer.tick(&status));
        self.policy
            .check_time(run.breaker.failing_for(Instant::now()), &run.stop);
        if let Some(turn) = &mut self.turn {
            turn.keep(&run.limiter);
        }
        self.sync(run).await;
    }

    /// Runs `fdatasync` about once per second on a blocking thread; an error stops the run.
    async fn sync<S: Service>(&mut self, run: &Shared<S>) {
        if self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return;
        }
        self.synced(run).await;
        if let Some(report) = &self.report
            && self.synced_at.elapsed() >= SYNC_EVERY
        {
            self.synced_at = Instant::now();
            self.syncing = Some(tokio::task::spawn_blocking(report.sync_later()));
        }
    }

    /// Waits for the sync that is under way.
    async fn synced<S: Service>(&mut self, run: &Shared<S>) {
        let Some(syncing) = self.syncing.take() else { return };
        match syncing.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => run.stop.report_failed(error),
            Err(panic) => run.stop.bug("the thread that syncs the files", &panic),
        }
    }

    /// Brings everything to the disk and adds it up. `total`: how many rows the input has, if that is known.
    pub async fn finish<S: Service>(mut self, total: Option<u64>, run: &Shared<S>) -> Summary {
        let elapsed = self.started_at.elapsed();
        // It holds the files, and with them their locks.
        self.synced(run).await;
        // Input that could not be read, with nothing sent before: such a run has not begun.
        let has_begun = !matches!(run.stop.reason(), Some(StopReason::InputFailed(_))) || self.stats.requests() > 0;
        if let Some(report) = &mut self.report
            && let Err(error) = report.finish(has_begun)
        {
            run.stop.report_failed(error);
        }
        let (cap, stopped) = (run.limiter.cap(), run.stop.reason());
        let mut summary = self.stats.summary(total, cap, elapsed, stopped.as_ref());
        if let Some(report) = &self.report {
            report.describe(&mut summary);
            summary.conversations = summary.rows_file.is_some().then(|| self.stats.conversations());
        }
        self.observers.iter_mut().for_each(|observer| observer.end(&summary));
        if let Some(turn) = self.turn {
            tokio::select! {
                biased;
                () = run.stop.aborting() => {}
                () = turn.end(&run.limiter) => {}
            }
        }
        summary
    }
}
