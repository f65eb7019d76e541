//! One report, one run: the kernel's lock on the file, which ends with its process.

use std::fs::{self, TryLockError};
use std::os::unix::fs::MetadataExt;

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
        Err(TryLockError::WouldBlock) => Err(Error::Held(match holder(opened) {
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
fn holder(opened: &Opened) -> Option<(u32, String)> {
    let metadata = opened.file.metadata().ok()?;
    let process = locker(&fs::read_to_string("/proc/locks").ok()?, metadata.dev(), metadata.ino())?;
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    let name = name.trim_end().chars().filter(|c| !c.is_control()).collect();
    Some((process, name))
}

/// Finds a file's lock in the text of `/proc/locks`, where a line is like
/// `3: FLOCK  ADVISORY  WRITE 4711 08:02:131 0 EOF`: the process, then the device in hexadecimal and the inode. Lines of
/// those who wait for a lock have a `->` behind the number.
fn locker(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let device = format!(
        "{:02x}:{:02x}",
        libc::major(device as libc::dev_t),
        libc::minor(device as libc::dev_t)
    );
    let place = format!("{device}:{inode}");
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, process, at, ..] if at == place => process.parse().ok().filter(|process| *process > 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  READ 7 08:02:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 08:02:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 08:02:131 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE -1 fd:1f:9 0 EOF\n";
        assert_eq!(locker(locks, libc::makedev(8, 2), 131), Some(4711));
        assert_eq!(locker(locks, libc::makedev(8, 2), 13), None);
        assert_eq!(locker(locks, libc::makedev(8, 1), 131), None);
        assert_eq!(
            locker(locks, libc::makedev(0xfd, 0x1f), 9),
            None,
            "a process of another container"
        );
    }
}
