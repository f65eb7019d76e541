//! The starts of one run: those that were made, and what is reserved.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::Rate;
use super::quota::{Pace, Previous, Request, Reserved, Slot, Unavailable};
use super::schedule::{Clocks, Made, SECOND, Schedule, Start};

/// The lowest share in a request to a quota, which keeps starts just long enough for it.
const MIN_SHARE: f64 = 0.5;

/// The most reservations per second, alone and in a quota that runs share. Above this rate, each is for several starts.
const MAX_RESERVATIONS: f64 = 1000.0;
const MAX_SHARED_RESERVATIONS: f64 = 200.0;

/// How long before its next start a run reserves it, alone and in a quota that runs share. There it must be long enough for a
/// server's answer, and short enough that a slow run doesn't keep faster ones waiting.
const RESERVE_AHEAD: Duration = Duration::from_secs(1);
const RESERVE_SHARED_AHEAD: Duration = Duration::from_millis(40);

/// How soon a quota that can't be used is tried again.
const RETRY_QUOTA: Duration = Duration::from_millis(250);

/// A longer wait is checked again after this: the rate may have changed.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(1);

/// How long the wait for a quota's next free start may be, besides the time that ten runs at this rate take in turn. A
/// longer wait means that what is recorded of the starts is wrong.
const MAX_QUOTA_WAIT: Duration = Duration::from_secs(10);
const PATIENCE_RUNS: f64 = 10.0;

/// The time over which the recent rate is an average, in seconds.
const RECENT: u64 = 10;

/// Up to this many of the newest starts are kept regardless of their age; fewer if the rate is lower.
const MAX_KEPT: usize = 1000;

/// A run's own schedule has only one run.
const OWN: u32 = 0;

/// The starts of this run.
pub(super) struct Starts {
    /// The rate in force.
    rate: Rate,
    /// The rate in force is an operator's limit, or nothing may start.
    is_held_back: bool,
    is_shared: bool,
    clocks: Clocks,
    /// The starts that were made.
    made: Schedule,
    /// The latest slot.
    slot: Option<Slot>,
    /// Nothing is reserved before this time.
    reserve_at: Instant,
    /// Since when the quota has had no free start for this run.
    waiting_since: Option<Instant>,
    /// Starts in each of the last seconds, by the number of the second.
    recent: VecDeque<(u64, u32)>,
    /// Since when the quota can't be used, and why.
    pub unavailable: Option<(Instant, String)>,
    /// When that was found last.
    pub unavailable_at: Option<Instant>,
    /// The most runs that shared the quota at a time; 0 if it is not shared.
    pub most_runs: usize,
}

/// What a request that waits to start has to do next.
pub(super) enum Step {
    Start,
    WaitUntil(Instant),
    Reserve(Request),
}

impl Starts {
    pub fn new(rate: Rate, is_shared: bool, now: Instant) -> Starts {
        Starts {
            rate,
            is_held_back: false,
            is_shared,
            clocks: Clocks { time: 0, instant: now },
            made: Schedule::default(),
            slot: None,
            reserve_at: now,
            waiting_since: None,
            recent: VecDeque::new(),
            unavailable: None,
            unavailable_at: None,
            most_runs: 0,
        }
    }

    /// The rate changes, now: from now on, the last second never has more starts than it allows, and there is no burst. What
    /// is reserved is given back.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.made.set_rate(OWN, rate.per_second());
        if let Some(slot) = self.slot {
            let starts = self.used(slot);
            self.slot = Some(Slot { starts, ..slot });
        }
        self.reserve_at = self.clocks.instant;
    }

    /// The wait for a free start says nothing about the quota: a limit makes it long.
    pub fn hold_back(&mut self, is_held_back: bool) {
        (self.is_held_back, self.waiting_since) = (is_held_back, None);
    }

    /// The next step at a share of the rate. Nothing starts before `not_before`.
    pub fn next_step(&mut self, now: Instant, share: f64, not_before: Option<Instant>) -> Step {
        let pace = Pace {
            rate: self.rate.per_second(),
            share,
        };
        let not_before = not_before.unwrap_or(now).max(now);
        self.use_slot(pace, now, not_before)
            .unwrap_or_else(|| self.reserve(pace, now, not_before))
    }

    /// Uses the slot, or waits for it. `None` if there is none, if it is used up, or if it is too late for it.
    fn use_slot(&mut self, pace: Pace, now: Instant, not_before: Instant) -> Option<Step> {
        let slot = self.slot?;
        let used = self.used(slot);
        let free = match used {
            // The share may be smaller than when it was reserved.
            0 => self.next_free(pace, slot.starts),
            _ => now,
        };
        let at = slot.at.max(free).max(not_before);
        if used == slot.starts || at > slot.until {
            return None;
        }
        if at > now {
            return Some(Step::WaitUntil(at));
        }
        self.start(slot, now);
        Some(Step::Start)
    }

    /// Reserves the next starts, or waits until it is time for that.
    fn reserve(&self, pace: Pace, now: Instant, not_before: Instant) -> Step {
        let (max_reservations, ahead) = if self.is_shared {
            (MAX_SHARED_RESERVATIONS, RESERVE_SHARED_AHEAD)
        } else {
            (MAX_RESERVATIONS, RESERVE_AHEAD)
        };
        let starts = (pace.rate / max_reservations).ceil() as u32;
        let free = self.next_free(pace, starts).max(not_before);
        let reserve_at = self.reserve_at.max(free.checked_sub(ahead).unwrap_or(now));
        if reserve_at > now {
            return Step::WaitUntil(reserve_at.min(now + MAX_WAIT));
        }
        Step::Reserve(Request {
            pace: Pace {
                share: pace.share.max(MIN_SHARE),
                ..pace
            },
            starts,
            not_before: free,
            previous: self.previous(),
        })
    }

    /// Notes the answer to a reservation.
    pub fn note(&mut self, reserved: Result<Reserved, Unavailable>, request: &Request, now: Instant) {
        match reserved {
            Ok(Reserved::Slot(slot)) => {
                (self.unavailable, self.waiting_since) = (None, None);
                self.most_runs = self.most_runs.max(slot.runs);
                let is_at_this_rate = request.pace.rate == self.rate.per_second();
                self.slot = Some(Slot {
                    at: slot.at.max(request.not_before),
                    starts: if is_at_this_rate { slot.starts } else { 0 },
                    ..slot
                });
                if slot.until < request.not_before {
                    // Too early for this run, which asks again when it may start.
                    self.reserve_at = request.not_before;
                }
            }
            Ok(Reserved::NotBefore(at)) => {
                (self.slot, self.reserve_at) = (None, at);
                self.note_no_start(now);
            }
            Err(error) => {
                self.note_unavailable(&error, now);
                self.reserve_at = now + RETRY_QUOTA;
            }
        }
    }

    /// Notes whether the quota can be used in a pause by its limit.
    pub fn note_in_pause(&mut self, is_usable: Result<(), Unavailable>, now: Instant) {
        match is_usable {
            Ok(()) => self.unavailable = None,
            Err(error) => self.note_unavailable(&error, now),
        }
    }

    fn note_unavailable(&mut self, error: &Unavailable, now: Instant) {
        self.unavailable.get_or_insert((now, String::new())).1 = error.to_string();
        self.unavailable_at = Some(now);
    }

    /// The quota has no free start. If that lasts too long, it counts as one that can't be used.
    fn note_no_start(&mut self, now: Instant) {
        if self.is_held_back {
            return;
        }
        let since = *self.waiting_since.get_or_insert(now);
        let patience = MAX_QUOTA_WAIT + Duration::from_secs_f64(PATIENCE_RUNS / self.rate.per_second());
        if now - since <= patience {
            return;
        }
        self.unavailable_at = Some(now);
        if self.unavailable.is_none() {
            let waited = (now - since).as_secs();
            let why = format!(
                "no start has been free for {waited} s: other runs of this app use them all, or the recorded starts are wrong"
            );
            self.unavailable = Some((since, why));
        }
    }

    /// Requests per second, on average over the last [`RECENT`] seconds.
    pub fn recent_rate(&self, now: Instant) -> f64 {
        let second = self.clocks.time_of(now) / SECOND;
        let recent = self
            .recent
            .iter()
            .filter(|(of, _)| *of < second && of + RECENT >= second);
        let starts: u32 = recent.map(|(_, starts)| starts).sum();
        f64::from(starts) / second.clamp(1, RECENT) as f64
    }

    /// Notes that the request that was admitted at `granted` started at `started_at`.
    pub fn started(&mut self, granted: Instant, started_at: Instant) {
        let started_at = self.clocks.time_of(started_at);
        if let Some(&start) = self.made.containing(self.clocks.time_of(granted)) {
            self.note_made(start.at, start.count, start.until.max(started_at));
        }
    }

    fn note_made(&mut self, at: u64, count: u32, last: u64) {
        let late = last - at;
        self.made.settle(OWN, Made { at, count, late }, 0);
    }

    /// What became of the latest slot.
    pub fn previous(&self) -> Option<Previous> {
        let slot = self.slot?;
        let made = self.made_of(slot);
        Some(Previous {
            slot,
            used: made.map_or(0, |start| start.count),
            last: made.map_or(slot.at, |start| self.clocks.instant_of(start.until)),
        })
    }

    /// How many runs share the quota at present, at least 1.
    pub fn runs(&self) -> usize {
        self.slot.map_or(1, |slot| slot.runs.max(1))
    }

    fn next_free(&self, pace: Pace, starts: u32) -> Instant {
        self.clocks.instant_of(self.made.next_free(pace, starts))
    }

    fn made_of(&self, slot: Slot) -> Option<&Start> {
        self.made.get(OWN, self.clocks.time_of(slot.at))
    }

    fn used(&self, slot: Slot) -> u32 {
        self.made_of(slot).map_or(0, |start| start.count)
    }

    /// Uses one of the slot's starts.
    fn start(&mut self, slot: Slot, now: Instant) {
        let (at, now) = (self.clocks.time_of(slot.at), self.clocks.time_of(now));
        match self.recent.back_mut() {
            Some((second, starts)) if *second == now / SECOND => *starts += 1,
            _ => {
                self.recent.push_back((now / SECOND, 1));
                let is_old = self.recent.len() > RECENT as usize + 1;
                self.recent.drain(..usize::from(is_old));
            }
        }
        match self.used(slot) {
            0 => {
                self.made.forget(now, self.rate.cap().min(MAX_KEPT));
                self.made.insert(Start {
                    at,
                    until: now,
                    count: 1,
                    rate: self.rate.per_second(),
                    run: OWN,
                });
            }
            used => self.note_made(at, used + 1, now),
        }
    }
}
