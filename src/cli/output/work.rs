//! What is known of the work before a run.

use zim_batch::rows::Snapshot;

/// What is known of the work before a run.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Rows, or users of a list, if their number is known.
    pub rows: Option<u64>,
    /// The same whatever the limit.
    pub selected: Option<u64>,
    /// Where what is listed is cleared: users, if their number is known.
    pub users: Option<Option<u64>>,
    /// Rows that are done already.
    pub rows_done: u64,
    /// An earlier run of the same report is continued.
    pub is_resumed: bool,
    /// The input, as it was when it was counted.
    pub input: Option<Snapshot>,
}
