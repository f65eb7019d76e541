//! How close together requests may start.
//!
//! Three things bound a start. *Governor* (GCRA) spaces starts evenly at the current rate and forgives
//! [`LATENESS`]: a timer that wakes late does not cost throughput, and after a longer stall nothing is made up for.
//! The *last starts*, as many as the cap, never fit within a second and [`MARGIN`], whatever governor forgives; the
//! margin is for the way to the server, on which two requests may come closer together than they left. The *level* is
//! the share of the cap that is used, and it stretches both: when it drops by 2 %, the very next start waits for the
//! 20 ms that the last second was too short.
//!
//! The level is all that is learnt from the server. It holds, then climbs, and a refusal ends the climb:
//!
//! - A refusal costs a [`NUDGE`], down to [`SINGLE_FLOOR`]; one after many accepted requests is an [`ACCIDENT`] and costs
//!   nothing. Two within a second are no accident: the level drops to what was accepted in that second. A refusal while
//!   climbing leads back to what was accepted as well, but not below where the climb began.
//! - There the level holds, because what was refused just now will be refused again. Each climb that fails makes the
//!   next hold twice as long; but never so long that a limit that is gone costs more than [`HOLD_COST`]: at half the
//!   cap it is looked for every 12 seconds, at 98 % every five minutes. A climb that lasts wipes the slate clean.
//! - It climbs by doubling steps: slowly where it may be refused, and back at the cap within seconds where it isn't.
//!
//! Why this and not a curve in time, AIMD or CUBIC: requests that leave evenly and arrive with 20 ms of jitter are
//! never refused at 98 % of the cap, and often at 100 %: what comes back soon comes back to be refused. With
//! someone else on the quota it is the other way round: being too low is dear, and the only way to learn that they are
//! gone is to try. One price for waiting, [`HOLD_COST`], serves both. `benches/pacing.rs` simulates them, and
//! `docs/performance.md` shows what came of it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::window::Window;

const SECOND: Duration = Duration::from_secs(1);

/// How late a start may be without moving those after it. At 20 a second two starts are never closer than 40 ms.
const LATENESS: Duration = Duration::from_millis(10);

/// No more than the cap starts in a second and this.
const MARGIN: Duration = Duration::from_millis(4);

/// The starts are spaced so that as many as the cap take a second and this: a little more than [`MARGIN`], so that
/// the even spacing, not the window, is what sets the pace.
const SPACING: Duration = Duration::from_micros(4500);

/// The slowest the run gets, as a share of the cap.
const FLOOR: f64 = 0.02;

/// What a single refusal costs, as a share of the level, and the first step of a climb: 20 ms of each second, which is
/// the jitter of an ordinary network.
const NUDGE: f64 = 0.02;

/// So many refusals within a second are no accident.
const MANY: usize = 2;

/// A refusal after so many accepted requests is one, and changes nothing: it costs less than going slower would.
const ACCIDENT: u64 = 200;

/// Single refusals bring the level no lower than this: no network's jitter asks for more, and what is refused at random, at
/// any rate, is not refused less often at a lower one.
const SINGLE_FLOOR: f64 = 0.9;

/// What is accepted is measured over a second, or over the time that so many requests take at the cap.
const MEASURED_REQUESTS: f64 = 20.0;

/// How long the level holds after a refusal, unless climbs have failed or the hold would cost too much.
const INITIAL_HOLD: Duration = Duration::from_secs(30);

/// A climb that was not refused for so long is over: what led to it is forgotten.
const CLIMB_LASTS: Duration = Duration::from_secs(30);

/// The most that holding on to a limit that is gone may cost, as time at the full rate: it bounds a hold to this
/// divided by the share of the cap that is not used.
const HOLD_COST: Duration = Duration::from_secs(6);

/// How long it takes until a climb is twice as fast.
const DOUBLING: Duration = Duration::from_millis(1500);

/// Below this share of the cap it is not jitter: somebody else uses the quota.
const CROWDED: f64 = 0.9;

/// A longer wait is thought over after this: the level may have climbed.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// So many starts are kept, if the cap is as high, however long ago they were.
const KEPT: usize = 1000;

/// Decides when the next request may start. Pure but for the clock: `now` is an argument.
pub(super) struct Pace {
    rate: f64,
    even: Even,
    /// The last starts, oldest first: as many as the cap, or fewer.
    starts: VecDeque<Instant>,
    level: Level,
}

impl Pace {
    /// `rate` in requests a second.
    pub fn new(rate: f64, now: Instant) -> Pace {
        Pace {
            rate,
            even: Even::new(rate, now),
            starts: VecDeque::new(),
            level: Level::new(rate, now),
        }
    }

    /// Starts a request now, or says when to ask again.
    pub fn try_start(&mut self, now: Instant) -> Result<(), Instant> {
        let level = self.level.at(now);
        let soon = now + MAX_WAIT;
        let span = (SECOND + MARGIN).div_f64(level);
        // Where the cap is very high, as many starts may reach far back: those don't matter, and need not be kept.
        while self.starts.len() > KEPT && self.starts[0] + span <= now {
            self.starts.pop_front();
        }
        if self.starts.len() >= self.cap() {
            let free = self.starts[0] + span;
            if free > now {
                return Err(free.min(soon));
            }
        }
        self.even.check(now).map_err(|free| free.min(soon))?;
        self.push(now);
        let rate = self.rate * level;
        if (rate / self.even.rate - 1.0).abs() > 0.001 {
            self.even = Even::new(rate, now);
            // The start that was just granted is the first of the new spacing.
            let _ = self.even.check(now);
        }
        Ok(())
    }

    /// About when the next request may start, by the rate as it is now.
    pub fn next_start(&self, now: Instant) -> Instant {
        let level = self.level.at(now);
        let spaced = self.starts.back().map(|last| *last + SECOND.div_f64(self.rate * level));
        let windowed = match self.starts.front() {
            Some(first) if self.starts.len() >= self.cap() => Some(*first + SECOND.div_f64(level)),
            _ => None,
        };
        spaced.max(windowed).unwrap_or(now)
    }

    /// The last starts, oldest first, as many as may share a second; none if that are more than [`KEPT`].
    pub fn recent(&self) -> Vec<Instant> {
        match self.cap() {
            ..=KEPT => self.starts.iter().copied().collect(),
            _ => Vec::new(),
        }
    }

    /// A start that was granted then was really made at another time.
    pub fn correct(&mut self, granted: Instant, at: Instant) {
        if let Some(index) = self.starts.iter().rposition(|start| *start == granted) {
            self.starts.remove(index);
            self.push(at);
        }
    }

    /// Counts a start of somebody else with the same quota.
    pub fn record_external(&mut self, at: Instant) {
        self.push(at);
    }

    /// The most starts within a second.
    pub fn cap(&self) -> usize {
        self.rate.ceil() as usize
    }

    fn push(&mut self, start: Instant) {
        let place = self.starts.iter().rposition(|earlier| *earlier <= start);
        self.starts.insert(place.map_or(0, |before| before + 1), start);
        if self.starts.len() > self.cap() {
            self.starts.pop_front();
        }
    }

    /// The server took a request.
    pub fn accepted(&mut self, now: Instant) {
        self.level.accepted(now);
    }

    /// The server refused a request, started at `started`, because there were too many. `true` if that shows that
    /// somebody else uses the quota, and did not before.
    pub fn limited(&mut self, started: Instant, now: Instant) -> bool {
        self.level.limited(started, now)
    }

    /// The rate that is aimed at now, in requests a second.
    pub fn rate(&self, now: Instant) -> f64 {
        self.rate * self.level.at(now)
    }
}

/// Governor, with a cost of several cells for one request: governor counts forgiveness in whole cells, and one
/// request's worth would be too much at 20 a second.
pub(super) struct Even {
    rate: f64,
    cost: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>,
    clock: TokioClock,
}

impl Even {
    pub fn new(rate: f64, now: Instant) -> Even {
        let interval = (SECOND + SPACING).div_f64(rate);
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

    pub fn check(&self, now: Instant) -> Result<(), Instant> {
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

/// The share of the cap that is used, 0 to 1: `low` from `since` on for as long as `hold`, then climbing.
struct Level {
    low: f64,
    since: Instant,
    hold: Duration,
    /// Somebody else uses the quota.
    is_crowded: bool,
    /// What is accepted within the accepted window's span at the cap.
    full: f64,
    /// Answers of the last second (or more: see [`MEASURED_REQUESTS`]).
    accepted: Window,
    refused: Window,
    /// Requests accepted since the last refusal.
    gap: u64,
}

impl Level {
    fn new(rate: f64, now: Instant) -> Level {
        let measured = (MEASURED_REQUESTS / rate).max(1.0);
        Level {
            low: 1.0,
            since: now,
            hold: Duration::ZERO,
            is_crowded: false,
            full: rate * measured,
            accepted: Window::new(Duration::from_secs_f64(measured)),
            refused: Window::new(Duration::from_secs_f64(measured)),
            gap: 0,
        }
    }

    fn at(&self, now: Instant) -> f64 {
        let climbing = now.saturating_duration_since(self.since + self.hold);
        if climbing.is_zero() || self.low >= 1.0 {
            return self.low;
        }
        let steps = climbing.div_duration_f64(DOUBLING).exp2() - 1.0;
        (self.low + NUDGE * steps).min(1.0)
    }

    fn accepted(&mut self, now: Instant) {
        self.accepted.push(now);
        self.gap += 1;
    }

    fn limited(&mut self, started: Instant, now: Instant) -> bool {
        let gap = std::mem::take(&mut self.gap);
        self.refused.push(now);
        if started < self.since {
            return false; // Sent at a level that has been left since: it says nothing about this one.
        }
        let level = self.at(started);
        let climbed = started.saturating_duration_since(self.since + self.hold);
        if climbed >= CLIMB_LASTS {
            (self.low, self.hold, self.is_crowded) = (level, Duration::ZERO, false);
        }
        let is_climbing = level > self.low;
        let are_many = self.refused.count(now) >= MANY;
        if !is_climbing && !are_many && gap >= ACCIDENT {
            return false;
        }

        let nudged = level * (1.0 - NUDGE);
        let highest = if is_climbing { nudged.max(self.low) } else { nudged };
        let lowest = if are_many { level / 2.0 } else { self.low };
        let floor = if are_many || self.is_crowded {
            FLOOR
        } else {
            SINGLE_FLOOR.min(level)
        };
        let measured = self.accepted.count(now) as f64 / self.full * (1.0 - NUDGE);
        self.low = measured.max(lowest).min(highest).max(floor);
        self.since = now;

        let hold = if is_climbing { self.hold * 2 } else { self.hold };
        self.hold = hold.max(INITIAL_HOLD).min(HOLD_COST.div_f64(1.0 - self.low));

        let was_crowded = self.is_crowded;
        self.is_crowded |= are_many && self.low < CROWDED;
        self.is_crowded && !was_crowded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_cap_take_a_second_and_longer_at_a_lower_level() {
        let zero = Instant::now();
        let mut pace = Pace::new(2.0, zero);
        pace.record_external(zero + SECOND / 2);
        pace.record_external(zero);
        assert_eq!(pace.try_start(zero + SECOND), Err(zero + SECOND + MARGIN));
        pace.limited(zero, zero);
        let stretched = (SECOND + MARGIN).div_f64(1.0 - NUDGE);
        assert_eq!(pace.try_start(zero + SECOND), Err(zero + stretched));
    }

    #[test]
    fn a_start_that_was_made_late_keeps_the_one_a_second_later_waiting() {
        let zero = Instant::now();
        let mut pace = Pace::new(1.0, zero);
        assert_eq!(pace.try_start(zero), Ok(()));
        pace.correct(zero, zero + SECOND / 2);
        assert_eq!(
            pace.try_start(zero + SECOND + MARGIN),
            Err(zero + SECOND + MARGIN + SECOND / 2)
        );
    }

    #[test]
    fn a_hold_doubles_while_climbs_fail_and_is_forgotten_after_a_long_time_at_the_cap() {
        let mut now = Instant::now();
        let mut level = Level::new(20.0, now);
        for seconds in [30, 60, 120, 240, 300, 300] {
            now += Duration::from_secs(5);
            level.limited(now, now);
            assert_eq!(level.hold.as_secs(), seconds);
            assert_eq!(level.at(now + level.hold), 1.0 - NUDGE);
            now += level.hold;
        }
        now += CLIMB_LASTS;
        assert_eq!(level.at(now), 1.0);
        level.limited(now, now);
        assert_eq!((level.hold, level.low), (INITIAL_HOLD, 1.0 - NUDGE));
    }

    #[test]
    fn a_refusal_of_what_was_sent_before_the_last_drop_changes_nothing() {
        let zero = Instant::now();
        let mut level = Level::new(20.0, zero);
        level.limited(zero, zero + SECOND);
        level.limited(zero + SECOND / 2, zero + SECOND * 3);
        assert_eq!((level.low, level.since), (1.0 - NUDGE, zero + SECOND));
    }

    #[test]
    fn single_refusals_cost_little_and_rare_ones_nothing() {
        let mut now = Instant::now();
        let mut level = Level::new(20.0, now);
        let mut refuse_after = |accepted| {
            now += Duration::from_secs(10);
            (0..accepted).for_each(|_| level.accepted(now - SECOND / 2));
            level.limited(now, now);
            level.low
        };
        assert_eq!(refuse_after(ACCIDENT), 1.0);
        assert_eq!(refuse_after(ACCIDENT - 1), 1.0 - NUDGE);
        assert_eq!(refuse_after(ACCIDENT), 1.0 - NUDGE);
        let lowest = (0..100).map(|_| refuse_after(20)).fold(1.0, f64::min);
        assert_eq!(lowest, SINGLE_FLOOR);
    }

    #[test]
    fn somebody_else_is_news_once_until_the_cap_has_been_held_for_a_while() {
        let mut now = Instant::now();
        let mut level = Level::new(20.0, now);
        let mut refuse_two = |now: Instant| level.limited(now, now) | level.limited(now, now);
        assert!(refuse_two(now));
        now += Duration::from_secs(20);
        assert!(!refuse_two(now), "once is enough");
        now += Duration::from_secs(600);
        assert!(refuse_two(now), "after ten clean minutes it is news");
    }
}
