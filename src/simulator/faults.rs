//! What goes wrong, by chance.
//!
//! Every request within the cap draws the same numbers, whatever the rates are: so a seed means the same run of luck
//! when one rate is changed, and the faults of one kind stay where they were.

use super::Options;
use super::codes::{APP_LIMITED, BUSY, Reply};
use fastrand::Rng;
use std::time::Duration;

/// Draws the faults and delays of one simulator.
pub(super) struct FaultInjector {
    faults: Rng,
    /// Apart from the faults, since requests that are turned away have delays too.
    delays: Rng,
}

/// What happens to one request that is within the cap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// It is answered so, and nothing is done.
    pub(super) instead: Option<Reply>,
    /// Its connection is reset.
    pub(super) reset: Option<Reset>,
}

/// What got lost with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    Request,
    Answer,
}

impl FaultInjector {
    pub(super) fn new(seed: u64) -> Self {
        let mut faults = Rng::with_seed(seed);
        let delays = faults.fork();
        Self { faults, delays }
    }

    pub(super) fn luck(&mut self, options: &Options) -> Fault {
        let rng = &mut self.faults;
        let reset = rng.f64() < options.reset_rate;
        let lost = if rng.bool() { Reset::Request } else { Reset::Answer };
        let limited = rng.f64() < options.limited_rate;
        let busy = rng.f64() < options.error_rate;
        let busy_reply = BUSY[rng.usize(..BUSY.len())];
        Fault {
            instead: if limited {
                Some(APP_LIMITED)
            } else {
                busy.then_some(busy_reply)
            },
            reset: reset.then_some(lost),
        }
    }

    /// From 0 up to `most`, evenly distributed.
    pub(super) fn delay(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            most
        } else {
            most.mul_f64(self.delays.f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(options: &Options, count: usize) -> Vec<Fault> {
        let mut chance = FaultInjector::new(options.seed);
        (0..count).map(|_| chance.luck(options)).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_gives_others() {
        let options = Options {
            error_rate: 0.5,
            reset_rate: 0.5,
            ..Options::default()
        };
        assert_eq!(draw(&options, 100), draw(&options, 100));
        assert_ne!(
            draw(&options, 100),
            draw(
                &Options {
                    seed: 1,
                    ..options.clone()
                },
                100
            )
        );
    }

    #[test]
    fn the_faults_of_one_kind_do_not_depend_on_the_rate_of_another() {
        let both = |error_rate, reset_rate| {
            let options = Options {
                error_rate,
                reset_rate,
                ..Options::default()
            };
            let luck = draw(&options, 100).into_iter();
            luck.map(|luck| (luck.instead, luck.reset))
                .unzip::<_, _, Vec<_>, Vec<_>>()
        };
        assert_eq!(both(0.0, 0.2).1, both(0.9, 0.2).1);
        assert_eq!(both(0.2, 0.0).0, both(0.2, 0.9).0);
    }

    #[test]
    fn rates_are_shares() {
        let share = |luck: &[Fault], is: fn(&Fault) -> bool| luck.iter().filter(|luck| is(luck)).count();
        let all = draw(
            &Options {
                error_rate: 1.0,
                ..Options::default()
            },
            1000,
        );
        assert!(
            BUSY.iter()
                .all(|busy| all.iter().any(|luck| luck.instead == Some(*busy)))
        );
        let some = draw(
            &Options {
                limited_rate: 0.1,
                reset_rate: 0.2,
                ..Options::default()
            },
            10_000,
        );
        assert!((900..1100).contains(&share(&some, |luck| luck.instead == Some(APP_LIMITED))));
        assert!((900..1100).contains(&share(&some, |luck| luck.reset == Some(Reset::Answer))));
        assert!((900..1100).contains(&share(&some, |luck| luck.reset == Some(Reset::Request))));
        let none = draw(&Options::default(), 1000);
        assert!(none.iter().all(|luck| luck.instead.is_none() && luck.reset.is_none()));
    }
}
