//! A file of rows, or standard input.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{InputError, InputErrorKind};

/// A file of rows, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, which is read twice: once to count and check, once to send.
    File(PathBuf),
    /// Standard input, read once.
    Stdin,
}

impl Source {
    /// Its path; `-` for standard input.
    pub fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Stdin => Path::new("-"),
        }
    }

    /// Whether the rows can be counted before they are sent. A pipe can be read only once.
    pub fn can_be_read_twice(&self) -> bool {
        match self {
            Source::File(path) => path
                .metadata()
                .map_or(true, |metadata| metadata.is_file() || metadata.is_dir()),
            Source::Stdin => false,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::File(path) => path.display().fmt(f),
            Source::Stdin => f.write_str("standard input"),
        }
    }
}

/// `-` is standard input.
impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        if path.as_os_str() == "-" {
            Source::Stdin
        } else {
            Source::File(path)
        }
    }
}

/// Opens the source for reading, unchanged.
pub(super) fn open(source: &Source) -> Result<Box<dyn Read + Send>, InputError> {
    let path = match source {
        Source::Stdin => return Ok(Box::new(io::stdin())),
        Source::File(path) => path,
    };
    let opened = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(file)
    });
    match opened {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(InputErrorKind::Open(error).of(&source.to_string())),
    }
}
