//! Whether the service is there at all: what tells a row that fails from an outage.
//!
//! A row that fails again and again says nothing about the service while other rows are answered. So what counts is
//! how many *rows* met their first failure since the last answer: when there are [`MANY`], the service is gone, the
//! run goes on hold, and no row pays for it with an attempt.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::verdict::{TransportError, Verdict};
use crate::code::Class;

/// So many rows that fail for the first time, with no answer to any row between them, are an outage.
const MANY: u32 = 10;

/// What the run knows of the service.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// How often the service has answered after failing; tells apart what happened before and after an answer.
    epoch: u64,
    /// Rows that met their first failure in this epoch.
    newly_failing: u32,
    /// What has failed since the last answer.
    failing: Option<Failing>,
    /// The service has answered in this run.
    has_answered: bool,
    /// ZIM has taken a signature of this run's.
    has_been_let_in: bool,
}

/// Attempts that failed, with no answer between them.
#[derive(Debug, Clone)]
struct Failing {
    first: Instant,
    latest: Instant,
    /// What the latest one came to.
    verdict: Verdict,
}

/// What a row remembers: the epoch of its first failure.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FirstFailure(Option<u64>);

/// What an attempt says about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is there.
    Answers,
    /// It is there, and has enough of us.
    Limits,
    /// It failed; perhaps it is gone.
    Fails,
}

pub(super) fn sign_of(verdict: &Verdict) -> Sign {
    match verdict.class {
        Class::Transient => Sign::Fails,
        Class::Limited => Sign::Limits,
        // Not ZIM's: a page of a portal or a gateway, which says nothing about the row.
        Class::Unknown if verdict.code.is_none() => Sign::Fails,
        // An untrusted certificate is an answer too, and a final one.
        Class::Ok
        | Class::Outside
        | Class::Rejected
        | Class::Signature
        | Class::App
        | Class::Fatal
        | Class::Unknown => Sign::Answers,
    }
}

impl Health {
    /// A certificate that is not trusted ends the run, unless the run has been answered before: then some of the servers
    /// behind the endpoint have another one, or it has just run out, and that may be put right.
    pub fn allow_for_answers_so_far(&self, verdict: &mut Verdict) {
        if self.has_answered && verdict.transport == Some(TransportError::Untrusted) {
            verdict.class = Class::Transient;
        }
    }

    /// Whether the app, the secret and the clock were right at some time in this run.
    pub fn has_been_let_in(&self) -> bool {
        self.has_been_let_in
    }

    /// Takes note of an attempt. `true` if it makes an outage of what came before.
    pub fn note(&mut self, verdict: &Verdict, row: &mut FirstFailure, now: Instant) -> bool {
        self.has_answered |= verdict.http.is_some();
        self.has_been_let_in |= matches!(verdict.class, Class::Ok | Class::Outside | Class::Rejected);
        match sign_of(verdict) {
            Sign::Answers => {
                if self.failing.take().is_some() {
                    self.epoch += 1;
                    self.newly_failing = 0;
                }
                false
            }
            Sign::Limits => {
                self.note_failing(verdict, now);
                false
            }
            Sign::Fails => {
                self.note_failing(verdict, now);
                if row.0.is_none() {
                    row.0 = Some(self.epoch);
                    self.newly_failing += 1;
                }
                self.newly_failing >= MANY
            }
        }
    }

    fn note_failing(&mut self, verdict: &Verdict, now: Instant) {
        let first = self.failing.as_ref().map_or(now, |failing| failing.first);
        self.failing = Some(Failing {
            first,
            latest: now,
            verdict: verdict.clone(),
        });
    }

    /// Whether a row that has used up its attempts on `verdict` must not fail, because it could not be for the row: it
    /// did not even reach the service, and nothing has since the row's first failure.
    pub fn excuses(&self, verdict: &Verdict, row: FirstFailure) -> bool {
        verdict.transport == Some(TransportError::Unreachable) && row.0 == Some(self.epoch)
    }

    /// How long the service is known not to have answered, and the latest failure. While the run is on hold
    /// that is until `now`; otherwise until the latest failure, for perhaps nothing has been sent since.
    pub fn failing_for(&self, now: Instant, is_held: bool) -> Option<(Duration, &Verdict)> {
        let failing = self.failing.as_ref()?;
        let until = if is_held { now } else { failing.latest };
        Some((until - failing.first, &failing.verdict))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::verdict::{judge, no_answer};
    use reqwest::StatusCode;

    fn unreachable() -> Verdict {
        no_answer(TransportError::Unreachable, "connection refused".into(), None)
    }

    fn ok() -> Verdict {
        judge(StatusCode::OK, br#"{"Code":0}"#, None)
    }

    #[test]
    fn many_rows_in_a_row_are_an_outage_and_one_row_many_times_is_not() {
        let now = Instant::now();
        let mut health = Health::default();
        let mut stubborn = FirstFailure::default();
        for _ in 0..100 {
            assert!(!health.note(&unreachable(), &mut stubborn, now));
        }
        for nth in 2..=MANY {
            let outage = health.note(&unreachable(), &mut FirstFailure::default(), now);
            assert_eq!(outage, nth == MANY, "row {nth}");
        }
    }

    #[test]
    fn answers_that_are_not_zim_s_make_an_outage_and_unknown_codes_of_zim_s_don_t() {
        let now = Instant::now();
        let pages = [200, 302, 403, 404].map(|status| StatusCode::from_u16(status).unwrap());
        for status in pages {
            let mut health = Health::default();
            for nth in 1..=MANY {
                let page = judge(status, b"<html>", None);
                assert_eq!(health.note(&page, &mut FirstFailure::default(), now), nth == MANY);
                assert_eq!(sign_of(&page), Sign::Fails);
            }
            let unknown = judge(status, br#"{"Code":424242}"#, None);
            assert!(!health.note(&unknown, &mut FirstFailure::default(), now));
            assert_eq!(health.failing_for(now, true), None);
        }
    }

    #[test]
    fn rows_that_failed_before_an_answer_don_t_make_an_outage_after_it() {
        let now = Instant::now();
        let mut health = Health::default();
        let mut stubborn = [FirstFailure::default(); 50];
        for row in &mut stubborn {
            health.note(&ok(), &mut FirstFailure::default(), now);
            assert!(!health.note(&unreachable(), row, now));
        }
        for row in &mut stubborn {
            assert!(!health.note(&unreachable(), row, now));
        }
    }

    #[test]
    fn a_row_is_excused_only_while_nothing_reaches_the_service() {
        let now = Instant::now();
        let (mut health, mut row) = (Health::default(), FirstFailure::default());
        health.note(&unreachable(), &mut row, now);
        assert!(health.excuses(&unreachable(), row), "no row can be to blame for that");
        let busy = judge(StatusCode::BAD_GATEWAY, b"", None);
        assert!(!health.excuses(&busy, row), "something answers");
        health.note(&ok(), &mut FirstFailure::default(), now);
        assert!(!health.excuses(&unreachable(), row), "others are answered");
    }

    #[test]
    fn the_time_without_an_answer_begins_with_the_first_failure_and_ends_with_an_answer() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut health = Health::default();
        assert_eq!(health.failing_for(now, true), None);
        health.note(&unreachable(), &mut FirstFailure::default(), now);
        let why = unreachable();
        assert_eq!(health.failing_for(later, true), Some((Duration::from_secs(5), &why)));
        assert_eq!(health.failing_for(later, false), Some((Duration::ZERO, &why)));
        health.note(&ok(), &mut FirstFailure::default(), later);
        assert_eq!(health.failing_for(later, true), None);
    }
}
