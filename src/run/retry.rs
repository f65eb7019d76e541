//! What follows from an answer for the row that got it: done, failed, another attempt, or the end of the run.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::client::verdict::{TransportError, Verdict};
use crate::code::Class;
use crate::row::Outcome;

/// The first pause before a row's next attempt; each further one is twice as long, plus up to as much again by chance.
const INITIAL_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause, before chance and the server's `Retry-After` make it longer.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Attempts for answers of no known class, including the first.
const UNKNOWN_TRIES: u32 = 3;

/// Attempts for answers of class `app`, including the first.
const APP_TRIES: u32 = 4;

/// Attempts for a refused signature, including the first, if ZIM has accepted others in this run: for about a minute, in which
/// a clock that has jumped may be corrected.
const RESIGN_TRIES: u32 = 8;

/// How far a row is with its attempts.
pub(super) struct RetryState {
    max_attempts: u32,
    /// Requests sent.
    pub sent: u32,
    /// Those of them that count against `max_attempts`.
    used: u32,
    unknown: u32,
    app: u32,
    resigned: u32,
    pauses: ExponentialBackoff,
}

/// What comes next for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetryDecision {
    /// The row has its outcome.
    Done(Outcome),
    /// Another attempt, after a pause.
    Retry(Duration),
    /// Another attempt after a pause, and no new rows meanwhile: most likely every row will get this answer.
    RetryAlone(Duration),
    /// No row can succeed.
    Abort,
}

impl RetryState {
    pub fn new(max_attempts: u32) -> RetryState {
        RetryState {
            max_attempts,
            sent: 0,
            used: 0,
            unknown: 0,
            app: 0,
            resigned: 0,
            pauses: ExponentialBuilder::new()
                .with_min_delay(INITIAL_PAUSE)
                .with_max_delay(MAX_PAUSE)
                .with_jitter()
                .without_max_times()
                .build(),
        }
    }

    /// Decides. `counts`: the attempt counts against the row, because the service is not known to be unavailable.
    /// `was_accepted`: ZIM has accepted a signature of this run before.
    pub fn next(&mut self, verdict: &Verdict, counts: bool, was_accepted: bool) -> RetryDecision {
        match verdict.class {
            Class::Ok => RetryDecision::Done(Outcome::Ok),
            Class::Outside => RetryDecision::Done(Outcome::Outside),
            Class::Rejected => RetryDecision::Done(Outcome::Failed),
            Class::Fatal => RetryDecision::Abort,
            Class::Limited => RetryDecision::Retry(self.pause(verdict)),
            // Not the row's fault.
            Class::Transient
                if verdict
                    .transport
                    .is_some_and(|why| why == TransportError::Local || why.is_about_certificate()) =>
            {
                RetryDecision::Retry(self.pause(verdict))
            }
            Class::Transient | Class::Unknown if !counts => {
                RetryDecision::Retry(verdict.retry_after.unwrap_or_default())
            }
            Class::Transient => self.again_unless_used_up(verdict),
            Class::Unknown => {
                self.unknown += 1;
                match self.unknown {
                    UNKNOWN_TRIES.. => RetryDecision::Done(Outcome::Failed),
                    _ => self.again_unless_used_up(verdict),
                }
            }
            Class::Signature => {
                self.resigned += 1;
                match (self.resigned, was_accepted) {
                    (1, _) => RetryDecision::RetryAlone(Duration::ZERO),
                    (2..RESIGN_TRIES, true) => RetryDecision::RetryAlone(self.pause(verdict)),
                    _ => RetryDecision::Abort,
                }
            }
            Class::App => {
                self.app += 1;
                match self.app {
                    APP_TRIES.. => RetryDecision::Abort,
                    _ => RetryDecision::RetryAlone(self.pause(verdict)),
                }
            }
        }
    }

    /// Whether the attempt that was just sent is the last one allowed.
    pub fn is_last_attempt(&self) -> bool {
        self.used + 1 >= self.max_attempts
    }

    fn again_unless_used_up(&mut self, verdict: &Verdict) -> RetryDecision {
        if self.is_last_attempt() {
            return RetryDecision::Done(Outcome::Failed);
        }
        self.used += 1;
        RetryDecision::Retry(self.pause(verdict))
    }

    fn pause(&mut self, verdict: &Verdict) -> Duration {
        let pause = self.pauses.next().unwrap_or(MAX_PAUSE);
        pause.max(verdict.retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::verdict::judge;

    fn answer(code: i64) -> Verdict {
        judge(200, format!(r#"{{"Code":{code}}}"#).as_bytes(), None)
    }

    /// The tries that a row gets when every answer is the same, and how it ends.
    fn end_of(code: i64, max_attempts: u32) -> (u32, RetryDecision) {
        let mut state = RetryState::new(max_attempts);
        for sent in 1..=100 {
            match state.next(&answer(code), true, false) {
                RetryDecision::Retry(_) | RetryDecision::RetryAlone(_) => {}
                end => return (sent, end),
            }
        }
        (u32::MAX, RetryDecision::Retry(Duration::ZERO))
    }

    #[test]
    fn each_class_ends_after_its_own_number_of_tries() {
        let failed = RetryDecision::Done(Outcome::Failed);
        assert_eq!(end_of(0, 6), (1, RetryDecision::Done(Outcome::Ok)));
        assert_eq!(end_of(660800002, 6), (1, RetryDecision::Done(Outcome::Outside)));
        assert_eq!(end_of(660500002, 6), (1, failed));
        assert_eq!(end_of(660000001, 6), (6, failed));
        assert_eq!(end_of(660000001, 1), (1, failed));
        assert_eq!(end_of(424242, 6), (3, failed));
        assert_eq!(end_of(424242, 2), (2, failed));
        assert_eq!(end_of(100000005, 6), (2, RetryDecision::Abort));
        assert_eq!(end_of(100000005, 1), (2, RetryDecision::Abort));
        assert_eq!(end_of(100000011, 6), (4, RetryDecision::Abort));
        assert_eq!(end_of(3, 6), (1, RetryDecision::Abort));
        assert_eq!(end_of(7, 6).0, u32::MAX);
    }

    #[test]
    fn a_signature_is_tried_for_a_minute_if_others_were_taken() {
        let mut state = RetryState::new(1);
        let (mut sent, mut waited) = (1, Duration::ZERO);
        while let RetryDecision::RetryAlone(pause) = state.next(&answer(100000004), true, true) {
            (sent, waited) = (sent + 1, waited + pause);
        }
        assert_eq!(sent, RESIGN_TRIES);
        assert!((30..130).contains(&waited.as_secs()), "{waited:?}");
    }

    #[test]
    fn limited_answers_and_an_outage_use_up_nothing() {
        let mut state = RetryState::new(2);
        for _ in 0..20 {
            assert!(matches!(state.next(&answer(7), true, false), RetryDecision::Retry(_)));
            assert_eq!(
                state.next(&answer(1), false, false),
                RetryDecision::Retry(Duration::ZERO)
            );
        }
        assert!(matches!(state.next(&answer(1), true, false), RetryDecision::Retry(_)));
        assert_eq!(
            state.next(&answer(1), true, false),
            RetryDecision::Done(Outcome::Failed)
        );
    }

    #[test]
    fn pauses_double_with_chance_on_top_and_keep_retry_after() {
        let mut state = RetryState::new(100);
        for doubling in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let least = INITIAL_PAUSE * doubling;
            let RetryDecision::Retry(pause) = state.next(&answer(1), true, false) else {
                panic!()
            };
            assert!(
                least <= pause && pause <= 2 * least,
                "{pause:?}, expected {least:?} to twice that"
            );
        }
        let mut asked = answer(1);
        asked.retry_after = Some(Duration::from_secs(200));
        let RetryDecision::Retry(pause) = RetryState::new(100).next(&asked, true, false) else {
            panic!()
        };
        assert_eq!(pause, Duration::from_secs(200));
    }
}
