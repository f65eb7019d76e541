//! Stage 4, where results go: the report, the outside log, the statistics, the summary.
//!
//! The report receives [`Event`]s and nothing else. Records are buffered by [`Report::record`] and counted only after
//! [`Report::commit`] has written them.
//!
//! Files are created with mode 0600, whatever the umask: they contain user IDs, and anyone who can read a file can lock
//! it, which prevents a run. An existing file keeps its mode. A first run that never begins leaves no files.

pub mod analysis;
mod error;
mod holder;
mod lock;
mod outcomes;
mod outside;
pub mod page;
mod place;
mod remove_invalid;
mod resume;
pub mod show;
pub mod stats;
pub mod summary;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::done::Done;
use crate::event::Event;
use crate::row::Outcome;
use crate::stop::{StopHandle, StopReason};
pub use error::{NotAReport, PageError, ReportError, Role};
pub use holder::{Holder, holder};
use lock::lock;
use outcomes::Appender;
pub use outcomes::COLUMNS;
pub use place::IfExists;
use place::OpenFile;
use stats::{Settled, Stats};
use summary::Summary;

/// The report's files, opened and locked, and the rows that are already done.
///
/// If this is dropped before the first record is written or the run has ended with a summary, files that it created are
/// removed.
pub struct Files {
    outcomes: Appender,
    outside: Appender,
    done: Done,
    /// Their outcomes, counted.
    earlier: [u64; Outcome::ALL.len()],
    is_simulated: bool,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("report", &self.outcomes.path())
            .field("outside", &self.outside.path())
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl Files {
    /// Opens and locks the report, which excludes other runs, reads back the rows that are done, and completes the outside
    /// log.
    ///
    /// `is_simulated`: the answers come from a simulator. Then every record's message begins with `simulated: `. Such a
    /// report is never resumed by a real run, nor a real one by a simulated run.
    ///
    /// # Errors
    /// A [`ReportError`] if a file is not a report or an outside log, if the report exists and must not be changed or can't
    /// be resumed, if the outside log has rows of another report, if another run has locked a file, or if a file can't be
    /// written. The files are unchanged then, except one that failed while it was written.
    pub fn open(report: &Path, outside: &Path, existing: IfExists, is_simulated: bool) -> Result<Files, ReportError> {
        check_paths(report, outside, existing)?;
        let report = OpenFile::open(report, Role::Report, existing)?;
        lock(&report)?;
        // Read first, because nothing may be changed if this is not a report or a damaged one.
        let mut earlier = match existing {
            IfExists::Resume => resume::read_back(&report.path, &report.file, is_simulated)?,
            IfExists::Refuse if report.len > 0 => return Err(exists_already(&report.path)),
            IfExists::Overwrite if report.is_regular => {
                resume::read_for_overwriting(&report.file).map_err(|source| report.error(source))?
            }
            IfExists::Refuse | IfExists::Overwrite => resume::Earlier::default(),
        };
        let outside = OpenFile::open(outside, Role::Outside, existing)?;
        lock(&outside)?;
        outside::check(&outside, &report.path, &earlier)?;
        if existing != IfExists::Resume {
            // The log before the report that shows whose it is, so that an interrupted overwrite can be repeated.
            earlier = resume::Earlier::default();
            outside.truncate(0)?;
        }
        report.truncate(earlier.len)?;
        let outside = outside::complete(outside, &report, earlier.len, is_simulated)?;
        let report_path = report.path.clone();
        let mut outcomes = Appender::new(report, earlier.len, is_simulated)?;
        if earlier.lacks_line_end {
            outcomes.end_line()?;
        }
        for path in [&report_path, outside.path()] {
            place::sync_directory(path);
        }
        if existing == IfExists::Resume && earlier.len == 0 {
            tracing::warn!("{}: no report yet: starting from the first row", report_path.display());
        }
        Ok(Files {
            outcomes,
            outside,
            done: earlier.done,
            earlier: earlier.outcomes,
            is_simulated,
        })
    }

    /// Removes the `invalid` records of these lines, which must be ascending, from the report: their rows have changed and
    /// are processed again. Atomic: whenever the process ends, the report has all of these records or none.
    pub fn forget(&mut self, report: &Path, lines: &[u64]) -> Result<(), ReportError> {
        if lines.is_empty() {
            return Ok(());
        }
        let (file, len, removed) =
            remove_invalid::remove_invalid(report, lines).map_err(|source| ReportError::Write {
                path: report.to_owned(),
                source,
            })?;
        self.outcomes.replace(file, len);
        let invalid = &mut self.earlier[Outcome::Invalid as usize];
        *invalid = invalid.saturating_sub(removed);
        Ok(())
    }

    /// Takes the rows that the report already has.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }
}

/// The checks of [`Files::open`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Files::open`] that the paths alone show.
pub fn check_paths(report: &Path, outside: &Path, existing: IfExists) -> Result<(), ReportError> {
    let is_there = place::check_path(report, Role::Report, existing)?.is_some_and(|metadata| metadata.len() > 0);
    if is_there && existing == IfExists::Refuse {
        return Err(exists_already(report));
    }
    place::check_path(outside, Role::Outside, existing)?;
    Ok(())
}

fn exists_already(path: &Path) -> ReportError {
    ReportError::Exists { path: path.to_owned() }
}

/// A row whose answer could not be written down: it will be sent again.
const NOT_RECORDED: Event = Event::NotRun { was_retrying: false };

/// Makes files, statistics and a summary of a run's events.
pub struct Report {
    outcomes: Appender,
    outside: Appender,
    stats: Stats,
    /// Records that were taken but are not committed.
    taken: Vec<Settled>,
    /// A record could not be written: nothing more will be.
    is_broken: bool,
    /// The last commit wrote its records.
    has_written: bool,
    is_simulated: bool,
    paths: (PathBuf, PathBuf),
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

impl Report {
    /// `paths` are shown in the summary: the report and the outside log.
    pub fn new(files: Files, paths: (PathBuf, PathBuf)) -> Report {
        Report {
            outcomes: files.outcomes,
            outside: files.outside,
            stats: Stats::new(files.earlier),
            taken: Vec::new(),
            is_broken: false,
            has_written: false,
            is_simulated: files.is_simulated,
            paths,
        }
    }

    /// Takes an event. A record is written by the next [`Report::commit`].
    pub fn record(&mut self, event: &Event) {
        match event {
            Event::Settled(_) if self.is_broken => self.stats.count(&NOT_RECORDED),
            Event::Settled(record) => {
                self.outcomes.push(record);
                if record.outcome == Outcome::Outside {
                    self.outside.push(record);
                }
                self.taken.push(Settled::from(&**record));
            }
            other => self.stats.count(other),
        }
    }

    /// Writes the records taken since the last time. They count from now on; after an error they never do, and nothing
    /// more should be sent.
    pub fn commit(&mut self) -> Result<(), ReportError> {
        if self.is_broken {
            self.has_written = false;
            // The outside log must not get rows that the report could not be given.
            return Ok(());
        }
        let written = self.outcomes.commit();
        self.has_written = written.is_ok();
        if written.is_ok() && !self.taken.is_empty() {
            self.keep();
        }
        for settled in self.taken.drain(..) {
            match written {
                Ok(()) => self.stats.settled(settled),
                Err(_) => self.stats.count(&NOT_RECORDED),
            }
        }
        let written = written.and_then(|()| self.outside.commit());
        self.is_broken |= written.is_err();
        written
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

    /// The counts so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Whether the records of the last [`Report::commit`] are in the report. They are also if only the outside log could
    /// not be written.
    pub fn has_written(&self) -> bool {
        self.has_written
    }

    /// Brings the files to the disk and adds everything up. `rows` is how many rows the input has, if that is known;
    /// `cap` is what the limiter lets start within a second; `stop` knows whether the run stopped before the last of them,
    /// and is told if the files could not be written to their end.
    pub fn finish(mut self, rows: Option<u64>, cap: usize, elapsed: Duration, stop: &StopHandle) -> Summary {
        let was_broken = self.is_broken;
        let written = self
            .commit()
            .and_then(|()| self.outcomes.check_in_place())
            .and_then(|()| self.outside.check_in_place())
            .and_then(|()| self.sync_later()());
        if let Err(error) = written
            && !was_broken
        {
            stop.report_failed(error);
        }
        // Input that could not be read, with nothing sent before: such a run has not begun.
        if !matches!(stop.reason(), Some(StopReason::InputFailed(_))) || self.stats.requests() > 0 {
            self.keep();
        }
        let stopped = stop.reason();
        let mut summary = self.stats.summary(rows, cap, elapsed, stopped.as_ref(), &self.paths);
        summary.simulated = self.is_simulated;
        summary
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::row::Record;

    fn record(outcome: Outcome) -> Event {
        Event::Settled(Box::new(Record {
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
        }))
    }

    #[test]
    fn a_record_that_can_t_be_written_never_counts_nor_does_any_behind_it() {
        for (removed, ok) in [("out.csv", 1), ("outside.csv", 2)] {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
            let files = Files::open(&paths[0], &paths[1], IfExists::Refuse, false).unwrap();
            let [report_path, outside_path] = paths;
            let mut report = Report::new(files, (report_path, outside_path));
            report.record(&record(Outcome::Ok));
            report.commit().unwrap();
            assert!(report.has_written());
            std::fs::remove_file(directory.path().join(removed)).unwrap();
            report.outcomes.make_check_due();
            report.outside.make_check_due();
            report.record(&record(Outcome::Ok));
            report.record(&record(Outcome::Outside));
            report.commit().unwrap_err();
            assert_eq!(report.has_written(), removed == "outside.csv", "{removed}");
            report.record(&record(Outcome::Ok));
            report.commit().unwrap();
            assert!(!report.has_written(), "{removed}");
            assert_eq!(report.stats().outcome(Outcome::Ok), ok, "{removed}");
        }
    }
}
