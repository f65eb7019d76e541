//! The report itself: one CSV record for each row, appended as rows end.
//!
//! It is also the journal. A row whose record is in the file is done; any other is not; there is no second file of
//! hidden state. So a record is complete in the kernel before its row counts as done.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::Record;

/// The report's columns, in order.
pub const COLUMNS: [&str; 12] = [
    "line",
    "user",
    "conv",
    "type",
    "outcome",
    "code",
    "http",
    "message",
    "request_id",
    "attempts",
    "latency_ms",
    "finished_at",
];

/// How many bytes may be pending while copying.
const LARGE: usize = 64 * 1024;

/// How long a file that was in its place is taken to be there still: looking costs as much as writing.
const SEEN_FOR: Duration = Duration::from_millis(10);

/// A CSV file that records are appended to, several at a time.
pub(super) struct Appender {
    path: PathBuf,
    file: Arc<File>,
    /// Records that are not in the file yet.
    pending: csv::Writer<Vec<u8>>,
    /// Where the file's last whole record ends.
    len: u64,
    /// When the file was last seen in its place.
    seen: Option<Instant>,
    /// The file whose place `file` has taken, kept for its lock: whoever has opened it before must not get it.
    _replaced: Option<Arc<File>>,
}

impl Appender {
    /// Appends to `file`, which is `len` bytes long; writes the header first if it is empty.
    pub fn new(path: &Path, file: File, len: u64) -> Result<Appender, Error> {
        let mut appender = Appender {
            path: path.to_owned(),
            file: Arc::new(file),
            pending: csv::Writer::from_writer(Vec::new()),
            len,
            seen: None,
            _replaced: None,
        };
        if len == 0 {
            appender.push_fields(COLUMNS);
            appender.commit()?;
        }
        Ok(appender)
    }

    /// Goes on with `file`, which has taken the place of the one before and is `len` bytes long. Nothing may be pending.
    pub fn replace(&mut self, file: File, len: u64) {
        self._replaced = Some(std::mem::replace(&mut self.file, Arc::new(file)));
        (self.len, self.seen) = (len, None);
    }

    /// Takes a record; it is not in the file before [`Appender::commit`].
    pub fn push(&mut self, record: &Record) {
        let mut numbers = [itoa::Buffer::new(); 5];
        let [line, code, http, attempts, latency] = &mut numbers;
        let latency_ms = record.latency.map(|latency| latency.as_millis());
        self.push_fields([
            line.format(record.line),
            &record.user,
            &record.conv,
            &*record.conv_type,
            record.outcome.as_str(),
            record.code.map_or("", |number| code.format(number)),
            record.http.map_or("", |number| http.format(number)),
            &record.message,
            &record.request_id,
            attempts.format(record.attempts),
            latency_ms.map_or("", |number| latency.format(number)),
            &humantime::format_rfc3339_millis(record.finished_at).to_string(),
        ]);
    }

    /// Takes a record that stands in the report already.
    pub fn push_copy<'a>(&mut self, fields: impl Iterator<Item = &'a [u8]>) {
        self.push_fields(fields);
    }

    fn push_fields<F: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = F>) {
        self.pending.write_record(fields).expect("memory takes any record");
    }

    /// Writes what was taken since the last time: from then on it survives the end of this process, however that comes.
    ///
    /// After an error the file ends with its last whole record, if the system lets it.
    pub fn commit(&mut self) -> Result<(), Error> {
        let pending = std::mem::replace(&mut self.pending, csv::Writer::from_writer(Vec::new()));
        let pending = pending.into_inner().expect("memory takes any record");
        if pending.is_empty() {
            return Ok(());
        }
        if let Err(source) = (&*self.file).write_all(&pending) {
            // If even this fails, `--resume` will find the torn record and drop it.
            let _ = self.file.set_len(self.len);
            return Err(self.error(source));
        }
        self.len += pending.len() as u64;
        match self.seen {
            Some(seen) if seen.elapsed() < SEEN_FOR => Ok(()),
            _ => self.check_still_there(),
        }
    }

    /// A file that was removed or replaced meanwhile takes writes as ever, and all of it is lost.
    pub fn check_still_there(&mut self) -> Result<(), Error> {
        self.seen = Some(Instant::now());
        let ours = self.file.metadata().map_err(|source| self.error(source))?;
        let there = self.path.metadata().map_err(|source| self.error(source))?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(self.error(io::Error::other("another file has taken its place")));
        }
        Ok(())
    }

    /// Commits if much is pending: for copying without end.
    pub fn commit_when_large(&mut self) -> Result<(), Error> {
        match self.pending.get_ref().len() {
            0..LARGE => Ok(()),
            _ => self.commit(),
        }
    }

    /// What brings the file to the disk as it is now.
    pub fn sync_later(&self) -> impl FnOnce() -> Result<(), Error> + Send + 'static {
        let (file, path) = (Arc::clone(&self.file), self.path.clone());
        move || match file.sync_data() {
            // Pipes and devices have nothing to sync.
            Err(source) if source.kind() != io::ErrorKind::InvalidInput => Err(Error::Report { path, source }),
            _ => Ok(()),
        }
    }

    pub fn error(&self, source: io::Error) -> Error {
        Error::Report {
            path: self.path.clone(),
            source,
        }
    }
}
