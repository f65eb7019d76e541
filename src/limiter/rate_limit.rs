//! What limits the rate of a run at present.

use std::time::SystemTime;

use super::Rate;
use super::quota::Limit;

/// What limits the rate of a run at present: the lower one of its own rate and a limit of its quota.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RateLimit {
    /// The run's own rate.
    Own(Rate),
    /// The entry of the run's [`Timetable`](super::Timetable) that holds at present.
    Timetable {
        /// Maximum requests in any second; `None` is a pause.
        rate: Option<Rate>,
        /// When the rate changes.
        until: SystemTime,
    },
    /// A limit for all runs that share the quota. It is lower than the run's own rate.
    Quota(Limit),
}

impl RateLimit {
    /// The one that applies: a limit above the run's own rate changes nothing.
    pub(super) fn lower(own: RateLimit, limit: Option<Limit>) -> RateLimit {
        match limit {
            Some(limit) if limit.rate < own.rate() => RateLimit::Quota(limit),
            // Of two pauses, the one that lasts longer.
            Some(limit)
                if own.is_pause()
                    && limit.rate.is_none()
                    && limit.until.is_none_or(|until| Some(until) > own.until()) =>
            {
                RateLimit::Quota(limit)
            }
            _ => own,
        }
    }

    /// Maximum requests in any second; `None` is a pause.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            RateLimit::Own(rate) => Some(*rate),
            RateLimit::Timetable { rate, .. } => *rate,
            RateLimit::Quota(limit) => limit.rate,
        }
    }

    /// Whether nothing starts.
    pub fn is_pause(&self) -> bool {
        self.rate().is_none()
    }

    /// When it ends by itself, if that is known.
    pub fn until(&self) -> Option<SystemTime> {
        match self {
            RateLimit::Own(_) => None,
            RateLimit::Timetable { until, .. } => Some(*until),
            RateLimit::Quota(limit) => limit.until,
        }
    }
}
