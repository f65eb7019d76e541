//! Formats a report's times, durations and IDs for people.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time in milliseconds since 1970 as RFC 3339, UTC, with milliseconds.
pub fn utc(time: i64) -> String {
    format!("{:.3}", timestamp(time))
}

/// A time in milliseconds since 1970 as local time with its offset from UTC, to the second.
pub fn local(time: i64) -> String {
    formatted(time, "%Y-%m-%d %H:%M:%S %:z")
}

/// A time in milliseconds since 1970, local, as `strftime` formats it.
pub(crate) fn formatted(time: i64, format: &str) -> String {
    timestamp(time)
        .to_zoned_datetime(TimeZone::system())
        .strftime(format)
        .to_string()
}

pub(crate) fn timestamp(time: i64) -> Timestamp {
    let bounds = Timestamp::MIN.as_millisecond()..=Timestamp::MAX.as_millisecond();
    Timestamp::from_millisecond(time.clamp(*bounds.start(), *bounds.end())).unwrap_or_default()
}

/// A duration in milliseconds, with a suitable precision: `0.3s`, `42s`, `1h 5m`, `9days 3h`.
pub fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0).cast_unsigned() / 1000;
    let coarse = match seconds {
        0..10 if milliseconds % 1000 != 0 => return format!("{:.1}s", milliseconds as f64 / 1000.0),
        0..3600 => seconds,
        3600..172_800 => (seconds + 30) / 60 * 60,
        _ => (seconds + 1800) / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

/// Makes text of a report safe to show: control and invisible characters are escaped, and what a spreadsheet would take
/// for a formula is prefixed with a quote.
///
/// ```
/// use zim_batch::text::harmless;
///
/// assert_eq!(harmless("用户1"), "用户1");
/// assert_eq!(harmless("\u{1b}[2J"), "\\u{1b}[2J");
/// assert_eq!(harmless("=1+1"), "'=1+1");
/// ```
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    if text.starts_with(['=', '+', '-', '@']) {
        shown.push('\'');
    }
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// A number with a comma between thousands: `1,201`.
///
/// ```
/// use zim_batch::text::grouped;
///
/// assert_eq!([0, 999, 1201, 1234567].map(grouped), ["0", "999", "1,201", "1,234,567"]);
/// ```
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
