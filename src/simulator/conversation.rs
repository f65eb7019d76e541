//! How a conversation is named. Requests, the world and the events share these types.

/// The longest user or conversation ID, in bytes.
pub(super) const MAX_ID_BYTES: usize = 32;

/// The type of a conversation, numbered as in `ConvType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ConvType {
    /// One-to-one: the conversation's ID is the peer's user ID.
    Peer = 0,
    /// A group: the conversation's ID is the group's.
    Group = 2,
}

/// Identifies one conversation of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConversationKey<'a> {
    pub user: &'a str,
    pub conv: &'a str,
    pub conv_type: ConvType,
}
