//! What is written and shown: the report, and what follows from it for the run. The run's loop is its only owner.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::policy::Policy;
use super::sleep::Clocks;
use super::{Message, NOT_RUN, Observer, Shared, Status};
use crate::client::Service;
use crate::event::Event;
use crate::journal::{Journal, ReportError, Written};
use crate::run::stats::{Stats, Total};
use crate::run::summary::{Summary, has_begun};
use crate::stop::StopReason;

/// How long a slow reader may take for what is left when a run is stopping.
const READER_MAY_TAKE: Duration = Duration::from_secs(10);

/// How often what was written is synced to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Recorder {
    report: Option<Box<dyn Journal>>,
    stats: Stats,
    observers: Vec<Box<dyn Observer>>,
    policy: Policy,
    /// The quota that runs share can't be used.
    is_quota_unavailable: bool,
    stopping_since: Option<Instant>,
    started_at: Instant,
    synced_at: Instant,
    syncing: Option<JoinHandle<Result<(), ReportError>>>,
}

impl Recorder {
    pub fn new<S: Service>(
        mut report: Option<Box<dyn Journal>>,
        observers: Vec<Box<dyn Observer>>,
        started_at: Instant,
        clocks: Clocks,
        run: &Shared<S>,
    ) -> Recorder {
        Recorder {
            stats: report.as_mut().map_or_else(Stats::default, |report| {
                Stats::new(
                    report.earlier(),
                    report.take_earlier_failures(),
                    report.take_earlier_users(),
                )
            }),
            report,
            observers,
            policy: Policy::new(run.limits.clone(), started_at, clocks),
            is_quota_unavailable: false,
            stopping_since: None,
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

    /// Completes when what was pushed can be committed: a reader may be slow. A run that is stopping waits only
    /// [`READER_MAY_TAKE`], and one that is aborted not at all.
    pub async fn handed_over<S: Service>(&mut self, run: &Shared<S>) {
        let Some(report) = &mut self.report else { return };
        tokio::select! {
            biased;
            () = report.handed_over() => {}
            () = run.stop.aborting() => {}
            () = sleep_until(self.stopping_since.unwrap_or_else(Instant::now) + READER_MAY_TAKE), if self.stopping_since.is_some() => {}
        }
    }

    /// Records what happened, with one `write`. A row whose record can't be written is not run.
    pub fn commit<S: Service>(&mut self, happened: &[Message<S::Item>], run: &Shared<S>) {
        let events = || happened.iter().filter_map(Message::event);
        let (written, result) = match &mut self.report {
            Some(report) => report.commit(),
            None => (Written::ALL, Ok(())),
        };
        for event in events() {
            if matches!(event, Event::Settled(record) if !written.has(record.subject)) {
                self.stats.count(&NOT_RUN);
                continue;
            }
            self.stats.count(event);
            self.observers.iter_mut().for_each(|observer| observer.event(event));
        }
        match result {
            Ok(()) => events().for_each(|event| self.policy.note(event, &run.stop)),
            Err(error) => run.stop.report_failed(error),
        }
    }

    /// Shows how far the run is. To be called several times a second.
    pub async fn tick<S: Service>(&mut self, run: &Shared<S>) {
        let next_probe = run
            .breaker
            .next_probe()
            .map(|at| run.limiter.paused_until().max(Some(at)).unwrap_or(at));
        let limit = run.limiter.rate_limit();
        let status = Status {
            stats: &self.stats,
            rate: run.limiter.rate(),
            limit,
            limiter: &run.limiter,
            next_probe,
        };
        self.observers.iter_mut().for_each(|observer| observer.tick(&status));
        let is_cut_off = run.limiter.is_cut_off_in_pause(limit);
        self.policy.tick(limit.is_pause() && !is_cut_off);
        self.note_quota(run);
        run.limiter.note_activity(run.breaker.is_on_hold());
        if run.stop.is_stopping() {
            self.stopping_since.get_or_insert_with(Instant::now);
        }
        self.sync(run).await;
    }

    /// The time limit that stops the run next, if nothing stops it before.
    pub fn next_limit<S: Service>(&self, run: &Shared<S>) -> Option<(Instant, StopReason)> {
        if run.stop.is_stopping() {
            return None;
        }
        let outage = run.breaker.unreachable(|since| self.policy.due_to_give_up(since));
        // While the service is unreachable too, the quota is not tried, and may be back.
        let was_tried = |due: Instant| run.limiter.unavailable_at().is_some_and(|at| at >= due);
        let no_quota = run.limiter.unavailable();
        let no_quota = no_quota.filter(|(since, _)| self.policy.due_to_give_up(*since).is_some_and(was_tried));
        self.policy.next_limit(outage, no_quota)
    }

    /// Tells when the quota that runs share can't be used, and when it can again.
    fn note_quota<S: Service>(&mut self, run: &Shared<S>) {
        let unavailable = run.limiter.unavailable();
        let is_unavailable = unavailable.is_some();
        if std::mem::replace(&mut self.is_quota_unavailable, is_unavailable) == is_unavailable {
            return;
        }
        match unavailable {
            Some((_, why)) => {
                tracing::warn!(
                    "on hold, because the quota that runs share can't be used: {why}; nothing is sent meanwhile"
                );
                run.tell(Event::Held { why });
            }
            None => {
                tracing::warn!("the quota that runs share can be used again: the run continues");
                run.tell(Event::Released);
            }
        }
    }

    /// Runs `fdatasync` about once per second on a blocking thread; an error stops the run.
    async fn sync<S: Service>(&mut self, run: &Shared<S>) {
        if self.syncing.as_ref().is_some_and(|syncing| !syncing.is_finished()) {
            return;
        }
        self.synced(run).await;
        if let Some(report) = &mut self.report
            && (report.awaits_sync() || self.synced_at.elapsed() >= SYNC_EVERY)
        {
            self.synced_at = Instant::now();
            self.syncing = Some(tokio::task::spawn_blocking(report.sync_later()));
        }
    }

    /// Waits for the sync that is under way.
    async fn synced<S: Service>(&mut self, run: &Shared<S>) {
        let Some(syncing) = self.syncing.take() else { return };
        match syncing.await {
            Ok(Ok(())) => self.report.iter_mut().for_each(|report| report.synced()),
            Ok(Err(error)) => run.stop.report_failed(error),
            Err(panic) => run.stop.bug("the thread that syncs the files", &panic),
        }
    }

    /// Completes the files, and returns the summary.
    pub async fn finish<S: Service>(mut self, total: Total, run: &Shared<S>) -> Summary {
        let elapsed = self.started_at.elapsed();
        // It holds the files, and with them their locks.
        self.synced(run).await;
        let has_begun = has_begun(run.stop.reason().as_ref(), self.stats.requests());
        if let Some(report) = &mut self.report
            && let Err(error) = report.finish(has_begun)
        {
            run.stop.report_failed(error);
        }
        let (cap, mut stopped) = (run.limiter.cap(), run.stop.reason());
        if let Some(StopReason::AllRejected { rows, .. }) = &mut stopped {
            *rows = self.policy.rejected_alike().unwrap_or(*rows);
        }
        let mut summary = self.stats.summary(total, cap, elapsed, stopped.as_ref());
        if let Some(report) = &self.report {
            summary.describe(report.describe(), self.stats.conversations(), self.stats.users_full());
        }
        summary.runs = run.limiter.runs();
        summary.limit = Some(run.limiter.rate_limit());
        self.observers.iter_mut().for_each(|observer| observer.end(&summary));
        summary
    }
}
