//! The circuit breaker: distinguishes rows that fail from a service that is unavailable, and holds
//! the run while it is.
//!
//! - *Closed*: requests start as the limiter lets them. A row that fails again and again says nothing about the service
//!   while other rows are answered. So what counts is how many *rows* met their first failure since the last answer:
//!   with [`MANY`] of them, the service is unavailable.
//! - *Open* ("on hold", for users): nothing starts until it is time for the next probe.
//! - *Half-open*: one request, the probe, finds out whether the service is back. Any answer closes the breaker, a
//!   failure opens it for twice as long. No row uses up attempts on what happens while the breaker is not closed.
//!
//! Perhaps the service works, and only the rows that were tried fail. So each probe is by another row, as far as there is
//! one: rows that have not failed first, then those that have, in turn.
//!
//! In addition, one row at a time may be tried *alone*: when its answer is one that most likely every row would get, no new
//! rows start until it is known.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::client::verdict::{TransportError, Verdict};
use crate::code::Class;

/// This many rows that fail for the first time, without an answer to any row in between, are an outage.
const MANY: u32 = 10;

/// The pause before the first probe; each further one doubles it.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two probes, unless the server asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What an answer, or its absence, says about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// It answers.
    Up,
    /// It answers, and refuses requests because there are too many.
    Throttled,
    /// It failed; perhaps it is unavailable.
    Down,
}

impl From<&Verdict> for Signal {
    fn from(verdict: &Verdict) -> Signal {
        match verdict.class {
            Class::Transient => Signal::Down,
            Class::Limited => Signal::Throttled,
            // Not ZIM's: a page of a portal or a gateway, which says nothing about the row.
            Class::Unknown if verdict.code.is_none() => Signal::Down,
            // A certificate that is not trusted is an answer too, and a final one.
            _ => Signal::Up,
        }
    }
}

/// The value of `recoveries` when a row failed for the first time; `None` if it has not failed.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FirstFailure(Option<u64>);

/// How an answer changed the breaker's state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// The service is unavailable.
    Opened,
    /// The service answers again.
    Closed,
}

/// Shared by all rows of a run.
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    /// One row is tried alone; no new row may begin.
    has_lone_row: bool,
    /// Who waits for an attempt.
    queue: BTreeSet<Turn>,
    /// How many have queued so far.
    queued: u64,
    /// Probes so far, to tell them apart.
    probes: u64,
    /// How often the service has answered after failing; tells apart what happened before and after an answer.
    recoveries: u64,
    /// Rows that met their first failure since the latest recovery.
    newly_failing: u32,
    /// What has failed since the last answer.
    failing: Option<Failing>,
    /// The service has answered in this run.
    has_answered: bool,
    /// ZIM has accepted a signature of this run.
    has_accepted_signature: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        probe_at: Instant,
        pause: Duration,
    },
    HalfOpen {
        probe: u64,
        pause: Duration,
    },
}

/// Attempts that failed, with no answer between them.
#[derive(Debug, Clone)]
struct Failing {
    first: Instant,
    latest: Instant,
    /// Result of the latest one.
    verdict: Verdict,
}

/// The order of the queue: rows that have not failed first, then those that have waited longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    has_failed: bool,
    number: u64,
}

/// A place in the queue for an attempt.
#[derive(Debug)]
pub(super) struct Queued {
    breaker: Arc<CircuitBreaker>,
    turn: Turn,
}

/// The right to make an attempt, as far as the breaker is concerned.
#[derive(Debug)]
pub(super) struct Admission {
    breaker: Arc<CircuitBreaker>,
    probe: Option<u64>,
}

/// Keeps new rows waiting until it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    breaker: Arc<CircuitBreaker>,
}

/// What a blocked caller waits for.
enum Wait {
    Until(Instant),
    Change,
}

impl CircuitBreaker {
    /// Queues for an attempt. While the breaker is open, rows that have not failed go first, because a row that has failed
    /// may fail even if the service is back.
    pub fn queue(self: &Arc<Self>, has_failed: bool) -> Queued {
        let mut inner = self.inner();
        inner.queued += 1;
        let turn = Turn {
            has_failed,
            number: inner.queued,
        };
        inner.queue.insert(turn);
        Queued {
            breaker: Arc::clone(self),
            turn,
        }
    }

    /// Waits until no row is tried alone: then a new row may begin.
    pub async fn admits_new_rows(&self) {
        self.wait_until(|inner| if inner.has_lone_row { Err(Wait::Change) } else { Ok(()) })
            .await;
    }

    /// Waits until no other row is tried alone, and keeps new rows waiting from then on.
    pub async fn try_alone(self: &Arc<Self>) -> Alone {
        self.wait_until(|inner| {
            if std::mem::replace(&mut inner.has_lone_row, true) {
                Err(Wait::Change)
            } else {
                Ok(())
            }
        })
        .await;
        Alone {
            breaker: Arc::clone(self),
        }
    }

    async fn wait_until<T>(&self, attempt: impl Fn(&mut Inner) -> Result<T, Wait>) -> T {
        loop {
            let changed = self.changed.notified();
            let attempted = attempt(&mut self.inner());
            match attempted {
                Ok(granted) => return granted,
                Err(Wait::Until(until)) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                Err(Wait::Change) => changed.await,
            }
        }
    }

    /// A certificate that is not trusted ends the run, unless the run has been answered before: then some of the servers
    /// behind the endpoint have another one, or it has just expired, and that may be corrected.
    pub fn reclassify(&self, verdict: &mut Verdict) {
        if verdict.transport.is_some_and(TransportError::is_about_certificate) && self.inner().has_answered {
            verdict.class = Class::Transient;
        }
    }

    /// Records the result of an attempt. Returns whether it counts against the row, and how the breaker's state changed.
    ///
    /// A row's last attempt does not fail the row if it could not reach the service and no other request has been answered
    /// since the row first failed; the breaker opens instead.
    pub fn record(
        &self,
        admission: &Admission,
        verdict: &Verdict,
        row: &mut FirstFailure,
        is_last_attempt: bool,
    ) -> (bool, Option<Transition>) {
        let mut inner = self.inner();
        let transition = inner.record(admission.probe, verdict, row, is_last_attempt);
        let counts = inner.is_closed() || Signal::from(verdict) != Signal::Down;
        if !counts {
            // It was not for the row: if the service goes away again, this row's next failure is a first one.
            *row = FirstFailure::default();
        }
        drop(inner);
        if transition.is_some() || admission.probe.is_some() {
            self.changed.notify_waiters();
        }
        (counts, transition)
    }

    /// Whether ZIM has accepted a signature of this run: then the app, the secret and the clock were right at some time.
    pub fn has_accepted_signature(&self) -> bool {
        self.inner().has_accepted_signature
    }

    /// Whether the run is on hold because of the service.
    pub fn is_on_hold(&self) -> bool {
        !self.inner().is_closed()
    }

    /// When the service is tried again, if the run is on hold and no probe is under way.
    pub fn next_probe(&self) -> Option<Instant> {
        match self.inner().state {
            State::Open { probe_at, .. } => Some(probe_at),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// When the service will have been unreachable for too long, if it does not answer before, and the latest failure.
    /// `due`: when that is, if it has been unreachable since a given time.
    ///
    /// While the breaker is closed, only the time between failures counts: perhaps nothing has been sent since.
    pub fn unreachable(&self, due: impl Fn(Instant) -> Option<Instant>) -> Option<(Instant, Verdict)> {
        let inner = self.inner();
        let failing = inner.failing.as_ref()?;
        let due = due(failing.first)?;
        (!inner.is_closed() || failing.latest >= due).then(|| (due, failing.verdict.clone()))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the breaker's state")
    }
}

impl Inner {
    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether an attempt may be made now, or what to wait for.
    fn check(&self) -> Result<(), Wait> {
        match self.state {
            State::Closed => Ok(()),
            State::HalfOpen { .. } => Err(Wait::Change),
            State::Open { probe_at, .. } if probe_at > Instant::now() => Err(Wait::Until(probe_at)),
            State::Open { .. } => Ok(()),
        }
    }

    /// Admits an attempt that passes [`Inner::check`]; returns the number of the probe if it is one.
    fn admit(&mut self) -> Option<u64> {
        let State::Open { pause, .. } = self.state else {
            return None;
        };
        self.probes += 1;
        let probe = self.probes;
        self.state = State::HalfOpen { probe, pause };
        Some(probe)
    }

    fn record(
        &mut self,
        probe: Option<u64>,
        verdict: &Verdict,
        row: &mut FirstFailure,
        is_last_attempt: bool,
    ) -> Option<Transition> {
        self.has_answered |= verdict.http.is_some();
        self.has_accepted_signature |= matches!(verdict.class, Class::Ok | Class::Outside | Class::Rejected);
        let signal = Signal::from(verdict);
        match signal {
            Signal::Up if self.failing.take().is_some() => {
                self.recoveries += 1;
                self.newly_failing = 0;
            }
            Signal::Up => {}
            Signal::Throttled | Signal::Down => self.note_failing(verdict),
        }
        if signal != Signal::Down {
            let was_closed = self.is_closed();
            self.state = State::Closed;
            return (!was_closed).then_some(Transition::Closed);
        }
        if row.0.is_none() {
            row.0 = Some(self.recoveries);
            self.newly_failing += 1;
        }
        let retry_after = verdict.retry_after.unwrap_or_default();
        match self.state {
            State::Closed => {
                let is_excused = is_last_attempt
                    && verdict.transport == Some(TransportError::Unreachable)
                    && row.0 == Some(self.recoveries);
                if self.newly_failing < MANY && !is_excused {
                    return None;
                }
                self.open(INITIAL_PAUSE, retry_after);
                Some(Transition::Opened)
            }
            State::HalfOpen {
                probe: under_way,
                pause,
            } if probe == Some(under_way) => {
                self.open((pause * 2).min(MAX_PAUSE), retry_after);
                None
            }
            State::HalfOpen { .. } | State::Open { .. } => None,
        }
    }

    fn open(&mut self, pause: Duration, retry_after: Duration) {
        self.state = State::Open {
            probe_at: Instant::now() + pause.max(retry_after),
            pause,
        };
    }

    fn note_failing(&mut self, verdict: &Verdict) {
        let now = Instant::now();
        self.failing = Some(Failing {
            first: self.failing.as_ref().map_or(now, |failing| failing.first),
            latest: now,
            verdict: verdict.clone(),
        });
    }

    /// Whether an attempt that was admitted may start.
    fn admits(&self, admission: &Admission) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen { probe, .. } => admission.probe == Some(probe),
        }
    }
}

impl Queued {
    /// Waits until an attempt may be made, as far as can be seen now.
    pub async fn ready(&self) {
        let check = |inner: &mut Inner| match inner.state {
            State::Open { .. } if inner.queue.first() != Some(&self.turn) => Err(Wait::Change),
            _ => inner.check(),
        };
        self.breaker.wait_until(check).await;
    }

    /// Admits the attempt, unless it has to wait again: others may have been faster, or the breaker may have opened.
    pub fn try_admit(&self) -> Option<Admission> {
        let mut inner = self.breaker.inner();
        inner.check().ok()?;
        Some(Admission {
            probe: inner.admit(),
            breaker: Arc::clone(&self.breaker),
        })
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut inner = self.breaker.inner();
        inner.queue.remove(&self.turn);
        if !inner.is_closed() {
            drop(inner);
            self.breaker.changed.notify_waiters();
        }
    }
}

impl Admission {
    /// Whether the attempt may start now: the breaker may have opened since it was admitted.
    pub fn holds(&self) -> bool {
        self.breaker.inner().admits(self)
    }

    /// Waits until the attempt may start.
    pub async fn held(&self) {
        let admits = |inner: &mut Inner| if inner.admits(self) { Ok(()) } else { Err(Wait::Change) };
        self.breaker.wait_until(admits).await;
    }
}

impl Drop for Admission {
    /// A probe that was never answered makes room for the next one.
    fn drop(&mut self) {
        let mut inner = self.breaker.inner();
        match inner.state {
            State::HalfOpen { probe, pause } if self.probe == Some(probe) => {
                inner.state = State::Open {
                    probe_at: Instant::now(),
                    pause,
                };
            }
            _ => return,
        }
        drop(inner);
        self.breaker.changed.notify_waiters();
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.breaker.inner().has_lone_row = false;
        self.breaker.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
