//! IDs that are probably mistakes, though ZIM might accept them: words that programs write for a missing value, numbers
//! shortened by a spreadsheet, and invisible characters.

use crate::text::is_invisible;

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

/// The name of a character that is invisible or looks like another; `None` for any other.
pub(super) fn character_name(character: char) -> Option<&'static str> {
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
pub(super) fn null_word(id: &str) -> Option<&'static str> {
    let id = id.trim();
    NULL_WORDS.iter().find(|name| id.eq_ignore_ascii_case(name)).copied()
}

/// Whether the ID is a number as a spreadsheet writes one that is too long for its column: `1.23457E+11`.
pub(super) fn is_shortened_number(id: &str) -> bool {
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
