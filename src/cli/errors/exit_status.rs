//! The exit statuses of the process. docs/guide.md has the same table; a test compares the two. This file uses nothing else
//! of the program, because `tests/lives` has it too.

use std::process::ExitCode;

use zim_batch::error::ErrorKind;
use zim_batch::run::summary::Summary;
use zim_batch::stop::StopKind;

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
            Some(reason) => reason.kind().into(),
            None => {
                ExitStatus::of_rows(summary.failed_at_all() > 0 || (summary.invalid_at_all() > 0 && !ignore_invalid))
            }
        }
    }

    /// The exit status of a command that finished.
    pub fn of_rows(are_some_bad: bool) -> ExitStatus {
        if are_some_bad {
            ExitStatus::RowsFailed
        } else {
            ExitStatus::Success
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(status.code())
    }
}

impl From<ErrorKind> for ExitStatus {
    fn from(kind: ErrorKind) -> ExitStatus {
        match kind {
            ErrorKind::Settings => ExitStatus::Usage,
            ErrorKind::Input => ExitStatus::Input,
            ErrorKind::Output => ExitStatus::Report,
            ErrorKind::Busy => ExitStatus::Held,
            ErrorKind::System | ErrorKind::Bug => ExitStatus::Unexpected,
        }
    }
}

impl From<StopKind> for ExitStatus {
    fn from(kind: StopKind) -> ExitStatus {
        match kind {
            StopKind::Signal(number) => u8::try_from(number).map_or(ExitStatus::Unexpected, ExitStatus::Signal),
            StopKind::TimeLimit => ExitStatus::MaxDuration,
            StopKind::Policy => ExitStatus::Policy,
            StopKind::Rejected => ExitStatus::Rejected,
            StopKind::Input => ExitStatus::Input,
            StopKind::Output => ExitStatus::Report,
            // This program cancels no run.
            StopKind::Cancelled | StopKind::Bug => ExitStatus::Unexpected,
        }
    }
}
