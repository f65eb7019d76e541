//! One run per report: a kernel lock on the file, which ends with the process.

use std::fs::{self, TryLockError};
use std::path::Path;

use super::error::ReportError;
use super::holder::{Holder, holder};
use super::place::OpenFile;
use crate::text::one_line;

/// Locks the file, or fails with the holder of its lock.
pub(super) fn lock(opened: &OpenFile) -> Result<(), ReportError> {
    let path = &opened.path;
    match opened.file.try_lock() {
        // Another run may have created and, because it never began, removed it before it was locked here.
        Ok(()) if opened.is_in_place().is_ok_and(|is| !is) => Err(ReportError::Replaced { path: path.clone() }),
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(ReportError::Held {
            path: path.clone(),
            by: holder_named(path),
        }),
        // Some file systems and devices don't support locks; the run works without.
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{}: can't be locked: {error}", path.display());
            Ok(())
        }
    }
}

/// The process that holds the file's lock, if the system can show it.
fn holder_named(path: &Path) -> Option<Holder> {
    let process = holder(path)?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    let program = one_line(name.trim_end()).into_owned();
    Some(Holder { process, program })
}
