//! Who shares a quota at present, and how fast they may go.

use super::limit_entry::LimitEntry;
use super::presence::Presence;

/// Who shares a quota at present, and the limit that an operator has set for all of them.
///
/// Runs of version 0.1.0 have no entry, and are not seen.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Sharing {
    /// The runs, in the order in which they began to share it.
    pub runs: Vec<Presence>,
    /// How many more there are whose entries can't be read.
    pub unreadable: usize,
    /// The limit in force.
    pub limit: Option<LimitEntry>,
}

impl Sharing {
    /// `None` is an entry that can't be read.
    pub(super) fn new(entries: Vec<Option<Presence>>, limit: Option<LimitEntry>) -> Sharing {
        let all = entries.len();
        let mut runs: Vec<Presence> = entries.into_iter().flatten().collect();
        runs.sort_by(|one, other| (one.since, &one.host, one.process).cmp(&(other.since, &other.host, other.process)));
        Sharing {
            unreadable: all - runs.len(),
            runs,
            limit,
        }
    }

    /// How many requests per second all runs together have started, on average over the last ten seconds.
    pub fn recent_rate(&self) -> f64 {
        self.runs.iter().fold(0.0, |sum, run| sum + run.activity.recent_rate)
    }
}
