//! A file as it was when its rows were counted, so that a change is detected before a row of the changed file is sent.
//!
//! Taking a snapshot reads the file once and keeps a fingerprint of each chunk: eight bytes per 64 KiB. Reading the rows
//! afterwards verifies each chunk before returning any of its bytes. So a change is detected whatever the file's size and
//! times are. Bytes appended since are not read.

use std::fs::{File, Metadata};
use std::hash::Hasher;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{FileChange, InputError, InputErrorKind};
use super::text::Compression;
use crate::fingerprint::hasher;

/// The size of a chunk, in bytes.
const CHUNK: usize = 64 * 1024;

/// A file as it was at one moment. Clones share their state.
#[derive(Debug, Clone)]
pub struct Snapshot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    len: u64,
    /// One fingerprint for each [`CHUNK`] bytes.
    chunks: Vec<u64>,
    is_compressed: bool,
    seen: Mutex<Seen>,
}

/// What was last seen of the file.
#[derive(Debug)]
struct Seen {
    /// Its metadata when its bytes were last verified.
    stamp: FileStamp,
    /// Bytes were appended.
    has_grown: bool,
    /// The line of its last row, if that has no line end.
    open_row: Option<u64>,
}

/// The metadata that changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> FileStamp {
        FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
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
        Snapshot::read(path).map_err(|error| InputErrorKind::Open(error).of(&path.display().to_string()))
    }

    fn read(path: &Path) -> io::Result<Snapshot> {
        let mut file = File::open(path)?;
        // Taken before the first byte is read, so that any later write changes it.
        let stamp = FileStamp::from(&file.metadata()?);
        let (mut len, mut chunks, mut is_compressed) = (0, Vec::new(), false);
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            read_chunk(&mut file, &mut chunk, CHUNK)?;
            if len == 0 {
                is_compressed = Compression::of(&chunk).is_some();
            }
            if chunk.is_empty() {
                break;
            }
            len += chunk.len() as u64;
            chunks.push(fingerprint(&chunk));
        }
        Ok(Snapshot(Arc::new(Inner {
            path: path.to_owned(),
            len,
            chunks,
            is_compressed,
            seen: Mutex::new(Seen {
                stamp,
                has_grown: false,
                open_row: None,
            }),
        })))
    }

    pub(super) fn name(&self) -> String {
        self.0.path.display().to_string()
    }

    /// A reader of the file's bytes as they were; it fails at the first chunk that has changed.
    pub(super) fn open(&self) -> Result<Box<dyn Read + Send>, InputError> {
        match File::open(&self.0.path) {
            Ok(file) => Ok(Box::new(VerifyingReader::new(file, self.clone()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.changed(FileChange::Removed)),
            Err(error) => Err(InputErrorKind::Open(error).of(&self.name())),
        }
    }

    /// Checks that the file still begins with the same bytes. Cheap unless the file's metadata have changed; then the
    /// bytes are read again. A file that can't be read is no change, because that may be temporary: reading the rows fails if
    /// it persists.
    pub fn check_unchanged(&self) -> Result<(), InputError> {
        let mut seen = self.seen();
        let metadata = match self.0.path.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.changed(FileChange::Removed)),
            Err(_) => return Ok(()),
        };
        let stamp = FileStamp::from(&metadata);
        if stamp != seen.stamp {
            if let Err(error) = self.verify() {
                return file_change(&error).map_or(Ok(()), |change| Err(self.changed(change)));
            }
            seen.has_grown = stamp.len > self.0.len;
            seen.stamp = stamp;
        }
        self.check_row_ends(seen.open_row)
    }

    /// Whether bytes were appended since, as of the last [`Snapshot::check_unchanged`].
    pub fn has_grown(&self) -> bool {
        self.seen().has_grown
    }

    /// Call at a last row without a line end, which begins on `line`: fails if the row has become longer since, and makes
    /// [`Snapshot::check_unchanged`] check it too.
    pub(super) fn check_last_row(&self, line: u64) -> Result<(), InputError> {
        self.seen().open_row = Some(line);
        self.check_row_ends(Some(line))
    }

    fn check_row_ends(&self, open_row: Option<u64>) -> Result<(), InputError> {
        match open_row {
            Some(line) if self.row_continues().unwrap_or(false) => {
                Err(InputErrorKind::StillWritten.at(&self.name(), line))
            }
            _ => Ok(()),
        }
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

    /// Reads the bytes again; fails if they have changed.
    fn verify(&self) -> io::Result<()> {
        let file = File::open(&self.0.path)?;
        io::copy(&mut VerifyingReader::new(file, self.clone()), &mut io::sink())?;
        Ok(())
    }

    fn changed(&self, change: FileChange) -> InputError {
        InputErrorKind::Changed(change).of(&self.name())
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a file and verifies each chunk against its snapshot.
struct VerifyingReader {
    file: File,
    snapshot: Snapshot,
    chunk: Cursor<Vec<u8>>,
    next_chunk: usize,
}

impl VerifyingReader {
    fn new(file: File, snapshot: Snapshot) -> VerifyingReader {
        VerifyingReader {
            file,
            snapshot,
            chunk: Cursor::default(),
            next_chunk: 0,
        }
    }

    /// Reads the next chunk; keeps the last one at the end.
    fn advance(&mut self) -> io::Result<()> {
        let Inner { chunks, len, .. } = &*self.snapshot.0;
        let chunk = self.chunk.get_mut();
        let Some(expected) = chunks.get(self.next_chunk) else {
            return Ok(());
        };
        let size = CHUNK.min((len - self.next_chunk as u64 * CHUNK as u64) as usize);
        read_chunk(&mut self.file, chunk, size)?;
        if chunk.len() < size {
            return Err(io::Error::other(FileChange::Cut));
        }
        if fingerprint(chunk) != *expected {
            return Err(io::Error::other(FileChange::Rewritten));
        }
        self.chunk.set_position(0);
        self.next_chunk += 1;
        Ok(())
    }
}

impl Read for VerifyingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.position() == self.chunk.get_ref().len() as u64 {
            self.advance()?;
        }
        self.chunk.read(buffer)
    }
}

/// Reads up to `size` bytes; fewer at the end of the file.
fn read_chunk(file: &mut File, chunk: &mut Vec<u8>, size: usize) -> io::Result<()> {
    chunk.clear();
    file.take(size as u64).read_to_end(chunk)?;
    Ok(())
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
