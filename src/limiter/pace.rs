//! How close together requests may start.
//!
//! Three things bound a start. *Governor* (GCRA) spaces starts evenly at the current rate and forgives
//! [`LATENESS`]: a timer that wakes late does not cost throughput, and after a longer stall nothing is made up for.
//! The *window* never lets more than the cap start within one second and [`MARGIN`], whatever governor forgives; the
//! margin is for the way to the server, on which two requests may come closer together than they left. The *level*
//! is the share of the cap that is used: it drops when the server says that there are too many requests, and comes
//! back along a cubic curve, as TCP CUBIC does: fast, then flat near the level that was too much, then fast again,
//! so that a limit that persists is hardly touched and one that is gone is soon forgotten.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::window::Window;

/// How late a start may be without moving those after it. At 20 a second two starts are never closer than 40 ms.
const LATENESS: Duration = Duration::from_millis(10);

/// No more than the cap starts in a second and this.
const MARGIN: Duration = Duration::from_millis(4);

/// The starts are spaced so that as many as the cap take a second and this: a little more than [`MARGIN`], so that
/// the even spacing, not the window, is what sets the pace.
const SPACING: Duration = Duration::from_micros(4500);

/// The slowest the run gets, as a share of the cap.
const FLOOR: f64 = 0.02;

/// What a refusal among many accepted requests costs, as a share of the level: at the cap, and how much more the
/// further below it. Requests that left evenly can arrive too close together, and this is enough to end that.
const NUDGE: f64 = 0.025;
const NUDGE_BELOW: f64 = 0.1;

/// So many refusals within a second are no accident: the level drops to what was accepted in that second.
const MANY: usize = 3;

/// How long the level stays near the one that was too much: the cubic curve's steepness, in level per second cubed,
/// when that was the cap itself.
const STEEPNESS: f64 = 1e-7;

/// When the level that was too much is below the cap, the curve is as steep as it takes to be back at the cap so long
/// after leaving that level behind.
const BACK_WITHIN: Duration = Duration::from_secs(15);

/// The highest rate at which the starts of the last second are worth handing on.
const RECENT_UP_TO: f64 = 1000.0;

/// Decides when the next request may start. Pure but for the clock: `now` is an argument.
pub(super) struct Pace {
    rate: f64,
    even: Even,
    window: Window,
    level: Level,
}

impl Pace {
    /// `rate` in requests a second.
    pub fn new(rate: f64, now: Instant) -> Pace {
        Pace {
            rate,
            even: Even::new(rate, now),
            window: Window::new(Duration::from_secs(1) + MARGIN),
            level: Level::new(now),
        }
    }

    /// Starts a request now, or says when to ask again.
    pub fn try_start(&mut self, now: Instant) -> Result<(), Instant> {
        if let Some(free) = self.window.room_for_one(self.rate.ceil() as usize, now) {
            return Err(free);
        }
        self.even.check(now)?;
        self.window.push(now);
        let rate = self.rate * self.level.at(now);
        if (rate / self.even.rate - 1.0).abs() > 0.001 {
            self.even = Even::new(rate, now);
            // The start that was just granted is the first of the new spacing.
            let _ = self.even.check(now);
        }
        Ok(())
    }

    /// The starts of the last second, oldest first; none at a rate above [`RECENT_UP_TO`].
    pub fn recent(&self) -> Vec<Instant> {
        match self.rate {
            ..=RECENT_UP_TO => self.window.starts().collect(),
            _ => Vec::new(),
        }
    }

    /// Counts a start of somebody else with the same quota.
    pub fn foreign_start(&mut self, at: Instant) {
        self.window.push(at);
    }

    /// The server took a request.
    pub fn accepted(&mut self, now: Instant) {
        self.level.accepted(now);
    }

    /// The server refused a request, started at `started`, because there were too many.
    pub fn limited(&mut self, started: Instant, now: Instant) {
        self.level.limited(self.rate, started, now);
    }

    /// The rate that is aimed at now, in requests a second.
    pub fn rate(&self, now: Instant) -> f64 {
        self.rate * self.level.at(now)
    }
}

/// Governor, with a cost of several cells for one request: governor counts forgiveness in whole cells, and one
/// request's worth would be too much at 20 a second.
struct Even {
    rate: f64,
    cost: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Even {
    fn new(rate: f64, now: Instant) -> Even {
        let interval = (Duration::from_secs(1) + SPACING).div_f64(rate);
        let cost = interval.div_duration_f64(LATENESS).ceil().clamp(1.0, 1e9) as u32;
        let cell = (interval / cost).max(Duration::from_nanos(1));
        let forgiven = LATENESS.div_duration_f64(cell).floor() as u32;
        let cost = NonZeroU32::new(cost).expect("clamped to at least 1");
        let quota = Quota::with_period(cell)
            .expect("a cell lasts at least a nanosecond")
            .allow_burst(cost.saturating_add(forgiven));
        let clock = TokioClock { zero: now };
        Even {
            rate,
            cost,
            limiter: RateLimiter::direct_with_clock(quota, clock),
            clock,
        }
    }

    fn check(&self, now: Instant) -> Result<(), Instant> {
        self.limiter
            .check_n(self.cost)
            .expect("the bucket holds more than one request")
            .map_err(|not_until| now + not_until.wait_time_from(self.clock.now()))
    }
}

/// Tokio's clock, which tests can pause, as governor wants it: the time since a moment of our own.
#[derive(Debug, Clone, Copy)]
struct TokioClock {
    zero: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.zero.elapsed()
    }
}

/// The share of the cap that is used, 0 to 1.
struct Level {
    /// The level that was too much, and when it was left.
    high: f64,
    since: Instant,
    /// The level right after it was left, and the steepness of the way back.
    low: f64,
    steepness: f64,
    /// Answers within the last second, and refusals since the last drop to what was accepted.
    accepted: Window,
    refused: Window,
}

impl Level {
    fn new(now: Instant) -> Level {
        Level {
            high: 1.0,
            since: now,
            low: 1.0,
            steepness: STEEPNESS,
            accepted: Window::new(Duration::from_secs(1)),
            refused: Window::new(Duration::from_secs(1)),
        }
    }

    /// The cubic curve that leaves `low` at `since`, is flat at `high`, and goes on beyond it, at most to 1.
    fn at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        let back = ((self.high - self.low) / self.steepness).cbrt();
        (self.steepness * (elapsed - back).powi(3) + self.high).clamp(FLOOR, 1.0)
    }

    fn accepted(&mut self, now: Instant) {
        self.accepted.push(now);
    }

    fn limited(&mut self, rate: f64, started: Instant, now: Instant) {
        self.refused.push(now);
        if started < self.since {
            return; // Sent before the last drop: it says nothing about the level since.
        }
        let level = self.at(now);
        let nudged = level * (1.0 - NUDGE - NUDGE_BELOW * (1.0 - level));
        let lower = if self.refused.count(now) >= MANY {
            self.refused.clear();
            (self.accepted.count(now) as f64 / rate).clamp(level / 2.0, nudged)
        } else {
            nudged
        };
        self.high = level;
        self.low = lower.max(FLOOR).min(level);
        self.since = now;
        self.steepness = STEEPNESS + (1.0 - level) / BACK_WITHIN.as_secs_f64().powi(3);
    }
}
