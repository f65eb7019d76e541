//! A run's own rate by the time of day: `08:00=5,22:00=20`.
//!
//! The rate is a function of the wall clock's local time and of nothing else. So an entry whose time is skipped when clocks go
//! forward begins when they do, and in an hour that is repeated the entries hold as the clock on the wall says.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use serde::{Serialize, Serializer};

use super::quota::Limit;
use super::{Rate, RateError};
use crate::text::one_line;

/// An estimate of more than about ten years is of no use, and could exceed the calendar's range.
const MAX_ESTIMATE: f64 = 10.0 * 365.0 * DAY;

/// The seconds of a day on which no clocks are changed.
const DAY: f64 = 86_400.0;

/// Requests per second, at most, by local time: `08:00=5,22:00=20` is 5 from 8 o'clock on, and 20 from 22 o'clock on. The last
/// entry holds until the first; a rate of 0 is a pause. A single number is a [`Rate`] that always holds.
///
/// ```
/// use zim_batch::limiter::{Rate, Timetable};
///
/// let night: Timetable = "8:00=0,22:00=20".parse()?;
/// assert_eq!(night.to_string(), "08:00=0,22:00=20");
/// assert_eq!(night.in_words(), "paused from 08:00, at most 20/s from 22:00");
/// assert_eq!("20".parse::<Timetable>()?, Timetable::from(Rate::default()));
/// # Ok::<(), zim_batch::limiter::TimetableError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// In the order of their times; at least one, and at least one with a rate.
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Entry {
    from: Time,
    /// `None` is a pause.
    rate: Option<Rate>,
}

/// A text that is not a [`Timetable`], and what is right. Entries are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimetableError {
    /// A single number that is not a rate.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// An entry without a time and a rate.
    #[error("entry {number}, '{entry}': write each entry as a time and a rate, like 08:00=5")]
    Entry {
        /// Which entry.
        number: usize,
        /// Its text.
        entry: String,
    },
    /// Entries are not separated by commas.
    #[error("entry {number}, '{entry}': separate entries with commas, without blanks, like 08:00=5,22:00=20")]
    Separator {
        /// Which entry.
        number: usize,
        /// Its text.
        entry: String,
    },
    /// There is no such time of day.
    #[error("entry {number}, '{entry}': write the time as hours and minutes from 00:00 to 23:59")]
    Time {
        /// Which entry.
        number: usize,
        /// Its text.
        entry: String,
    },
    /// The rate of an entry is neither a rate nor 0.
    #[error("entry {number}, '{entry}': the rate must be 0, which is a pause, or a number from 0.001 to 1000000")]
    EntryRate {
        /// Which entry.
        number: usize,
        /// Its text.
        entry: String,
    },
    /// Two entries have the same time.
    #[error("{time} has two entries; leave one of them out")]
    Twice {
        /// The time.
        time: String,
    },
    /// All entries are pauses.
    #[error("all entries are pauses, so nothing would ever start; give at least one entry a rate above 0")]
    OnlyPauses,
}

impl Timetable {
    /// Its highest rate.
    pub fn highest(&self) -> Rate {
        let rates = self.entries.iter().filter_map(|entry| entry.rate);
        rates
            .reduce(|one, other| if other > one { other } else { one })
            .unwrap_or_default()
    }

    /// The rate, if it is always the same.
    pub fn constant(&self) -> Option<Rate> {
        let rate = self.entries.first()?.rate;
        rate.filter(|_| self.entries.iter().all(|entry| entry.rate == rate))
    }

    /// For people: `at most 20/s`, or `at most 5/s from 08:00, at most 20/s from 22:00`.
    pub fn in_words(&self) -> String {
        if let Some(rate) = self.constant() {
            return format!("at most {rate}/s");
        }
        let entry = |Entry { from, rate }: &Entry| match rate {
            Some(rate) => format!("at most {rate}/s from {}", from.strftime("%H:%M")),
            None => format!("paused from {}", from.strftime("%H:%M")),
        };
        let entries: Vec<String> = self.entries.iter().map(entry).collect();
        entries.join(", ")
    }

    /// How long it takes to start so many requests from then on, in the local time zone; `None` if that is more than ten years.
    pub fn time_for(&self, requests: f64, from: SystemTime) -> Option<Duration> {
        let from = Timestamp::try_from(from).ok()?;
        self.time_for_at(requests, None, &from.to_zoned_datetime(TimeZone::system()))
    }

    /// The same with a limit of the quota.
    pub(crate) fn time_for_limited(&self, requests: f64, limit: Limit, from: SystemTime) -> Option<Duration> {
        let from = Timestamp::try_from(from).ok()?;
        self.time_for_at(requests, Some(limit), &from.to_zoned_datetime(TimeZone::system()))
    }

    pub(super) fn time_for_at(&self, requests: f64, limit: Option<Limit>, from: &ZonedDateTime) -> Option<Duration> {
        let (mut left, mut at, a_day) = (requests, from.clone(), self.requests_a_day());
        loop {
            let (per_second, until) = self.period(limit, &at);
            let passed = at.timestamp().duration_since(from.timestamp()).as_secs_f64();
            let lasts = until.map_or(f64::INFINITY, |until| {
                until.duration_since(at.timestamp()).as_secs_f64()
            });
            if left <= per_second * lasts {
                let takes = if left > 0.0 { passed + left / per_second } else { passed };
                return (takes <= MAX_ESTIMATE).then(|| Duration::from_secs_f64(takes));
            }
            if passed > MAX_ESTIMATE {
                return None;
            }
            left -= per_second * lasts;
            at = until?.to_zoned_datetime(at.time_zone().clone());
            if limit.is_none_or(|limit| ends(&limit).is_some_and(|end| end <= at.timestamp())) {
                let days = (left / a_day - 1.0).floor().min(MAX_ESTIMATE / DAY) as i64;
                if days > 0 {
                    left -= a_day * days as f64;
                    at = at.checked_add(days.days()).ok()?;
                }
            }
        }
    }

    /// How many requests start within this time, with a limit of the quota.
    pub(super) fn requests_in(&self, time: Duration, limit: Option<Limit>, from: &ZonedDateTime) -> f64 {
        let (mut requests, mut at) = (0.0, from.clone());
        let Ok(end) = from.timestamp().checked_add(time) else {
            return f64::INFINITY;
        };
        loop {
            let (per_second, until) = self.period(limit, &at);
            let until = until.map_or(end, |until| until.min(end));
            requests += per_second * until.duration_since(at.timestamp()).as_secs_f64();
            if until >= end {
                return requests;
            }
            at = until.to_zoned_datetime(at.time_zone().clone());
        }
    }

    /// How many requests start per second from then on, and until when.
    fn period(&self, limit: Option<Limit>, at: &ZonedDateTime) -> (f64, Option<Timestamp>) {
        let limit = limit.filter(|limit| ends(limit).is_none_or(|end| end > at.timestamp()));
        let own = self.rate_at(at);
        let rate = limit.map_or(own, |limit| if limit.rate < own { limit.rate } else { own });
        let until = self.next_change(at).into_iter();
        let until = until.chain(limit.as_ref().and_then(ends)).min();
        (rate.map_or(0.0, Rate::per_second), until)
    }

    /// The rate at a moment, if it has been the same since another one, in the local time zone.
    pub(crate) fn rate_since(&self, since: SystemTime, at: SystemTime) -> Option<Rate> {
        let zoned = |time: SystemTime| {
            let time = Timestamp::try_from(time).ok()?;
            Some(time.to_zoned_datetime(TimeZone::system()))
        };
        let (since, at) = (zoned(since)?, zoned(at)?);
        let is_same = self.next_change(&since).is_none_or(|change| change > at.timestamp());
        self.rate_at(&at).filter(|_| is_same)
    }

    /// Until when nothing starts, if a moment is in a pause; in the local time zone.
    pub(crate) fn paused_until(&self, at: SystemTime) -> Option<SystemTime> {
        let at = Timestamp::try_from(at).ok()?.to_zoned_datetime(TimeZone::system());
        match self.rate_at(&at) {
            Some(_) => None,
            None => SystemTime::try_from(self.next_change(&at)?).ok(),
        }
    }

    /// How many requests start in a day on which no clocks are changed.
    fn requests_a_day(&self) -> f64 {
        let ends = self.entries.iter().skip(1).map(|entry| seconds(entry.from));
        let ends = ends.chain(self.entries.first().map(|first| seconds(first.from) + DAY));
        let entries = self.entries.iter().zip(ends);
        entries
            .map(|(entry, end)| entry.rate.map_or(0.0, Rate::per_second) * (end - seconds(entry.from)))
            .sum()
    }

    /// The rate at a moment; `None` is a pause.
    pub(super) fn rate_at(&self, at: &ZonedDateTime) -> Option<Rate> {
        let time = at.time();
        let last_begun = self.entries.iter().rfind(|entry| entry.from <= time);
        last_begun.or(self.entries.last())?.rate
    }

    /// When the rate changes next; `None` if it never does.
    pub(super) fn next_change(&self, now: &ZonedDateTime) -> Option<Timestamp> {
        if self.constant().is_some() {
            return None;
        }
        let (rate, mut at) = (self.rate_at(now), now.clone());
        loop {
            // As long as clocks are not changed, the next entry with another rate begins at this offset.
            let change = at.offset().to_timestamp(self.next_other(rate, &at)?).ok()?;
            let zone = at.time_zone();
            let clocks_change = zone.following(at.timestamp()).next().map(|next| next.timestamp());
            let Some(clocks_change) = clocks_change.filter(|clocks_change| *clocks_change <= change) else {
                return Some(change);
            };
            // They may skip the beginning of an entry, or return to the one before.
            at = clocks_change.to_zoned_datetime(zone.clone());
            if self.rate_at(&at) != rate {
                return Some(clocks_change);
            }
        }
    }

    /// The next local time at which an entry with another rate begins, if clocks are not changed before.
    fn next_other(&self, rate: Option<Rate>, at: &ZonedDateTime) -> Option<DateTime> {
        let begun = self.entries.partition_point(|entry| entry.from <= at.time());
        let (earlier, later) = self.entries.split_at(begun);
        let is_other = |entry: &&Entry| entry.rate != rate;
        match later.iter().find(is_other) {
            Some(entry) => Some(at.date().to_datetime(entry.from)),
            None => Some(
                at.date()
                    .tomorrow()
                    .ok()?
                    .to_datetime(earlier.iter().find(is_other)?.from),
            ),
        }
    }
}

fn ends(limit: &Limit) -> Option<Timestamp> {
    limit.until.and_then(|until| Timestamp::try_from(until).ok())
}

fn seconds(time: Time) -> f64 {
    time.duration_since(Time::midnight()).as_secs_f64()
}

impl From<Rate> for Timetable {
    fn from(rate: Rate) -> Timetable {
        Timetable {
            entries: vec![Entry {
                from: Time::midnight(),
                rate: Some(rate),
            }],
        }
    }
}

/// The default rate, at any time.
impl Default for Timetable {
    fn default() -> Timetable {
        Rate::default().into()
    }
}

impl FromStr for Timetable {
    type Err = TimetableError;

    fn from_str(text: &str) -> Result<Timetable, TimetableError> {
        if !text.contains([':', '=', ',']) {
            return Ok(text.parse::<Rate>()?.into());
        }
        let entries = text.split(',').enumerate();
        let entries = entries.map(|(index, entry)| parse_entry(index + 1, entry));
        let mut entries: Vec<Entry> = entries.collect::<Result<_, _>>()?;
        entries.sort_by_key(|entry| entry.from);
        if let Some(two) = entries.windows(2).find(|two| two[0].from == two[1].from) {
            let time = two[0].from.strftime("%H:%M").to_string();
            return Err(TimetableError::Twice { time });
        }
        if entries.iter().all(|entry| entry.rate.is_none()) {
            return Err(TimetableError::OnlyPauses);
        }
        Ok(Timetable { entries })
    }
}

fn parse_entry(number: usize, text: &str) -> Result<Entry, TimetableError> {
    let entry = one_line(text).into_owned();
    let Some((from, rate)) = text.split_once('=').filter(|(from, _)| from.contains(':')) else {
        return Err(TimetableError::Entry { number, entry });
    };
    if text.contains(';') || rate.contains(':') {
        return Err(TimetableError::Separator { number, entry });
    }
    let rate = match rate.trim().parse::<f64>() {
        Ok(0.0) => None,
        Ok(rate) => match Rate::try_from(rate) {
            Ok(rate) => Some(rate),
            Err(RateError) => return Err(TimetableError::EntryRate { number, entry }),
        },
        Err(_) => return Err(TimetableError::EntryRate { number, entry }),
    };
    match parse_time(from.trim()) {
        Some(from) => Ok(Entry { from, rate }),
        None => Err(TimetableError::Time { number, entry }),
    }
}

/// `HH:MM` or `H:MM`.
fn parse_time(text: &str) -> Option<Time> {
    let (hours, minutes) = text.split_once(':')?;
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(hours.len(), 1 | 2) || minutes.len() != 2 || !is_number(hours) || !is_number(minutes) {
        return None;
    }
    Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()
}

/// As it is written: `20`, or `08:00=5,22:00=20`.
impl fmt::Display for Timetable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rate) = self.constant() {
            return rate.fmt(f);
        }
        for (index, Entry { from, rate }) in self.entries.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}=", from.strftime("%H:%M"))?;
            match rate {
                Some(rate) => rate.fmt(f)?,
                None => f.write_str("0")?,
            }
        }
        Ok(())
    }
}

/// A number if the rate is always the same, or else the text.
impl Serialize for Timetable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.constant() {
            Some(rate) => rate.serialize(serializer),
            None => serializer.collect_str(self),
        }
    }
}

#[cfg(test)]
mod tests;
