//! What a list writes: the rows file, and the list report, which is its journal.

use std::fmt;
use std::path::Path;
use std::pin::Pin;

use super::appender::Appender;
use super::error::{ReportError, Role};

use super::list_record::{LIST_COLUMNS, ROWS_COLUMNS, UserLine};
use super::lock::lock;
use super::place::{self, IfExists, OpenFile};
use super::report::exists_already;
use super::resume::{self, Earlier};
use super::rows_file::{self, RowsFile, RowsTo, Stream};
use super::schema::USERS;
use super::{Journal, SyncFiles, remove_invalid};
use crate::done::Done;
use crate::files::sync_directory_of;
use crate::row::{Outcome, Record};
use crate::run::summary::Summary;

/// The rows file and the list report, opened and locked.
///
/// A user with a record is done, and all rows of the user are in the rows file; any other user is listed again by a run that
/// resumes. If this is dropped before the first record is written or the run has ended with a summary, files that it created
/// are removed.
pub struct ListReport {
    rows: RowsFile,
    users: Option<Appender>,
    /// The users that the report has already.
    done: Done,
    /// Their outcomes, counted.
    earlier: [u64; Outcome::ALL.len()],
    is_simulated: bool,
    /// Something could not be written: nothing more will be.
    is_broken: bool,
}

impl fmt::Debug for ListReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListReport")
            .field("report", &self.users.as_ref().map(Appender::path))
            .field("done", &self.done.len())
            .finish_non_exhaustive()
    }
}

impl ListReport {
    /// Opens and locks both files, reads back the users that are done, and removes the rows of users without a record. Without
    /// a report, for rows to standard output only, a later run can't resume.
    ///
    /// `is_simulated`: as for [`Report::open`](super::Report::open).
    ///
    /// # Errors
    /// A [`ReportError`] if a file is not of a list, if it exists and must not be changed or can't be resumed, if the two
    /// files don't belong together, if another run has locked one, or if one can't be written. The files are unchanged then,
    /// except one that failed while it was written.
    pub fn open(
        rows: &RowsTo,
        report: Option<&Path>,
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<ListReport, ReportError> {
        check_list_paths(rows, report, existing)?;
        let mut earlier = Earlier::default();
        let report = report.map(|path| OpenFile::open(path, Role::ListReport, existing));
        let report = report.transpose()?;
        if let Some(report) = &report {
            lock(report)?;
            refuse_existing(report, Role::ListReport, existing)?;
            if existing == IfExists::Resume {
                earlier = resume::read_back(&report.path, &report.file, &USERS, is_simulated)?;
            }
        }
        let rows = match rows {
            RowsTo::Stdout => RowsFile::Stdout(Stream::new()),
            RowsTo::File(path) => {
                let rows = OpenFile::open(path, Role::Rows, existing)?;
                lock(&rows)?;
                refuse_existing(&rows, Role::Rows, existing)?;
                let len = match (&report, existing) {
                    (Some(report), IfExists::Resume) => resumed_len(&rows, report, &mut earlier, is_simulated)?,
                    _ => 0,
                };
                rows.truncate(len)?;
                RowsFile::File(Appender::new(rows, len, &ROWS_COLUMNS)?)
            }
        };
        let users = report.map(|report| open_for_appending(report, &earlier));
        let mut opened = ListReport {
            rows,
            users: users.transpose()?,
            done: earlier.done,
            earlier: earlier.outcomes,
            is_simulated,
            is_broken: false,
        };
        for file in opened.files() {
            sync_directory_of(file.path());
        }
        Ok(opened)
    }

    /// The files among what it writes, the rows first: a record must not reach the disk before its rows.
    fn files(&mut self) -> impl Iterator<Item = &mut Appender> {
        let rows = match &mut self.rows {
            RowsFile::File(rows) => Some(rows),
            RowsFile::Stdout(_) => None,
        };
        rows.into_iter().chain(&mut self.users)
    }

    fn write(&mut self) -> Result<(), ReportError> {
        self.rows.commit()?;
        match &mut self.users {
            Some(users) => users.commit(),
            None => Ok(()),
        }
    }
}

impl Journal for ListReport {
    fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }

    fn earlier(&self) -> [u64; Outcome::ALL.len()] {
        self.earlier
    }

    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        if let Some(users) = &mut self.users {
            let removed = remove_invalid::forget(users, lines, &USERS)?;
            let invalid = &mut self.earlier[Outcome::Invalid as usize];
            *invalid = invalid.saturating_sub(removed);
        }
        Ok(())
    }

    fn push(&mut self, record: &Record) {
        if self.is_broken {
            return;
        }
        self.rows.push(record);
        if let Some(users) = &mut self.users {
            users.push(UserLine::new(record, self.is_simulated));
        }
    }

    fn handed_over(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            if let RowsFile::Stdout(stream) = &mut self.rows {
                stream.write().await;
            }
        })
    }

    fn commit(&mut self) -> (bool, Result<(), ReportError>) {
        // If the run was aborted while a reader was slow, the users whose rows it did not take are not done.
        self.is_broken |= self.rows.is_unfinished();
        if self.is_broken {
            return (false, Ok(()));
        }
        let has_records = self.users.as_ref().is_some_and(Appender::is_pending);
        let written = self.write();
        if written.is_ok() && has_records {
            self.files().for_each(Appender::keep);
        }
        self.is_broken = written.is_err();
        (written.is_ok(), written)
    }

    fn sync_later(&self) -> SyncFiles {
        let rows = match &self.rows {
            RowsFile::File(rows) => Some(rows.sync_later()),
            RowsFile::Stdout(_) => None,
        };
        let users = self.users.as_ref().map(Appender::sync_later);
        Box::new(|| {
            rows.map_or(Ok(()), |sync| sync())?;
            users.map_or(Ok(()), |sync| sync())
        })
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let was_broken = self.is_broken;
        let header = match &mut self.rows {
            RowsFile::Stdout(stream) if has_begun && !was_broken => stream.finish(),
            _ => Ok(()),
        };
        let (_, written) = self.commit();
        let written = header
            .and(written)
            .and_then(|()| self.files().try_for_each(Appender::check_in_place))
            .and_then(|()| self.sync_later()());
        if has_begun {
            self.files().for_each(Appender::keep);
        }
        match was_broken {
            // It has been reported.
            true => Ok(()),
            false => written,
        }
    }

    fn describe(&self, summary: &mut Summary) {
        summary.report = self.users.as_ref().map(|users| users.path().display().to_string());
        summary.rows_file = Some(match &self.rows {
            RowsFile::File(rows) => rows.path().display().to_string(),
            RowsFile::Stdout(_) => "-".to_owned(),
        });
        summary.simulated = self.is_simulated;
    }
}

/// How much of an existing rows file is kept; drops from `earlier` and the list report the last users whose rows are lost.
fn resumed_len(
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
    let kept = rows_file::compare(rows, report, earlier.len)?;
    if let Some(len) = kept.report {
        tracing::warn!(
            "{}: rows of the last users of {} are missing, perhaps after a power cut; these users are listed again",
            rows.path.display(),
            report.path.display()
        );
        report.truncate(len)?;
        *earlier = resume::read_back(&report.path, &report.file, &USERS, is_simulated)?;
    }
    Ok(kept.rows)
}

fn open_for_appending(report: OpenFile, earlier: &Earlier) -> Result<Appender, ReportError> {
    report.truncate(earlier.len)?;
    let mut users = Appender::new(report, earlier.len, &LIST_COLUMNS)?;
    if earlier.lacks_line_end {
        users.end_line()?;
    }
    Ok(users)
}

fn refuse_existing(file: &OpenFile, role: Role, existing: IfExists) -> Result<(), ReportError> {
    match existing {
        IfExists::Refuse if file.len > 0 => Err(exists_already(&file.path, role)),
        _ => Ok(()),
    }
}

/// The checks of [`ListReport::open`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`ListReport::open`] that the paths alone show.
pub fn check_list_paths(rows: &RowsTo, report: Option<&Path>, existing: IfExists) -> Result<(), ReportError> {
    for (path, role) in [(rows_file::path(rows), Role::Rows), (report, Role::ListReport)] {
        let Some(path) = path else { continue };
        let is_there = place::check_path(path, role, existing)?.is_some_and(|metadata| metadata.len() > 0);
        if is_there && existing == IfExists::Refuse {
            return Err(exists_already(path, role));
        }
    }
    Ok(())
}
