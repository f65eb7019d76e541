//! The scheduling rule: when the next request may start, given the starts so far.
//!
//! - **Spacing.** Starts are evenly spaced. A start that is a little late doesn't delay the next one, so late timers cost
//!   nothing.
//! - **Window.** No second has more starts than the rate. The window counts when requests really started, so it holds
//!   however late they were.
//!
//! The rule stands here and nowhere else in Rust. The limiter applies it to the starts of its own run. The machine's quota
//! applies it to those of all runs, which it keeps in a file. For Redis the rule is a script, `quota/redis.lua`; a test
//! compares the two, call by call.
//!
//! Times are in microseconds, on a clock that all users of a schedule share.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::quota::Pace;
use super::rate::MAX as MAX_RATE;

pub(super) const SECOND: u64 = 1_000_000;

/// How much longer than a second the window is, because requests can arrive closer together than they were sent.
pub(super) const MARGIN: u64 = 3_500;

/// `rate` starts are spread over one second plus this: a little more than the window's margin, so that the even spacing, not
/// the window, sets the pace.
pub(super) const STRETCH: u64 = 4_500;

/// How late a start may be. A later one is reserved again, because another one may have its place by then.
pub(super) const LATENESS: u64 = 10_000;

/// How far ahead a start is reserved, at most.
pub(super) const MAX_AHEAD: u64 = SECOND;

/// How long a start is kept: two windows, because a run may stretch them to twice their length.
pub(super) const KEPT: u64 = 2 * (SECOND + MARGIN) + 100_000;

/// No run reserves more starts at once.
pub(super) const MAX_COUNT: u32 = 10_000;

/// The starts of the last seconds, and those that are reserved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Schedule {
    /// In the order of `until`.
    starts: Vec<Start>,
    /// Nothing starts before this time.
    not_before: u64,
}

/// One or more starts of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Start {
    /// Its place in the even spacing. It also identifies the start among those of its run.
    pub at: u64,
    /// When the request, or the last of several, started. As long as that is unknown: the latest moment at which it may start.
    pub until: u64,
    pub count: u32,
    /// The run's rate.
    pub rate: f64,
    pub run: u32,
}

/// What a run wants to reserve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wanted {
    pub run: u32,
    pub pace: Pace,
    pub count: u32,
    /// How far from now the starts are, at least.
    pub ahead: u64,
    /// How long the answer may take, so that starts are later by up to this.
    pub delay: u64,
    pub previous: Option<Made>,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Made {
    /// Its place.
    pub at: u64,
    /// How many of its starts were made. The others are free again.
    pub count: u32,
    /// How long after its place the last one was made.
    pub late: u64,
}

impl Schedule {
    /// When the next `count` starts are free. If the rates of runs differ, the largest applies to all.
    pub fn next_free(&self, pace: Pace, count: u32) -> u64 {
        let pace = self.common_pace(pace);
        let spaced = self.starts.iter().map(|start| start.at + pace.spread(start.count));
        let room = (pace.rate.ceil() as u64).saturating_sub(count.into());
        let mut counted = 0;
        let first_without_room = self.starts.iter().rev().find(|start| {
            counted += u64::from(start.count);
            counted > room
        });
        let windowed = first_without_room.map(|start| start.until + pace.window());
        spaced.chain(windowed).fold(self.not_before, u64::max)
    }

    /// Reserves starts, or returns when to try again.
    pub fn reserve(&mut self, now: u64, wanted: Wanted) -> Result<Start, u64> {
        let Wanted { run, pace, count, .. } = wanted;
        if let Some(made) = wanted.previous {
            self.settle(run, made, wanted.delay);
        }
        self.drop_impossible(now);
        self.forget(now, 1);
        let at = self.next_free(pace, count).max(now + wanted.ahead);
        if at > now + MAX_AHEAD {
            return Err(at);
        }
        let start = Start {
            at,
            until: at + self.common_pace(pace).lasts(count) + wanted.delay,
            count,
            rate: pace.rate,
            run,
        };
        self.insert(start);
        Ok(start)
    }

    /// Notes what became of a run's reservation, whose answer took up to `delay`.
    pub fn settle(&mut self, run: u32, made: Made, delay: u64) {
        let is_meant = |start: &Start| (start.run, start.at) == (run, made.at);
        let Some(index) = self.starts.iter().rposition(is_meant) else {
            return;
        };
        let start = self.starts.remove(index);
        if made.count > 0 {
            self.insert(Start {
                count: made.count,
                until: made.at + made.late + delay,
                ..start
            });
        }
    }

    pub fn insert(&mut self, start: Start) {
        let order = |start: &Start| (start.until, start.at, start.run);
        let index = self.starts.partition_point(|other| order(other) <= order(&start));
        self.starts.insert(index, start);
    }

    /// The start of a run at this place.
    pub fn get(&self, run: u32, at: u64) -> Option<&Start> {
        self.starts.iter().rfind(|start| (start.run, start.at) == (run, at))
    }

    /// The newest start whose time includes this moment.
    pub fn containing(&self, time: u64) -> Option<&Start> {
        self.starts
            .iter()
            .rfind(|start| (start.at..=start.until).contains(&time))
    }

    /// The starts, by the time at which they were made.
    pub fn starts(&self) -> &[Start] {
        &self.starts
    }

    /// Nothing starts before this time.
    pub fn pause_until(&mut self, time: u64) {
        self.not_before = self.not_before.max(time);
    }

    /// How many runs have started requests in the last seconds.
    pub fn runs(&self, now: u64) -> usize {
        let recent = self.starts.iter().filter(|start| start.until + KEPT > now);
        let mut runs: Vec<u32> = recent.map(|start| start.run).collect();
        runs.sort_unstable();
        runs.dedup();
        runs.len()
    }

    /// Drops starts that are too old to matter, except the `kept` newest ones: at a low rate the next start is spaced from one
    /// that was long ago.
    pub fn forget(&mut self, now: u64, kept: usize) {
        let old = self.starts.partition_point(|start| start.until + KEPT <= now);
        self.starts.drain(..old.min(self.starts.len().saturating_sub(kept)));
    }

    /// Drops what no run can have written. Times that are too late were right before the clock went back: such starts may
    /// have been made just now, so then nothing starts for a second.
    fn drop_impossible(&mut self, now: u64) {
        let latest = now + 2 * MAX_AHEAD;
        self.starts.retain(Start::has_possible_numbers);
        let possible = self.starts.len();
        self.starts.retain(|start| start.at <= latest && start.until <= latest);
        if self.starts.len() < possible || self.not_before > latest {
            self.not_before = now + SECOND + MARGIN;
        }
    }

    /// The largest rate: that of the runs whose starts are known, and this one.
    pub fn largest_rate(&self, rate: f64) -> f64 {
        self.starts.iter().map(|start| start.rate).fold(rate, f64::max)
    }

    fn common_pace(&self, pace: Pace) -> Pace {
        Pace {
            rate: self.largest_rate(pace.rate),
            ..pace
        }
    }
}

impl Start {
    fn has_possible_numbers(&self) -> bool {
        self.count <= MAX_COUNT && self.rate > 0.0 && self.rate <= MAX_RATE
    }
}

/// What the rule needs to know of a pace.
impl Pace {
    /// How long `count` starts take when they are evenly spaced.
    fn spread(self, count: u32) -> u64 {
        ((SECOND + STRETCH) as f64 / (self.rate * self.share) * f64::from(count)) as u64
    }

    /// No more starts than the rate are in a window of this length.
    fn window(self) -> u64 {
        ((SECOND + MARGIN) as f64 / self.share) as u64
    }

    /// How long after the first of `count` starts the last one may be.
    pub(super) fn lasts(self, count: u32) -> u64 {
        self.spread(count - 1) + LATENESS
    }
}

/// The same moment on a schedule's clock and on Tokio's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub time: u64,
    pub instant: Instant,
}

impl Clocks {
    pub fn instant_of(self, time: u64) -> Instant {
        match time.checked_sub(self.time) {
            Some(later) => self.instant + Duration::from_micros(later),
            None => {
                let earlier = Duration::from_micros(self.time - time);
                self.instant.checked_sub(earlier).unwrap_or(self.instant)
            }
        }
    }

    pub fn time_of(self, instant: Instant) -> u64 {
        let earlier = micros(self.instant.saturating_duration_since(instant));
        let later = micros(instant.saturating_duration_since(self.instant));
        (self.time + later).saturating_sub(earlier)
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

/// The schedule as text, in a file or in Redis: `hold TIME`, before which nothing starts, a line for each start, and `end`.
/// Version 0.1.0 wrote the same, so runs of both versions share a quota. Readers ignore other lines: a later version may add
/// some, but 0.1.0 drops them when it writes.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "hold {}", self.not_before)?;
        for Start {
            at,
            until,
            count,
            rate,
            run,
        } in &self.starts
        {
            writeln!(f, "{at} {until} {count} {rate} {run:x}")?;
        }
        writeln!(f, "end")
    }
}

impl Schedule {
    /// Reads the text; `None` if its end is missing.
    pub fn parse(text: &str) -> Option<Schedule> {
        let mut schedule = Schedule::default();
        for line in text.lines() {
            if line == "end" {
                return Some(schedule);
            } else if let Some(time) = line.strip_prefix("hold ") {
                schedule.not_before = time.parse().unwrap_or(0);
            } else if let Some(start) = parse_start(line) {
                schedule.insert(start);
            }
        }
        None
    }
}

fn parse_start(line: &str) -> Option<Start> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [at, until, count, rate, run] = fields[..] else {
        return None;
    };
    Some(Start {
        at: at.parse().ok()?,
        until: until.parse().ok()?,
        count: count.parse().ok()?,
        rate: rate.parse().ok()?,
        run: u32::from_str_radix(run, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(run: u32, rate: f64) -> Wanted {
        Wanted {
            run,
            pace: Pace { rate, share: 1.0 },
            count: 1,
            ahead: 0,
            delay: 0,
            previous: None,
        }
    }

    fn made_of(at: u64, count: u32, late: u64) -> Made {
        Made { at, count, late }
    }

    /// The most starts in any second. Each of several starts may come at any moment of its reservation: the worst is assumed.
    fn fullest(starts: &[Start]) -> u64 {
        let within = |from: u64| {
            starts
                .iter()
                .filter(move |start| start.until >= from && start.at < from + SECOND)
        };
        let counted = starts
            .iter()
            .map(|first| within(first.at).map(|start| u64::from(start.count)).sum());
        counted.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn no_second_has_more_starts_than_the_largest_rate_however_late_they_are_and_whether_it_is_told(
            rates in proptest::collection::vec(prop_oneof![Just(20.0), Just(5.0), Just(1.0), Just(7.5)], 1..5),
            calls in proptest::collection::vec((0_usize..5, 0_u64..300_000, 0..LATENESS, any::<bool>(), 0.3_f64..1.0), 1..300),
        ) {
            let (mut schedule, mut now, mut made) = (Schedule::default(), 1_000_000_000, Vec::new());
            let mut busy_until = vec![0; rates.len()];
            for (run, later, late, is_told, share) in calls {
                let run = run % rates.len();
                now += later / rates.len() as u64;
                // A run reserves again only when its last start is made.
                now = now.max(busy_until[run]);
                let pace = Pace { rate: rates[run], share };
                let reserved = schedule.reserve(now, Wanted { pace, ..wanted(run as u32, rates[run]) });
                if let Ok(start) = reserved {
                    prop_assert!(start.at >= now);
                    let started_at = start.at + late;
                    busy_until[run] = started_at;
                    if is_told {
                        schedule.settle(run as u32, made_of(start.at, 1, late), 0);
                    }
                    made.push(Start { at: started_at, until: started_at, ..start });
                }
            }
            let largest = made.iter().map(|start| start.rate).fold(0.0, f64::max);
            prop_assert!(fullest(&made) <= largest.ceil() as u64, "{} of {largest}", fullest(&made));
        }

        #[test]
        fn text_that_was_written_is_read_back_and_other_text_does_no_harm(text in "\\PC{0,200}", at in 0_u64..u64::MAX / 4) {
            let _ = Schedule::parse(&text).map(|mut schedule| schedule.reserve(at, wanted(1, 20.0)));
            let mut schedule = Schedule::default();
            schedule.pause_until(7);
            for run in [1, 0xffff_ffff] {
                schedule.insert(Start { at, until: at + 5, count: 3, rate: 0.001, run });
            }
            let whole = schedule.to_string();
            prop_assert_eq!(Schedule::parse(&format!("{whole}1 2 3 4 5\n")), Some(schedule));
            prop_assert_eq!(Schedule::parse(whole.trim_end().trim_end_matches("end")), None);
        }
    }

    #[test]
    fn one_run_gets_the_whole_rate_and_several_get_equal_shares() {
        for runs in [1, 3, 10] {
            let mut schedule = Schedule::default();
            let mut next = vec![0; runs];
            let mut made = vec![0; runs];
            // Each run reserves again as soon as its start is made.
            while let Some((run, now)) = next.iter().copied().enumerate().min_by_key(|(_, at)| *at)
                && now < 60 * SECOND
            {
                match schedule.reserve(now, wanted(run as u32, 20.0)) {
                    Ok(start) => {
                        schedule.settle(run as u32, made_of(start.at, 1, 0), 0);
                        made[run] += 1;
                        next[run] = start.at + 1;
                    }
                    Err(later) => next[run] = later,
                }
            }
            let all: usize = made.iter().sum();
            assert!((1190..=1205).contains(&all), "{runs} runs: {all} starts in a minute");
            let (least, most) = (made.iter().min().unwrap(), made.iter().max().unwrap());
            assert!(most - least <= 1, "{made:?}");
        }
    }

    #[test]
    fn several_starts_can_be_reserved_at_once_within_the_cap() {
        let (mut schedule, mut now, mut made) = (Schedule::default(), 0, Vec::new());
        while now < 5 * SECOND {
            let wanted = Wanted {
                count: 10,
                ..wanted(1, 2000.0)
            };
            match schedule.reserve(now, wanted) {
                Ok(start) => {
                    let last = start.at + 9 * 500;
                    schedule.settle(1, made_of(start.at, 10, 9 * 500), 0);
                    made.push(Start { until: last, ..start });
                    now = last + 1;
                }
                Err(later) => now = later,
            }
        }
        let all: u32 = made.iter().map(|start| start.count).sum();
        assert!(all > 9_900, "{all} starts in five seconds");
        assert!(fullest(&made) <= 2000, "{}", fullest(&made));
    }

    #[test]
    fn a_slow_run_does_not_reserve_far_ahead() {
        let mut schedule = Schedule::default();
        assert!(schedule.reserve(0, wanted(1, 0.1)).is_ok());
        let next = schedule.reserve(0, wanted(2, 0.1)).unwrap_err();
        assert_eq!(next, 10 * SECOND + 10 * STRETCH);
        // Another run's higher rate applies to all.
        assert_eq!(
            schedule.reserve(1, wanted(3, 20.0)).map(|start| start.at / 1000),
            Ok(50)
        );
    }

    #[test]
    fn times_that_no_run_can_have_written_are_dropped_and_then_nothing_starts_for_a_second() {
        let now = 1_000_000;
        for impossible in [
            "99999999999999 99999999999999 1 20 a",
            "18446744073709551615 18446744073709551615 1 20 b",
            "5 18446744073709551615 1 20 c",
            "hold 99999999999999",
        ] {
            let mut schedule = Schedule::parse(&format!("hold 0\n{impossible}\n8 8 1 20 f\nend\n")).unwrap();
            assert_eq!(
                schedule.reserve(now, wanted(1, 20.0)),
                Err(now + SECOND + MARGIN),
                "{impossible}"
            );
            assert_eq!(schedule.starts().len(), 1, "{impossible}");
            let later = now + SECOND + MARGIN;
            assert_eq!(
                schedule.reserve(later, wanted(1, 20.0)).map(|start| start.at),
                Ok(later)
            );
        }
    }

    #[test]
    fn a_line_with_impossible_numbers_is_no_start_and_changes_nothing() {
        let now = 1_000_000;
        for impossible in [
            "6 6 4294967295 20 d",
            "7 7 1 nan e",
            "7 7 1 abc e",
            "8 8 1 1e300 e",
            "8 8 1 1000000001 e",
            "9 9 1 -1 e",
            "9 9 1 0 e",
        ] {
            let mut schedule = Schedule::parse(&format!("hold 0\n{impossible}\n8 8 1 20 f\nend\n")).unwrap();
            assert_eq!(
                schedule.reserve(now, wanted(1, 20.0)).map(|start| start.at),
                Ok(now),
                "{impossible}"
            );
            assert_eq!(
                (schedule.starts().len(), schedule.largest_rate(20.0)),
                (2, 20.0),
                "{impossible}"
            );
        }
    }

    #[test]
    fn a_late_start_counts_for_longer_and_does_not_delay_the_next() {
        let mut schedule = Schedule::default();
        let first = schedule.reserve(0, wanted(1, 20.0)).unwrap();
        schedule.settle(1, made_of(first.at, 1, 9_000), 0);
        assert_eq!(schedule.reserve(9_000, wanted(1, 20.0)).unwrap().at, 50_225);
        let others: Vec<u64> = (0..19)
            .map(|_| {
                schedule
                    .reserve(60_000, wanted(1, 20.0))
                    .map_or_else(|at| at, |start| start.at)
            })
            .collect();
        assert_eq!(others.last(), Some(&(9_000 + SECOND + MARGIN)));
    }

    #[test]
    fn a_start_that_may_still_be_made_counts_until_it_must_have_been() {
        let mut schedule = Schedule::default();
        let first = schedule.reserve(0, wanted(1, 1.0)).unwrap();
        assert_eq!((first.at, first.until), (0, LATENESS));
        assert_eq!(schedule.next_free(wanted(1, 1.0).pace, 1), LATENESS + SECOND + MARGIN);
        schedule.settle(1, made_of(first.at, 1, 0), 0);
        assert_eq!(schedule.next_free(wanted(1, 1.0).pace, 1), SECOND + STRETCH);
    }

    #[test]
    fn what_is_not_used_is_free_again_and_a_pause_delays_all() {
        let mut schedule = Schedule::default();
        let first = schedule.reserve(0, wanted(1, 20.0)).unwrap();
        let second = schedule.reserve(0, wanted(2, 20.0)).unwrap();
        schedule.settle(1, made_of(second.at, 0, 0), 0);
        assert_eq!(schedule.get(2, second.at), Some(&second), "it is another run's");
        schedule.settle(2, made_of(second.at, 0, 0), 0);
        assert_eq!(schedule.reserve(0, wanted(3, 20.0)).unwrap().at, second.at);
        assert_eq!((schedule.runs(0), first.run), (2, 1));
        schedule.pause_until(500_000);
        assert_eq!(schedule.reserve(0, wanted(1, 20.0)).unwrap().at, 500_000);
    }

    #[test]
    fn the_newest_starts_are_kept_however_old_they_are() {
        let mut schedule = Schedule::default();
        for at in [1, 2, 3] {
            schedule.insert(Start {
                at,
                until: at,
                count: 1,
                rate: 1.0,
                run: 1,
            });
        }
        schedule.forget(100 * SECOND, 2);
        assert_eq!(
            schedule.starts().iter().map(|start| start.at).collect::<Vec<_>>(),
            [2, 3]
        );
        schedule.forget(3 + KEPT, 0);
        assert_eq!((schedule.starts().len(), schedule.runs(0)), (0, 0));
    }
}
