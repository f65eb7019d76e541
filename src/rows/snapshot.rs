//! What a file of rows was when its rows were counted, so that a file that changes while it is read is noticed before a
//! row of the changed file is sent.
//!
//! The file is read once and a fingerprint of each chunk kept, eight bytes for each 64 KiB. Whoever reads the rows
//! afterwards reads these chunks again, and no byte of a chunk is given before the chunk has been found as it was. So a
//! change is noticed whatever the file's size and times say. Bytes that were appended since are not read.

use std::fs::{File, Metadata};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::InputError;
use crate::fingerprint::hasher;

/// The bytes of one fingerprint.
const CHUNK: usize = 64 * 1024;

/// A file as it was at one moment. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    place: String,
    len: u64,
    /// One fingerprint for each [`CHUNK`] bytes.
    chunks: Vec<u64>,
    is_packed: bool,
    /// What the file's metadata were when its bytes were last found as they were.
    seen: Mutex<Seen>,
    /// The line of the last row, if it has no line end; 0 otherwise.
    open_end: AtomicU64,
    has_grown: AtomicBool,
}

/// What changes when somebody writes to a file or puts another one in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Seen {
    fn from(metadata: &Metadata) -> Seen {
        Seen {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How a file of rows has changed since its rows were counted. Passes as an I/O error through the decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileChange {
    /// It is shorter.
    #[error("the file was cut short")]
    Cut,
    /// It has other bytes.
    #[error("the file was rewritten or replaced")]
    Rewritten,
    /// It is not there any more.
    #[error("the file was removed or renamed")]
    Removed,
    /// There are fewer rows in it.
    #[error("only {found} of its {counted} rows were found again")]
    FewerRows {
        /// How many were found when they were read again.
        found: u64,
        /// How many had been counted.
        counted: u64,
    },
}

/// What became of the file, if this error says that it has changed.
pub(super) fn what_changed(error: &io::Error) -> Option<FileChange> {
    error.get_ref()?.downcast_ref::<FileChange>().copied()
}

impl Snapshot {
    /// Reads the whole file at `path`, which must be a regular one.
    pub fn take(path: &Path) -> Result<Snapshot, InputError> {
        let place = path.display().to_string();
        let read = || -> io::Result<Snapshot> {
            let mut file = File::open(path)?;
            // Before the first byte: whatever is written from now on shows.
            let seen = Seen::from(&file.metadata()?);
            let mut inner = Inner {
                path: path.to_owned(),
                place: place.clone(),
                len: 0,
                chunks: Vec::new(),
                is_packed: false,
                seen: Mutex::new(seen),
                open_end: AtomicU64::new(0),
                has_grown: AtomicBool::new(false),
            };
            let mut chunk = vec![0; CHUNK];
            loop {
                let read = read_chunk(&mut file, &mut chunk)?;
                if inner.len == 0 {
                    inner.is_packed = matches!(chunk[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
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
        read().map_err(|source| InputError::Open {
            place: place.clone(),
            source,
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.0.place
    }

    /// The file's bytes as they were; an error at the first chunk that has changed.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, InputError> {
        let opened = File::open(&self.0.path);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.error(FileChange::Removed),
            _ => InputError::Open {
                place: self.0.place.clone(),
                source,
            },
        })?;
        Ok(Box::new(Unchanged::new(file, self.clone())))
    }

    /// Looks whether the file still begins with what it was. Costs little unless the file's metadata have changed; then
    /// its bytes are read again.
    pub fn look(&self) -> Result<(), InputError> {
        match self.find_change() {
            Ok(()) => self.check_grown_row(),
            Err(error) => match what_changed(&error) {
                Some(change) => Err(self.error(change)),
                // Perhaps only for now; whoever reads the rows will say so if it stays.
                None => Ok(()),
            },
        }
    }

    /// Whether bytes were appended since, as far as [`Snapshot::look`] has seen.
    pub fn has_grown(&self) -> bool {
        self.0.has_grown.load(Relaxed)
    }

    /// To be called at a last row without a line end, which begins on `line`: fails if the row has gone on since, and from
    /// now on [`Snapshot::look`] does too.
    pub(super) fn check_open_end(&self, line: u64) -> Result<(), InputError> {
        self.0.open_end.store(line, Relaxed);
        self.check_grown_row()
    }

    fn check_grown_row(&self) -> Result<(), InputError> {
        let line = self.0.open_end.load(Relaxed);
        if line > 0 && self.goes_on().unwrap_or(false) {
            return Err(InputError::StillWritten {
                place: self.0.place.clone(),
                line,
            });
        }
        Ok(())
    }

    /// Whether something follows that is no line end. In a packed file nobody can tell what.
    fn goes_on(&self) -> io::Result<bool> {
        let mut file = File::open(&self.0.path)?;
        file.seek(SeekFrom::Start(self.0.len))?;
        let mut next = Vec::new();
        file.take(4).read_to_end(&mut next)?;
        // In UTF-16 a zero stands beside each line end.
        let first = next.iter().find(|byte| **byte != 0);
        Ok(!next.is_empty() && (self.0.is_packed || !matches!(first, Some(b'\r' | b'\n'))))
    }

    fn find_change(&self) -> io::Result<()> {
        let now = Seen::from(&self.metadata()?);
        {
            let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return Ok(());
            }
        }
        if now.len < self.0.len {
            return Err(io::Error::other(FileChange::Cut));
        }
        let file = File::open(&self.0.path)?;
        io::copy(&mut Unchanged::new(file, self.clone()), &mut io::sink())?;
        self.0.has_grown.store(now.len > self.0.len, Relaxed);
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    fn metadata(&self) -> io::Result<Metadata> {
        self.0.path.metadata().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other(FileChange::Removed),
            _ => error,
        })
    }

    fn error(&self, change: FileChange) -> InputError {
        InputError::Changed {
            place: self.0.place.clone(),
            change,
        }
    }
}

/// Reads a file that must be as it was, chunk by chunk.
struct Unchanged {
    file: File,
    snapshot: Snapshot,
    chunk: Vec<u8>,
    /// How many bytes of the chunk there are, and how many of them have been given.
    len: usize,
    given: usize,
    next: usize,
}

impl Unchanged {
    fn new(file: File, snapshot: Snapshot) -> Unchanged {
        Unchanged {
            file,
            snapshot,
            chunk: vec![0; CHUNK],
            len: 0,
            given: 0,
            next: 0,
        }
    }
}

impl Read for Unchanged {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.len {
            let Inner { chunks, len, .. } = &*self.snapshot.0;
            let Some(expected) = chunks.get(self.next) else {
                return Ok(0);
            };
            let size = CHUNK.min((len - self.next as u64 * CHUNK as u64) as usize);
            let read = read_chunk(&mut self.file, &mut self.chunk[..size])?;
            if read < size {
                return Err(io::Error::other(FileChange::Cut));
            }
            if fingerprint(&self.chunk[..size]) != *expected {
                return Err(io::Error::other(FileChange::Rewritten));
            }
            (self.len, self.given) = (size, 0);
            self.next += 1;
        }
        let count = buffer.len().min(self.len - self.given);
        buffer[..count].copy_from_slice(&self.chunk[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

/// Fills the chunk, unless the file ends before.
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

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new(content: &[u8]) -> (Desk, Snapshot) {
            let desk = Desk(tempfile::tempdir().unwrap());
            fs::write(desk.path(), content).unwrap();
            let snapshot = Snapshot::take(&desk.path()).unwrap();
            (desk, snapshot)
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
            Err(error) => Err(what_changed(&error).expect("nothing else fails").to_string()),
        }
    }

    /// Sizes at and beside the seams of chunks.
    fn sizes() -> [usize; 7] {
        [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]
    }

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_file_as_it_was_is_given_whole_and_what_was_appended_is_not() {
        for size in sizes() {
            let (desk, snapshot) = Desk::new(&bytes(size));
            assert_eq!(read(&snapshot), Ok(bytes(size)), "{size}");
            fs::write(desk.path(), bytes(size + 1000)).unwrap();
            snapshot.look().unwrap();
            assert!(snapshot.has_grown());
            assert_eq!(read(&snapshot), Ok(bytes(size)), "{size}, and more");
        }
    }

    #[test]
    fn a_byte_that_is_another_one_or_is_missing_is_noticed_whatever_the_times_say() {
        for size in sizes().into_iter().filter(|size| *size > 0) {
            for at in [0, size / 2, size - 1] {
                let (desk, snapshot) = Desk::new(&bytes(size));
                let mut other = bytes(size);
                other[at] ^= 1;
                fs::write(desk.path(), &other).unwrap();
                assert_eq!(
                    read(&snapshot),
                    Err(FileChange::Rewritten.to_string()),
                    "{at} of {size}"
                );
                fs::write(desk.path(), &bytes(size)[..at]).unwrap();
                assert_eq!(read(&snapshot), Err(FileChange::Cut.to_string()), "{at} of {size}");
                assert!(snapshot.look().unwrap_err().to_string().contains("cut short"));
            }
        }
        let (desk, snapshot) = Desk::new(b"a,b,0\n");
        fs::remove_file(desk.path()).unwrap();
        assert!(snapshot.look().unwrap_err().to_string().contains("removed"));
    }

    #[test]
    fn a_row_without_a_line_end_may_get_one_and_nothing_else() {
        let utf16 = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
        for (start, more, goes_on) in [
            (b"a,b,0".to_vec(), b"".to_vec(), false),
            (b"a,b,0".to_vec(), b"\nc,d,0".to_vec(), false),
            (b"a,b,0".to_vec(), b"\r\n".to_vec(), false),
            (b"a,b,0".to_vec(), b"0".to_vec(), true),
            (utf16("a,b,0"), utf16("\nc"), false),
            (utf16("a,b,0"), utf16("0\n"), true),
            (vec![0x1f, 0x8b, 8], vec![b'\n'], true), // a further member, and nobody knows of what
        ] {
            let (desk, snapshot) = Desk::new(&start);
            assert!(snapshot.check_open_end(7).is_ok());
            fs::write(desk.path(), [start.clone(), more.clone()].concat()).unwrap();
            assert_eq!(snapshot.look().is_err(), goes_on, "{start:?} {more:?}");
            assert_eq!(snapshot.check_open_end(7).is_err(), goes_on, "{start:?} {more:?}");
        }
    }
}
