//! The users with the most rows that are not cleared, in bounded memory.
//!
//! Counts are exact for up to [`MAX_USERS`] such users. Beyond that this is the Misra-Gries summary in its batched form,
//! as frequent-items sketches use it: the smaller half of the users is dropped, and the maximum error is known.

use std::collections::HashMap;

use foldhash::quality::FixedState;
use serde::Serialize;

use crate::reasons::shortened;
use crate::row::Outcome;

/// The maximum number of users that are counted at a time.
const MAX_USERS: usize = 100_000;

/// The maximum length of a user, in bytes. One that was sent has at most 32.
const MAX_USER: usize = 128;

/// A user, with the rows that were not cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UserRows {
    /// The user, exactly as in the report.
    pub user: String,
    /// Rows that failed.
    pub failed: u64,
    /// Rows whose conversation is not reachable.
    pub outside: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    failed: u32,
    outside: u32,
    /// The user is dropped when this reaches 0.
    credit: u32,
}

/// Counts users.
#[derive(Debug, Clone, Default)]
pub(super) struct Users {
    users: HashMap<Box<str>, Count, FixedState>,
    missed: u64,
}

impl Users {
    pub fn insert(&mut self, user: &str, outcome: Outcome) {
        let user = shortened(user, MAX_USER);
        let add = |count: &mut Count| {
            let rows = match outcome {
                Outcome::Failed => &mut count.failed,
                _ => &mut count.outside,
            };
            *rows = rows.saturating_add(1);
            count.credit = count.credit.saturating_add(1);
        };
        match self.users.get_mut(user) {
            Some(count) => add(count),
            None => {
                add(self.users.entry(user.into()).or_default());
                if self.users.len() > MAX_USERS {
                    self.drop_half();
                }
            }
        }
    }

    /// Subtracts the median from all credits, and drops users without credit.
    fn drop_half(&mut self) {
        let mut credits: Vec<u32> = self.users.values().map(|count| count.credit).collect();
        let middle = credits.len() / 2;
        let (_, &mut median, _) = credits.select_nth_unstable(middle);
        self.users.retain(|_, count| {
            count.credit = count.credit.saturating_sub(median);
            count.credit > 0
        });
        self.missed += u64::from(median);
    }

    /// The `max` users with the most rows, in that order, and how many more rows any user may have.
    pub fn top(self, max: usize) -> (Vec<UserRows>, u64) {
        let mut users: Vec<UserRows> = self
            .users
            .into_iter()
            .map(|(user, count)| UserRows {
                user: user.into(),
                failed: count.failed.into(),
                outside: count.outside.into(),
            })
            .collect();
        let by_rows = |one: &UserRows, other: &UserRows| {
            let rank = |user: &UserRows| (user.failed + user.outside, user.failed);
            rank(other).cmp(&rank(one)).then_with(|| one.user.cmp(&other.user))
        };
        if users.len() > max {
            users.select_nth_unstable_by(max, by_rows);
            users.truncate(max);
        }
        users.sort_unstable_by(by_rows);
        (users, self.missed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_users_than_the_maximum_cost_the_busiest_at_most_the_stated_error() {
        let mut users = Users::default();
        for number in 0..5 * MAX_USERS {
            users.insert(&format!("user{number}"), Outcome::Failed);
            if number % 1000 == 0 {
                users.insert("busy", Outcome::Outside);
                users.insert("busy", Outcome::Failed);
            }
        }
        let (top, missed) = users.top(3);
        assert_eq!(top[0].user, "busy");
        assert!(missed > 0 && missed < 20, "{missed}");
        for count in [top[0].failed, top[0].outside] {
            assert!((500 - missed..=500).contains(&count), "{top:?}");
        }
    }

    #[test]
    fn users_with_most_rows_come_first_and_equal_ones_are_sorted_by_name() {
        let mut users = Users::default();
        for (user, outcome) in [
            ("b", Outcome::Outside),
            ("a", Outcome::Outside),
            ("c", Outcome::Failed),
            ("d", Outcome::Outside),
            ("d", Outcome::Outside),
        ] {
            users.insert(user, outcome);
        }
        let names = |most| {
            let (top, missed) = users.clone().top(most);
            assert_eq!(missed, 0);
            top.into_iter().map(|user| user.user).collect::<String>()
        };
        assert_eq!((names(9).as_str(), names(2).as_str()), ("dcab", "dc"));
    }
}
