//! Whether the server refuses requests at random, at any rate: then a lower rate is refused no less often.
//!
//! A rate that holds well below the cap and is refused now and then anyway is a sign of that. With other traffic on the quota,
//! a rate is refused when it climbs, or many times within a second.

use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;

/// The constants:
///
/// | constant | unit | meaning |
/// |---|---|---|
/// | `BELOW` | share of the cap | refusals of a rate that holds at this or less count |
/// | `NOW_AND_THEN` | accepted requests | a refusal after so many is a sign; one after fewer, or of a rate that climbs, takes away two |
/// | `SIGNS` | signs | so many show it |
/// | `LASTS` | time | for so long it is taken for granted |
const BELOW: f64 = 0.9;
const NOW_AND_THEN: RangeInclusive<u64> = 10..=199;
const SIGNS: u32 = 5;
const LASTS: Duration = Duration::from_secs(30 * 60);

/// What the refusals so far show.
#[derive(Default)]
pub(super) struct AtRandom {
    signs: u32,
    until: Option<Instant>,
}

impl AtRandom {
    /// Requests are refused at random.
    pub fn is_so(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A request was refused, after so many were accepted, while the rate held at this share of the cap or climbed from it.
    pub fn refused(&mut self, share: f64, has_climbed: bool, accepted_before: u64, now: Instant) {
        if share > BELOW || self.is_so(now) {
            return;
        }
        if has_climbed || accepted_before < *NOW_AND_THEN.start() {
            self.signs = self.signs.saturating_sub(2);
        } else if NOW_AND_THEN.contains(&accepted_before) {
            self.signs += 1;
        }
        if self.signs >= SIGNS {
            (self.signs, self.until) = (0, Some(now + LASTS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether refusals after so many accepted requests each, of a rate at this share, show that it is at random.
    fn shown(share: f64, accepted: impl IntoIterator<Item = u64>) -> bool {
        let (mut at_random, now) = (AtRandom::default(), Instant::now());
        accepted
            .into_iter()
            .for_each(|accepted| at_random.refused(share, false, accepted, now));
        at_random.is_so(now)
    }

    #[test]
    fn five_refusals_now_and_then_of_a_low_rate_show_it() {
        assert!(shown(0.9, [10, 199, 1000, 50, 60, 70]));
        assert!(!shown(0.9, [10, 199, 1000, 50, 60]));
        assert!(!shown(0.91, [50; 100]));
        assert!(!shown(0.5, [50, 50, 0].repeat(10)), "many at once are others");
        assert!(!shown(0.5, [200; 100]), "so rare that it costs nothing");
    }

    #[test]
    fn after_half_an_hour_it_has_to_be_shown_again() {
        let (mut at_random, zero) = (AtRandom::default(), Instant::now());
        (0..5).for_each(|_| at_random.refused(0.9, false, 50, zero));
        assert!(at_random.is_so(zero + LASTS - Duration::from_secs(1)));
        at_random.refused(0.9, false, 50, zero + LASTS);
        assert!(!at_random.is_so(zero + LASTS));
    }
}
