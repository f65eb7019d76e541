//! How an input is read, where the input itself doesn't show it.

use super::columns::Columns;
use super::encoding::Encoding;
use super::types::Types;

/// How an input is read, where its first line doesn't show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// The delimiter; detected from the first line if `None`.
    pub delimiter: Option<u8>,
    /// Which columns are the user, the conversation and the type.
    pub columns: Columns,
    /// Additional words for the types.
    pub types: Types,
    /// The encoding, if it is neither UTF-8 nor UTF-16 with a byte order mark.
    pub encoding: Option<&'static Encoding>,
}
