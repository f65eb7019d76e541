//! What a refused request's `Retry-After` means for the run.
//!
//! Its row waits in any case. The run waits only if a request is refused that started after such an answer had come: some
//! limiters send `Retry-After` with each refusal, and one refusal in a thousand, which jitter explains, is no reason to stop
//! the other rows for seconds.

use std::time::Duration;

use tokio::time::Instant;

/// A wait of the run is logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The waits that the server has asked for.
#[derive(Default)]
pub(super) struct RetryAfter {
    /// When an answer asked for a wait that only its row keeps, and until when.
    asked: Option<(Instant, Instant)>,
    not_before: Option<Instant>,
    logged_at: Option<Instant>,
}

impl RetryAfter {
    /// Nothing starts before this time.
    pub fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// A request, started at `started_at`, was refused, and the server asked to wait. `true` if the run waits from now on, and
    /// that is to be logged.
    pub fn refused(&mut self, started_at: Instant, now: Instant, wait: Duration) -> bool {
        let until = now + wait;
        match self.asked {
            Some((asked_at, asked_until)) if now < asked_until => {
                if started_at < asked_at {
                    return false; // It could not know.
                }
            }
            _ => {
                self.asked = Some((now, until));
                return false;
            }
        }
        let waits_already = self.not_before > Some(now);
        self.not_before = self.not_before.max(Some(until));
        let is_logged = !waits_already && self.logged_at.is_none_or(|at| now - at >= LOG_EVERY);
        if is_logged {
            self.logged_at = Some(now);
        }
        is_logged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_a_refusal_of_what_started_after_the_first_answer_makes_the_run_wait() {
        let zero = Instant::now();
        let at = |seconds| zero + SECOND * seconds;
        let mut waits = RetryAfter::default();
        assert!(!waits.refused(at(0), at(1), 5 * SECOND));
        assert!(!waits.refused(at(0), at(2), 5 * SECOND), "it had started before");
        assert_eq!(waits.not_before(), None);
        assert!(waits.refused(at(1), at(3), 5 * SECOND));
        assert_eq!(waits.not_before(), Some(at(8)));
        assert!(!waits.refused(at(2), at(4), SECOND), "it waits already");
        assert_eq!(waits.not_before(), Some(at(8)), "and no shorter");
    }

    #[test]
    fn after_the_first_wait_the_next_refusal_is_a_first_one_again() {
        let zero = Instant::now();
        let at = |seconds| zero + SECOND * seconds;
        let mut waits = RetryAfter::default();
        assert!(!waits.refused(at(0), at(0), 5 * SECOND));
        assert!(!waits.refused(at(5), at(5), 5 * SECOND));
        assert_eq!(waits.not_before(), None);
        assert!(waits.refused(at(6), at(6), 5 * SECOND));
    }

    #[test]
    fn waits_that_follow_one_another_are_logged_once_a_minute() {
        let zero = Instant::now();
        let mut waits = RetryAfter::default();
        let logged = (0..300).filter(|nth| {
            let now = zero + SECOND * *nth;
            let _ = waits.refused(now, now, SECOND / 2);
            waits.refused(now, now, SECOND / 2)
        });
        assert_eq!(logged.count(), 5);
    }
}
