//! Names for new results that none has yet.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use zim_batch::files::named_after;
use zim_batch::journal::RunLog;

/// A name beside the report that no report, with what belongs to it, has yet: `out.retry.csv`, `out.retry2.csv`, …
pub fn beside(report: &Path, name: &str) -> PathBuf {
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

/// A name in the current directory that no report, with what belongs to it, has yet: `out.csv`, `out2.csv`, …
pub fn here() -> PathBuf {
    first_free(|number| format!("out{number}.csv").into())
}

/// The first free one of numbered names. The first of them has no number.
fn first_free(numbered: impl Fn(&str) -> PathBuf) -> PathBuf {
    let named = |number: u32| match number {
        1 => numbered(""),
        _ => numbered(&number.to_string()),
    };
    let is_free = |path: &PathBuf| {
        let beside = [".outside.csv", ".list.csv"].map(|ending| named_after(path, ending));
        let mut files = beside
            .iter()
            .chain([path])
            .flat_map(|file| [file.clone(), RunLog::path_of(file)]);
        files.all(|file| file.symlink_metadata().is_err())
    };
    let mut free = (1..=9999).map(named).filter(is_free);
    free.next().unwrap_or_else(|| named(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suggested_name_is_never_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let report = path("out.csv");
        assert_eq!(beside(&report, "retry"), path("out.retry.csv"));
        std::fs::write(path("out.retry.csv"), "").unwrap();
        std::fs::write(path("out.retry2.outside.csv"), "").unwrap();
        assert_eq!(beside(&report, "retry"), path("out.retry3.csv"));
        for earlier in ["out.retry.csv", "out.retry2.csv"] {
            assert_eq!(beside(&path(earlier), "retry"), path("out.retry3.csv"));
        }
        assert_eq!(beside(&path("out.2026"), "retry"), path("out.2026.retry.csv"));
    }
}
