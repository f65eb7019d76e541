//! Turns: runs for one app on one machine share one quota, so only one of them sends at a time.
//!
//! A turn is a kernel lock on a small file; it ends with the process. The file names the holder of the turn, for waiting
//! runs, and has the times of the last requests, so that the next run counts them within the same second. It is removed
//! when it is no longer needed.
//!
//! # Location
//! `/tmp`, regardless of `TMPDIR` and `XDG_RUNTIME_DIR`, because runs from cron, from a terminal and of different users
//! must share the file. All runs of an app must use the same directory ([`Quota::in_directory`]). Other users' files there
//! can cause a warning and nothing else: see the module `lock_file`.
//!
//! # Name
//! The quota is the app's, whatever host name is used: the regional hosts, `zim-api.zego.im` and a custom domain all
//! lead to the same app and share one limit. So the file is named after the app alone. A server on a loopback address is
//! not ZEGO but a stand-in: there is one file per port, whatever the spelling of the address.

mod lock_file;

use std::fmt::Write as _;
use std::io;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep, sleep_until};
use url::{Host, Url};

use crate::limiter::Limiter;
use lock_file::{LockFile, Locking, MAX_TEXT};

/// The default directory of the files.
const DIRECTORY: &str = "/tmp";

/// How often a waiting run tries to take the turn.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// How often a run checks that its file is still in place.
const CHECK_EVERY: Duration = Duration::from_millis(400);

/// The minimum time between two messages about the same matter.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// The maximum length of a holder's name that is written or shown, in characters.
const MAX_HOLDER: usize = 300;

/// The window of the cap: earlier starts don't matter.
const SECOND: Duration = Duration::from_secs(1);

/// How much the network may reduce the time between the requests of two runs.
const JITTER: Duration = Duration::from_millis(5);

/// The right to use the app's quota, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Turn {
    quota: Quota,
    /// `None` only while the value is dropped.
    file: Option<LockFile>,
    /// The description of this run, for others.
    holder: String,
    /// Whether the file names the holder.
    is_named: bool,
    /// The starts that were last written to the file.
    written: Vec<Instant>,
    checked_at: Instant,
    /// Limits the warnings about a removed or replaced file: that it was created again, and why it can't be.
    warnings: [MessageLimiter; 2],
}

/// Why a run can't use the app's quota as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// Another run is using it.
    #[error("{by} uses the same app's quota")]
    Held {
        /// The description of that run.
        by: String,
    },
    /// No file can be locked, so other runs are not detected.
    #[error(
        "{}: can't be used as a lock file ({source}), so other runs of this app on this machine are not detected; together \
         with one of them this run may exceed the app's limit", .path.display()
    )]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The quota that all runs of one app on this machine share.
#[derive(Debug, Clone)]
pub struct Quota {
    path: PathBuf,
}

/// The result of trying to take the turn.
enum TryTurn {
    Taken(Turn),
    /// The description of the holder.
    Held(String),
}

/// Suppresses repeated messages: one is due if its text has changed, at most once per [`REPORT_EVERY`].
#[derive(Debug, Default)]
struct MessageLimiter {
    last: Option<(String, Instant)>,
}

impl MessageLimiter {
    /// Whether to show the message now.
    fn is_due(&mut self, text: &str) -> bool {
        let is_due = match &self.last {
            None => true,
            Some((last, at)) => last != text && at.elapsed() >= REPORT_EVERY,
        };
        if is_due {
            self.last = Some((text.to_owned(), Instant::now()));
        }
        is_due
    }
}

impl Quota {
    /// The quota of an app. A stand-in on a loopback `endpoint` has its own.
    pub fn new(app_id: u32, endpoint: &Url) -> Quota {
        let name = match loopback_port(endpoint) {
            Some(port) => format!("zim-batch-{app_id}-loopback-{port}.lock"),
            None => format!("zim-batch-{app_id}.lock"),
        };
        Quota {
            path: Path::new(DIRECTORY).join(name),
        }
    }

    /// Uses another directory than `/tmp`. Runs that use different directories don't detect each other.
    #[must_use]
    pub fn in_directory(self, directory: &Path) -> Quota {
        let name = self.path.file_name().unwrap_or_default();
        Quota {
            path: directory.join(name),
        }
    }

    /// Waits for the turn. `holder` describes this run to others. `waits_for` is called with the description of the run
    /// that it waits for, at most once per minute.
    ///
    /// # Errors
    /// [`QuotaError::Unusable`] if no file can be locked.
    pub async fn take_turn(&self, holder: &str, waits_for: impl Fn(&str)) -> Result<Turn, QuotaError> {
        let mut message = MessageLimiter::default();
        loop {
            match self.take_turn_now(holder) {
                Err(QuotaError::Held { by }) => {
                    if message.is_due(&by) {
                        waits_for(&by);
                    }
                }
                taken => return taken,
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// Takes the turn if it is free; does not wait.
    ///
    /// # Errors
    /// [`QuotaError::Held`] if another run has it, and [`QuotaError::Unusable`] if no file can be locked.
    pub fn take_turn_now(&self, holder: &str) -> Result<Turn, QuotaError> {
        match self.try_turn(holder) {
            Ok(TryTurn::Taken(turn)) => Ok(turn),
            Ok(TryTurn::Held(by)) => Err(QuotaError::Held { by }),
            Err(source) => Err(self.unusable(source)),
        }
    }

    fn try_turn(&self, holder: &str) -> io::Result<TryTurn> {
        Ok(match LockFile::try_lock(&self.path)? {
            Locking::Locked(file) => TryTurn::Taken(Turn {
                quota: self.clone(),
                file: Some(file),
                holder: cleaned(holder),
                is_named: false,
                written: Vec::new(),
                checked_at: Instant::now(),
                warnings: Default::default(),
            }),
            Locking::Held(text) => {
                let other = cleaned(text.lines().next().unwrap_or_default());
                TryTurn::Held(if other.is_empty() {
                    "another run".to_owned()
                } else {
                    other
                })
            }
        })
    }

    fn unusable(&self, source: io::Error) -> QuotaError {
        QuotaError::Unusable {
            path: self.path.clone(),
            source,
        }
    }
}

/// The port, if the endpoint is on a loopback address in any spelling.
fn loopback_port(endpoint: &Url) -> Option<u16> {
    let is_loopback = match endpoint.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => {
            address == Ipv6Addr::LOCALHOST || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
        Host::Domain(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    };
    is_loopback.then(|| endpoint.port_or_known_default().unwrap_or_default())
}

/// Makes untrusted text safe to show on a terminal: one line, without control or hidden characters.
fn cleaned(text: &str) -> String {
    let shown = |c: char| {
        let is_hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || is_hidden { '\u{fffd}' } else { c }
    };
    text.trim().chars().take(MAX_HOLDER).map(shown).collect()
}

impl Turn {
    /// The starts of the last seconds that the previous run has written to the file.
    pub fn earlier_starts(&self) -> Vec<Instant> {
        let text = self.file.as_ref().map(LockFile::read).unwrap_or_default();
        let now = (Instant::now(), since_epoch());
        text.lines()
            .nth(1)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|millis| {
                let ago = now.1.checked_sub(Duration::from_millis(millis.parse().ok()?))?;
                (ago < 2 * SECOND).then(|| now.0.checked_sub(ago))?
            })
            .collect()
    }

    /// Writes the times of the last requests to the file. Best effort: without it, the cap may be exceeded for a moment
    /// between two runs.
    pub fn write_down(&mut self, starts: &[Instant]) {
        if self.is_named && self.written == starts {
            return;
        }
        let now = (Instant::now(), since_epoch());
        let mut text = format!("{}\n", self.holder);
        // No more than is read back. At hundreds of starts per second the oldest don't matter.
        let room = MAX_TEXT.saturating_sub(text.len()) / 16;
        for start in &starts[starts.len().saturating_sub(room)..] {
            let at = now.1.saturating_sub(now.0.saturating_duration_since(*start));
            // Writing to a String does not fail.
            let _ = write!(text, "{} ", at.as_millis());
        }
        text.push('\n');
        if let Some(file) = &self.file {
            file.write(&text);
        }
        (self.is_named, self.written) = (true, starts.to_vec());
    }

    /// Checks regularly that the file is still in place; call it several times per second. If the file was removed or
    /// replaced, takes the turn again; while another run has it, no request starts.
    pub fn keep(&mut self, limiter: &Limiter) {
        if self.checked_at.elapsed() < CHECK_EVERY {
            return;
        }
        self.checked_at = Instant::now();
        if self.file.as_ref().is_some_and(LockFile::is_in_place) {
            return;
        }
        let [created_again, not_created] = &mut self.warnings;
        match self.quota.try_turn(&self.holder) {
            Ok(TryTurn::Taken(mut turn)) => {
                if created_again.is_due("") {
                    tracing::warn!(
                        "{}: this lock file was removed or replaced during the run; it was created again",
                        self.quota.path.display()
                    );
                }
                turn.warnings = std::mem::take(&mut self.warnings);
                limiter.record_external(&turn.earlier_starts());
                turn.write_down(&limiter.recent_starts());
                *self = turn;
            }
            Ok(TryTurn::Held(other)) => {
                limiter.pause_until(Instant::now() + 2 * CHECK_EVERY);
                if not_created.is_due(&other) {
                    tracing::warn!(
                        "{}: this lock file was removed or replaced during the run, and {other} now uses the \
                         same app's quota: waiting for it",
                        self.quota.path.display()
                    );
                }
            }
            Err(error) => {
                if not_created.is_due(&error.to_string()) {
                    tracing::warn!("{}", self.quota.unusable(error));
                }
            }
        }
    }

    /// Ends the turn when the next run may start its first request: `1 / rate` seconds after the last start of this run,
    /// at most one second. The file is then no longer needed, and is removed.
    pub async fn end(mut self, limiter: &Limiter) {
        if let Some(last) = limiter.recent_starts().last() {
            let spacing = (SECOND + JITTER).div_f64(limiter.rate().max(1.0));
            sleep_until(*last + spacing).await;
        }
        self.write_down(&[]);
    }
}

impl Drop for Turn {
    /// Removes the file, unless the next run needs the times in it.
    fn drop(&mut self) {
        let is_needed = self.earlier_starts().iter().any(|start| start.elapsed() < SECOND);
        if let Some(file) = self.file.take()
            && !is_needed
        {
            file.remove();
        }
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn quota(app_id: u32) -> (Quota, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("{app_id}.lock"));
        (Quota { path }, directory)
    }

    fn turn(quota: &Quota, holder: &str) -> Turn {
        quota.take_turn_now(holder).unwrap()
    }

    #[test]
    fn one_run_at_a_time_has_the_turn_and_the_next_is_told_which() {
        let (quota, _directory) = quota(1);
        let mut first = turn(&quota, "process 17, report a.csv");
        first.write_down(&[]);
        let refused = quota.take_turn_now("process 18").unwrap_err();
        assert!(matches!(refused, QuotaError::Held { .. }), "{refused}");
        assert!(refused.to_string().contains("process 17, report a.csv"), "{refused}");
        drop(first);
        turn(&quota, "process 18");
    }

    #[test]
    fn the_starts_of_the_last_second_are_passed_to_the_next_run() {
        let (quota, _directory) = quota(2);
        let now = Instant::now();
        let starts = [Duration::from_millis(700), Duration::from_millis(40)].map(|ago| now.checked_sub(ago).unwrap());
        let mut first = turn(&quota, "one");
        first.write_down(&starts);
        drop(first);
        let passed_on = turn(&quota, "two").earlier_starts();
        assert_eq!(passed_on.len(), 2);
        for (written, read) in starts.iter().zip(&passed_on) {
            let off = written.saturating_duration_since(*read) + read.saturating_duration_since(*written);
            assert!(off < Duration::from_millis(3), "{off:?}");
        }
    }

    #[test]
    fn one_quota_for_an_app_whatever_its_endpoint_is_called_and_one_for_each_stand_in_on_loopback() {
        let path = |app_id, endpoint: &str| Quota::new(app_id, &endpoint.parse().unwrap()).path;
        for zego in [
            "https://zim-api.zego.im:443/",
            "https://ZIM-API.zego.im./",
            "https://zim-api-fra.zego.im",
            "https://zim.example.com:8443/path",
        ] {
            assert_eq!(path(1, "https://zim-api.zego.im"), path(1, zego), "{zego}");
        }
        assert_ne!(path(1, "https://zim-api.zego.im"), path(2, "https://zim-api.zego.im"));
        for loopback in [
            "http://LOCALHOST:80/",
            "http://localhost.",
            "http://[::1]",
            "http://127.1:80",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert_eq!(path(1, "http://127.0.0.1"), path(1, loopback), "{loopback}");
        }
        assert_ne!(path(1, "http://127.0.0.1:80"), path(1, "http://127.0.0.1:81"));
        assert_ne!(path(1, "http://127.0.0.1:443"), path(1, "https://zim-api.zego.im"));
    }

    #[test]
    fn a_holder_s_name_is_one_harmless_line() {
        let (quota, _directory) = quota(3);
        let mut first = turn(&quota, "one\n1 2 3\n\u{1b}[2J");
        first.write_down(&[]);
        assert_eq!(first.earlier_starts(), []);
        fs::write(&quota.path, "\u{1b}]0;owned\u{7}\u{202e}gnp\u{9b}31m\nx").unwrap();
        let refused = quota.take_turn_now("two").unwrap_err().to_string();
        assert!(refused.contains("owned"), "{refused}");
        assert!(
            !refused.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{refused:?}"
        );
        fs::write(&quota.path, [0xff; 100]).unwrap();
        assert!(quota.take_turn_now("two").unwrap_err().to_string().len() < 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_who_is_renamed_all_the_time_is_named_once_a_minute() {
        let mut message = MessageLimiter::default();
        let mut times = 0;
        for number in 0..3000 {
            times += usize::from(message.is_due(&format!("holder {number}")));
            sleep(POLL_EVERY).await;
        }
        assert_eq!(times, 10, "in ten minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_ends_leaves_no_file_and_leaves_room_for_the_first_request_of_the_next() {
        let (quota, _directory) = quota(4);
        let limiter = Limiter::new(20.0);
        let mut first = turn(&quota, "one");
        let _ = limiter.ready().await;
        let started = Instant::now();
        first.write_down(&limiter.recent_starts());
        first.end(&limiter).await;
        assert!(
            started.elapsed() >= Duration::from_millis(50),
            "{:?}",
            started.elapsed()
        );
        assert!(!quota.path.exists());
        // Nothing was sent: nothing to wait for.
        drop(turn(&quota, "two"));
        assert!(!quota.path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_whose_file_was_removed_is_taken_again_or_nothing_starts() {
        let (quota, _directory) = quota(5);
        let limiter = Limiter::new(20.0);
        let mut first = turn(&quota, "one");
        fs::remove_file(&quota.path).unwrap();
        sleep(CHECK_EVERY).await;
        first.keep(&limiter);
        assert!(quota.take_turn_now("two").is_err(), "the turn was taken again");

        fs::remove_file(&quota.path).unwrap();
        let second = turn(&quota, "two");
        sleep(CHECK_EVERY).await;
        for _ in 0..20 {
            first.keep(&limiter);
            let start = tokio::time::timeout(CHECK_EVERY, limiter.ready()).await;
            assert!(start.is_err(), "a request started while another run has the turn");
        }
        drop(second);
        first.keep(&limiter);
        let _ = limiter.ready().await;
        assert!(quota.take_turn_now("three").is_err(), "the turn was taken again");
    }
}
