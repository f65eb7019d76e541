//! The starts of all runs, and when the next one is free: the law of the limiter for a quota that runs share.
//!
//! Times are microseconds of a clock that all runs share.

use super::Pace;

pub(super) const SECOND: u64 = 1_000_000;

/// How much longer than a second the window is: a start may be late by nearly this much.
pub(super) const MARGIN: u64 = 4_000;

/// `rate` starts are spread over one second plus this: a little more than the window's margin, so that the even spacing, not
/// the window, sets the pace.
pub(super) const STRETCH: u64 = 4_500;

/// The window is stretched to at most twice its length. A run that is to be slower yet is so by its own limiter.
pub(super) const MIN_SHARE: f64 = 0.5;

/// Starts further back don't matter, except the last one at a low rate.
pub(super) const KEPT: u64 = 2 * (SECOND + MARGIN) + 100_000;

/// The furthest that a start is reserved ahead.
pub(super) const MAX_AHEAD: u64 = SECOND;

/// The most reservations per second. Above this rate, each is for several starts.
pub(super) const MAX_RESERVATIONS: f64 = 200.0;

/// The most starts of one reservation.
const MAX_COUNT: u32 = 10_000;

/// How long the last of several starts may be late.
pub(super) const PORTION_LASTS: u64 = 5_000;

/// The starts of the last seconds, in order, and those that are reserved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Schedule {
    starts: Vec<Start>,
    /// Nothing starts before.
    hold: u64,
}

/// One or more starts of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Start {
    pub at: u64,
    /// When the last of several must have started.
    pub until: u64,
    pub count: u32,
    /// The run's maximum rate.
    pub rate: f64,
    pub run: u32,
}

impl Schedule {
    /// Reserves the next free start for a run, or returns when to try again.
    pub fn reserve(&mut self, run: u32, now: u64, pace: Pace) -> Result<Start, u64> {
        self.forget_before(now);
        let rate = self.starts.iter().map(|start| start.rate).fold(pace.rate, f64::max);
        let share = pace.share.clamp(MIN_SHARE, 1.0);
        let count = (pace.rate / MAX_RESERVATIONS).ceil().max(1.0) as u32;
        let interval = (SECOND + STRETCH) as f64 / (rate * share);
        let at = now.max(self.hold).max(self.spaced(interval));
        let at = self.windowed(
            at,
            rate.ceil() as u64 - u64::from(count),
            ((SECOND + MARGIN) as f64 / share) as u64,
        );
        if at > now + MAX_AHEAD {
            return Err(at);
        }
        let lasts = match count {
            1 => 0,
            several => (interval * f64::from(several)) as u64 + PORTION_LASTS,
        };
        let start = Start {
            at,
            until: at + lasts,
            count,
            rate: pace.rate,
            run,
        };
        self.insert(start);
        Ok(start)
    }

    /// The next start that is even with the last one.
    fn spaced(&self, interval: f64) -> u64 {
        let next = |start: &Start| start.at + (interval * f64::from(start.count)) as u64;
        self.starts.iter().map(next).max().unwrap_or(0)
    }

    /// The first moment from `at` on at which no more than `room` starts lie within `span` before it.
    fn windowed(&self, mut at: u64, room: u64, span: u64) -> u64 {
        let mut within: Vec<&Start> = self.starts.iter().filter(|start| start.until + span > at).collect();
        within.sort_by_key(|start| start.until);
        let mut count: u64 = within.iter().map(|start| u64::from(start.count)).sum();
        for oldest in within {
            if count <= room {
                break;
            }
            count -= u64::from(oldest.count);
            at = at.max(oldest.until + span);
        }
        at
    }

    /// Adds starts that were made elsewhere.
    pub fn insert(&mut self, start: Start) {
        let place = self.starts.partition_point(|earlier| earlier.at <= start.at);
        self.starts.insert(place, start);
    }

    /// Notes that a run's start at this time was made at `started_at`. Its place among the others stays: a late start does not
    /// delay the next.
    pub fn note_started(&mut self, run: u32, at: u64, started_at: u64) {
        if let Some(start) = self.starts.iter_mut().rfind(|start| (start.run, start.at) == (run, at)) {
            start.until = start.until.max(started_at);
        }
    }

    /// Leaves out what no run can have written: starts and a hold that are far ahead.
    pub fn without_nonsense(mut self, now: u64) -> Schedule {
        let latest = now.saturating_add(2 * MAX_AHEAD);
        self.starts
            .retain(|start| start.at <= latest && start.until <= latest && start.count <= MAX_COUNT);
        self.hold = self.hold.min(latest);
        self
    }

    /// When the last start is made.
    pub fn last(&self) -> Option<&Start> {
        self.starts.iter().max_by_key(|start| start.until)
    }

    /// Removes a run's start at this time.
    pub fn remove(&mut self, run: u32, at: u64) -> Option<Start> {
        let place = self
            .starts
            .iter()
            .rposition(|start| (start.run, start.at) == (run, at))?;
        Some(self.starts.remove(place))
    }

    /// Nothing starts before this time.
    pub fn hold_until(&mut self, at: u64) {
        self.hold = self.hold.max(at);
    }

    /// How many runs have started requests in the last seconds.
    pub fn runs(&self) -> usize {
        let mut runs: Vec<u32> = self.starts.iter().map(|start| start.run).collect();
        runs.sort_unstable();
        runs.dedup();
        runs.len()
    }

    fn forget_before(&mut self, now: u64) {
        let mut left = self.starts.len();
        self.starts.retain(|start| {
            left -= 1;
            // At a low rate the next start is even with one that was long ago.
            let kept = match left {
                0 => KEPT.max((1.1 * SECOND as f64 / start.rate) as u64),
                _ => KEPT,
            };
            start.until.saturating_add(kept) > now
        });
    }
}

/// As text: a line for each start.
impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "hold {}", self.hold)?;
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
    /// Reads the text; `None` if it is not whole. Lines that can't be read are left out, and so is everything after the end.
    pub fn parse(text: &str) -> Option<Schedule> {
        let mut schedule = Schedule::default();
        for line in text.lines() {
            if line == "end" {
                return Some(schedule);
            }
            let fields: Vec<&str> = line.split(' ').collect();
            match fields[..] {
                ["hold", at] => schedule.hold = at.parse().unwrap_or(0),
                [at, until, count, rate, run] => {
                    let start = (|| {
                        Some(Start {
                            at: at.parse().ok()?,
                            until: until.parse().ok()?,
                            count: count.parse().ok()?,
                            rate: rate.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0)?,
                            run: u32::from_str_radix(run, 16).ok()?,
                        })
                    })();
                    if let Some(start) = start {
                        schedule.insert(start);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace(rate: f64) -> Pace {
        Pace { rate, share: 1.0 }
    }

    /// The most starts in any second. Each of several starts may come at any moment of its slot: the worst is assumed.
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
        fn whatever_runs_reserve_and_however_late_they_start_no_second_has_more_than_the_largest_rate(
            rates in proptest::collection::vec(prop_oneof![Just(20.0), Just(5.0), Just(1.0), Just(7.5)], 1..5),
            calls in proptest::collection::vec((0_usize..5, 0_u64..300_000, 0_u64..MARGIN, 0.3_f64..1.0), 1..300),
        ) {
            let (mut schedule, mut now, mut made) = (Schedule::default(), 1_000_000_000, Vec::new());
            let mut busy_until = vec![0; rates.len()];
            for (run, later, late, share) in calls {
                let run = run % rates.len();
                now += later / rates.len() as u64;
                // A run reserves again only when its last start is made.
                now = now.max(busy_until[run]);
                let reserved = schedule.reserve(run as u32, now, Pace { rate: rates[run], share });
                if let Ok(start) = reserved {
                    prop_assert!(start.at >= now);
                    let actual = Start { at: start.at + late, until: start.until + late, ..start };
                    busy_until[run] = actual.at;
                    made.push(actual);
                }
            }
            let largest = made.iter().map(|start| start.rate).fold(0.0, f64::max);
            prop_assert!(fullest(&made) <= largest.ceil() as u64, "{} of {largest}", fullest(&made));
        }

        #[test]
        fn text_that_was_written_is_read_back_and_other_text_does_no_harm(text in "\\PC{0,200}", at in 0_u64..u64::MAX / 4) {
            let _ = Schedule::parse(&text).map(|schedule| schedule.without_nonsense(at).reserve(1, at, pace(20.0)));
            let mut schedule = Schedule::default();
            schedule.hold_until(7);
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
                match schedule.reserve(run as u32, now, pace(20.0)) {
                    Ok(start) => {
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
    fn high_rates_are_reserved_in_portions_within_the_cap() {
        let (mut schedule, mut now, mut made) = (Schedule::default(), 0, Vec::new());
        while now < 5 * SECOND {
            match schedule.reserve(1, now, pace(2000.0)) {
                Ok(start) => {
                    made.push(start);
                    now = start.at + 1;
                }
                Err(later) => now = later,
            }
        }
        let all: u32 = made.iter().map(|start| start.count).sum();
        assert!(all > 9_700, "{all} starts in five seconds");
        assert!(fullest(&made) <= 2000, "{}", fullest(&made));
        assert!(made.len() < 1010, "{} reservations", made.len());
    }

    #[test]
    fn a_slow_run_does_not_reserve_far_ahead() {
        let mut schedule = Schedule::default();
        assert!(schedule.reserve(1, 0, pace(0.1)).is_ok());
        let next = schedule.reserve(2, 0, pace(0.1)).unwrap_err();
        assert_eq!(next, 10 * SECOND + 10 * STRETCH);
        // Another run's higher rate applies to all.
        assert_eq!(schedule.reserve(3, 1, pace(20.0)).map(|start| start.at / 1000), Ok(50));
    }

    #[test]
    fn what_no_run_can_have_written_does_not_count() {
        let text = "hold 99999999999999\n99999999999999 99999999999999 1 20 a\n18446744073709551615 18446744073709551615 1 20 b\n\
                    5 18446744073709551615 1 20 c\n6 6 4294967295 20 d\n7 7 1 nan e\n8 8 1 20 f\nend\n";
        let mut schedule = Schedule::parse(text).unwrap().without_nonsense(1_000_000);
        assert_eq!((schedule.runs(), schedule.hold), (1, 3_000_000));
        assert_eq!(
            schedule.reserve(1, 3_000_000, pace(20.0)).map(|start| start.at),
            Ok(3_000_000)
        );
    }

    #[test]
    fn a_late_start_counts_for_longer_and_does_not_delay_the_next() {
        let mut schedule = Schedule::default();
        let first = schedule.reserve(1, 0, pace(20.0)).unwrap();
        schedule.note_started(1, first.at, 9_000);
        assert_eq!(schedule.reserve(1, 9_000, pace(20.0)).unwrap().at, 50_225);
        let twenty_first = (0..20).map(|_| {
            schedule
                .reserve(1, 60_000, pace(20.0))
                .unwrap_or_else(|at| Start { at, ..first })
        });
        assert!(
            twenty_first
                .map(|start| start.at)
                .any(|at| at == 9_000 + SECOND + MARGIN)
        );
    }

    #[test]
    fn a_start_that_is_given_up_is_free_again_and_a_hold_delays_all() {
        let mut schedule = Schedule::default();
        let first = schedule.reserve(1, 0, pace(20.0)).unwrap();
        let second = schedule.reserve(2, 0, pace(20.0)).unwrap();
        assert!(schedule.remove(1, second.at).is_none(), "it is another run's");
        assert_eq!(schedule.remove(2, second.at), Some(second));
        assert_eq!(schedule.reserve(3, 0, pace(20.0)).unwrap().at, second.at);
        assert_eq!((schedule.runs(), first.run), (2, 1));
        schedule.hold_until(500_000);
        assert_eq!(schedule.reserve(1, 0, pace(20.0)).unwrap().at, 500_000);
    }
}
