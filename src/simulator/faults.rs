//! Random faults and delays.
//!
//! Each request within the cap draws the same random numbers, whatever the rates are. So with the same seed, changing
//! one rate does not move the faults of another kind. The faults of single users have a generator of their own for each
//! request, so it does not matter either how many users a request asks for.

use std::time::Duration;

use fastrand::Rng;

use super::codes::{APP_LIMITED, BUSY, Reply};
use super::options::Options;

/// Draws the faults and delays of one simulator.
pub(super) struct FaultInjector {
    faults: Rng,
    /// Separate from the faults, because refused requests have delays too.
    delays: Rng,
    /// Separate from the faults, so that the requests' faults are the same whether or not users are queried.
    users: Rng,
}

/// What goes wrong with one request within the cap.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    /// The request changes nothing and is answered with this.
    pub reply: Option<Reply>,
    /// The connection is reset.
    pub reset: Option<Reset>,
    /// What goes wrong with the users that the request asks for.
    pub users: UserFaults,
}

/// Draws which users of one request can't be looked up.
#[derive(Debug, PartialEq)]
pub(super) struct UserFaults {
    rng: Rng,
    rate: f64,
}

/// What is lost with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reset {
    RequestLost,
    AnswerLost,
}

impl FaultInjector {
    pub fn new(seed: u64) -> FaultInjector {
        let mut faults = Rng::with_seed(seed);
        let delays = faults.fork();
        let users = delays.clone().fork();
        FaultInjector { faults, delays, users }
    }

    pub fn draw(&mut self, options: &Options) -> Fault {
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
            users: UserFaults {
                rng: self.users.fork(),
                rate: options.error_rate,
            },
        }
    }

    /// Draws a delay, uniform from 0 up to `max`.
    pub fn delay(&mut self, max: Duration) -> Duration {
        if max.is_zero() {
            max
        } else {
            max.mul_f64(self.delays.f64())
        }
    }
}

impl UserFaults {
    /// Whether the next user can't be looked up.
    pub fn draw(&mut self) -> bool {
        self.rng.f64() < self.rate
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
    fn users_fail_independently_of_each_other_and_of_other_requests() {
        let options = |error_rate| Options {
            error_rate,
            ..Options::default()
        };
        let users = |rate: f64, count: usize| {
            let faults = draw(&options(rate), 100).into_iter();
            let drawn = faults.map(|mut fault| (0..count).map(|_| fault.users.draw()).collect::<Vec<_>>());
            drawn.collect::<Vec<_>>()
        };
        let failed = users(0.1, 100).concat().into_iter().filter(|&failed| failed).count();
        assert!((900..1100).contains(&failed), "{failed}");
        assert!(
            users(0.5, 10)
                .iter()
                .zip(users(0.5, 20))
                .all(|(few, many)| *few == many[..10])
        );
        assert!(!users(0.0, 10).concat().contains(&true) && !users(1.0, 10).concat().contains(&false));
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
