//! The places where a run's files are written: they are checked before anything is changed, new files are readable by
//! their owner only, and they are removed again if the run never begins.
//!
//! A new file has mode 0600, whatever the umask: it contains user IDs, and anyone who can read a file can also lock it,
//! which would prevent a run from starting. To let others read a report, change its mode, which later runs keep, or create
//! it empty with the desired mode: an empty file is not a report, and any run may use it.

use std::fs::{self, File, FileType, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use super::error::{ReportError, Role};
use super::holder::{Holder, is_locked};
use crate::files::{OWNER_ONLY, directory_of, leads_to, other_owner};

/// How long a lock of an unknown process may be that of a reader, who asks whether a run holds the file: see
/// [`is_locked`](super::is_locked).
const READER_MAY_TAKE: Duration = Duration::from_millis(500);

/// What to do if the report already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Fail, and leave it unchanged.
    Refuse,
    /// Replace it.
    Overwrite,
    /// Continue it; create it if it does not exist.
    Resume,
}

/// A file that is open for reading and appending.
///
/// If it is dropped before [`OpenFile::keep`] is called, a file that did not exist or was empty is restored to that.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub file: Arc<File>,
    pub path: PathBuf,
    /// A regular file: it has a length, and what is written to it can be read back.
    pub is_regular: bool,
    /// Its length when it was opened, in bytes.
    pub len: u64,
    on_drop: OnDrop,
}

/// How dropping an [`OpenFile`] restores the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    Remove,
    Truncate,
    Keep,
}

impl OpenFile {
    /// Opens the file at `path`, or creates it, and locks it: one run for each report.
    pub fn open(path: &Path, role: Role, existing: IfExists) -> Result<OpenFile, ReportError> {
        check_path(path, role, existing)?;
        let error = |source| unwritable(path, source);
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        let (file, is_new) = match options.clone().create_new(true).mode(OWNER_ONLY).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (options.open(path), false),
            created => (created, true),
        };
        let file = file.map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        // Checked again, because it may have been created since the first check.
        check_existing(path, role, existing, &metadata)?;
        if !is_new {
            check_owner(path, role, existing, &metadata)?;
        }
        let (is_regular, len) = (metadata.is_file(), metadata.len());
        let opened = OpenFile {
            file: Arc::new(file),
            path: path.to_owned(),
            is_regular,
            len,
            on_drop: match (is_new, len) {
                (true, _) => OnDrop::Remove,
                (false, 0) if is_regular => OnDrop::Truncate,
                _ => OnDrop::Keep,
            },
        };
        opened.lock()?;
        Ok(opened)
    }

    /// Locks the file, or fails with the holder of its lock. The lock ends with the process.
    fn lock(&self) -> Result<(), ReportError> {
        let path = || self.path.clone();
        let began = Instant::now();
        loop {
            return match self.file.try_lock() {
                // Another run may have created and, because it never began, removed it before it was locked here.
                Ok(()) if self.is_in_place().is_ok_and(|is| !is) => Err(ReportError::Replaced { path: path() }),
                Ok(()) => Ok(()),
                Err(TryLockError::WouldBlock) => {
                    let by = Holder::of(&self.path);
                    if by.is_none() && began.elapsed() < READER_MAY_TAKE {
                        thread::sleep(Duration::from_millis(2));
                        continue;
                    }
                    Err(ReportError::Held { path: path(), by })
                }
                // Some file systems and devices don't support locks; the run works without.
                Err(TryLockError::Error(error)) => {
                    tracing::debug!("{}: can't be locked: {error}", self.path.display());
                    Ok(())
                }
            };
        }
    }

    /// Whether it did not exist before.
    pub fn is_new(&self) -> bool {
        self.on_drop == OnDrop::Remove
    }

    /// Keeps the file when this is dropped: the run has begun.
    pub fn keep(&mut self) {
        self.on_drop = OnDrop::Keep;
    }

    /// Truncates the file to `len` bytes, if it is a regular file.
    pub fn truncate(&self, len: u64) -> Result<(), ReportError> {
        if self.is_regular && self.file.metadata().map_err(|source| self.error(source))?.len() != len {
            self.file.set_len(len).map_err(|source| self.error(source))?;
        }
        Ok(())
    }

    /// Keeps the first `len` bytes, and brings them to the disk: the run that wrote them may have been killed before it did.
    /// What follows from them, rows that are sent and an outside log, must not be there without them after a power cut.
    pub fn continue_from(&self, len: u64) -> Result<(), ReportError> {
        self.truncate(len)?;
        if len > 0 { self.sync() } else { Ok(()) }
    }

    /// Whether its path still leads to this file.
    pub fn is_in_place(&self) -> io::Result<bool> {
        leads_to(&self.path, &self.file.metadata()?)
    }

    fn sync(&self) -> Result<(), ReportError> {
        sync(&self.file, &self.path)
    }

    pub fn error(&self, source: io::Error) -> ReportError {
        unwritable(&self.path, source)
    }
}

/// Brings a file to the disk.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), ReportError> {
    match file.sync_data() {
        // Pipes and devices have nothing to sync.
        Err(source) if source.kind() != io::ErrorKind::InvalidInput => Err(unwritable(path, source)),
        _ => Ok(()),
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // If this fails, an empty or header-only file is left, which is harmless.
        match self.on_drop {
            OnDrop::Remove if self.is_in_place().is_ok_and(|is| is) => {
                let _ = fs::remove_file(&self.path);
            }
            OnDrop::Truncate => {
                let _ = self.file.set_len(0);
            }
            OnDrop::Remove | OnDrop::Keep => {}
        }
    }
}

/// Checks that a file can be written to `path`, without opening it.
pub(super) fn check_path(path: &Path, role: Role, existing: IfExists) -> Result<(), ReportError> {
    match path.metadata() {
        Ok(metadata) => check_existing(path, role, existing, &metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Err(ReportError::DanglingLink {
                path: path.to_owned(),
                target,
                role,
            }),
            Err(_) => match directory_of(path).metadata() {
                Ok(_) => Ok(()),
                Err(error) => Err(unwritable(path, error)),
            },
        },
        Err(error) => Err(unwritable(path, error)),
    }
}

fn check_existing(path: &Path, role: Role, existing: IfExists, metadata: &Metadata) -> Result<(), ReportError> {
    check_kind(path, role, existing, metadata)?;
    // Whether an outside log may be replaced is decided by its rows.
    if existing == IfExists::Refuse && role != Role::Outside && metadata.len() > 0 {
        // Neither resuming nor replacing it is an advice while another run writes it.
        let is_held = is_locked(path);
        let (path, by) = (path.to_owned(), Holder::of(path));
        return Err(if is_held {
            ReportError::Held { path, by }
        } else {
            ReportError::Exists { path, role }
        });
    }
    Ok(())
}

/// Refuses a file that another user has put there. But root may resume a user's run.
fn check_owner(path: &Path, role: Role, existing: IfExists, metadata: &Metadata) -> Result<(), ReportError> {
    let is_resumed_by_root = geteuid().is_root() && existing == IfExists::Resume && metadata.len() > 0;
    match other_owner(path, metadata) {
        Some(owner) if metadata.is_file() && !is_resumed_by_root => Err(ReportError::OtherOwner {
            path: path.to_owned(),
            role,
            owner,
        }),
        _ => Ok(()),
    }
}

fn check_kind(path: &Path, role: Role, existing: IfExists, metadata: &Metadata) -> Result<(), ReportError> {
    let Some(kind) = special_kind(metadata.file_type()) else {
        return Ok(());
    };
    let is_device = metadata.file_type().is_char_device();
    match existing {
        // Writing the report to /dev/null is allowed if it is requested explicitly.
        IfExists::Overwrite if is_device && role == Role::Report => Ok(()),
        IfExists::Overwrite | IfExists::Resume if metadata.is_dir() => {
            Err(unwritable(path, ErrorKind::IsADirectory.into()))
        }
        _ => Err(ReportError::NotAFile {
            path: path.to_owned(),
            role,
            kind,
        }),
    }
}

/// The kind of a file that is not a regular file, with its article.
fn special_kind(file_type: FileType) -> Option<&'static str> {
    match () {
        () if file_type.is_file() => None,
        () if file_type.is_dir() => Some("a directory"),
        () if file_type.is_fifo() => Some("a pipe"),
        () if file_type.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

fn unwritable(path: &Path, source: io::Error) -> ReportError {
    ReportError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_asks_for_the_lock_keeps_no_run_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        fs::write(&path, "x").unwrap();
        let reader = File::open(&path).unwrap();
        reader.try_lock_shared().unwrap();
        let reading = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            drop(reader);
        });
        let run = OpenFile::open(&path, Role::Report, IfExists::Resume).unwrap();
        reading.join().unwrap();
        assert!(is_locked(&path));
        drop(run);
        assert!(!is_locked(&path));
    }
}
