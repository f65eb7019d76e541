//! Stage 4, where results go: the report, the outside log, the statistics, the summary.
//!
//! Records are taken with [`Report::push`] and written by [`Report::commit`]; a row is done once its record is written.
//!
//! Files are created with mode 0600, whatever the umask: they hold user IDs, and who can read a file can lock it, so that
//! no run can write it. A file that exists keeps its mode. A first run that never begins leaves no file behind.

pub mod analysis;
mod error;
mod forget;
mod holder;
mod lock;
mod outcomes;
mod outside;
#[cfg(feature = "page")]
pub mod page;
mod place;
mod resume;
pub mod show;
pub mod stats;
pub mod summary;

use std::fmt;
use std::fs::File;
use std::path::Path;

use crate::done::Done;
use crate::row::{Outcome, Record};
pub use error::{NotAReport, PageProblem, ReportError, Role};
pub use holder::{Holder, holder};
use lock::lock;
use outcomes::Appender;
pub use outcomes::COLUMNS;
use place::Opened;

/// What to do about a report that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// Refuse, and leave it untouched.
    Refuse,
    /// Begin it anew.
    Overwrite,
    /// Go on where it ends; begin it if it is not there.
    Resume,
}

/// The report and the outside log, opened and locked.
///
/// Until the first record is written, or the run has ended with a summary, files that were created go again when this is
/// dropped.
pub struct Report {
    outcomes: Appender,
    outside: Appender,
    /// The rows that the report has already.
    done: Done,
    /// Their outcomes, counted.
    earlier: [u64; Outcome::ALL.len()],
    is_simulated: bool,
    /// A record could not be written: nothing more will be.
    is_broken: bool,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("report", &self.outcomes.path())
            .field("outside", &self.outside.path())
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl Report {
    /// Opens and locks the report, which nobody else then can run with, reads back what is done, and brings the
    /// outside log up to the report.
    ///
    /// `is_simulated`: the answers come from a simulator; then every record's message begins with `simulated: `, and such
    /// a report is never resumed for real, nor a real one by a simulated run.
    ///
    /// # Errors
    /// A [`ReportError`] for what can't be a report or an outside log, for a report that is there already and not to be
    /// touched or can't be resumed, for an outside log with rows of another report, and if another run has one of the
    /// files or one can't be written. In all of these cases the files are as they were, but for a report or log that
    /// can't be written to its end.
    pub fn open(report: &Path, outside: &Path, existing: IfExists, is_simulated: bool) -> Result<Report, ReportError> {
        look_first(report, outside, existing)?;
        let report = Opened::open(report, Role::Report, existing)?;
        lock(&report)?;
        // First of all, for what is no report, or a damaged one, must leave everything as it is.
        let mut earlier = match existing {
            IfExists::Resume => resume::read_back(&report.path, &report.file, is_simulated)?,
            IfExists::Refuse if report.len > 0 => return Err(exists_already(&report.path)),
            IfExists::Overwrite if report.is_regular => {
                resume::read_for_overwriting(&report.file).map_err(|source| report.error(source))?
            }
            IfExists::Refuse | IfExists::Overwrite => resume::Earlier::default(),
        };
        let outside = Opened::open(outside, Role::Outside, existing)?;
        lock(&outside)?;
        outside::check(&outside, &report.path, &earlier)?;
        if existing != IfExists::Resume {
            // The log before the report that shows whose it is: then it can be done again, should this be cut short.
            earlier = resume::Earlier::default();
            outside.cut(0)?;
        }
        report.cut(earlier.len)?;
        let outside = outside::complete(outside, &report, earlier.len, is_simulated)?;
        let report_path = report.path.clone();
        let mut outcomes = Appender::new(report, earlier.len, is_simulated)?;
        if earlier.lacks_line_end {
            outcomes.end_line()?;
        }
        for path in [&report_path, outside.path()] {
            sync_directory(path);
        }
        if existing == IfExists::Resume && earlier.len == 0 {
            tracing::warn!("{}: no report yet: starting from the first row", report_path.display());
        }
        Ok(Report {
            outcomes,
            outside,
            done: earlier.done,
            earlier: earlier.outcomes,
            is_simulated,
            is_broken: false,
        })
    }

    /// Takes the `invalid` records of these lines, which ascend, out of the report: their rows have changed since and
    /// are taken anew. Whenever the process ends, the report has all of these records or none.
    pub fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        if lines.is_empty() {
            return Ok(());
        }
        let report = self.outcomes.path();
        let (file, len, forgotten) = forget::without(report, lines).map_err(|source| ReportError::Write {
            path: report.to_owned(),
            source,
        })?;
        self.outcomes.replace(file, len);
        let invalid = &mut self.earlier[Outcome::Invalid as usize];
        *invalid = invalid.saturating_sub(forgotten);
        Ok(())
    }

    /// The rows that the report already has.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    /// How many records of each outcome the report already has.
    pub(crate) fn earlier(&self) -> [u64; Outcome::ALL.len()] {
        self.earlier
    }

    /// Takes a record. It is written by the next [`Report::commit`].
    pub fn push(&mut self, record: &Record) {
        if self.is_broken {
            return;
        }
        self.outcomes.push(record);
        if record.outcome == Outcome::Outside {
            self.outside.push(record);
        }
    }

    /// Writes the records taken since the last time. Returns whether they are in the report now, which they may be even if
    /// the outside log can't be written. After an error nothing more is written, and nothing more should be sent.
    pub fn commit(&mut self) -> (bool, Result<(), ReportError>) {
        if self.is_broken {
            // The outside log must not get rows that the report could not be given.
            return (false, Ok(()));
        }
        let has_records = self.outcomes.is_pending();
        let written = self.outcomes.commit();
        let is_written = written.is_ok();
        if is_written && has_records {
            self.keep();
        }
        let written = written.and_then(|()| self.outside.commit());
        self.is_broken = written.is_err();
        (is_written, written)
    }

    /// From now on the files stay, whatever becomes of the run.
    fn keep(&mut self) {
        self.outcomes.keep();
        self.outside.keep();
    }

    /// What brings both files to the disk as they are now; it takes its time, so it is for another thread to call.
    pub fn sync_later(&self) -> impl FnOnce() -> Result<(), ReportError> + Send + 'static {
        let syncs = [self.outcomes.sync_later(), self.outside.sync_later()];
        move || syncs.into_iter().try_for_each(|sync| sync())
    }

    /// Brings the files to the disk, and checks that they are still in their places. `has_begun`: something was sent, so
    /// that the files stay even without a record.
    pub(crate) fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let was_broken = self.is_broken;
        let (_, written) = self.commit();
        let written = written
            .and_then(|()| self.outcomes.check_still_there())
            .and_then(|()| self.outside.check_still_there())
            .and_then(|()| self.sync_later()());
        if has_begun {
            self.keep();
        }
        match was_broken {
            // It has been reported.
            true => Ok(()),
            false => written,
        }
    }

    /// Whether the records are those of a simulated run.
    pub(crate) fn is_simulated(&self) -> bool {
        self.is_simulated
    }

    /// The paths of the report and the outside log.
    pub(crate) fn paths(&self) -> [&Path; 2] {
        [self.outcomes.path(), self.outside.path()]
    }
}

/// The checks that need no file opened, to be made before anything that takes long; opening makes them again.
///
/// # Errors
/// Those of [`Report::open`] that can be told by looking.
pub fn look_first(report: &Path, outside: &Path, existing: IfExists) -> Result<(), ReportError> {
    let is_there = place::look(report, Role::Report, existing)?.is_some_and(|metadata| metadata.len() > 0);
    if is_there && existing == IfExists::Refuse {
        return Err(exists_already(report));
    }
    place::look(outside, Role::Outside, existing)?;
    Ok(())
}

fn exists_already(path: &Path) -> ReportError {
    ReportError::Exists { path: path.to_owned() }
}

/// A new file survives a power cut only once its directory is on the disk too. Not every system and file system can do
/// this; where it can't, there is nothing better to do either.
fn sync_directory(path: &Path) {
    if let Ok(directory) = File::open(place::directory(path)) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn record(outcome: Outcome) -> Record {
        Record {
            line: 2,
            user: "alice".into(),
            conv: "bob".into(),
            conv_type: "0".into(),
            outcome,
            code: None,
            http: None,
            message: String::new(),
            request_id: String::new(),
            attempts: 1,
            latency: None,
            finished_at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn after_a_record_that_can_t_be_written_none_is_written() {
        for (removed, is_written) in [("out.csv", false), ("outside.csv", true)] {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
            let mut report = Report::open(&paths[0], &paths[1], IfExists::Refuse, false).unwrap();
            report.push(&record(Outcome::Ok));
            assert!(matches!(report.commit(), (true, Ok(()))));
            std::fs::remove_file(directory.path().join(removed)).unwrap();
            report.outcomes.make_look_due();
            report.outside.make_look_due();
            report.push(&record(Outcome::Ok));
            report.push(&record(Outcome::Outside));
            let (was_written, result) = report.commit();
            assert_eq!((was_written, result.is_err()), (is_written, true), "{removed}");
            report.push(&record(Outcome::Ok));
            assert!(matches!(report.commit(), (false, Ok(()))), "{removed}");
        }
    }
}
