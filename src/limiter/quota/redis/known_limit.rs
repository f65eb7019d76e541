//! The limit that an operator has set, as the server's latest answer has it.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::limit::Limit;
use super::super::limit_entry::LimitEntry;
use crate::limiter::Rate;

/// The server says at least this often that a limit is in force, if it can be asked.
const CONFIRMED_FOR: Duration = Duration::from_secs(3);

/// The limit as far as is known.
#[derive(Debug, Default)]
pub(super) struct KnownLimit {
    /// Its text on the server.
    text: Vec<u8>,
    entry: Option<LimitEntry>,
    /// When the server has last said so.
    confirmed_at: Option<Instant>,
    has_warned: bool,
}

impl KnownLimit {
    /// Notes an answer: the limit, as the scripts read it, and its text. `ahead`: how far this machine's clock is ahead of
    /// the server's, in milliseconds.
    pub fn note(&mut self, limit: &str, text: Vec<u8>, ahead: i64) {
        self.confirmed_at = Some(Instant::now());
        // Its end would seem to move if it were converted again and again.
        if text == self.text {
            return;
        }
        self.entry = entry(limit, &String::from_utf8_lossy(&text), ahead);
        if self.entry.is_none() && !text.is_empty() && !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(
                "the limit by 'zim-batch quota' on the quota server can't be read, so there is none; set it again with \
                 'zim-batch quota --limit'"
            );
        }
        self.text = text;
    }

    /// The limit in force. The server decides when it ends, by its clock, unless it can't be asked.
    pub fn limit(&self) -> Option<Limit> {
        let limit = self.entry.as_ref()?.limit;
        let is_confirmed = self.confirmed_at.is_some_and(|at| at.elapsed() <= CONFIRMED_FOR);
        let is_over = limit.until.is_some_and(|until| until <= SystemTime::now());
        (is_confirmed || !is_over).then_some(limit)
    }

    /// The entry, if there is a limit; or that what is in this key is none, and what to do.
    pub fn into_entry(self, key: &str) -> Result<Option<LimitEntry>, String> {
        if self.entry.is_none() && !self.text.is_empty() {
            return Err(format!(
                "what is in the key {key} is no limit; set it again with 'zim-batch quota --limit', or remove the key (DEL {key})"
            ));
        }
        Ok(self.entry)
    }
}

/// The entry, with the limit that the scripts apply. Times are by this machine's clock.
fn entry(limit: &str, text: &str, ahead: i64) -> Option<LimitEntry> {
    let limit: f64 = limit.parse().ok()?;
    let rate = match limit {
        0.0 => None,
        limit => Some(Rate::try_from(limit).ok()?),
    };
    let entry = LimitEntry::parse(text)?;
    let until = entry.limit.until.map(|until| shifted(until, ahead));
    Some(LimitEntry {
        limit: Limit::new(rate, until),
        ..entry
    })
}

/// The time, later by so many milliseconds.
pub(super) fn shifted(time: SystemTime, by: i64) -> SystemTime {
    let duration = Duration::from_millis(by.unsigned_abs());
    let shifted = if by < 0 {
        time.checked_sub(duration)
    } else {
        time.checked_add(duration)
    };
    shifted.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::milliseconds;

    #[tokio::test(start_paused = true)]
    async fn the_end_is_by_this_machine_s_clock_stays_where_it_is_and_counts_if_the_server_is_silent() {
        let second = Duration::from_secs(1);
        let now = SystemTime::now();
        let text = |until: SystemTime| format!("{{\"limit\":5,\"until\":{}}}", milliseconds(until)).into_bytes();
        let until = |known: &KnownLimit| known.limit().and_then(|limit| limit.until).map(milliseconds);
        let mut known = KnownLimit::default();
        // The server's clock is an hour behind.
        let ahead = 3_600_000;
        known.note("5", text(now - 3590 * second), ahead);
        assert_eq!(until(&known), Some(milliseconds(now + 10 * second)));
        known.note("5", text(now - 3590 * second), ahead + 20);
        assert_eq!(until(&known), Some(milliseconds(now + 10 * second)));
        // The server decides: its clock may have gone back.
        known.note("5", text(now - 3600 * second), 0);
        tokio::time::advance(2 * second).await;
        assert!(known.limit().is_some());
        known.note("5", text(now - 3600 * second), 0);
        tokio::time::advance(2 * second).await;
        assert!(known.limit().is_some());
        // It can't be asked.
        tokio::time::advance(2 * second).await;
        assert_eq!(known.limit(), None);
        // The scripts have the last word about the number.
        known.note("0", text(now + second), 0);
        assert_eq!(known.limit().map(|limit| limit.rate), Some(None));
        known.note("", Vec::new(), 0);
        assert_eq!(known.limit(), None);
    }
}
