//! A strict parser for query strings.
//!
//! Servers decode `+` to a space and `%XX` to a byte. The simulator should expose a client that encodes carelessly, so
//! it repairs nothing: a `%` without two hex digits after it makes the whole query invalid, and so does a repeated
//! parameter, because servers differ in which of the two they use.

use std::borrow::Cow;

use super::codes::{BAD_ENCODING, REPEATED, Reply};

/// A decoded name or value; borrowed from the query if nothing had to be decoded.
type Bytes<'a> = Cow<'a, [u8]>;

/// The parameters of one request, decoded.
pub(super) struct Query<'a> {
    /// Sorted by name, so that repeated names are neighbours.
    parameters: Vec<(Bytes<'a>, Bytes<'a>)>,
}

impl<'a> Query<'a> {
    /// Splits at `&` and at the first `=`, then decodes. Skips empty pieces (`a=1&&b=2`); a name without `=` has the
    /// empty value.
    pub fn parse(query: &'a [u8]) -> Result<Query<'a>, Reply> {
        let mut parameters = query
            .split(|&byte| byte == b'&')
            .filter(|piece| !piece.is_empty())
            .map(|piece| {
                let equals = piece.iter().position(|&byte| byte == b'=');
                let (name, value) = equals.map_or((piece, &b""[..]), |at| (&piece[..at], &piece[at + 1..]));
                Ok((decode(name)?, decode(value)?))
            })
            .collect::<Result<Vec<_>, Reply>>()?;
        parameters.sort_unstable();
        if parameters.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(REPEATED);
        }
        Ok(Query { parameters })
    }

    /// Returns the value of a parameter, or the empty value if it is missing: the documents make no difference.
    pub fn get(&self, name: &str) -> &[u8] {
        self.parameters
            .binary_search_by(|(known, _)| known.as_ref().cmp(name.as_bytes()))
            .map_or(b"", |at| self.parameters[at].1.as_ref())
    }
}

/// Decodes `+` and `%XX`.
fn decode(text: &[u8]) -> Result<Bytes<'_>, Reply> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => match (bytes.next().and_then(hex), bytes.next().and_then(hex)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(BAD_ENCODING),
            },
            plain => plain,
        });
    }
    Ok(Cow::Owned(decoded))
}

fn hex(digit: &u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_and_plus_signs_are_decoded_in_names_and_values() {
        let query = Query::parse(b"%43onvId=%23a%2bb+c%26%3D%25%3f%E4%BD%A0&x").unwrap();
        assert_eq!(query.get("ConvId"), "#a+b c&=%?你".as_bytes());
        assert_eq!(query.get("x"), b"");
        assert_eq!(query.get("missing"), b"");
    }

    #[test]
    fn a_value_keeps_its_further_equals_signs() {
        assert_eq!(Query::parse(b"a=b=c&&d=").unwrap().get("a"), b"b=c");
    }

    #[test]
    fn a_broken_escape_is_refused() {
        for broken in ["a=%", "a=%4", "a=%4&b=1", "a=%zz", "a=%4z", "%=1", "a=%+1", "a=100%"] {
            assert_eq!(Query::parse(broken.as_bytes()).err(), Some(BAD_ENCODING), "{broken}");
        }
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_written() {
        for twice in ["a=1&b=2&a=1", "a=1&%61=2", "a&a"] {
            assert_eq!(Query::parse(twice.as_bytes()).err(), Some(REPEATED), "{twice}");
        }
    }

    proptest! {
        #[test]
        fn percent_encoded_bytes_are_decoded_exactly(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let encoded: String = value.iter().map(|byte| format!("%{byte:02X}")).collect();
            let text = format!("a={encoded}&b=1");
            let query = Query::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(query.get("a"), &value[..]);
        }

        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Query::parse(&bytes);
        }
    }
}
