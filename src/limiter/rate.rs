//! The rate of requests, as a type that can't be wrong.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The lowest rate: one request in 1000 seconds.
pub(super) const MIN: f64 = 0.001;

/// The highest rate.
pub(super) const MAX: f64 = 1_000_000.0;

/// Requests per second, at most: a number from 0.001 to 1 000 000. The default is 20, ZEGO's limit for an app.
///
/// No second has more than this many requests, rounded up. A fraction is an average: with 2.5, five requests start in any
/// two seconds; with 0.5, one.
///
/// ```
/// use zim_batch::Rate;
///
/// assert_eq!(Rate::default(), Rate::try_from(20.0)?);
/// assert_eq!("2.5".parse::<Rate>()?.to_string(), "2.5");
/// assert!(Rate::try_from(0.0).is_err());
/// # Ok::<(), zim_batch::limiter::RateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(into = "f64", try_from = "f64")]
pub struct Rate(f64);

/// A number that is not a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be a number from {MIN} to {MAX}")]
#[non_exhaustive]
pub struct RateError;

impl Rate {
    /// The rate as a number of requests per second.
    pub fn per_second(self) -> f64 {
        self.0
    }

    /// The most requests that start within any second: the rate, rounded up.
    pub fn cap(self) -> usize {
        self.0.ceil() as usize
    }
}

impl Default for Rate {
    fn default() -> Rate {
        Rate(20.0)
    }
}

impl TryFrom<f64> for Rate {
    type Error = RateError;

    fn try_from(per_second: f64) -> Result<Rate, RateError> {
        if (MIN..=MAX).contains(&per_second) {
            Ok(Rate(per_second))
        } else {
            Err(RateError)
        }
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> f64 {
        rate.0
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        text.parse()
            .map_err(|_| RateError)
            .and_then(|number: f64| number.try_into())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_in_the_range_are_rates() {
        for text in ["0.001", "2.5", "20", "1e3", "1000000"] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.per_second(), text.parse::<f64>().unwrap());
        }
        for text in ["0", "-1", "0.0009", "1000001", "NaN", "inf", "", "twenty", "20/s"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
        assert_eq!(RateError.to_string(), "it must be a number from 0.001 to 1000000");
        assert!(serde_json::from_str::<Rate>("0").is_err());
        assert_eq!(serde_json::to_string(&Rate::default()).unwrap(), "20.0");
    }
}
