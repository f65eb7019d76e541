//! The report and the outside log after a crash: reads them without trust, and damages them further.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use fastrand::Rng;

/// The outcome of each line that has a complete record; `None` if a line has two.
///
/// It has its own rule: a record ends with a line break outside quotes, and anything after the last one is torn, unless
/// only its line break is missing.
pub fn recorded(path: &Path) -> BTreeMap<u64, Option<String>> {
    let bytes = fs::read(path).unwrap_or_default();
    let mut is_quoted = false;
    let mut end = 0;
    for (index, byte) in bytes.iter().enumerate() {
        is_quoted ^= *byte == b'"';
        if *byte == b'\n' && !is_quoted {
            end = index + 1;
        }
    }
    let tail = &bytes[end..];
    let tail = &tail[..tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
    let lacks_line_end = !is_quoted && tail.ends_with(b"Z") && tail.iter().filter(|byte| **byte == b',').count() >= 11;
    if lacks_line_end {
        end += tail.len();
    }
    let mut lines = BTreeMap::new();
    for record in csv::Reader::from_reader(&bytes[..end]).records() {
        let record = record.expect("a whole record is well-formed");
        let line: u64 = record[0].parse().expect("it begins with its line");
        let outcome = Some(record[4].to_owned());
        lines
            .entry(line)
            .and_modify(|earlier| *earlier = None)
            .or_insert(outcome);
    }
    lines
}

/// Whether the file ends within a record.
pub fn is_torn(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    let quotes = bytes.iter().filter(|byte| **byte == b'"').count();
    !bytes.is_empty() && (bytes.last() != Some(&b'\n') || quotes % 2 == 1)
}

/// Simulates a power cut: a part of the report's end is lost, or is zeros.
pub fn maul_report(path: &Path, rng: &mut Rng) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let file = OpenOptions::new().append(true).open(path).expect("it is ours");
    if rng.bool() {
        let cut = rng.u64(..300).min(metadata.len());
        file.set_len(metadata.len() - cut).expect("it is ours");
    }
    if rng.u8(..8) == 0 {
        (&file).write_all(&vec![0; rng.usize(1..600)]).expect("it is ours");
    }
}

/// The outside log may be cut or missing: it is created from the report. If a report has lost all its outside rows, the
/// log is moved away, as the program asks: it could belong to another report.
pub fn maul_outside(path: &Path, report: &Path, rng: &mut Rng) {
    let Ok(metadata) = fs::metadata(path) else { return };
    if !recorded(report).values().flatten().any(|outcome| outcome == "outside") {
        fs::remove_file(path).expect("it is ours");
        return;
    }
    match rng.u8(..6) {
        0 => fs::remove_file(path).expect("it is ours"),
        1 => fs::write(path, "line,user,conv,ty").expect("it is ours"),
        2 | 3 => {
            let file = OpenOptions::new().write(true).open(path).expect("it is ours");
            file.set_len(rng.u64(..=metadata.len())).expect("it is ours");
        }
        _ => {}
    }
}
