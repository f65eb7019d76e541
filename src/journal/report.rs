//! The journal of a run: the report, and the files that go with it.

use std::fmt;
use std::path::Path;
use std::pin::Pin;

use super::appender::Appender;
use super::earlier::Earlier;
use super::error::{ReportError, Role};
use super::file::{self, IfExists, OpenFile};
use super::record::{Kind, ROWS_COLUMNS, ReportRecord};
use super::rows::{self, RowsFile, RowsTo, Stream};
use super::{Description, Journal, SyncFiles, Written, forget, outside};
use crate::done::Done;
use crate::files::sync_directory_of;
use crate::row::{Counts, Outcome, Record};
use crate::sealed::Sealed;

/// The report of `clear` with its outside log, or the list report of `list` with its rows file, opened and locked.
///
/// A row or a user with a record is done; any other is processed by a run that resumes. All rows of a listed user are in
/// the rows file before the user has a record. If this is dropped before the first record is written or the run has ended
/// with a summary, files that it created are removed.
pub struct Report {
    kind: Kind,
    /// The rows of listed users, written before the records.
    rows: Option<RowsFile>,
    /// The records; `None` for rows to standard output only.
    records: Option<Appender>,
    /// The records of outside rows, written after all records, from which they can be completed.
    outside: Option<Appender>,
    /// The rows or users that have a record already.
    done: Done,
    /// Their outcomes, counted.
    earlier: Counts,
    /// The rows that were listed for them.
    rows_listed: u64,
    /// Those with as many conversations as ZIM lists.
    users_full: u64,
    is_simulated: bool,
    /// It continues the file of an earlier run.
    is_resumed: bool,
    /// Something could not be written: nothing more will be.
    is_broken: bool,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&Path> = self.files().map(Appender::path).collect();
        f.debug_struct("Report")
            .field("kind", &self.kind)
            .field("files", &paths)
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl Report {
    /// Opens and locks the report of `clear`, which excludes other runs, reads back the rows that are done, and completes
    /// the outside log.
    ///
    /// The program's outside log is [`files::named_after`](crate::files::named_after)`(report, ".outside.csv")`.
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
        let kind = Kind::Clear;
        let report = OpenFile::open(report, Role::Report, existing)?;
        // Read first, because nothing may be changed if this is not a report or a damaged one.
        let mut earlier = match existing {
            IfExists::Resume => Earlier::read(&report, kind, is_simulated)?,
            IfExists::Overwrite if report.is_regular => Earlier::read_as_far_as_possible(&report)?,
            IfExists::Refuse | IfExists::Overwrite => Earlier::default(),
        };
        let outside = OpenFile::open(outside, Role::Outside, existing)?;
        outside::check(&outside, &report.path, &earlier)?;
        if existing != IfExists::Resume {
            // The log before the report that shows whose it is, so that an interrupted overwrite can be repeated.
            earlier = Earlier::default();
            outside.truncate(0)?;
        }
        report.truncate(earlier.len)?;
        let outside = outside::complete(outside, &report, earlier.len)?;
        let records = appender(report, kind, &earlier)?;
        if existing == IfExists::Resume && earlier.len == 0 {
            tracing::warn!(
                "{}: no report yet: starting from the first row",
                records.path().display()
            );
        }
        Ok(Report::new(
            kind,
            None,
            Some(records),
            Some(outside),
            earlier,
            is_simulated,
        ))
    }

    /// Opens and locks the files of `list`, reads back the users that are done, and removes the rows of users without a
    /// record. Without a report, for rows to standard output only, a later run can't resume.
    ///
    /// `is_simulated`: as for [`Report::open`].
    ///
    /// # Errors
    /// A [`ReportError`] if a file is not of a list, if it exists and must not be changed or can't be resumed, if the two
    /// files don't belong together, if another run has locked one, or if one can't be written. The files are unchanged then,
    /// except one that failed while it was written.
    pub fn open_list(
        rows: &RowsTo,
        report: Option<&Path>,
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<Report, ReportError> {
        check_list_paths(rows, report, existing)?;
        let kind = Kind::List;
        let report = report.map(|path| OpenFile::open(path, Role::ListReport, existing));
        let report = report.transpose()?;
        let mut earlier = match &report {
            Some(report) if existing == IfExists::Resume => Earlier::read(report, kind, is_simulated)?,
            _ => Earlier::default(),
        };
        let rows = match rows {
            RowsTo::Stdout => RowsFile::Stdout(Stream::new()),
            RowsTo::File(path) => {
                let rows = OpenFile::open(path, Role::Rows, existing)?;
                let len = match (&report, existing) {
                    (Some(report), IfExists::Resume) => rows_to_keep(&rows, report, &mut earlier, is_simulated)?,
                    _ => 0,
                };
                rows.truncate(len)?;
                RowsFile::File(Appender::new(rows, len, &ROWS_COLUMNS)?)
            }
        };
        let records = report.map(|report| {
            report.truncate(earlier.len)?;
            appender(report, kind, &earlier)
        });
        Ok(Report::new(
            kind,
            Some(rows),
            records.transpose()?,
            None,
            earlier,
            is_simulated,
        ))
    }

    fn new(
        kind: Kind,
        rows: Option<RowsFile>,
        records: Option<Appender>,
        outside: Option<Appender>,
        earlier: Earlier,
        is_simulated: bool,
    ) -> Report {
        let opened = Report {
            kind,
            rows,
            records,
            outside,
            done: earlier.done,
            earlier: earlier.outcomes,
            rows_listed: earlier.conversations,
            users_full: earlier.users_full,
            is_simulated,
            is_resumed: earlier.len > 0,
            is_broken: false,
        };
        for file in opened.files() {
            sync_directory_of(file.path());
        }
        opened
    }

    /// The rows file, and its length in bytes.
    pub(super) fn rows_file(&self) -> Option<(&Path, u64)> {
        let file = self.rows.as_ref()?.file()?;
        Some((file.path(), file.len()))
    }

    /// The rows that earlier runs have listed.
    pub(super) fn rows_listed(&self) -> u64 {
        self.rows_listed
    }

    /// The users of earlier runs with as many conversations as ZIM lists.
    pub(super) fn users_full(&self) -> u64 {
        self.users_full
    }

    /// The files, in the order in which they are written: a record must not reach the disk before its rows.
    fn files(&self) -> impl Iterator<Item = &Appender> {
        let rows = self.rows.as_ref().and_then(RowsFile::file);
        rows.into_iter().chain(&self.records).chain(&self.outside)
    }

    fn files_mut(&mut self) -> impl Iterator<Item = &mut Appender> {
        let rows = self.rows.as_mut().and_then(RowsFile::file_mut);
        rows.into_iter().chain(&mut self.records).chain(&mut self.outside)
    }

    /// Writes the rows and then the records.
    fn write_records(&mut self) -> Result<(), ReportError> {
        if let Some(rows) = &mut self.rows {
            rows.commit()?;
        }
        self.records.as_mut().map_or(Ok(()), Appender::commit)
    }
}

impl Sealed for Report {}

impl Journal for Report {
    fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    fn earlier(&self) -> Counts {
        self.earlier
    }

    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        if let Some(records) = &mut self.records {
            let removed = forget::forget(records, lines)?;
            let invalid = &mut self.earlier[Outcome::Invalid];
            *invalid = invalid.saturating_sub(removed);
        }
        Ok(())
    }

    fn push(&mut self, record: &Record) {
        if self.is_broken {
            return;
        }
        if let Some(rows) = &mut self.rows {
            rows.push(record);
        }
        let line = ReportRecord::new(record, self.kind, self.is_simulated);
        if let Some(records) = &mut self.records {
            records.push(&line);
        }
        if let Some(outside) = &mut self.outside
            && record.outcome == Outcome::Outside
        {
            outside.push(&line);
        }
    }

    fn handed_over(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let Some(RowsFile::Stdout(stream)) = &mut self.rows {
                stream.write().await;
            }
        })
    }

    fn commit(&mut self) -> (Written, Result<(), ReportError>) {
        // If the run was aborted while a reader was slow, the users whose rows it did not take are not done.
        self.is_broken |= self.rows.as_ref().is_some_and(RowsFile::is_unfinished);
        if self.is_broken {
            // The outside log must not get rows that the report could not be given.
            return (Written::of_all(false), Ok(()));
        }
        let has_records = self.records.as_ref().is_some_and(Appender::is_pending);
        let written = self.write_records();
        let is_written = written.is_ok();
        if is_written && has_records {
            self.files_mut().for_each(Appender::keep);
        }
        let written = written.and_then(|()| self.outside.as_mut().map_or(Ok(()), Appender::commit));
        self.is_broken = written.is_err();
        (Written::of_all(is_written), written)
    }

    fn sync_later(&mut self) -> SyncFiles {
        let syncs: Vec<_> = self.files().map(Appender::sync_later).collect();
        Box::new(|| syncs.into_iter().try_for_each(|sync| sync()))
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let was_broken = self.is_broken;
        let header = match &mut self.rows {
            Some(RowsFile::Stdout(stream)) if has_begun && !was_broken => stream.finish(),
            _ => Ok(()),
        };
        let (_, written) = self.commit();
        let written = header
            .and(written)
            .and_then(|()| self.files_mut().try_for_each(Appender::check_in_place))
            .and_then(|()| self.sync_later()());
        if has_begun {
            self.files_mut().for_each(Appender::keep);
        }
        // What was broken before has been reported.
        if was_broken { Ok(()) } else { written }
    }

    fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    fn describe(&self) -> Description {
        let path = |file: &Option<Appender>| file.as_ref().map(|file| file.path().to_owned());
        Description {
            report: path(&self.records),
            list_report: None,
            outside_log: path(&self.outside),
            rows: self.rows.as_ref().map(RowsFile::to),
            is_simulated: self.is_simulated,
        }
    }
}

/// Appends to a report that was read back and has no torn record any more.
fn appender(report: OpenFile, kind: Kind, earlier: &Earlier) -> Result<Appender, ReportError> {
    let mut records = Appender::new(report, earlier.len, kind.columns())?;
    if earlier.lacks_line_end {
        records.end_line()?;
    }
    Ok(records)
}

/// How much of an existing rows file is kept; drops from `earlier` and the list report the last users whose rows are lost.
fn rows_to_keep(
    rows: &OpenFile,
    report: &OpenFile,
    earlier: &mut Earlier,
    is_simulated: bool,
) -> Result<u64, ReportError> {
    if rows.is_new() && earlier.conversations > 0 {
        return Err(ReportError::RowsFileMissing {
            path: rows.path.clone(),
            report: report.path.clone(),
        });
    }
    if report.is_new() && rows.len > 0 {
        return Err(ReportError::ListReportMissing {
            path: report.path.clone(),
            rows: rows.path.clone(),
        });
    }
    let kept = rows::compare(rows, report, earlier.len)?;
    if let Some(len) = kept.report {
        tracing::warn!(
            "{}: rows of the last users of {} are missing, perhaps after a power cut; these users are listed again",
            rows.path.display(),
            report.path.display()
        );
        report.truncate(len)?;
        *earlier = Earlier::read(report, Kind::List, is_simulated)?;
    }
    Ok(kept.rows)
}

/// The checks of [`Report::open`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Report::open`] that the paths alone show.
pub fn check_paths(report: &Path, outside: &Path, existing: IfExists) -> Result<(), ReportError> {
    file::check_path(report, Role::Report, existing)?;
    file::check_path(outside, Role::Outside, existing)
}

/// The checks of [`Report::open_list`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Report::open_list`] that the paths alone show.
pub fn check_list_paths(rows: &RowsTo, report: Option<&Path>, existing: IfExists) -> Result<(), ReportError> {
    if let RowsTo::File(path) = rows {
        file::check_path(path, Role::Rows, existing)?;
    }
    report.map_or(Ok(()), |path| file::check_path(path, Role::ListReport, existing))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::entries::Entries;
    use crate::row::Subject;

    fn record(outcome: Outcome) -> Record {
        Record {
            subject: Subject::Row,
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
            entries: Entries::default(),
            looked_up: None,
        }
    }

    #[test]
    fn after_a_record_that_can_t_be_written_none_is_written() {
        for (removed, is_written) in [("out.csv", false), ("outside.csv", true)] {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
            let mut report = Report::open(&paths[0], &paths[1], IfExists::Refuse, false).unwrap();
            report.push(&record(Outcome::Ok));
            assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
            std::fs::remove_file(directory.path().join(removed)).unwrap();
            report.files_mut().for_each(Appender::make_check_due);
            report.push(&record(Outcome::Ok));
            report.push(&record(Outcome::Outside));
            let (was_written, result) = report.commit();
            assert_eq!((was_written.rows, result.is_err()), (is_written, true), "{removed}");
            report.push(&record(Outcome::Ok));
            let (was_written, result) = report.commit();
            assert!(!was_written.rows && result.is_ok(), "{removed}");
        }
    }
}
