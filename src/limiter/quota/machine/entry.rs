//! The entries of the runs on this machine: a small file for each, which its run locks as long as it runs. So the kernel
//! tells which runs are active, however the others ended.

use std::io;
use std::path::PathBuf;

use super::super::location::QuotaLocation;
use super::super::lock_file::LockFile;
use super::super::presence::{Activity, Presence};

/// The entry of this run. Dropping it removes the file.
pub(super) struct Entry {
    file: LockFile,
    presence: Presence,
}

impl Entry {
    /// Takes the first file that no run has; `None` if there is none that this user can write.
    pub fn create(location: &QuotaLocation, presence: Presence) -> Option<Entry> {
        let file = location.entries().find_map(|path| take(path).ok().flatten())?;
        let mut entry = Entry { file, presence };
        // A file of another user, whose run was killed, can't be written.
        entry.renew(Activity::default()).ok().map(|()| entry)
    }

    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// Writes what the run is doing.
    pub fn renew(&mut self, activity: Activity) -> io::Result<()> {
        self.presence.activity = activity;
        self.file.write(&format!("{}\n", self.presence.to_text()))
    }

    /// Whether other runs find this entry: another program may have removed the file.
    pub fn is_in_place(&self) -> bool {
        self.file.is_in_place()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.file.remove();
    }
}

/// Locks a file that no run has.
fn take(path: PathBuf) -> io::Result<Option<LockFile>> {
    let file = LockFile::open_own(&path)?;
    let is_free = file.try_lock()? && file.is_in_place() && file.is_writable();
    Ok(is_free.then_some(file))
}

/// The entries of the other active runs; `None` for one that can't be read.
pub(super) fn others(location: &QuotaLocation, own: Option<&Entry>) -> Vec<Option<Presence>> {
    let files = location
        .entries()
        .filter_map(|path| LockFile::open_existing(&path).ok()?);
    let others = files.filter(|file| own.is_none_or(|own| !own.file.is_same(file)));
    // A lock that can be shared is not that of a run. It is released immediately, when the file is closed.
    let present = others.filter(|file| matches!(file.try_lock_shared(), Ok(false)));
    present.map(|file| Presence::parse(&file.read())).collect()
}
