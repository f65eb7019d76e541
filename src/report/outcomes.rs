//! The report itself: one CSV record for each row, appended as rows end.
//!
//! It is also the journal. A row whose record is in the file is done; any other is not; there is no second file of
//! hidden state. So a record is complete in the kernel before its row counts as done.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ReportError;
use super::place::Opened;
use crate::row::Record;

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

/// With what the message of every record begins that a simulator's answers led to, or nobody's in such a run: so that
/// nobody takes a rehearsal for the job, least of all a later run.
pub(super) const SIMULATED: &str = "simulated: ";

/// How many bytes may be pending while copying.
const LARGE: usize = 64 * 1024;

/// How long a file that was in its place is taken to be there still: looking costs as much as writing.
const SEEN_FOR: Duration = Duration::from_millis(10);

/// A CSV file that records are appended to, several at a time.
pub(super) struct Appender {
    opened: Opened,
    /// The records are those of a simulated run.
    is_simulated: bool,
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
    /// Appends to `opened`, which is `len` bytes long; writes the header first if it is empty.
    pub fn new(opened: Opened, len: u64, is_simulated: bool) -> Result<Appender, ReportError> {
        let mut appender = Appender {
            opened,
            is_simulated,
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

    pub fn path(&self) -> &Path {
        &self.opened.path
    }

    /// Ends the last line, for a file whose last record lacks its line end.
    pub fn end_line(&mut self) -> Result<(), ReportError> {
        self.pending = csv::Writer::from_writer(b"\n".to_vec());
        self.commit()
    }

    /// Goes on with `file`, which has taken the place of the one before and is `len` bytes long. Nothing may be pending.
    pub fn replace(&mut self, file: File, len: u64) {
        self._replaced = Some(std::mem::replace(&mut self.opened.file, Arc::new(file)));
        (self.len, self.seen) = (len, None);
    }

    /// The run has begun: the file stays, whatever comes.
    pub fn keep(&mut self) {
        self.opened.keep();
    }

    /// Takes a record; it is not in the file before [`Appender::commit`].
    pub fn push(&mut self, record: &Record) {
        let mut numbers = [itoa::Buffer::new(); 5];
        let [line, code, http, attempts, latency] = &mut numbers;
        let latency_ms = record.latency.map(|latency| latency.as_millis());
        let message = match self.is_simulated {
            true => Cow::Owned(format!("{SIMULATED}{}", record.message)),
            false => Cow::Borrowed(&record.message),
        };
        self.push_fields([
            line.format(record.line),
            &record.user,
            &record.conv,
            &*record.conv_type,
            record.outcome.as_str(),
            record.code.map_or("", |number| code.format(number)),
            record.http.map_or("", |number| http.format(number)),
            &message,
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
    pub fn commit(&mut self) -> Result<(), ReportError> {
        let is_look_due = self.seen.is_none_or(|seen| seen.elapsed() >= SEEN_FOR);
        if is_look_due {
            // Before as well, so that nothing is appended to what somebody has cut.
            self.check_still_there()?;
        }
        self.write_pending()?;
        match is_look_due {
            true => self.check_still_there(),
            false => Ok(()),
        }
    }

    fn write_pending(&mut self) -> Result<(), ReportError> {
        let pending = std::mem::replace(&mut self.pending, csv::Writer::from_writer(Vec::new()));
        let pending = pending.into_inner().expect("memory takes any record");
        if pending.is_empty() {
            return Ok(());
        }
        if let Err(source) = (&*self.opened.file).write_all(&pending) {
            // If even this fails, a run that resumes will find the torn record and drop it. What somebody else has cut shorter
            // stays so.
            if self.opened.file.metadata().is_ok_and(|file| file.len() > self.len) {
                let _ = self.opened.file.set_len(self.len);
            }
            return Err(self.opened.error(source));
        }
        self.len += pending.len() as u64;
        Ok(())
    }

    /// A file that was removed or replaced meanwhile takes writes as ever, and all of it is lost; of one that was cut,
    /// what was there before.
    pub fn check_still_there(&mut self) -> Result<(), ReportError> {
        self.seen = Some(Instant::now());
        let changed = |what: String| Err(self.opened.error(io::Error::other(what)));
        match self.opened.is_in_place() {
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return changed("it was removed meanwhile".into());
            }
            Err(source) => return Err(self.opened.error(source)),
            Ok(false) => return changed("another file has taken its place".into()),
            Ok(true) if !self.opened.is_regular => return Ok(()),
            Ok(true) => {}
        }
        let len = self
            .opened
            .file
            .metadata()
            .map_err(|source| self.opened.error(source))?
            .len();
        match self.len {
            ours if len == ours => Ok(()),
            ours => changed(format!(
                "another program has changed it meanwhile: it is {len} bytes long, not {ours}"
            )),
        }
    }

    /// Commits if much is pending: for copying without end.
    pub fn commit_when_large(&mut self) -> Result<(), ReportError> {
        match self.pending.get_ref().len() {
            0..LARGE => Ok(()),
            _ => self.commit(),
        }
    }

    /// What brings the file to the disk as it is now.
    pub fn sync_later(&self) -> impl FnOnce() -> Result<(), ReportError> + Send + 'static {
        let (file, path) = (Arc::clone(&self.opened.file), self.opened.path.clone());
        move || match file.sync_data() {
            // Pipes and devices have nothing to sync.
            Err(source) if source.kind() != io::ErrorKind::InvalidInput => Err(ReportError::Write { path, source }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::IfExists;
    use super::super::error::Role;
    use super::*;

    #[test]
    fn nothing_is_appended_to_a_file_that_somebody_has_cut_or_continued() {
        let directory = tempfile::tempdir().unwrap();
        for (bytes, says) in [("", "0 bytes long"), ("line,us", "7 bytes"), ("another's", "9 bytes")] {
            let path = directory.path().join(format!("{}.csv", bytes.len()));
            let opened = Opened::open(&path, Role::Report, IfExists::Refuse).unwrap();
            let mut appender = Appender::new(opened, 0, false).unwrap();
            appender.keep();
            std::fs::write(&path, bytes).unwrap();
            appender.push_fields(["a", "record"]);
            appender.seen = None; // it is time to look
            let error = appender.commit().unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes.as_bytes());
        }
    }
}
