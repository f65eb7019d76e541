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

    fn fingerprint(self) -> u32 {
        self.0[2] & !(INVALID | SKIPPED)
    }
}

/// The lowest bit of a key's fingerprint: the row's record is `invalid`, so the row was never sent.
const INVALID: u32 = 1;

/// The next bit: the row's record is `skipped`. The row that it repeats may have no record yet.
const SKIPPED: u32 = 2;

fn key(line: u64, user: &str, conv: &str, conv_type: &str) -> Key {
    let fingerprint = fingerprint(user, conv, conv_type) as u32 & !(INVALID | SKIPPED);
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

    /// Adds a row whose record is `skipped`: the row that it repeats may have no record yet, so it is not done by this one.
    pub fn insert_skipped(&mut self, line: u64, user: &str, conv: &str, conv_type: &str) {
        let mut key = key(line, user, conv, conv_type);
        key.0[2] |= SKIPPED;
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

    /// The row at this index, in ascending order of lines. Call [`Done::seal`] first.
    pub(crate) fn get(&self, index: usize) -> Option<Entry> {
        self.rows.get(index).copied().map(Entry)
    }

    /// Whether it has this row with these values. Call [`Done::seal`] first.
    pub(crate) fn contains(&self, line: u64, user: &str, conv: &str, conv_type: &str) -> bool {
        let found = self.rows.binary_search_by_key(&line, |key| key.line());
        found.is_ok_and(|index| Entry(self.rows[index]).is([user, conv, conv_type]))
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

/// A row that is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry(Key);

impl Entry {
    pub fn line(self) -> u64 {
        self.0.line()
    }

    /// Whether its record is `invalid`: it was never sent.
    pub fn is_invalid(self) -> bool {
        self.0.0[2] & INVALID != 0
    }

    /// Whether its record is `skipped`.
    pub fn is_skipped(self) -> bool {
        self.0.0[2] & SKIPPED != 0
    }

    /// Whether this row has these values, as the report writes them.
    pub fn is(self, [user, conv, conv_type]: [&str; 3]) -> bool {
        self.0.fingerprint() == key(self.line(), user, conv, conv_type).fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_their_lines() {
        let mut done = Done::default();
        done.insert(5, "c", "d", "2");
        done.insert_invalid(2, "a", "", "0");
        done.insert(u64::from(u32::MAX) + 7, "e", "f", "0");
        done.seal().unwrap();
        let rows: Vec<_> = (0..done.len()).filter_map(|index| done.get(index)).collect();
        let lines: Vec<u64> = rows.iter().map(|row| row.line()).collect();
        assert_eq!(lines, [2, 5, u64::from(u32::MAX) + 7]);
        assert!(rows[0].is_invalid() && rows[0].is(["a", "", "0"]) && !rows[0].is(["a", "", "2"]));
        assert!(!rows[1].is_invalid() && rows[1].is(["c", "d", "2"]));
        assert!(done.contains_line(5) && !done.contains_line(4) && done.contains(5, "c", "d", "2"));
        assert!(done.get(3).is_none());

        done.remove(&[2, 3]);
        assert_eq!((done.len(), done.last_line()), (2, u64::from(u32::MAX) + 7));
    }

    #[test]
    fn a_line_that_is_recorded_twice_is_an_error() {
        let mut twice = Done::default();
        twice.insert(2, "a", "b", "0");
        twice.insert_invalid(2, "a", "b", "0");
        assert_eq!(twice.seal(), Err(2));
    }
}
