//! Stage 2, when a request may leave: evenly paced, slowed when the server says so, held while there is no service.
//!
//! There is one gate, and one waiter at it at a time: the others queue behind in the order in which they came, so rows
//! leave in file order and a retry pays for its start like everyone else. Time is Tokio's, so tests with paused time
//! see hours of pacing exactly and at once.

mod pace;
mod window;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use pace::Pace;
pub use window::Window;

/// The pause before the first probe while the run is on hold; each further one doubles it.
const PROBE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause between two probes.
const PROBE_MAX: Duration = Duration::from_secs(30);

/// Lets requests start.
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
pub struct Limiter {
    /// First come, first served (Tokio's mutex is fair).
    gate: tokio::sync::Mutex<()>,
    /// How many wait at the gate or before it.
    queued: AtomicUsize,
    state: Mutex<State>,
    /// Wakes the waiter at the gate when what it waits for has changed.
    changed: Notify,
}

struct State {
    pace: Pace,
    /// No start before this: the server's `Retry-After`.
    not_before: Option<Instant>,
    hold: Option<Hold>,
}

struct Hold {
    next_probe: Instant,
    pause: Duration,
    /// A probe is under way; nothing else starts until it is answered.
    probing: bool,
}

/// Counts one that waits, until it is dropped.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn new(queued: &'a AtomicUsize) -> Queued<'a> {
        queued.fetch_add(1, Ordering::AcqRel);
        Queued(queued)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The right to start one request, now.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The run is on hold, and this request is to find out whether the service is back: nothing else starts before the
    /// limiter is told, by [`Limiter::accepted`], [`Limiter::limited`] or [`Limiter::probe_failed`].
    pub is_probe: bool,
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
        Limiter {
            gate: tokio::sync::Mutex::new(()),
            queued: AtomicUsize::new(0),
            state: Mutex::new(State {
                pace: Pace::new(rate, Instant::now()),
                not_before: None,
                hold: None,
            }),
            changed: Notify::new(),
        }
    }

    /// Waits until a request may start. The request must start at once; a pass is not kept for later.
    ///
    /// Dropping the future gives the place in the queue up and uses nothing.
    pub async fn ready(&self) -> Pass {
        // Nobody is before this one, and nothing to wait for: then the gate need not be closed behind it.
        if self.queued.load(Ordering::Acquire) == 0
            && let Ok(pass) = self.state().try_start(Instant::now())
        {
            return pass;
        }
        let _queued = Queued::new(&self.queued);
        let _turn = self.gate.lock().await;
        loop {
            let changed = self.changed.notified();
            let waited_for = self.state().try_start(Instant::now());
            match waited_for {
                Ok(pass) => return pass,
                Err(Some(until)) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                Err(None) => changed.await,
            }
        }
    }

    /// The last starts, oldest first, as many as may share a second; none if the cap is so high (above 1000 a second)
    /// that a few requests more or less don't matter.
    pub fn recent_starts(&self) -> Vec<Instant> {
        self.state().pace.recent()
    }

    /// Counts starts of an earlier run with the same quota: they fill the second too.
    pub fn count_earlier(&self, starts: &[Instant]) {
        let mut state = self.state();
        starts.iter().for_each(|start| state.pace.foreign_start(*start));
    }

    /// The server took a request: not too many, and the service is there. `true` if the run was on hold.
    pub fn accepted(&self) -> bool {
        let mut state = self.state();
        state.pace.accepted(Instant::now());
        let ended = state.hold.take().is_some();
        drop(state);
        if ended {
            self.changed.notify_one();
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
        self.changed.notify_one();
        if is_crowded_now {
            tracing::warn!(
                "too many requests, says the server, though no more than {cap} ever start within a second: most likely \
                 other traffic of the app uses the same quota, or the quota is smaller; going on with what is left, and \
                 trying for more now and then"
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
                next_probe: Instant::now() + PROBE_FIRST.max(retry_after.unwrap_or_default()),
                pause: PROBE_FIRST,
                probing: false,
            });
        }
        drop(state);
        self.changed.notify_one();
        begins
    }

    /// The probe found no service: the next one waits twice as long, and at least as long as the server asked for.
    pub fn probe_failed(&self, retry_after: Option<Duration>) {
        if let Some(hold) = &mut self.state().hold {
            hold.pause = (hold.pause * 2).min(PROBE_MAX);
            hold.next_probe = Instant::now() + hold.pause.max(retry_after.unwrap_or_default());
            hold.probing = false;
        }
        self.changed.notify_one();
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

    /// The rate that is aimed at now, in requests a second; below the cap after `limited` answers.
    pub fn rate(&self) -> f64 {
        self.state().pace.rate(Instant::now())
    }

    /// The most requests that start within any one second.
    pub fn cap(&self) -> usize {
        self.state().pace.cap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it holds the limiter's state")
    }
}

impl State {
    /// A pass, or when to ask again (`None`: when something changes).
    fn try_start(&mut self, now: Instant) -> Result<Pass, Option<Instant>> {
        let hold_until = match &self.hold {
            Some(hold) if hold.probing => return Err(None),
            hold => hold.as_ref().map(|hold| hold.next_probe),
        };
        if let Some(until) = self.not_before.max(hold_until).filter(|until| *until > now) {
            return Err(Some(until));
        }
        self.pace.try_start(now).map_err(Some)?;
        if let Some(hold) = &mut self.hold {
            hold.probing = true;
        }
        Ok(Pass {
            is_probe: self.hold.is_some(),
        })
    }
}
