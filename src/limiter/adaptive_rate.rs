//! The share of the cap that is used, learned from the server's answers.
//!
//! The share holds, then climbs, and a refusal ends the climb:
//!
//! - A refusal costs [`DECREASE`], down to [`MIN_AFTER_SINGLE`]; one after many accepted requests is isolated and costs
//!   nothing. Two within a second are not isolated: the share drops to what was accepted in that second. A refusal while
//!   climbing leads back to what was accepted as well, but not below where the climb began.
//! - There the share holds, because a rate that was just refused will be refused again. Each climb that fails doubles the
//!   next hold; but a limit that is gone never costs more than [`MAX_HOLD_COST`]: at half the cap it is looked for
//!   every 12 seconds, at 98 % every five minutes. After a climb that lasts, what led to it is forgotten.
//! - It climbs by doubling steps: slowly where it may be refused, and back at the cap within seconds where it isn't.
//! - Where requests are refused at random, at any rate, single refusals change nothing (`at_random.rs`).
//! - HTTP 503 and 403 are what some limiters answer, and what a service answers that is unavailable. [`MANY_UNCLEAR`] within a
//!   second are taken for refusals, until the breaker finds an outage.
//!
//! Why this and not a curve in time, AIMD or CUBIC: requests that leave evenly and arrive with 20 ms of jitter are
//! never refused at 98 % of the cap, and often at 100 %, so a rate that recovers fast is soon refused again. With
//! someone else on the quota it is the opposite: a rate that is too low is expensive, and only a try shows that they
//! are gone. One price for waiting, [`MAX_HOLD_COST`], serves both. `benches/pacing.rs` simulates both, and
//! `docs/performance.md` shows the result.

use std::time::Duration;

use tokio::time::Instant;

use super::at_random::AtRandom;
use crate::window::Window;

/// The constants of the adaptive rate:
///
/// | constant | unit | meaning |
/// |---|---|---|
/// | `FLOOR` | share of the cap | the slowest a run gets |
/// | `DECREASE` | share of the rate | what a single refusal costs, and the first step of a climb: 20 ms of each second, the jitter of an ordinary network |
/// | `MIN_AFTER_SINGLE` | share of the cap | single refusals lower the rate no further: no network's jitter asks for more, and what is refused at random is not refused less often at a lower rate |
/// | `CONTENTION_BELOW` | share of the cap | below this it is not jitter: others use the quota |
/// | `MANY` | refusals per second | so many are not isolated |
/// | `MANY_AT_RANDOM` | refusals per second | so many are not chance, if requests are refused at random (`at_random.rs`) |
/// | `MANY_UNCLEAR` | unclear answers per second | so many are taken for refusals; fewer are not, since a service that fails now and then does not fail less often at a lower rate |
/// | `MANY_UNCLEAR_SHARE` | share of the cap | the same, at more than 50 requests per second |
/// | `MOSTLY_ACCEPTED` | share of the cap | if so much was accepted beside unclear answers, the first step down is `DECREASE` |
/// | `ISOLATED_AFTER` | accepted requests | a refusal after so many is isolated and changes nothing: it costs less than going slower would |
/// | `MEASURED` | requests at the cap | what is accepted is measured over the time that these take, at least a second |
/// | `INITIAL_HOLD` | time | how long the rate holds after a refusal, unless climbs have failed or the hold would cost too much |
/// | `MAX_HOLD_COST` | time at the full rate | the most that holding on to a limit that is gone may cost: it bounds a hold to this divided by the unused share of the cap |
/// | `CLIMB_LASTS` | time | a climb that was not refused for this long has succeeded, and what led to it is forgotten |
/// | `DOUBLING` | time | how long it takes until a climb is twice as fast |
const FLOOR: f64 = 0.02;
const DECREASE: f64 = 0.02;
const MIN_AFTER_SINGLE: f64 = 0.9;
const CONTENTION_BELOW: f64 = 0.9;
const MANY: usize = 2;
const MANY_AT_RANDOM: usize = 5;
const MANY_UNCLEAR: f64 = 5.0;
const MANY_UNCLEAR_SHARE: f64 = 0.1;
const MOSTLY_ACCEPTED: f64 = 0.7;
const ISOLATED_AFTER: u64 = 200;
const MEASURED: f64 = 20.0;
const INITIAL_HOLD: Duration = Duration::from_secs(30);
const MAX_HOLD_COST: Duration = Duration::from_secs(6);
const CLIMB_LASTS: Duration = Duration::from_secs(30);
const DOUBLING: Duration = Duration::from_millis(1500);

/// The share of the cap that is used, and what it is learned from.
pub(super) struct AdaptiveRate {
    course: Course,
    /// The course before unclear answers changed it, until a request is accepted that started later.
    before_unclear: Option<Course>,
    cap: f64,
    /// The time over which answers are counted.
    span: Duration,
    /// When the first answer came.
    answered_since: Option<Instant>,
    accepted: Window,
    refused: Window,
    unclear: Window,
    accepted_since_refusal: u64,
    at_random: AtRandom,
    /// It was told that others use the quota, and not that the run has recovered.
    is_slowness_told: bool,
}

/// A share of the cap over time, from 0 to 1: `floor` from `since` on for as long as `hold`, then climbing.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Course {
    floor: f64,
    since: Instant,
    hold: Duration,
    /// Others use the quota.
    has_contention: bool,
}

impl Course {
    fn share(&self, now: Instant) -> f64 {
        let climbing = now.saturating_duration_since(self.since + self.hold);
        if climbing.is_zero() || self.floor >= 1.0 {
            return self.floor;
        }
        let steps = climbing.div_duration_f64(DOUBLING).exp2() - 1.0;
        (self.floor + DECREASE * steps).min(1.0)
    }
}

impl AdaptiveRate {
    /// `cap` in requests per second.
    pub fn new(cap: f64, now: Instant) -> AdaptiveRate {
        let span = Duration::from_secs_f64((MEASURED / cap).max(1.0));
        let window = Window::new(span);
        AdaptiveRate {
            course: Course {
                floor: 1.0,
                since: now,
                hold: Duration::ZERO,
                has_contention: false,
            },
            before_unclear: None,
            cap,
            span,
            answered_since: None,
            accepted: window.clone(),
            refused: window.clone(),
            unclear: window,
            accepted_since_refusal: 0,
            at_random: AtRandom::default(),
            is_slowness_told: false,
        }
    }

    /// For another cap. What was learned is a number of requests per second, so it is another share now, and holds before it
    /// climbs.
    pub fn change_cap(&mut self, from: f64, to: f64, now: Instant) {
        let share = self.share(now);
        let floor = if share < 1.0 {
            (share * from / to).clamp(FLOOR, 1.0)
        } else {
            1.0
        };
        let is_slowed = floor < 1.0;
        let hold = INITIAL_HOLD.min(MAX_HOLD_COST.div_f64((1.0 - floor).max(DECREASE)));
        let course = Course {
            floor,
            since: now,
            hold: if is_slowed { hold } else { Duration::ZERO },
            has_contention: is_slowed && self.course.has_contention,
        };
        *self = AdaptiveRate {
            course,
            is_slowness_told: self.is_slowness_told,
            ..AdaptiveRate::new(to, now)
        };
    }

    /// The share of the cap to be used now.
    pub fn share(&self, now: Instant) -> f64 {
        let share = self.course.share(now);
        if self.at_random.is_so(now) {
            share.min(1.0 - DECREASE) // Where jitter is refused it can't be told from chance.
        } else {
            share
        }
    }

    /// The server took a request, started at `started_at`. `true` if that shows that the unclear answers before were those of
    /// a limiter, and that is news.
    pub fn accepted(&mut self, started_at: Instant, now: Instant) -> bool {
        self.answered_since.get_or_insert(now);
        self.accepted.insert(now);
        self.accepted_since_refusal += 1;
        let before = self.before_unclear.take_if(|_| started_at >= self.course.since);
        before.is_some() && self.is_contention_news()
    }

    /// The server refused a request, started at `started_at`, because there were too many. `runs` share the quota, so that what
    /// was accepted of this one is only its part. `true` if that shows that others use the quota, and that is news.
    pub fn limited(&mut self, started_at: Instant, now: Instant, runs: usize) -> bool {
        self.answered_since.get_or_insert(now);
        let accepted_before = std::mem::take(&mut self.accepted_since_refusal);
        self.refused.insert(now);
        let has_climbed = self.course.share(started_at) > self.course.floor;
        self.at_random
            .refused(self.course.floor, has_climbed, accepted_before, now);
        let is_at_random = self.at_random.is_so(now);
        let many = if is_at_random { MANY_AT_RANDOM } else { MANY };
        let are_many = self.refused.count(now) >= many;
        if is_at_random {
            if !are_many {
                return false;
            }
            self.at_random = AtRandom::default(); // Chance would hardly refuse so many at once.
        }
        let is_isolated = accepted_before >= ISOLATED_AFTER;
        if self.slow_down(started_at, now, runs, are_many, is_isolated) {
            self.before_unclear = None;
        }
        self.is_contention_news()
    }

    /// The server answered a request, started at `started_at`, as some limiters do and an unavailable service too.
    pub fn unclear(&mut self, started_at: Instant, now: Instant, runs: usize) {
        self.answered_since.get_or_insert(now);
        // Until a request is accepted, the rate stays high enough to find an outage soon.
        if started_at < self.course.since || self.before_unclear.is_some() {
            return;
        }
        self.unclear.insert(now);
        let many = MANY_UNCLEAR.max(self.cap * MANY_UNCLEAR_SHARE);
        if self.unclear.count(now) as f64 >= many {
            let before = self.course;
            self.unclear.clear();
            // A limiter that wants requests spaced refuses some of them at a rate that is hardly too high.
            let is_hardly_too_high = self.course.floor >= 1.0 && self.measured(now) * runs as f64 >= MOSTLY_ACCEPTED;
            self.slow_down(started_at, now, runs, !is_hardly_too_high, false);
            self.before_unclear = Some(before);
        }
    }

    /// The service is unavailable: that is what the unclear answers were.
    pub fn outage(&mut self) {
        self.unclear.clear();
        self.course = self.before_unclear.take().unwrap_or(self.course);
    }

    /// Whether others use the quota, and that was not told.
    fn is_contention_news(&mut self) -> bool {
        self.course.has_contention && !std::mem::replace(&mut self.is_slowness_told, true)
    }

    /// Whether the run has been back at the cap for a while, with requests accepted until now, after it was told that others
    /// use the quota. `true` once.
    pub fn has_recovered(&mut self, now: Instant) -> bool {
        let climbed = now.saturating_duration_since(self.course.since + self.course.hold);
        let has_recovered = self.is_slowness_told && climbed >= CLIMB_LASTS && self.accepted.count(now) > 0;
        if has_recovered {
            self.is_slowness_told = false;
            self.course = Course {
                floor: self.course.share(now),
                hold: Duration::ZERO,
                has_contention: false,
                ..self.course
            };
        }
        has_recovered
    }

    /// Lowers the share after a refusal, unless that says nothing about it; returns whether it did.
    fn slow_down(&mut self, started_at: Instant, now: Instant, runs: usize, are_many: bool, is_isolated: bool) -> bool {
        let measured = self.measured(now) * runs as f64 * (1.0 - DECREASE);
        let course = &mut self.course;
        if started_at < course.since {
            return false; // Sent at a rate that has been left since: it says nothing about this one.
        }
        let share = course.share(started_at);
        let climbed = started_at.saturating_duration_since(course.since + course.hold);
        if climbed >= CLIMB_LASTS {
            (course.floor, course.hold, course.has_contention) = (share, Duration::ZERO, false);
        }
        let is_climbing = share > course.floor;
        if !is_climbing && !are_many && is_isolated {
            return false;
        }

        let decreased = share * (1.0 - DECREASE);
        let highest = if is_climbing {
            decreased.max(course.floor)
        } else {
            decreased
        };
        let lowest = if are_many { share / 2.0 } else { course.floor };
        let least = if are_many || course.has_contention {
            FLOOR
        } else {
            MIN_AFTER_SINGLE.min(share)
        };
        course.floor = measured.max(lowest).min(highest).max(least);
        course.since = now;

        let hold = if is_climbing { course.hold * 2 } else { course.hold };
        course.hold = hold.max(INITIAL_HOLD).min(MAX_HOLD_COST.div_f64(1.0 - course.floor));
        course.has_contention |= are_many && course.floor < CONTENTION_BELOW;
        true
    }

    /// What was accepted within the span, as a share of the cap; before a whole span has passed, within the time since the first
    /// answer.
    fn measured(&mut self, now: Instant) -> f64 {
        let since = self.answered_since.map_or(Duration::ZERO, |since| now - since);
        let seconds = (since.as_secs_f64() + 1.0 / self.cap).min(self.span.as_secs_f64());
        self.accepted.count(now) as f64 / (self.cap * seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn accept(rate: &mut AdaptiveRate, requests: u64, now: Instant) {
        (0..requests).for_each(|_| assert!(!rate.accepted(now, now)));
    }

    #[test]
    fn a_hold_doubles_while_climbs_fail_and_is_forgotten_after_a_long_time_at_the_cap() {
        let mut now = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, now);
        for seconds in [30, 60, 120, 240, 300, 300] {
            now += Duration::from_secs(5);
            rate.limited(now, now, 1);
            assert_eq!(rate.course.hold.as_secs(), seconds);
            assert_eq!(rate.share(now + rate.course.hold), 1.0 - DECREASE);
            now += rate.course.hold;
        }
        now += CLIMB_LASTS;
        assert_eq!(rate.share(now), 1.0);
        rate.limited(now, now, 1);
        assert_eq!((rate.course.hold, rate.course.floor), (INITIAL_HOLD, 1.0 - DECREASE));
    }

    #[test]
    fn a_refusal_of_what_was_sent_before_the_last_decrease_changes_nothing() {
        let zero = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, zero);
        rate.limited(zero, zero + SECOND, 1);
        rate.limited(zero + SECOND / 2, zero + SECOND * 3, 1);
        assert_eq!((rate.course.floor, rate.course.since), (1.0 - DECREASE, zero + SECOND));
    }

    #[test]
    fn single_refusals_cost_little_and_rare_ones_nothing() {
        let mut now = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, now);
        let mut refuse_after = |accepted| {
            now += Duration::from_secs(10);
            accept(&mut rate, accepted, now - SECOND / 2);
            rate.limited(now, now, 1);
            rate.course.floor
        };
        assert_eq!(refuse_after(ISOLATED_AFTER), 1.0);
        assert_eq!(refuse_after(ISOLATED_AFTER - 1), 1.0 - DECREASE);
        assert_eq!(refuse_after(ISOLATED_AFTER), 1.0 - DECREASE);
        let lowest = (0..100).map(|_| refuse_after(20)).fold(1.0, f64::min);
        assert_eq!(lowest, MIN_AFTER_SINGLE);
    }

    #[test]
    fn others_on_the_quota_are_news_once_until_the_cap_has_been_held_for_a_while() {
        let mut now = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, now);
        let refuse_two = |rate: &mut AdaptiveRate, now| rate.limited(now, now, 1) | rate.limited(now, now, 1);
        assert!(refuse_two(&mut rate, now));
        now += Duration::from_secs(20);
        assert!(!refuse_two(&mut rate, now), "once is enough");
        now += Duration::from_secs(600);
        assert!(!rate.has_recovered(now));
        assert!(!refuse_two(&mut rate, now), "in ten minutes nothing was sent");
        now += Duration::from_secs(600);
        accept(&mut rate, 1, now);
        assert!(rate.has_recovered(now));
        assert!(refuse_two(&mut rate, now), "after ten clean minutes it is news");
    }

    #[test]
    fn a_run_that_is_back_at_the_cap_for_a_while_says_so_once() {
        let zero = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, zero);
        assert!(!rate.has_recovered(zero));
        (0..2).for_each(|_| _ = rate.limited(zero, zero, 1));
        let back = zero + rate.course.hold + CLIMB_LASTS;
        accept(&mut rate, 1, back - 2 * SECOND);
        assert!(!rate.has_recovered(back), "nothing has been accepted since");
        accept(&mut rate, 1, back - SECOND);
        assert!(!rate.has_recovered(back - SECOND), "not for long enough");
        accept(&mut rate, 1, back);
        assert!(rate.has_recovered(back));
        assert!(!rate.has_recovered(back), "once is enough");
        let next = rate.limited(back, back, 1) | rate.limited(back, back, 1);
        assert!(next, "then others are news again");

        let later = back + 1000 * SECOND;
        rate.change_cap(20.0, 5.0, later);
        accept(&mut rate, 1, later + 1000 * SECOND);
        assert!(rate.has_recovered(later + 1000 * SECOND), "at another cap too");
    }

    #[test]
    fn what_other_runs_were_accepted_is_not_taken_for_a_small_quota() {
        for (runs, floor) in [(1, 0.49), (3, 18.0 / 20.0 * (1.0 - DECREASE))] {
            let zero = Instant::now();
            let mut rate = AdaptiveRate::new(20.0, zero);
            accept(&mut rate, 6, zero);
            let now = zero + SECOND.mul_f64(0.95);
            rate.limited(now, now, runs);
            rate.limited(now, now, runs);
            assert!(
                (rate.course.floor - floor).abs() < 1e-9,
                "{runs} runs: {}",
                rate.course.floor
            );
        }
    }

    #[test]
    fn what_is_accepted_is_measured_from_the_first_answer_on() {
        // The fourth of four requests is refused, or the second of two.
        for (cap, accepted, floor) in [(20.0, 3, 0.75 * (1.0 - DECREASE)), (2.0, 1, 0.5 * (1.0 - DECREASE))] {
            let zero = Instant::now();
            let (mut rate, interval) = (AdaptiveRate::new(cap, zero), SECOND.div_f64(cap));
            let first = zero + 60 * SECOND;
            (0..accepted).for_each(|nth| accept(&mut rate, 1, first + interval * nth));
            let now = first + interval * accepted;
            rate.limited(now, now, 1);
            rate.limited(now, now, 1);
            assert!(
                (rate.course.floor - floor).abs() < 1e-9,
                "cap {cap}: {}",
                rate.course.floor
            );
        }
    }

    /// A rate of 20 after a second in which `unclear` of 20 answers were unclear.
    fn after_unclear(unclear: u64) -> (AdaptiveRate, Instant) {
        let zero = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, zero);
        accept(&mut rate, 20 - unclear, zero);
        let now = zero + SECOND.mul_f64(0.95);
        (0..unclear).for_each(|_| rate.unclear(now, now, 1));
        (rate, now)
    }

    #[test]
    fn many_unclear_answers_within_a_second_slow_the_run_down_and_fewer_don_t() {
        // First hardly at all, if most of the others were accepted.
        for (unclear, floor) in [(4, 1.0), (5, 1.0 - DECREASE), (7, 0.65 * (1.0 - DECREASE)), (20, 0.5)] {
            let rate = after_unclear(unclear).0;
            assert!(
                (rate.course.floor - floor).abs() < 1e-9,
                "{unclear} of 20: {}",
                rate.course.floor
            );
        }
        let zero = Instant::now();
        let mut fast = AdaptiveRate::new(200.0, zero);
        (0..19).for_each(|_| fast.unclear(zero, zero, 1));
        assert_eq!(fast.course.floor, 1.0);
        fast.unclear(zero, zero, 1);
        assert_eq!(fast.course.floor, 0.5);
    }

    #[test]
    fn unclear_answers_are_forgotten_in_an_outage_unless_a_later_request_was_accepted() {
        for (started_before, is_limiter) in [(SECOND, false), (Duration::ZERO, true)] {
            let (mut rate, now) = after_unclear(7);
            let slow = rate.course;
            assert_eq!(rate.accepted(now - started_before, now + SECOND), is_limiter);
            rate.outage();
            assert_eq!(rate.course == slow, is_limiter);
            assert_eq!(rate.share(now) == 1.0, !is_limiter);
        }
    }

    #[test]
    fn refusals_at_random_slow_nobody_down_until_many_come_at_once() {
        let mut now = Instant::now();
        let mut rate = AdaptiveRate::new(20.0, now);
        let mut refuse_after = |accepted, seconds| {
            now += SECOND * seconds;
            accept(&mut rate, accepted, now - SECOND / 2);
            rate.limited(now, now, 1);
            rate.share(now)
        };
        // While the rate falls to 90 %, and five times more.
        let shares: Vec<f64> = (0..12).map(|_| refuse_after(100, 5)).collect();
        assert_eq!(shares[11], MIN_AFTER_SINGLE);
        assert_eq!(
            refuse_after(100, 300),
            1.0 - DECREASE,
            "it has climbed, and is refused no more"
        );
        let at_once: Vec<f64> = (0..MANY_AT_RANDOM).map(|_| refuse_after(0, 0)).collect();
        assert_eq!(at_once[..MANY_AT_RANDOM - 2], [1.0 - DECREASE; 3]);
        assert!(at_once[MANY_AT_RANDOM - 1] < 1.0 - DECREASE, "{at_once:?}");
        assert!(!rate.at_random.is_so(now));
    }
}
