//! The limit that an operator has set for all runs on this machine: a small file beside the starts. It outlives the runs:
//! a limit with an end is kept until then, one without for a day after a run last had it in force, by the file's time.
//!
//! Whoever may write to the file may set the limit. It can slow runs down or pause them, and do nothing else. A file that
//! is damaged is ignored. One that has another name too is only read.

use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use tokio::time::{Instant, sleep};

use super::super::limit::Limit;
use super::super::limit_entry::{KEPT_FOR, LimitEntry};
use super::super::lock_file::LockFile;
use super::join::check_writable;
use super::{LOCKED_TOO_LONG, MAX_PAUSE};

/// How often it is noted that the limit is in force.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The limit as far as a run knows it.
#[derive(Debug, Default)]
pub(super) struct KnownLimit {
    pub limit: Option<Limit>,
    /// Another process was just using the file, so the limit is the one before.
    pub is_locked: bool,
    renewed_at: Option<Instant>,
    has_warned: bool,
}

impl KnownLimit {
    /// Looks for the limit that is in force `now`.
    pub fn look(&mut self, path: &Path, now: SystemTime) {
        let found = read(path, now);
        self.is_locked = found == Found::Locked;
        self.limit = match found {
            Found::Locked => self.limit,
            Found::Nothing => None,
            Found::Entry(entry) => Some(entry.limit),
            Found::Damaged(damage) => {
                if !std::mem::replace(&mut self.has_warned, true) {
                    let (path, Damage { why, .. }) = (path.display(), &damage);
                    tracing::warn!(
                        "{path}: the limit by 'zim-batch quota' can't be read ({why}), so there is none; {}",
                        damage.remedy()
                    );
                }
                None
            }
        };
    }

    /// Notes once per minute that the limit is in force, so that it is kept.
    pub fn renew(&mut self, path: &Path) {
        if self.limit.is_some() && self.renewed_at.is_none_or(|at| at.elapsed() >= RENEW_EVERY) {
            // If that fails, it is kept for a day from the latest time.
            let _ = renew(path);
            self.renewed_at = Some(Instant::now());
        }
    }
}

/// What is found in the file.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Nothing,
    Entry(LimitEntry),
    /// It has no limit that can be read.
    Damaged(Damage),
    /// Another process is just using it.
    Locked,
}

/// Why the limit can't be read.
#[derive(Debug, PartialEq)]
pub(super) struct Damage {
    why: String,
    /// The file can be written: setting the limit again mends it.
    is_writable: bool,
}

impl Damage {
    /// What to do about it.
    fn remedy(&self) -> &'static str {
        if self.is_writable {
            "set it again with 'zim-batch quota --limit', or remove the file"
        } else {
            "remove the file, as its owner or as root; then it can be set again with 'zim-batch quota --limit'"
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it can't be read ({}); {}", self.why, self.remedy())
    }
}

/// Reads the limit that is in force `now`. A file with a limit that has ended is removed, if this user may.
fn read(path: &Path, now: SystemTime) -> Found {
    find(path, now).unwrap_or_else(|error| {
        Found::Damaged(Damage {
            why: error.to_string(),
            is_writable: false,
        })
    })
}

fn find(path: &Path, now: SystemTime) -> io::Result<Found> {
    let Some(file) = LockFile::open_to_read(path)? else {
        return Ok(Found::Nothing);
    };
    if !file.try_lock_shared()? {
        return Ok(Found::Locked);
    }
    if file.is_empty()? {
        return Ok(Found::Nothing);
    }
    let text = file.read();
    let Some(entry) = LimitEntry::parse(&text) else {
        return Ok(Found::Damaged(Damage {
            why: "what is in it is no limit".into(),
            is_writable: file.is_writable(),
        }));
    };
    let has_ended = match entry.limit.until {
        Some(until) => until <= now,
        None => now.duration_since(file.modified()?).is_ok_and(|idle| idle > KEPT_FOR),
    };
    if !has_ended {
        return Ok(Found::Entry(entry));
    }
    // Unless another one has been set meanwhile.
    if file.is_writable() && file.try_lock()? && file.read() == text {
        clear(&file)?;
    }
    Ok(Found::Nothing)
}

/// Notes in the file's time that the limit is in force.
fn renew(path: &Path) -> io::Result<()> {
    match LockFile::open_to_read(path)? {
        Some(file) if file.try_lock()? => file.touch(),
        _ => Ok(()),
    }
}

/// Sets the limit, or ends it.
pub(super) async fn set(path: &Path, entry: Option<&LimitEntry>) -> io::Result<()> {
    let tries_from = Instant::now();
    loop {
        let file = match entry {
            Some(_) => LockFile::open(path)?,
            None => match LockFile::open_existing(path)? {
                Some(file) => file,
                None => return Ok(()),
            },
        };
        if file.try_lock()? && file.is_in_place() {
            check_writable(&file)?;
            return match entry {
                Some(entry) => file.write(&format!("{}\n", entry.to_text())),
                None => clear(&file),
            };
        }
        if tries_from.elapsed() > LOCKED_TOO_LONG {
            return Err(locked_too_long());
        }
        sleep(MAX_PAUSE).await;
    }
}

/// As [`read`], and waits as long as another process is just using the file.
pub(super) async fn read_patiently(path: &Path) -> io::Result<Found> {
    let tries_from = Instant::now();
    loop {
        match read(path, SystemTime::now()) {
            Found::Locked if tries_from.elapsed() > LOCKED_TOO_LONG => return Err(locked_too_long()),
            Found::Locked => sleep(MAX_PAUSE).await,
            found => return Ok(found),
        }
    }
}

fn locked_too_long() -> io::Error {
    let seconds = Duration::as_secs(&LOCKED_TOO_LONG);
    io::Error::other(format!("another process has locked it for more than {seconds} s"))
}

/// Another user's file may not be removed from a directory like /tmp, so it is emptied too.
fn clear(file: &LockFile) -> io::Result<()> {
    file.write("")?;
    file.remove();
    Ok(())
}
