//! Files: which paths are the same file, and files that are written as a whole.
//!
//! A file that is written as a whole is first written beside the place where it belongs, with a random name and created new,
//! so that no other user can plant a link there. Then one `rename` puts it in place: a reader sees the old file or the new
//! one. The mode and owner of an existing file are kept.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::NamedTempFile;

/// How the name of a new version of a file begins, before it is put in place.
const PREFIX: &str = ".zim-batch.";

/// How that name ends.
const SUFFIX: &str = ".tmp";

/// A new version that nobody has written to for this long is left over. A process locks its own, so this only covers the
/// moment between creating and locking one.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// The mode of a new file that contains user IDs: its owner may read and write it.
pub const OWNER_ONLY: u32 = 0o600;

/// The mode of a new file that other programs read: everyone may read it.
pub const READABLE: u32 = 0o644;

/// The directory that contains `path`.
///
/// ```
/// use std::path::Path;
/// use zim_batch::files::directory_of;
///
/// assert_eq!(directory_of(Path::new("reports/out.csv")), Path::new("reports"));
/// assert_eq!(directory_of(Path::new("out.csv")), Path::new("."));
/// ```
pub fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

/// A name beside `file` for what belongs to it: only a trailing `.csv` is replaced by `ending`, because another extension may
/// distinguish two files.
///
/// ```
/// use std::path::Path;
/// use zim_batch::files::named_after;
///
/// assert_eq!(named_after(Path::new("out.csv"), ".outside.csv"), Path::new("out.outside.csv"));
/// assert_eq!(named_after(Path::new("out.2026-11-23"), ".outside.csv"), Path::new("out.2026-11-23.outside.csv"));
/// ```
pub fn named_after(file: &Path, ending: &str) -> PathBuf {
    file.with_file_name(OsStr::from_bytes(&[stem(file), ending.as_bytes()].concat()))
}

/// The name of a file without its directory and a trailing `.csv`.
pub fn stem(file: &Path) -> &[u8] {
    let name = file.file_name().unwrap_or_default().as_bytes();
    name.strip_suffix(b".csv").unwrap_or(name)
}

/// Syncs the directory of `path`, without which a new file may be lost in a power cut. Best effort: not every system and
/// file system supports this.
pub(crate) fn sync_directory_of(path: &Path) {
    if let Ok(directory) = File::open(directory_of(path)) {
        let _ = directory.sync_all();
    }
}

/// Whether two paths lead to the same file, which need not exist yet.
pub fn same_file(one: &Path, other: &Path) -> bool {
    let same = |of: fn(&Path) -> Option<PathBuf>| of(one).is_some_and(|one| Some(one) == of(other));
    identity(one).is_some_and(|one| Some(one) == identity(other)) || same(absolute)
}

/// Device and inode of an existing regular file or pipe: the same for all its names.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    let holds_bytes = metadata.is_file() || metadata.file_type().is_fifo();
    holds_bytes.then(|| (metadata.dev(), metadata.ino()))
}

/// Whether `path` leads to the file with this metadata.
pub(crate) fn leads_to(path: &Path, file: &Metadata) -> io::Result<bool> {
    let found = path.metadata()?;
    Ok((file.dev(), file.ino()) == (found.dev(), found.ino()))
}

/// The user ID of the owner of a file, or of the link at its `path`, if it is neither this user nor root. Another user may
/// have put it there beforehand, in order to read or change what is written to it.
pub fn other_owner(path: &Path, file: &Metadata) -> Option<u32> {
    let link = path.symlink_metadata().ok().map(|link| link.uid());
    let is_trusted = |owner: &u32| [0, geteuid().as_raw()].contains(owner);
    [Some(file.uid()), link]
        .into_iter()
        .flatten()
        .find(|owner| !is_trusted(owner))
}

/// Refuses a file open for appending that belongs to another user: see [`other_owner`].
///
/// # Errors
/// [`TargetError::OtherOwner`], or the reason why the file can't be read.
pub fn check_owner(path: &Path, file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    match other_owner(path, &metadata) {
        Some(owner) if metadata.is_file() => Err(io::Error::other(TargetError::OtherOwner(owner))),
        _ => Ok(()),
    }
}

/// The absolute path, with links and dots resolved; also of a file that does not exist yet.
fn absolute(path: &Path) -> Option<PathBuf> {
    let of_new_file = || Some(directory_of(path).canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(of_new_file)
}

/// Why a file can't be written as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The path is `-`.
    #[error("this must be a file; to write to standard output, specify /dev/stdout")]
    StandardOutput,
    /// The file has another use.
    #[error("this command already uses the file for something else; choose another one")]
    InUse,
    /// It is a directory.
    #[error("this is a directory; specify a file in it")]
    Directory,
    /// It is a named pipe.
    #[error("this is a pipe, which would have to wait for a reader; specify a file")]
    Pipe,
    /// It is a link to a file that does not exist.
    #[error("this is a link to a file that does not exist; choose another one")]
    DanglingLink,
    /// The existing file has other content, which would be lost.
    #[error("this file exists already and has other content; choose another one, or remove it")]
    OtherContent,
    /// Another user has put it there.
    #[error(
        "this file belongs to another user (user ID {0}), who could read what is written to it; remove it, or choose another one"
    )]
    OtherOwner(u32),
    /// Its directory does not exist.
    #[error("its directory does not exist; correct the path")]
    NoDirectory,
    /// Its content can't be read.
    #[error("can't be read: {0}")]
    Read(io::Error),
}

/// Checks that [`replace`] may write the file: that it is none of `used`, and that its directory exists.
///
/// # Errors
/// A [`TargetError`]: why the file can't be written there.
pub fn check_target<'a>(
    path: &Path,
    begins_with: &str,
    used: impl IntoIterator<Item = &'a Path>,
) -> Result<(), TargetError> {
    if path.as_os_str() == "-" {
        return Err(TargetError::StandardOutput);
    }
    if used.into_iter().any(|used| same_file(used, path)) {
        return Err(TargetError::InUse);
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(TargetError::Directory),
        // A pipe of the shell, like /dev/fd/63, has a reader.
        Ok(metadata)
            if metadata.file_type().is_fifo() && path.canonicalize().is_ok_and(|path| !path.starts_with("/dev")) =>
        {
            Err(TargetError::Pipe)
        }
        Ok(metadata) if metadata.is_file() => check_existing(path, &metadata, begins_with),
        Ok(_) => Ok(()),
        Err(_) if path.is_symlink() => Err(TargetError::DanglingLink),
        Err(_) if directory_of(path).is_dir() => Ok(()),
        Err(_) => Err(TargetError::NoDirectory),
    }
}

/// Checks that a file may be replaced: it is empty, or begins with this text. An empty file of another user is no earlier
/// version.
fn check_existing(path: &Path, metadata: &Metadata, begins_with: &str) -> Result<(), TargetError> {
    if metadata.len() == 0
        && let Some(owner) = other_owner(path, metadata)
    {
        return Err(TargetError::OtherOwner(owner));
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(TargetError::Read)?;
    let mut file = file.take(begins_with.len().max(1) as u64);
    file.read_to_end(&mut start).map_err(TargetError::Read)?;
    if start.is_empty() || start == begins_with.as_bytes() {
        Ok(())
    } else {
        Err(TargetError::OtherContent)
    }
}

/// Writes the file as a whole. An existing file is replaced if it is empty or begins with `begins_with`; if it is not a
/// regular file (a terminal, a pipe), it is written to. The target of a link is replaced, not the link.
///
/// # Errors
/// Those of `write`, and an [`io::Error`] if the file can't be written. An existing file then remains as it was.
pub fn replace<T, E: From<io::Error>>(
    path: &Path,
    begins_with: &str,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let path = if path.is_symlink() { &path.canonicalize()? } else { path };
    let write_to = |file: &File| {
        let mut file = BufWriter::new(file);
        let result = write(&mut file)?;
        file.flush()?;
        Ok(result)
    };
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => return write_to(&OpenOptions::new().write(true).open(path)?),
        Ok(metadata) => check_existing(path, &metadata, begins_with).map_err(io::Error::other)?,
        Err(_) => {}
    }
    let new = NewFile::beside(path, mode)?;
    let result = write_to(new.file())?;
    new.put_in_place()?;
    Ok(result)
}

/// A new version of a file, open for reading and appending. It is removed if it is never put in place.
pub(crate) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl NewFile {
    /// Creates the new version of the file at `path`, with the mode and owner of the existing file, or else with `mode`.
    pub fn beside(path: &Path, mode: u32) -> io::Result<NewFile> {
        remove_stale(directory_of(path));
        let file = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .append(true)
            .tempfile_in(directory_of(path))?;
        // It is in use. Some file systems don't support locks.
        let _ = file.as_file().try_lock();
        let kept = path.metadata().ok().filter(|existing| {
            let owner = |file: &Metadata| (file.uid(), file.gid());
            let is_owner = file
                .as_file()
                .metadata()
                .is_ok_and(|new| owner(&new) == owner(existing));
            // Only root can give a file to another user.
            is_owner || fchown(file.as_file(), Some(existing.uid()), Some(existing.gid())).is_ok()
        });
        let permissions = kept.map_or_else(|| Permissions::from_mode(mode), |existing| existing.permissions());
        file.as_file().set_permissions(permissions)?;
        Ok(NewFile {
            file,
            path: path.to_owned(),
        })
    }

    /// The new version, which is locked.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Replaces the existing file.
    pub fn put_in_place(self) -> io::Result<File> {
        Ok(self.file.persist(&self.path)?)
    }
}

/// Removes new versions of this user's that processes left behind when they were killed: those that are old, and not in use.
/// Best effort.
fn remove_stale(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.as_bytes();
        if name.starts_with(PREFIX.as_bytes()) && name.ends_with(SUFFIX.as_bytes()) && is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_stale(path: &Path) -> bool {
    let is_old = |metadata: &Metadata| {
        let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        age.is_some_and(|age| age > STALE_AFTER)
    };
    path.symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.uid() == geteuid().as_raw() && is_old(&metadata))
        && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn write(path: &Path, text: &str) -> io::Result<()> {
        replace(path, "mine", OWNER_ONLY, |out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn a_file_has_the_given_mode_whatever_the_umask_and_keeps_the_mode_that_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.html");
        for (new, expected) in [(OWNER_ONLY, 0o600), (READABLE, 0o644)] {
            replace(&path, "", new, |_| io::Result::Ok(())).unwrap();
            assert_eq!(mode(&path), expected);
            fs::remove_file(&path).unwrap();
        }
        write(&path, "mine").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, "mine too").unwrap();
        assert_eq!(
            (mode(&path), fs::read_to_string(&path).unwrap()),
            (0o640, "mine too".into())
        );
    }

    #[test]
    fn the_target_of_a_link_is_replaced_and_not_the_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, "mine").unwrap();
        symlink(&path, &link).unwrap();
        write(&link, "mine, new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine, new");
    }

    #[test]
    fn other_content_is_never_replaced_also_not_by_way_of_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("precious"), directory.path().join("link"));
        fs::write(&path, "yours").unwrap();
        symlink(&path, &link).unwrap();
        for path in [&path, &link] {
            let refused = check_target(path, "mine", []);
            assert!(matches!(refused, Err(TargetError::OtherContent)), "{refused:?}");
            write(path, "mine").unwrap_err();
        }
        let empty_marks_nothing = check_target(&path, "", []);
        assert!(matches!(empty_marks_nothing, Err(TargetError::OtherContent)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "yours");
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            check_target(&link, "mine", []),
            Err(TargetError::DanglingLink)
        ));
    }

    #[test]
    fn after_an_error_the_existing_file_is_as_it_was_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "mine").unwrap();
        let failed = replace(&path, "mine", OWNER_ONLY, |out| {
            out.write_all(b"half")?;
            Err::<(), _>(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn one_file_has_many_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::hard_link(path("file"), path("hard")).unwrap();
        symlink(path("file"), path("link")).unwrap();
        for name in ["hard", "link", "directory/../file", "./file"] {
            assert!(same_file(&path("file"), &path(name)), "{name}");
        }
        assert!(same_file(&path("new"), &path("directory/../new")));
        assert!(!same_file(&path("file"), &path("new")));
        assert!(!same_file(&path("new"), &path("newer")));
    }
    #[test]
    fn a_file_left_over_by_a_killed_process_is_removed_when_it_is_old_and_not_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let create = |name: &str, age: Duration| {
            let file = File::create(directory.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
            file
        };
        let old = STALE_AFTER + Duration::from_secs(60);
        create(".zim-batch.aaaaaa.tmp", old);
        let in_use = create(".zim-batch.bbbbbb.tmp", old);
        in_use.try_lock().unwrap();
        create(".zim-batch.cccccc.tmp", Duration::ZERO);
        create(".zim-batch.toml", old);
        create("other.tmp", old);
        write(&directory.path().join("file"), "mine").unwrap();
        let names = fs::read_dir(directory.path()).unwrap().flatten();
        let mut names: Vec<String> = names.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        let left = [
            ".zim-batch.bbbbbb.tmp",
            ".zim-batch.cccccc.tmp",
            ".zim-batch.toml",
            "file",
            "other.tmp",
        ];
        assert_eq!(names, left);
    }
}
