//! Stage 2, when a request may start: evenly spaced, never more than the cap in any second, slower when the server says so.
//!
//! A request starts when it is handed to an open connection, and opening one takes anything from a millisecond to many
//! seconds. So there are two steps:
//!
//! - [`Limiter::acquire`] returns a permit to try a request, which includes opening a connection. Permits are issued in the
//!   order in which they were asked for, evenly spaced (`spacing.rs`), and only as fast as requests start.
//! - [`Permit::start`] waits, with the connection open, until the request may start. However long connecting took, and however
//!   many connections are ready at once, requests start evenly and never more than the cap in any second.
//!
//! `schedule.rs` has the rule by which starts are scheduled, and `starts.rs` applies it to those of this run. With a quota that
//! several runs share (`quota/`), each start is then reserved among the starts of all runs, by the same rule. The adaptive rate
//! (`adaptive_rate.rs`) slows both down when the server refuses requests: if it drops by 2 %, the last 20 starts must take
//! 20 ms longer, which already delays the next one.
//!
//! The rate in force can change at any time (`rate_limit.rs`), and can be a pause. It is looked up at each step, and once per
//! second while requests wait.
//!
//! Retries take the same two steps. Time is Tokio's, so tests with paused time see hours of pacing exactly and immediately.

mod adaptive_rate;
mod at_random;
mod own_rate;
pub mod quota;
mod rate;
mod rate_limit;
mod retry_after;
mod schedule;
mod spacing;
mod starts;
mod timetable;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use adaptive_rate::AdaptiveRate;
use jiff::ZonedDateTime;
use own_rate::{OwnRate, WallClock};
use quota::{Activity, Limit, Quota, Reserved};
pub use rate::{Rate, RateError};
pub use rate_limit::RateLimit;
use retry_after::RetryAfter;
use spacing::Spacing;
use starts::{MAX_WAIT, Starts, Step};
pub use timetable::{Timetable, TimetableError};

/// No permits are issued while more requests wait to start than start in this time. A few must wait, or slow connections
/// would lower the rate.
const MAX_WAITING: Duration = Duration::from_millis(300);

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
    own_rate: OwnRate,
    quota: Option<Arc<dyn Quota>>,
    /// Held by the next one to get a permit, and by the next one to start. Tokio's mutex is fair: first come, first served.
    next_permit: tokio::sync::Mutex<()>,
    next_start: Arc<tokio::sync::Mutex<()>>,
    /// How many requests wait to start.
    waiting: watch::Sender<usize>,
    state: Mutex<State>,
}

struct State {
    /// What is in force, as far as is known.
    limit: RateLimit,
    /// The latest rate that was no pause.
    rate: Rate,
    adaptive: AdaptiveRate,
    /// Spaces permits as starts are spaced: connections are not opened faster than requests may start.
    permits: Spacing,
    starts: Starts,
    retry_after: RetryAfter,
}

/// The right to try one request: to open a connection if there is none, and to [start](Permit::start).
#[must_use]
#[derive(Debug)]
pub struct Permit {
    limiter: Limiter,
}

impl Permit {
    /// Waits until a request may be handed to its connection, which has to be open, and returns when that was. The request
    /// has to start immediately, and counts as a start from then on. May be called again if the connection turns out to be
    /// closed.
    ///
    /// Dropping the future gives up the place in the queue and uses no start.
    pub async fn start(&self) -> Instant {
        let shared = &*self.limiter.shared;
        let _waiting = Waiting::new(&shared.waiting);
        let mut next = Arc::clone(&shared.next_start).lock_owned().await;
        loop {
            let now = Instant::now();
            let step = self.limiter.state_at(now).next_step(now);
            match step {
                Step::Start => return now,
                Step::WaitUntil(at) => sleep_until(at).await,
                Step::Reserve(request) => next = self.limiter.reserve(request, next).await,
            }
        }
    }

    /// Records when a request was really handed to its connection, which was admitted at `granted`: a process that was
    /// scheduled late sends late, and its next requests must not follow closer for that.
    pub fn started(&self, granted: Instant, at: Instant) {
        self.limiter.shared.state().starts.started(granted, at);
    }
}

/// Counts a request that waits to start, until this is dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Waiting<'a> {
        waiting.send_modify(|waiting| *waiting += 1);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

impl Limiter {
    /// At most `rate` requests within any second, evenly spaced.
    pub fn new(rate: Rate) -> Limiter {
        Limiter::by_timetable(rate.into(), None)
    }

    /// As [`Limiter::new`], and shares a quota with other runs: their starts count too.
    pub fn sharing(rate: Rate, quota: Arc<dyn Quota>) -> Limiter {
        Limiter::by_timetable(rate.into(), Some(quota))
    }

    /// With a rate that changes with the time of day, by the system's clock and in the local time zone, or UTC if none is
    /// known. `quota` is shared with other runs.
    pub fn by_timetable(timetable: Timetable, quota: Option<Arc<dyn Quota>>) -> Limiter {
        Limiter::by_clock(timetable, quota, Box::new(ZonedDateTime::now))
    }

    /// By another clock. For this crate's own tests.
    #[doc(hidden)]
    pub fn by_clock(timetable: Timetable, quota: Option<Arc<dyn Quota>>, clock: WallClock) -> Limiter {
        let rate = timetable.highest();
        let (now, per_second) = (Instant::now(), rate.per_second());
        let state = State {
            limit: RateLimit::Own(rate),
            rate,
            adaptive: AdaptiveRate::new(per_second, now),
            permits: Spacing::new(per_second, now),
            starts: Starts::new(rate, quota.is_some(), now),
            retry_after: RetryAfter::default(),
        };
        Limiter {
            shared: Arc::new(Shared {
                own_rate: OwnRate::new(timetable, clock),
                quota,
                next_permit: tokio::sync::Mutex::new(()),
                next_start: Arc::default(),
                waiting: watch::Sender::new(0),
                state: Mutex::new(state),
            }),
        }
    }

    /// Waits for a permit to try a request.
    ///
    /// Dropping the future gives up the place in the queue and uses nothing.
    pub async fn acquire(&self) -> Permit {
        let _next = self.shared.next_permit.lock().await;
        let mut waiting = self.shared.waiting.subscribe();
        loop {
            let max_waiting = (self.rate() * MAX_WAITING.as_secs_f64()) as usize;
            // Those that wait with an open connection go first.
            let few_wait = waiting.wait_for(|waiting| *waiting <= max_waiting);
            if timeout(MAX_WAIT, few_wait).await.is_err() {
                continue; // The rate may have changed.
            }
            let now = Instant::now();
            let taken = self.state_at(now).try_permit(now);
            match taken {
                Ok(()) => return Permit { limiter: self.clone() },
                Err(until) => sleep_until(until.min(now + MAX_WAIT)).await,
            }
        }
    }

    /// Waits until a request may start that needs no connection, or has an open one: [`Limiter::acquire`] and
    /// [`Permit::start`] in one.
    pub async fn ready(&self) -> Permit {
        let permit = self.acquire().await;
        permit.start().await;
        permit
    }

    /// The server accepted a request, which had started at `started_at`.
    pub fn accepted(&self, started_at: Instant) {
        let is_limiter = self.state().adaptive.accepted(started_at, Instant::now());
        if is_limiter {
            tracing::warn!(
                "many requests within a second were answered HTTP 503 or 403, while others are accepted: probably a rate \
                 limit; slowing down and probing for more"
            );
        }
    }

    /// The server answered a request, which had started at `started_at`, with an error that a rate limit may be the reason of,
    /// and a service that is unavailable too. Many of them within a second slow down the whole run, unless an
    /// [outage](Limiter::outage) follows.
    pub fn unclear(&self, started_at: Instant) {
        let mut state = self.state();
        let runs = state.starts.runs();
        state.adaptive.unclear(started_at, Instant::now(), runs);
    }

    /// The service is unavailable: so that was why requests were answered with errors, and not a rate limit.
    pub fn outage(&self) {
        self.state().adaptive.outage();
    }

    /// The server refused a request, which had started at `started_at`, because there were too many: the whole run slows
    /// down. `retry_after` is how long the server asked to wait. The request's row is to wait for that long; the whole run does
    /// only if the request had started after an earlier one was asked to wait. That is logged, once a minute at most. When it
    /// shows that others use the quota too, that is logged, once until the run has been back at the cap for a while.
    pub fn limited(&self, started_at: Instant, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        let runs = state.starts.runs();
        let has_contention_now = state.adaptive.limited(started_at, now, runs);
        let cap = state.rate.cap();
        let wait = retry_after.filter(|wait| state.retry_after.refused(started_at, now, *wait));
        drop(state);
        if has_contention_now {
            tracing::warn!(
                "rate limited, although at most {cap} requests start in any second: other traffic of this app may share \
                 the quota, the quota may be smaller, or requests may have arrived closer together than they left; \
                 slowing down and probing for more"
            );
        }
        if let Some(wait) = wait {
            tracing::warn!(
                "the server refuses requests and asks to wait {} (Retry-After): nothing starts until then",
                humantime::format_duration(Duration::from_secs(wait.as_secs_f64().ceil() as u64))
            );
        }
    }

    /// Looks whether a run that was slowed down is back at its full rate, and logs that. Tells the runs that share the quota
    /// how far this one is. To be called several times a second.
    pub(crate) fn note_activity(&self, on_hold: bool) {
        if self.state().adaptive.has_recovered(Instant::now()) {
            tracing::warn!("the server accepts requests at the full rate again: the run is no longer slowed down");
        }
        let Some(quota) = &self.shared.quota else { return };
        let rate_now = match self.shared.own_rate.now() {
            RateLimit::Timetable { rate, .. } => Some(rate.map_or(0.0, Rate::per_second)),
            _ => None,
        };
        let activity = {
            let starts = &self.state().starts;
            Activity {
                recent_rate: starts.recent_rate(Instant::now()),
                on_hold: on_hold || starts.unavailable.is_some(),
                rate_now,
            }
        };
        quota.note(activity);
    }

    /// Looks whether the quota can be used in a pause by its limit, in which nothing is reserved. Returns whether it is known
    /// that it can't. To be called several times a second.
    pub(crate) fn is_cut_off_in_pause(&self, limit: RateLimit) -> bool {
        let RateLimit::Quota(Limit { rate: None, .. }) = limit else {
            return false;
        };
        let is_usable = self.shared.quota.as_ref().and_then(|quota| quota.is_usable());
        let Some(is_usable) = is_usable else { return false };
        let is_cut_off = is_usable.is_err();
        self.state().starts.note_in_pause(is_usable, Instant::now());
        is_cut_off
    }

    /// Leaves the quota that runs share: this run starts no more requests.
    pub async fn leave(&self) {
        if let Some(quota) = &self.shared.quota {
            let last = self.state().starts.previous();
            quota.leave(last).await;
        }
    }

    /// Until when nothing starts, if the server has asked for that.
    pub fn paused_until(&self) -> Option<Instant> {
        self.state().retry_after.not_before()
    }

    /// Since when the quota that runs share can't be used, and why; `None` if it can.
    pub fn unavailable(&self) -> Option<(Instant, String)> {
        self.state().starts.unavailable.clone()
    }

    /// When it was last found that the quota can't be used. It is tried only when a request may start, or in a pause by its limit, so it may be back since.
    pub(crate) fn unavailable_at(&self) -> Option<Instant> {
        self.state().starts.unavailable_at
    }

    /// The most runs that shared the quota at a time, including this one; 0 if it is not shared.
    pub fn runs(&self) -> usize {
        self.state().starts.most_runs
    }

    /// The rate aimed at now, in requests per second: below the [one in force](Limiter::rate_limit) after `limited` answers,
    /// and 0 in a pause.
    pub fn rate(&self) -> f64 {
        let now = Instant::now();
        let state = self.state_at(now);
        match state.limit.rate() {
            Some(rate) => rate.per_second() * state.adaptive.share(now),
            None => 0.0,
        }
    }

    /// What limits the rate at present: the run's own rate, or a lower limit of the quota that runs share.
    pub fn rate_limit(&self) -> RateLimit {
        RateLimit::lower(self.shared.own_rate.now(), self.quota_limit())
    }

    /// How long it takes to start so many requests from now on: by the run's own rate, its timetable, and the present limit of
    /// the quota. `None` if that is more than ten years, or if it is not known when a pause ends.
    pub fn time_for(&self, requests: f64) -> Option<Duration> {
        self.shared.own_rate.time_for(requests, self.quota_limit())
    }

    /// How many requests may start within this time from now on: what [`Limiter::time_for`] is the other way round.
    pub fn requests_in(&self, time: Duration) -> f64 {
        self.shared.own_rate.requests_in(time, self.quota_limit())
    }

    /// Reserves the next starts, and returns the turn. A reservation that has begun is completed even if this is dropped: when
    /// requests wait for so long that they give up, each would begin one anew, and none would start.
    async fn reserve(&self, request: quota::Request, turn: OwnedMutexGuard<()>) -> OwnedMutexGuard<()> {
        let shared = Arc::clone(&self.shared);
        let Some(quota) = shared.quota.clone() else {
            let granted = Reserved::Slot(request.granted());
            shared.state().starts.note(Ok(granted), &request, Instant::now());
            return turn;
        };
        let reserving = async move {
            let reserved = quota.reserve(request).await;
            shared.state().starts.note(reserved, &request, Instant::now());
            turn
        };
        match tokio::spawn(reserving.in_current_span()).await {
            Ok(turn) => turn,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being shut down.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn quota_limit(&self) -> Option<Limit> {
        self.shared.quota.as_ref()?.limit()
    }

    /// The most requests that start within any one second, at the highest rate of the run.
    pub fn cap(&self) -> usize {
        self.shared.own_rate.timetable().highest().cap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The state, at the rate that is in force now.
    fn state_at(&self, now: Instant) -> MutexGuard<'_, State> {
        let limit = self.rate_limit();
        let mut state = self.state();
        state.limit_to(limit, now);
        state
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the limiter's state")
    }
}

impl State {
    /// Applies what is in force now.
    fn limit_to(&mut self, limit: RateLimit, now: Instant) {
        if limit == self.limit {
            return;
        }
        self.limit = limit;
        self.starts
            .hold_back(limit.is_pause() || matches!(limit, RateLimit::Quota(_)));
        if let Some(rate) = limit.rate()
            && rate != self.rate
        {
            let per_second = rate.per_second();
            self.adaptive.change_cap(self.rate.per_second(), per_second, now);
            self.permits = Spacing::new(per_second, now);
            self.starts.set_rate(rate);
            self.rate = rate;
        }
    }

    /// Takes a permit, or returns when to ask again.
    fn try_permit(&mut self, now: Instant) -> Result<(), Instant> {
        if self.limit.is_pause() {
            return Err(now + MAX_WAIT);
        }
        match self.retry_after.not_before().filter(|not_before| *not_before > now) {
            Some(not_before) => Err(not_before),
            None => self.permits.try_take(now),
        }
    }

    fn next_step(&mut self, now: Instant) -> Step {
        if self.limit.is_pause() {
            return Step::WaitUntil(now + MAX_WAIT);
        }
        let share = self.adaptive.share(now);
        self.starts.next_step(now, share, self.retry_after.not_before())
    }
}

#[cfg(test)]
mod tests;
