//! The run's own rate, by the wall clock.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, ZonedDateTime};

use super::quota::Limit;
use super::{Rate, RateLimit, Timetable};

/// The time on the wall, in its zone.
pub(super) type WallClock = Box<dyn Fn() -> ZonedDateTime + Send + Sync>;

/// The run's own rate. If the system's clock is set, the rate follows.
pub(super) struct OwnRate {
    timetable: Timetable,
    clock: WallClock,
    /// The present period of a timetable that changes.
    period: Mutex<Option<Period>>,
}

/// A period in which the rate is the same.
#[derive(Debug, Clone, Copy)]
struct Period {
    rate: Option<Rate>,
    /// From when on that is known.
    from: Timestamp,
    until: Timestamp,
}

impl fmt::Debug for OwnRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timetable.fmt(f)
    }
}

impl OwnRate {
    pub fn new(timetable: Timetable, clock: WallClock) -> OwnRate {
        OwnRate {
            timetable,
            clock,
            period: Mutex::new(None),
        }
    }

    pub fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// What is in force now.
    pub fn now(&self) -> RateLimit {
        if let Some(rate) = self.timetable.constant() {
            return RateLimit::Own(rate);
        }
        let now = (self.clock)();
        let mut period = self.period.lock().unwrap_or_else(PoisonError::into_inner);
        let known = period.filter(|known| (known.from..known.until).contains(&now.timestamp()));
        *period = known.or_else(|| {
            Some(Period {
                rate: self.timetable.rate_at(&now),
                from: now.timestamp(),
                until: self.timetable.next_change(&now)?,
            })
        });
        let until = |period: Period| Some((period.rate, SystemTime::try_from(period.until).ok()?));
        match period.and_then(until) {
            Some((rate, until)) => RateLimit::Timetable { rate, until },
            // The calendar ends.
            None => RateLimit::Own(self.timetable.highest()),
        }
    }

    /// How long so many requests take from now on, with this limit of the quota.
    pub fn time_for(&self, requests: f64, limit: Option<Limit>) -> Option<Duration> {
        self.timetable.time_for_at(requests, limit, &(self.clock)())
    }

    /// How many requests start within this time from now on, with this limit of the quota.
    pub fn requests_in(&self, time: Duration, limit: Option<Limit>) -> f64 {
        self.timetable.requests_in(time, limit, &(self.clock)())
    }
}
