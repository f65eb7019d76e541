//! The scheduling rule: when the next request may start, given the starts so far.
//!
//! - **Spacing.** Starts are evenly spaced. A start that is a little late doesn't delay the next one, so late timers cost
//!   nothing.
//! - **Window.** No second has more starts than the rate. The window counts when requests really started, so it holds
//!   however late they were.
//!
//! The rule stands here and nowhere else in Rust. The limiter applies it to the starts of its own run. The machine's quota
//! applies it to those of all runs, which it keeps in a file. For Redis the rule is a script, `quota/redis/starts.lua`; a test
//! compares the two, call by call.
//!
//! Times are in microseconds, on a clock that all users of a schedule share.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

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

/// How fast a run may start requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Maximum starts in any second, of all runs together. If runs differ, the largest applies.
    pub rate: f64,
    /// The share of it that is used, because the server has refused requests: in a request from 0.5 to 1. A run that has to
    /// be slower than that is so by itself.
    pub share: f64,
}

/// The starts of the last seconds, and those that are reserved.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Schedule {
    /// In the order of `until`.
    starts: Vec<Start>,
    /// Nothing starts before this time. Starts from before it may not be known here.
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
    /// Maximum starts in any second, of all runs together, which an operator has set; 0 is a pause.
    pub limit: Option<f64>,
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
    /// A schedule that begins now, without what was started before.
    pub fn begun_at(now: u64) -> Schedule {
        Schedule {
            starts: Vec::new(),
            not_before: now,
        }
    }

    /// When the next `count` starts are free. If the rates of runs differ, the largest applies to all.
    pub fn next_free(&self, pace: Pace, count: u32) -> u64 {
        self.next_free_at(self.common_pace(pace, None), count)
    }

    /// When the next `count` starts are free, all at this pace.
    fn next_free_at(&self, pace: Pace, count: u32) -> u64 {
        let cap = pace.rate.ceil();
        // Several starts at once may be more than the cap, if the rate was higher then.
        let spaced = self
            .starts
            .iter()
            .map(|start| start.at + pace.spread(start.count.min(cap as u32)));
        let room = (cap as u64).saturating_sub(count.into());
        let mut counted = 0;
        let first_without_room = self.starts.iter().rev().find(|start| {
            counted += u64::from(start.count);
            counted > room
        });
        let windowed = first_without_room.map(|start| start.until + pace.window());
        spaced.chain(windowed).fold(self.not_before, u64::max)
    }

    /// When these starts can be forgotten: a run that knows none of them may begin then, at their pace.
    pub fn until_forgotten(&self) -> u64 {
        let pace = Pace {
            rate: self.largest_rate(0.0),
            share: 1.0,
        };
        let cap = pace.rate.ceil() as u32;
        let mut newer = 0;
        let free = self.starts.iter().rev().map(|start| {
            newer = cap.min(start.count.saturating_add(newer));
            // This is how many starts of the other run there may be within a second of this one.
            let others = pace.spread(cap - newer);
            let windowed = (start.until + pace.window()).saturating_sub(others);
            windowed.max(start.at + pace.spread(start.count.min(cap)))
        });
        free.fold(self.not_before, u64::max)
    }

    /// Reserves starts, or returns when to try again. The run's rate applies to its earlier starts too.
    pub fn reserve(&mut self, now: u64, wanted: Wanted) -> Result<Start, u64> {
        let Wanted {
            run,
            pace,
            count,
            limit,
            ..
        } = wanted;
        if let Some(made) = wanted.previous {
            self.settle(run, made, wanted.delay);
        }
        self.drop_impossible(now);
        self.forget(now, 1);
        if let Some(limit) = limit.filter(|limit| *limit < pace.rate) {
            // The run did not know of the limit, and asks again at that rate; or it is a pause.
            return Err(now + if limit > 0.0 { LATENESS } else { SECOND });
        }
        self.set_rate(run, pace.rate);
        let pace = self.common_pace(pace, limit);
        // What was started before the schedule began was spaced by the rate of that time, which the limit may be below.
        let known_from = limit.map_or(0, |_| self.not_before + pace.window());
        let at = self.next_free_at(pace, count).max(known_from).max(now + wanted.ahead);
        if at > now + MAX_AHEAD {
            return Err(at);
        }
        let start = Start {
            at,
            until: at + pace.lasts(count) + wanted.delay,
            count,
            rate: wanted.pace.rate,
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

    /// A run has another rate than before.
    pub fn set_rate(&mut self, run: u32, rate: f64) {
        let of_run = self.starts.iter_mut().filter(|start| start.run == run);
        of_run.for_each(|start| start.rate = rate);
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

    /// The pace of all runs together.
    fn common_pace(&self, pace: Pace, limit: Option<f64>) -> Pace {
        let largest = self.largest_rate(pace.rate);
        Pace {
            rate: limit.map_or(largest, |limit| largest.min(limit)),
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
mod tests;
