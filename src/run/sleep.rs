//! Time in which the machine slept, like a laptop that was closed. The clock of timers stands still meanwhile, but time
//! limits are about the time that has passed.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Less is not worth a warning.
const SHORTEST: Duration = Duration::from_secs(1);

/// After the machine has woken, what was unreachable gets this long to come back.
const TO_COME_BACK: Duration = Duration::from_secs(60);

/// The time that the machine has slept since it was started.
pub(super) type SleepClock = Box<dyn Fn() -> Duration + Send>;

/// The system's clock.
pub(super) type WallClock = Box<dyn Fn() -> SystemTime + Send>;

/// The clocks that a run reads besides that of timers.
pub(super) struct Clocks {
    pub wall: WallClock,
    pub slept: SleepClock,
}

impl Default for Clocks {
    fn default() -> Clocks {
        Clocks {
            wall: Box::new(SystemTime::now),
            slept: Box::new(slept_since_boot),
        }
    }
}

/// The sleeps of the machine during a run.
pub(super) struct Sleeps {
    clock: SleepClock,
    /// What the clock showed at the latest sleep, or at the beginning.
    slept: Duration,
    /// When the machine had woken, and how long it had slept.
    sleeps: Vec<(Instant, Duration)>,
}

impl fmt::Debug for Sleeps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sleeps").field(&self.sleeps).finish()
    }
}

impl Sleeps {
    pub fn new(clock: SleepClock) -> Sleeps {
        Sleeps {
            slept: clock(),
            clock,
            sleeps: Vec::new(),
        }
    }

    /// Looks whether the machine has slept, and warns of it. Returns for how long. To be called several times a second.
    pub fn look(&mut self) -> Duration {
        let slept = (self.clock)().saturating_sub(self.slept);
        if slept < SHORTEST {
            return Duration::ZERO;
        }
        self.slept += slept;
        self.sleeps.push((Instant::now(), slept));
        let rounded = humantime::format_duration(Duration::from_secs(slept.as_secs()));
        tracing::warn!("the machine slept for {rounded}; the time limits of the run include that time");
        slept
    }

    /// When this much time will have passed since `start`, with the time in which the machine slept.
    pub fn due(&self, start: Instant, after: Duration) -> Option<Instant> {
        let due = start.checked_add(after)?;
        let since = self.sleeps.iter().filter(|(woken, _)| *woken > start);
        Some(since.fold(due, |due, &(woken, slept)| {
            let earlier = due.checked_sub(slept).unwrap_or(woken);
            due.min(earlier.max(woken))
        }))
    }

    /// Like [`Sleeps::due`], for what has been unreachable since `start`.
    pub fn due_to_give_up(&self, start: Instant, after: Duration) -> Option<Instant> {
        let due = self.due(start, after)?;
        let woken = self.sleeps.last().filter(|(woken, _)| *woken > start && *woken <= due);
        Some(woken.map_or(due, |(woken, _)| due.max(*woken + TO_COME_BACK)))
    }
}

/// The time that this machine has slept since it was started, where the system can tell.
fn slept_since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    {
        use rustix::time::{ClockId, clock_gettime};

        let read = |clock| {
            let time = clock_gettime(clock);
            let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
            Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
        };
        let awake = read(ClockId::Monotonic);
        read(ClockId::Boottime).saturating_sub(awake)
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The sleeps of a machine, and the seconds that it has slept.
    fn machine() -> (Sleeps, Arc<AtomicU64>) {
        let slept = Arc::new(AtomicU64::new(1000));
        let clock = Arc::clone(&slept);
        let clock = move || Duration::from_secs(clock.load(Ordering::Relaxed));
        (Sleeps::new(Box::new(clock)), slept)
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_limit_includes_the_time_in_which_the_machine_slept() {
        let (mut sleeps, slept) = machine();
        let start = Instant::now();
        advance(10 * MINUTE).await;
        sleeps.look();
        assert_eq!(sleeps.due(start, 50 * MINUTE), Some(start + 50 * MINUTE));

        slept.fetch_add(97, Ordering::Relaxed);
        sleeps.look();
        sleeps.look();
        assert_eq!(
            sleeps.due(start, 50 * MINUTE),
            Some(start + 50 * MINUTE - Duration::from_secs(97))
        );
        // What begins afterwards, or was due before, did not sleep.
        let woken = Instant::now();
        assert_eq!(sleeps.due(woken, 5 * MINUTE), Some(woken + 5 * MINUTE));
        assert_eq!(sleeps.due(start, 5 * MINUTE), Some(start + 5 * MINUTE));
        // What was due while it slept is due when it has woken.
        assert_eq!(sleeps.due(start, 11 * MINUTE), Some(woken));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_unreachable_gets_a_minute_after_the_machine_has_woken() {
        let (mut sleeps, slept) = machine();
        let start = Instant::now();
        advance(10 * MINUTE).await;
        slept.fetch_add(8 * 3600, Ordering::Relaxed);
        sleeps.look();
        let woken = Instant::now();
        assert_eq!(sleeps.due_to_give_up(start, 30 * MINUTE), Some(woken + MINUTE));
        assert_eq!(sleeps.due_to_give_up(woken, 30 * MINUTE), Some(woken + 30 * MINUTE));
    }

    #[test]
    fn this_machine_has_slept_no_negative_time_and_does_not_sleep_now() {
        let before = slept_since_boot();
        assert!(slept_since_boot().abs_diff(before) < SHORTEST);
    }
}
