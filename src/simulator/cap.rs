//! The cap on requests: a maximum number in *any* one second.
//!
//! ZEGO does not document how it counts a second. A sliding window is the strictest way: a client within this cap is
//! also within a fixed window or a token bucket. Times are arguments, so tests need not wait.

use std::collections::VecDeque;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(1);

/// The arrivals within one second before the newest.
#[derive(Default)]
struct Window {
    arrivals: VecDeque<Duration>,
}

impl Window {
    /// Returns how many arrivals share a second with `now`. An arrival exactly one second ago does not.
    fn count(&mut self, now: Duration) -> usize {
        while self.arrivals.front().is_some_and(|&at| at + WINDOW <= now) {
            self.arrivals.pop_front();
        }
        self.arrivals.len()
    }
}

/// Admits requests under a cap. Only admitted requests count: a refused one uses up nothing.
pub(super) struct Cap {
    limit: usize,
    admitted: Window,
    competitor: Option<Competitor>,
}

/// Other traffic of the same app: evenly spaced requests that are never refused.
struct Competitor {
    interval: Duration,
    next: Duration,
}

impl Cap {
    /// Admits `limit` requests in any second (0: no cap), of which competing traffic uses `competing`.
    pub fn new(limit: u32, competing: f64) -> Cap {
        let competitor = (limit > 0 && competing > 0.0).then(|| {
            // Above some rate the cap is always full, and faster traffic changes nothing.
            let interval = Duration::from_secs_f64(1.0 / competing.clamp(1e-6, 1e4));
            Competitor {
                interval,
                next: interval,
            }
        });
        Cap {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            admitted: Window::default(),
            competitor,
        }
    }

    /// Whether a request that arrives at `now` is admitted. `now` counts from any fixed moment and must not decrease.
    pub fn admit(&mut self, now: Duration) -> bool {
        if self.limit == 0 {
            return true;
        }
        while let Some(at) = self.competitor.as_mut().and_then(|other| other.arrival(now)) {
            self.admitted.arrivals.push_back(at);
        }
        let admits = self.admitted.count(now) < self.limit;
        if admits {
            self.admitted.arrivals.push_back(now);
        }
        admits
    }
}

impl Competitor {
    /// Returns the next arrival that is due at `now`. After a pause it skips arrivals that are too old to matter.
    fn arrival(&mut self, now: Duration) -> Option<Duration> {
        if self.next + 2 * WINDOW < now {
            let late = (now - self.next - 2 * WINDOW).as_secs_f64() / self.interval.as_secs_f64();
            self.next += self.interval.mul_f64(late.floor());
        }
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.interval;
            due
        })
    }
}

/// Measures how many arrivals one second has.
#[derive(Default)]
pub(super) struct Peak {
    arrived: Window,
}

impl Peak {
    /// Records an arrival and returns how many there were in the second that ends with it.
    pub fn record(&mut self, now: Duration) -> u32 {
        self.arrived.arrivals.push_back(now);
        u32::try_from(self.arrived.count(now)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// How many of `times` lie in the half-open second that starts at `from`.
    fn in_second(times: &[Duration], from: Duration) -> usize {
        times.iter().filter(|&&at| at >= from && at < from + WINDOW).count()
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_the_cap_and_no_request_is_refused_below_it(
            limit in 1..6_u32,
            gaps in proptest::collection::vec(0..700_u64, 1..120),
        ) {
            let mut cap = Cap::new(limit, 0.0);
            let limit = usize::try_from(limit).unwrap();
            let mut now = Duration::ZERO;
            let mut admitted: Vec<Duration> = Vec::new();
            for gap in gaps {
                now += ms(gap);
                if cap.admit(now) {
                    admitted.push(now);
                } else {
                    let recent = admitted.iter().filter(|&&at| now - at < WINDOW).count();
                    prop_assert_eq!(recent, limit, "refused at {:?}", now);
                }
            }
            // The fullest second starts with an arrival.
            for &from in &admitted {
                prop_assert!(in_second(&admitted, from) <= limit);
            }
        }

        #[test]
        fn the_peak_is_the_fullest_second(gaps in proptest::collection::vec(0..700_u64, 1..60)) {
            let mut peak = Peak::default();
            let times: Vec<_> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(ms(*now)) }).collect();
            let measured = times.iter().map(|&at| peak.record(at)).max().unwrap();
            let fullest = times.iter().map(|&from| in_second(&times, from)).max().unwrap();
            prop_assert_eq!(usize::try_from(measured).unwrap(), fullest);
        }
    }

    #[test]
    fn capacity_is_free_again_after_exactly_one_second() {
        let mut cap = Cap::new(1, 0.0);
        assert!(cap.admit(ms(0)));
        assert!(!cap.admit(ms(999)));
        assert!(cap.admit(ms(1000)));
    }

    #[test]
    fn refused_requests_do_not_fill_the_window() {
        let mut cap = Cap::new(2, 0.0);
        let admitted: Vec<u64> = (0..=1000).filter(|&at| cap.admit(ms(at))).collect();
        assert_eq!(admitted, [0, 1, 1000]);
    }

    #[test]
    fn without_a_cap_every_request_is_admitted() {
        let mut cap = Cap::new(0, 50.0);
        assert!((0..1000).all(|_| cap.admit(ms(0))));
    }

    #[test]
    fn competing_traffic_takes_its_share() {
        let mut cap = Cap::new(20, 5.0);
        let admitted = (0..10_000).filter(|&at| cap.admit(ms(at))).count();
        assert!(
            (150..=155).contains(&admitted),
            "expected 15/s, got {admitted} in 10 seconds"
        );
    }

    #[test]
    fn a_long_pause_does_not_accumulate_competing_traffic() {
        let mut cap = Cap::new(20, 10_000.0);
        assert!(!cap.admit(Duration::from_secs(1_000_000)));
        let mut cap = Cap::new(20, 19.0);
        assert!(cap.admit(Duration::from_secs(1_000_000)));
    }
}
