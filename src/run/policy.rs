//! When a run stops by itself: too many failures, a time limit, first rows that are all rejected with the same error.

use std::collections::HashSet;

use tokio::time::Instant;

use super::Limits;
use super::pauses::Pauses;
use super::sleep::{Clocks, Sleeps, WallClock};
use crate::client::verdict::{TransportError, Verdict};
use crate::event::Event;
use crate::row::{Outcome, Record, Subject};
use crate::stop::{StopHandle, StopReason};
use std::time::Duration;

/// A clock further off than this is worth a warning, in seconds. ZIM refuses signatures at ten minutes.
const CLOCK_OFF: u64 = 60;

/// Servers' clocks may differ among themselves; no more than one warning in this time.
const CLOCK_WARNED_EVERY: Duration = Duration::from_secs(60);

/// Watches the events for a reason to stop.
pub(super) struct Policy {
    limits: Limits,
    started_at: Instant,
    sleeps: Sleeps,
    pauses: Pauses,
    clock: WallClock,
    /// The failed rows and users, by [`Subject`].
    failed: [u64; 2],
    /// The first rows and the first users, by [`Subject`].
    first: [FirstRows; 2],
    /// The clock's error that was warned of, in seconds, and when.
    clock_warned: Option<(i64, Instant)>,
}

/// The answer that all rows had so far, while that may be a reason to stop.
enum FirstRows {
    None,
    SameAnswer {
        rows: u64,
        /// The users of these rows: an answer may be about one user, whose rows count once.
        users: HashSet<String>,
        code: Option<i64>,
        http: Option<u16>,
    },
    Settled,
}

impl Policy {
    pub fn new(limits: Limits, started_at: Instant, clocks: Clocks) -> Policy {
        Policy {
            limits,
            started_at,
            sleeps: Sleeps::new(clocks.slept),
            pauses: Pauses::default(),
            clock: clocks.wall,
            failed: [0, 0],
            first: [FirstRows::None, FirstRows::None],
            clock_warned: None,
        }
    }

    /// Looks whether the machine has slept, and notes whether the rate in force is a pause. To be called several times a
    /// second.
    pub fn tick(&mut self, is_paused: bool) {
        let slept = self.sleeps.look();
        self.pauses.note(Instant::now(), is_paused, slept);
    }

    /// When what has been unreachable since `start` is given up. Pauses don't count: nothing is tried in them.
    pub fn due_to_give_up(&self, start: Instant) -> Option<Instant> {
        let due = self.sleeps.due_to_give_up(start, self.limits.give_up_after)?;
        due.checked_add(self.pauses.since(start))
    }

    /// Looks at an event, after its record is written.
    pub fn note(&mut self, event: &Event, stop: &StopHandle) {
        match event {
            Event::Settled(record) if !matches!(record.outcome, Outcome::Invalid | Outcome::Skipped) => {
                self.note_failure(record, stop);
                self.note_first(record, stop);
            }
            // An earlier run has processed the first rows, or was stopped by them, and its operator knows.
            Event::AlreadyDone(1..) => self.first = [FirstRows::Settled, FirstRows::Settled],
            Event::Answered {
                clock_skew: Some(seconds),
                ..
            } => self.note_clock(*seconds),
            _ => {}
        }
    }

    fn note_failure(&mut self, record: &Record, stop: &StopHandle) {
        self.failed[record.subject as usize] += u64::from(record.outcome == Outcome::Failed);
        let [rows, users] = self.failed;
        if let Some(max) = self.limits.max_failures
            && rows + users >= max.get()
        {
            stop.drain(StopReason::MaxFailures { rows, users });
        }
    }

    fn note_first(&mut self, record: &Record, stop: &StopHandle) {
        let answer = (record.code, record.http);
        let first = &mut self.first[record.subject as usize];
        let (rows, mut users) = match std::mem::replace(first, FirstRows::Settled) {
            FirstRows::None if record.outcome == Outcome::Failed => (1, HashSet::new()),
            FirstRows::SameAnswer {
                rows,
                users,
                code,
                http,
            } if record.outcome == Outcome::Failed && (code, http) == answer => (rows + 1, users),
            _ => return,
        };
        let is_new = users.insert(record.user.clone());
        if is_new && users.len() as u64 == self.limits.max_rejected_alike.get() {
            let code = record.code.map(|code| format!("code {code}, ")).unwrap_or_default();
            let columns = match record.subject {
                Subject::Row => "the rows' columns",
                Subject::User => "the column of the users",
            };
            let why = format!("{code}{}; check {columns} and the app", record.message);
            let subject = record.subject;
            stop.drain(StopReason::AllRejected { subject, rows, why });
        }
        let (code, http) = answer;
        *first = FirstRows::SameAnswer {
            rows,
            users,
            code,
            http,
        };
    }

    /// How many rows were rejected with the same answer, with those that were in flight when this stopped the run; `None` if
    /// another answer came since.
    pub fn rejected_alike(&self) -> Option<u64> {
        let max = self.limits.max_rejected_alike.get();
        self.first.iter().find_map(|first| match first {
            FirstRows::SameAnswer { rows, users, .. } if users.len() as u64 >= max => Some(*rows),
            _ => None,
        })
    }

    fn note_clock(&mut self, seconds: i64) {
        let is_news = self
            .clock_warned
            .is_none_or(|(warned, at)| warned.abs_diff(seconds) > CLOCK_OFF && at.elapsed() >= CLOCK_WARNED_EVERY);
        if seconds.unsigned_abs() > CLOCK_OFF && is_news {
            self.clock_warned = Some((seconds, Instant::now()));
            tracing::warn!("{}; at ten minutes ZIM refuses every signature", clock_says(seconds));
        }
    }

    /// The time limit that is due first. `outage`: when the service will have
    /// been unreachable for [`Limits::give_up_after`], and the latest failure. `quota_unavailable`: since when the quota that runs
    /// share can't be used, and why.
    pub fn next_limit(
        &self,
        outage: Option<(Instant, Verdict)>,
        quota_unavailable: Option<(Instant, String)>,
    ) -> Option<(Instant, StopReason)> {
        let after = self.limits.give_up_after;
        let max_duration = self.limits.max_duration.and_then(|limit| {
            let due = self.sleeps.due(self.started_at, limit)?;
            Some((due, StopReason::MaxDuration(limit)))
        });
        let until = self.limits.until.and_then(|at| {
            // The system's clock may be set: this is asked again several times a second.
            let wait = at.duration_since((self.clock)()).unwrap_or_default();
            Some((Instant::now().checked_add(wait)?, StopReason::Until(at)))
        });
        let no_quota = quota_unavailable.and_then(|(since, why)| {
            let due = self.due_to_give_up(since)?;
            Some((due, StopReason::NoQuota { after, why }))
        });
        let gave_up = outage.map(|(due, latest)| {
            let why = latest.message;
            let reason = match latest.transport {
                Some(transport) if transport.is_about_certificate() => {
                    let unknown_ca = transport == TransportError::Untrusted;
                    StopReason::Untrusted { after, unknown_ca, why }
                }
                _ => StopReason::GaveUp { after, why },
            };
            (due, reason)
        });
        let limits = [no_quota, max_duration, until, gave_up].into_iter().flatten();
        limits.min_by_key(|(due, _)| *due)
    }
}

/// How far this machine's clock is off.
pub(super) fn clock_says(seconds_ahead: i64) -> String {
    let amount = humantime::format_duration(Duration::from_secs(seconds_ahead.unsigned_abs()));
    let way = if seconds_ahead < 0 { "behind" } else { "ahead of" };
    format!("this machine's clock is {amount} {way} the server's")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// The time limit that is due first, in so many seconds, when it is 1 o'clock and the run began half an hour ago.
    fn due(until: Option<u64>, max_duration: Option<Duration>) -> Option<(u64, StopReason)> {
        let limits = Limits {
            until: until.map(|hour| SystemTime::UNIX_EPOCH + HOUR * hour as u32),
            max_duration,
            ..Limits::default()
        };
        let policy = Policy {
            clock: Box::new(|| SystemTime::UNIX_EPOCH + HOUR),
            ..Policy::new(limits, Instant::now() - HOUR / 2, Clocks::default())
        };
        let (due, reason) = policy.next_limit(None, None)?;
        Some((due.saturating_duration_since(Instant::now()).as_secs(), reason))
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_duration_and_a_time_the_first_one_ends_the_run_and_says_so() {
        tokio::time::advance(HOUR).await;
        let at = |hour: u32| StopReason::Until(SystemTime::UNIX_EPOCH + HOUR * hour);
        assert_eq!(due(None, None), None);
        assert_eq!(due(Some(6), None), Some((5 * 3600, at(6))));
        assert_eq!(due(Some(6), Some(HOUR)), Some((1800, StopReason::MaxDuration(HOUR))));
        assert_eq!(due(Some(2), Some(HOUR * 8)), Some((3600, at(2))));
        // The clock was set forward, or a limit has passed before the run began.
        assert_eq!(due(Some(0), Some(HOUR)), Some((0, at(0))));
    }
}
