//! What is to be done about each row of the input: send it, report it as it is, or nothing.
//!
//! The same plan is walked twice over a file, once to count and check before anything is sent, once to work; over
//! standard input it is walked once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::{FileChange, Format, InputError, InvalidRow, ParsedRow, RawRow, Rows, Snapshot, Source};
use crate::done::{Cursor, Done, Mismatch};
use crate::fingerprint::fingerprint;
use crate::row::{Outcome, Row};

/// How many rows of a stream that has an outcome column are read before the first one is given: a report among them is
/// refused before anything is sent.
const READ_FIRST: usize = 100_000;

/// Which rows of an earlier report are to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// All of them, whatever became of them; also the rows of an input that is no report.
    All,
    /// Those with one of these outcomes.
    Outcomes(Vec<Outcome>),
}

/// Which rows of the input are to be worked on.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which rows of an earlier report. Without it, an input that holds rows with the outcome `ok` is refused.
    pub only: Option<Only>,
    /// Send a repeated (user, conversation, type) once.
    pub dedupe: bool,
    /// Send at most this many rows that are not done yet. The input ends with the last of them: what is behind it is neither
    /// sent nor reported nor counted, but for rows that are done already.
    pub limit: Option<u64>,
    /// The rows that are done already.
    pub done: Done,
    /// With `dedupe`: the rows that are there more than once, if a [`Plan::survey`] has found out; then no others need
    /// to be remembered.
    pub repeated: Option<HashSet<u64>>,
}

impl Selection {
    /// Whether the row is one of those to be worked on.
    pub fn takes(&self, row: &RawRow) -> bool {
        let Some(Only::Outcomes(only)) = &self.only else {
            return true;
        };
        outcome_of(row).is_some_and(|outcome| only.contains(&outcome))
    }

    /// Only a report has outcomes to choose by.
    pub(super) fn may_be_used_on(&self, rows: &Rows, place: &str) -> Result<(), PlanError> {
        if matches!(self.only, Some(Only::Outcomes(_))) && rows.layout.outcome.is_none() {
            return Err(PlanError::NoOutcomes {
                place: place.to_owned(),
            });
        }
        Ok(())
    }

    /// Whether rows with the outcome `ok` are to be refused: nobody has said that they are to be sent again.
    pub(super) fn is_wary_of(&self, rows: &Rows) -> bool {
        self.only.is_none() && rows.layout.outcome.is_some()
    }
}

fn outcome_of(row: &RawRow) -> Option<Outcome> {
    Outcome::from_bytes(row.outcome()?)
}

/// Counts an earlier report's rows by outcome, to refuse it if it holds rows that were cleared.
#[derive(Debug, Default)]
pub(super) struct Outcomes([u64; Outcome::ALL.len()]);

impl Outcomes {
    pub fn count(&mut self, row: &RawRow) {
        if let Some(outcome) = outcome_of(row) {
            self.0[outcome as usize] += 1;
        }
    }

    /// To be called when all rows are counted.
    pub fn refuse_ok(&self, place: &str) -> Result<(), PlanError> {
        if self.0[Outcome::Ok as usize] == 0 {
            return Ok(());
        }
        let counts = Outcome::ALL.iter().map(|outcome| (outcome, self.0[*outcome as usize]));
        let counts: Vec<String> = counts
            .filter(|(_, rows)| *rows > 0)
            .map(|(outcome, rows)| format!("{outcome} {rows}"))
            .collect();
        Err(refuse_report(place, &counts.join(", ")))
    }
}

fn refuse_report(place: &str, what: &str) -> PlanError {
    PlanError::IsReport {
        place: place.to_owned(),
        found: what.to_owned(),
    }
}

/// What to do about a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
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
    /// What [`Plan::verify_first`] has read: rows that are done, and then steps.
    done_read: u64,
    steps_read: VecDeque<Task>,
    /// How many rows a survey has found, and how many have been given since.
    expected: Option<u64>,
    given: u64,
    /// How many rows have been given to be sent.
    sent: u64,
    /// Lines whose records in the report no longer stand for a row, as a survey has found.
    stale: Vec<u64>,
    has_warned: bool,
}

/// The rows that the selection takes, each compared with what is done.
struct ComparedRows {
    rows: Rows,
    selection: Arc<Selection>,
    walk: Cursor,
    place: String,
}

/// What a first pass over the input found.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// How many rows there are to be worked on, those that are done with them.
    pub rows: u64,
    /// The rows that are there more than once, for [`Selection::repeated`]; only with `dedupe`.
    pub repeated: HashSet<u64>,
    /// Lines whose record in the report is `invalid` and whose row has changed since, or is gone. Such a row is not done:
    /// its record is to be taken out of the report, and the line out of [`Selection::done`].
    pub stale: Vec<u64>,
    /// What the file was; `None` for other input.
    pub snapshot: Option<Snapshot>,
}

/// Why the plan can't be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Rows are to be taken by their outcome ([`Selection::only`]), and the input has none.
    #[error("{place}: rows are to be taken by their outcome, and there is no outcome column")]
    NoOutcomes {
        /// The input.
        place: String,
    },
    /// Another row stands on a line than when it was done: the report was made from other input.
    #[error("{place}, line {line}: another row stands here than the report says was done. {OTHER_INPUT}")]
    RowChanged {
        /// The input.
        place: String,
        /// The line on which the row begins.
        line: u64,
    },
    /// No row begins on a line where one was done: the report was made from other input.
    #[error("{place}, line {line}: no row begins here, but the report says that one was done. {OTHER_INPUT}")]
    RowGone {
        /// The input.
        place: String,
        /// The line.
        line: u64,
    },
    /// The input is an earlier report with rows that were cleared, and nobody has said which of its rows are meant.
    #[error("{place}: this is the report of an earlier run ({found}), and its ok rows are done")]
    IsReport {
        /// The input.
        place: String,
        /// What shows it.
        found: String,
    },
}

/// What it means that a row is not the one that was done.
const OTHER_INPUT: &str = "The report belongs to other input: resume with the input as it was (rows may be added at its \
                           end), or begin a new report";

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("place", &self.rows.place)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Opens the input, a file as it is now: see [`Snapshot`].
    pub fn open(source: &Source, format: &Format, selection: Arc<Selection>) -> Result<Plan, PlanError> {
        let rows = match source {
            Source::File(path) if source.can_be_read_twice() => Rows::open_snapshot(&Snapshot::take(path)?, format)?,
            other => Rows::open(other, format)?,
        };
        Plan::new(rows, source.to_string(), selection)
    }

    /// Opens the input once more, to work on the rows that `survey` has found: exactly these are given, or an error.
    pub fn open_again(
        survey: &Survey,
        source: &Source,
        format: &Format,
        selection: Arc<Selection>,
    ) -> Result<Plan, PlanError> {
        let rows = match &survey.snapshot {
            Some(snapshot) => Rows::open_snapshot(snapshot, format)?,
            None => Rows::open(source, format)?,
        };
        Ok(Plan {
            expected: Some(survey.rows),
            stale: survey.stale.clone(),
            ..Plan::new(rows, source.to_string(), selection)?
        })
    }

    /// Walks over `rows`; `place` names them in messages.
    pub fn new(rows: Rows, place: String, selection: Arc<Selection>) -> Result<Plan, PlanError> {
        selection.may_be_used_on(&rows, &place)?;
        Ok(Plan {
            rows: ComparedRows {
                rows,
                selection: Arc::clone(&selection),
                walk: Cursor::default(),
                place,
            },
            selection,
            seen: HashMap::new(),
            done_read: 0,
            steps_read: VecDeque::new(),
            expected: None,
            given: 0,
            sent: 0,
            stale: Vec::new(),
            has_warned: false,
        })
    }

    /// For input that can be read only once: reads on until all the rows that are done have been found unchanged, and
    /// keeps the steps met on the way, those of rows that an earlier run left among the done ones. Fails if the input is
    /// not what the report was made from, or is a report itself, as far as it was read.
    pub fn verify_first(mut self) -> Result<Plan, PlanError> {
        let is_wary = self.selection.is_wary_of(&self.rows.rows);
        while !self.rows.walk.has_met_all(&self.selection.done) || (is_wary && self.steps_read.len() < READ_FIRST) {
            match self.next_step()? {
                None => break,
                Some(Task::AlreadyDone) => self.done_read += 1,
                Some(step) => self.steps_read.push_back(step),
            }
        }
        self.stale = self.rows.walk.stale().to_vec();
        Ok(self)
    }

    /// Lines whose record in the report is `invalid` and whose row has changed since, or is gone, as a survey or
    /// [`Plan::verify_first`] has found: these records are to be taken out of the report before the plan is followed.
    pub fn stale(&self) -> &[u64] {
        &self.stale
    }

    /// How many rows are done already, according to the report.
    pub fn rows_done(&self) -> u64 {
        self.selection.done.len() as u64
    }

    /// Walks to the end without doing anything: the first pass over input that can be read twice. Fails if the input is
    /// not what the report was made from.
    pub fn survey(mut self) -> Result<Survey, PlanError> {
        let mut survey = Survey {
            snapshot: self.rows.rows.snapshot.clone(),
            ..Survey::default()
        };
        let is_wary = self.selection.is_wary_of(&self.rows.rows);
        let mut outcomes = Outcomes::default();
        let mut prints = Vec::new();
        let mut seen = HashSet::new();
        let mut sent = 0;
        while let Some((row, is_done)) = self.rows.next()? {
            if is_wary {
                outcomes.count(&row);
            }
            let Selection { dedupe, limit, .. } = *self.selection;
            survey.rows += u64::from(is_done || limit.is_none_or(|limit| sent < limit));
            let Ok((user, conv, conv_type)) = row.check() else {
                continue;
            };
            let print = dedupe.then(|| fingerprint(user, conv, conv_type.as_str()));
            prints.extend(print);
            if limit.is_some() {
                let is_repeated = print.is_some_and(|print| !seen.insert(print));
                sent += u64::from(!is_done && !is_repeated);
            }
        }
        outcomes.refuse_ok(&self.rows.place)?;
        prints.sort_unstable();
        let repeated = prints
            .chunk_by(|one, other| one == other)
            .filter(|alike| alike.len() > 1);
        survey.repeated = repeated.map(|alike| alike[0]).collect();
        survey.stale = self.rows.walk.stale().to_vec();
        Ok(survey)
    }

    fn next_step(&mut self) -> Result<Option<Task>, PlanError> {
        let is_wary = self.selection.is_wary_of(&self.rows.rows);
        let Some((row, is_done)) = self.rows.next()? else {
            return match self.expected.take() {
                Some(expected) if expected > self.given => Err(PlanError::Input(InputError::Changed {
                    place: self.rows.place.clone(),
                    change: FileChange::FewerRows {
                        found: self.given,
                        counted: expected,
                    },
                })),
                _ => Ok(None),
            };
        };
        let is_refused = is_wary && outcome_of(&row) == Some(Outcome::Ok);
        let (lines, is_cut) = ((row.line(), row.last_line()), row.is_perhaps_cut_off());
        let entry = row.to_entry();
        self.given += 1;
        if is_refused {
            return Err(refuse_report(
                &self.rows.place,
                &format!("line {} is an ok row", lines.0),
            ));
        }
        if !is_done {
            self.warn(&entry, lines, is_cut);
        }
        let first = match &entry {
            ParsedRow::Row(row) if self.selection.dedupe => {
                let print = fingerprint(&row.user, &row.conv, row.conv_type.as_str());
                match &self.selection.repeated {
                    Some(repeated) if !repeated.contains(&print) => row.line,
                    _ => *self.seen.entry(print).or_insert(row.line),
                }
            }
            other => other.line(),
        };
        Ok(Some(match entry {
            _ if is_done => Task::AlreadyDone,
            ParsedRow::Invalid(row) => Task::Invalid(row),
            ParsedRow::Row(row) if first != row.line => Task::Skip { row, first },
            ParsedRow::Row(row) => Task::Send(row),
        }))
    }

    /// Warns about a row that will be sent and is perhaps not what was meant.
    fn warn(&mut self, entry: &ParsedRow, (first, last): (u64, u64), is_cut: bool) {
        let ParsedRow::Row(row) = entry else { return };
        let place = &self.rows.place;
        if is_cut {
            tracing::warn!(
                "{place}, line {first}: the input ends within this row, without a line end: perhaps it was cut off; the row \
                 is sent as it is"
            );
        }
        let has_line_end = |id: &str| id.contains(['\n', '\r']);
        if !self.has_warned && (has_line_end(&row.user) || has_line_end(&row.conv)) {
            self.has_warned = true;
            tracing::warn!(
                "{place}, line {first}: an ID of this row has a line end in it, and the row spans lines {first} to {last}; \
                 perhaps a quote is not closed. It is sent as it is; said once per run, `zim-batch check` names more"
            );
        }
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
                    let is_valid = || row.check().is_ok();
                    walk.is_done(&selection.done, row.line(), [&user, &conv, &conv_type], is_valid)
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
    type Item = Result<Task, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done_read > 0 {
            self.done_read -= 1;
            return Some(Ok(Task::AlreadyDone));
        }
        if self.selection.limit.is_some_and(|limit| self.sent >= limit) {
            return None;
        }
        let step = match self.steps_read.pop_front() {
            Some(step) => Some(Ok(step)),
            None => self.next_step().transpose(),
        };
        self.sent += u64::from(matches!(step, Some(Ok(Task::Send(_)))));
        step
    }
}

fn mismatch(place: &str, difference: Mismatch) -> PlanError {
    let place = place.to_owned();
    match difference {
        Mismatch::Changed(line) => PlanError::RowChanged { place, line },
        Mismatch::Gone(line) => PlanError::RowGone { place, line },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(csv: &str) -> Rows {
        let reader = Box::new(std::io::Cursor::new(csv.to_owned()));
        Rows::from_reader(reader, "input", &Format::default()).expect("there is a header")
    }

    #[test]
    fn a_limit_counts_the_rows_that_are_sent_and_the_survey_counts_alike() {
        let csv = "user,conv,type\na,b,0\na,b,0\na,,0\nb,c,0\nc,d,0\nd,e,0\n";
        for (dedupe, limit, given) in [(false, 3, 4), (true, 3, 5), (false, 9, 6), (true, 1, 1)] {
            let mut selection = Selection {
                dedupe,
                limit: Some(limit),
                ..Selection::default()
            };
            // The last row is done already.
            selection.done.insert(7, "d", "e", "0");
            selection.done.seal().unwrap();
            let plan = || Plan::new(rows(csv), "input".into(), Arc::new(selection.clone())).unwrap();
            let steps: Vec<Task> = plan().map(Result::unwrap).collect();
            let done = |steps: &[Task]| steps.iter().filter(|step| **step == Task::AlreadyDone).count();
            assert_eq!(steps.len() - done(&steps), given.min(5), "{dedupe} {limit}");
            assert_eq!(
                plan().survey().unwrap().rows,
                given.min(5) as u64 + 1,
                "{dedupe} {limit}"
            );
        }
    }

    #[test]
    fn fewer_rows_than_were_counted_are_an_error() {
        let place = std::env::temp_dir().join(format!("zim-batch-plan-{}.csv", std::process::id()));
        std::fs::write(&place, "user,conv,type\na,b,0\nb,c,0\n").unwrap();
        let (source, format) = (Source::File(place.clone()), Format::default());
        let mut survey = Plan::open(&source, &format, Arc::default()).unwrap().survey().unwrap();
        let given = |survey: &Survey| {
            let plan = Plan::open_again(survey, &source, &format, Arc::default()).unwrap();
            plan.map(|step| step.map_err(|error| error.to_string()))
                .collect::<Vec<_>>()
        };
        assert!(given(&survey).iter().all(Result::is_ok));
        survey.rows += 1;
        let steps = given(&survey);
        std::fs::remove_file(place).unwrap();
        assert!(
            matches!(&steps[..], [Ok(_), Ok(_), Err(why)] if why.contains("only 2 of its 3 rows")),
            "{steps:?}"
        );
    }

    #[test]
    fn an_ok_row_far_behind_in_a_stream_is_not_sent() {
        let failed = "u,c,0,failed\n".repeat(READ_FIRST);
        let csv = format!("user,conv,type,outcome\n{failed}u,c,0,ok\nu,c,0,failed\n");
        let plan = Plan::new(rows(&csv), "input".into(), Arc::default()).unwrap();
        let mut steps = plan.verify_first().unwrap().skip(READ_FIRST);
        assert!(matches!(steps.next(), Some(Err(PlanError::IsReport { .. }))));
    }
}
