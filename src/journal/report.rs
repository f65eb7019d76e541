//! The report of `clear`, with its outside log.

use std::fmt;
use std::path::Path;

use super::appender::Appender;
use super::error::{ReportError, Role};
use super::outcomes::Line;
use super::place::{self, IfExists, OpenFile};
use super::schema::ROWS;
use super::{Journal, SyncFiles, lock::lock, outside, remove_invalid, resume};
use crate::done::Done;
use crate::files::sync_directory_of;
use crate::row::{Outcome, Record};
use crate::run::summary::Summary;

/// The report and the outside log, opened and locked.
///
/// If this is dropped before the first record is written or the run has ended with a summary, files that it created are
/// removed.
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
    pub fn open(report: &Path, outside: &Path, existing: IfExists, is_simulated: bool) -> Result<Report, ReportError> {
        check_paths(report, outside, existing)?;
        let report = OpenFile::open(report, Role::Report, existing)?;
        lock(&report)?;
        // Read first, because nothing may be changed if this is not a report or a damaged one.
        let mut earlier = match existing {
            IfExists::Resume => resume::read_back(&report.path, &report.file, &ROWS, is_simulated)?,
            IfExists::Refuse if report.len > 0 => return Err(exists_already(&report.path, Role::Report)),
            IfExists::Overwrite if report.is_regular => {
                resume::read_for_overwriting(&report.file, &ROWS).map_err(|source| report.error(source))?
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
        let outside = outside::complete(outside, &report, earlier.len)?;
        let report_path = report.path.clone();
        let mut outcomes = Appender::new(report, earlier.len, ROWS.columns)?;
        if earlier.lacks_line_end {
            outcomes.end_line()?;
        }
        for path in [&report_path, outside.path()] {
            sync_directory_of(path);
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

    /// From now on the files stay, whatever becomes of the run.
    fn keep(&mut self) {
        self.outcomes.keep();
        self.outside.keep();
    }
}

impl Journal for Report {
    fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    fn earlier(&self) -> [u64; Outcome::ALL.len()] {
        self.earlier
    }

    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        let removed = remove_invalid::forget(&mut self.outcomes, lines, &ROWS)?;
        let invalid = &mut self.earlier[Outcome::Invalid as usize];
        *invalid = invalid.saturating_sub(removed);
        Ok(())
    }

    fn push(&mut self, record: &Record) {
        if self.is_broken {
            return;
        }
        self.outcomes.push(Line::new(record, self.is_simulated));
        if record.outcome == Outcome::Outside {
            self.outside.push(Line::new(record, self.is_simulated));
        }
    }

    fn commit(&mut self) -> (bool, Result<(), ReportError>) {
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

    fn sync_later(&self) -> SyncFiles {
        let syncs = [self.outcomes.sync_later(), self.outside.sync_later()];
        Box::new(|| syncs.into_iter().try_for_each(|sync| sync()))
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let was_broken = self.is_broken;
        let (_, written) = self.commit();
        let written = written
            .and_then(|()| self.outcomes.check_in_place())
            .and_then(|()| self.outside.check_in_place())
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

    fn describe(&self, summary: &mut Summary) {
        let text = |path: &Path| Some(path.display().to_string());
        summary.report = text(self.outcomes.path());
        summary.outside_log = text(self.outside.path());
        summary.simulated = self.is_simulated;
    }
}

/// The checks of [`Report::open`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Report::open`] that the paths alone show.
pub fn check_paths(report: &Path, outside: &Path, existing: IfExists) -> Result<(), ReportError> {
    let is_there = place::check_path(report, Role::Report, existing)?.is_some_and(|metadata| metadata.len() > 0);
    if is_there && existing == IfExists::Refuse {
        return Err(exists_already(report, Role::Report));
    }
    place::check_path(outside, Role::Outside, existing)?;
    Ok(())
}

pub(super) fn exists_already(path: &Path, role: Role) -> ReportError {
    let path = path.to_owned();
    ReportError::Exists { path, role }
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
            conversations: Vec::new(),
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
            report.outcomes.make_check_due();
            report.outside.make_check_due();
            report.push(&record(Outcome::Ok));
            report.push(&record(Outcome::Outside));
            let (was_written, result) = report.commit();
            assert_eq!((was_written, result.is_err()), (is_written, true), "{removed}");
            report.push(&record(Outcome::Ok));
            assert!(matches!(report.commit(), (false, Ok(()))), "{removed}");
        }
    }
}
