//! Stage 4, where results go: the report, with the outside log of a `clear` or the rows file of a `list`.
//!
//! A report is also the journal of its runs: a row is done if and only if its record is in the file. There is no other
//! state. A run writes it through the trait [`Journal`]; `reader.rs` reads it back, for a run that resumes and for the
//! [analysis](crate::analysis).
//!
//! Files are created with mode 0600, whatever the umask: they contain user IDs, and anyone who can read a file can lock
//! it, which prevents a run. An existing file keeps its mode. A first run that never begins leaves no files.

mod appender;
mod beside;
mod buffer;
mod earlier;
mod error;
mod file;
mod forget;
mod holder;
mod opening;
mod outside;
mod reader;
mod record;
mod report;
mod rows;
mod run_log;
mod table;
mod users_report;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;

use crate::done::Done;
use crate::reasons::Reasons;
use crate::row::{Counts, Record, Subject};
use crate::sealed::Sealed;
pub use beside::{files_of_runs, is_file_of_a_run};
pub use error::{NotAReport, ReportError, Role};
pub use file::IfExists;
pub use holder::{Holder, holder, is_locked};
pub use opening::{check_list_paths, check_paths};
pub(crate) use reader::{read_file, read_report, read_rows};
pub use record::{COLUMNS, Kind, LIST_COLUMNS, ROWS_COLUMNS};
pub(crate) use record::{ReportRecord, RowRecord};
pub use report::Report;
pub use rows::RowsTo;
pub use run_log::{LoggedRun, RunBegin, RunCounts, RunEnd, RunLog, UserCounts, read_runs};
pub(crate) use table::FileStart;
pub use users_report::{UsersReport, list_report_of};

/// Syncs files to the disk; to be called on a thread that may block.
pub type SyncFiles = Box<dyn FnOnce() -> Result<(), ReportError> + Send>;

/// Where a run's records go: a [`Report`] or a [`UsersReport`].
///
/// Records are taken with [`Journal::push`] and written by [`Journal::commit`]; a row is done once its record is written. Only
/// this crate implements it.
pub trait Journal: Sealed + fmt::Debug + Send {
    /// Takes the rows that the journal already has.
    fn take_done(&mut self) -> Done;

    /// How many records of each outcome it already has; of rows, if it has users besides.
    fn earlier(&self) -> Counts;

    /// Takes why those that failed did.
    fn take_earlier_failures(&mut self) -> Reasons;

    /// Takes the same of users, if it has rows besides.
    fn take_earlier_users(&mut self) -> Option<EarlierUsers> {
        None
    }

    /// Removes the `invalid` records of these lines, which must be ascending: their rows have changed and are processed
    /// again. Atomic: whenever the process ends, the journal has all of these records or none.
    ///
    /// # Errors
    /// If the file can't be written.
    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError>;

    /// Takes a record. It is written by the next [`Journal::commit`].
    fn push(&mut self, record: &Record);

    /// Completes when what was pushed has been handed to a reader that may be slow, if there is one. Without this,
    /// [`Journal::commit`] does not write the records. May be dropped and called again.
    fn handed_over(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// Writes the records taken since the last time. Returns which of them are in the journal now, which they may be even if
    /// another file can't be written. After an error nothing more is written, and nothing more should be sent.
    fn commit(&mut self) -> (Written, Result<(), ReportError>);

    /// Whether something waits until it is on the disk.
    fn awaits_sync(&self) -> bool {
        false
    }

    /// Returns a function that syncs the files to the disk. [`Journal::synced`] follows when it has succeeded.
    fn sync_later(&mut self) -> SyncFiles;

    /// What was written before the last [`Journal::sync_later`] is on the disk.
    fn synced(&mut self) {}

    /// Syncs the files, and checks that they are still in place. `has_begun`: something was sent, so the files stay even
    /// without a record.
    ///
    /// # Errors
    /// If a file can't be written, or is no longer in place.
    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError>;

    /// Whether it continues the file of an earlier run.
    fn is_resumed(&self) -> bool;

    /// Its files, for the summary.
    fn describe(&self) -> Description;
}

/// The users that a journal already has, besides rows.
#[derive(Debug, Clone, Default)]
pub struct EarlierUsers {
    /// How many of each outcome.
    pub outcomes: Counts,
    /// Why those that failed did.
    pub failures: Reasons,
    /// The rows that were listed for them.
    pub rows: u64,
    /// Those with as many conversations as ZIM lists.
    pub full: u64,
}

/// Which records are in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Those of rows.
    pub rows: bool,
    /// Those of users.
    pub users: bool,
}

impl Written {
    /// All of them.
    pub const ALL: Written = Written::of_all(true);

    pub(crate) const fn of_all(are_written: bool) -> Written {
        Written {
            rows: are_written,
            users: are_written,
        }
    }

    /// Whether records about this are.
    pub fn has(self, subject: Subject) -> bool {
        match subject {
            Subject::Row => self.rows,
            Subject::User => self.users,
        }
    }
}

/// The files of a journal, and whether its answers come from a simulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The report; `None` if there is none.
    pub report: Option<PathBuf>,
    /// The list report of a journal that has rows besides.
    pub list_report: Option<PathBuf>,
    /// The outside log, likewise.
    pub outside_log: Option<PathBuf>,
    /// For a list: where the rows are.
    pub rows: Option<RowsTo>,
    /// The answers come from a simulator: nothing is cleared.
    pub is_simulated: bool,
}
