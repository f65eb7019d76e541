//! How a run joins the others on this machine.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::error::QuotaError;
use super::super::location::QuotaLocation;
use super::super::lock_file::LockFile;
use super::{MAX_PAUSE, entry};
use crate::limiter::schedule::Schedule;

/// How long to try to join the other runs.
const JOIN_FOR: Duration = Duration::from_secs(3);

/// How long another run may take from joining until it has begun the file with the starts.
const BEGIN_FOR: Duration = Duration::from_millis(500);

/// Locks the file that every run locks, shared; and whether others have it locked. Fails if there are others and the run is to
/// be exclusive.
pub(super) async fn join_lock(location: &QuotaLocation, exclusive: bool) -> Result<(LockFile, bool), QuotaError> {
    let unusable = |source| unusable(&location.runs, source);
    let tries_from = Instant::now();
    loop {
        let lock = LockFile::open(&location.runs).map_err(unusable)?;
        let has_others = !lock.try_lock().map_err(unusable)?;
        if has_others && exclusive {
            let by = entry::others(location, None).into_iter().flatten().next();
            return Err(QuotaError::Held { by: by.map(Box::new) });
        }
        if lock.try_lock_shared().map_err(unusable)? && lock.is_in_place() {
            return Ok((lock, has_others));
        }
        if tries_from.elapsed() > JOIN_FOR {
            return Err(unusable(io::Error::other("another program has locked it")));
        }
        sleep(MAX_PAUSE).await;
    }
}

/// Opens the file with the starts, and begins it `now` if this run is the first. If it is not, a file without text has
/// replaced another one.
pub(super) async fn begin_file(
    location: &QuotaLocation,
    boot: &str,
    has_others: bool,
    now: u64,
) -> Result<(), QuotaError> {
    let path = &location.starts;
    let unusable = |source| unusable(path, source);
    let tries_from = Instant::now();
    loop {
        let file = LockFile::open(path).map_err(unusable)?;
        check_writable(&file).map_err(unusable)?;
        let text = file.read();
        let is_of_this_machine = text.is_empty() || text.lines().next() == Some(boot);
        if !has_others {
            // From before the machine was started.
            if (text.is_empty() || !is_of_this_machine) && file.try_lock().map_err(unusable)? {
                file.write(&format!("{boot}\n{}", Schedule::begun_at(now)))
                    .map_err(unusable)?;
            }
            return Ok(());
        }
        if is_of_this_machine {
            return Ok(());
        }
        // The first run may not have come so far.
        if tries_from.elapsed() > BEGIN_FOR {
            return Err(QuotaError::OtherMachine { path: path.clone() });
        }
        sleep(MAX_PAUSE).await;
    }
}

pub(super) fn check_writable(file: &LockFile) -> io::Result<()> {
    if file.is_writable() {
        Ok(())
    } else {
        Err(io::Error::other("it is another user's, and can't be written to"))
    }
}

pub(super) fn unusable(path: &Path, why: io::Error) -> QuotaError {
    QuotaError::Unusable {
        path: path.to_owned(),
        why,
    }
}
