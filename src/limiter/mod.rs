//! Stage 2, when a request may start: evenly paced, slowed when the server says so, held while there is no service.
//!
//! A request starts when it is handed to an open connection, and opening one takes anything from a millisecond to many
//! seconds. So there are two gates:
//!
//! - [`Limiter::acquire`] gives the permit to try: first come, first served, evenly, and only as fast as requests start. Who
//!   has it may open a connection.
//! - [`Permit::start`] is passed with the connection open. Whatever connecting took, and however many connections were
//!   ready at once, requests start evenly and never more than the cap in any second.
//!
//! A retry passes both like everyone else. Time is Tokio's, so tests with paused time see hours of pacing exactly and at
//! once.

mod pace;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use pace::{Even, Pace};

/// The pause before the first probe while the run is on hold; each further one doubles it.
const INITIAL_PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two probes.
const MAX_PROBE_PAUSE: Duration = Duration::from_secs(30);

/// A permit is given at most this long before the next start: so a connection that is open waits for no longer.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// As many as start in this time may wait with a connection open before no more permits are given: connections that take
/// differently long to open would cost some of the rate otherwise.
const MAX_WAITING: Duration = Duration::from_millis(300);

/// Lets requests start. Clones share one state.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use zim_batch::limiter::Limiter;
///
/// let limiter = Limiter::new(20.0);
/// let begun = tokio::time::Instant::now();
/// for _ in 0..21 {
///     limiter.ready().await;
/// }
/// assert!(begun.elapsed() > std::time::Duration::from_secs(1));
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

struct Shared {
    /// Who waits for a permit: first come, first served (Tokio's mutex is fair), one at a time.
    acquiring: tokio::sync::Mutex<()>,
    /// Who waits to start, likewise.
    starting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Wakes those who wait when what they wait for has changed.
    changed: Notify,
}

struct State {
    pace: Pace,
    /// Spaces permits as starts are spaced: connections are not opened faster than requests may start.
    permits: Even,
    /// How many wait to start.
    waiting: usize,
    /// No start before this: the server's `Retry-After`.
    not_before: Option<Instant>,
    hold: Option<Hold>,
    /// Probes so far, to tell them apart.
    probes: u64,
}

struct Hold {
    next_probe: Instant,
    pause: Duration,
    /// This probe is under way; nothing else starts until it is answered.
    probing: Option<u64>,
}

/// What somebody who can't go on yet waits for.
enum Wait {
    Until(Instant),
    /// Until something changes.
    Change,
}

/// The right to try one request: to open a connection if there is none, and to [start](Permit::start).
#[must_use]
pub struct Permit {
    limiter: Limiter,
    probe: Option<u64>,
}

impl Permit {
    /// Whether the run is on hold and this request is to find out if the service is back: nothing else starts before the
    /// limiter is told, by [`Limiter::accepted`], [`Limiter::limited`] or [`Limiter::probe_failed`], or this is dropped.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }

    /// Waits until a request may be handed to its connection, which is to be open, and says since when it may. That has to be
    /// done at once; it counts as a start from then on. May be called again if the connection turns out to be closed.
    ///
    /// Dropping the future gives the place in the queue up and uses nothing.
    pub async fn start(&self) -> Instant {
        let shared = &*self.limiter.shared;
        let _waiting = Waiting::new(shared);
        // A probe does not queue: those before it wait for what only the probe can bring about.
        let _next = match self.is_probe() {
            true => None,
            false => Some(shared.starting.lock().await),
        };
        shared.wait_until(|state, now| state.try_start(self.probe, now)).await
    }

    /// Says when a request was really handed to its connection, which was let through at `granted`: a process that was not
    /// given the processor at once is late, and its next requests must not be the closer for it.
    pub fn started(&self, granted: Instant, at: Instant) {
        self.limiter.shared.state().pace.correct(granted, at);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(hold) = &mut self.limiter.shared.state().hold
            && self.probe.is_some()
            && hold.probing == self.probe
        {
            // It was never answered.
            hold.probing = None;
        } else {
            return;
        }
        self.limiter.shared.changed.notify_waiters();
    }
}

/// Counts one that waits to start, until it is dropped.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn new(shared: &'a Shared) -> Waiting<'a> {
        shared.state().waiting += 1;
        Waiting(shared)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting -= 1;
        let is_free = state.waiting <= state.waiting_max();
        drop(state);
        if is_free {
            self.0.changed.notify_waiters();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the limiter's state")
    }

    /// Waits until `attempt` succeeds.
    async fn wait_until<T>(&self, mut attempt: impl FnMut(&mut State, Instant) -> Result<T, Wait>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let waited_for = attempt(&mut self.state(), Instant::now());
            match waited_for {
                Ok(granted) => return granted,
                Err(Wait::Until(until)) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                Err(Wait::Change) => changed.await,
            }
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("rate", &self.rate())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("probe", &self.probe)
            .finish_non_exhaustive()
    }
}

impl Limiter {
    /// At most `rate` requests within any second. Below 1, one request every `1 / rate` seconds; a fraction above 1,
    /// say 2.5, is spaced likewise, so that five start in any two seconds.
    ///
    /// # Panics
    /// If `rate` is not a positive number; the command line takes 0.001 to 1 000 000.
    pub fn new(rate: f64) -> Limiter {
        assert!(
            rate.is_finite() && rate > 0.0,
            "a rate is a positive number, not {rate}"
        );
        let now = Instant::now();
        Limiter {
            shared: Arc::new(Shared {
                acquiring: tokio::sync::Mutex::new(()),
                starting: tokio::sync::Mutex::new(()),
                state: Mutex::new(State {
                    pace: Pace::new(rate, now),
                    permits: Even::new(rate, now),
                    waiting: 0,
                    not_before: None,
                    hold: None,
                    probes: 0,
                }),
                changed: Notify::new(),
            }),
        }
    }

    /// Waits for the permit to try a request.
    ///
    /// Dropping the future gives the place in the queue up and uses nothing.
    pub async fn acquire(&self) -> Permit {
        let _next = self.shared.acquiring.lock().await;
        let probe = self.shared.wait_until(State::try_acquire).await;
        let limiter = self.clone();
        Permit { limiter, probe }
    }

    /// Waits until a request may start that needs no connection, or has an open one: [`Limiter::acquire`] and
    /// [`Permit::start`] in one.
    pub async fn ready(&self) -> Permit {
        let permit = self.acquire().await;
        permit.start().await;
        permit
    }

    /// The last starts, oldest first, as many as may share a second; none if the cap is so high (above 1000 a second)
    /// that a few requests more or less don't matter.
    pub fn recent_starts(&self) -> Vec<Instant> {
        self.state().pace.recent()
    }

    /// Counts starts of an earlier run with the same quota: they fill the second too.
    pub fn record_external(&self, starts: &[Instant]) {
        let mut state = self.state();
        starts.iter().for_each(|start| state.pace.record_external(*start));
    }

    /// The server took a request: not too many, and the service is there. `true` if the run was on hold.
    pub fn accepted(&self) -> bool {
        let mut state = self.state();
        state.pace.accepted(Instant::now());
        let ended = state.hold.take().is_some();
        drop(state);
        if ended {
            self.shared.changed.notify_waiters();
        }
        ended
    }

    /// The server refused a request, which had started at `started`, because there were too many: the whole run slows
    /// down, and nothing starts before `retry_after` has passed. When that shows that somebody else uses the quota too,
    /// the log says so, once until the run has been back at the cap for a while.
    ///
    /// The service is there, though: `true` if the run was on hold.
    pub fn limited(&self, started: Instant, retry_after: Option<Duration>) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let is_crowded_now = state.pace.limited(started, now);
        state.not_before = state.not_before.max(retry_after.map(|wait| now + wait));
        let cap = state.pace.cap();
        let ended = state.hold.take().is_some();
        drop(state);
        self.shared.changed.notify_waiters();
        if is_crowded_now {
            tracing::warn!(
                "rate limited, although at most {cap} requests start in any second: other traffic of this app may share \
                 the quota, the quota may be smaller, or requests may have arrived closer together than they left; \
                 slowing down and probing for more"
            );
        }
        ended
    }

    /// Puts the run on hold: from now on single probes, at growing intervals, the first not before `retry_after`. No
    /// effect while it is on hold already; `true` if it was not.
    pub fn hold(&self, retry_after: Option<Duration>) -> bool {
        let mut state = self.state();
        let begins = state.hold.is_none();
        if begins {
            state.hold = Some(Hold {
                next_probe: Instant::now() + INITIAL_PROBE_PAUSE.max(retry_after.unwrap_or_default()),
                pause: INITIAL_PROBE_PAUSE,
                probing: None,
            });
        }
        drop(state);
        self.shared.changed.notify_waiters();
        begins
    }

    /// If this was the probe, it found no service: the next one waits twice as long, and at least as long as the server
    /// asked for.
    pub fn probe_failed(&self, permit: &Permit, retry_after: Option<Duration>) {
        if let Some(hold) = &mut self.state().hold
            && permit.is_probe()
            && hold.probing == permit.probe
        {
            hold.pause = (hold.pause * 2).min(MAX_PROBE_PAUSE);
            hold.next_probe = Instant::now() + hold.pause.max(retry_after.unwrap_or_default());
            hold.probing = None;
        }
        self.shared.changed.notify_waiters();
    }

    /// Nothing starts before `until`. No hold: when the time is over, all goes on as before.
    pub fn pause_until(&self, until: Instant) {
        let mut state = self.state();
        state.not_before = state.not_before.max(Some(until));
    }

    /// Whether the run is on hold.
    pub fn is_held(&self) -> bool {
        self.state().hold.is_some()
    }

    /// When the service is tried again, if the run is on hold and not trying just now.
    pub fn next_probe(&self) -> Option<Instant> {
        let state = self.state();
        let hold = state.hold.as_ref().filter(|hold| hold.probing.is_none())?;
        state.not_before.max(Some(hold.next_probe))
    }

    /// The rate that is aimed at now, in requests a second; below the cap after `limited` answers.
    pub fn rate(&self) -> f64 {
        self.state().pace.rate(Instant::now())
    }

    /// The most requests that start within any one second.
    pub fn cap(&self) -> usize {
        self.state().pace.cap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl State {
    fn waiting_max(&self) -> usize {
        (self.pace.cap() as f64 * MAX_WAITING.as_secs_f64()) as usize
    }

    /// A permit, with the number of the probe if it is one; or what to wait for.
    fn try_acquire(&mut self, now: Instant) -> Result<Option<u64>, Wait> {
        let hold_until = match &self.hold {
            Some(hold) if hold.probing.is_some() => return Err(Wait::Change),
            Some(hold) => Some(hold.next_probe),
            // Those who wait with a connection open go first.
            None if self.waiting > self.waiting_max() => return Err(Wait::Change),
            None => None,
        };
        // Looked at again soon if it is far away: the pace may have quickened.
        let ahead = self.pace.next_start(now).checked_sub(MAX_AHEAD);
        let ahead = ahead.map(|at| at.min(now + MAX_AHEAD));
        let until = self.not_before.max(hold_until).max(ahead);
        if let Some(until) = until.filter(|until| *until > now) {
            return Err(Wait::Until(until));
        }
        self.permits.check(now).map_err(Wait::Until)?;
        let Some(hold) = &mut self.hold else {
            return Ok(None);
        };
        self.probes += 1;
        hold.probing = Some(self.probes);
        Ok(hold.probing)
    }

    /// A start, now, or what to wait for. While the run is on hold only the probe starts.
    fn try_start(&mut self, probe: Option<u64>, now: Instant) -> Result<Instant, Wait> {
        if let Some(hold) = &self.hold
            && (probe.is_none() || hold.probing != probe)
        {
            return Err(Wait::Change);
        }
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return Err(Wait::Until(until));
        }
        self.pace.try_start(now).map_err(Wait::Until)?;
        Ok(now)
    }
}
