//! Which column of a report is which: reports of rows, and of users.

use super::list_record::LIST_COLUMNS;
use super::outcomes::COLUMNS;

/// The columns of a kind of report, and the places of those that are read back.
#[derive(Debug)]
pub(super) struct Schema {
    pub columns: &'static [&'static str],
    /// The conversation and its type.
    pub conv: Option<[usize; 2]>,
    pub outcome: usize,
    /// How many conversations were listed.
    pub conversations: Option<usize>,
    pub message: usize,
}

/// A report, and an outside log.
pub(super) const ROWS: Schema = Schema {
    columns: &COLUMNS,
    conv: Some([2, 3]),
    outcome: 4,
    conversations: None,
    message: 7,
};

/// A list report.
pub(super) const USERS: Schema = Schema {
    columns: &LIST_COLUMNS,
    conv: None,
    outcome: 2,
    conversations: Some(3),
    message: 6,
};
