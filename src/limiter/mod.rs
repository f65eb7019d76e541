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
//! Retries take the same two steps. Time is Tokio's, so tests with paused time see hours of pacing exactly and immediately.

mod adaptive_rate;
pub mod quota;
mod rate;
mod schedule;
mod spacing;
mod starts;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use adaptive_rate::AdaptiveRate;
use quota::{Quota, Reserved};
pub use rate::{Rate, RateError};
use spacing::Spacing;
use starts::{Starts, Step};

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
    rate: Rate,
    quota: Option<Arc<dyn Quota>>,
    /// Held by the next one to get a permit, and by the next one to start. Tokio's mutex is fair: first come, first served.
    next_permit: tokio::sync::Mutex<()>,
    next_start: tokio::sync::Mutex<()>,
    /// How many requests wait to start.
    waiting: watch::Sender<usize>,
    state: Mutex<State>,
}

struct State {
    adaptive: AdaptiveRate,
    /// Spaces permits as starts are spaced: connections are not opened faster than requests may start.
    permits: Spacing,
    starts: Starts,
    /// Nothing starts before this time: the server's `Retry-After`.
    not_before: Option<Instant>,
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
        let _next = shared.next_start.lock().await;
        loop {
            let now = Instant::now();
            let step = shared.state().next_step(now);
            match step {
                Step::Start => return now,
                Step::WaitUntil(at) => sleep_until(at).await,
                Step::Reserve(request) => {
                    let reserved = match &shared.quota {
                        Some(quota) => quota.reserve(request).await,
                        None => Ok(Reserved::Slot(request.granted())),
                    };
                    shared.state().starts.note(reserved, &request, Instant::now());
                }
            }
        }
    }

    /// Records when a request was really handed to its connection, which was let through at `granted`: a process that was
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
        Limiter::with_quota(rate, None)
    }

    /// As [`Limiter::new`], and shares a quota with other runs: their starts count too.
    pub fn sharing(rate: Rate, quota: Arc<dyn Quota>) -> Limiter {
        Limiter::with_quota(rate, Some(quota))
    }

    fn with_quota(rate: Rate, quota: Option<Arc<dyn Quota>>) -> Limiter {
        let (now, per_second) = (Instant::now(), rate.per_second());
        let state = State {
            adaptive: AdaptiveRate::new(per_second, now),
            permits: Spacing::new(per_second, now),
            starts: Starts::new(rate, quota.is_some(), now),
            not_before: None,
        };
        Limiter {
            shared: Arc::new(Shared {
                rate,
                quota,
                next_permit: tokio::sync::Mutex::new(()),
                next_start: tokio::sync::Mutex::new(()),
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
            let _ = waiting.wait_for(|waiting| *waiting <= max_waiting).await;
            let taken = self.state().try_permit(Instant::now());
            match taken {
                Ok(()) => return Permit { limiter: self.clone() },
                Err(until) => sleep_until(until).await,
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

    /// The server accepted a request.
    pub fn accepted(&self) {
        self.state().adaptive.accepted(Instant::now());
    }

    /// The server refused a request, which had started at `started_at`, because there were too many: the whole run slows
    /// down, and nothing starts before `retry_after` has passed. When that shows that others use the quota too, it is
    /// logged, once until the run has been back at the cap for a while.
    pub fn limited(&self, started_at: Instant, retry_after: Option<Duration>) {
        let now = Instant::now();
        let mut state = self.state();
        let runs = state.starts.runs();
        let has_contention_now = state.adaptive.limited(started_at, now, runs);
        state.not_before = state.not_before.max(retry_after.map(|wait| now + wait));
        drop(state);
        if has_contention_now {
            tracing::warn!(
                "rate limited, although at most {} requests start in any second: other traffic of this app may share \
                 the quota, the quota may be smaller, or requests may have arrived closer together than they left; \
                 slowing down and probing for more",
                self.cap()
            );
        }
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
        self.state().not_before
    }

    /// Since when the quota that runs share can't be used, and why; `None` if it can.
    pub fn unavailable(&self) -> Option<(Instant, String)> {
        self.state().starts.unavailable()
    }

    /// The most runs that shared the quota at a time, including this one; 0 if it is not shared.
    pub fn runs(&self) -> usize {
        self.state().starts.most_runs()
    }

    /// The rate aimed at now, in requests per second; below the cap after `limited` answers.
    pub fn rate(&self) -> f64 {
        self.shared.rate.per_second() * self.state().adaptive.share(Instant::now())
    }

    /// The most requests that start within any one second.
    pub fn cap(&self) -> usize {
        self.shared.rate.cap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
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
    /// Takes a permit, or returns when to ask again.
    fn try_permit(&mut self, now: Instant) -> Result<(), Instant> {
        match self.not_before.filter(|not_before| *not_before > now) {
            Some(not_before) => Err(not_before),
            None => self.permits.try_take(now),
        }
    }

    fn next_step(&mut self, now: Instant) -> Step {
        let share = self.adaptive.share(now);
        self.starts.next_step(now, share, self.not_before)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::quota::{BoxFuture, Previous, Request, Slot, Unavailable};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn rate(per_second: f64) -> Rate {
        per_second.try_into().unwrap()
    }

    /// When the next request may start, from now on.
    async fn next_start(limiter: &Limiter) -> Duration {
        let asked_at = Instant::now();
        let _ = limiter.ready().await;
        asked_at.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_was_made_late_keeps_the_one_a_second_later_waiting() {
        let zero = Instant::now();
        let limiter = Limiter::new(rate(1.0));
        let permit = limiter.ready().await;
        permit.started(zero, zero + SECOND / 2);
        assert_eq!(next_start(&limiter).await, millis(1504));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_delays_a_request_that_waits_already() {
        let limiter = Limiter::new(rate(2.0));
        let started_at = Instant::now();
        for _ in 0..2 {
            let _ = limiter.ready().await;
        }
        let waiting = limiter.clone();
        let third = tokio::spawn(async move {
            let _ = waiting.ready().await;
            started_at.elapsed()
        });
        tokio::time::sleep(SECOND / 4).await;
        limiter.limited(started_at, None);
        assert!(limiter.rate() < 2.0);
        let at_least = Duration::from_micros(schedule::SECOND + schedule::MARGIN).div_f64(limiter.rate() / 2.0);
        let third = third.await.unwrap();
        assert!(
            third >= at_least && third < at_least + millis(5),
            "{third:?}, {at_least:?}"
        );
    }

    /// A quota that gives these answers, and keeps what it was asked.
    #[derive(Debug, Default)]
    struct Scripted {
        answers: Mutex<VecDeque<Result<Reserved, Unavailable>>>,
        requests: Mutex<Vec<Request>>,
        last: Mutex<Option<Option<Previous>>>,
    }

    impl Quota for Scripted {
        fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
            self.requests.lock().unwrap().push(request);
            let answer = self.answers.lock().unwrap().pop_front();
            Box::pin(async move { answer.unwrap_or_else(|| Ok(Reserved::Slot(request.granted()))) })
        }

        fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
            *self.last.lock().unwrap() = Some(last);
            Box::pin(async {})
        }
    }

    fn sharing(answers: impl IntoIterator<Item = Result<Reserved, Unavailable>>) -> (Limiter, Arc<Scripted>) {
        let quota = Arc::new(Scripted {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Scripted::default()
        });
        (Limiter::sharing(Rate::default(), Arc::clone(&quota) as _), quota)
    }

    fn slot(at: Instant, starts: u32) -> Slot {
        Slot {
            id: 7,
            at,
            until: at + millis(10),
            starts,
            runs: 3,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_of_a_slot_is_told_with_the_next_reservation_and_at_the_end() {
        let zero = Instant::now();
        let (limiter, quota) = sharing([Ok(Reserved::Slot(slot(zero + millis(5), 1)))]);
        let permit = limiter.ready().await;
        permit.started(Instant::now(), zero + millis(8));
        let _ = limiter.ready().await;
        let requests = quota.requests.lock().unwrap().clone();
        assert_eq!(requests[0].previous, None);
        let previous = requests[1].previous.unwrap();
        assert_eq!(
            (previous.slot.id, previous.used, previous.last),
            (7, 1, zero + millis(8))
        );
        assert_eq!((limiter.runs(), requests.len()), (3, 2));
        limiter.leave().await;
        let last = quota.last.lock().unwrap().unwrap().unwrap();
        assert_eq!((last.slot.id, last.used, last.last), (0, 1, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_left_to_the_next_request_by_one_that_gives_up_and_given_back_when_it_is_too_late() {
        let zero = Instant::now();
        let (limiter, quota) = sharing([Ok(Reserved::Slot(slot(zero + millis(500), 1)))]);
        let permit = limiter.acquire().await;
        assert!(tokio::time::timeout(millis(100), permit.start()).await.is_err());
        assert!(tokio::time::timeout(millis(100), permit.start()).await.is_err());
        assert_eq!(quota.requests.lock().unwrap().len(), 1);
        tokio::time::sleep(millis(400)).await;
        permit.start().await;
        let previous = quota.requests.lock().unwrap()[1].previous.unwrap();
        assert_eq!((previous.slot.id, previous.used), (7, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_is_available_again_only_when_it_has_reserved_something() {
        let zero = Instant::now();
        let (limiter, _) = sharing([
            Err(Unavailable("first".into())),
            Ok(Reserved::NotBefore(zero + SECOND)),
            Err(Unavailable("second".into())),
        ]);
        let permit = limiter.acquire().await;
        for (time, why) in [(100, "first"), (900, "first"), (1100, "second")] {
            let until = zero + millis(time);
            assert!(tokio::time::timeout_at(until, permit.start()).await.is_err());
            assert_eq!(limiter.unavailable(), Some((zero, why.into())));
        }
        permit.start().await;
        assert_eq!((limiter.unavailable(), zero.elapsed()), (None, millis(1250)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_keeps_its_own_pace_whatever_the_quota_grants() {
        let zero = Instant::now();
        let (limiter, _) = sharing((0..30).map(|_| Ok(Reserved::Slot(slot(zero, 1)))));
        for _ in 0..21 {
            let _ = limiter.ready().await;
        }
        assert!(zero.elapsed() >= millis(1003), "{:?}", zero.elapsed());
    }
}
