//! What to do about the rows that were not cleared, with the commands to run.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use zim_batch::analysis::Kind;
use zim_batch::page::NextStep;
use zim_batch::row::Outcome;
use zim_batch::text::grouped;

use super::Found;
use crate::cli::output::next;
use crate::cli::output::shell::quoted;

/// What to do about the rows that were not cleared.
pub fn next_steps(report: &Path, rows: Option<&Path>, found: &Found) -> Vec<NextStep> {
    let analysis = &found.analysis;
    let mut steps = Vec::new();
    let mut step = |what: String, command: Option<String>| steps.push(NextStep { what, command });
    // A simulated report can't be resumed at ZIM.
    let simulate = if analysis.simulated { " --simulate" } else { "" };
    let resume = || {
        rows.map(|rows| {
            format!(
                "zim-batch clear {} --report {} --resume{simulate}",
                quoted_path(rows),
                quoted_path(report)
            )
        })
    };
    if analysis.kind == Kind::Clear {
        let again = |outcome: Outcome, suffix: &str| {
            let fresh = next::free(report, suffix);
            Some(format!(
                "zim-batch clear {} --only {outcome} --report {}{simulate}",
                quoted_path(report),
                quoted_path(&fresh)
            ))
        };
        let not_run = found.not_run.filter(|&rows| rows > 0 && found.progress.is_none());
        if let Some(not_run) = not_run {
            step(
                format!("Send the {} that have no record yet", rows_of(not_run, "")),
                resume(),
            );
        }
        match analysis.outcome(Outcome::Failed) {
            0 => {}
            failed => step(
                format!("Send the {} again", rows_of(failed, "failed ")),
                again(Outcome::Failed, "retry"),
            ),
        }
        match analysis.outcome(Outcome::Outside) {
            0 => {}
            outside => step(
                format!(
                    "Send the {} again, after ZEGO has raised the limit",
                    rows_of(outside, "outside ")
                ),
                again(Outcome::Outside, "second"),
            ),
        }
        match analysis.outcome(Outcome::Invalid) {
            0 => {}
            invalid => step(
                format!("Correct the {} in the input, then resume", rows_of(invalid, "invalid ")),
                resume(),
            ),
        }
    }
    steps
}

fn rows_of(count: u64, which: &str) -> String {
    match count {
        1 => format!("1 {which}row"),
        more => format!("{} {which}rows", grouped(more)),
    }
}

/// A path as a shell argument: quoted, without control characters, and never mistaken for an option.
pub fn quoted_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let dot = if bytes.starts_with(b"-") { "./" } else { "" };
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => quoted(format!("{dot}{text}")),
        _ => {
            let mut text = format!("$'{dot}");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => text.push(char::from(byte)),
                    _ => {
                        let _ = write!(text, "\\x{byte:02x}");
                    }
                }
            }
            text + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_shell_restores_quoted_paths() {
        let quoted = |bytes: &[u8]| quoted_path(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"a/out.csv"), "a/out.csv");
        assert_eq!(quoted(b"my out.csv"), "'my out.csv'");
        assert_eq!(quoted(b"-out.csv"), "./-out.csv");
        assert_eq!(quoted(b"a\x1b'\xff.csv"), r"$'a\x1b\'\xff.csv'");
    }
}
