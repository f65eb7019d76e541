//! Rate limits of servers.

use std::collections::VecDeque;

use crate::life::Limiter;

const SECOND: u64 = 1_000_000;

/// What a limiter has counted; times are in microseconds.
#[derive(Debug, Default)]
pub struct Counted {
    taken: VecDeque<u64>,
    /// GCRA: when the bucket is empty.
    empty_at: u64,
}

impl Counted {
    /// Whether a request at this time is taken.
    pub fn takes(&mut self, limiter: Limiter, now: u64) -> bool {
        match limiter {
            Limiter::None => true,
            Limiter::Sliding(cap) => self.takes_since(cap, now, now.saturating_sub(SECOND - 1)),
            Limiter::Fixed(cap) => self.takes_since(cap, now, now - now % SECOND),
            Limiter::Gcra(cap, burst) => {
                let interval = SECOND / u64::from(cap);
                let empty_at = self.empty_at.max(now);
                let is_taken = empty_at - now <= interval * u64::from(burst - 1) + interval / 10;
                if is_taken {
                    self.empty_at = empty_at + interval;
                }
                is_taken
            }
        }
    }

    fn takes_since(&mut self, cap: u32, now: u64, since: u64) -> bool {
        while self.taken.front().is_some_and(|at| *at < since) {
            self.taken.pop_front();
        }
        let is_taken = self.taken.len() < cap as usize;
        if is_taken {
            self.taken.push_back(now);
        }
        is_taken
    }
}
