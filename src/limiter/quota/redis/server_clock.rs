//! The server's clock, compared with the time that passes here.

use std::time::Duration;

use tokio::time::Instant;

use crate::limiter::schedule::{LATENESS, micros};

/// The server's clock, as the latest answer has shown it.
#[derive(Debug)]
pub(super) struct ServerClock {
    epoch: Instant,
    /// How far it is ahead of the time since then, at most, in microseconds.
    ahead: Option<u64>,
}

impl ServerClock {
    pub fn new() -> ServerClock {
        ServerClock {
            epoch: Instant::now(),
            ahead: None,
        }
    }

    /// Notes the server's time in an answer that took so long and has just come. Returns whether the clock was set forward since
    /// the answer before, by more than the two answers and late timers can make it seem.
    pub fn was_set_forward(&mut self, now: u64, took: Duration) -> bool {
        let ahead = now.saturating_sub(micros(self.epoch.elapsed()));
        let before = self.ahead.replace(ahead + micros(took));
        before.is_some_and(|before| ahead > before + LATENESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_is_told_from_answers_that_take_longer_or_shorter() {
        let (mut clock, mut server) = (ServerClock::new(), 1_700_000_000_000_000);
        // The way there and the way back, in milliseconds, and how far the clock is set before.
        for (there, back, set, expected) in [
            (1, 1, 0, false),
            (0, 200, 0, false),
            (200, 0, 0, false),
            (0, 0, 0, false),
            (0, 0, 5, false),
            (0, 0, 50, true),
            (0, 0, 0, false),
            (0, 0, -3_600_000, false),
            (0, 0, 3_600_000, true),
            (3, 3, 0, false),
        ] {
            let time = Duration::from_millis(there + back + 1000);
            tokio::time::advance(time).await;
            server = (server as i64 + (1000 + there as i64 + set) * 1000) as u64;
            let was_set = clock.was_set_forward(server, Duration::from_millis(there + back));
            assert_eq!(was_set, expected, "{there} {back} {set}");
            server += back * 1000;
        }
    }
}
