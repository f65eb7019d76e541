//! A file as it was when its rows were counted, so that a change is detected before a row of the changed file is sent.
//!
//! Taking a snapshot reads the file once and keeps a fingerprint of each chunk: eight bytes per 64 KiB. Reading the rows
//! afterwards verifies each chunk before returning any of its bytes. So a change is detected whatever the file's size and
//! times are. Bytes appended since are not read.

use std::fs::{File, Metadata};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{FileChange, InputError, InputErrorKind};
use crate::fingerprint::hasher;

/// The size of a chunk, in bytes.
const CHUNK: usize = 64 * 1024;

/// A file as it was at one moment. Clones share their state.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    place: String,
    len: u64,
    /// One fingerprint for each [`CHUNK`] bytes.
    chunks: Vec<u64>,
    is_compressed: bool,
    /// The file's metadata when its bytes were last verified.
    stamp: Mutex<FileStamp>,
    /// The line of the last row, if it has no line end; 0 otherwise.
    open_row_line: AtomicU64,
    has_grown: AtomicBool,
}

/// The metadata that changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> FileStamp {
        FileStamp {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How the file has changed, if this error carries a [`FileChange`].
pub(super) fn file_change(error: &io::Error) -> Option<FileChange> {
    error.get_ref()?.downcast_ref::<FileChange>().copied()
}

impl Snapshot {
    /// Reads the whole file at `path`, which must be a regular one.
    pub(super) fn take(path: &Path) -> Result<Snapshot, InputError> {
        let place = path.display().to_string();
        let read = || -> io::Result<Snapshot> {
            let mut file = File::open(path)?;
            // Taken before the first byte is read, so that any later write changes it.
            let stamp = FileStamp::from(&file.metadata()?);
            let mut inner = Inner {
                path: path.to_owned(),
                place: place.clone(),
                len: 0,
                chunks: Vec::new(),
                is_compressed: false,
                stamp: Mutex::new(stamp),
                open_row_line: AtomicU64::new(0),
                has_grown: AtomicBool::new(false),
            };
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = read_chunk(&mut file, &mut chunk)?;
                if inner.len == 0 {
                    inner.is_compressed = matches!(chunk[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
                }
                inner.len += read as u64;
                if read > 0 {
                    inner.chunks.push(fingerprint(&chunk[..read]));
                }
                if read < CHUNK {
                    return Ok(Snapshot(Arc::new(inner)));
                }
            }
        };
        read().map_err(|error| InputErrorKind::Open(error).of(&place))
    }

    pub(super) fn place(&self) -> &str {
        &self.0.place
    }

    /// A reader of the file's bytes as they were; it fails at the first chunk that has changed.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, InputError> {
        let opened = File::open(&self.0.path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.error(FileChange::Removed),
            _ => InputErrorKind::Open(source).of(&self.0.place),
        })?;
        Ok(Box::new(VerifyingReader::new(file, self.clone())))
    }

    /// Checks that the file still begins with the same bytes. Cheap unless the file's metadata have changed; then the
    /// bytes are read again.
    pub fn check_unchanged(&self) -> Result<(), InputError> {
        match self.find_change() {
            Ok(()) => self.check_last_row_complete(),
            Err(error) => match file_change(&error) {
                Some(change) => Err(self.error(change)),
                // Possibly temporary; reading the rows fails if it persists.
                None => Ok(()),
            },
        }
    }

    /// Whether bytes were appended since, as of the last [`Snapshot::check_unchanged`].
    pub fn has_grown(&self) -> bool {
        self.0.has_grown.load(Relaxed)
    }

    /// Call at a last row without a line end, which begins on `line`: fails if the row has become longer since, and makes
    /// [`Snapshot::check_unchanged`] check it too.
    pub(super) fn check_last_row(&self, line: u64) -> Result<(), InputError> {
        self.0.open_row_line.store(line, Relaxed);
        self.check_last_row_complete()
    }

    fn check_last_row_complete(&self) -> Result<(), InputError> {
        let line = self.0.open_row_line.load(Relaxed);
        if line > 0 && self.row_continues().unwrap_or(false) {
            return Err(InputErrorKind::StillWritten.at(&self.0.place, line));
        }
        Ok(())
    }

    /// Whether something other than a line end follows. In a compressed file anything that follows counts.
    fn row_continues(&self) -> io::Result<bool> {
        let mut file = File::open(&self.0.path)?;
        file.seek(SeekFrom::Start(self.0.len))?;
        let mut following = Vec::new();
        file.take(4).read_to_end(&mut following)?;
        // In UTF-16 one byte of a line end is zero.
        let first = following.iter().find(|byte| **byte != 0);
        Ok(!following.is_empty() && (self.0.is_compressed || !matches!(first, Some(b'\r' | b'\n'))))
    }

    fn find_change(&self) -> io::Result<()> {
        let now = FileStamp::from(&self.metadata()?);
        {
            let stamp = self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner);
            if *stamp == now {
                return Ok(());
            }
        }
        if now.len < self.0.len {
            return Err(io::Error::other(FileChange::Cut));
        }
        let file = File::open(&self.0.path)?;
        io::copy(&mut VerifyingReader::new(file, self.clone()), &mut io::sink())?;
        self.0.has_grown.store(now.len > self.0.len, Relaxed);
        *self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.path.metadata().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(FileChange::Removed),
            _ => error,
        })
    }

    fn error(&self, change: FileChange) -> InputError {
        InputErrorKind::Changed(change).of(&self.0.place)
    }
}

/// Reads a file and verifies each chunk against its snapshot.
struct VerifyingReader {
    file: File,
    snapshot: Snapshot,
    chunk: Vec<u8>,
    /// How many bytes the chunk has, and how many of them were returned.
    len: usize,
    offset: usize,
    next_chunk: usize,
}

impl VerifyingReader {
    fn new(file: File, snapshot: Snapshot) -> VerifyingReader {
        VerifyingReader {
            file,
            snapshot,
            chunk: vec![0; CHUNK],
            len: 0,
            offset: 0,
            next_chunk: 0,
        }
    }
}

impl Read for VerifyingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.offset == self.len {
            let Inner { chunks, len, .. } = &*self.snapshot.0;
            let Some(expected) = chunks.get(self.next_chunk) else {
                return Ok(0);
            };
            let size = CHUNK.min((len - self.next_chunk as u64 * CHUNK as u64) as usize);
            let read = read_chunk(&mut self.file, &mut self.chunk[..size])?;
            if read < size {
                return Err(io::Error::other(FileChange::Cut));
            }
            if fingerprint(&self.chunk[..size]) != *expected {
                return Err(io::Error::other(FileChange::Rewritten));
            }
            (self.len, self.offset) = (size, 0);
            self.next_chunk += 1;
        }
        let count = buffer.len().min(self.len - self.offset);
        buffer[..count].copy_from_slice(&self.chunk[self.offset..self.offset + count]);
        self.offset += count;
        Ok(count)
    }
}

/// Fills the chunk as far as the file goes; returns the number of bytes read.
fn read_chunk(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = hasher();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct TempInput(tempfile::TempDir);

    impl TempInput {
        fn new(content: &[u8]) -> (TempInput, Snapshot) {
            let input = TempInput(tempfile::tempdir().unwrap());
            fs::write(input.path(), content).unwrap();
            let snapshot = Snapshot::take(&input.path()).unwrap();
            (input, snapshot)
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("rows.csv")
        }
    }

    fn read(snapshot: &Snapshot) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let mut file = snapshot.open().map_err(|error| error.to_string())?;
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(file_change(&error).expect("nothing else fails").to_string()),
        }
    }

    /// Sizes at and next to the boundaries of chunks.
    fn sizes() -> [usize; 7] {
        [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn an_unchanged_file_is_read_whole_without_what_was_appended() {
        for size in sizes() {
            let (input, snapshot) = TempInput::new(&bytes(size));
            assert_eq!(read(&snapshot), Ok(bytes(size)), "{size}");
            fs::write(input.path(), bytes(size + 1000)).unwrap();
            snapshot.check_unchanged().unwrap();
            assert!(snapshot.has_grown());
            assert_eq!(read(&snapshot), Ok(bytes(size)), "{size}, and more");
        }
    }

    #[test]
    fn a_changed_or_missing_byte_is_detected_whatever_the_times_are() {
        for size in sizes().into_iter().filter(|size| *size > 0) {
            for at in [0, size / 2, size - 1] {
                let (input, snapshot) = TempInput::new(&bytes(size));
                let mut other = bytes(size);
                other[at] ^= 1;
                fs::write(input.path(), &other).unwrap();
                assert_eq!(
                    read(&snapshot),
                    Err(FileChange::Rewritten.to_string()),
                    "{at} of {size}"
                );
                fs::write(input.path(), &bytes(size)[..at]).unwrap();
                assert_eq!(read(&snapshot), Err(FileChange::Cut.to_string()), "{at} of {size}");
                assert!(
                    snapshot
                        .check_unchanged()
                        .unwrap_err()
                        .to_string()
                        .contains("cut short")
                );
            }
        }
        let (input, snapshot) = TempInput::new(b"a,b,0\n");
        fs::remove_file(input.path()).unwrap();
        assert!(snapshot.check_unchanged().unwrap_err().to_string().contains("removed"));
    }

    #[test]
    fn a_last_row_without_a_line_end_may_only_get_a_line_end() {
        let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
        for (start, more, row_continues) in [
            (b"a,b,0".to_vec(), b"".to_vec(), false),
            (b"a,b,0".to_vec(), b"\nc,d,0".to_vec(), false),
            (b"a,b,0".to_vec(), b"\r\n".to_vec(), false),
            (b"a,b,0".to_vec(), b"0".to_vec(), true),
            (utf16("a,b,0"), utf16("\nc"), false),
            (utf16("a,b,0"), utf16("0\n"), true),
            (vec![0x1f, 0x8b, 8], vec![b'\n'], true), // another gzip member
        ] {
            let (input, snapshot) = TempInput::new(&start);
            assert!(snapshot.check_last_row(7).is_ok());
            fs::write(input.path(), [start.clone(), more.clone()].concat()).unwrap();
            assert_eq!(snapshot.check_unchanged().is_err(), row_continues, "{start:?} {more:?}");
            assert_eq!(snapshot.check_last_row(7).is_err(), row_continues, "{start:?} {more:?}");
        }
    }
}
