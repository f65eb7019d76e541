//! Where the bytes come from: a file or standard input, without a byte order mark.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use super::InputError;
use super::header::{DELIMITERS, to_first_record};
use super::record::Records;

/// Read from the input at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// The most that is read in search of the end of the first record, in bytes.
const START_MAX: usize = 1024 * 1024;

/// A file of rows, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, which is read twice: once to count and check, once to send.
    File(PathBuf),
    /// Standard input, read once.
    Stdin,
}

impl Source {
    /// Whether the rows can be counted before they are sent: not those of a pipe, which is gone when it is read.
    pub fn can_be_read_twice(&self) -> bool {
        match self {
            Source::File(path) => path.metadata().map_or(true, |metadata| metadata.is_file()),
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

/// Opens the source as it is.
pub(super) fn open(source: &Source) -> Result<Box<dyn Read + Send>, InputError> {
    let path = match source {
        Source::Stdin => return Ok(Box::new(io::stdin())),
        Source::File(path) => path,
    };
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    opened
        .map(|file| Box::new(file) as _)
        .map_err(|source| InputError::Open {
            place: path.display().to_string(),
            source,
        })
}

/// Reads until the first record is whole, and no further than that takes: standard input may be slow to come. Gives
/// what was read, without its byte order mark, and the rest.
pub(super) fn first_record(
    mut reader: Box<dyn Read + Send>,
    delimiter: Option<u8>,
) -> io::Result<(Vec<u8>, impl BufRead + Send + use<>)> {
    let mut start = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match reader.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        start.extend_from_slice(&chunk[..read]);
        if read == 0 || start.len() >= START_MAX || holds_first_record(&start, delimiter) {
            break;
        }
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        start.drain(..3);
    }
    Ok((start, BufReader::with_capacity(CHUNK, reader)))
}

/// Whether the first record ends within `start`, whichever the delimiter turns out to be.
fn holds_first_record(start: &[u8], delimiter: Option<u8>) -> bool {
    let ends_here = |delimiter: &u8| {
        let mut records = Records::new(start, *delimiter);
        to_first_record(&mut records)
            && records.current().flaw.is_none()
            && (!records.input().is_empty() || matches!(start.last(), Some(b'\n' | b'\r')))
    };
    match delimiter {
        Some(given) => ends_here(&given),
        None => DELIMITERS.iter().all(ends_here),
    }
}
