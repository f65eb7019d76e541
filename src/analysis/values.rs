//! Limits and conversions that the parts of an analysis share.

use std::time::SystemTime;

/// The longest latency that is distinguished from longer ones, in milliseconds.
pub(super) const MAX_LATENCY: u64 = 3_600_000;

/// Milliseconds since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
