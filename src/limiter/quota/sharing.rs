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
    /// Why it is not known whether there is a limit, and what to do. Runs that can't read it either have none.
    pub limit_unreadable: Option<String>,
}

impl Sharing {
    /// `None` is an entry that can't be read, and an error why the limit can't.
    pub(super) fn new(entries: Vec<Option<Presence>>, limit: Result<Option<LimitEntry>, String>) -> Sharing {
        let all = entries.len();
        let mut runs: Vec<Presence> = entries.into_iter().flatten().collect();
        runs.sort_by(|one, other| (one.since, &one.host, one.process).cmp(&(other.since, &other.host, other.process)));
        let (limit, limit_unreadable) = match limit {
            Ok(limit) => (limit, None),
            Err(why) => (None, Some(why)),
        };
        Sharing {
            unreadable: all - runs.len(),
            runs,
            limit,
            limit_unreadable,
        }
    }

    /// How many requests per second all runs together have started, on average over the last ten seconds.
    pub fn recent_rate(&self) -> f64 {
        self.runs.iter().fold(0.0, |sum, run| sum + run.activity.recent_rate)
    }
}
