//! What is to be done about each row of the input: send it, report it as it is, or nothing.
//!
//! The same plan is walked twice over a file, once to count and check before anything is sent, once to work; over
//! standard input it is walked once.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::done::{Difference, Done, Walk};
use super::{Entry, Format, InputError, InvalidRow, RawRow, Row, Rows, Source, fingerprint};
use crate::event::Outcome;

/// Which rows of the input are to be worked on.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only the rows of an earlier report with one of these outcomes.
    pub only: Option<Vec<Outcome>>,
    /// Send a repeated (user, conversation, type) once.
    pub dedupe: bool,
    /// The rows that are done already.
    pub done: Done,
}

impl Selection {
    /// Whether the row is one of those to be worked on.
    pub fn takes(&self, row: &RawRow) -> bool {
        let Some(only) = &self.only else { return true };
        let outcome = row
            .outcome()
            .and_then(|field| Outcome::parse(std::str::from_utf8(field).ok()?));
        outcome.is_some_and(|outcome| only.contains(&outcome))
    }

    /// Only a report has outcomes to choose by.
    pub(super) fn may_be_used_on(&self, rows: &Rows, place: &str) -> Result<(), PlanError> {
        if self.only.is_some() && rows.layout.outcome.is_none() {
            return Err(PlanError::Mismatch(format!(
                "{place}: --only takes rows by their outcome, and there is no outcome column; it is for the report of \
                 an earlier run"
            )));
        }
        Ok(())
    }
}

/// What to do about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send it.
    Send(Row),
    /// Report it as invalid.
    Invalid(InvalidRow),
    /// Report it as skipped: the same as the row on the line `first`.
    Skip {
        /// The row.
        row: Row,
        /// The line of the first of its kind.
        first: u64,
    },
    /// Nothing; it was done by an earlier run.
    AlreadyDone,
}

/// The input and the selection, walked together.
pub struct Plan {
    rows: Rows,
    selection: Arc<Selection>,
    walk: Walk,
    /// The first line of each triple; only filled with `dedupe`.
    seen: HashMap<u64, u64>,
    place: String,
    /// Steps that wait until every row that the report names has been compared: see [`Plan::verify_first`].
    waiting: VecDeque<Step>,
    verifying: bool,
}

/// Why the plan can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The input is not what the report was made from.
    #[error("{0}")]
    Mismatch(String),
}

impl Plan {
    /// Opens the input.
    pub fn open(source: &Source, format: &Format, selection: Arc<Selection>) -> Result<Plan, PlanError> {
        Plan::new(Rows::open(source, format)?, source.to_string(), selection)
    }

    /// Walks over `rows`; `place` names them in messages.
    pub fn new(rows: Rows, place: String, selection: Arc<Selection>) -> Result<Plan, PlanError> {
        selection.may_be_used_on(&rows, &place)?;
        Ok(Plan {
            rows,
            selection,
            walk: Walk::default(),
            seen: HashMap::new(),
            place,
            waiting: VecDeque::new(),
            verifying: false,
        })
    }

    /// Gives no step that does anything before all the rows that are done have been found unchanged. For input that
    /// can be read only once; the rows that wait meanwhile are those that an earlier run left among the done ones.
    pub fn verify_first(mut self) -> Plan {
        self.verifying = !self.selection.done.is_empty();
        self
    }

    fn next_step(&mut self) -> Result<Option<Step>, PlanError> {
        let selection = Arc::clone(&self.selection);
        loop {
            let Some(row) = self.rows.next_raw()? else {
                self.walk
                    .end(&selection.done)
                    .map_err(|difference| mismatch(&self.place, difference))?;
                return Ok(None);
            };
            if let Some(only) = &selection.only {
                let outcome = row
                    .outcome()
                    .and_then(|field| Outcome::parse(std::str::from_utf8(field).ok()?));
                if !outcome.is_some_and(|outcome| only.contains(&outcome)) {
                    continue;
                }
            }
            let shown = row.shown();
            let [user, conv, conv_type] = [&*shown[0], &*shown[1], &*shown[2]];
            let line = row.line();
            let is_done = !selection.done.is_empty()
                && (self.walk)
                    .is_done(&selection.done, line, [user, conv, conv_type])
                    .map_err(|difference| mismatch(&self.place, difference))?;
            let entry = row.to_entry();
            let first = match &entry {
                Entry::Row(_) if selection.dedupe => {
                    *self.seen.entry(fingerprint(user, conv, conv_type)).or_insert(line)
                }
                _ => line,
            };
            return Ok(Some(match entry {
                _ if is_done => Step::AlreadyDone,
                Entry::Invalid(row) => Step::Invalid(row),
                Entry::Row(row) if first != line => Step::Skip { row, first },
                Entry::Row(row) => Step::Send(row),
            }));
        }
    }
}

impl Iterator for Plan {
    type Item = Result<Step, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.verifying {
            let step = match self.next_step().transpose() {
                Some(Ok(step)) => step,
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.verifying = false;
                    break;
                }
            };
            self.verifying = self.walk.end(&self.selection.done).is_err();
            if step == Step::AlreadyDone {
                return Some(Ok(step));
            }
            self.waiting.push_back(step);
        }
        match self.waiting.pop_front() {
            Some(step) => Some(Ok(step)),
            None => self.next_step().transpose(),
        }
    }
}

fn mismatch(place: &str, difference: Difference) -> PlanError {
    let what = match difference {
        Difference::Changed(line) => format!("line {line}: another row stands here than the report says was done"),
        Difference::Gone(line) => format!("line {line}: no row begins here, but the report says that one was done"),
    };
    PlanError::Mismatch(format!(
        "{place}, {what}. The report belongs to other input: resume with the input as it was (rows may be added at \
         its end), or begin a new report"
    ))
}
