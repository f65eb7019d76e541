//! The place where a page is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::journal::{PageError, ReportError};

/// The beginning of every page, which distinguishes pages from files that must not be replaced.
pub(super) const MARK: &str = "<!doctype html>\n<!-- zim-batch report -->";

/// Checks that a page may be written to `path`: that it is none of `others`, and that an existing file is a page.
pub fn check_target<'a>(path: &Path, others: impl IntoIterator<Item = &'a Path>) -> Result<(), ReportError> {
    let refuse = |reason| {
        let path = path.to_owned();
        Err(ReportError::Page { path, reason })
    };
    if path.as_os_str() == "-" {
        return refuse(PageError::StandardOutput);
    }
    if others.into_iter().any(|other| is_same(path, other)) {
        return refuse(PageError::InUse);
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => refuse(PageError::Directory),
        Ok(metadata)
            if metadata.file_type().is_fifo() && path.canonicalize().is_ok_and(|path| !path.starts_with("/dev")) =>
        {
            refuse(PageError::Pipe)
        }
        Ok(_) => match may_be_replaced(path) {
            Ok(true) => Ok(()),
            Ok(false) => refuse(PageError::NoPage),
            Err(error) => refuse(PageError::Read(error)),
        },
        Err(_) if directory(path).is_dir() => Ok(()),
        Err(_) => refuse(PageError::NoDirectory),
    }
}

/// Whether the existing file is a page, is empty, or is not a regular file.
pub(super) fn may_be_replaced(path: &Path) -> io::Result<bool> {
    if !path.metadata()?.is_file() {
        return Ok(true);
    }
    let mut start = Vec::new();
    File::open(path)?.take(MARK.len() as u64).read_to_end(&mut start)?;
    Ok(start.is_empty() || start == MARK.as_bytes())
}

/// Whether both paths lead to the same file, which need not exist.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let metadata = path.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let whole = |path: &Path| Some(directory(path).canonicalize().ok()?.join(path.file_name()?));
    let same = |one: Option<(u64, u64)>, other| one.is_some() && one == other;
    same(identity(one), identity(other)) || whole(one).is_some_and(|one| Some(one) == whole(other))
}

/// The directory that contains `path`.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}
