//! What to do with each row of the input: send it, report it unsent, or nothing.
//!
//! A file is read twice: once to count and check before anything is sent, once to send. Standard input is read once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::error::{FileChange, InputError, PlanError};
use super::format::Format;
use super::input::Source;
use super::parsed::{InvalidRow, ParsedRow};
use super::raw_row::RawRow;
use super::reader::Rows;
use super::selection::{OutcomeCounts, Selection, outcome_of, refuse_report};
use super::snapshot::Snapshot;
use crate::done::{Cursor, Mismatch};
use crate::fingerprint::fingerprint;
use crate::row::{Outcome, Row};

/// How many rows of a stream with an outcome column are read before the first one is returned, so that a report with
/// `ok` rows among them is refused before anything is sent.
const LOOKAHEAD: usize = 100_000;

/// What to do with a row, or another item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task<I = Row> {
    /// Send it.
    Send(I),
    /// Report it as invalid.
    Invalid(InvalidRow),
    /// Report it as skipped: the same as the row on the line `first`.
    Skip {
        /// The row.
        item: I,
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
            Task::Send(item) => Task::Send(convert(item)),
            Task::Invalid(row) => Task::Invalid(row),
            Task::Skip { item, first } => Task::Skip {
                item: convert(item),
                first,
            },
            Task::AlreadyDone => Task::AlreadyDone,
        }
    }
}

/// The selected rows of an input, in order, as [`Task`]s.
pub struct Plan {
    rows: ComparedRows,
    selection: Arc<Selection>,
    /// The line of the first occurrence of each row that may be repeated; only filled with `dedupe`.
    seen: HashMap<u64, u64>,
    /// Read ahead by [`Plan::verify_first`]: rows already done, then tasks.
    buffered_done: u64,
    buffered_tasks: VecDeque<Task>,
    /// How many rows a survey has found, and how many have been read since.
    expected: Option<u64>,
    yielded: u64,
    /// How many [`Task::Send`] were returned.
    sent: u64,
    /// Lines whose records in the report no longer match a row of the input.
    stale: Vec<u64>,
    has_warned: bool,
}

/// The selected rows, each compared with the rows already done.
struct ComparedRows {
    rows: Rows,
    selection: Arc<Selection>,
    cursor: Cursor,
    place: String,
}

/// What the first pass over the input found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Survey {
    /// How many rows are selected, including those already done.
    pub rows: u64,
    /// The fingerprints of repeated rows, for [`Selection::repeated`]; only with `dedupe`.
    pub repeated: HashSet<u64>,
    /// Those of them of which one is done already, and its line, for [`Selection::repeated_done`].
    pub repeated_done: HashMap<u64, u64>,
    /// Lines whose record in the report is `invalid` and whose row has changed since or no longer exists. Such a row is
    /// not done: remove its record from the report and the line from [`Selection::done`].
    pub stale: Vec<u64>,
    /// The file as it was read; `None` for other input.
    pub snapshot: Option<Snapshot>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("place", &self.rows.place)
            .field("yielded", &self.yielded)
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

    /// Opens the input again, to process the rows that `survey` has found: exactly these are returned, or an error.
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

    /// Plans `rows`; `place` names them in messages.
    pub fn new(rows: Rows, place: String, selection: Arc<Selection>) -> Result<Plan, PlanError> {
        selection.check_applies_to(&rows, &place)?;
        Ok(Plan {
            rows: ComparedRows {
                rows,
                selection: Arc::clone(&selection),
                cursor: Cursor::default(),
                place,
            },
            seen: selection.repeated_done.clone(),
            selection,
            buffered_done: 0,
            buffered_tasks: VecDeque::new(),
            expected: None,
            yielded: 0,
            sent: 0,
            stale: Vec::new(),
            has_warned: false,
        })
    }

    /// For input that can be read only once: reads until all rows already done have been found unchanged, and keeps the
    /// tasks found between them. Fails if the input is not what the report was made from, or, as far as it was read, is
    /// itself a report with `ok` rows.
    pub fn verify_first(mut self) -> Result<Plan, PlanError> {
        let refuse_ok = self.selection.must_refuse_ok_rows_of(&self.rows.rows);
        while !self.rows.cursor.is_at_end(&self.selection.done) || (refuse_ok && self.buffered_tasks.len() < LOOKAHEAD)
        {
            match self.next_task()? {
                None => break,
                Some(Task::AlreadyDone) => self.buffered_done += 1,
                Some(task) => self.buffered_tasks.push_back(task),
            }
        }
        self.stale = self.rows.cursor.stale().to_vec();
        Ok(self)
    }

    /// Lines whose record in the report is `invalid` and whose row has changed since or no longer exists, as a survey or
    /// [`Plan::verify_first`] has found. Remove these records from the report before iterating.
    pub fn stale(&self) -> &[u64] {
        &self.stale
    }

    /// How many rows are already done, according to the report.
    pub fn rows_done(&self) -> u64 {
        self.selection.done.len() as u64
    }

    /// Reads to the end without producing tasks: the first pass over input that can be read twice. Fails if the input is
    /// not what the report was made from.
    pub fn survey(mut self) -> Result<Survey, PlanError> {
        let mut survey = Survey {
            snapshot: self.rows.rows.snapshot().cloned(),
            ..Survey::default()
        };
        let refuse_ok = self.selection.must_refuse_ok_rows_of(&self.rows.rows);
        let mut outcomes = OutcomeCounts::default();
        let (mut fingerprints, mut done) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut sent = 0;
        while let Some((row, is_done)) = self.rows.next()? {
            if refuse_ok {
                outcomes.count(&row);
            }
            let Selection { dedupe, limit, .. } = *self.selection;
            survey.rows += u64::from(is_done || limit.is_none_or(|limit| sent < limit));
            let Ok((user, conv, conv_type)) = row.check() else {
                continue;
            };
            let fingerprint = dedupe.then(|| fingerprint(user, conv, conv_type.as_str()));
            fingerprints.extend(fingerprint);
            if is_done {
                done.extend(fingerprint.map(|fingerprint| (fingerprint, row.line())));
            }
            if limit.is_some() {
                let is_repeated = fingerprint.is_some_and(|fingerprint| !seen.insert(fingerprint));
                sent += u64::from(!is_done && !is_repeated);
            }
        }
        outcomes.check_no_ok(&self.rows.place)?;
        fingerprints.sort_unstable();
        let repeated = fingerprints
            .chunk_by(|one, other| one == other)
            .filter(|group| group.len() > 1);
        survey.repeated = repeated.map(|group| group[0]).collect();
        // The first line of each comes last, and stays.
        let done = done
            .into_iter()
            .rev()
            .filter(|(fingerprint, _)| survey.repeated.contains(fingerprint));
        survey.repeated_done = done.collect();
        survey.stale = self.rows.cursor.stale().to_vec();
        Ok(survey)
    }

    fn next_task(&mut self) -> Result<Option<Task>, PlanError> {
        let refuse_ok = self.selection.must_refuse_ok_rows_of(&self.rows.rows);
        let Some((row, is_done)) = self.rows.next()? else {
            return match self.expected.take() {
                Some(expected) if expected > self.yielded => Err(PlanError::Input(InputError::Changed {
                    place: self.rows.place.clone(),
                    change: FileChange::FewerRows {
                        found: self.yielded,
                        counted: expected,
                    },
                })),
                _ => Ok(None),
            };
        };
        let is_refused = refuse_ok && outcome_of(&row) == Some(Outcome::Ok);
        let (lines, is_cut) = ((row.line(), row.last_line()), row.may_be_cut_off());
        let parsed = row.to_parsed();
        self.yielded += 1;
        if is_refused {
            return Err(refuse_report(
                &self.rows.place,
                &format!("line {} is an ok row", lines.0),
            ));
        }
        if !is_done {
            self.warn(&parsed, lines, is_cut);
        }
        let first = match &parsed {
            ParsedRow::Row(row) if self.selection.dedupe => {
                let fingerprint = fingerprint(&row.user, &row.conv, row.conv_type.as_str());
                match &self.selection.repeated {
                    Some(repeated) if !repeated.contains(&fingerprint) => row.line,
                    _ => *self.seen.entry(fingerprint).or_insert(row.line),
                }
            }
            other => other.line(),
        };
        Ok(Some(match parsed {
            _ if is_done => Task::AlreadyDone,
            ParsedRow::Invalid(row) => Task::Invalid(row),
            ParsedRow::Row(row) if first != row.line => Task::Skip { item: row, first },
            ParsedRow::Row(row) => Task::Send(row),
        }))
    }

    /// Warns about a row that will be sent but may not be what was intended.
    fn warn(&mut self, parsed: &ParsedRow, (first, last): (u64, u64), is_cut: bool) {
        let ParsedRow::Row(row) = parsed else { return };
        let place = &self.rows.place;
        if is_cut {
            tracing::warn!(
                "{place}, line {first}: the input ends within this row, without a line end: it may have been cut off; the row \
                 is sent as it is"
            );
        }
        let has_line_end = |id: &str| id.contains(['\n', '\r']);
        if !self.has_warned && (has_line_end(&row.user) || has_line_end(&row.conv)) {
            self.has_warned = true;
            tracing::warn!(
                "{place}, line {first}: an ID of this row has a line end in it, and the row spans lines {first} to {last}; \
                 perhaps a quote is not closed. It is sent as it is. This warning is shown once per run; `zim-batch check` \
                 lists all such rows"
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
            cursor,
            place,
        } = self;
        while rows.advance()? {
            let row = rows.current();
            if !selection.includes(&row) {
                continue;
            }
            let is_done = match selection.done.is_empty() {
                true => false,
                false => {
                    let [user, conv, conv_type] = row.shown();
                    let is_valid = || row.check().is_ok();
                    cursor
                        .is_done(&selection.done, row.line(), [&user, &conv, &conv_type], is_valid)
                        .map_err(|mismatch| plan_error(place, mismatch))?
                }
            };
            return Ok(Some((rows.current(), is_done)));
        }
        cursor
            .end(&selection.done)
            .map_err(|mismatch| plan_error(place, mismatch))?;
        Ok(None)
    }
}

impl Iterator for Plan {
    type Item = Result<Task, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.buffered_done > 0 {
            self.buffered_done -= 1;
            return Some(Ok(Task::AlreadyDone));
        }
        if self.selection.limit.is_some_and(|limit| self.sent >= limit) {
            return None;
        }
        let task = match self.buffered_tasks.pop_front() {
            Some(task) => Some(Ok(task)),
            None => self.next_task().transpose(),
        };
        self.sent += u64::from(matches!(task, Some(Ok(Task::Send(_)))));
        task
    }
}

fn plan_error(place: &str, mismatch: Mismatch) -> PlanError {
    let place = place.to_owned();
    match mismatch {
        Mismatch::Changed(line) => PlanError::RowChanged { place, line },
        Mismatch::Gone(line) => PlanError::RowGone { place, line },
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Reads;
    use super::super::selection::Only;
    use super::*;
    use crate::done::Done;

    fn rows(csv: &str) -> Rows {
        let reader = Box::new(std::io::Cursor::new(csv.to_owned()));
        Rows::from_reader(reader, "input", &Format::default()).expect("the header is valid")
    }

    #[test]
    fn a_limit_counts_the_rows_that_are_sent_and_the_survey_counts_alike() {
        let csv = "user,conv,type\na,b,0\na,b,0\na,,0\nb,c,0\nc,d,0\nd,e,0\n";
        for (dedupe, limit, yielded) in [(false, 3, 4), (true, 3, 5), (false, 9, 6), (true, 1, 1)] {
            let mut selection = Selection {
                dedupe,
                limit: Some(limit),
                ..Selection::default()
            };
            // The last row is done already.
            selection.done.insert(7, "d", "e", "0");
            selection.done.seal().unwrap();
            let plan = || Plan::new(rows(csv), "input".into(), Arc::new(selection.clone())).unwrap();
            let tasks: Vec<Task> = plan().map(Result::unwrap).collect();
            let done = |tasks: &[Task]| tasks.iter().filter(|task| **task == Task::AlreadyDone).count();
            assert_eq!(tasks.len() - done(&tasks), yielded.min(5), "{dedupe} {limit}");
            assert_eq!(
                plan().survey().unwrap().rows,
                yielded.min(5) as u64 + 1,
                "{dedupe} {limit}"
            );
        }
    }

    #[test]
    fn repeated_users_are_skipped_and_recorded_ones_are_done() {
        let csv = "line,user,conv,type,outcome\n2,a,x,0,ok\n3,b,x,0,failed\n4,a,y,2,ok\n5,,x,0,invalid\n6,c,x,0,ok\n";
        let users = || {
            let format = Format {
                reads: Reads::Users,
                ..Format::default()
            };
            let reader = Box::new(std::io::Cursor::new(csv));
            Rows::from_reader(reader, "input", &format).expect("there is a user column")
        };
        let mut selection = Selection {
            dedupe: true,
            ..Selection::default()
        };
        let steps = |selection: &Selection| -> Vec<String> {
            let plan = || Plan::new(users(), "input".into(), Arc::new(selection.clone()));
            let survey = plan().unwrap().survey().unwrap();
            let tasks: Vec<Task> = plan().unwrap().map(Result::unwrap).collect();
            assert_eq!((survey.rows, survey.stale.len()), (tasks.len() as u64, 0));
            let step = |task: Task| match task {
                Task::Send(row) => format!("{} {}", row.line, row.user),
                Task::Invalid(row) => format!("{} invalid", row.line),
                Task::Skip { item: row, first } => format!("{} as {first}", row.line),
                Task::AlreadyDone => "done".into(),
            };
            tasks.into_iter().map(step).collect()
        };
        assert_eq!(steps(&selection), ["2 a", "3 b", "4 as 2", "5 invalid", "6 c"]);

        selection.done.insert(2, "a", "", "");
        selection.done.insert_invalid(5, "", "", "");
        selection.done.seal().unwrap();
        assert_eq!(steps(&selection), ["done", "3 b", "4 as 2", "done", "6 c"]);

        selection.done.insert(6, "another", "", "");
        let changed = Plan::new(users(), "input".into(), Arc::new(selection.clone())).unwrap();
        assert!(matches!(changed.survey(), Err(PlanError::RowChanged { line: 6, .. })));

        selection.done = Done::default();
        selection.only = Some(Only::Outcomes(vec![Outcome::Failed]));
        assert_eq!(steps(&selection), ["3 b"]);
    }

    #[test]
    fn fewer_rows_than_were_counted_are_an_error() {
        let place = std::env::temp_dir().join(format!("zim-batch-plan-{}.csv", std::process::id()));
        std::fs::write(&place, "user,conv,type\na,b,0\nb,c,0\n").unwrap();
        let (source, format) = (Source::File(place.clone()), Format::default());
        let mut survey = Plan::open(&source, &format, Arc::default()).unwrap().survey().unwrap();
        let yielded = |survey: &Survey| {
            let plan = Plan::open_again(survey, &source, &format, Arc::default()).unwrap();
            plan.map(|task| task.map_err(|error| error.to_string()))
                .collect::<Vec<_>>()
        };
        assert!(yielded(&survey).iter().all(Result::is_ok));
        survey.rows += 1;
        let tasks = yielded(&survey);
        std::fs::remove_file(place).unwrap();
        assert!(
            matches!(&tasks[..], [Ok(_), Ok(_), Err(why)] if why.contains("only 2 of its 3 rows")),
            "{tasks:?}"
        );
    }

    #[test]
    fn an_ok_row_far_behind_in_a_stream_is_not_sent() {
        let failed = "u,c,0,failed\n".repeat(LOOKAHEAD);
        let csv = format!("user,conv,type,outcome\n{failed}u,c,0,ok\nu,c,0,failed\n");
        let plan = Plan::new(rows(&csv), "input".into(), Arc::default()).unwrap();
        let mut tasks = plan.verify_first().unwrap().skip(LOOKAHEAD);
        assert!(matches!(tasks.next(), Some(Err(PlanError::IsReport { .. }))));
    }
}
