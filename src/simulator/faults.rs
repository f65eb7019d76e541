//! Random faults and delays.
//!
//! Each request within the cap draws the same random numbers, whatever the rates are. So with the same seed, changing
//! one rate does not move the faults of another kind.

use super::codes::{APP_LIMITED, BUSY, Reply};
use super::options::Options;
use fastrand::Rng;
use std::time::Duration;

/// Draws the faults and delays of one simulator.
pub(super) struct FaultInjector {
    faults: Rng,
    /// Separate from the faults, because refused requests have delays too.
    delays: Rng,
}

/// What goes wrong with one request within the cap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The request changes nothing and is answered with this.
    pub(super) reply: Option<Reply>,
    /// The connection is reset.
    pub(super) reset: Option<Reset>,
}

/// What is lost with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    RequestLost,
    AnswerLost,
}

impl FaultInjector {
    pub(super) fn new(seed: u64) -> Self {
        let mut faults = Rng::with_seed(seed);
        let delays = faults.fork();
        Self { faults, delays }
    }

    pub(super) fn draw(&mut self, options: &Options) -> Fault {
        let rng = &mut self.faults;
        let reset = rng.f64() < options.reset_rate;
        let kind = if rng.bool() {
            Reset::RequestLost
        } else {
            Reset::AnswerLost
        };
        let limited = rng.f64() < options.limited_rate;
        let busy = rng.f64() < options.error_rate;
        let busy_reply = BUSY[rng.usize(..BUSY.len())];
        Fault {
            reply: if limited {
                Some(APP_LIMITED)
            } else {
                busy.then_some(busy_reply)
            },
            reset: reset.then_some(kind),
        }
    }

    /// Draws a delay, uniform from 0 up to `max`.
    pub(super) fn delay(&mut self, max: Duration) -> Duration {
        if max.is_zero() {
            max
        } else {
            max.mul_f64(self.delays.f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(options: &Options, count: usize) -> Vec<Fault> {
        let mut injector = FaultInjector::new(options.seed);
        (0..count).map(|_| injector.draw(options)).collect()
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
            let faults = draw(&options, 100).into_iter();
            faults
                .map(|fault| (fault.reply, fault.reset))
                .unzip::<_, _, Vec<_>, Vec<_>>()
        };
        assert_eq!(both(0.0, 0.2).1, both(0.9, 0.2).1);
        assert_eq!(both(0.2, 0.0).0, both(0.2, 0.9).0);
    }

    #[test]
    fn rates_are_kept() {
        let count = |faults: &[Fault], is: fn(&Fault) -> bool| faults.iter().filter(|fault| is(fault)).count();
        let all = draw(
            &Options {
                error_rate: 1.0,
                ..Options::default()
            },
            1000,
        );
        assert!(
            BUSY.iter()
                .all(|busy| all.iter().any(|fault| fault.reply == Some(*busy)))
        );
        let some = draw(
            &Options {
                limited_rate: 0.1,
                reset_rate: 0.2,
                ..Options::default()
            },
            10_000,
        );
        assert!((900..1100).contains(&count(&some, |fault| fault.reply == Some(APP_LIMITED))));
        assert!((900..1100).contains(&count(&some, |fault| fault.reset == Some(Reset::AnswerLost))));
        assert!((900..1100).contains(&count(&some, |fault| fault.reset == Some(Reset::RequestLost))));
        let none = draw(&Options::default(), 1000);
        assert!(none.iter().all(|fault| fault.reply.is_none() && fault.reset.is_none()));
    }
}
