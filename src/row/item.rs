//! What a run processes: rows and users, whose IDs have been checked.

use serde::{Deserialize, Serialize};

use super::conv_type::ConvType;
use super::error::{Column, MAX_ID, RowError};

/// One call to make: clear `user`'s unread count for `conv`. Its IDs have been checked.
///
/// With serde it has the fields `user`, `conv` and `type`; deserializing checks them as [`Row::new`] does.
///
/// ```
/// use zim_batch::{ConvType, Row};
///
/// let row = Row::new("alice", "bob", ConvType::Peer)?;
/// assert_eq!(row.user(), "alice");
/// assert!(Row::new("alice", "", ConvType::Peer).is_err());
/// # Ok::<(), zim_batch::RowError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRow")]
pub struct Row {
    user: String,
    conv: String,
    #[serde(rename = "type")]
    conv_type: ConvType,
}

/// A row as deserialized.
#[derive(Deserialize)]
struct UncheckedRow {
    user: String,
    conv: String,
    #[serde(rename = "type")]
    conv_type: ConvType,
}

impl TryFrom<UncheckedRow> for Row {
    type Error = RowError;

    fn try_from(row: UncheckedRow) -> Result<Row, RowError> {
        Row::new(row.user, row.conv, row.conv_type)
    }
}

impl Row {
    /// A row to send. IDs are taken as they are, never trimmed.
    ///
    /// # Errors
    /// [`RowError::Empty`] or [`RowError::TooLong`], if an ID is not 1 to [`MAX_ID`] bytes long.
    pub fn new(user: impl Into<String>, conv: impl Into<String>, conv_type: ConvType) -> Result<Row, RowError> {
        Ok(Row {
            user: checked(Column::User, user.into())?,
            conv: checked(Column::Conv, conv.into())?,
            conv_type,
        })
    }

    /// A row that has been checked, or a user read as a row without a conversation.
    pub(crate) fn read(user: &str, conv: &str, conv_type: ConvType) -> Row {
        Row {
            user: user.to_owned(),
            conv: conv.to_owned(),
            conv_type,
        }
    }

    /// `FromUserId`, 1 to 32 bytes.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `ConvId`, 1 to 32 bytes.
    pub fn conv(&self) -> &str {
        &self.conv
    }

    /// `ConvType`.
    pub fn conv_type(&self) -> ConvType {
        self.conv_type
    }
}

/// A user, to list conversations of or to look up. Its ID has been checked.
///
/// With serde it has the field `user`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "UncheckedUser")]
pub struct User {
    user: String,
}

/// A user as deserialized.
#[derive(Deserialize)]
struct UncheckedUser {
    user: String,
}

impl TryFrom<UncheckedUser> for User {
    type Error = RowError;

    fn try_from(user: UncheckedUser) -> Result<User, RowError> {
        User::new(user.user)
    }
}

impl User {
    /// A user. The ID is taken as it is, never trimmed.
    ///
    /// # Errors
    /// [`RowError::Empty`] or [`RowError::TooLong`], if the ID is not 1 to [`MAX_ID`] bytes long.
    pub fn new(id: impl Into<String>) -> Result<User, RowError> {
        let user = checked(Column::User, id.into())?;
        Ok(User { user })
    }

    /// The user's ID, 1 to 32 bytes.
    pub fn id(&self) -> &str {
        &self.user
    }
}

/// The user of a row, whatever its conversation.
impl From<Row> for User {
    fn from(row: Row) -> User {
        User { user: row.user }
    }
}

fn checked(column: Column, id: String) -> Result<String, RowError> {
    check_id(column, &id)?;
    Ok(id)
}

/// Checks the length of an ID.
pub(crate) fn check_id(column: Column, id: &str) -> Result<(), RowError> {
    match id.len() {
        0 => Err(RowError::Empty(column)),
        1..=MAX_ID => Ok(()),
        bytes => Err(RowError::TooLong(column, bytes)),
    }
}

/// An item of a run, with the number that identifies it in records and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered<I> {
    /// The 1-based line of the input on which it begins; without an input, its place in the order of the items, from 1.
    pub line: u64,
    /// The item.
    pub item: I,
}

impl<I> Numbered<I> {
    /// The same line with another kind of item.
    pub fn map<J>(self, convert: impl FnOnce(I) -> J) -> Numbered<J> {
        Numbered {
            line: self.line,
            item: convert(self.item),
        }
    }
}
