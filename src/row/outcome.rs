//! The outcome of a row, and how many rows have each.

use std::fmt;
use std::ops::{AddAssign, Index, IndexMut};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::unknown_name::UnknownName;

/// The outcome of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Cleared, or listed.
    Ok,
    /// Not reachable: the conversation does not exist, or is not among the user's newest 1000.
    Outside,
    /// Could not be cleared or listed.
    Failed,
    /// Not sent, because it can't be: see the message.
    Invalid,
    /// Not sent, because it repeats an earlier row.
    Skipped,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 5] = [
        Outcome::Ok,
        Outcome::Outside,
        Outcome::Failed,
        Outcome::Invalid,
        Outcome::Skipped,
    ];

    /// The form in the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Outside => "outside",
            Outcome::Failed => "failed",
            Outcome::Invalid => "invalid",
            Outcome::Skipped => "skipped",
        }
    }

    /// Parses a field of a report.
    pub(crate) fn from_bytes(field: &[u8]) -> Option<Outcome> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.as_str().as_bytes() == field)
    }
}

/// Parses the form of [`Outcome::as_str`].
///
/// ```
/// use zim_batch::row::Outcome;
///
/// assert_eq!("outside".parse(), Ok(Outcome::Outside));
/// assert!("fine".parse::<Outcome>().is_err());
/// ```
impl FromStr for Outcome {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Outcome, UnknownName> {
        Outcome::from_bytes(text.as_bytes())
            .ok_or_else(|| UnknownName::new(text, "outcome", &Outcome::ALL.map(Outcome::as_str)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How many rows have each outcome.
///
/// ```
/// use zim_batch::row::{Counts, Outcome};
///
/// let mut counts = Counts::default();
/// counts[Outcome::Ok] += 2;
/// assert_eq!((counts[Outcome::Ok], counts[Outcome::Failed], counts.total()), (2, 0, 2));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts([u64; Outcome::ALL.len()]);

impl Counts {
    /// How many rows there are in total.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Outcome> for Counts {
    type Output = u64;

    fn index(&self, outcome: Outcome) -> &u64 {
        &self.0[outcome as usize]
    }
}

impl IndexMut<Outcome> for Counts {
    fn index_mut(&mut self, outcome: Outcome) -> &mut u64 {
        &mut self.0[outcome as usize]
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        for outcome in Outcome::ALL {
            self[outcome] += other[outcome];
        }
    }
}
