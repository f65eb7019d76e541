//! What is to be done about each row of the input: send it, report it as it is, or nothing.
//!
//! The same plan is walked twice over a file, once to count and check before anything is sent, once to work; over
//! standard input it is walked once.

use std::collections::{HashMap, HashSet, VecDeque};
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
    /// With `dedupe`: the rows that are there more than once, if a [`Plan::survey`] has found out; then no others need
    /// to be remembered.
    pub repeated: Option<HashSet<u64>>,
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
    rows: ComparedRows,
    selection: Arc<Selection>,
    /// The first line of each triple that may come again; only filled with `dedupe`.
    seen: HashMap<u64, u64>,
    /// Steps that wait until every row that the report names has been compared: see [`Plan::verify_first`].
    waiting: VecDeque<Step>,
    verifying: bool,
}

/// The rows that the selection takes, each compared with what is done.
struct ComparedRows {
    rows: Rows,
    selection: Arc<Selection>,
    walk: Walk,
    place: String,
}

/// What a first pass over the input found.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// How many rows there are to be worked on, those that are done with them.
    pub rows: u64,
    /// The rows that are there more than once, for [`Selection::repeated`]; only with `dedupe`.
    pub repeated: HashSet<u64>,
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
            rows: ComparedRows {
                rows,
                selection: Arc::clone(&selection),
                walk: Walk::default(),
                place,
            },
            selection,
            seen: HashMap::new(),
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

    /// How many rows are done already, according to the report.
    pub fn rows_done(&self) -> u64 {
        self.selection.done.len() as u64
    }

    /// Walks to the end without doing anything: the first pass over input that can be read twice. Fails if the input is
    /// not what the report was made from.
    pub fn survey(mut self) -> Result<Survey, PlanError> {
        let mut survey = Survey::default();
        let mut prints = Vec::new();
        while let Some((row, _)) = self.rows.next()? {
            survey.rows += 1;
            if self.selection.dedupe
                && let Ok((user, conv, conv_type)) = row.check()
            {
                prints.push(fingerprint(user, conv, conv_type.as_str()));
            }
        }
        prints.sort_unstable();
        let repeated = prints
            .chunk_by(|one, other| one == other)
            .filter(|alike| alike.len() > 1);
        survey.repeated = repeated.map(|alike| alike[0]).collect();
        Ok(survey)
    }

    fn next_step(&mut self) -> Result<Option<Step>, PlanError> {
        let Some((row, is_done)) = self.rows.next()? else {
            return Ok(None);
        };
        let entry = row.to_entry();
        let first = match &entry {
            Entry::Row(row) if self.selection.dedupe => {
                let print = fingerprint(&row.user, &row.conv, row.conv_type.as_str());
                match &self.selection.repeated {
                    Some(repeated) if !repeated.contains(&print) => row.line,
                    _ => *self.seen.entry(print).or_insert(row.line),
                }
            }
            other => other.line(),
        };
        Ok(Some(match entry {
            _ if is_done => Step::AlreadyDone,
            Entry::Invalid(row) => Step::Invalid(row),
            Entry::Row(row) if first != row.line => Step::Skip { row, first },
            Entry::Row(row) => Step::Send(row),
        }))
    }
}

impl ComparedRows {
    /// The next row, and whether it is done.
    fn next(&mut self) -> Result<Option<(RawRow<'_>, bool)>, PlanError> {
        let ComparedRows {
            rows,
            selection,
            walk,
            place,
        } = self;
        while rows.advance()? {
            let row = rows.current();
            if !selection.takes(&row) {
                continue;
            }
            let is_done = match selection.done.is_empty() {
                true => false,
                false => {
                    let [user, conv, conv_type] = row.shown();
                    walk.is_done(&selection.done, row.line(), [&user, &conv, &conv_type])
                        .map_err(|difference| mismatch(place, difference))?
                }
            };
            return Ok(Some((rows.current(), is_done)));
        }
        walk.end(&selection.done)
            .map_err(|difference| mismatch(place, difference))?;
        Ok(None)
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
            self.verifying = self.rows.walk.end(&self.selection.done).is_err();
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
