//! Log lines when the rate in force changes.

use zim_batch::event::Event;
use zim_batch::limiter::{Rate, RateLimit};
use zim_batch::run::{Observer, Status};
use zim_batch::text::clock;

use crate::cli::errors::hints::restriction;
use crate::cli::output::logging::START;

/// Logs each change of the rate in force once, as an observer of the run.
#[derive(Debug, Default)]
pub struct RateChanges {
    known: Option<RateLimit>,
}

impl RateChanges {
    /// What to say, now that this is in force.
    fn note(&mut self, limit: RateLimit, now: &str) -> Option<String> {
        let known = self.known.replace(limit);
        if known.is_some_and(|known| is_same(known, limit)) {
            return None;
        }
        match (known, limit) {
            // What the run begins with is said at its beginning, unless nothing starts.
            (None, RateLimit::Own(_) | RateLimit::Timetable { rate: Some(_), .. }) => None,
            (Some(RateLimit::Quota(_)), RateLimit::Own(_) | RateLimit::Timetable { .. }) => {
                Some(format!("the limit by 'zim-batch quota' has ended: {}", in_force(limit)))
            }
            (Some(_), RateLimit::Timetable { rate: Some(_), .. }) => Some(format!("from {now} on {}", in_force(limit))),
            _ => Some(in_force(limit)),
        }
    }
}

impl Observer for RateChanges {
    fn event(&mut self, _: &Event) {}

    fn tick(&mut self, status: &Status<'_>) {
        let now = clock(std::time::SystemTime::now());
        if let Some(text) = self.note(status.limit, &now) {
            tracing::info!(target: START, "{text}");
        }
    }
}

/// Whether nothing has changed: the end of a timetable's entry moves if the system's clock is set.
fn is_same(known: RateLimit, limit: RateLimit) -> bool {
    match (known, limit) {
        (RateLimit::Timetable { rate, .. }, RateLimit::Timetable { rate: other, .. }) => rate == other,
        _ => known == limit,
    }
}

/// What is in force: `at most 20 requests per second (--rate)`, `paused until 22:00 (--rate)`.
fn in_force(limit: RateLimit) -> String {
    if let Some(text) = restriction(limit) {
        return text;
    }
    match limit.rate().map(Rate::per_second) {
        Some(1.0) => "at most 1 request per second (--rate)".to_owned(),
        rate => format!("at most {} requests per second (--rate)", rate.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use zim_batch::limiter::quota::Limit;

    use super::*;

    #[test]
    fn each_change_is_said_once_and_the_beginning_only_if_nothing_starts() {
        let until = SystemTime::now() + Duration::from_secs(1);
        let later = clock(until);
        let entry = |rate: f64| RateLimit::Timetable {
            rate: Rate::try_from(rate).ok(),
            until,
        };
        let limit = RateLimit::Quota(Limit::new(Some(Rate::try_from(5.0).unwrap()), None));
        let own = RateLimit::Own(Rate::default());
        let said = |limits: &[RateLimit]| -> Vec<String> {
            let mut changes = RateChanges::default();
            limits
                .iter()
                .filter_map(|limit| changes.note(*limit, "22:00"))
                .collect()
        };
        assert_eq!(
            said(&[own, own, entry(20.0)])[..],
            ["from 22:00 on at most 20 requests per second (--rate)"]
        );
        assert_eq!(said(&[entry(20.0), entry(20.0)]), Vec::<String>::new());
        let paused = format!("paused until {later} (--rate)");
        assert_eq!(
            said(&[entry(0.0), entry(0.0), entry(1.0)])[..],
            [
                paused.clone(),
                "from 22:00 on at most 1 request per second (--rate)".to_owned()
            ]
        );
        assert_eq!(said(&[entry(20.0), entry(0.0)]), vec![paused.clone()]);
        assert_eq!(
            said(&[own, limit, limit, own])[..],
            [
                "limited to 5/s by 'zim-batch quota'",
                "the limit by 'zim-batch quota' has ended: at most 20 requests per second (--rate)"
            ]
        );
        assert_eq!(
            said(&[limit, entry(0.0)])[1],
            format!("the limit by 'zim-batch quota' has ended: {paused}")
        );
    }
}
