//! What to do with each row of an input: send it, report it unsent, or nothing.
//!
//! Each row passes the same steps, in this order:
//!
//! 1. [`SelectedRows`]: of an earlier report, only rows with some outcomes are selected.
//! 2. [`Resume`]: a row that an earlier run has recorded is done.
//! 3. A row of another type than the one to be sent is left out.
//! 4. [`Dedupe`]: a row that repeats another one is skipped.
//! 5. [`Limit`]: after so many rows to send, the plan ends.

mod dedupe;
mod resume;
mod warnings;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use super::error::{Diagnosis, InputError, InputErrorKind};
use super::format::Format;
use super::parsed::{InvalidRow, ParsedRow};
use super::reader::Rows;
use super::selection::{OkRows, SelectedRows, Selection};
use super::snapshot::Snapshot;
use crate::done::Done;
use crate::fingerprint::fingerprint;
use crate::listed::Listed;
use crate::row::{ConvType, Numbered, Row};
use dedupe::{Dedupe, Repeats};
use resume::Resume;
use warnings::Warnings;

/// How many rows of a stream with an outcome column are read before the first one is returned, so that a report with
/// `ok` rows among them is refused before anything is sent.
const LOOKAHEAD: usize = 100_000;

/// What to do with a row, or another item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task<I = Row> {
    /// Send it.
    Send(Numbered<I>),
    /// Report it as invalid.
    Invalid(InvalidRow),
    /// Report it as skipped: the same as the row on the line `first`.
    Skip {
        /// The row.
        item: Numbered<I>,
        /// The line of the first of its kind.
        first: u64,
    },
    /// Nothing: an earlier run has recorded it.
    AlreadyDone,
}

impl<I> Task<I> {
    /// The same task for another kind of item.
    pub fn map<J>(self, convert: impl FnOnce(I) -> J) -> Task<J> {
        match self {
            Task::Send(item) => Task::Send(item.map(convert)),
            Task::Invalid(row) => Task::Invalid(row),
            Task::Skip { item, first } => Task::Skip {
                item: item.map(convert),
                first,
            },
            Task::AlreadyDone => Task::AlreadyDone,
        }
    }
}

/// The selected rows of an input, in order, as [`Task`]s. Made by [`Input::plan`](super::Input::plan).
pub struct Plan {
    steps: Steps,
    limit: Limit,
    read_ahead: ReadAhead,
    total: Option<u64>,
    selected: Option<u64>,
    stale: Vec<u64>,
    rows_done: u64,
    diagnosis: Option<(u64, Diagnosis)>,
    snapshot: Option<Snapshot>,
}

/// What was read of a stream to compare all rows that are done.
#[derive(Default)]
struct ReadAhead {
    done: u64,
    tasks: VecDeque<Task>,
}

impl Plan {
    /// Reads the file once to count its rows and to compare them with those that are done, and opens it again.
    pub(super) fn of_file(path: &Path, format: &Format, selection: &Selection, done: Done) -> Result<Plan, InputError> {
        let snapshot = Snapshot::take(path)?;
        let open = || Rows::open_snapshot(&snapshot, format);
        let survey = Survey::of(open()?, selection, done)?;
        let total = match selection.limit {
            None => survey.rows,
            // Where the limit is reached, only the steps themselves can tell.
            Some(_) => {
                let steps = survey.clone().into_steps(open()?, selection)?;
                Plan::new(steps, selection).count_rows()?
            }
        };
        let (selected, diagnosis) = (survey.rows, survey.diagnosis);
        let stale = survey.resume.stale().to_vec();
        let mut steps = survey.into_steps(open()?, selection)?;
        steps.warnings = Some(Warnings::default());
        Ok(Plan {
            total: Some(total),
            selected: Some(selected),
            stale,
            diagnosis,
            snapshot: Some(snapshot),
            ..Plan::new(steps, selection)
        })
    }

    /// Reads until all rows that are done have been found, and keeps the tasks found between them. Fails if the input is
    /// not what the report was made from, or, as far as it was read, is itself a report with `ok` rows.
    pub(super) fn of_stream(rows: Rows, selection: &Selection, done: Done) -> Result<Plan, InputError> {
        let mut steps = Steps {
            rows: SelectedRows::new(rows, selection, OkRows::Refuse)?,
            resume: Resume::new(done),
            conv_type: selection.conv_type,
            dedupe: selection.dedupe.then(Dedupe::default),
            warnings: Some(Warnings::default()),
        };
        let mut read_ahead = ReadAhead::default();
        while !steps.resume.is_complete() || (steps.rows.refuses_ok_rows() && read_ahead.tasks.len() < LOOKAHEAD) {
            match steps.next()? {
                None => break,
                Some(Task::AlreadyDone) => read_ahead.done += 1,
                Some(task) => read_ahead.tasks.push_back(task),
            }
        }
        Ok(Plan {
            stale: steps.resume.stale().to_vec(),
            read_ahead,
            ..Plan::new(steps, selection)
        })
    }

    /// The rows of a run that lists them: first those that are in the file already, then those that are listed meanwhile.
    /// `limit`: as [`Selection::limit`]. Call it in a Tokio runtime, and before the run.
    ///
    /// # Errors
    /// If the file can't be read, or is not what the report was made from.
    pub fn of_listed(listed: &Listed, limit: Option<u64>, done: Done) -> Result<Plan, InputError> {
        let selection = Selection {
            limit,
            ..Selection::default()
        };
        let name = listed.path().display().to_string();
        let error = |source| InputErrorKind::Open(source).of(&name);
        let recorded = Box::new(listed.read_recorded().map_err(error)?);
        let survey = Survey::of(
            Rows::from_reader(recorded, &name, &Format::default())?,
            &selection,
            done,
        )?;
        let (stale, diagnosis) = (survey.resume.stale().to_vec(), survey.diagnosis);
        let growing = Box::new(listed.reader().map_err(error)?);
        let mut steps = survey.into_steps(Rows::from_reader(growing, &name, &Format::default())?, &selection)?;
        steps.warnings = Some(Warnings::default());
        Ok(Plan {
            stale,
            diagnosis,
            ..Plan::new(steps, &selection)
        })
    }

    fn new(steps: Steps, selection: &Selection) -> Plan {
        Plan {
            rows_done: steps.resume.rows_done(),
            steps,
            limit: Limit { left: selection.limit },
            read_ahead: ReadAhead::default(),
            total: None,
            selected: None,
            stale: Vec::new(),
            diagnosis: None,
            snapshot: None,
        }
    }

    /// Counts the rows to the end, and those already done.
    fn count_rows(self) -> Result<u64, InputError> {
        let mut rows = self.rows_done;
        for task in self {
            rows += u64::from(task? != Task::AlreadyDone);
        }
        Ok(rows)
    }

    /// How many rows this plan has, up to its limit, including those already done; `None` if that is not known before the
    /// end.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many rows are selected, whatever the limit, including those already done; `None` if that is not known before the
    /// end.
    pub fn selected(&self) -> Option<u64> {
        self.selected
    }

    /// Whether it ends after so many rows to send.
    pub(crate) fn has_limit(&self) -> bool {
        self.limit.left.is_some()
    }

    /// How many rows are already done, according to the report.
    pub fn rows_done(&self) -> u64 {
        self.rows_done
    }

    /// Lines whose record in the report is `invalid` and whose row has changed since or no longer exists. Such rows are
    /// not done: remove these records from the report before iterating.
    pub fn stale(&self) -> &[u64] {
        &self.stale
    }

    /// The line of the first row of a file that is not valid text, and what the text probably is.
    pub fn diagnosis(&self) -> Option<(u64, Diagnosis)> {
        self.diagnosis
    }

    /// The file as it was when its rows were counted; `None` for other input.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }
}

impl Iterator for Plan {
    type Item = Result<Task, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read_ahead.done > 0 {
            self.read_ahead.done -= 1;
            return Some(Ok(Task::AlreadyDone));
        }
        if self.limit.is_reached() {
            return None;
        }
        let task = match self.read_ahead.tasks.pop_front() {
            Some(task) => task,
            None => match self.steps.next() {
                Ok(task) => task?,
                Err(error) => return Some(Err(error)),
            },
        };
        self.limit.count(&task);
        Some(Ok(task))
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("rows", self.steps.rows.rows())
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

/// The steps that need no look at later rows.
struct Steps {
    rows: SelectedRows,
    resume: Resume,
    conv_type: Option<ConvType>,
    dedupe: Option<Dedupe>,
    /// `None` if the rows are only counted.
    warnings: Option<Warnings>,
}

impl Steps {
    /// The next task; `None` at the end of the input.
    fn next(&mut self) -> Result<Option<Task>, InputError> {
        let (row, is_done) = loop {
            if !self.rows.advance()? {
                self.resume.end(self.rows.name())?;
                return Ok(None);
            }
            let row = self.rows.current();
            let is_done = self.resume.recorded(&row, self.rows.name())?.is_some();
            if is_done || !self.conv_type.is_some_and(|conv_type| row.is_not(conv_type)) {
                break (self.rows.current(), is_done);
            }
        };
        if let (false, Some(warnings)) = (is_done, &mut self.warnings) {
            warnings.warn(&row, self.rows.name());
        }
        let task = match row.parsed() {
            ParsedRow::Invalid(row) => Task::Invalid(row),
            ParsedRow::Row(row) => match self.dedupe.as_mut().map(|dedupe| dedupe.first_line(&row)) {
                Some(first) if first != row.line => Task::Skip { item: row, first },
                _ => Task::Send(row),
            },
        };
        Ok(Some(if is_done { Task::AlreadyDone } else { task }))
    }
}

/// What a pass over a whole file finds before any row is sent.
#[derive(Clone)]
struct Survey {
    /// How many rows are selected.
    rows: u64,
    /// The line of the first row that is not valid text, and what it probably is.
    diagnosis: Option<(u64, Diagnosis)>,
    resume: Resume,
    dedupe: Option<Dedupe>,
}

impl Survey {
    /// Fails if the file is not what the report was made from, or is itself a report with `ok` rows.
    fn of(rows: Rows, selection: &Selection, done: Done) -> Result<Survey, InputError> {
        let mut rows = SelectedRows::new(rows, selection, OkRows::counted())?;
        let mut resume = Resume::new(done);
        let mut repeats = selection.dedupe.then(Repeats::default);
        let (mut count, mut diagnosis) = (0, None);
        while rows.advance()? {
            let row = rows.current();
            let record = resume.recorded(&row, rows.name())?;
            if record.is_none() && selection.conv_type.is_some_and(|conv_type| row.is_not(conv_type)) {
                continue;
            }
            match (row.check(), &mut repeats) {
                (Ok((user, conv, conv_type)), Some(repeats)) => {
                    let is_first = record.is_some_and(|record| !record.is_skipped());
                    repeats.add(fingerprint(user, conv, conv_type.digit()), row.line(), is_first);
                }
                (Err(error), _) if diagnosis.is_none() => {
                    diagnosis = row.diagnosis(&error).map(|diagnosis| (row.line(), diagnosis));
                }
                _ => {}
            }
            count += 1;
        }
        resume.end(rows.name())?;
        Ok(Survey {
            rows: count,
            diagnosis,
            resume,
            dedupe: repeats.map(Repeats::into_dedupe),
        })
    }

    /// The steps of a second pass, without warnings.
    fn into_steps(self, rows: Rows, selection: &Selection) -> Result<Steps, InputError> {
        Ok(Steps {
            rows: SelectedRows::new(rows, selection, OkRows::Refuse)?,
            resume: self.resume.again(),
            conv_type: selection.conv_type,
            dedupe: self.dedupe,
            warnings: None,
        })
    }
}

/// Step 5 of a plan: it ends after so many rows to send.
struct Limit {
    /// `None`: no limit.
    left: Option<u64>,
}

impl Limit {
    fn is_reached(&self) -> bool {
        self.left == Some(0)
    }

    fn count(&mut self, task: &Task) {
        if let (Some(left), Task::Send(_)) = (&mut self.left, task) {
            *left -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
