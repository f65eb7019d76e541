//! The signature that goes with every request, version 2.0.
//!
//! `Signature = md5(AppId + SignatureNonce + ServerSecret + Timestamp)` in lower-case hex, a plain concatenation of
//! the decimal AppId, the nonce as sent, the secret as the console shows it, and the decimal Unix seconds
//! (ZEGO, "Accessing Server APIs"). Neither the business parameters nor the `Action` are signed, so anyone who sees a
//! signed URL can make *any* call with it for ten minutes. A [`Signature`] is therefore shown only to the code that sends
//! it.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use md5::{Digest, Md5};

/// A signature; its `Debug` output is `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(String);

impl Signature {
    /// The 32 hex digits; use them only in a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Signs one request: `timestamp` in Unix seconds, `nonce` as it will be sent.
///
/// ```
/// use zim_batch::client::sign::sign;
///
/// // The example of ZEGO's own documents.
/// let signature = sign(12345, "4fd24687296dd9f3", "9193cc662a4c0ec135ec71fb57194b38", 1615186943);
/// assert_eq!(signature.expose(), "43e5cfcca828314675f91b001390566a");
/// assert_eq!(format!("{signature:?}"), "[redacted]");
/// ```
pub fn sign(app_id: u32, nonce: &str, server_secret: &str, timestamp: u64) -> Signature {
    let digest = Md5::new()
        .chain_update(app_id.to_string())
        .chain_update(nonce)
        .chain_update(server_secret)
        .chain_update(timestamp.to_string())
        .finalize();
    Signature(hex(&digest))
}

/// A new `SignatureNonce`: 8 random bytes as 16 lower-case hex digits.
///
/// The nonce only has to differ between requests, also those of other processes. So it comes from the standard library's keys
/// of hash maps, which the operating system seeds: a generator seeded by the clock returns the same in processes that start
/// together.
pub fn nonce() -> String {
    hex(&RandomState::new().build_hasher().finish().to_be_bytes())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nonces_differ_and_have_sixteen_hex_digits() {
        let nonces: HashSet<String> = (0..10_000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 10_000);
        assert!(
            nonces
                .iter()
                .all(|nonce| nonce.len() == 16 && nonce.bytes().all(|digit| digit.is_ascii_hexdigit()))
        );
    }

    #[test]
    fn the_published_example_and_the_edges_of_every_field_are_signed_correctly() {
        for (app_id, nonce, secret, timestamp, expected) in [
            (
                12345,
                "4fd24687296dd9f3",
                "9193cc662a4c0ec135ec71fb57194b38",
                1615186943,
                "43e5cfcca828314675f91b001390566a",
            ),
            (
                1234567890,
                "0123456789abcdef",
                "0123456789abcdef0123456789abcdef",
                1700000000,
                "16623b00a07719a644da6752e631e98a",
            ),
            (1, "0000000000000000", "secret", 0, "1f56b39252777595759b8b2fe7de2270"),
            (
                4294967295,
                "ffffffffffffffff",
                "fedcba9876543210fedcba9876543210",
                1735689600,
                "386b94f5ea059426ebc66e1f9a8ec070",
            ),
        ] {
            assert_eq!(sign(app_id, nonce, secret, timestamp).expose(), expected);
        }
    }

    #[test]
    fn nonces_are_sixteen_lower_case_hex_digits_and_differ() {
        let nonces: std::collections::HashSet<String> = (0..1000).map(|_| nonce()).collect();
        assert_eq!(nonces.len(), 1000);
        assert!(
            nonces
                .iter()
                .all(|n| n.len() == 16 && n.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        );
    }
}
