//! The journal of a run that lists users and clears what was listed: a list report and a report.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use super::error::ReportError;
use super::opening::{ClearFiles, ListFiles};
use super::report::Report;
use super::{Description, EarlierUsers, IfExists, Journal, RowsTo, SyncFiles, Written};
use crate::done::Done;
use crate::files::named_after;
use crate::listed::Listed;
use crate::reasons::Reasons;
use crate::row::{Counts, Record, Subject};
use crate::sealed::Sealed;

/// Where the list report is of a run that lists users and records their rows in `report`: `out.csv` → `out.list.csv`.
pub fn list_report_of(report: &Path) -> PathBuf {
    named_after(report, ".list.csv")
}

/// The list report of the users with its rows file, and the report of these rows with its outside log.
///
/// Rows are sent once they and the records of their users are on the disk: so no row that was sent is ever taken out of the
/// rows file, not even after a power cut.
#[derive(Debug)]
pub struct UsersReport {
    list: Report,
    report: Report,
    listed: Listed,
    /// Users whose records are taken, and not written.
    pushed: u64,
    /// Users whose records are written, and not on the disk.
    written: u64,
    /// Users whose records the sync that is under way brings to the disk, and the length of the rows file then.
    syncing: Option<(u64, u64)>,
}

impl UsersReport {
    /// Opens the rows file and the list report, as [`Report::open_list`] does, and a report and its outside log, as
    /// [`Report::open`] does. What earlier runs have listed is on the disk then.
    ///
    /// # Errors
    /// As theirs. The files are unchanged then, except one that failed while it was written.
    pub fn open(
        [rows, list]: [&Path; 2],
        [report, outside]: [&Path; 2],
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<UsersReport, ReportError> {
        let rows_to = RowsTo::File(rows.to_owned());
        // The report first: the other files are named after it.
        let report = ClearFiles::check(report, outside, existing, is_simulated)?;
        let list = ListFiles::check(&rows_to, Some(list), existing, is_simulated)?;
        let (list, report) = (list.begin()?, report.begin()?);
        let len = list.rows_len();
        Ok(UsersReport {
            listed: Listed::new(rows.to_owned(), len, list.rows_listed()),
            list,
            report,
            pushed: 0,
            written: 0,
            syncing: None,
        })
    }

    /// The list report.
    pub fn list(&mut self) -> &mut Report {
        &mut self.list
    }

    /// The rows file, as far as it is recorded: for [`Plan::of_listed`](crate::rows::Plan::of_listed).
    pub fn listed(&self) -> Listed {
        self.listed.clone()
    }
}

impl Sealed for UsersReport {}

impl Journal for UsersReport {
    /// The rows; the users that are done are those of [`UsersReport::list`].
    fn take_done(&mut self) -> Done {
        self.report.take_done()
    }

    fn earlier(&self) -> Counts {
        self.report.earlier()
    }

    fn take_earlier_failures(&mut self) -> Reasons {
        self.report.take_earlier_failures()
    }

    fn take_earlier_users(&mut self) -> Option<EarlierUsers> {
        Some(EarlierUsers {
            outcomes: self.list.earlier(),
            failures: self.list.take_earlier_failures(),
            rows: self.list.rows_listed(),
            full: self.list.users_full(),
        })
    }

    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        self.report.forget(lines)
    }

    fn push(&mut self, record: &Record) {
        match record.subject {
            Subject::Row => self.report.push(record),
            Subject::User => {
                self.list.push(record);
                self.listed.list(record.conversations.len() as u64);
                self.pushed += 1;
            }
        }
    }

    fn handed_over(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.list.handed_over()
    }

    fn commit(&mut self) -> (Written, Result<(), ReportError>) {
        let (users, listed) = self.list.commit();
        let (rows, reported) = self.report.commit();
        let pushed = std::mem::take(&mut self.pushed);
        if users.users {
            self.written += pushed;
        }
        let written = Written {
            users: users.users,
            rows: rows.rows,
        };
        (written, listed.and(reported))
    }

    fn awaits_sync(&self) -> bool {
        self.written > 0 || self.report.awaits_sync()
    }

    fn sync_later(&mut self) -> SyncFiles {
        self.syncing = Some((std::mem::take(&mut self.written), self.list.rows_len()));
        let (list, report) = (self.list.sync_later(), self.report.sync_later());
        Box::new(|| list().and_then(|()| report()))
    }

    fn synced(&mut self) {
        if let Some((users, len)) = self.syncing.take() {
            self.listed.record(len, users);
        }
        self.report.synced();
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        let listed = self.list.finish(has_begun);
        listed.and(self.report.finish(has_begun))
    }

    fn is_resumed(&self) -> bool {
        self.list.is_resumed()
    }

    fn describe(&self) -> Description {
        let list = self.list.describe();
        Description {
            list_report: list.report,
            rows: list.rows,
            ..self.report.describe()
        }
    }
}
