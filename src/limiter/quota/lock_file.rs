//! A small file that runs of several users lock and read, in a world-writable directory.
//!
//! An existing file is not trusted: it is opened without following a link and without blocking, checked before it is
//! used, and only a limited length of it is read. Only the permissions of a file created here are changed.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The maximum length that is read and written, in bytes.
const MAX_TEXT: usize = 60 * 1024;

/// A larger file is not a lock file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The modes of files that are created here: for all runs, and for one's own that others read.
const EVERYBODY: u32 = 0o666;
const READABLE: u32 = 0o644;

/// How often to retry if the file is removed or replaced while it is being locked.
const TRIES: u32 = 10;

/// The file, open. A lock is released when the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    is_writable: bool,
    path: PathBuf,
    id: (u64, u64),
}

impl LockFile {
    /// Opens the file, creating it if necessary, for everybody. Never blocks.
    ///
    /// # Errors
    /// If the file can't be created or opened, or is not a small regular file with one name.
    pub fn open(path: &Path) -> io::Result<LockFile> {
        LockFile::open_or_create(path, EVERYBODY)
    }

    /// As [`LockFile::open`]. A file that is created here can be written only by this user.
    ///
    /// # Errors
    /// As [`LockFile::open`].
    pub fn open_own(path: &Path) -> io::Result<LockFile> {
        LockFile::open_or_create(path, READABLE)
    }

    /// Opens the file if it is there. Never blocks.
    ///
    /// # Errors
    /// If the file can't be opened, or is not a small regular file with one name.
    pub fn open_existing(path: &Path) -> io::Result<Option<LockFile>> {
        let opened = open_existing(path, OtherNames::Refuse)?;
        opened.map(|opened| LockFile::new(opened, path)).transpose()
    }

    /// As [`LockFile::open_existing`], and leaves it as it is. It may have other names too; then it can't be written.
    ///
    /// # Errors
    /// If the file can't be opened, or is not a small regular file.
    pub fn open_to_read(path: &Path) -> io::Result<Option<LockFile>> {
        let opened = open_existing(path, OtherNames::Keep)?;
        opened.map(|opened| LockFile::new(opened, path)).transpose()
    }

    fn open_or_create(path: &Path, mode: u32) -> io::Result<LockFile> {
        for _ in 0..TRIES {
            let opened = match create(path, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(path, OtherNames::Refuse)?,
                created => Some((created?, true)),
            };
            if let Some(opened) = opened {
                return LockFile::new(opened, path);
            }
        }
        Err(io::Error::other("it is being replaced repeatedly"))
    }

    fn new((file, is_writable): (File, bool), path: &Path) -> io::Result<LockFile> {
        let metadata = file.metadata()?;
        Ok(LockFile {
            file,
            is_writable,
            path: path.to_owned(),
            id: (metadata.dev(), metadata.ino()),
        })
    }

    /// Locks the file for this process alone. `false` if another process has locked it. Never blocks.
    pub fn try_lock(&self) -> io::Result<bool> {
        is_locked(self.file.try_lock())
    }

    /// Locks the file together with others that do the same, instead of an earlier lock. `false` if another process has locked
    /// it alone.
    pub fn try_lock_shared(&self) -> io::Result<bool> {
        is_locked(self.file.try_lock_shared())
    }

    /// Releases the lock.
    pub fn unlock(&self) {
        // If this fails, the file is locked until it is closed.
        let _ = self.file.unlock();
    }

    /// Its text; empty if it can't be read.
    pub fn read(&self) -> String {
        let mut bytes = vec![0; MAX_TEXT];
        // An unreadable text counts as empty.
        let len = self.file.read_at(&mut bytes, 0).unwrap_or_default();
        bytes.truncate(len);
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() == 0)
    }

    /// When its text was last written.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.file.metadata()?.modified()
    }

    /// Replaces its text.
    ///
    /// # Errors
    /// If it can't be written, for instance because it is another user's and read-only.
    pub fn write(&self, text: &str) -> io::Result<()> {
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Sets its time to now. Only the owner of a file may do that; whoever may write to it writes its text again.
    pub fn touch(&self) -> io::Result<()> {
        match self.file.set_modified(SystemTime::now()) {
            Err(_) if self.is_writable => self.write(&self.read()),
            touched => touched,
        }
    }

    /// Whether it can be written. Another user's can perhaps only be read and locked.
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Whether both are the same file.
    pub fn is_same(&self, other: &LockFile) -> bool {
        self.id == other.id
    }

    /// Whether the path still leads to this file, so that other runs find its lock.
    pub fn is_in_place(&self) -> bool {
        let at_path = self.path.symlink_metadata();
        at_path.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id)
    }

    /// Removes the file, if this user may. A run that has opened it meanwhile notices when it locks it.
    pub fn remove(&self) {
        // Under the lock, so no other run can have replaced the file meanwhile.
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_locked(locked: Result<(), TryLockError>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // std adds O_CLOEXEC. For an existing file O_CREAT is omitted: Linux refuses it for another user's file in /tmp.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = options().write(true).create_new(true).mode(mode).open(path)?;
    // Regardless of the umask, other users must be able to lock it.
    let _ = file.set_permissions(Permissions::from_mode(mode));
    Ok(file)
}

/// What to do with a file that has other names too (hard links). Any user can link to a file of this user.
#[derive(Clone, Copy, PartialEq)]
enum OtherNames {
    /// This user's file loses this name: the other one leads to nothing that is used. Another user's is refused.
    Refuse,
    /// The file is only read.
    Keep,
}

/// Something that can't be used as it is, whoever the user is.
fn unfit(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Opens the file for reading and writing or, if it is another user's, for reading; and whether it can be written. `None` if
/// it is not there, or was removed meanwhile.
fn open_existing(path: &Path, other_names: OtherNames) -> io::Result<Option<(File, bool)>> {
    let opened = match options().write(true).open(path) {
        Err(error) if may_be_readable(&error) => options().open(path).map(|file| (file, false)),
        opened => opened.map(|file| (file, true)),
    };
    let (file, is_writable) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong_kind(path).unwrap_or(error)),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(wrong_kind(path).unwrap_or_else(|| unfit("it is not a regular file")));
    }
    match (metadata.nlink(), other_names) {
        (0, _) => Ok(None),
        (1, _) | (_, OtherNames::Keep) if metadata.len() > MAX_FILE => Err(unfit("it is too large to be a lock file")),
        (1, _) => Ok(Some((file, is_writable))),
        (_, OtherNames::Keep) => Ok(Some((file, false))),
        _ if metadata.uid() == rustix::process::geteuid().as_raw() => {
            std::fs::remove_file(path)?;
            Ok(None)
        }
        _ => Err(unfit("it has another name too (a hard link)")),
    }
}

fn may_be_readable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// An error that names what is at the path, if it is not a regular file.
fn wrong_kind(path: &Path) -> Option<io::Error> {
    let kind = path.symlink_metadata().ok()?.file_type();
    let name = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_file() {
        return None;
    } else {
        "a device"
    };
    Some(unfit(format!("it is {name}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lock");
        (directory, path)
    }

    #[track_caller]
    fn locked(path: &Path) -> LockFile {
        let file = LockFile::open(path).unwrap();
        // A process that another test is starting may keep the lock of a file that was closed for a moment.
        while !file.try_lock().unwrap() {
            std::thread::yield_now();
        }
        file
    }

    #[track_caller]
    fn refused(path: &Path) -> String {
        LockFile::open(path).unwrap_err().to_string()
    }

    #[test]
    fn anything_but_a_regular_file_is_refused_by_name_without_blocking() {
        let (directory, path) = directory();
        let target = directory.path().join("target");
        fs::write(&target, "precious").unwrap();

        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(refused(&path).contains("symbolic link"));
        fs::remove_file(&path).unwrap();

        std::os::unix::fs::symlink(directory.path().join("nowhere"), &path).unwrap();
        assert!(refused(&path).contains("symbolic link"));
        assert!(!directory.path().join("nowhere").exists());
        fs::remove_file(&path).unwrap();

        let fifo = {
            let _alone = super::super::STARTING_A_PROCESS.blocking_lock();
            std::process::Command::new("mkfifo").arg(&path).status()
        };
        assert!(fifo.unwrap().success());
        assert!(refused(&path).contains("FIFO"));
        fs::remove_file(&path).unwrap();

        let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(refused(&path).contains("socket"));
        fs::remove_file(&path).unwrap();

        fs::create_dir(&path).unwrap();
        assert!(refused(&path).contains("directory"));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn a_second_name_of_a_file_is_removed_and_that_file_stays_as_it_is() {
        let (directory, path) = directory();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&victim, &path).unwrap();

        locked(&path).write("text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::metadata(&victim).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_only_read_keeps_its_other_names_and_is_not_written() {
        let (directory, path) = directory();
        let other = directory.path().join("other");
        fs::write(&other, "precious").unwrap();
        fs::hard_link(&other, &path).unwrap();
        let file = LockFile::open_to_read(&path).unwrap().unwrap();
        assert_eq!((file.read().as_str(), file.is_writable()), ("precious", false));
        assert!(path.exists() && other.exists());
        File::options()
            .write(true)
            .open(&other)
            .unwrap()
            .set_len(MAX_FILE + 1)
            .unwrap();
        let error = LockFile::open_to_read(&path).unwrap_err();
        assert!(error.to_string().contains("large"), "{error}");
    }

    #[test]
    fn a_large_file_is_refused_and_only_the_beginning_of_a_small_one_is_read() {
        let (_directory, path) = directory();
        let file = File::create(&path).unwrap();
        file.set_len(1_500_000_000).unwrap();
        assert!(refused(&path).contains("large"));
        file.set_len(MAX_FILE).unwrap();
        assert_eq!(locked(&path).read().len(), MAX_TEXT);
    }

    #[test]
    fn a_file_is_locked_by_one_alone_or_by_several_together() {
        let (_directory, path) = directory();
        let (one, other) = (LockFile::open(&path).unwrap(), LockFile::open(&path).unwrap());
        assert!(one.try_lock().unwrap() && !other.try_lock().unwrap() && !other.try_lock_shared().unwrap());
        assert!(one.try_lock_shared().unwrap() && other.try_lock_shared().unwrap());
        assert!(!one.try_lock().unwrap());
        one.unlock();
        assert!(other.try_lock().unwrap());
        other.write("longer").unwrap();
        other.write("text").unwrap();
        assert_eq!(one.read(), "text");
    }

    #[test]
    fn only_a_file_that_is_created_here_is_made_writable_for_everybody() {
        let (_directory, path) = directory();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        LockFile::open_own(&path).unwrap().remove();
        assert!(LockFile::open_existing(&path).unwrap().is_none());
        drop(locked(&path));
        assert_eq!(mode(), 0o666);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        drop(locked(&path));
        assert_eq!(mode(), 0o640);
    }

    #[test]
    fn a_file_that_was_removed_or_replaced_is_noticed() {
        let (_directory, path) = directory();
        let first = locked(&path);
        assert!(first.is_in_place());
        fs::remove_file(&path).unwrap();
        assert!(!first.is_in_place());
        let second = locked(&path);
        assert!(second.is_in_place() && !first.is_in_place());
        // The first file is no longer in place, so it is not removed.
        first.remove();
        assert!(path.exists());
        second.remove();
        assert!(!path.exists());
    }
}
