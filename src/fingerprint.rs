//! Hashes of rows, so that millions of rows can be compared in little memory.

use std::hash::{BuildHasher, Hasher};

/// A fast hasher with a fixed seed. It need not resist attacks: nobody gains by a collision here.
pub(crate) fn hasher() -> impl Hasher {
    foldhash::quality::FixedState::default().build_hasher()
}

/// The hash of a (user, conversation, type) as the report writes them. Valid within this process only.
pub(crate) fn fingerprint(user: &str, conv: &str, conv_type: &str) -> u64 {
    let mut hasher = hasher();
    for text in [user, conv, conv_type] {
        hasher.write(text.as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.finish()
}
