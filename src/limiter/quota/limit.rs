//! A limit for all runs that share a quota.

use std::fmt;
use std::time::SystemTime;

use crate::limiter::Rate;
use crate::text::ends_at;

/// A limit that an operator has set for all runs that share a quota. It never raises the rate of a run.
///
/// ```
/// use zim_batch::limiter::quota::Limit;
///
/// let limit = Limit::new(Some(5.0.try_into()?), None);
/// assert_eq!(limit.to_string(), "limited to 5/s by 'zim-batch quota'");
/// assert_eq!(Limit::new(None, None).to_string(), "paused by 'zim-batch quota'");
/// # Ok::<(), zim_batch::limiter::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Limit {
    /// Maximum requests in any second, of all runs together; `None` is a pause: nothing starts.
    pub rate: Option<Rate>,
    /// When it ends by itself; `None`: it lasts until it is removed.
    pub until: Option<SystemTime>,
}

impl Limit {
    /// A limit of this rate, or a pause, until then.
    pub fn new(rate: Option<Rate>, until: Option<SystemTime>) -> Limit {
        Limit { rate, until }
    }
}

/// What it does, and until when in local time: `limited to 5/s by 'zim-batch quota' until 14:00`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => write!(f, "limited to {rate}/s by 'zim-batch quota'")?,
            None => f.write_str("paused by 'zim-batch quota'")?,
        }
        match self.until {
            Some(until) => write!(f, " until {}", ends_at(until)),
            None => Ok(()),
        }
    }
}
