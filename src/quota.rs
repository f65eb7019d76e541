//! Turns: runs for one app and endpoint on one machine share one quota, so only one of them sends at a time.
//!
//! A turn is the kernel's lock on a small file, which dies with the process. The file says who has the turn, for those
//! who wait, and when the last requests started, so that the next run does not add its own to theirs within the same
//! second. It lies in `/tmp` whatever `TMPDIR` says, because a run from cron and one from a terminal have to meet.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep};
use url::Url;

use crate::error::Error;

/// Where the files are.
const FOLDER: &str = "/tmp";

/// How often a waiting run looks whether it is its turn.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The right to use the app's quota, until it is dropped or the process ends.
#[derive(Debug)]
pub struct Turn {
    file: File,
    /// Who has it, in words.
    holder: String,
    /// The file says whose turn it is.
    is_named: bool,
    /// The starts written down last.
    written: Vec<Instant>,
}

/// The place where runs of one app and endpoint meet.
#[derive(Debug, Clone)]
pub struct Quota {
    path: PathBuf,
}

impl Quota {
    /// The quota of an app at an endpoint.
    pub fn new(app_id: u32, endpoint: &Url) -> Quota {
        let host: String = endpoint.host_str().unwrap_or_default().chars().map(plain).collect();
        let port = endpoint.port_or_known_default().unwrap_or_default();
        Quota {
            path: Path::new(FOLDER).join(format!("zim-batch-{app_id}-{host}-{port}.lock")),
        }
    }

    /// Waits for the turn; `holder` says to others whose it is. Logs whom it waits for.
    pub async fn take_turn(&self, holder: &str) -> Result<Turn, Error> {
        let mut told = String::new();
        loop {
            match self.try_turn(holder)? {
                Ok(turn) => return Ok(turn),
                Err(other) if other != told => {
                    tracing::warn!(
                        "waiting for {other}, which uses the same app's quota (--no-wait to give up instead)"
                    );
                    told = other;
                }
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The turn, if nobody has it ([`Error::Held`] otherwise).
    pub fn take_turn_now(&self, holder: &str) -> Result<Turn, Error> {
        self.try_turn(holder)?.map_err(|other| {
            Error::Held(format!(
                "{other} uses the same app's quota; wait for it (without --no-wait), or stop it"
            ))
        })
    }

    /// The turn, or who has it.
    fn try_turn(&self, holder: &str) -> Result<Result<Turn, String>, Error> {
        let error = |source| {
            Error::Usage(format!(
                "{}: can't be locked, so that runs of one app can take turns: {source}; remove it, or let everybody read \
                 it",
                self.path.display()
            ))
        };
        let mut file = open(&self.path).map_err(error)?;
        match file.try_lock() {
            Ok(()) => Ok(Ok(Turn {
                file,
                holder: holder.to_owned(),
                is_named: false,
                written: Vec::new(),
            })),
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // It is being written just now, or by somebody whose file can't be read: then it stays unnamed.
                let _ = file.read_to_string(&mut text);
                let other = text.lines().next().filter(|line| !line.is_empty());
                Ok(Err(other.map_or_else(|| "another run".to_owned(), str::to_owned)))
            }
            Err(TryLockError::Error(source)) => Err(error(source)),
        }
    }
}

/// Opens the file for writing, or, if it is another user's, for locking alone. Never follows a link.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW);
    match options.clone().write(true).create(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        Err(error) => Err(error),
        Ok(file) => {
            // Whatever the umask, others must be able to lock it. If it is theirs, it is so already.
            let _ = file.set_permissions(Permissions::from_mode(0o666));
            Ok(file)
        }
    }
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
        c
    } else {
        '_'
    }
}

impl Turn {
    /// The starts of the last second that the run before has written down.
    pub fn earlier_starts(&mut self) -> Vec<Instant> {
        let mut text = String::new();
        if self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_string(&mut text))
            .is_err()
        {
            return Vec::new();
        }
        let now = (Instant::now(), since_epoch());
        text.lines()
            .nth(1)
            .unwrap_or_default()
            .split_ascii_whitespace()
            .filter_map(|millis| {
                let ago = now.1.checked_sub(Duration::from_millis(millis.parse().ok()?))?;
                (ago < Duration::from_secs(2)).then(|| now.0.checked_sub(ago))?
            })
            .collect()
    }

    /// Writes down when the last requests started. Best effort: without it only the seam between two runs is less exact.
    pub fn write_down(&mut self, starts: &[Instant]) {
        if self.is_named && self.written == starts {
            return;
        }
        let now = (Instant::now(), since_epoch());
        let mut text = format!("{}\n", self.holder);
        for start in starts {
            let at = now.1.saturating_sub(now.0.saturating_duration_since(*start));
            // Writing to a String does not fail.
            let _ = write!(text, "{} ", at.as_millis());
        }
        text.push('\n');
        let written = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.write_all(text.as_bytes()));
        let _ = written.and_then(|()| self.file.set_len(text.len() as u64));
        (self.is_named, self.written) = (true, starts.to_vec());
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(app_id: u32) -> (Quota, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("{app_id}.lock"));
        (Quota { path }, folder)
    }

    #[test]
    fn a_turn_is_one_at_a_time_and_the_next_is_told_whose_it_is() {
        let (quota, _folder) = quota(1);
        let mut first = quota.take_turn_now("process 17, report a.csv").unwrap();
        first.write_down(&[]);
        let refused = quota.take_turn_now("process 18").unwrap_err();
        assert_eq!(refused.exit_status(), 75);
        assert!(refused.to_string().contains("process 17, report a.csv"), "{refused}");
        drop(first);
        quota.take_turn_now("process 18").unwrap();
    }

    #[test]
    fn the_starts_of_the_last_second_are_handed_on() {
        let (quota, _folder) = quota(2);
        let now = Instant::now();
        let starts = [Duration::from_millis(700), Duration::from_millis(40)].map(|ago| now.checked_sub(ago).unwrap());
        let mut first = quota.take_turn_now("one").unwrap();
        first.write_down(&starts);
        drop(first);
        let handed_on = quota.take_turn_now("two").unwrap().earlier_starts();
        assert_eq!(handed_on.len(), 2);
        for (written, read) in starts.iter().zip(&handed_on) {
            let off = written.saturating_duration_since(*read) + read.saturating_duration_since(*written);
            assert!(off < Duration::from_millis(3), "{off:?}");
        }
    }

    #[test]
    fn different_apps_and_endpoints_have_quotas_of_their_own() {
        let path = |app_id, endpoint: &str| Quota::new(app_id, &endpoint.parse().unwrap()).path;
        assert_eq!(
            path(1, "https://zim-api.zego.im"),
            path(1, "https://zim-api.zego.im:443/")
        );
        assert_ne!(path(1, "https://zim-api.zego.im"), path(2, "https://zim-api.zego.im"));
        assert_ne!(path(1, "http://127.0.0.1:80"), path(1, "http://127.0.0.1:81"));
        assert_eq!(path(1, "http://[::1]:80"), Path::new("/tmp/zim-batch-1-___1_-80.lock"));
    }
}
