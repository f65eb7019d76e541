//! The type of a conversation.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::unknown_name::UnknownName;

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
    /// Parses a field of any bytes in the same way as [`ConvType::from_str`].
    ///
    /// ```
    /// use zim_batch::row::ConvType;
    ///
    /// assert_eq!(ConvType::from_bytes(b" Group"), Some(ConvType::Group));
    /// assert_eq!(ConvType::from_bytes(b"\xff"), None);
    /// ```
    pub fn from_bytes(field: &[u8]) -> Option<ConvType> {
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

    /// The digit in the API and the report: `0` or `2`.
    pub fn digit(self) -> &'static str {
        match self {
            ConvType::Peer => "0",
            ConvType::Group => "2",
        }
    }
}

/// `peer` or `group`.
impl fmt::Display for ConvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ConvType::Peer => "peer",
            ConvType::Group => "group",
        })
    }
}

/// As [`Display`](fmt::Display) shows it.
impl Serialize for ConvType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a text that [`FromStr`] parses, or from the number 0 or 2.
impl<'de> Deserialize<'de> for ConvType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ConvType, D::Error> {
        struct TextOrNumber;

        impl Visitor<'_> for TextOrNumber {
            type Value = ConvType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0, peer, 2 or group")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConvType, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ConvType, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(TextOrNumber)
    }
}

/// Parses `0`, `peer` or `单聊`, `2`, `group` or `群聊`, ignoring case and surrounding blanks.
///
/// ```
/// use zim_batch::row::ConvType;
///
/// assert_eq!("单聊".parse(), Ok(ConvType::Peer));
/// assert!("1".parse::<ConvType>().is_err());
/// ```
impl FromStr for ConvType {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<ConvType, UnknownName> {
        ConvType::from_bytes(text.as_bytes())
            .ok_or_else(|| UnknownName::new(text, "type of conversation", &["0", "peer", "2", "group"]))
    }
}
