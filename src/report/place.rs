//! The places where a run's files are written: what stands there is looked at before anything is touched, a file is
//! created for its owner alone, and it goes again if the run never begins.
//!
//! A new file has mode 0600, whatever the umask: it holds user IDs, and who can read a file can also lock it, which
//! would keep a run from starting. To let others read a report, change its mode, which every later run keeps; or create
//! it, empty, with the mode that it should have: an empty file is no report, and is written to without a question.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::IfExists;
use super::error::{ReportError, Role};

/// The permissions of a new file: read and write for its owner.
const MODE: u32 = 0o600;

/// A file that is open for reading and appending.
///
/// Dropped before [`Opened::keep`] was called, it is as it was: not there, or empty.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: Arc<File>,
    pub path: PathBuf,
    /// A file in the usual sense: it has a length, and what was written to it can be read again.
    pub is_regular: bool,
    /// Its length when it was opened, in bytes.
    pub len: u64,
    was: Was,
}

/// What dropping has to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Absent,
    Empty,
    /// Nothing is restored.
    Kept,
}

impl Opened {
    /// Opens what stands at `path`, or creates a file there.
    pub fn open(path: &Path, role: Role, existing: IfExists) -> Result<Opened, ReportError> {
        look(path, role, existing)?;
        let error = |source| unwritable(path, source);
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        let (file, is_new) = match options.clone().create_new(true).mode(MODE).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (options.open(path), false),
            created => (created, true),
        };
        let file = file.map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        // Once more, for it may have been put there just now.
        check_kind(path, role, existing, &metadata)?;
        let (is_regular, len) = (metadata.is_file(), metadata.len());
        Ok(Opened {
            file: Arc::new(file),
            path: path.to_owned(),
            is_regular,
            len,
            was: match (is_new, len) {
                (true, _) => Was::Absent,
                (false, 0) if is_regular => Was::Empty,
                _ => Was::Kept,
            },
        })
    }

    /// The run has begun: the file stays.
    pub fn keep(&mut self) {
        self.was = Was::Kept;
    }

    /// Cuts the file to `len` bytes, if it is one that has a length.
    pub fn cut(&self, len: u64) -> Result<(), ReportError> {
        match self.is_regular && self.file.metadata().map_err(|source| self.error(source))?.len() != len {
            true => self.file.set_len(len).map_err(|source| self.error(source)),
            false => Ok(()),
        }
    }

    /// Whether its path still leads to it.
    pub fn is_in_place(&self) -> io::Result<bool> {
        is_same(&self.file, &self.path)
    }

    pub fn error(&self, source: io::Error) -> ReportError {
        unwritable(&self.path, source)
    }
}

/// Whether `path` leads to `file`.
pub(super) fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, path.metadata()?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

impl Drop for Opened {
    fn drop(&mut self) {
        // If it can't be restored there is an empty or header-only file more, which does no harm.
        match self.was {
            Was::Absent if self.is_in_place().is_ok_and(|is| is) => {
                let _ = fs::remove_file(&self.path);
            }
            Was::Empty => {
                let _ = self.file.set_len(0);
            }
            Was::Absent | Was::Kept => {}
        }
    }
}

/// Refuses what can't be written to as a report or an outside log, before it is opened. Gives what is known of a
/// file that is there.
pub(super) fn look(path: &Path, role: Role, existing: IfExists) -> Result<Option<Metadata>, ReportError> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match fs::read_link(path) {
                Ok(target) => Err(ReportError::DanglingLink {
                    path: path.to_owned(),
                    target,
                    role,
                }),
                Err(_) => match directory(path).metadata() {
                    Ok(_) => Ok(None),
                    Err(error) => Err(unwritable(path, error)),
                },
            };
        }
        Err(error) => return Err(unwritable(path, error)),
    };
    check_kind(path, role, existing, &metadata)?;
    Ok(Some(metadata))
}

fn check_kind(path: &Path, role: Role, existing: IfExists, metadata: &Metadata) -> Result<(), ReportError> {
    let Some(kind) = kind(metadata.file_type()) else {
        return Ok(());
    };
    let is_device = metadata.file_type().is_char_device();
    match existing {
        // Whoever says so twice, with a place for the outside log as well, wants no report: /dev/null.
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

/// What it is, unless it is a file in the usual sense.
fn kind(file_type: FileType) -> Option<&'static str> {
    match () {
        () if file_type.is_file() => None,
        () if file_type.is_dir() => Some("a directory"),
        () if file_type.is_fifo() => Some("a pipe"),
        () if file_type.is_socket() => Some("a socket"),
        () => Some("a device"),
    }
}

/// The directory in which a file is.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn unwritable(path: &Path, source: io::Error) -> ReportError {
    ReportError::Write {
        path: path.to_owned(),
        source,
    }
}
