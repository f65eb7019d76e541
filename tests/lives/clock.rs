//! The clock on the wall: it is near midnight or a change of the zone's offset, somebody sets it, and the machine sleeps. And
//! timetables by it, evaluated independently of the program.

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use tokio::time::Instant;

/// The zone of the lives: one hour ahead of UTC, in summer two.
const ZONE: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// When summer time begins and ends in 2026, in seconds since 1970: on 29 March and 25 October at 01:00 UTC.
pub const SUMMER: [u64; 2] = [1_774_746_000, 1_792_890_000];

const DAY: u64 = 86_400;

/// Requests per second from three minutes of the day on; 0 is a pause. Local time, in order.
pub type Entries = [(u64, f64); 3];

/// The system's clock in a life.
#[derive(Debug)]
pub struct Clock {
    /// What it shows when the life begins, in seconds since 1970.
    begins: u64,
    epoch: Instant,
    /// What was added to it, in milliseconds, from when on; the newest last.
    changes: Mutex<Vec<(Duration, i64)>>,
    slept: Mutex<Vec<(Duration, Duration)>>,
}

impl Clock {
    pub fn new(begins: u64) -> Clock {
        Clock {
            begins,
            epoch: Instant::now(),
            changes: Mutex::default(),
            slept: Mutex::default(),
        }
    }

    /// It is set forward or back.
    pub fn set(&self, by: i64) {
        let now = self.epoch.elapsed();
        let added = self.added(now);
        self.changes.lock().unwrap().push((now, added + by));
    }

    /// The machine sleeps: timers stand still, and this clock does not.
    pub fn sleep(&self, lasts: Duration) {
        self.set(i64::try_from(lasts.as_millis()).unwrap());
        self.slept.lock().unwrap().push((self.epoch.elapsed(), lasts));
    }

    /// For how long the machine has slept between two moments.
    pub fn slept(&self, from: Duration, to: Duration) -> Duration {
        let slept = self.slept.lock().unwrap();
        let meant = slept.iter().filter(|(at, _)| (from..=to).contains(at));
        meant.map(|(_, lasts)| *lasts).sum()
    }

    /// When so much time has passed since a moment, with the time in which the machine slept; before it has woken, nothing is
    /// noticed.
    pub fn passed_at(&self, from: Duration, lasts: Duration) -> Duration {
        let (mut at, mut all) = (from + lasts, Duration::ZERO);
        for (woken, slept) in self.slept.lock().unwrap().iter().filter(|(woken, _)| *woken >= from) {
            all += *slept;
            at = at.min((*woken).max((from + lasts).saturating_sub(all)));
        }
        at
    }

    pub fn slept_until_now(&self) -> Duration {
        self.slept(Duration::ZERO, Duration::MAX)
    }

    fn added(&self, at: Duration) -> i64 {
        let changes = self.changes.lock().unwrap();
        changes
            .iter()
            .rfind(|(since, _)| *since <= at)
            .map_or(0, |(_, added)| *added)
    }

    /// What it shows at a moment of the life, in milliseconds since 1970.
    pub fn millis(&self, at: Duration) -> u64 {
        let shown = self.begins * 1000 + u64::try_from(at.as_millis()).unwrap();
        shown.saturating_add_signed(self.added(at))
    }

    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis(self.epoch.elapsed()))
    }

    /// The same in the zone.
    pub fn zoned(&self) -> ZonedDateTime {
        let now = Timestamp::try_from(self.now()).unwrap();
        now.to_zoned_datetime(TimeZone::posix(ZONE).unwrap())
    }

    /// When it first showed this, between two moments, and whether it did.
    pub fn first_at(&self, shown: u64, from: Duration, to: Duration) -> Option<Duration> {
        let changes: Vec<Duration> = self.changes.lock().unwrap().iter().map(|(at, _)| *at).collect();
        let begins = std::iter::once(from).chain(changes.into_iter().filter(|at| *at > from && *at <= to));
        let reaches = |begin: Duration| begin + Duration::from_millis(shown.saturating_sub(self.millis(begin)));
        // What is set while it counts down to that moment changes it: then the next part decides.
        begins
            .map(reaches)
            .filter(|at| *at <= to && self.millis(*at) >= shown)
            .min()
    }

    /// The rate of a timetable at a moment of the life.
    pub fn rate(&self, entries: &Entries, at: Duration) -> f64 {
        rate_by(entries, self.millis(at) / 1000)
    }

    /// Whether it was set, or the machine slept, within a second before.
    pub fn was_changed(&self, at: Duration) -> bool {
        let changes = self.changes.lock().unwrap();
        changes
            .iter()
            .any(|(change, _)| *change <= at && at < *change + Duration::from_millis(1100))
    }
}

/// The local minute of the day.
pub fn local_minute(seconds: u64) -> u64 {
    let is_summer = (SUMMER[0]..SUMMER[1]).contains(&seconds);
    (seconds + if is_summer { 7200 } else { 3600 }) % DAY / 60
}

fn rate_by(entries: &Entries, seconds: u64) -> f64 {
    let minute = local_minute(seconds);
    let begun = entries.iter().rfind(|(from, _)| *from <= minute);
    begun.unwrap_or(&entries[2]).1
}

/// As `--rate` is written.
pub fn text(entries: &Entries) -> String {
    let entry = |(minute, rate): &(u64, f64)| format!("{:02}:{:02}={rate}", minute / 60, minute % 60);
    entries.iter().map(entry).collect::<Vec<_>>().join(",")
}
