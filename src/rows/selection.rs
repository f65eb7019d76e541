//! Which rows of an input are worked on, and step 1 of a plan: rows of an earlier report are selected by their outcome.

use super::error::{InputError, InputErrorKind};
use super::raw_row::RawRow;
use super::reader::Rows;
use crate::row::{ConvType, Counts, Outcome};

/// Which rows of an earlier report are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// All of them, whatever their outcome; also the rows of an input that is not a report.
    All,
    /// Those with one of these outcomes.
    Outcomes(Vec<Outcome>),
}

/// Which rows of the input are worked on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Which rows of an earlier report. If `None`, an input with `ok` rows is refused, unless
    /// [users](super::Reads::Users) are read.
    pub only: Option<Only>,
    /// Send a repeated (user, conversation, type) once, or a repeated user if [users](super::Reads::Users) are read.
    pub dedupe: bool,
    /// Send at most this many rows that are not done yet. The input ends with the last of them: later rows are neither
    /// sent, reported nor counted, except those already done.
    pub limit: Option<u64>,
    /// Only rows of this type, and those whose type can't be read. Rows that are done already are, whatever their type.
    pub conv_type: Option<ConvType>,
}

/// The rows of an input that [`Selection::only`] selects.
pub(super) struct SelectedRows {
    rows: Rows,
    outcomes: Option<Vec<Outcome>>,
    ok_rows: OkRows,
}

/// What to do about the `ok` rows of a report if no rows are selected by outcome: they should not be sent again.
pub(super) enum OkRows {
    Accept,
    /// Refuse the input at its end, with the number of rows by outcome: for a pass before any row is sent.
    Count(Counts),
    /// Refuse the input at the first one.
    Refuse,
}

impl OkRows {
    pub fn counted() -> OkRows {
        OkRows::Count(Counts::default())
    }
}

impl SelectedRows {
    /// Fails if rows are selected by outcome and the input has no outcome column.
    pub fn new(rows: Rows, selection: &Selection, ok_rows: OkRows) -> Result<SelectedRows, InputError> {
        let outcomes = match &selection.only {
            Some(Only::Outcomes(outcomes)) => Some(outcomes.clone()),
            _ => None,
        };
        if outcomes.is_some() && !rows.has_outcomes() {
            return Err(InputErrorKind::NoOutcomes.of(rows.name()));
        }
        // The outcome of a row says nothing about its user.
        let is_report = selection.only.is_none() && rows.has_outcomes() && !rows.are_users();
        Ok(SelectedRows {
            rows,
            outcomes,
            ok_rows: if is_report { ok_rows } else { OkRows::Accept },
        })
    }

    /// Whether an `ok` row may still be found, which would refuse the input.
    pub fn refuses_ok_rows(&self) -> bool {
        !matches!(self.ok_rows, OkRows::Accept)
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    pub fn name(&self) -> &str {
        self.rows.name()
    }

    /// The next row; `None` at the end of the input.
    pub fn next(&mut self) -> Result<Option<RawRow<'_>>, InputError> {
        Ok(if self.advance()? { Some(self.current()) } else { None })
    }

    /// Advances to the next row; returns `false` at the end of the input.
    pub fn advance(&mut self) -> Result<bool, InputError> {
        while self.rows.advance()? {
            let row = self.rows.current();
            let outcome = outcome_of(&row);
            match &mut self.ok_rows {
                OkRows::Accept => {}
                OkRows::Count(rows) => {
                    if let Some(outcome) = outcome {
                        rows[outcome] += 1;
                    }
                }
                OkRows::Refuse if outcome == Some(Outcome::Ok) => {
                    let found = format!("line {} is an ok row", row.line());
                    return Err(InputErrorKind::IsReport { found }.of(self.rows.name()));
                }
                OkRows::Refuse => {}
            }
            let is_selected = |outcomes: &Vec<Outcome>| outcome.is_some_and(|outcome| outcomes.contains(&outcome));
            if self.outcomes.as_ref().is_none_or(is_selected) {
                return Ok(true);
            }
        }
        match &self.ok_rows {
            OkRows::Count(rows) if rows[Outcome::Ok] > 0 => {
                Err(InputErrorKind::IsReport { found: counts(rows) }.of(self.rows.name()))
            }
            _ => Ok(false),
        }
    }

    /// The current row: valid after [`SelectedRows::advance`] returned `true`.
    pub fn current(&self) -> RawRow<'_> {
        self.rows.current()
    }
}

fn outcome_of(row: &RawRow) -> Option<Outcome> {
    Outcome::from_bytes(row.outcome()?)
}

/// `ok 3, failed 1`: the outcomes that occur.
fn counts(rows: &Counts) -> String {
    let counts = Outcome::ALL.iter().map(|outcome| (outcome, rows[*outcome]));
    let counts: Vec<String> = counts
        .filter(|(_, rows)| *rows > 0)
        .map(|(outcome, rows)| format!("{outcome} {rows}"))
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::format::{Format, Reads};
    use super::*;

    const REPORT: &str = "user,conv,type,outcome\na,x,0,failed\nb,x,0,ok\nc,x,0,outside\n";

    fn rows(csv: &'static str, reads: Reads) -> Rows {
        let format = Format {
            reads,
            ..Format::default()
        };
        Rows::from_reader(Box::new(csv.as_bytes()), "input", &format).unwrap()
    }

    /// The lines of the selected rows, and the error.
    fn lines(selected: Result<SelectedRows, InputError>) -> (Vec<u64>, String) {
        let mut lines = Vec::new();
        let read = || -> Result<(), InputError> {
            let mut selected = selected?;
            while let Some(row) = selected.next()? {
                lines.push(row.line());
            }
            Ok(())
        };
        let error = read().err().map(|error| error.to_string()).unwrap_or_default();
        (lines, error)
    }

    #[test]
    fn rows_are_selected_by_their_outcome() {
        let only = |outcomes: &[Outcome]| Some(Only::Outcomes(outcomes.to_vec()));
        for (only, expected) in [
            (Some(Only::All), &[2, 3, 4][..]),
            (only(&[Outcome::Failed, Outcome::Ok]), &[2, 3]),
            (only(&[Outcome::Skipped]), &[]),
        ] {
            let selection = Selection {
                only,
                ..Selection::default()
            };
            let found = lines(SelectedRows::new(
                rows(REPORT, Reads::Rows),
                &selection,
                OkRows::counted(),
            ));
            assert_eq!(found, (expected.to_vec(), String::new()));
        }
        let failed = Selection {
            only: only(&[Outcome::Failed]),
            ..Selection::default()
        };
        let (_, error) = lines(SelectedRows::new(rows("a,b,0\n", Reads::Rows), &failed, OkRows::Accept));
        assert!(error.contains("no outcome column"), "{error}");
    }

    #[test]
    fn a_report_with_ok_rows_is_refused_unless_rows_are_selected_or_users_are_read() {
        let all = Selection::default();
        let (found, error) = lines(SelectedRows::new(rows(REPORT, Reads::Rows), &all, OkRows::counted()));
        assert!(error.contains("(ok 1, outside 1, failed 1)"), "{found:?} {error}");
        let (found, error) = lines(SelectedRows::new(rows(REPORT, Reads::Rows), &all, OkRows::Refuse));
        assert!(
            found == [2] && error.contains("line 3 is an ok row"),
            "{found:?} {error}"
        );
        let (found, error) = lines(SelectedRows::new(rows(REPORT, Reads::Users), &all, OkRows::counted()));
        assert_eq!((found, error.as_str()), (vec![2, 3, 4], ""));
    }
}
