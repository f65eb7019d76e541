//! The clock that all runs on a machine share: the time since it was started.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::limiter::schedule::{Clocks, micros};

/// The time since the machine was started.
pub(super) type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The time of day.
pub(super) type TimeOfDay = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// One moment on the shared clock and on this process's.
pub(super) fn read_clocks(clock: &Clock) -> Clocks {
    let read = || {
        let (instant, time) = (Instant::now(), micros(clock()));
        (instant.elapsed(), Clocks { time, instant })
    };
    // Unless this thread was interrupted between the two.
    let mut reads = std::iter::repeat_with(read).take(3);
    let is_exact = |(took, _): &(Duration, Clocks)| *took < Duration::from_micros(100);
    reads.find(is_exact).unwrap_or_else(read).1
}

/// Names the start of the machine.
pub(super) fn boot_id() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim_end().to_owned()
}

/// The time since the machine was started, including the time in which it slept, where the system can tell.
pub(super) fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}
