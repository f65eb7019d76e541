//! What a line of progress says, and what of it fits.

use console::{measure_text_width, truncate_str};

/// A weight and a text: where there is little room, parts of low weight are left out.
pub struct Part(pub u8, pub String);

/// As many of the parts as fit, those of most weight; cut if even one is too long.
pub fn fitted(parts: &[Part], columns: usize) -> String {
    let mut kept: Vec<&Part> = parts.iter().collect();
    loop {
        let text = joined(kept.iter().copied());
        let least = kept.iter().map(|part| part.0).min();
        if measure_text_width(&text) <= columns || kept.len() < 2 {
            return truncate_str(&text, columns, "…").into_owned();
        }
        // The last of those of least weight. The most important ones are cut rather than left out.
        let Some(index) = kept.iter().rposition(|part| Some(part.0) == least && part.0 < 8) else {
            return truncate_str(&text, columns, "…").into_owned();
        };
        kept.remove(index);
    }
}

/// Joined by commas, but not before a part that begins with a blank or a colon.
pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Part>) -> String {
    let mut text = String::new();
    for Part(_, part) in parts {
        if !text.is_empty() && !part.starts_with([' ', ':']) {
            text += ", ";
        }
        text += part;
    }
    text
}
