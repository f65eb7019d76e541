//! Numbers that stand for texts, so that millions of rows can be compared in little memory.

use std::hash::{BuildHasher, Hasher};

/// Fast, and the same in each pass; nobody gains by a collision here.
pub(crate) fn hasher() -> impl Hasher {
    foldhash::quality::FixedState::default().build_hasher()
}

/// A number that is the same for the same (user, conversation, type) as the report writes them, and differs for
/// practically all others; of this process only.
pub(crate) fn fingerprint(user: &str, conv: &str, conv_type: &str) -> u64 {
    let mut hasher = hasher();
    for text in [user, conv, conv_type] {
        hasher.write(text.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}
