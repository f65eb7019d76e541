//! Durations and moments.

use std::fmt;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan, ZonedDateTime};
use zim_batch::text::local;

/// Parses `500ms`, `10s`, `5m`, `2h` or a sum such as `1h 30m`; longer than zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than zero".into()),
        parsed => parsed,
    }
}

/// Like [`duration`], or zero: `0s`.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    check_units(text)?;
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms, 10s, 5m or 2h"))
}

/// No limit for all runs is set for longer.
const MAX_LIMIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Like [`duration`], for a limit.
pub fn limit_duration(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(duration) if duration > MAX_LIMIT => {
            Err("it must be at most a year; without --for, a limit is kept until it is ended".into())
        }
        parsed => parsed,
    }
}

/// Refuses `M`, which would be months.
fn check_units(text: &str) -> Result<(), String> {
    if text.split(|c: char| !c.is_alphabetic()).any(|unit| unit == "M") {
        return Err("'M' may mean minutes or months; write m for minutes, or month".into());
    }
    Ok(())
}

/// From when on conversations are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// This long before the list began.
    Back(Duration),
    At(Timestamp),
    /// When the last run began that left nothing to do again.
    Last,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Back(duration) => humantime::format_duration(*duration).fmt(f),
            Since::At(at) => at.fmt(f),
            Since::Last => f.write_str("last"),
        }
    }
}

/// Parses a duration back from now, a date, or a time. A date, and a time without a zone, are local.
pub fn since(text: &str) -> Result<Since, String> {
    since_at(text, Timestamp::now(), TimeZone::system())
}

fn since_at(text: &str, now: Timestamp, local_zone: TimeZone) -> Result<Since, String> {
    let text = text.trim();
    if text == "last" {
        return Ok(Since::Last);
    }
    let in_zone = || local_zone.to_timestamp(civil(text)?).ok();
    let Some(at) = moment(text).or_else(in_zone) else {
        check_units(text)?;
        return humantime::parse_duration(text).map(Since::Back).map_err(|_| {
            "it must be a duration back from now, like 24h or 7d, a date or a time, like 2026-11-25, \
             2026-11-25T03:00:00 (local time) or 2026-11-25T03:00:00Z, or last"
                .into()
        });
    };
    if at > now {
        return Err(format!("{} is in the future", local(at.as_millisecond())));
    }
    Ok(Since::At(at))
}

/// When a run ends by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The next time that the local clock shows this.
    Clock(Time),
    /// A local time.
    Local(DateTime),
    At(Timestamp),
}

/// Parses a time of day, or a time. Without a zone it is local.
pub fn until(text: &str) -> Result<Until, String> {
    let text = text.trim();
    let hours_and_minutes = match text.len() {
        4 => format!("0{text}"),
        _ => text.to_owned(),
    };
    let is_clock = hours_and_minutes.len() == 5 && hours_and_minutes.as_bytes()[2] == b':';
    let time = hours_and_minutes.parse().ok().filter(|_| is_clock).map(Until::Clock);
    let at = || moment(text).map(Until::At);
    let local = || civil(text).map(Until::Local);
    time.or_else(at).or_else(local).ok_or_else(|| {
        "it must be a time of day, like 06:00, or a time, like 2026-11-30T06:00 (local time) or 2026-11-30T06:00:00Z".into()
    })
}

impl Until {
    /// The moment, for a run that begins at `now`.
    ///
    /// # Errors
    /// If it has passed, or if clocks skip it.
    pub fn after(self, now: &ZonedDateTime) -> Result<Timestamp, String> {
        let at = match self {
            Until::Clock(time) => next(time, now),
            Until::Local(time) => {
                let at = now.time_zone().to_ambiguous_timestamp(time);
                if matches!(at.offset(), AmbiguousOffset::Gap { .. }) {
                    return Err(format!(
                        "{} does not exist: clocks go forward then; give a time before or after",
                        time.strftime("%Y-%m-%d %H:%M:%S")
                    ));
                }
                at.compatible().ok()
            }
            Until::At(at) => Some(at),
        };
        let at = at.unwrap_or(Timestamp::MAX);
        if at <= now.timestamp() {
            return Err(format!(
                "{} has passed already; give a time in the future, or a time of day, like 06:00, for the next one",
                at.to_zoned_datetime(now.time_zone().clone())
                    .strftime("%Y-%m-%d %H:%M:%S %:z")
            ));
        }
        Ok(at)
    }
}

/// As it is shown: `06:00`, a local time, or a local time with its offset.
impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Clock(time) => time.strftime("%H:%M").fmt(f),
            Until::Local(time) => time.strftime("%Y-%m-%d %H:%M:%S").fmt(f),
            Until::At(at) => f.write_str(&local(at.as_millisecond())),
        }
    }
}

/// When a clock shows this time next. If its time is skipped when clocks go forward: when they would have shown it.
fn next(time: Time, now: &ZonedDateTime) -> Option<Timestamp> {
    let dates = (0..=2).filter_map(|days: i64| now.date().checked_add(days.days()).ok());
    let moments = dates.flat_map(|date| {
        let at = now.time_zone().to_ambiguous_timestamp(date.to_datetime(time));
        // In an hour that is repeated, it is shown twice.
        let last = if matches!(at.offset(), AmbiguousOffset::Fold { .. }) {
            at.later()
        } else {
            at.compatible()
        };
        [at.compatible(), last]
    });
    moments.flatten().find(|at| *at > now.timestamp())
}

/// A date or a time without a zone.
fn civil(text: &str) -> Option<DateTime> {
    text.parse().ok().filter(|_| !text.contains('['))
}

/// A moment with an offset or a zone.
fn moment(text: &str) -> Option<Timestamp> {
    if text.contains('[') {
        return text.parse::<ZonedDateTime>().ok().map(|zoned| zoned.timestamp());
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Since {
        Since::At(text.parse().unwrap())
    }

    fn parse(text: &str) -> Result<Since, String> {
        let now = "2026-12-01T00:00:00Z".parse().unwrap();
        since_at(text, now, TimeZone::get("Asia/Shanghai").unwrap())
    }

    #[test]
    fn a_date_or_a_time_without_a_zone_is_local_and_one_with_a_zone_is_as_given() {
        for (text, expected) in [
            ("2026-11-25", "2026-11-24T16:00:00Z"),
            ("2026-11-25T03:00:00", "2026-11-24T19:00:00Z"),
            ("2026-11-25 03:00", "2026-11-24T19:00:00Z"),
            (" 2026-11-25 ", "2026-11-24T16:00:00Z"),
            ("2026-11-25T03:00:00Z", "2026-11-25T03:00:00Z"),
            ("2026-11-25T03:00:00+01:00", "2026-11-25T02:00:00Z"),
            ("2026-11-25T03:00:00[Europe/Berlin]", "2026-11-25T02:00:00Z"),
            ("2026-11-25T03:00:00.5Z", "2026-11-25T03:00:00.5Z"),
        ] {
            assert_eq!(parse(text), Ok(at(expected)), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_one_and_a_time_without_a_zone_is_local() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let ends = |text: &str, now: &str| {
            let now: ZonedDateTime = format!("{now}[Europe/Berlin]").parse().unwrap();
            let at = until(text).and_then(|until| until.after(&now));
            at.map(|at| at.to_zoned_datetime(zone.clone()).strftime("%d %H:%M%:z").to_string())
        };
        for (text, now, expected) in [
            ("06:00", "2026-12-01T22:00", "02 06:00+01:00"),
            ("6:00", "2026-12-01T05:59", "01 06:00+01:00"),
            ("06:00", "2026-12-01T06:00", "02 06:00+01:00"),
            // Skipped, and repeated.
            ("02:30", "2026-03-29T01:00", "29 03:30+02:00"),
            ("02:30", "2026-10-25T01:00", "25 02:30+02:00"),
            ("02:30", "2026-10-25T02:45+02:00", "25 02:30+01:00"),
            ("02:30", "2026-10-25T02:45+01:00", "26 02:30+01:00"),
            ("2026-12-03T06:00", "2026-12-01T22:00", "03 06:00+01:00"),
            ("2026-12-03 06:00", "2026-12-01T22:00", "03 06:00+01:00"),
            ("2026-12-03", "2026-12-01T22:00", "03 00:00+01:00"),
            ("2026-12-03T06:00:00Z", "2026-12-01T22:00", "03 07:00+01:00"),
            ("2026-12-03T06:00[Asia/Shanghai]", "2026-12-01T22:00", "02 23:00+01:00"),
        ] {
            assert_eq!(ends(text, now).as_deref(), Ok(expected), "{text} at {now}");
        }
        for text in [
            "",
            "6",
            "2100-01-01T06:00[Nowhere/Else]",
            "24:00",
            "06:60",
            "25:00",
            "6:0",
            "06:00:00",
            "tomorrow",
            "5h",
            "2026-13-01",
            "é:00",
            "aa:bb",
        ] {
            assert!(until(text).unwrap_err().contains("like 06:00"), "{text}");
        }
        let skipped = ends("2027-03-28T02:30", "2026-12-01T22:00").unwrap_err();
        assert!(skipped.starts_with("2027-03-28 02:30:00 does not exist"), "{skipped}");
        let passed = ends("2026-11-30T06:00", "2026-12-01T22:00").unwrap_err();
        assert!(
            passed.contains("2026-11-30") && passed.contains("has passed already"),
            "{passed}"
        );
    }

    #[test]
    fn a_duration_counts_back() {
        for (text, hours) in [("24h", 24), ("7d", 168), ("1d 2h", 26), ("1d2h", 26), ("0s", 0)] {
            assert_eq!(
                parse(text),
                Ok(Since::Back(Duration::from_secs(hours * 3600))),
                "{text}"
            );
        }
    }

    #[test]
    fn a_moment_in_the_future_is_refused_and_shown_as_it_was_read() {
        let local_zone_may_be_any = parse("2026-12-01T00:00:01Z").unwrap_err();
        assert!(
            local_zone_may_be_any.ends_with("is in the future"),
            "{local_zone_may_be_any}"
        );
        parse("2027-01-01").unwrap_err();
        // In Shanghai it is 8 o'clock.
        parse("2026-12-01T08:00:00").unwrap();
        parse("2026-12-01T08:00:01").unwrap_err();
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11",
            "24",
            "2026-11-25T03:00:00[Nowhere/Else]",
            "7x",
            "-1h",
        ] {
            parse(text).unwrap_err();
        }
    }

    #[test]
    fn a_capital_m_is_no_unit_because_it_would_be_months() {
        for parse in [duration, duration_or_zero] {
            for text in ["30M", "1h 30M", "1h30M", "30 M"] {
                let why = parse(text).unwrap_err();
                assert!(why.contains("write m for minutes"), "{text}: {why}");
            }
            for (text, minutes) in [("30m", 30), ("1h 30min", 90), ("90minutes", 90), ("1day", 1440)] {
                assert_eq!(parse(text), Ok(Duration::from_secs(minutes * 60)), "{text}");
            }
        }
        duration("1month").unwrap();
        assert!(parse("30M").unwrap_err().contains("write m for minutes"));
        duration("0s").unwrap_err();
        duration_or_zero("0s").unwrap();
    }
}
