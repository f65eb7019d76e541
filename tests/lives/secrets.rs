//! No output has the secret, a signature or a signed URL: no file, no log line, no event, no error.

use std::collections::{HashMap, HashSet};

use crate::disk::bytes;
use crate::stage::Stage;
use crate::world::SECRET;

/// So many digits of a signature in a row are a part of it, and no chance.
const PART: usize = 12;

/// Runs of hex digits in what was put out, each with one place where it was.
#[derive(Debug, Default)]
pub struct HexRuns {
    found: HashMap<String, String>,
}

impl HexRuns {
    /// Looks at a text, in lower case and without percent-encoding.
    pub fn look(&mut self, place: &str, text: &[u8]) {
        let text = decoded(text);
        for run in text.split(|byte| !byte.is_ascii_hexdigit()) {
            if run.len() >= PART
                && let Ok(run) = std::str::from_utf8(run)
                && !self.found.contains_key(run)
            {
                self.found.insert(run.to_owned(), place.to_owned());
            }
        }
    }
}

/// A text in lower case, percent-decoded until nothing is encoded any more.
fn decoded(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_ascii_lowercase();
    while text.contains(&b'%') {
        let mut shorter = Vec::with_capacity(text.len());
        let mut rest = &text[..];
        while let [first, after @ ..] = rest {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let (byte, len) = byte
                .filter(|_| *first == b'%')
                .map_or((*first, 1), |byte| (byte.to_ascii_lowercase(), 3));
            shorter.push(byte);
            rest = &rest[len..];
        }
        if shorter.len() == text.len() {
            break;
        }
        text = shorter;
    }
    text
}

/// Checks everything that a life has put out.
pub fn check(stage: &Stage) {
    for line in stage.log.lines() {
        stage.puts_out("the log", &line.text);
    }
    let mut found = std::mem::take(&mut *stage.put_out.lock().unwrap());
    for directory in std::fs::read_dir(stage.directory.path()).unwrap().flatten() {
        for file in std::fs::read_dir(directory.path()).unwrap().flatten() {
            found.look(&file.path().display().to_string(), &bytes(&file.path()));
        }
    }
    let world = stage.world();
    let signatures = world.signatures.iter().map(String::as_str).chain([SECRET]);
    let parts: HashSet<&[u8]> = signatures
        .flat_map(|signature| signature.as_bytes().windows(PART))
        .collect();
    let is_part = |run: &str| run.as_bytes().windows(PART).any(|part| parts.contains(part));
    // One place is enough, and the first one in order is the same each time.
    if let Some(place) = found
        .found
        .iter()
        .filter(|(run, _)| is_part(run))
        .map(|(_, place)| place)
        .min()
    {
        drop(world);
        stage.violated("no secret is put out", place.clone());
    }
}
