//! Opens a file or standard input as UTF-8 text: decompressed and decoded.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use super::compression;
use super::encoding::{self, Encoding};
use super::error::InputError;
use super::layout::{DELIMITERS, to_first_record};
use crate::csv_reader::CsvReader;

/// The size of a read, in bytes.
const CHUNK: usize = 64 * 1024;

/// How far the end of the first record is searched for, in bytes.
const MAX_START: usize = 1024 * 1024;

/// A file of rows, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, which is read twice: once to count and check, once to send.
    File(PathBuf),
    /// Standard input, read once.
    Stdin,
}

impl Source {
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

/// The text of the input as UTF-8, decompressed if its first bytes are those of gzip or zstd.
pub(super) struct Text {
    pub reader: Box<dyn Read + Send>,
    /// It was in another encoding: bytes that could not be decoded are U+FFFD.
    pub is_decoded: bool,
    /// The first four bytes, decompressed but not decoded: they show what kind of file it is.
    pub signature: Vec<u8>,
}

impl Text {
    /// The encoding is that of a byte order mark; without one it is `encoding`, or else UTF-8.
    pub fn new(reader: Box<dyn Read + Send>, encoding: Option<&'static Encoding>) -> io::Result<Text> {
        let (start, reader) = first_bytes(Box::new(RetryInterrupted(reader)))?;
        let decompressed: Box<dyn Read + Send> = match start[..] {
            [0x1f, 0x8b, ..] => compression::gzip(reader)?,
            [0x28, 0xb5, 0x2f, 0xfd] => compression::zstd(reader)?,
            _ => {
                return Text::decoded(&start, reader, encoding);
            }
        };
        let (start, reader) = first_bytes(decompressed)?;
        Text::decoded(&start, reader, encoding)
    }

    fn decoded(start: &[u8], reader: Box<dyn Read + Send>, encoding: Option<&'static Encoding>) -> io::Result<Text> {
        let (reader, is_decoded) = encoding::decoded(start, reader, encoding)?;
        Ok(Text {
            reader,
            is_decoded,
            signature: start.to_vec(),
        })
    }
}

/// Retries a read that a signal has interrupted: not every decoder does.
struct RetryInterrupted<R>(R);

impl<R: Read> Read for RetryInterrupted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// Returns the first four bytes, and a reader that still includes them.
fn first_bytes(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut start = Vec::new();
    reader.by_ref().take(4).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(reader);
    Ok((start, Box::new(whole)))
}

/// Reads until the first record is complete, and no further, because standard input may be slow. Returns the bytes read
/// and a reader of the rest.
pub(super) fn first_record(
    mut reader: Box<dyn Read + Send>,
    delimiter: Option<u8>,
) -> io::Result<(Vec<u8>, impl BufRead + Send + use<>)> {
    let mut start = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = reader.read(&mut chunk)?;
        start.extend_from_slice(&chunk[..read]);
        if read == 0 || start.len() >= MAX_START || holds_first_record(&start, delimiter) {
            return Ok((start, BufReader::with_capacity(CHUNK, reader)));
        }
    }
}

/// Whether the first record ends within `start`, for any possible delimiter.
fn holds_first_record(start: &[u8], delimiter: Option<u8>) -> bool {
    let ends_here = |delimiter: &u8| {
        let mut records = CsvReader::new(start, *delimiter);
        to_first_record(&mut records)
            && records.current().error.is_none()
            && (!records.input().is_empty() || matches!(start.last(), Some(b'\n' | b'\r')))
    };
    match delimiter {
        Some(given) => ends_here(&given),
        None => DELIMITERS.iter().all(ends_here),
    }
}
