//! Formats the numbers and times on charts.

use crate::text::{formatted, grouped};

/// A time with the precision that a bucket of this width needs.
pub(super) fn time_label(time: i64, width: i64) -> String {
    let clock = if width % 60_000 == 0 {
        "%e %b %H:%M"
    } else {
        "%e %b %H:%M:%S"
    };
    formatted(time, clock).trim_start().to_owned()
}

/// The duration of a pause, short enough for a narrow band.
pub(super) fn pause_label(milliseconds: i64) -> String {
    let rounded = |unit: i64| grouped(((milliseconds + unit / 2) / unit).cast_unsigned());
    match milliseconds / 1000 {
        0..120 => rounded(1000) + "s",
        120..7200 => rounded(60_000) + "m",
        7200..172_800 => rounded(3_600_000) + "h",
        _ => rounded(86_400_000) + "d",
    }
}

pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        100.0 => "100 %".into(),
        more if more > 99.99 => "over 99.99 %".into(),
        less if less < 0.01 => "under 0.01 %".into(),
        percent => format!("{percent:.2} %"),
    }
}

/// A rate, without superfluous digits.
pub(super) fn rate_label(value: f64) -> String {
    match value {
        100.0.. => grouped(value.round() as u64),
        _ => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}
