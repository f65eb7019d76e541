//! Durations and moments.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
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

/// Parses a duration back from now, a date, or a time. A date, and a time without a zone, are local.
pub fn since(text: &str) -> Result<Since, String> {
    since_at(text, Timestamp::now(), TimeZone::system())
}

fn since_at(text: &str, now: Timestamp, local_zone: TimeZone) -> Result<Since, String> {
    let text = text.trim();
    if text == "last" {
        return Ok(Since::Last);
    }
    let Some(at) = moment(text, local_zone) else {
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

/// A moment with an offset or a zone, or else in the local zone.
fn moment(text: &str, local_zone: TimeZone) -> Option<Timestamp> {
    if text.contains('[') {
        return text.parse::<ZonedDateTime>().ok().map(|zoned| zoned.timestamp());
    }
    let with_offset = text.parse::<Timestamp>().ok();
    with_offset.or_else(|| local_zone.to_timestamp(text.parse::<DateTime>().ok()?).ok())
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
