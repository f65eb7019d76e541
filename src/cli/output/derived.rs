//! Files that are derived from others: written whole, or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::errors::Error;
use crate::cli::settings::same_file;

/// Checks that the file of a flag can be written: that it is none of `used`, and that an existing file begins with `start`.
pub fn check(flag: &str, path: &Path, start: &str, used: &[PathBuf]) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::Usage(format!("{flag} {}: {why}", path.display())));
    if path.as_os_str() == "-" {
        return refuse("this must be a file, not standard output; name a file, or write ./- for a file of that name");
    }
    if used.iter().any(|used| same_file(used, path)) {
        return refuse("this command already uses the file for something else; name another one");
    }
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => refuse("this is a directory; name a file in it"),
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => match begins_with(path, start) {
            Ok(true) => Ok(()),
            Ok(false) => refuse("this file exists already; name another one, or remove it"),
            Err(error) => refuse(&format!("can't be read: {error}")),
        },
        Ok(_) => Ok(()),
        Err(_) if directory(path).is_dir() => Ok(()),
        Err(_) => refuse("its directory does not exist; correct the path"),
    }
}

fn begins_with(path: &Path, start: &str) -> io::Result<bool> {
    let mut bytes = Vec::new();
    File::open(path)?.take(start.len() as u64).read_to_end(&mut bytes)?;
    Ok(!start.is_empty() && bytes == start.as_bytes())
}

/// Writes the file: beside it first, then with one `rename`. It is readable by its owner only, because it has user IDs.
pub fn write<T, E: From<io::Error>>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, E>) -> Result<T, E> {
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return write(&mut OpenOptions::new().write(true).open(path)?);
    }
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = directory(&path).join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)?;
        let mut file = BufWriter::new(file);
        let result = write(&mut file)?;
        file.flush()?;
        fs::rename(&unfinished, &path)?;
        Ok(result)
    })();
    if written.is_err() {
        // Best effort: the error that is returned matters more.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// The directory that contains `path`.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}
