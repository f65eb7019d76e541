//! The exit statuses of the process. README.md has the same table; a test compares the two.

use std::process::ExitCode;

use zim_batch::journal::ReportError;
use zim_batch::limiter::quota::QuotaError;
use zim_batch::rows::{InputError, InputErrorKind};
use zim_batch::run::summary::Summary;
use zim_batch::stop::StopReason;

use crate::cli::errors::Error;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// Every row was answered.
    Success,
    /// A bug, or an operating-system call that should not fail.
    Unexpected,
    /// Wrong or missing arguments or settings.
    Usage,
    /// The run finished, and some rows are failed or invalid.
    RowsFailed,
    /// The input can't be read, or doesn't match the report.
    Input,
    /// A policy stopped the run.
    Policy,
    /// ZIM rejects the app, the secret or the signature, or the server is not trusted.
    Rejected,
    /// The maximum duration was reached.
    MaxDuration,
    /// The report, or a page, can't be written (EX_IOERR).
    Report,
    /// Another run holds what this one needs (EX_TEMPFAIL).
    Held,
    /// Stopped by the signal with this number.
    Signal(u8),
}

impl ExitStatus {
    /// The exit status as a number.
    pub fn code(self) -> u8 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::Unexpected => 1,
            ExitStatus::Usage => 2,
            ExitStatus::RowsFailed => 3,
            ExitStatus::Input => 4,
            ExitStatus::Policy => 5,
            ExitStatus::Rejected => 6,
            ExitStatus::MaxDuration => 7,
            ExitStatus::Report => 74,
            ExitStatus::Held => 75,
            ExitStatus::Signal(number) => 128_u8.saturating_add(number),
        }
    }

    /// The exit status of a run with this summary. With `ignore_invalid`, invalid rows still count as success.
    pub fn of_run(summary: &Summary, ignore_invalid: bool) -> ExitStatus {
        match &summary.stopped {
            Some(reason) => reason.into(),
            None => ExitStatus::of_rows(summary.all_failed > 0 || (summary.all_invalid > 0 && !ignore_invalid)),
        }
    }

    /// The exit status of a command that finished.
    pub fn of_rows(are_some_bad: bool) -> ExitStatus {
        match are_some_bad {
            true => ExitStatus::RowsFailed,
            false => ExitStatus::Success,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(status.code())
    }
}

impl From<&Error> for ExitStatus {
    fn from(error: &Error) -> ExitStatus {
        match error {
            Error::Usage(_) => ExitStatus::Usage,
            Error::Held(_) => ExitStatus::Held,
            Error::Unexpected(_) => ExitStatus::Unexpected,
            Error::Library(error) => error.into(),
        }
    }
}

impl From<&zim_batch::error::Error> for ExitStatus {
    fn from(error: &zim_batch::error::Error) -> ExitStatus {
        use zim_batch::error::Error;
        match error {
            Error::Client(_) => ExitStatus::Usage,
            Error::Rows(InputError {
                kind: InputErrorKind::IsReport { .. },
                ..
            }) => ExitStatus::Usage,
            Error::Rows(_) => ExitStatus::Input,
            Error::Report(error) => error.into(),
            Error::Quota(QuotaError::Held { .. }) => ExitStatus::Held,
            Error::Quota(QuotaError::Url(_) | QuotaError::Refused { .. }) => ExitStatus::Usage,
            _ => ExitStatus::Unexpected,
        }
    }
}

impl From<&ReportError> for ExitStatus {
    fn from(error: &ReportError) -> ExitStatus {
        match error {
            ReportError::Exists { .. }
            | ReportError::NotAFile { .. }
            | ReportError::DanglingLink { .. }
            | ReportError::NotAnOutsideLog { .. }
            | ReportError::ForeignOutsideLog { .. }
            | ReportError::NotARowsFile { .. }
            | ReportError::Page { .. } => ExitStatus::Usage,
            ReportError::NotAReport { .. }
            | ReportError::Damaged { .. }
            | ReportError::ForeignRowsFile { .. }
            | ReportError::RowsFileMissing { .. }
            | ReportError::ListReportMissing { .. }
            | ReportError::OtherEncoding { .. }
            | ReportError::Twice { .. }
            | ReportError::IsSimulated { .. }
            | ReportError::IsReal { .. }
            | ReportError::Open { .. }
            | ReportError::Read { .. } => ExitStatus::Input,
            ReportError::Held { .. } | ReportError::Replaced { .. } => ExitStatus::Held,
            // `Write`.
            _ => ExitStatus::Report,
        }
    }
}

impl From<&StopReason> for ExitStatus {
    fn from(reason: &StopReason) -> ExitStatus {
        match reason {
            StopReason::GaveUp { .. }
            | StopReason::NoQuota { .. }
            | StopReason::MaxFailures(_)
            | StopReason::AllRejected { .. } => ExitStatus::Policy,
            StopReason::Fatal { .. } | StopReason::Untrusted { .. } => ExitStatus::Rejected,
            StopReason::MaxDuration(_) => ExitStatus::MaxDuration,
            StopReason::ReportFailed(_) => ExitStatus::Report,
            StopReason::InputFailed(_) => ExitStatus::Input,
            StopReason::Signal(number) => u8::try_from(*number).map_or(ExitStatus::Unexpected, ExitStatus::Signal),
            // `Bug`, `RowsLeft`.
            _ => ExitStatus::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;
    use std::time::Duration;

    use clap::CommandFactory;
    use zim_batch::client::BuildError;
    use zim_batch::error::Error as LibraryError;
    use zim_batch::files::TargetError;
    use zim_batch::journal::{NotAReport, Role};
    use zim_batch::rows::error::FileChange;

    use super::*;

    const ALL: [ExitStatus; 13] = [
        ExitStatus::Success,
        ExitStatus::Unexpected,
        ExitStatus::Usage,
        ExitStatus::RowsFailed,
        ExitStatus::Input,
        ExitStatus::Policy,
        ExitStatus::Rejected,
        ExitStatus::MaxDuration,
        ExitStatus::Report,
        ExitStatus::Held,
        ExitStatus::Signal(2),
        ExitStatus::Signal(15),
        ExitStatus::Signal(1),
    ];

    /// What its line of the table must contain.
    fn says(status: ExitStatus) -> &'static str {
        match status {
            ExitStatus::Success => "every row was answered",
            ExitStatus::Unexpected => "unexpected error",
            ExitStatus::Usage => "usage or configuration",
            ExitStatus::RowsFailed => "some rows are `failed`",
            ExitStatus::Input => "the input can't be read",
            ExitStatus::Policy => "stopped by a policy",
            ExitStatus::Rejected => "ZIM rejects the app",
            ExitStatus::MaxDuration => "`--max-duration`",
            ExitStatus::Report => "the report can't be written",
            ExitStatus::Held => "another run",
            ExitStatus::Signal(_) => "stopped by SIGINT, SIGTERM, SIGHUP",
        }
    }

    #[test]
    fn the_readme_s_table_has_every_exit_status_and_no_other() {
        let readme = include_str!("../../../README.md");
        let (_, section) = readme.split_once("\n## Exit status\n").unwrap();
        let lines = section.trim_start().lines().take_while(|line| line.starts_with('|'));
        let mut table = BTreeMap::new();
        for line in lines.skip(2) {
            let mut cells = line.trim_matches('|').split('|').map(str::trim);
            let (codes, meaning) = (cells.next().unwrap(), cells.next().unwrap());
            for code in codes.split(',') {
                assert_eq!(
                    table.insert(code.trim().parse::<u8>().unwrap(), meaning),
                    None,
                    "{line}"
                );
            }
        }
        for status in ALL {
            let meaning = table.remove(&status.code()).unwrap_or_else(|| panic!("{status:?}"));
            assert!(meaning.contains(says(status)), "{status:?}: {meaning}");
        }
        assert_eq!(table, BTreeMap::new(), "statuses that are never used");
    }

    #[test]
    fn the_help_names_every_exit_status() {
        let help = crate::cli::args::Cli::command().get_after_help().unwrap().to_string();
        let help = help
            .split("\n\n")
            .find(|part| part.starts_with("Exit status:"))
            .unwrap();
        let numbers: Vec<u8> = help
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let named = |status: &ExitStatus| numbers.contains(&status.code());
        let missing: Vec<_> = ALL.iter().filter(|status| !named(status)).collect();
        assert!(missing.is_empty(), "{missing:?}: {help}");
    }

    #[test]
    fn every_error_has_its_exit_status() {
        let path = || "out.csv".into();
        let place = || "rows.csv".to_owned();
        let source = || io::Error::from(io::ErrorKind::StorageFull);
        let changed = || InputErrorKind::Changed(FileChange::Cut).of("rows.csv");
        let role = Role::Report;
        let reports = [
            (ReportError::Exists { path: path(), role }, 2),
            (
                ReportError::NotAFile {
                    path: path(),
                    role,
                    kind: "a pipe",
                },
                2,
            ),
            (
                ReportError::DanglingLink {
                    path: path(),
                    target: path(),
                    role,
                },
                2,
            ),
            (ReportError::NotAnOutsideLog { path: path() }, 2),
            (
                ReportError::ForeignOutsideLog {
                    path: path(),
                    line: 2,
                    report: path(),
                },
                2,
            ),
            (
                ReportError::Page {
                    path: path(),
                    reason: TargetError::InUse,
                },
                2,
            ),
            (
                ReportError::NotAReport {
                    place: place(),
                    reason: NotAReport::Tabs,
                    is_output: true,
                },
                4,
            ),
            (ReportError::Damaged { path: path(), line: 2 }, 4),
            (ReportError::OtherEncoding { path: path(), line: 2 }, 4),
            (ReportError::Twice { path: path(), line: 2 }, 4),
            (ReportError::IsSimulated { path: path(), line: 2 }, 4),
            (ReportError::IsReal { path: path(), line: 2 }, 4),
            (
                ReportError::Open {
                    place: place(),
                    source: source(),
                },
                4,
            ),
            (
                ReportError::Read {
                    place: place(),
                    line: 2,
                    source: source(),
                },
                4,
            ),
            (
                ReportError::Write {
                    path: path(),
                    source: source(),
                },
                74,
            ),
            (ReportError::Held { path: path(), by: None }, 75),
            (ReportError::Replaced { path: path() }, 75),
        ];
        let rows = [
            (changed(), 4),
            (InputErrorKind::NoOutcomes.of("rows.csv"), 4),
            (InputErrorKind::RowChanged.at("rows.csv", 2), 4),
            (InputErrorKind::RowGone.at("rows.csv", 2), 4),
            (InputErrorKind::IsReport { found: "ok 1".into() }.of("rows.csv"), 2),
        ];
        let others = [
            (LibraryError::Client(BuildError::CaCert), 2),
            (
                LibraryError::Quota(QuotaError::Held {
                    by: "another run".into(),
                }),
                75,
            ),
            (
                LibraryError::Quota(QuotaError::Unusable {
                    path: path(),
                    source: source(),
                }),
                1,
            ),
            (LibraryError::Thread(source()), 1),
        ];
        let reports = reports.map(|(error, code)| (Error::from(error), code));
        let rows = rows.map(|(error, code)| (Error::from(error), code));
        let others = others.map(|(error, code)| (Error::from(error), code));
        let own = [
            (Error::Usage(place()), 2),
            (Error::Held(place()), 75),
            (Error::Unexpected(place()), 1),
        ];
        for (error, code) in reports.into_iter().chain(rows).chain(others).chain(own) {
            assert_eq!(ExitStatus::from(&error).code(), code, "{error:?}");
        }
    }

    #[test]
    fn every_reason_to_stop_has_its_exit_status() {
        let (after, why) = (Duration::from_secs(1800), || "timed out".to_owned());
        for (reason, code) in [
            (StopReason::Signal(2), 130),
            (StopReason::Signal(15), 143),
            (StopReason::Signal(1), 129),
            (StopReason::MaxDuration(after), 7),
            (StopReason::GaveUp { after, why: why() }, 5),
            (StopReason::NoQuota { after, why: why() }, 5),
            (StopReason::MaxFailures(3), 5),
            (StopReason::AllRejected { rows: 20, why: why() }, 5),
            (StopReason::Fatal { line: 2, why: why() }, 6),
            (StopReason::Untrusted { after, why: why() }, 6),
            (StopReason::ReportFailed(why().into()), 74),
            (StopReason::InputFailed(why().into()), 4),
            (StopReason::RowsLeft, 1),
            (StopReason::Bug("a part failed".into()), 1),
        ] {
            assert_eq!(ExitStatus::from(&reason).code(), code, "{reason:?}");
        }
    }
}
