//! Step 2 of a plan: a row that an earlier run has recorded is done.

use crate::done::{Done, Entry};
use crate::rows::error::{InputError, InputErrorKind};
use crate::rows::raw_row::RawRow;

/// Compares rows with those that are done. Both are in ascending order of lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Resume {
    done: Done,
    /// The index of the next row of `done`.
    next: usize,
    /// Lines whose record is `invalid` and whose row has changed or no longer exists.
    stale: Vec<u64>,
}

/// How the input differs from the report, and on which line.
type Mismatch = (u64, InputErrorKind);

impl Resume {
    pub fn new(done: Done) -> Resume {
        Resume {
            done,
            ..Resume::default()
        }
    }

    /// The record of the row, if it is done. Fails if the report has another row for its line. A row whose record is `invalid`
    /// was never sent, so it may change: then it is not done, and its record is [stale](Resume::stale).
    pub fn recorded(&mut self, row: &RawRow, input: &str) -> Result<Option<Entry>, InputError> {
        if self.done.is_empty() {
            return Ok(None);
        }
        let [user, conv, conv_type] = row.shown();
        self.record_of_line(row.line(), [&user, &conv, &conv_type], || row.check().is_ok())
            .map_err(|(line, kind)| kind.at(input, line))
    }

    /// Call at the end of the input: fails if rows of the report are left, except those that were never sent.
    pub fn end(&mut self, input: &str) -> Result<(), InputError> {
        self.pass_lines_before(u64::MAX)
            .map_err(|(line, kind)| kind.at(input, line))
    }

    /// Whether all rows that are done have been found.
    pub fn is_complete(&self) -> bool {
        self.next == self.done.len()
    }

    /// How many rows are done: those with a record that is not stale.
    pub fn rows_done(&self) -> u64 {
        (self.done.len() - self.stale.len()) as u64
    }

    /// The lines found so far whose `invalid` records no longer match a row, ascending.
    pub fn stale(&self) -> &[u64] {
        &self.stale
    }

    /// For a second pass over the same input: from the start, without the stale lines.
    pub fn again(mut self) -> Resume {
        self.done.remove(&self.stale);
        Resume::new(self.done)
    }

    fn record_of_line(
        &mut self,
        line: u64,
        row: [&str; 3],
        is_valid: impl FnOnce() -> bool,
    ) -> Result<Option<Entry>, Mismatch> {
        self.pass_lines_before(line)?;
        let Some(recorded) = self.done.get(self.next).filter(|recorded| recorded.line() == line) else {
            return Ok(None);
        };
        self.next += 1;
        let is_same = recorded.is(row);
        if recorded.is_invalid() && (!is_same || is_valid()) {
            self.stale.push(line);
            return Ok(None);
        }
        if is_same {
            Ok(Some(recorded))
        } else {
            Err((line, InputErrorKind::RowChanged))
        }
    }

    /// Passes rows of the report that no row of the input was found for.
    fn pass_lines_before(&mut self, line: u64) -> Result<(), Mismatch> {
        while let Some(recorded) = self.done.get(self.next).filter(|recorded| recorded.line() < line) {
            if !recorded.is_invalid() {
                return Err((recorded.line(), InputErrorKind::RowGone));
            }
            self.stale.push(recorded.line());
            self.next += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done() -> Done {
        let mut done = Done::default();
        done.insert(5, "c", "d", "2");
        done.insert(2, "a", "b", "0");
        done.seal().unwrap();
        done
    }

    fn is_done(resume: &mut Resume, line: u64, row: [&str; 3]) -> bool {
        resume.record_of_line(line, row, || false).unwrap().is_some()
    }

    #[test]
    fn rows_that_are_done_are_found_and_others_are_not() {
        let mut resume = Resume::new(done());
        assert!(is_done(&mut resume, 2, ["a", "b", "0"]));
        assert!(!is_done(&mut resume, 3, ["a", "b", "0"]));
        assert!(!resume.is_complete());
        assert!(is_done(&mut resume, 5, ["c", "d", "2"]));
        assert!(resume.is_complete() && resume.end("input").is_ok());
        assert!(!is_done(&mut resume, 6, ["e", "f", "2"]));
        assert_eq!(resume.stale(), &[] as &[u64]);
    }

    #[test]
    fn a_changed_row_and_a_removed_row_are_reported_with_their_line() {
        let mut resume = Resume::new(done());
        let changed = resume.record_of_line(2, ["a", "b", "2"], || true);
        assert!(matches!(changed, Err((2, InputErrorKind::RowChanged))), "{changed:?}");

        let mut resume = Resume::new(done());
        let gone = resume.record_of_line(3, ["a", "b", "0"], || true);
        assert!(matches!(gone, Err((2, InputErrorKind::RowGone))), "{gone:?}");

        let mut resume = Resume::new(done());
        assert!(is_done(&mut resume, 2, ["a", "b", "0"]));
        let error = resume.end("input").unwrap_err();
        assert!(
            matches!(error.kind, InputErrorKind::RowGone) && error.line == Some(5),
            "{error}"
        );
    }

    #[test]
    fn a_row_that_was_invalid_may_change_or_go_but_not_one_that_was_sent() {
        let mut done = done();
        for line in [3, 4, 6, 7] {
            done.insert_invalid(line, "x", "", "0");
        }
        done.seal().unwrap();
        let mut resume = Resume::new(done);
        assert!(is_done(&mut resume, 2, ["a", "b", "0"]));
        assert!(is_done(&mut resume, 3, ["x", "", "0"]), "it is unchanged");
        // No row begins on line 4 any longer.
        assert!(is_done(&mut resume, 5, ["c", "d", "2"]));
        let valid = resume.record_of_line(6, ["x", "", "0"], || true);
        assert!(matches!(valid, Ok(None)), "it can be sent now");
        resume.end("input").unwrap();
        assert_eq!(resume.stale(), [4, 6, 7]);
        assert_eq!(resume.rows_done(), 3);

        let mut again = resume.again();
        assert!(!again.is_complete());
        assert!(is_done(&mut again, 2, ["a", "b", "0"]) && !is_done(&mut again, 4, ["x", "", "0"]));
    }
}
