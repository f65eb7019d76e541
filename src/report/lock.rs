//! One report, one run: the kernel's lock on the file, which ends with its process.

use std::fs::{self, TryLockError};
use std::path::Path;

use super::error::ReportError;
use super::holder::{Holder, holder};
use super::place::Opened;

/// Locks the file, or says who holds it.
pub(super) fn lock(opened: &Opened) -> Result<(), ReportError> {
    let path = &opened.path;
    match opened.file.try_lock() {
        // Another run may have created it and, as it did not begin, removed it between our opening and locking.
        Ok(()) if opened.is_in_place().is_ok_and(|is| !is) => Err(ReportError::Replaced { path: path.clone() }),
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ReportError::Held {
            path: path.clone(),
            by: holder_named(path),
        }),
        // Some file systems and devices know no locks; the run is no worse for it.
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{}: can't be locked: {error}", path.display());
            Ok(())
        }
    }
}

/// The process that holds the file's lock, where the system tells.
fn holder_named(path: &Path) -> Option<Holder> {
    let process = holder(path)?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    let program = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    Some(Holder { process, program })
}
