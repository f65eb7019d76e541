//! How an input is read, where the input itself doesn't show it.

use super::columns::Columns;
use super::text::Encoding;
use super::types::Types;

/// What the records of an input are read as.
///
/// ```
/// use zim_batch::rows::{Format, ParsedRow, Reads, Rows};
///
/// let format = Format { reads: Reads::Users, ..Format::default() };
/// let csv = "name,user_id\nAlice,alice\nBob,bob\n";
/// let mut rows = Rows::from_reader(Box::new(csv.as_bytes()), "example", &format)?;
/// let Some(Ok(ParsedRow::Row(row))) = rows.next() else { panic!() };
/// assert_eq!((row.line, row.item.user(), row.item.conv()), (2, "alice", ""));
/// # Ok::<(), zim_batch::rows::InputError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reads {
    /// Rows: a user, a conversation and its type.
    #[default]
    Rows,
    /// Users: a user only, whatever other columns there are. So rows and reports can be read as users too. The
    /// conversation of such a row is empty, and its type means nothing. The outcomes of a report don't matter unless rows
    /// are [selected](super::Selection::only) by them.
    Users,
    /// Rows, or else users, if the first record can only be that of a list of users: a header with a user and neither a
    /// conversation nor a type, or a record that is too short for a row.
    RowsOrUsers,
}

impl Reads {
    /// The columns that must be there, for messages.
    pub(super) fn columns(self) -> &'static str {
        match self {
            Reads::Rows | Reads::RowsOrUsers => "the columns user, conv and type",
            Reads::Users => "a user column",
        }
    }
}

/// How an input is read, where its first line doesn't show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// What the records are.
    pub reads: Reads,
    /// The delimiter; detected from the first line if `None`.
    pub delimiter: Option<u8>,
    /// Which columns are the user, the conversation and the type.
    pub columns: Columns,
    /// Additional words for the types.
    pub types: Types,
    /// The encoding, if it is neither UTF-8 nor UTF-16 with a byte order mark.
    pub encoding: Option<&'static Encoding>,
}
