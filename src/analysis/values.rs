//! Limits and conversions that the parts of an analysis share.

use std::time::SystemTime;

use crate::row::Outcome;

/// The longest latency that is distinguished from longer ones, in milliseconds.
pub(super) const MAX_LATENCY: u64 = 3_600_000;

/// Records by outcome, in the order of [`Outcome::ALL`].
pub(crate) type Counts = [u64; Outcome::ALL.len()];

/// A text, shortened to `max` bytes.
pub(super) fn shortened(text: &str, max: usize) -> &str {
    let is_beyond = |&(start, c): &(usize, char)| start + c.len_utf8() > max;
    match text.len() > max {
        true => {
            &text[..text
                .char_indices()
                .find(is_beyond)
                .map_or(text.len(), |(start, _)| start)]
        }
        false => text,
    }
}

/// Milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
