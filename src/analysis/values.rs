//! Limits and conversions that the parts of an analysis share.

use std::borrow::Cow;
use std::time::SystemTime;

use crate::row::Outcome;

/// The longest latency that is distinguished from longer ones, in milliseconds.
pub(super) const MAX_LATENCY: u64 = 3_600_000;

/// Records by outcome, in the order of [`Outcome::ALL`].
pub(crate) type Counts = [u64; Outcome::ALL.len()];

/// A field's text, shortened to `max` bytes.
pub(super) fn text(field: &[u8], max: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(&field[..field.len().min(max)])
}

/// Milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
