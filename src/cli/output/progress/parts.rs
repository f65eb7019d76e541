//! The parts of a progress line, and which of them fit.

use console::{measure_text_width, truncate_str};

/// A part of a progress line.
pub struct Part {
    /// If the line is too narrow, the parts with the lowest weight are omitted.
    pub weight: u8,
    pub text: String,
    /// What is shown in its place if the line is too narrow for all parts.
    short: Option<String>,
}

impl Part {
    pub fn new(weight: u8, text: impl Into<String>) -> Part {
        Part {
            weight,
            text: text.into(),
            short: None,
        }
    }

    /// With a shorter text for narrow lines.
    pub fn or(self, short: impl Into<String>) -> Part {
        Part {
            short: Some(short.into()),
            ..self
        }
    }

    fn shortened(&self) -> Part {
        Part::new(self.weight, self.short.as_ref().unwrap_or(&self.text))
    }
}

/// Joins the parts if they fit, or else the shortened parts with the highest weights that fit; truncates the text if even one
/// is too long.
pub fn fitted(parts: &[Part], columns: usize) -> String {
    let text = joined(parts);
    if measure_text_width(&text) <= columns {
        return text;
    }
    let shortened: Vec<Part> = parts.iter().map(Part::shortened).collect();
    let mut kept: Vec<&Part> = shortened.iter().collect();
    loop {
        let text = joined(kept.iter().copied());
        let least = kept.iter().map(|part| part.weight).min();
        if measure_text_width(&text) <= columns || kept.len() < 2 {
            return truncate_str(&text, columns, "…").into_owned();
        }
        // Omit the last part with the lowest weight; the most important parts are truncated instead.
        let Some(index) = kept
            .iter()
            .rposition(|part| Some(part.weight) == least && part.weight < 8)
        else {
            return truncate_str(&text, columns, "…").into_owned();
        };
        kept.remove(index);
    }
}

/// Joins parts with commas, except before a part that starts with a space or a colon.
pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Part>) -> String {
    let mut text = String::new();
    for part in parts {
        if !text.is_empty() && !part.text.starts_with([' ', ':']) {
            text += ", ";
        }
        text += &part.text;
    }
    text
}
