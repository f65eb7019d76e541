//! Limits that the parts of an analysis share.

/// The longest latency that is distinguished from longer ones, in milliseconds.
pub(super) const MAX_LATENCY: u64 = 3_600_000;
