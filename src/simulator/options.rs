//! How the simulated service behaves: its app, its limits, its network and its bad days.

use secrecy::SecretString;
use std::io;
use std::time::Duration;

/// The app, the limits and the faults of a simulator.
///
/// The default is a healthy service with the documented limits. Change what a test or a trial is about:
///
/// ```
/// use std::time::Duration;
/// use zim_batch::simulator::Options;
///
/// let busy_evening = Options { error_rate: 0.05, competing: 8.0, jitter: Duration::from_millis(200), ..Options::default() };
/// assert_eq!(busy_evening.cap, 20);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The one app that exists. Others are answered 100000011. Default: 12345, as in the documents' signature example.
    pub app_id: u32,
    /// The app's server secret; `Debug` does not show it. Default: that of the documents' signature example.
    pub server_secret: SecretString,
    /// At most this many requests are let through in any second, however the second is placed; what comes on top is
    /// answered with code 7 and does not itself count. 0: no cap. Default: 20, ZEGO's default for this API.
    pub cap: u32,
    /// How many of a user's newest conversations are reachable; others are answered 660800002. ZEGO can raise it for an
    /// app. Default: 1000.
    pub newest: usize,
    /// How long an answer takes at least. Default: 30 ms.
    pub latency: Duration,
    /// An answer takes up to this much longer, evenly distributed. Default: 0.
    pub jitter: Duration,
    /// A request is on its way up to this long before it is counted against the cap, evenly distributed: requests that
    /// left evenly arrive unevenly, as on a network. Default: 0.
    pub arrival_jitter: Duration,
    /// Other requests a second that the same app makes, evenly spaced: they draw on the cap too, and are
    /// never refused themselves, so that this much less is left however hard one tries. 0 to 10 000; without effect when
    /// there is no cap. Default: 0.
    pub competing: f64,
    /// The share, 0 to 1, of requests within the cap that are answered with one of the documented "try again later"
    /// codes, chosen at random, and change nothing. Default: 0.
    pub error_rate: f64,
    /// The share, 0 to 1, of requests within the cap that are answered 660300005 (AppID-level call frequency exceeded)
    /// all the same, and change nothing. Default: 0.
    pub limited_rate: f64,
    /// The share, 0 to 1, of requests within the cap whose connection is reset before an answer. In half of these cases
    /// the request is lost, in the other half it is carried out and the answer is lost. Default: 0.
    pub reset_rate: f64,
    /// When the whole service is down. Default: never.
    pub outage: Option<Outage>,
    /// When set, requests over the cap are turned away as a gateway in front of the service might do it: HTTP 429
    /// without JSON, with `Retry-After` in seconds, rounded up. ZEGO documents no such thing. Default: not set.
    pub retry_after: Option<Duration>,
    /// How many seconds the service's clock is ahead of this machine's (negative: behind). It decides whether a
    /// `Timestamp` is right and is shown in the `Date` header and the events. The clock stays between the years 1970
    /// and 9999. Default: 0.
    pub clock_offset: i64,
    /// Where all randomness starts: with the same seed, the same requests processed in the same order meet the same
    /// faults. Default: 0.
    pub seed: u64,
}

/// A time in which the whole service is down. Requests of that time are not counted against the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// It begins this long after [`serve`](super::serve) was called.
    pub after: Duration,
    /// It ends this long after it began.
    pub lasts: Duration,
    /// It comes again, this long after it began. `None`: it happens once.
    pub every: Option<Duration>,
    /// What requests meet meanwhile.
    pub kind: OutageKind,
}

/// What a request meets during an [`Outage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// An HTTP 503 without JSON, after the usual latency.
    Unavailable,
    /// The connection is reset at once, without an answer.
    Reset,
}

impl Default for Options {
    fn default() -> Self {
        Self {
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
    /// Are all numbers within their ranges?
    pub(super) fn check(&self) -> io::Result<()> {
        for (name, value, most) in [
            ("error_rate", self.error_rate, 1.0),
            ("limited_rate", self.limited_rate, 1.0),
            ("reset_rate", self.reset_rate, 1.0),
            ("competing", self.competing, 10_000.0),
        ] {
            if !(0.0..=most).contains(&value) {
                let text = format!("the simulator's {name} is {value}; expected 0 to {most}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(())
    }
}

impl Outage {
    /// Is the service down, so long after it was started?
    pub(super) fn is_on(&self, running_for: Duration) -> bool {
        let Some(since) = running_for.checked_sub(self.after) else {
            return false;
        };
        let since = match self.every {
            Some(every) if !every.is_zero() => remainder(since, every),
            _ => since,
        };
        since < self.lasts
    }
}

/// What is left of `time` after as many whole `part`s as fit.
fn remainder(time: Duration, part: Duration) -> Duration {
    let nanos = time.as_nanos() % part.as_nanos();
    let seconds = u64::try_from(nanos / 1_000_000_000).expect("the rest is no longer than the whole");
    let below = u32::try_from(nanos % 1_000_000_000).expect("a billion fits");
    Duration::new(seconds, below)
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
    fn an_outage_is_on_from_its_beginning_until_before_its_end_and_comes_again() {
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
