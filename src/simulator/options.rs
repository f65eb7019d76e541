//! The settings of a simulator: its app, limits, timing and faults.

use std::io;
use std::time::Duration;

use secrecy::SecretString;

/// The app, the limits and the faults of a simulator.
///
/// The default is a healthy service with the documented limits. Change what you want to test:
///
/// ```
/// use std::time::Duration;
/// use zim_batch::simulator::Options;
///
/// let congested = Options { error_rate: 0.05, competing: 8.0, jitter: Duration::from_millis(200), ..Options::default() };
/// assert_eq!(congested.cap, 20);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The one app that exists. Others are answered 100000011. Default: 12345, as in the documents' signature example.
    pub app_id: u32,
    /// The app's server secret; `Debug` does not show it. Default: that of the documents' signature example.
    pub server_secret: SecretString,
    /// Maximum requests admitted in any one second (a sliding window). Requests beyond it are answered with code 7 and
    /// do not count. The calls of all Actions count together. 0: no cap. Default: 20, ZEGO's default for this API.
    pub cap: u32,
    /// How many of a user's newest conversations are reachable; others are answered 660800002 and are in no list. ZEGO
    /// can raise it for an app. Default: 1000.
    pub newest: usize,
    /// How long an answer takes at least. Default: 30 ms.
    pub latency: Duration,
    /// Random time added to the latency of each answer: uniform, up to this. Default: 0.
    pub jitter: Duration,
    /// Random delay before a request counts against the cap: uniform, up to this. Evenly sent requests arrive
    /// unevenly, as on a network. Default: 0.
    pub arrival_jitter: Duration,
    /// Rate of other traffic of the same app, in requests per second, 0 to 10 000: evenly spaced requests that share
    /// the cap and are never refused, so they reduce what is left. No effect without a cap. Default: 0.
    pub competing: f64,
    /// The share, 0 to 1, of requests within the cap that are answered with a random one of the documented "try
    /// again later" codes and change nothing. Also the share of the users of a `QueryUserInfos` that can't be looked up
    /// (`SubCode` 660700008), each independently. Default: 0.
    pub error_rate: f64,
    /// The share, 0 to 1, of requests within the cap that are answered 660300005 (AppID-level call frequency exceeded)
    /// and change nothing. Default: 0.
    pub limited_rate: f64,
    /// The share, 0 to 1, of requests within the cap whose connection is reset before an answer. In half of the cases the
    /// request is lost; in the other half it is carried out and its answer is lost. Default: 0.
    pub reset_rate: f64,
    /// When the service is down. Default: never.
    pub outage: Option<Outage>,
    /// If set, requests over the cap are answered as a gateway in front of the service might answer them: HTTP 429
    /// without JSON, with this `Retry-After`, rounded up to seconds. ZEGO does not document this. Default: not set.
    pub retry_after: Option<Duration>,
    /// How many seconds the service's clock is ahead of this machine's (negative: behind). It decides
    /// whether a `Timestamp` is right, and appears in the `Date` header and the events. The clock stays between the years 1970
    /// and 9999. Default: 0.
    pub clock_offset: i64,
    /// Seed of the random numbers: with the same seed, the same requests in the same order meet the same faults.
    /// Default: 0.
    pub seed: u64,
}

/// A time in which the service is down. Requests during this time do not count against the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// It begins this long after the call of [`serve`](super::serve).
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// It repeats: each begins this long after the previous one began. `None`, or zero: it happens once.
    pub every: Option<Duration>,
    /// What happens to requests during it.
    pub kind: OutageKind,
}

/// What happens to a request during an [`Outage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutageKind {
    /// An HTTP 503 without JSON, after the usual latency.
    Unavailable,
    /// The connection is reset without an answer, after the usual latency.
    Reset,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            app_id: 12345,
            server_secret: "9193cc662a4c0ec135ec71fb57194b38".into(),
            cap: 20,
            newest: 1000,
            latency: Duration::from_millis(30),
            jitter: Duration::ZERO,
            arrival_jitter: Duration::ZERO,
            competing: 0.0,
            error_rate: 0.0,
            limited_rate: 0.0,
            reset_rate: 0.0,
            outage: None,
            retry_after: None,
            clock_offset: 0,
            seed: 0,
        }
    }
}

impl Options {
    /// Checks that all numbers are within their ranges.
    pub(super) fn check(&self) -> io::Result<()> {
        for (name, value, max) in [
            ("error_rate", self.error_rate, 1.0),
            ("limited_rate", self.limited_rate, 1.0),
            ("reset_rate", self.reset_rate, 1.0),
            ("competing", self.competing, 10_000.0),
        ] {
            if !(0.0..=max).contains(&value) {
                let text = format!("the simulator's {name} is {value}; expected 0 to {max}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(())
    }
}

impl Outage {
    /// Whether the service is down at this time after its start.
    pub(super) fn is_on(&self, uptime: Duration) -> bool {
        let Some(since) = uptime.checked_sub(self.after) else {
            return false;
        };
        let since = match self.every {
            Some(every) if !every.is_zero() => since.as_nanos() % every.as_nanos(),
            _ => since.as_nanos(),
        };
        since < self.lasts.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_not_in_the_debug_output() {
        let text = format!("{:?}", Options::default());
        assert!(text.contains("[REDACTED]") && !text.contains("9193cc66"), "{text}");
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        assert!(Options::default().check().is_ok());
        for rate in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let options = Options {
                error_rate: rate,
                ..Options::default()
            };
            assert!(
                options.check().unwrap_err().to_string().contains("error_rate"),
                "{rate}"
            );
        }
        assert!(
            Options {
                competing: 10_001.0,
                ..Options::default()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn an_outage_includes_its_start_excludes_its_end_and_repeats() {
        let secs = Duration::from_secs;
        let outage = |every| Outage {
            after: secs(10),
            lasts: secs(5),
            every,
            kind: OutageKind::Reset,
        };
        let on = |outage: Outage| (0..40).filter(|&at| outage.is_on(secs(at))).collect::<Vec<_>>();
        assert_eq!(on(outage(None)), [10, 11, 12, 13, 14]);
        assert_eq!(on(outage(Some(secs(20)))), [10, 11, 12, 13, 14, 30, 31, 32, 33, 34]);
    }
}
