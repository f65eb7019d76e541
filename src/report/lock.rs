//! One report, one run: the kernel's lock on the file, which ends with its process.

use std::fs::{self, TryLockError};
use std::path::Path;

use super::holder;
use super::place::Opened;
use crate::error::Error;

/// Locks the file, or says who holds it.
pub(super) fn lock(opened: &Opened) -> Result<(), Error> {
    let path = opened.path.display();
    match opened.file.try_lock() {
        // Another run may have created it and, as it did not begin, removed it between our opening and locking.
        Ok(()) if opened.is_in_place().is_ok_and(|is| !is) => Err(Error::Held(format!(
            "{path}: another run was just using this file and has removed or replaced it; run this again"
        ))),
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Held(match holder_named(&opened.path) {
            Some((process, name)) if name == env!("CARGO_PKG_NAME") => {
                format!("{path}: another run is writing this file (process {process}); wait for it to end, or stop it")
            }
            Some((process, name)) => format!(
                "{path}: process {process} ({name}) has locked this file: another run, or a program of any user who can \
                 read the file; wait for it to end, or stop it"
            ),
            None => format!(
                "{path}: another run is writing this file, or a program of any user who can read it has locked it; wait \
                 for it to end, or stop it"
            ),
        })),
        // Some file systems and devices know no locks; the run is no worse for it.
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{path}: can't be locked: {error}");
            Ok(())
        }
    }
}

/// The process that holds the file's lock and the program's name, where the system tells.
fn holder_named(path: &Path) -> Option<(u32, String)> {
    let process = holder(path)?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    let name = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    Some((process, name))
}
