//! The simulator's clock.
//!
//! It can be ahead of or behind the machine's clock, to test a client whose clock is wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 9999-12-31T23:59:59Z: later times can't be written in a `Date` header.
const LATEST_SECS: i64 = 253_402_300_799;

/// The machine's clock, shifted by a fixed offset.
pub(super) struct Clock {
    /// Seconds ahead of the machine's clock; negative: behind.
    pub offset: i64,
}

impl Clock {
    pub fn now(&self) -> SystemTime {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(real.as_secs()).unwrap_or(LATEST_SECS);
        let shifted = seconds.saturating_add(self.offset).clamp(0, LATEST_SECS);
        UNIX_EPOCH + Duration::new(shifted.unsigned_abs(), real.subsec_nanos())
    }

    /// Unix seconds, rounded down.
    pub fn unix_seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_gives_a_time_that_can_be_written() {
        for (offset, year) in [(i64::MIN, "1970"), (i64::MAX, "9999")] {
            let now = Clock { offset }.now();
            assert!(httpdate::fmt_http_date(now).contains(year));
            assert!(humantime::format_rfc3339_millis(now).to_string().starts_with(year));
        }
    }
}
