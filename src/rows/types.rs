//! The words for a conversation's type: the usual ones and those that a caller adds.

use std::fmt;
use std::str::FromStr;

use crate::row::ConvType;

/// Additional words for the types, read from text like `单聊=0,群聊=2`. Blanks around a word and ASCII case
/// don't matter.
///
/// ```
/// use zim_batch::row::ConvType;
/// use zim_batch::rows::Types;
///
/// let types: Types = "single=0, Room=group".parse()?;
/// assert_eq!(types.parse(b" SINGLE "), Some(ConvType::Peer));
/// assert_eq!(types.parse(b"room"), Some(ConvType::Group));
/// assert_eq!(types.parse(b"peer"), Some(ConvType::Peer));
/// assert!("peer=2".parse::<Types>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Types(Vec<(String, ConvType)>);

impl Types {
    /// Parses a field: a usual word ([`ConvType::from_bytes`]) or an added one.
    pub fn parse(&self, field: &[u8]) -> Option<ConvType> {
        ConvType::from_bytes(field).or_else(|| self.added(field))
    }

    /// Whether no words were added.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn added(&self, field: &[u8]) -> Option<ConvType> {
        let is_word = |word: &str| field.trim_ascii().eq_ignore_ascii_case(word.as_bytes());
        self.0.iter().find(|(word, _)| is_word(word)).map(|(_, known)| *known)
    }
}

impl FromStr for Types {
    type Err = String;

    fn from_str(text: &str) -> Result<Types, String> {
        let mut types = Types::default();
        for pair in text.split(',') {
            let (word, meaning) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not WORD=TYPE; write it like single=0,room=2"))?;
            let (word, meaning) = (word.trim(), meaning.trim());
            if word.is_empty() {
                return Err(format!("'{pair}' has no word before the '='"));
            }
            let meaning = ConvType::from_bytes(meaning.as_bytes())
                .ok_or_else(|| format!("'{meaning}' is not a type; the types are 0 (peer) and 2 (group)"))?;
            match types.parse(word.as_bytes()) {
                Some(other) if other != meaning => {
                    return Err(format!("'{word}' means type {} already", other.digit()));
                }
                Some(_) => {}
                None => types.0.push((word.to_owned(), meaning)),
            }
        }
        Ok(types)
    }
}

/// In the form that [`Types::from_str`] reads.
impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.iter().map(|(word, known)| format!("{word}={}", known.digit()));
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_map_is_refused_with_the_reason() {
        for (map, why) in [
            ("", "WORD=TYPE"),
            ("single", "WORD=TYPE"),
            ("single=0,", "WORD=TYPE"),
            ("=0", "no word"),
            ("single=1", "'1' is not a type"),
            ("single=", "'' is not a type"),
            ("a=0,A=2", "'A' means type 0 already"),
            ("0=2", "'0' means type 0 already"),
            ("群聊=0", "'群聊' means type 2 already"),
        ] {
            let refused = map.parse::<Types>().expect_err(map);
            assert!(refused.contains(why), "{map}: {refused}");
        }
    }

    #[test]
    fn the_displayed_form_can_be_parsed() {
        let types: Types = " 单人 = peer ,2=2,ROOM=2".parse().expect("a map");
        assert_eq!(types.to_string(), "单人=0,ROOM=2");
        assert_eq!(types.to_string().parse(), Ok(types));
    }
}
