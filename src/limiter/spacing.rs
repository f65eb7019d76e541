//! Even spacing of starts, by governor.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::SECOND;

/// How late a start may be without moving those after it. At 20 per second two starts are never closer than 40 ms.
const LATENESS: Duration = Duration::from_millis(10);

/// `cap` starts are spread over one second plus this: a little more than the window's margin, so that the even spacing, not
/// the window, sets the pace.
const STRETCH: Duration = Duration::from_micros(4500);

/// Spaces starts evenly at a rate, and forgives [`LATENESS`]: a timer that wakes late does not cost throughput, and after
/// a longer stall nothing is made up for.
///
/// Governor counts forgiveness in whole cells, and one request's worth would be too much at 20 per second. So one start
/// costs several cells.
pub(super) struct Spacing {
    rate: f64,
    cost: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Spacing {
    /// `rate` in starts per second.
    pub fn new(rate: f64, now: Instant) -> Spacing {
        let interval = (SECOND + STRETCH).div_f64(rate);
        let cost = interval.div_duration_f64(LATENESS).ceil().clamp(1.0, 1e9) as u32;
        let cell = (interval / cost).max(Duration::from_nanos(1));
        let forgiven = LATENESS.div_duration_f64(cell).floor() as u32;
        let cost = NonZeroU32::new(cost).expect("clamped to at least 1");
        let quota = Quota::with_period(cell)
            .expect("a cell lasts at least a nanosecond")
            .allow_burst(cost.saturating_add(forgiven));
        let clock = TokioClock { zero: now };
        Spacing {
            rate,
            cost,
            limiter: RateLimiter::direct_with_clock(quota, clock),
            clock,
        }
    }

    /// Takes a start now, or returns when to ask again.
    pub fn try_start(&self, now: Instant) -> Result<(), Instant> {
        self.limiter
            .check_n(self.cost)
            .expect("the bucket holds more than one request")
            .map_err(|not_until| now + not_until.wait_time_from(self.clock.now()))
    }

    /// Spaces starts by another rate, from the start that was just taken on.
    pub fn set_rate(&mut self, rate: f64, now: Instant) {
        if (rate / self.rate - 1.0).abs() > 0.001 {
            *self = Spacing::new(rate, now);
            // The start that was just taken is the first of the new spacing.
            let _ = self.try_start(now);
        }
    }
}

/// Tokio's clock, which tests can pause, as governor wants it: the time since a fixed moment.
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
