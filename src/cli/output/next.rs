//! The commands to run next: after a run, to see its report, and to send its failed rows and those outside again; after a
//! check or a list, to clear the rows.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use zim_batch::run::summary::Summary;

use crate::cli::args::APP;
use crate::cli::args::Cli;
use crate::cli::args::PACE;
use crate::cli::output::shell::{quoted, without_secrets};
use crate::cli::settings::Output;

/// The lines below the table. After a stop, the run must be resumed first, so no other command is suggested yet.
pub fn next_commands(summary: &Summary, output: &Output, typed: impl Iterator<Item = OsString>) -> String {
    let report = quoted(as_argument(&output.report));
    let mut text = format!("\nto see the details:\n  zim-batch report {report}");
    if summary.stopped.is_some() {
        return text;
    }
    let flags = flags(typed);
    let mut command = |why: &str, rows: &Path, only: &[&str], name: &str| {
        let (rows, report) = (as_argument(rows), as_argument(&free(&output.report, name)));
        // Writing to a String does not fail.
        let _ = write!(text, "\n{why}\n  {}", line(&rows, only, &report, &flags));
    };
    if summary.all_failed > 0 {
        let only = ["--only", "failed"];
        command("to send the failed rows again:", &output.report, &only, "retry");
    }
    if summary.all_outside > 0 {
        let why = "to send the rows outside again, after ZEGO has raised the limit:";
        command(why, &output.outside, &[], "second");
    }
    text
}

/// The command that clears rows for the first time, with the flags that say how to read them.
pub fn clear(rows: &Path, reading: &[String], typed: impl Iterator<Item = OsString>) -> String {
    line(&as_argument(rows), reading, free_name().as_os_str(), &flags(typed))
}

/// A `clear` command for a shell.
fn line(rows: &OsStr, reading: &[impl AsRef<OsStr>], report: &OsStr, flags: &[OsString]) -> String {
    let mut words = vec!["zim-batch".as_ref(), "clear".as_ref(), rows];
    words.extend(reading.iter().map(AsRef::as_ref));
    words.extend(["--report".as_ref(), report]);
    words.extend(flags.iter().map(OsString::as_os_str));
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The flags of the command line that choose the app and the rate.
fn flags(typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let cli = Cli::command();
    let known: Vec<_> = cli
        .find_subcommand("clear")
        .into_iter()
        .flat_map(|clear| clear.get_arguments())
        .collect();
    let mut typed = without_secrets(typed);
    let mut flags = Vec::new();
    while let Some(word) = typed.next().filter(|word| word != "--") {
        let text = word.to_string_lossy();
        let name = text
            .strip_prefix("--")
            .map(|flag| flag.split('=').next().unwrap_or(flag));
        let Some(flag) = name.and_then(|name| known.iter().find(|flag| flag.get_long() == Some(name))) else {
            continue;
        };
        let takes_value = flag.get_action().takes_values() && !text.contains('=');
        let value = takes_value.then(|| typed.next()).flatten();
        if matches!(flag.get_help_heading(), Some(APP | PACE)) && flag.get_long() != Some("limit") {
            flags.push(word);
            flags.extend(value);
        }
    }
    flags
}

/// A name beside the report that no report and no outside log has yet: `out.retry.csv`, `out.retry2.csv`, …
pub fn free(report: &Path, name: &str) -> PathBuf {
    let file = report.file_name().unwrap_or_default().as_bytes();
    let stem = file.strip_suffix(b".csv").unwrap_or(file);
    // The report may itself be that of a retry.
    let digits = stem.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let unnumbered = &stem[..stem.len() - digits];
    let of_first = unnumbered.strip_suffix(format!(".{name}").as_bytes()).unwrap_or(stem);
    first_free(|number| {
        let ending = format!(".{name}{number}.csv");
        report.with_file_name(OsStr::from_bytes(&[of_first, ending.as_bytes()].concat()))
    })
}

/// A name in the current directory that no report and no outside log has yet: `out.csv`, `out2.csv`, …
fn free_name() -> PathBuf {
    first_free(|number| format!("out{number}.csv").into())
}

/// The first free one of numbered names. The first of them has no number.
fn first_free(numbered: impl Fn(&str) -> PathBuf) -> PathBuf {
    let named = |number: u32| match number {
        1 => numbered(""),
        _ => numbered(&number.to_string()),
    };
    let is_free = |path: &PathBuf| {
        let outside = path.with_extension("outside.csv");
        [path, &outside].iter().all(|path| path.symlink_metadata().is_err())
    };
    let mut free = (1..=9999).map(named).filter(is_free);
    free.next().unwrap_or_else(|| named(10_000))
}

/// A path as an argument that can't be mistaken for a flag. `-` is standard input.
fn as_argument(path: &Path) -> OsString {
    match path.as_os_str().as_encoded_bytes() {
        [b'-', _, ..] => Path::new(".").join(path).into(),
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_of_the_app_and_the_rate_are_kept() {
        let typed = "zim-batch clear rows.csv --report out.csv -q --overwrite --only ok --region fra --rate=50 \
                     --secret-file --simulate --dedupe --timeout 5s -- --ca-cert";
        let flags = flags(typed.split_whitespace().map(OsString::from));
        assert_eq!(
            flags.join(OsStr::new(" ")),
            "--region fra --rate=50 --secret-file --simulate --timeout 5s"
        );
    }

    #[test]
    fn a_suggested_name_is_never_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let report = path("out.csv");
        assert_eq!(free(&report, "retry"), path("out.retry.csv"));
        std::fs::write(path("out.retry.csv"), "").unwrap();
        std::fs::write(path("out.retry2.outside.csv"), "").unwrap();
        assert_eq!(free(&report, "retry"), path("out.retry3.csv"));
        for earlier in ["out.retry.csv", "out.retry2.csv"] {
            assert_eq!(free(&path(earlier), "retry"), path("out.retry3.csv"));
        }
        assert_eq!(free(&path("out.2026"), "retry"), path("out.2026.retry.csv"));
    }
}
