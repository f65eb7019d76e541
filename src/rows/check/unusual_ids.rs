//! IDs that are probably mistakes, though ZIM might accept them: words that programs write for a missing value, numbers
//! shortened by a spreadsheet, invisible characters, and characters that ZEGO's documents don't list.

use crate::text::is_invisible;

/// The characters that ZEGO's documents allow in IDs, besides letters and digits. The documents contradict each other, so
/// any other character is only a warning.
const DOCUMENTED: &[u8] = b"!#$%&()+-:;<=.>?@[]^_{}|~ ";

/// Whether a byte is an ASCII character that ZEGO's documents list: a letter, a digit or one of [`DOCUMENTED`].
const IS_DOCUMENTED: [bool; 256] = {
    let mut is_documented = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        is_documented[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < DOCUMENTED.len() {
        is_documented[DOCUMENTED[index] as usize] = true;
        index += 1;
    }
    is_documented
};

/// What databases, programs and spreadsheets write for a missing value.
const NULL_WORDS: &[&str] = &[
    "NULL",
    "nil",
    "nan",
    "None",
    "undefined",
    "(null)",
    "<null>",
    "N/A",
    "#N/A",
    "#NULL!",
    "#REF!",
    "#VALUE!",
    "#NAME?",
    "#DIV/0!",
    "#NUM!",
    "NaT",
    "\\N",
    "[object Object]",
];

/// Calls `warn` with what is unusual about the ID, and an example if that differs between IDs.
pub(super) fn for_each_warning(id: &str, mut warn: impl FnMut(&str, Option<&str>)) {
    let bytes = id.as_bytes();
    let is_blank = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
    if !bytes.iter().all(|byte| IS_DOCUMENTED[usize::from(*byte)]) {
        for_each_character_warning(id, |what| warn(what, None));
    }
    if is_blank(bytes.first()) || is_blank(bytes.last()) {
        warn("begins or ends with a blank, which is part of the ID", None);
    }
    if let Some(word) = null_word(id) {
        warn(&format!("is {word}, which programs write for a missing value"), None);
    }
    if is_shortened_number(id) {
        warn("is a number that a spreadsheet has shortened", Some(id.trim()));
    }
}

/// Warns about characters that ZEGO's documents don't list: by name if they are invisible or look like others.
fn for_each_character_warning(id: &str, mut warn: impl FnMut(&str)) {
    let is_documented = |c: char| c.is_ascii() && IS_DOCUMENTED[c as usize];
    let mut undocumented: Vec<char> = id.chars().filter(|c| !is_documented(*c)).collect();
    undocumented.sort_unstable();
    undocumented.dedup();
    let (mut has_line_end, mut has_other) = (false, false);
    for character in undocumented {
        match character_name(character) {
            Some(name) => warn(&format!("has U+{:04X}, {name}, in it", u32::from(character))),
            None if matches!(character, '\r' | '\n') => has_line_end = true,
            None => has_other = true,
        }
    }
    if has_line_end {
        warn("has a line break in it; perhaps a quote is not closed");
    }
    if has_other {
        warn("has a character that ZEGO's documents don't list");
    }
}

/// The name of a character that is invisible or looks like another; `None` for any other.
fn character_name(character: char) -> Option<&'static str> {
    Some(match character {
        '\0' => "a zero byte",
        '\t' => "a tab",
        '\u{a0}' => "no-break space",
        '\u{ad}' => "soft hyphen",
        '\u{200b}' => "zero-width space",
        '\u{200c}' => "zero-width non-joiner",
        '\u{200d}' => "zero-width joiner",
        '\u{200e}' => "left-to-right mark",
        '\u{200f}' => "right-to-left mark",
        '\u{2010}' => "hyphen",
        '\u{2011}' => "non-breaking hyphen",
        '\u{2013}' => "en dash",
        '\u{2014}' => "em dash",
        '\u{2018}' => "left single quotation mark",
        '\u{2019}' => "right single quotation mark",
        '\u{201c}' => "left double quotation mark",
        '\u{201d}' => "right double quotation mark",
        '\u{2000}'..='\u{200a}' | '\u{205f}' => "a wide or narrow space",
        '\u{2028}' => "line separator",
        '\u{2029}' => "paragraph separator",
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{61c}' => "text direction mark",
        '\u{202f}' => "narrow no-break space",
        '\u{2060}' => "word joiner",
        '\u{3000}' => "ideographic space",
        '\u{fe00}'..='\u{fe0f}' => "variation selector",
        '\u{feff}' => "byte order mark",
        '\u{fffd}' => "replacement character, for bytes that could not be decoded",
        '\r' | '\n' => return None,
        c if c.is_control() => "control character",
        c if is_invisible(c) => "invisible character",
        _ => return None,
    })
}

/// The entry of [`NULL_WORDS`] that equals the ID, ignoring case.
fn null_word(id: &str) -> Option<&'static str> {
    let id = id.trim();
    NULL_WORDS.iter().find(|name| id.eq_ignore_ascii_case(name)).copied()
}

/// Whether the ID is a number as a spreadsheet writes one that is too long for its column: `1.23457E+11`.
fn is_shortened_number(id: &str) -> bool {
    let Some((mantissa, exponent)) = id.trim().split_once(['E', 'e']) else {
        return false;
    };
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Some locales write a decimal comma.
    let mantissa = match mantissa.split_once(['.', ',']) {
        Some((whole, fraction)) => is_number(whole) && is_number(fraction),
        None => is_number(mantissa),
    };
    mantissa && exponent.strip_prefix(['+', '-']).is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_shortened_by_a_spreadsheet_are_distinguished_from_ids() {
        for number in ["1.23457E+11", "1E+11", "9,9e+20", "2.0E-05"] {
            assert!(is_shortened_number(number), "{number}");
        }
        for id in [
            "1.23457E11",
            "E+11",
            "1E+",
            "a1E+11",
            "1.E+11",
            "123457",
            "1e5",
            "1.2.3E+4",
            "x",
        ] {
            assert!(!is_shortened_number(id), "{id}");
        }
    }

    #[test]
    fn words_for_a_missing_value_are_recognised_in_any_case() {
        assert_eq!(
            (null_word("null"), null_word("NaN"), null_word("#n/a")),
            (Some("NULL"), Some("nan"), Some("#N/A"))
        );
        assert_eq!(
            (null_word("none"), null_word("Undefined")),
            (Some("None"), Some("undefined"))
        );
        assert_eq!((null_word("nully"), null_word("0"), null_word("-")), (None, None, None));
    }
}
