//! What is written down: the report, what follows from it for the run, and when the last requests started, for the next
//! run with the same quota. All lanes write here.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Shared;
use super::health::Health;
use super::policy::Policy;
use crate::event::Event;
use crate::limiter::Limiter;
use crate::quota::Turn;
use crate::report::{Report, ReportError};
use crate::stop::StopHandle;

/// How often what was written is brought to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Books {
    /// Until they are closed.
    report: Option<Report>,
    policy: Policy,
    turn: Option<Turn>,
}

impl Books {
    /// Opens them: what the run before has started within the last second counts in `limiter`.
    pub fn open(report: Report, policy: Policy, mut turn: Option<Turn>, limiter: &Limiter) -> Books {
        if let Some(turn) = &mut turn {
            limiter.record_external(&turn.earlier_starts());
            turn.write_down(&limiter.recent_starts());
        }
        Books {
            report: Some(report),
            policy,
            turn,
        }
    }

    /// Notes an event that has no record.
    pub fn note(&mut self, event: &Event, stop: &StopHandle) {
        self.report().record(event);
        self.policy.note(event, stop);
    }

    /// Writes events down, with one `write`.
    pub fn write<'a>(&mut self, events: impl Iterator<Item = &'a Event> + Clone, shared: &Shared) {
        let report = self.report();
        for event in events.clone() {
            report.record(event);
        }
        match report.commit() {
            Ok(()) => events.for_each(|event| self.policy.note(event, &shared.stop)),
            Err(error) => shared.stop.report_failed(error),
        }
        // At once, not at the next tick: the process may be killed, and the next one begin, at any moment.
        if let Some(turn) = &mut self.turn {
            turn.write_down(&shared.limiter.recent_starts());
        }
    }

    /// Shows how far the run is, and looks whether its time is over.
    pub fn tick(&mut self, health: &Health, shared: &Shared) {
        let (rate, next_probe) = (shared.limiter.rate(), shared.limiter.next_probe());
        self.report().show(rate, next_probe);
        let failing = health.failing_for(Instant::now(), shared.limiter.is_held());
        self.policy.check_time(failing, &shared.stop);
        if let Some(turn) = &mut self.turn {
            turn.keep(&shared.limiter);
        }
    }

    /// Nothing more is written.
    pub fn close(&mut self) -> (Report, Option<Turn>) {
        (self.report.take().expect("they are closed once"), self.turn.take())
    }

    fn report(&mut self) -> &mut Report {
        self.report.as_mut().expect("they are closed last")
    }
}

/// Brings what was written to the disk, about once a second, on a thread where waiting hurts nobody.
pub(super) struct Disk {
    last: Instant,
    under_way: Option<JoinHandle<Result<(), ReportError>>>,
}

impl Disk {
    pub fn new(now: Instant) -> Disk {
        Disk {
            last: now,
            under_way: None,
        }
    }

    /// Starts to write if that is due; an error stops the run.
    pub async fn tick(&mut self, shared: &Shared) {
        if let Some(under_way) = &mut self.under_way {
            if !under_way.is_finished() {
                return;
            }
            let ended = under_way.await;
            self.under_way = None;
            if let Ok(Err(error)) = ended {
                shared.stop.report_failed(error);
            }
        }
        if self.last.elapsed() >= SYNC_EVERY {
            self.last = Instant::now();
            let sync = shared.books().report().sync_later();
            self.under_way = Some(tokio::task::spawn_blocking(sync));
        }
    }
}
