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
mod tests {
    use std::io::{Cursor, Write as _};

    use super::super::format::Reads;
    use super::super::input::Input;
    use super::super::selection::Only;
    use super::super::source::Source;
    use super::*;
    use crate::row::Outcome;

    /// Plans the rows as a file, and as a stream.
    fn plans(csv: &str, reads: Reads, selection: &Selection, done: &Done) -> [Result<Plan, InputError>; 2] {
        let format = Format {
            reads,
            ..Format::default()
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(csv.as_bytes()).unwrap();
        let opened = Input::open(&Source::File(file.path().to_owned()), &format).unwrap();
        let rows = Rows::from_reader(Box::new(Cursor::new(csv.to_owned())), "input", &format).unwrap();
        [opened, Input::from(rows)].map(|input| input.plan(selection, done.clone()))
    }

    /// What is done with each row, in the order of the input; a stream must agree, with what is done first.
    fn steps(csv: &str, reads: Reads, selection: &Selection, done: &Done) -> Vec<String> {
        let [of_file, of_stream] = plans(csv, reads, selection, done).map(|plan| {
            let plan = plan.unwrap();
            let (total, rows_done) = (plan.total(), plan.rows_done());
            let step = |task: Result<Task, InputError>| match task.unwrap() {
                Task::Send(row) => format!("{} {}", row.line, row.item.user()),
                Task::Invalid(row) => format!("{} invalid", row.line),
                Task::Skip { item: row, first } => format!("{} as {first}", row.line),
                Task::AlreadyDone => "done".into(),
            };
            let steps: Vec<String> = plan.map(step).collect();
            let not_done = steps.iter().filter(|step| *step != "done").count() as u64;
            assert!(
                total.is_none_or(|total| total == rows_done + not_done),
                "{total:?}: {steps:?}"
            );
            steps
        });
        let sorted = |steps: &[String]| {
            let mut steps = steps.to_vec();
            steps.sort_by_key(|step| step != "done");
            steps
        };
        assert_eq!(sorted(&of_file), sorted(&of_stream));
        of_file
    }

    fn done(rows: &[(u64, [&str; 3])]) -> Done {
        let mut done = Done::default();
        for (line, [user, conv, conv_type]) in rows {
            done.insert(*line, user, conv, conv_type);
        }
        done.seal().unwrap();
        done
    }

    #[test]
    fn a_limit_counts_the_rows_that_are_sent() {
        let csv = "user,conv,type\na,b,0\na,b,0\na,,0\nb,c,0\nc,d,0\nd,e,0\n";
        let done = done(&[(7, ["d", "e", "0"])]);
        for (dedupe, limit, expected) in [
            (false, 3, &["2 a", "3 a", "4 invalid", "5 b"][..]),
            (true, 3, &["2 a", "3 as 2", "4 invalid", "5 b", "6 c"]),
            (false, 9, &["2 a", "3 a", "4 invalid", "5 b", "6 c", "done"]),
            (true, 1, &["2 a"]),
        ] {
            let selection = Selection {
                dedupe,
                limit: Some(limit),
                ..Selection::default()
            };
            let [of_file, of_stream] = plans(csv, Reads::Rows, &selection, &done).map(Result::unwrap);
            assert_eq!(
                of_file.total(),
                Some(1 + expected.iter().filter(|step| **step != "done").count() as u64)
            );
            assert_eq!((of_file.rows_done(), of_stream.rows_done()), (1, 1));
            let lines = |plan: Plan| {
                plan.map(Result::unwrap)
                    .filter(|task| *task != Task::AlreadyDone)
                    .count()
            };
            assert_eq!(lines(of_file), lines(of_stream));
            if limit == 9 {
                assert_eq!(steps(csv, Reads::Rows, &selection, &done), expected);
            }
        }
    }

    #[test]
    fn repeated_users_are_skipped_and_recorded_ones_are_done() {
        let csv = "line,user,conv,type,outcome\n2,a,x,0,ok\n3,b,x,0,failed\n4,a,y,2,ok\n5,,x,0,invalid\n6,c,x,0,ok\n";
        let mut selection = Selection {
            dedupe: true,
            ..Selection::default()
        };
        let users = |selection: &Selection, done: &Done| steps(csv, Reads::Users, selection, done);
        let none = Done::default();
        assert_eq!(users(&selection, &none), ["2 a", "3 b", "4 as 2", "5 invalid", "6 c"]);

        let mut recorded = done(&[(2, ["a", "", ""])]);
        recorded.insert_invalid(5, "", "", "");
        recorded.seal().unwrap();
        assert_eq!(users(&selection, &recorded), ["done", "3 b", "4 as 2", "done", "6 c"]);

        recorded.insert(6, "another", "", "");
        recorded.seal().unwrap();
        for changed in plans(csv, Reads::Users, &selection, &recorded) {
            let error = changed.unwrap_err();
            assert!(
                matches!(error.kind, InputErrorKind::RowChanged) && error.line == Some(6),
                "{error}"
            );
        }

        selection.only = Some(Only::Outcomes(vec![Outcome::Failed]));
        assert_eq!(users(&selection, &none), ["3 b"]);
    }

    #[test]
    fn rows_before_the_one_that_is_done_are_skipped_and_not_counted_as_sent() {
        let csv = "user,conv,type\na,b,0\nc,d,0\na,b,0\ne,f,0\n";
        let done = done(&[(4, ["a", "b", "0"])]);
        for (limit, expected) in [
            (None, &["2 as 4", "3 c", "done", "5 e"][..]),
            (Some(1), &["2 as 4", "3 c"]),
        ] {
            let selection = Selection {
                dedupe: true,
                limit,
                ..Selection::default()
            };
            let [of_file, _] = plans(csv, Reads::Rows, &selection, &done).map(Result::unwrap);
            let not_done = expected.iter().filter(|step| **step != "done").count() as u64;
            assert_eq!(of_file.total(), Some(1 + not_done), "{limit:?}");
            assert_eq!(of_file.count(), expected.len());
        }
    }

    #[test]
    fn a_row_whose_repetition_was_skipped_before_it_had_a_record_is_sent() {
        let csv = "user,conv,type\na,b,0\nc,d,0\na,b,0\na,b,0\n";
        let mut recorded = done(&[(3, ["c", "d", "0"])]);
        recorded.insert_skipped(4, "a", "b", "0");
        recorded.seal().unwrap();
        let selection = Selection {
            dedupe: true,
            ..Selection::default()
        };
        assert_eq!(
            steps(csv, Reads::Rows, &selection, &recorded),
            ["2 a", "done", "done", "5 as 2"]
        );
    }

    #[test]
    fn records_of_rows_that_have_changed_are_stale_if_they_were_never_sent() {
        let csv = "user,conv,type\na,b,0\n,d,0\n";
        let mut recorded = Done::default();
        recorded.insert_invalid(2, "a", "b", "9");
        recorded.insert_invalid(3, "", "d", "0");
        recorded.insert_invalid(4, "gone", "", "0");
        recorded.seal().unwrap();
        for plan in plans(csv, Reads::Rows, &Selection::default(), &recorded) {
            let plan = plan.unwrap();
            assert_eq!((plan.stale(), plan.rows_done()), (&[2, 4][..], 1));
        }
        assert_eq!(
            steps(csv, Reads::Rows, &Selection::default(), &recorded),
            ["2 a", "done"]
        );
    }

    #[test]
    fn an_ok_row_far_behind_in_a_stream_is_not_sent() {
        let failed = "u,c,0,failed\n".repeat(LOOKAHEAD);
        let csv = format!("user,conv,type,outcome\n{failed}u,c,0,ok\nu,c,0,failed\n");
        let [of_file, of_stream] = plans(&csv, Reads::Rows, &Selection::default(), &Done::default());
        let is_report = |error: &InputError| matches!(error.kind, InputErrorKind::IsReport { .. });
        assert!(of_file.is_err_and(|error| is_report(&error)));
        let after = of_stream.unwrap().nth(LOOKAHEAD);
        assert!(matches!(&after, Some(Err(error)) if is_report(error)), "{after:?}");
    }
}
