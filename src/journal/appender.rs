//! A CSV file that records are appended to.
//!
//! A report is also the journal of its run. A row is done if and only if its record is in the file; there is no other state.
//! So a record is written before its row counts as done.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::buffer::Buffer;
use super::error::ReportError;
use super::file::{OpenFile, sync};
use crate::files::leads_to;

/// The maximum number of pending bytes while copying.
const MAX_PENDING: usize = 64 * 1024;

/// The minimum time between two checks that the file is in place: a check costs as much as a write.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// A CSV file that records are appended to, several at a time.
pub(super) struct Appender {
    opened: OpenFile,
    /// Records that are not in the file yet.
    pending: Buffer,
    /// Where the file's last complete record ends, in bytes.
    len: u64,
    /// When the file was last found in its place.
    checked_at: Option<Instant>,
    /// The replaced file, kept open for its lock: a run that has already opened it must not get the lock.
    _replaced: Option<Arc<File>>,
}

impl Appender {
    /// Appends to `opened`, which is `len` bytes long; writes the header first if it is empty.
    pub fn new(opened: OpenFile, len: u64, columns: &[&str]) -> Result<Appender, ReportError> {
        let mut appender = Appender {
            opened,
            pending: Buffer::new(),
            len,
            checked_at: None,
            _replaced: None,
        };
        if len == 0 {
            appender.push_fields(columns);
            appender.commit()?;
        }
        Ok(appender)
    }

    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Where the last complete record ends, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Ends the last line, for a file whose last record lacks its line end.
    pub fn end_line(&mut self) -> Result<(), ReportError> {
        self.pending.push_line_end();
        self.commit()
    }

    /// Whether records were taken that are not written.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many bytes of records were taken that are not written.
    pub fn pending_len(&mut self) -> usize {
        self.pending.exact_len()
    }

    /// Forgets the records that were taken after the first `len` bytes that are not written.
    pub fn forget_pending_after(&mut self, len: usize) {
        self.pending.truncate(len);
    }

    /// Continues with `file`, which has replaced the previous one and is `len` bytes long. Nothing may be pending.
    pub fn replace(&mut self, file: File, len: u64) {
        self._replaced = Some(std::mem::replace(&mut self.opened.file, Arc::new(file)));
        (self.len, self.checked_at) = (len, None);
    }

    /// Keeps the file when this is dropped: the run has begun.
    pub fn keep(&mut self) {
        self.opened.keep();
    }

    /// Buffers a record until [`Appender::commit`].
    pub fn push(&mut self, record: impl Serialize) {
        self.pending.push(record);
    }

    /// Buffers a record with these fields.
    pub fn push_fields<F: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = F>) {
        self.pending.push_fields(fields);
    }

    /// Writes the buffered records; they then survive any end of this process.
    ///
    /// After an error the file is truncated to its last complete record, if possible. Does nothing if nothing is buffered:
    /// most events have no record, and checking the file costs as much as writing to it.
    pub fn commit(&mut self) -> Result<(), ReportError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let is_check_due = self
            .checked_at
            .is_none_or(|checked_at| checked_at.elapsed() >= CHECK_EVERY);
        if is_check_due {
            // Checked before writing too, so that nothing is appended to a file that was truncated.
            self.check_in_place()?;
        }
        self.write_pending()?;
        if is_check_due {
            self.check_in_place()?;
        }
        Ok(())
    }

    fn write_pending(&mut self) -> Result<(), ReportError> {
        let pending = self.pending.take();
        if let Err(source) = (&*self.opened.file).write_all(&pending) {
            // If this fails too, a resumed run drops the torn record. A file that was truncated further stays so.
            if self.opened.file.metadata().is_ok_and(|file| file.len() > self.len) {
                let _ = self.opened.file.set_len(self.len);
            }
            return Err(self.opened.error(source));
        }
        self.len += pending.len() as u64;
        Ok(())
    }

    /// Fails if the file was removed, replaced or changed: writes to it would still succeed, but the records would be lost.
    pub fn check_in_place(&mut self) -> Result<(), ReportError> {
        self.checked_at = Some(Instant::now());
        let len = check_same_file(&self.opened.file, &self.opened.path)?.len();
        if !self.opened.is_regular {
            return Ok(());
        }
        let error = |source| self.opened.error(source);
        match self.len {
            ours if len == ours => Ok(()),
            ours => Err(error(io::Error::other(format!(
                "another program has changed it during the run: it is {len} bytes long, not {ours}"
            )))),
        }
    }

    #[cfg(test)]
    pub fn make_check_due(&mut self) {
        self.checked_at = None;
    }

    /// Commits if much is pending, to bound the memory while copying.
    pub fn commit_when_large(&mut self) -> Result<(), ReportError> {
        if self.pending.len() < MAX_PENDING {
            return Ok(());
        }
        self.commit()
    }

    /// Returns a function that syncs the file to disk and checks that it is still in place.
    pub fn sync_later(&self) -> impl FnOnce() -> Result<(), ReportError> + Send + 'static {
        let (file, path) = (Arc::clone(&self.opened.file), self.opened.path.clone());
        move || {
            check_same_file(&file, &path)?;
            sync(&file, &path)
        }
    }
}

/// The metadata of `file`; fails if `path` no longer leads to it.
fn check_same_file(file: &File, path: &Path) -> Result<Metadata, ReportError> {
    let error = |source| ReportError::Write {
        path: path.to_owned(),
        source,
    };
    let metadata = file.metadata().map_err(error)?;
    match leads_to(path, &metadata) {
        Ok(true) => Ok(metadata),
        Ok(false) => Err(error(io::Error::other("another file has taken its place"))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            Err(error(io::Error::other("it was removed during the run")))
        }
        Err(source) => Err(error(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::Role;
    use super::super::file::IfExists;
    use super::super::record::COLUMNS;
    use super::*;
    use crate::text::with_causes;

    #[test]
    fn a_file_is_checked_when_there_is_something_to_write_and_when_it_is_synced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        let opened = OpenFile::open(&path, Role::Report, IfExists::Refuse).unwrap();
        let mut appender = Appender::new(opened, 0, &COLUMNS).unwrap();
        std::fs::remove_file(&path).unwrap();
        appender.make_check_due();
        appender.commit().unwrap();
        let error = appender.sync_later()().unwrap_err();
        assert!(with_causes(&error).contains("removed"), "{error}");
        appender.push(["a", "record"]);
        let error = appender.commit().unwrap_err();
        assert!(with_causes(&error).contains("removed"), "{error}");
    }

    #[test]
    fn nothing_is_appended_to_a_file_that_another_program_has_changed() {
        let directory = tempfile::tempdir().unwrap();
        for (bytes, expected) in [("", "0 bytes long"), ("line,us", "7 bytes"), ("another's", "9 bytes")] {
            let path = directory.path().join(format!("{}.csv", bytes.len()));
            let opened = OpenFile::open(&path, Role::Report, IfExists::Refuse).unwrap();
            let mut appender = Appender::new(opened, 0, &COLUMNS).unwrap();
            appender.keep();
            std::fs::write(&path, bytes).unwrap();
            appender.push_fields(["a", "record"]);
            appender.make_check_due();
            let error = appender.commit().unwrap_err();
            assert!(with_causes(&error).contains(expected), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes.as_bytes());
        }
    }
}
