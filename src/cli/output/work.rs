//! What is known of a run's work before it begins.

use zim_batch::rows::Snapshot;

/// What is known of a run's work before it begins.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// Rows or users to process, if their number is known.
    pub rows: Option<u64>,
    /// Rows or users, regardless of `--limit`, if their number is known.
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
