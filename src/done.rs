//! The rows that an earlier run has recorded in its report: a run that resumes skips them.
//!
//! Twelve bytes per row. The content of a row is kept as a fingerprint, which is enough to detect a later change.

use crate::fingerprint::fingerprint;

/// Which lines are done, and the rows that they had.
///
/// ```
/// use zim_batch::rows::Done;
///
/// let mut done = Done::default();
/// done.insert(2, "alice", "bob", "0");
/// done.seal()?;
/// assert_eq!(done.len(), 1);
/// # Ok::<(), u64>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// Ascending by line, once sealed.
    rows: Vec<Key>,
}

/// A line in two halves and a fingerprint, in this order so that keys sort by line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key([u32; 3]);

impl Key {
    fn line(self) -> u64 {
        u64::from(self.0[0]) << 32 | u64::from(self.0[1])
    }

    fn is_invalid(self) -> bool {
        self.0[2] & INVALID != 0
    }

    fn fingerprint(self) -> u32 {
        self.0[2] & !INVALID
    }
}

/// The lowest bit of a key's fingerprint: the row's record is `invalid`, so the row was never sent.
const INVALID: u32 = 1;

fn key(line: u64, user: &str, conv: &str, conv_type: &str) -> Key {
    let fingerprint = fingerprint(user, conv, conv_type) as u32 & !INVALID;
    Key([(line >> 32) as u32, line as u32, fingerprint])
}

impl Done {
    /// Adds a row of the report, with its user, conversation and type as the report writes them.
    pub fn insert(&mut self, line: u64, user: &str, conv: &str, conv_type: &str) {
        self.rows.push(key(line, user, conv, conv_type));
    }

    /// Adds a row whose record is `invalid`: it was never sent, so it may change.
    pub fn insert_invalid(&mut self, line: u64, user: &str, conv: &str, conv_type: &str) {
        let mut key = key(line, user, conv, conv_type);
        key.0[2] |= INVALID;
        self.rows.push(key);
    }

    /// Removes the rows on these lines, which must be ascending.
    pub fn remove(&mut self, lines: &[u64]) {
        self.rows.retain(|key| lines.binary_search(&key.line()).is_err());
    }

    /// Call after the last insertion. The error is a line that was inserted twice.
    pub fn seal(&mut self) -> Result<(), u64> {
        self.rows.sort_unstable();
        match self.rows.windows(2).find(|pair| pair[0].line() == pair[1].line()) {
            Some(pair) => Err(pair[0].line()),
            None => Ok(()),
        }
    }

    /// Whether it has this row with these values. Call [`Done::seal`] first.
    pub(crate) fn contains(&self, line: u64, user: &str, conv: &str, conv_type: &str) -> bool {
        self.rows.binary_search(&key(line, user, conv, conv_type)).is_ok()
    }

    /// Whether it has a row on this line. Call [`Done::seal`] first.
    pub(crate) fn contains_line(&self, line: u64) -> bool {
        self.rows.binary_search_by_key(&line, |key| key.line()).is_ok()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The last line that is done; 0 if there are none.
    pub fn last_line(&self) -> u64 {
        self.rows.last().map_or(0, |key| key.line())
    }
}

/// A position in [`Done`] that follows a pass over the input; both are in ascending order of lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    index: usize,
    /// Lines whose record is `invalid` and whose row has changed or no longer exists.
    stale: Vec<u64>,
}

/// How the input differs from the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// This line has another row than the report.
    Changed(u64),
    /// No row begins on this line any longer.
    Gone(u64),
}

impl Cursor {
    /// Whether the row on `line` is done. `row` is as the report would write it; `is_valid` returns whether it can be
    /// sent now.
    pub fn is_done(
        &mut self,
        done: &Done,
        line: u64,
        row: [&str; 3],
        is_valid: impl FnOnce() -> bool,
    ) -> Result<bool, Mismatch> {
        while let Some(next) = done.rows.get(self.index)
            && next.line() < line
        {
            self.skip(*next)?;
        }
        match done.rows.get(self.index) {
            Some(next) if next.line() == line => {
                let [user, conv, conv_type] = row;
                let is_same = next.fingerprint() == key(line, user, conv, conv_type).fingerprint();
                if next.is_invalid() && (!is_same || is_valid()) {
                    self.skip(*next)?;
                    return Ok(false);
                }
                if !is_same {
                    return Err(Mismatch::Changed(line));
                }
                self.index += 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Call at the end of the input: fails if rows of the report are left, except those that were never sent.
    pub fn end(&mut self, done: &Done) -> Result<(), Mismatch> {
        while let Some(next) = done.rows.get(self.index) {
            self.skip(*next)?;
        }
        Ok(())
    }

    /// Whether all rows that are done have been found.
    pub fn is_at_end(&self, done: &Done) -> bool {
        self.index == done.rows.len()
    }

    /// The lines whose `invalid` records no longer match a row, ascending.
    pub fn stale(&self) -> &[u64] {
        &self.stale
    }

    fn skip(&mut self, key: Key) -> Result<(), Mismatch> {
        if !key.is_invalid() {
            return Err(Mismatch::Gone(key.line()));
        }
        self.stale.push(key.line());
        self.index += 1;
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

    fn is_done(cursor: &mut Cursor, done: &Done, line: u64, row: [&str; 3]) -> Result<bool, Mismatch> {
        cursor.is_done(done, line, row, || false)
    }

    #[test]
    fn rows_that_are_done_are_found_and_others_are_not() {
        let (done, mut cursor) = (done(), Cursor::default());
        assert_eq!(is_done(&mut cursor, &done, 2, ["a", "b", "0"]), Ok(true));
        assert_eq!(is_done(&mut cursor, &done, 3, ["a", "b", "0"]), Ok(false));
        assert!(!cursor.is_at_end(&done));
        assert_eq!(cursor.clone().end(&done), Err(Mismatch::Gone(5)));
        assert_eq!(is_done(&mut cursor, &done, 5, ["c", "d", "2"]), Ok(true));
        assert!(cursor.is_at_end(&done));
        assert_eq!(cursor.end(&done), Ok(()));
        assert_eq!(is_done(&mut cursor, &done, 6, ["e", "f", "2"]), Ok(false));
        assert_eq!(cursor.stale(), &[] as &[u64]);
    }

    #[test]
    fn a_changed_row_and_a_removed_row_are_reported_with_their_line() {
        let (done, mut cursor) = (done(), Cursor::default());
        assert_eq!(
            is_done(&mut cursor, &done, 2, ["a", "b", "2"]),
            Err(Mismatch::Changed(2))
        );
        assert_eq!(is_done(&mut cursor, &done, 3, ["a", "b", "0"]), Err(Mismatch::Gone(2)));
    }

    #[test]
    fn a_row_that_was_invalid_may_change_or_go_but_not_one_that_was_sent() {
        let mut done = done();
        for line in [3, 4, 6, 7] {
            done.insert_invalid(line, "x", "", "0");
        }
        done.seal().unwrap();
        let mut cursor = Cursor::default();
        assert_eq!(is_done(&mut cursor, &done, 2, ["a", "b", "0"]), Ok(true));
        assert_eq!(
            is_done(&mut cursor, &done, 3, ["x", "", "0"]),
            Ok(true),
            "it is unchanged"
        );
        // No row begins on line 4 any longer.
        assert_eq!(is_done(&mut cursor, &done, 5, ["c", "d", "2"]), Ok(true));
        assert_eq!(
            cursor.is_done(&done, 6, ["x", "", "0"], || true),
            Ok(false),
            "it can be sent now"
        );
        assert_eq!(cursor.end(&done), Ok(()));
        assert_eq!(cursor.stale(), [4, 6, 7]);
        done.remove(cursor.stale());
        assert_eq!((done.len(), done.last_line()), (3, 5));
    }

    #[test]
    fn a_line_that_is_recorded_twice_is_an_error() {
        let mut twice = done();
        twice.insert_invalid(2, "a", "b", "0");
        assert_eq!(twice.seal(), Err(2));
    }
}
