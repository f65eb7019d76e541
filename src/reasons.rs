//! Why rows are `failed` or `invalid`: by ZIM's return code or, without one, by message; in bounded memory.

use std::collections::HashMap;

use serde::Serialize;

use crate::code;
use crate::row::Outcome;

/// The maximum number of separate reasons; all later ones are counted as "other reasons".
const MAX_REASONS: usize = 200;

/// The maximum number of lines kept for each reason.
pub(crate) const LINES_KEPT: usize = 1000;

/// The maximum length of a message, in bytes.
const MAX_MESSAGE: usize = 300;

/// Rows that failed, or could not be sent, for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reason {
    /// `failed` or `invalid`.
    pub outcome: Outcome,
    /// ZIM's return code, if there was an answer.
    pub code: Option<i64>,
    /// Another try may succeed: the code, if there is one, does not say that these rows can't. Never for `invalid` rows.
    pub retryable: bool,
    /// The message of the first of these rows.
    pub message: String,
    /// How many rows there are.
    pub rows: u64,
    /// The first of their lines in the input; at most 1000.
    pub lines: Vec<u64>,
}

/// Counts reasons.
#[derive(Debug, Clone, Default)]
pub struct Reasons {
    found: Vec<Reason>,
    by_code: HashMap<(Outcome, i64), usize>,
    by_message: HashMap<Box<str>, [Option<usize>; Outcome::ALL.len()]>,
}

impl Reasons {
    /// Counts a row, if it is `failed` or `invalid`. The reason names its line, if it has one.
    pub fn insert(&mut self, outcome: Outcome, code: Option<i64>, message: &str, line: impl Into<Option<u64>>) {
        if !matches!(outcome, Outcome::Failed | Outcome::Invalid) {
            return;
        }
        // With code 0 the answer had something else wrong with it, which the message says.
        let code = code.filter(|code| *code != 0);
        let retryable = outcome == Outcome::Failed && code.is_none_or(code::is_retryable);
        let message = shortened(message, MAX_MESSAGE);
        let known = match code {
            Some(code) => self.by_code.get(&(outcome, code)).copied(),
            None => self.by_message.get(message).and_then(|known| known[outcome as usize]),
        };
        let index = match known {
            Some(index) => index,
            None if self.found.len() >= MAX_REASONS => match self.other(outcome, retryable) {
                Some(index) => index,
                None => self.push(outcome, None, retryable, "other reasons"),
            },
            None => {
                let index = self.push(outcome, code, retryable, message);
                match code {
                    Some(code) => {
                        self.by_code.insert((outcome, code), index);
                    }
                    None => self.by_message.entry(message.into()).or_default()[outcome as usize] = Some(index),
                }
                index
            }
        };
        let reason = &mut self.found[index];
        reason.rows += 1;
        if reason.lines.len() < LINES_KEPT {
            reason.lines.extend(line.into());
        }
    }

    /// The index of such "other reasons".
    fn other(&self, outcome: Outcome, retryable: bool) -> Option<usize> {
        let later = self.found.get(MAX_REASONS..)?;
        later
            .iter()
            .position(|reason| (reason.outcome, reason.retryable) == (outcome, retryable))
            .map(|at| MAX_REASONS + at)
    }

    fn push(&mut self, outcome: Outcome, code: Option<i64>, retryable: bool, message: &str) -> usize {
        self.found.push(Reason {
            outcome,
            code,
            retryable,
            message: message.to_owned(),
            rows: 0,
            lines: Vec::new(),
        });
        self.found.len() - 1
    }

    /// All reasons; `failed` first, and the most frequent first.
    pub fn sorted(mut self) -> Vec<Reason> {
        for reason in &mut self.found {
            reason.lines.sort_unstable();
        }
        self.found
            .sort_by_key(|reason| (reason.outcome, std::cmp::Reverse(reason.rows)));
        self.found
    }
}

/// A text, shortened to `max` bytes.
pub(crate) fn shortened(text: &str, max: usize) -> &str {
    let is_beyond = |&(start, c): &(usize, char)| start + c.len_utf8() > max;
    if text.len() <= max {
        return text;
    }
    let end = text.char_indices().find(is_beyond).map(|(start, _)| start);
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_separate_up_to_a_bound_and_no_row_is_lost_beyond_it() {
        let mut reasons = Reasons::default();
        for line in 0..1000 {
            reasons.insert(Outcome::Failed, None, &format!("message {}", line % 500), line);
            reasons.insert(Outcome::Failed, Some(2), "parameter", line);
            reasons.insert(Outcome::Invalid, None, "message 1", line);
        }
        let found = reasons.sorted();
        let rows: u64 = found.iter().map(|reason| reason.rows).sum();
        assert_eq!(rows, 3000);
        assert!(found.len() <= MAX_REASONS + 2);
        let of_code = found.iter().find(|reason| reason.code == Some(2)).unwrap();
        assert_eq!((of_code.rows, of_code.message.as_str()), (1000, "parameter"));
        let invalid: Vec<u64> = found
            .iter()
            .filter(|reason| reason.outcome == Outcome::Invalid)
            .map(|reason| reason.rows)
            .collect();
        assert_eq!(invalid, [1000]);
    }
}
