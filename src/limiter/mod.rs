//! Stage 2, when a request may start: evenly spaced, never more than the cap in any second, slower when the server says so.
//!
//! A request starts when it is handed to an open connection, and opening one takes anything from a millisecond to many
//! seconds. So there are two gates:
//!
//! - [`Limiter::acquire`] gives the permit to try: first come, first served, evenly, and only as fast as requests start.
//!   Whoever has it may open a connection.
//! - [`Permit::start`] is passed with the connection open. Whatever connecting took, and however many connections were
//!   ready at once, requests start evenly and never more than the cap in any second.
//!
//! Three parts bound a start: the spacing (`spacing.rs`), the window of the last starts, and the adaptive rate
//! (`adaptive_rate.rs`), which stretches both when the server refuses requests: if it drops by 2 %, the window
//! becomes 20 ms longer, which already delays the next start.
//!
//! With a quota that runs share (`quota/`), a start that these three let through is then reserved among those of all runs.
//!
//! A retry passes both gates like everyone else. Time is Tokio's, so tests with paused time see hours of pacing exactly
//! and immediately.

mod adaptive_rate;
pub mod quota;
mod rate;
mod spacing;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::window::Window;
use adaptive_rate::AdaptiveRate;
use quota::{Pace, Previous, Quota, Reserved, Slot};
pub use rate::{Rate, RateError};
use spacing::Spacing;

const SECOND: Duration = Duration::from_secs(1);

/// Added to the window of one second, because requests can arrive closer together than they were sent.
const MARGIN: Duration = Duration::from_millis(4);

/// A longer wait is looked at again after this: the rate may have risen.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Permits are issued at most this long before the next possible start, which bounds how long an open connection waits.
const MAX_AHEAD: Duration = Duration::from_secs(1);

/// No permits are issued while more requests wait with an open connection than start in this time. A few must wait, or slow
/// connections would lower the rate.
const MAX_WAITING: Duration = Duration::from_millis(300);

/// How late a start may be in a quota that runs share. The next reservation says how late it was, so that it counts for longer.
const LATENESS: Duration = Duration::from_millis(10);

/// How soon a quota that can't be used is tried again.
const RETRY_QUOTA: Duration = Duration::from_millis(250);

/// Up to this many of the newest starts are kept regardless of their age; fewer if the cap is lower.
const MAX_KEPT: usize = 1000;

/// Lets requests start. Clones share one state.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use zim_batch::limiter::{Limiter, Rate};
///
/// let limiter = Limiter::new(Rate::default());
/// let started_at = tokio::time::Instant::now();
/// for _ in 0..21 {
///     limiter.ready().await;
/// }
/// assert!(started_at.elapsed() > std::time::Duration::from_secs(1));
/// # }
/// ```
#[derive(Clone)]
pub struct Limiter {
    shared: Arc<Shared>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("cap", &self.cap())
            .finish_non_exhaustive()
    }
}

struct Shared {
    /// Who waits for a permit: first come, first served (Tokio's mutex is fair), one at a time.
    acquiring: tokio::sync::Mutex<()>,
    /// Who waits to start, likewise.
    starting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Wakes those who wait, when one that waited to start has started, or the rate has dropped.
    changed: Notify,
    /// The quota that this run shares with others.
    quota: Option<Arc<dyn Quota>>,
}

struct State {
    rate: Rate,
    spacing: Spacing,
    /// The last starts.
    starts: Window,
    adaptive: AdaptiveRate,
    /// Spaces permits as starts are spaced: connections are not opened faster than requests may start.
    permits: Spacing,
    /// How many wait to start.
    waiting: usize,
    /// No start before this: the server's `Retry-After`.
    not_before: Option<Instant>,
    shared: SharedStart,
}

/// What is reserved in a quota that runs share.
#[derive(Default)]
struct SharedStart {
    slot: Option<Slot>,
    /// How many of its starts are left.
    left: u32,
    /// When its request started, if there is only one.
    started_at: Option<Instant>,
    /// Since when the quota can't be used, and why.
    unavailable: Option<(Instant, String)>,
    /// The most runs that shared the quota at a time.
    runs: usize,
}

/// What somebody who can't go on yet waits for.
enum Wait {
    Until(Instant),
    /// Until one that waits to start has started.
    Start,
}

/// The right to try one request: to open a connection if there is none, and to [start](Permit::start).
#[must_use]
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
}

impl Permit {
    /// Waits until a request may be handed to its connection, which has to be open, and returns since when it may. That has
    /// to be done immediately; it counts as a start from then on. May be called again if the connection turns out to be closed.
    ///
    /// Dropping the future gives up the place in the queue and uses at most one start.
    pub async fn start(&self) -> Instant {
        let shared = &*self.limiter.shared;
        let _waiting = Waiting::new(shared);
        let _next = shared.starting.lock().await;
        let granted = shared.wait_until(State::try_start).await;
        match &shared.quota {
            Some(quota) => shared.start_in_turn(&**quota, granted).await,
            None => granted,
        }
    }

    /// Records when a request was really handed to its connection, which was let through at `granted`: a process that was
    /// scheduled late sends late, and its next requests must not follow closer for that.
    pub fn started(&self, granted: Instant, at: Instant) {
        let mut state = self.limiter.state();
        state.starts.move_to(granted, at);
        state.shared.started_at = Some(at);
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
        let has_room = state.waiting == state.max_waiting();
        drop(state);
        if has_room {
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
    async fn wait_until<T>(&self, attempt: impl Fn(&mut State, Instant) -> Result<T, Wait>) -> T {
        loop {
            let changed = self.changed.notified();
            let attempted = attempt(&mut self.state(), Instant::now());
            match attempted {
                Ok(granted) => return granted,
                Err(Wait::Until(until)) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                Err(Wait::Start) => changed.await,
            }
        }
    }
}

impl Shared {
    /// Waits for a start in the quota that runs share, in addition to the one that this run's own limits have `granted`.
    async fn start_in_turn(&self, quota: &dyn Quota, granted: Instant) -> Instant {
        loop {
            let at = self.reserve(quota).await;
            if at > Instant::now() {
                // A timer takes a millisecond even if it is due.
                sleep_until(at).await;
            }
            let until = {
                let mut state = self.state();
                let now = Instant::now();
                match state.wait_for(state.not_before, now) {
                    Ok(()) if state.shared.try_use(now) => {
                        state.starts.move_to(granted, now);
                        return now;
                    }
                    Err(Wait::Until(until)) => until,
                    _ => now,
                }
            };
            sleep_until(until).await;
        }
    }

    /// Returns when the run's next start in the shared quota is.
    async fn reserve(&self, quota: &dyn Quota) -> Instant {
        loop {
            let (pace, previous) = {
                let state = self.state();
                let now = Instant::now();
                if let Some(at) = state.shared.start(now) {
                    return at;
                }
                let pace = Pace {
                    rate: state.rate.per_second(),
                    share: state.adaptive.share(now),
                };
                (pace, state.shared.previous())
            };
            let reserved = quota.reserve(pace, previous).await;
            let until = self.state().shared.note(reserved);
            match until {
                Ok(at) => return at,
                Err(at) => sleep_until(at.min(Instant::now() + MAX_WAIT)).await,
            }
        }
    }
}

impl SharedStart {
    /// When a start is reserved that is not too late at `now`: then others may be in its place. A request that has given up
    /// leaves its start to the next.
    fn start(&self, now: Instant) -> Option<Instant> {
        let slot = self.slot.filter(|_| self.left > 0)?;
        let is_late = match slot.starts {
            1 => now > slot.at + LATENESS,
            _ => now > slot.until,
        };
        (!is_late).then(|| slot.at.max(now))
    }

    /// Uses the start that is reserved.
    fn try_use(&mut self, now: Instant) -> bool {
        let has_start = self.start(now).is_some();
        if has_start {
            self.left -= 1;
            // Until it is known better.
            self.started_at = Some(now);
        }
        has_start
    }

    /// What became of the slot.
    fn previous(&self) -> Option<Previous> {
        let slot = self.slot?;
        match (self.started_at, slot.starts) {
            (None, _) => Some(Previous::Unused(slot)),
            (Some(at), 1) => Some(Previous::Started(slot, at)),
            (Some(_), _) => None,
        }
    }

    /// Notes what came of a reservation: its time, or when to try again.
    fn note(&mut self, reserved: Result<Reserved, quota::Unavailable>) -> Result<Instant, Instant> {
        let now = Instant::now();
        match reserved {
            Err(error) => {
                self.unavailable.get_or_insert((now, error.to_string())).1 = error.to_string();
                Err(now + RETRY_QUOTA)
            }
            Ok(reserved) => {
                (self.unavailable, self.started_at, self.left) = (None, None, 0);
                match reserved {
                    Reserved::NotBefore(at) => {
                        self.slot = None;
                        Err(at)
                    }
                    Reserved::Slot(slot) => {
                        (self.slot, self.left, self.runs) = (Some(slot), slot.starts, self.runs.max(slot.runs));
                        Ok(slot.at)
                    }
                }
            }
        }
    }
}

impl Limiter {
    /// At most `rate` requests within any second, evenly spaced.
    pub fn new(rate: Rate) -> Limiter {
        Limiter::with_quota(rate, None)
    }

    /// As [`Limiter::new`], and shares a quota with other runs: their starts count too.
    pub fn sharing(rate: Rate, quota: Arc<dyn Quota>) -> Limiter {
        Limiter::with_quota(rate, Some(quota))
    }

    fn with_quota(rate: Rate, quota: Option<Arc<dyn Quota>>) -> Limiter {
        let (now, per_second) = (Instant::now(), rate.per_second());
        let state = State {
            rate,
            spacing: Spacing::new(per_second, now),
            starts: Window::keeping(rate.cap().min(MAX_KEPT), SECOND + MARGIN),
            adaptive: AdaptiveRate::new(per_second, now),
            permits: Spacing::new(per_second, now),
            waiting: 0,
            not_before: None,
            shared: SharedStart::default(),
        };
        Limiter {
            shared: Arc::new(Shared {
                acquiring: tokio::sync::Mutex::new(()),
                starting: tokio::sync::Mutex::new(()),
                state: Mutex::new(state),
                changed: Notify::new(),
                quota,
            }),
        }
    }

    /// Waits for the permit to try a request.
    ///
    /// Dropping the future gives up the place in the queue and uses nothing.
    pub async fn acquire(&self) -> Permit {
        let _next = self.shared.acquiring.lock().await;
        self.shared.wait_until(State::try_acquire).await;
        Permit { limiter: self.clone() }
    }

    /// Waits until a request may start that needs no connection, or has an open one: [`Limiter::acquire`] and
    /// [`Permit::start`] in one.
    pub async fn ready(&self) -> Permit {
        let permit = self.acquire().await;
        permit.start().await;
        permit
    }

    /// The server took a request.
    pub fn accepted(&self) {
        self.state().adaptive.accepted(Instant::now());
    }

    /// The server refused a request, which had started at `started_at`, because there were too many: the whole run slows
    /// down, and nothing starts before `retry_after` has passed. When that shows that others use the quota too, it is
    /// logged, once until the run has been back at the cap for a while.
    pub fn limited(&self, started_at: Instant, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        let runs = state.shared.slot.map_or(1, |slot| slot.runs.max(1));
        let has_contention_now = state.adaptive.limited(started_at, now, runs);
        state.not_before = state.not_before.max(retry_after.map(|wait| now + wait));
        drop(state);
        self.shared.changed.notify_waiters();
        if has_contention_now {
            tracing::warn!(
                "rate limited, although at most {} requests start in any second: other traffic of this app may share \
                 the quota, the quota may be smaller, or requests may have arrived closer together than they left; \
                 slowing down and probing for more",
                self.cap()
            );
        }
    }

    /// Until when nothing starts, if the server has asked for that.
    pub fn paused_until(&self) -> Option<Instant> {
        self.state().not_before
    }

    /// Counts starts of another run with the same quota: they fill the second too.
    pub fn record_external(&self, starts: &[Instant]) {
        let mut state = self.state();
        starts.iter().for_each(|start| state.starts.insert(*start));
    }

    /// Since when the quota that runs share can't be used, and why; `None` if it can.
    pub fn unavailable(&self) -> Option<(Instant, String)> {
        self.state().shared.unavailable.clone()
    }

    /// The most runs that shared the quota at a time, including this one; 0 if it is not shared.
    pub fn runs(&self) -> usize {
        self.state().shared.runs
    }

    /// The rate aimed at now, in requests per second; below the cap after `limited` answers.
    pub fn rate(&self) -> f64 {
        let state = self.state();
        state.rate.per_second() * state.adaptive.share(Instant::now())
    }

    /// The most requests that start within any one second.
    pub fn cap(&self) -> usize {
        self.state().cap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl State {
    fn cap(&self) -> usize {
        self.rate.cap()
    }

    fn max_waiting(&self) -> usize {
        (self.cap() as f64 * MAX_WAITING.as_secs_f64()) as usize
    }

    /// Takes a permit now, or returns what to wait for.
    fn try_acquire(&mut self, now: Instant) -> Result<(), Wait> {
        if self.waiting > self.max_waiting() {
            // Those who wait with a connection open go first.
            return Err(Wait::Start);
        }
        let ahead = self.next_start(now).checked_sub(MAX_AHEAD);
        let ahead = ahead.map(|at| at.min(now + MAX_WAIT));
        self.wait_for(self.not_before.max(ahead), now)?;
        self.permits.try_start(now).map_err(Wait::Until)
    }

    /// Takes a start now, or returns what to wait for.
    fn try_start(&mut self, now: Instant) -> Result<Instant, Wait> {
        self.wait_for(self.not_before, now)?;
        let share = self.adaptive.share(now);
        let soon = now + MAX_WAIT;
        let span = (SECOND + MARGIN).div_f64(share);
        self.starts.set_span(span);
        let free = self.starts.newest(self.cap()).map(|first| first + span);
        self.wait_for(free.map(|free| free.min(soon)), now)?;
        let spaced = self.spacing.try_start(now);
        spaced.map_err(|free| Wait::Until(free.min(soon)))?;
        self.starts.insert(now);
        self.spacing.set_rate(self.rate.per_second() * share, now);
        Ok(now)
    }

    fn wait_for(&self, until: Option<Instant>, now: Instant) -> Result<(), Wait> {
        match until.filter(|until| *until > now) {
            Some(until) => Err(Wait::Until(until)),
            None => Ok(()),
        }
    }

    /// About when the next request may start, at the rate as it is now.
    fn next_start(&self, now: Instant) -> Instant {
        let share = self.adaptive.share(now);
        let spaced = self.starts.newest(1);
        let spaced = spaced.map(|last| last + SECOND.div_f64(self.rate.per_second() * share));
        let windowed = self.starts.newest(self.cap());
        let windowed = windowed.map(|first| first + SECOND.div_f64(share));
        spaced.max(windowed).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: f64, starts: &[Instant]) -> Limiter {
        let limiter = Limiter::new(rate.try_into().unwrap());
        limiter.record_external(starts);
        limiter
    }

    fn waits_until(limiter: &Limiter, now: Instant) -> Option<Instant> {
        match limiter.state().try_start(now) {
            Err(Wait::Until(until)) => Some(until),
            _ => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_the_cap_take_a_second_and_longer_at_a_lower_rate() {
        let zero = Instant::now();
        let limiter = limiter(2.0, &[zero + SECOND / 2, zero]);
        assert_eq!(waits_until(&limiter, zero + SECOND), Some(zero + SECOND + MARGIN));
        limiter.limited(zero, None);
        let share = limiter.rate() / 2.0;
        assert!(share < 1.0);
        let stretched = (SECOND + MARGIN).div_f64(share);
        assert_eq!(waits_until(&limiter, zero + SECOND), Some(zero + stretched));
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_was_made_late_keeps_the_one_a_second_later_waiting() {
        let zero = Instant::now();
        let limiter = Limiter::new(1.0.try_into().unwrap());
        let permit = limiter.ready().await;
        permit.started(zero, zero + SECOND / 2);
        assert_eq!(
            waits_until(&limiter, zero + SECOND + MARGIN),
            Some(zero + SECOND + MARGIN + SECOND / 2)
        );
    }
}
