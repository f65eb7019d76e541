//! Warnings about rows that are sent but may not be what was intended.

use crate::rows::raw_row::RawRow;

/// Warns as a plan reads its rows.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    has_warned_of_line_ends: bool,
}

impl Warnings {
    pub fn warn(&mut self, row: &RawRow, input: &str) {
        let Ok((user, conv, _)) = row.check() else { return };
        let (first, last) = (row.line(), row.last_line());
        if row.may_be_cut_off() {
            tracing::warn!(
                "{input}, line {first}: the input ends within this row, without a line end: it may have been cut off; the row \
                 is sent as it is"
            );
        }
        let has_line_end = |id: &str| id.contains(['\n', '\r']);
        if !self.has_warned_of_line_ends && (has_line_end(user) || has_line_end(conv)) {
            self.has_warned_of_line_ends = true;
            tracing::warn!(
                "{input}, line {first}: an ID of this row has a line end in it, and the row spans lines {first} to {last}; \
                 perhaps a quote is not closed. It is sent as it is. This warning is shown once per run; `zim-batch check` \
                 lists all such rows"
            );
        }
    }
}
