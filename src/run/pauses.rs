//! The time in which nothing may start, because the rate in force is a pause: it says nothing about the service.

use std::time::Duration;

use tokio::time::Instant;

/// The pauses of a run.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// In order.
    pauses: Vec<Pause>,
    is_paused: bool,
}

#[derive(Debug)]
struct Pause {
    begin: Instant,
    /// The latest moment at which it was known to last.
    end: Instant,
    /// How long the machine slept in it. Tokio's clock stands still meanwhile.
    slept: Duration,
}

impl Pauses {
    /// Notes whether there is a pause now, and how long the machine has just slept. To be called several times a second.
    pub fn note(&mut self, now: Instant, is_paused: bool, slept: Duration) {
        match self.pauses.last_mut().filter(|_| self.is_paused) {
            Some(pause) => {
                pause.end = now;
                pause.slept += slept;
            }
            None if is_paused => self.pauses.push(Pause {
                begin: now,
                end: now,
                slept: Duration::ZERO,
            }),
            None => {}
        }
        self.is_paused = is_paused;
    }

    /// How long pauses have lasted since `start`.
    pub fn since(&self, start: Instant) -> Duration {
        let since = self.pauses.iter().filter(|pause| pause.end > start);
        since
            .map(|pause| pause.end - pause.begin.max(start) + pause.slept)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_count_from_the_moment_asked_for_with_the_time_in_which_the_machine_slept() {
        let (zero, second) = (Instant::now(), Duration::from_secs(1));
        let mut pauses = Pauses::default();
        for (at, is_paused, slept) in [
            (0, false, 0),
            (1, true, 0),
            (2, true, 0),
            (3, true, 100),
            (4, false, 0),
            (9, false, 50),
            (10, true, 0),
            (12, true, 0),
        ] {
            pauses.note(zero + at * second, is_paused, slept * second);
        }
        for (since, expected) in [(0, 105), (2, 104), (4, 2), (11, 1), (12, 0)] {
            assert_eq!(pauses.since(zero + since * second), expected * second, "{since}");
        }
    }
}
