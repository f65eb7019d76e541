//! Removes what a server has echoed and must not be in a report or a log: the secret, and signatures, also those of other
//! requests. Anyone with a signed URL can make any call with it for ten minutes.

use std::ops::Range;

/// Stands in a text for what was removed.
const REDACTED: &str = "[redacted]";

/// The number of hex digits of a signature.
const SIGNATURE_LEN: usize = 32;

/// A character after percent-decoding, and its place in the text, in bytes.
type Decoded = (char, Range<usize>);

/// Removes from a text these secrets, whatever follows `Signature=`, and runs of hex digits that are long enough to be a
/// signature. They are also found in upper case, and percent-encoded any number of times.
pub(super) fn redact(text: &mut String, secrets: &[&str]) {
    let decoded = decode(text);
    let mut removed = hex_runs(&decoded);
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        removed.extend(find(&decoded, secret));
    }
    for name in find(&decoded, "signature=") {
        let value = decoded[name.end..].iter();
        let len = value.take_while(|(c, _)| !is_delimiter(*c)).count();
        removed.push(name.end..name.end + len);
    }
    removed.retain(|range| !range.is_empty());
    removed.sort_by_key(|range| range.start);
    let mut shown = String::new();
    let mut end = 0;
    for range in removed {
        let (from, to) = (decoded[range.start].1.start, decoded[range.end - 1].1.end);
        if from >= end {
            shown.push_str(&text[end..from]);
            shown.push_str(REDACTED);
        }
        end = end.max(to);
    }
    shown.push_str(&text[end..]);
    *text = shown;
}

/// Whether the value of a parameter ends here: in a URL, or in the text around one.
fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "&\"'`<>,;()[]{}|\\".contains(c)
}

/// Where a text is, ignoring case.
fn find(decoded: &[Decoded], wanted: &str) -> Vec<Range<usize>> {
    let wanted: Vec<char> = wanted.chars().collect();
    let is_wanted = |window: &[Decoded]| {
        let mut pairs = window.iter().zip(&wanted);
        pairs.all(|((found, _), wanted)| found.eq_ignore_ascii_case(wanted))
    };
    let windows = decoded.windows(wanted.len()).enumerate();
    let found = windows.filter(|(_, window)| is_wanted(window));
    found.map(|(at, _)| at..at + wanted.len()).collect()
}

/// The runs of hex digits that may contain a signature.
fn hex_runs(decoded: &[Decoded]) -> Vec<Range<usize>> {
    let mut at = 0;
    let runs = decoded.split(|(c, _)| !c.is_ascii_hexdigit()).map(|run| {
        let range = at..at + run.len();
        at = range.end + 1;
        range
    });
    runs.filter(|run| run.len() >= SIGNATURE_LEN).collect()
}

/// Decodes percent-encoding until none is left.
fn decode(text: &str) -> Vec<Decoded> {
    let chars = text.char_indices();
    let mut decoded: Vec<Decoded> = chars.map(|(at, c)| (c, at..at + c.len_utf8())).collect();
    loop {
        let shorter = decode_once(&decoded);
        if shorter.len() == decoded.len() {
            return decoded;
        }
        decoded = shorter;
    }
}

fn decode_once(mut encoded: &[Decoded]) -> Vec<Decoded> {
    let mut decoded = Vec::with_capacity(encoded.len());
    while let [(c, range), rest @ ..] = encoded {
        let digit = |at: usize| rest.get(at).and_then(|(c, _)| c.to_digit(16));
        if let ('%', Some(high), Some(low)) = (*c, digit(0), digit(1)) {
            let byte = char::from_u32(high * 16 + low).unwrap_or_default();
            decoded.push((byte, range.start..rest[1].1.end));
            encoded = &rest[2..];
        } else {
            decoded.push((*c, range.clone()));
            encoded = rest;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cret-s3cret";
    const SIGNATURE: &str = "0cc175b9c0f1b6a831c399e269772661";

    fn redacted(text: &str) -> String {
        let mut text = text.to_owned();
        redact(&mut text, &[SECRET]);
        text
    }

    /// Percent-encodes every character.
    fn encoded(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn a_signature_of_any_request_is_removed_in_every_spelling() {
        let url = format!("/?Action=A&Signature={SIGNATURE}&AppId=1");
        assert_eq!(redacted(&url), "/?Action=A&Signature=[redacted]&AppId=1");
        for text in [
            SIGNATURE.to_owned(),
            SIGNATURE.to_uppercase(),
            encoded(SIGNATURE),
            encoded(&encoded(SIGNATURE)),
            format!("{}{}", &SIGNATURE[..9], encoded(&SIGNATURE[9..])),
            format!("{SIGNATURE}0"),
        ] {
            assert_eq!(redacted(&format!("got {text}, é")), "got [redacted], é");
        }
    }

    #[test]
    fn what_follows_the_name_of_the_signature_is_removed_even_if_it_is_only_a_part_of_one() {
        for (text, expected) in [
            ("Signature=0cc175b9", "Signature=[redacted]"),
            ("url 'SIGNATURE=0cc1' is bad", "url 'SIGNATURE=[redacted]' is bad"),
            ("a?signature%3d0cc1%26x=1", "a?signature%3d[redacted]%26x=1"),
            ("a?Signature%253D0cc1%2526x", "a?Signature%253D[redacted]%2526x"),
            ("%53ignature=0cc1", "%53ignature=[redacted]"),
            ("Signature=", "Signature="),
            (
                "SignatureNonce=12 SignatureVersion=2.0",
                "SignatureNonce=12 SignatureVersion=2.0",
            ),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn the_secret_is_removed_in_every_spelling() {
        for text in [SECRET.to_owned(), SECRET.to_uppercase(), encoded(SECRET)] {
            assert_eq!(redacted(&format!("{text} and {text}")), "[redacted] and [redacted]");
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "success",
            "100 %, 50% 25%25",
            "%",
            "%2",
            "%é",
            "343649807833778782",
            "用户 不存在",
            "%zz%",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
