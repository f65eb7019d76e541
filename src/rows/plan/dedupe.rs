//! Step 3 of a plan: a row that repeats an earlier one is skipped.

use std::collections::{HashMap, HashSet};

use crate::fingerprint::fingerprint;
use crate::row::{Numbered, Row};

/// Finds the first row that is the same as a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Dedupe {
    /// The line of the first of each kind of row, by fingerprint.
    first_lines: HashMap<u64, u64>,
    /// The fingerprints of rows that are repeated, if they are known: then no others are kept.
    repeated: Option<HashSet<u64>>,
}

impl Dedupe {
    /// The line of the first row that is the same; the row's own line if it is the first.
    pub fn first_line(&mut self, row: &Numbered<Row>) -> u64 {
        let Numbered { line, item } = row;
        let fingerprint = fingerprint(item.user(), item.conv(), item.conv_type().digit());
        if self
            .repeated
            .as_ref()
            .is_some_and(|repeated| !repeated.contains(&fingerprint))
        {
            return *line;
        }
        *self.first_lines.entry(fingerprint).or_insert(*line)
    }
}

/// Finds out in a pass over the whole input which rows are repeated: eight bytes per row.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    fingerprints: Vec<u64>,
    /// The fingerprints and lines of the rows that are done, other than those that were skipped themselves.
    done: Vec<(u64, u64)>,
}

impl Repeats {
    /// `is_done`: and was not skipped.
    pub fn add(&mut self, fingerprint: u64, line: u64, is_done: bool) {
        self.fingerprints.push(fingerprint);
        if is_done {
            self.done.push((fingerprint, line));
        }
    }

    /// For a second pass. If one of several repeated rows is done, all others repeat that one, also earlier ones.
    pub fn into_dedupe(mut self) -> Dedupe {
        self.fingerprints.sort_unstable();
        let same = self.fingerprints.chunk_by(|one, other| one == other);
        let repeated: HashSet<u64> = same.filter(|same| same.len() > 1).map(|same| same[0]).collect();
        let done = self
            .done
            .into_iter()
            .filter(|(fingerprint, _)| repeated.contains(fingerprint));
        // The first line of each comes last, and stays.
        Dedupe {
            first_lines: done.rev().collect(),
            repeated: Some(repeated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::ConvType;

    fn row(line: u64, user: &str) -> Numbered<Row> {
        let item = Row::new(user, "c", ConvType::Peer).unwrap();
        Numbered { line, item }
    }

    fn first_lines(mut dedupe: Dedupe, users: &[&str]) -> Vec<u64> {
        (1..)
            .zip(users)
            .map(|(line, user)| dedupe.first_line(&row(line, user)))
            .collect()
    }

    #[test]
    fn a_row_repeats_the_first_that_is_the_same_with_or_without_an_earlier_pass() {
        let users = ["a", "b", "a", "c", "b", "a"];
        let mut repeats = Repeats::default();
        for (line, user) in (1..).zip(users) {
            repeats.add(fingerprint(user, "c", "0"), line, false);
        }
        for dedupe in [Dedupe::default(), repeats.into_dedupe()] {
            assert_eq!(first_lines(dedupe, &users), [1, 2, 1, 4, 2, 1]);
        }
    }

    #[test]
    fn all_repeat_the_one_that_is_done() {
        let users = ["a", "b", "a", "a"];
        let mut repeats = Repeats::default();
        for (line, user) in (1..).zip(users) {
            repeats.add(fingerprint(user, "c", "0"), line, [2, 3, 4].contains(&line));
        }
        let dedupe = repeats.into_dedupe();
        assert_eq!(dedupe.first_lines.len(), 1, "only repeated rows are kept");
        assert_eq!(first_lines(dedupe, &users), [3, 2, 3, 3]);
    }
}
