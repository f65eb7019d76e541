//! The journal of a run: the report, and the files that go with it.

use std::fmt;
use std::path::Path;
use std::pin::Pin;

use super::appender::Appender;
use super::earlier::Earlier;
use super::error::ReportError;
use super::record::{Kind, ReportRecord};
use super::rows::RowsFile;
use super::{Description, Journal, SyncFiles, Written, forget};
use crate::done::Done;
use crate::files::sync_directory_of;
use crate::reasons::Reasons;
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
    /// Whether the outside log is known to be that of the report.
    ownership: Ownership,
    /// So many bytes that wait for the outside log are of records that are written.
    outside_written: usize,
    /// The rows or users that have a record already.
    done: Done,
    /// Their outcomes, counted.
    earlier: Counts,
    /// The rows that were listed for them.
    rows_listed: u64,
    /// Those with as many conversations as ZIM lists.
    users_full: u64,
    earlier_failures: Reasons,
    is_simulated: bool,
    /// It continues the file of an earlier run.
    is_resumed: bool,
    /// Something could not be written: nothing more will be.
    is_broken: bool,
}

/// An outside log is known to be that of a report by its first rows. So it gets none before a record of an outside row is on the
/// disk: else a power cut might leave them and take the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ownership {
    Unknown,
    /// The sync that is under way brings such a record to the disk.
    Syncing,
    Known,
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
    pub(super) fn new(
        kind: Kind,
        rows: Option<RowsFile>,
        records: Option<Appender>,
        outside: Option<Appender>,
        earlier: Earlier,
        is_simulated: bool,
    ) -> Report {
        let ownership = match earlier.outcomes[Outcome::Outside] {
            0 => Ownership::Unknown,
            _ => Ownership::Known,
        };
        let opened = Report {
            ownership,
            outside_written: 0,
            kind,
            rows,
            records,
            outside,
            is_resumed: earlier.len > 0,
            done: earlier.done,
            earlier: earlier.outcomes,
            rows_listed: earlier.conversations,
            users_full: earlier.users_full,
            earlier_failures: earlier.failures,
            is_simulated,
            is_broken: false,
        };
        for file in opened.files() {
            sync_directory_of(file.path());
        }
        opened
    }

    /// The length of the rows file, in bytes; 0 if there is none.
    pub(super) fn rows_len(&self) -> u64 {
        let file = self.rows.as_ref().and_then(RowsFile::file);
        file.map_or(0, Appender::len)
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

    /// Whether written records of outside rows wait until they are known to be on the disk.
    fn is_outside_waiting(&self) -> bool {
        let is_pending = |file: &Option<Appender>| file.as_ref().is_some_and(Appender::is_pending);
        self.ownership != Ownership::Known && is_pending(&self.outside) && !is_pending(&self.records)
    }

    /// Records that could not be written never are, and the outside log gets none of them.
    fn note_records(&mut self, are_written: bool) {
        if let (Some(records), false) = (&mut self.records, are_written) {
            records.forget_pending_after(0);
        }
        let Some(outside) = &mut self.outside else { return };
        if are_written {
            self.outside_written = outside.pending_len();
        } else {
            outside.forget_pending_after(self.outside_written);
        }
    }

    fn write_outside(&mut self) -> Result<(), ReportError> {
        match &mut self.outside {
            Some(outside) if self.ownership == Ownership::Known => outside.commit(),
            _ => Ok(()),
        }
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

    fn take_earlier_failures(&mut self) -> Reasons {
        std::mem::take(&mut self.earlier_failures)
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
            return (Written::of_all(false), Ok(()));
        }
        let has_records = self.records.as_ref().is_some_and(Appender::is_pending);
        let written = self.write_records();
        let is_written = written.is_ok();
        self.note_records(is_written);
        if is_written && has_records {
            self.files_mut().for_each(Appender::keep);
        }
        let written = written.and_then(|()| self.write_outside());
        self.is_broken = written.is_err();
        (Written::of_all(is_written), written)
    }

    fn awaits_sync(&self) -> bool {
        self.ownership == Ownership::Unknown && self.is_outside_waiting()
    }

    fn sync_later(&mut self) -> SyncFiles {
        if self.is_outside_waiting() {
            self.ownership = Ownership::Syncing;
        }
        let syncs: Vec<_> = self.files().map(Appender::sync_later).collect();
        Box::new(|| syncs.into_iter().try_for_each(|sync| sync()))
    }

    fn synced(&mut self) {
        if self.ownership == Ownership::Syncing {
            self.ownership = Ownership::Known;
        }
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let was_broken = self.is_broken;
        let header = match &mut self.rows {
            Some(RowsFile::Stdout(stream)) if has_begun && !was_broken => stream.finish(),
            _ => Ok(()),
        };
        let (_, written) = self.commit();
        let mut outside = Ok(());
        if self.is_outside_waiting() {
            outside = self.sync_later()();
            self.synced();
        }
        // After an error too: then it is complete, though the report can't be continued.
        let outside = outside.and_then(|()| self.write_outside());
        let written = header
            .and(written)
            .and(outside)
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

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::file::IfExists;
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
    fn the_outside_log_gets_no_row_before_a_record_that_shows_whose_it_is_is_on_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
        let lines = |nth: usize| std::fs::read_to_string(&paths[nth]).unwrap().lines().count();
        let open = |existing| Report::open(&paths[0], &paths[1], existing, false).unwrap();
        let mut report = open(IfExists::Refuse);
        report.push(&record(Outcome::Outside));
        assert!(!report.awaits_sync(), "it is not written");
        drop(report.sync_later());
        report.synced();
        assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
        assert_eq!((lines(0), lines(1), report.awaits_sync()), (2, 1, true));
        report.sync_later()().unwrap();
        report.synced();
        assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
        assert_eq!((lines(0), lines(1), report.awaits_sync()), (2, 2, false));
        drop(report);
        // A run that resumes knows it, and one that ends sync it.
        let mut report = open(IfExists::Resume);
        let another = Record {
            line: 3,
            ..record(Outcome::Outside)
        };
        report.push(&another);
        assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
        assert_eq!((lines(0), lines(1)), (3, 3));
        drop(report);
        let mut report = open(IfExists::Overwrite);
        report.push(&record(Outcome::Outside));
        report.finish(true).unwrap();
        assert_eq!((lines(0), lines(1)), (2, 2));
    }

    #[test]
    fn rows_that_wait_for_the_outside_log_are_written_at_the_end_without_those_that_the_report_has_not() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
        let mut report = Report::open(&paths[0], &paths[1], IfExists::Refuse, false).unwrap();
        let at = |line| Record {
            line,
            ..record(Outcome::Outside)
        };
        (2..5).for_each(|line| report.push(&at(line)));
        assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
        // Another file is in its place for a moment.
        std::fs::rename(&paths[0], directory.path().join("moved.csv")).unwrap();
        report.files_mut().for_each(Appender::make_check_due);
        report.push(&at(5));
        assert!(report.commit().1.is_err());
        std::fs::rename(directory.path().join("moved.csv"), &paths[0]).unwrap();
        report.finish(true).unwrap();
        let [written, outside] = paths.map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!((outside.lines().count(), outside), (4, written));
    }

    #[test]
    fn after_a_record_that_can_t_be_written_none_is_written() {
        for (removed, is_written) in [("out.csv", false), ("outside.csv", true)] {
            let directory = tempfile::tempdir().unwrap();
            let paths = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
            let mut report = Report::open(&paths[0], &paths[1], IfExists::Refuse, false).unwrap();
            report.push(&record(Outcome::Outside));
            assert!(matches!(report.commit(), (Written::ALL, Ok(()))));
            report.sync_later()().unwrap();
            report.synced();
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
