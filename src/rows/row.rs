//! What a row is, and what can be wrong with one.

use std::fmt;

/// The longest user or conversation ID, in bytes (ZEGO, "ClearConversationUnread").
pub const ID_MAX: usize = 32;

/// The type of a conversation, as the API numbers it. (1 and 3 exist in ZIM's client SDKs; this API takes neither.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConvType {
    /// One-to-one: the conversation's ID is the peer's user ID.
    Peer = 0,
    /// Group: the conversation's ID is the group ID.
    Group = 2,
}

impl ConvType {
    /// Reads `0`, `peer` or `单聊`, `2`, `group` or `群聊`, in any case and with blanks around it.
    ///
    /// ```
    /// use zim_batch::rows::ConvType;
    ///
    /// assert_eq!(ConvType::parse(b" Group"), Some(ConvType::Group));
    /// assert_eq!(ConvType::parse("单聊".as_bytes()), Some(ConvType::Peer));
    /// assert_eq!(ConvType::parse(b"1"), None);
    /// ```
    pub fn parse(field: &[u8]) -> Option<ConvType> {
        let field = field.trim_ascii();
        let is_any = |words: [&str; 3]| words.iter().any(|word| field.eq_ignore_ascii_case(word.as_bytes()));
        if is_any(["0", "peer", "单聊"]) {
            Some(ConvType::Peer)
        } else if is_any(["2", "group", "群聊"]) {
            Some(ConvType::Group)
        } else {
            None
        }
    }

    /// As the API and the report write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ConvType::Peer => "0",
            ConvType::Group => "2",
        }
    }
}

/// One call to make: clear `user`'s unread count for `conv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// `FromUserId`, 1 to 32 bytes.
    pub user: String,
    /// `ConvId`, 1 to 32 bytes.
    pub conv: String,
    /// `ConvType`.
    pub conv_type: ConvType,
}

/// A row that is never sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRow {
    /// The 1-based line of the input on which the row begins.
    pub line: u64,
    /// What was read for the user; what is not UTF-8 shows as U+FFFD.
    pub user: String,
    /// What was read for the conversation, likewise.
    pub conv: String,
    /// What was read for the type, likewise.
    pub conv_type: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What a record of the input came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A call to make.
    Row(Row),
    /// A row that can't be sent.
    Invalid(InvalidRow),
}

impl Entry {
    /// The 1-based line on which it begins.
    pub fn line(&self) -> u64 {
        match self {
            Entry::Row(row) => row.line,
            Entry::Invalid(row) => row.line,
        }
    }
}

/// A column of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// The user.
    User,
    /// The conversation.
    Conv,
    /// The conversation's type.
    Type,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Column::User => "user",
            Column::Conv => "conv",
            Column::Type => "type",
        })
    }
}

/// Why a row is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The record has too few fields.
    Missing(Column),
    /// Nothing between the delimiters.
    Empty(Column),
    /// An ID of this many bytes, more than [`ID_MAX`].
    TooLong(Column, usize),
    /// Bytes that are not UTF-8, or not of the encoding that the input is in.
    NotText(Column),
    /// Neither 0, peer, 2 nor group; what was there.
    BadType(String),
    /// A quote that was opened on this line is never closed: the rest of the input was swallowed.
    UnclosedQuote,
    /// The record is longer than one mebibyte; most likely a quote that was not closed.
    RecordTooLong,
    /// The header stands here once more, as where two files were joined.
    HeaderAgain,
    /// Another problem, of a row that takes several lines: perhaps a quote was opened by mistake.
    Spanning {
        /// What is wrong with the row.
        problem: Box<Problem>,
        /// The line on which it begins, and the one on which it ends.
        lines: (u64, u64),
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing(column) => write!(f, "{column} is missing"),
            Problem::Empty(column) => write!(f, "{column} is empty"),
            Problem::TooLong(column, bytes) => {
                write!(f, "{column} is {bytes} bytes long, at most {ID_MAX} are allowed")
            }
            Problem::NotText(column) => write!(
                f,
                "{column} is not valid text in the input's encoding (UTF-8, or see --encoding)"
            ),
            Problem::BadType(found) => write!(f, "type is '{found}', it must be 0 or peer, 2 or group"),
            Problem::UnclosedQuote => {
                f.write_str("a quote opened here is never closed, so the rest of the input is in this row")
            }
            Problem::RecordTooLong => f.write_str("longer than 1 MiB; most likely a quote that is not closed"),
            Problem::HeaderAgain => f.write_str("the header again"),
            Problem::Spanning {
                problem,
                lines: (first, last),
            } => write!(
                f,
                "{problem}, and the row spans lines {first} to {last}; perhaps a quote is not closed"
            ),
        }
    }
}
