//! A limit as it is kept for the runs that share a quota: with who has set it, and when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::Rate;
use super::limit::Limit;
use super::presence::cleaned;
use crate::host::{host_name, user_name};
use crate::text::milliseconds;

/// A limit without an end is kept for as long after it was last in use.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// No limit lasts beyond the year 2099. In milliseconds since 1970.
const MAX_UNTIL: i64 = 4_102_444_800_000;

/// The limit that an operator has set, as the runs that share the quota find it.
///
/// Its text, in a file or in Redis, may have been written by anybody. What was read is safe to show.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LimitEntry {
    /// The limit.
    pub limit: Limit,
    /// When it was set, by the clock of the machine on which it was set.
    pub set_at: SystemTime,
    /// Who has set it: `user@host`; empty if that is not known.
    pub by: String,
}

/// Its text: JSON. Times are in milliseconds since 1970. A limit of 0 is a pause.
#[derive(Serialize, Deserialize)]
struct Text {
    limit: f64,
    #[serde(default)]
    until: Option<i64>,
    #[serde(default)]
    set_at: i64,
    #[serde(default)]
    by: String,
}

impl LimitEntry {
    /// The entry of a limit that the user of this process sets now.
    pub fn new(limit: Limit) -> LimitEntry {
        LimitEntry {
            limit,
            set_at: SystemTime::now(),
            by: cleaned(&format!("{}@{}", user_name(), host_name())),
        }
    }

    /// Reads the text of an entry; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<LimitEntry> {
        let text: Text = serde_json::from_str(text.lines().next()?).ok()?;
        let rate = match text.limit {
            0.0 => None,
            limit => Some(Rate::try_from(limit).ok()?),
        };
        let until = match text.until {
            Some(until) => Some(time(until)?),
            None => None,
        };
        Some(LimitEntry {
            limit: Limit::new(rate, until),
            set_at: time(text.set_at)?,
            by: cleaned(&text.by),
        })
    }

    /// The text of the entry: JSON in one line.
    pub(super) fn to_text(&self) -> String {
        let text = Text {
            limit: self.limit.rate.map_or(0.0, Rate::per_second),
            until: self.limit.until.map(|until| milliseconds(until).min(MAX_UNTIL)),
            set_at: milliseconds(self.set_at),
            by: self.by.clone(),
        };
        serde_json::to_string(&text).expect("it has only text and numbers")
    }
}

/// A time that a limit can have.
fn time(since_1970: i64) -> Option<SystemTime> {
    let since_1970 = u64::try_from(since_1970).ok().filter(|_| since_1970 <= MAX_UNTIL)?;
    Some(UNIX_EPOCH + Duration::from_millis(since_1970))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_and_says_who_has_set_it() {
        let until = UNIX_EPOCH + Duration::from_millis(1_800_000_000_123);
        for limit in [
            Limit::new(Some(Rate::default()), Some(until)),
            Limit::new(Some(0.5.try_into().unwrap()), None),
            Limit::new(None, None),
        ] {
            let entry = LimitEntry {
                set_at: until,
                ..LimitEntry::new(limit)
            };
            assert_eq!(LimitEntry::parse(&entry.to_text()), Some(entry.clone()));
            assert_eq!(entry.by, format!("{}@{}", user_name(), host_name()));
        }
    }

    #[test]
    fn a_text_that_is_no_limit_is_none_and_what_is_hostile_is_harmless() {
        for text in [
            "",
            "5",
            "{}",
            "[]",
            "null",
            "{\"limit\":-1}",
            "{\"limit\":1e400}",
            "{\"limit\":NaN}",
            "{\"limit\":0.0001}",
            "{\"limit\":\"5\"}",
            "{\"limit\":5,\"until\":-1}",
            "{\"limit\":5,\"until\":9223372036854775807}",
            "{\"limit\":5,\"set_at\":9223372036854775807}",
            "\n{\"limit\":5}",
        ] {
            assert_eq!(LimitEntry::parse(text), None, "{text}");
        }
        let entry = LimitEntry::parse("{\"limit\":0,\"by\":\"a\\u001b[2J\",\"more\":1}\nmore").unwrap();
        assert_eq!(
            (entry.limit, entry.by.as_str()),
            (Limit::new(None, None), "a\\u{1b}[2J")
        );
        let long = format!("{{\"limit\":5,\"by\":\"{}\"}}", "x".repeat(50_000));
        assert!(LimitEntry::parse(&long).unwrap().by.len() < 1000);
    }
}
