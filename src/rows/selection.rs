//! Which rows of an input are worked on.

use std::collections::{HashMap, HashSet};

use super::error::PlanError;
use super::raw_row::RawRow;
use super::reader::Rows;
use crate::done::Done;
use crate::row::Outcome;

/// Which rows of an earlier report are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// All of them, whatever their outcome; also the rows of an input that is not a report.
    All,
    /// Those with one of these outcomes.
    Outcomes(Vec<Outcome>),
}

/// Which rows of the input are processed.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which rows of an earlier report. If `None`, an input with `ok` rows is refused, unless
    /// [users](super::Reads::Users) are read.
    pub only: Option<Only>,
    /// Send a repeated (user, conversation, type) once, or a repeated user if [users](super::Reads::Users) are read.
    pub dedupe: bool,
    /// Send at most this many rows that are not done yet. The input ends with the last of them: later rows are neither
    /// sent, reported nor counted, except those already done.
    pub limit: Option<u64>,
    /// The rows that are already done.
    pub done: Done,
    /// With `dedupe`: the fingerprints of repeated rows, if [`Plan::survey`](super::Plan::survey) has found them; then
    /// only these rows are kept in memory.
    pub repeated: Option<HashSet<u64>>,
    /// The repeated rows of which one is done already, as the survey has found them: all others are skipped, also earlier
    /// ones.
    pub repeated_done: HashMap<u64, u64>,
}

impl Selection {
    /// Whether the row is selected.
    pub fn includes(&self, row: &RawRow) -> bool {
        let Some(Only::Outcomes(only)) = &self.only else {
            return true;
        };
        outcome_of(row).is_some_and(|outcome| only.contains(&outcome))
    }

    /// Fails if rows are selected by outcome and the input has no outcome column.
    pub(super) fn check_applies_to(&self, rows: &Rows, place: &str) -> Result<(), PlanError> {
        if matches!(self.only, Some(Only::Outcomes(_))) && !rows.has_outcomes() {
            return Err(PlanError::NoOutcomes {
                place: place.to_owned(),
            });
        }
        Ok(())
    }

    /// Whether `ok` rows must be refused: the input is a report, and no rows were selected explicitly. The outcome of a
    /// row says nothing about its user.
    pub(super) fn must_refuse_ok_rows_of(&self, rows: &Rows) -> bool {
        self.only.is_none() && rows.has_outcomes() && !rows.are_users()
    }
}

pub(super) fn outcome_of(row: &RawRow) -> Option<Outcome> {
    Outcome::from_bytes(row.outcome()?)
}

/// Counts an earlier report's rows by outcome, to refuse a report with rows that were cleared.
#[derive(Debug, Default)]
pub(super) struct OutcomeCounts([u64; Outcome::ALL.len()]);

impl OutcomeCounts {
    pub fn count(&mut self, row: &RawRow) {
        if let Some(outcome) = outcome_of(row) {
            self.0[outcome as usize] += 1;
        }
    }

    /// Call after the last row: fails if any row was `ok`.
    pub fn check_no_ok(&self, place: &str) -> Result<(), PlanError> {
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

pub(super) fn refuse_report(place: &str, what: &str) -> PlanError {
    PlanError::IsReport {
        place: place.to_owned(),
        found: what.to_owned(),
    }
}
