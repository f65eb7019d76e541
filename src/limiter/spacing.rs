//! Even spacing of permits, by governor.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::schedule::{SECOND, STRETCH};

/// How late a permit may be taken without moving those after it.
const LATENESS: Duration = Duration::from_millis(10);

/// Spaces permits evenly at a rate, and forgives [`LATENESS`]: a timer that wakes late does not cost throughput, and after
/// a longer stall nothing is made up for.
///
/// Governor counts forgiveness in whole cells, and one request's worth would be too much at 20 per second. So one permit
/// costs several cells.
pub(super) struct Spacing {
    cost: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Spacing {
    /// `rate` in permits per second.
    pub fn new(rate: f64, now: Instant) -> Spacing {
        let interval = Duration::from_micros(SECOND + STRETCH).div_f64(rate);
        let cost = interval.div_duration_f64(LATENESS).ceil().clamp(1.0, 1e9) as u32;
        let cell = (interval / cost).max(Duration::from_nanos(1));
        let forgiven = LATENESS.div_duration_f64(cell).floor() as u32;
        let cost = NonZeroU32::new(cost).expect("clamped to at least 1");
        let quota = Quota::with_period(cell)
            .expect("a cell lasts at least a nanosecond")
            .allow_burst(cost.saturating_add(forgiven));
        let clock = TokioClock { zero: now };
        Spacing {
            cost,
            limiter: RateLimiter::direct_with_clock(quota, clock),
            clock,
        }
    }

    /// Takes a permit now, or returns when to ask again.
    pub fn try_take(&self, now: Instant) -> Result<(), Instant> {
        self.limiter
            .check_n(self.cost)
            .expect("the bucket holds more than one permit")
            .map_err(|not_until| now + not_until.wait_time_from(self.clock.now()))
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
