//! The rows that an earlier run has settled, as its report tells: what `--resume` skips.
//!
//! Twelve bytes a row. The text of a row is kept as a fingerprint, enough to notice that a row has changed since.

use super::fingerprint;

/// Which lines are done, and what stood on them.
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
}

fn key(line: u64, user: &str, conv: &str, conv_type: &str) -> Key {
    let print = fingerprint(user, conv, conv_type) as u32;
    Key([(line >> 32) as u32, line as u32, print])
}

impl Done {
    /// Adds a row of the report, with its user, conversation and type as the report writes them.
    pub fn insert(&mut self, line: u64, user: &str, conv: &str, conv_type: &str) {
        self.rows.push(key(line, user, conv, conv_type));
    }

    /// To be called after the last row. A line that was there twice is the `Err`.
    pub fn seal(&mut self) -> Result<(), u64> {
        self.rows.sort_unstable();
        match self.rows.windows(2).find(|pair| pair[0].line() == pair[1].line()) {
            Some(pair) => Err(pair[0].line()),
            None => Ok(()),
        }
    }

    /// Whether it has this row, with these values. Only once sealed.
    pub(crate) fn contains(&self, line: u64, user: &str, conv: &str, conv_type: &str) -> bool {
        self.rows.binary_search(&key(line, user, conv, conv_type)).is_ok()
    }

    /// Whether it has the row on this line. Only once sealed.
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

/// Walks the input beside the report: both have their lines in ascending order.
#[derive(Debug, Clone, Default)]
pub(super) struct Walk {
    at: usize,
}

/// How the input differs from the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// Another row stands on this line than when it was done.
    Changed(u64),
    /// No row begins on this line any more.
    Gone(u64),
}

impl Walk {
    /// Whether the row on `line` is done.
    pub fn is_done(&mut self, done: &Done, line: u64, shown: [&str; 3]) -> Result<bool, Difference> {
        match done.rows.get(self.at) {
            Some(next) if next.line() < line => Err(Difference::Gone(next.line())),
            Some(next) if next.line() == line => {
                let [user, conv, conv_type] = shown;
                if *next != key(line, user, conv, conv_type) {
                    return Err(Difference::Changed(line));
                }
                self.at += 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// To be called at the end of the input: no row of the report may be left.
    pub fn end(&self, done: &Done) -> Result<(), Difference> {
        match done.rows.get(self.at) {
            Some(next) => Err(Difference::Gone(next.line())),
            None => Ok(()),
        }
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

    #[test]
    fn rows_that_are_done_are_found_and_others_are_not() {
        let (done, mut walk) = (done(), Walk::default());
        assert_eq!(walk.is_done(&done, 2, ["a", "b", "0"]), Ok(true));
        assert_eq!(walk.is_done(&done, 3, ["a", "b", "0"]), Ok(false));
        assert_eq!(walk.end(&done), Err(Difference::Gone(5)));
        assert_eq!(walk.is_done(&done, 5, ["c", "d", "2"]), Ok(true));
        assert_eq!(walk.end(&done), Ok(()));
        assert_eq!(walk.is_done(&done, 6, ["e", "f", "2"]), Ok(false));
    }

    #[test]
    fn a_changed_row_and_a_row_that_is_gone_are_told_with_their_line() {
        let (done, mut walk) = (done(), Walk::default());
        assert_eq!(walk.is_done(&done, 2, ["a", "b", "2"]), Err(Difference::Changed(2)));
        assert_eq!(walk.is_done(&done, 3, ["a", "b", "0"]), Err(Difference::Gone(2)));
    }

    #[test]
    fn a_line_that_was_reported_twice_is_told() {
        let mut twice = done();
        twice.insert(2, "a", "b", "0");
        assert_eq!(twice.seal(), Err(2));
    }
}
