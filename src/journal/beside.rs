//! Which files belong together: a report, and what its runs keep beside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::holder::is_locked;
use super::run_log::{RunLog, read_runs};
use crate::files::named_after;

/// How the names of the files of a run end: of `clear`, of `clear --users` and of `list`.
const ENDINGS: [&str; 8] = [
    ".csv",
    ".outside.csv",
    ".list.csv",
    ".rows.csv",
    ".runs.jsonl",
    ".list.runs.jsonl",
    ".since",
    ".list.since",
];

/// The files that belong to the runs of a report or a list report, whether they exist or not: itself, those that are named
/// like it by default, and the inputs that its log of runs names.
pub fn files_of_runs(report: &Path) -> Vec<PathBuf> {
    let stem = common_stem(report);
    let mut files: Vec<PathBuf> = ENDINGS.iter().map(|ending| with_ending(report, stem, ending)).collect();
    let log = RunLog::path_of(report);
    let inputs = read_runs(&log).unwrap_or_default();
    files.extend(inputs.into_iter().map(|run| run.begin.directory.join(run.begin.input)));
    files.extend([report.to_owned(), log]);
    // What a link leads to has its own name.
    if report.is_symlink()
        && let Ok(target) = report.canonicalize()
    {
        files.extend(files_of_runs(&target));
    }
    files
}

/// Whether a run keeps this existing file: beside it stands a log of runs or an outside log that belongs to it, or a run is
/// writing it.
pub fn is_file_of_a_run(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else {
        return false;
    };
    let stem = common_stem(&path);
    let signs = [
        RunLog::path_of(&path),
        with_ending(&path, stem, ".runs.jsonl"),
        with_ending(&path, stem, ".list.runs.jsonl"),
        named_after(&path, ".outside.csv"),
    ];
    signs.iter().any(|sign| sign.exists()) || is_locked(&path)
}

/// `out` of `out.csv`, `out.list.csv`, `out.outside.csv` and `out.rows.csv`.
fn common_stem(path: &Path) -> &[u8] {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let stem = name.strip_suffix(b".csv").unwrap_or(name);
    let roles: [&[u8]; 3] = [b".list", b".outside", b".rows"];
    roles.iter().find_map(|role| stem.strip_suffix(*role)).unwrap_or(stem)
}

fn with_ending(path: &Path, stem: &[u8], ending: &str) -> PathBuf {
    path.with_file_name(OsStr::from_bytes(&[stem, ending.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_files_of_a_report_are_found_from_each_of_them_and_a_copy_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for report in ["out.csv", "out.list.csv"] {
            let files = files_of_runs(&path(report));
            for name in [
                "out.csv",
                "out.outside.csv",
                "out.list.csv",
                "out.rows.csv",
                "out.runs.jsonl",
                "out.list.since",
            ] {
                assert!(files.contains(&path(name)), "{report}: {name}");
            }
            assert!(!files.contains(&path("out.failed.csv")));
        }
        for name in [
            "out.csv",
            "out.outside.csv",
            "out.list.csv",
            "out.runs.jsonl",
            "copy.csv",
            "bare.csv",
            "bare.outside.csv",
        ] {
            fs::write(path(name), "").unwrap();
        }
        for name in ["out.csv", "out.outside.csv", "out.list.csv", "bare.csv"] {
            assert!(is_file_of_a_run(&path(name)), "{name}");
        }
        assert!(!is_file_of_a_run(&path("copy.csv")));
        assert!(!is_file_of_a_run(&path("new.csv")));
        std::os::unix::fs::symlink(path("out.list.csv"), path("link.csv")).unwrap();
        assert!(is_file_of_a_run(&path("link.csv")));
        assert!(files_of_runs(&path("link.csv")).contains(&path("out.rows.csv")));
    }
}
