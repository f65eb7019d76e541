//! What to do about an error or a stop, with the flags for it. The library's errors say what is wrong and where; only this
//! module knows flags.

use std::error::Error as StdError;
use std::io;

use humantime::format_duration;
use zim_batch::error::{Error, ErrorKind};
use zim_batch::journal::{NotAReport, ReportError, Role};
use zim_batch::limiter::RateLimit;
use zim_batch::limiter::quota::QuotaError;
use zim_batch::rows::error::{Diagnosis, LayoutProblem};
use zim_batch::rows::{AssumedUser, Column, InputError, InputErrorKind, Reads, Source};
use zim_batch::run::summary::Summary;
use zim_batch::stop::{Cause, StopKind, StopReason};
use zim_batch::text::{clock, with_causes};

/// Follows a bug that ended a run.
const RESUMABLE: &str = ". Rows in the report are done; to send the others, use --resume";

/// An error of the library with its causes, and what to do about it.
pub fn error(error: &Error) -> String {
    match error {
        Error::Rows(error) => input_error(error),
        Error::Report(error) => report_error(error),
        Error::Quota(error) => quota_error(error),
        other => advised(other, usual(other.kind())),
    }
}

/// What to do about an error of this kind, where nothing better is known.
fn usual(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Settings | ErrorKind::Input => "",
        ErrorKind::Output => "; free some space or correct the path, then resume with --resume",
        ErrorKind::Busy => "; wait for it to end, or stop it",
        ErrorKind::System => "; raise the limit of processes for this user (ulimit -u) or container (pids.max)",
        ErrorKind::Bug => RESUMABLE,
    }
}

fn advised(error: &(dyn StdError + 'static), hint: &str) -> String {
    with_causes(error) + hint
}

/// Why a run stopped before its last row, and what restricted it at the end; `None` if it did not stop.
pub fn stopped(summary: &Summary) -> Option<String> {
    let mut text = stop_reason(summary.stopped.as_ref()?);
    if let Some(restriction) = restricted_at_end(summary).and_then(restriction) {
        let nothing = if summary.requests == 0 {
            "nothing was sent; "
        } else {
            ""
        };
        text += &format!("; {nothing}at the end the run was {restriction}");
    }
    Some(text)
}

/// What limited the rate at the end of a run, if that may be why it had not finished when it was stopped.
pub fn restricted_at_end(summary: &Summary) -> Option<RateLimit> {
    let may_be_why = match summary.stopped.as_ref()?.kind() {
        StopKind::TimeLimit | StopKind::Signal(_) | StopKind::Cancelled => true,
        StopKind::Policy => summary.requests == 0,
        StopKind::Rejected | StopKind::Input | StopKind::Output | StopKind::Bug => false,
    };
    summary.limit.filter(|_| may_be_why)
}

/// What a person who sees a run must know of the rate in force: a pause, or a limit that is not the run's own.
pub fn restriction(limit: RateLimit) -> Option<String> {
    match limit {
        RateLimit::Quota(limit) => Some(limit.to_string()),
        RateLimit::Timetable { rate: None, until } => Some(format!("paused until {} (--rate)", clock(until))),
        _ => None,
    }
}

/// Why a run stopped, with the flag that stopped it, and what to do about it.
fn stop_reason(reason: &StopReason) -> String {
    match reason {
        StopReason::MaxDuration(limit) => format!("--max-duration {} was reached", format_duration(*limit)),
        StopReason::Until(at) => format!("--until {} was reached", clock(*at)),
        StopReason::GaveUp { after, why } => format!(
            "the service was unreachable, or accepted no request, for {} (--give-up-after); last: {why}",
            format_duration(*after)
        ),
        StopReason::Untrusted { after, unknown_ca, why } => {
            let hint = certificate(*unknown_ca);
            format!("for {} (--give-up-after) {why}{hint}", format_duration(*after))
        }
        StopReason::Fatal { unknown_ca, .. } => format!("{reason}{}", certificate(*unknown_ca)),
        StopReason::NoQuota { .. } => format!("{reason} (--give-up-after)"),
        StopReason::MaxFailures { .. } => format!("{reason} (--max-failures)"),
        StopReason::ReportFailed(cause) | StopReason::InputFailed(cause) => self::cause(cause),
        other => format!("{other}{}", after_stop(other.kind())),
    }
}

/// What to do after a stop of this kind, where nothing better is known.
fn after_stop(kind: StopKind) -> &'static str {
    match kind {
        StopKind::Bug => RESUMABLE,
        StopKind::Signal(_)
        | StopKind::Cancelled
        | StopKind::TimeLimit
        | StopKind::Policy
        | StopKind::Rejected
        | StopKind::Input
        | StopKind::Output => "",
    }
}

/// Completes the advice to trust the certificate of a server's authority.
fn certificate(unknown_ca: bool) -> &'static str {
    if unknown_ca { " too, with --ca-cert FILE" } else { "" }
}

fn cause(cause: &Cause) -> String {
    if let Some(error) = cause.downcast_ref::<InputError>() {
        input_error(error)
    } else if let Some(error) = cause.downcast_ref::<ReportError>() {
        report_error(error)
    } else {
        cause.to_string()
    }
}

/// An error of the app's quota, and what to do about it.
pub fn quota_error(error: &QuotaError) -> String {
    let hint = match error {
        QuotaError::OtherMachine { .. } => {
            "; share it through a server, with --quota or ZIM_QUOTA on each machine, and choose a directory of this machine with \
             --lock-dir or ZIM_LOCK_DIR"
        }
        QuotaError::Untrusted { .. } => "; to trust its CA too, use --ca-cert FILE",
        QuotaError::Unreachable { .. } => "; to wait for it, leave out --no-wait",
        QuotaError::Held { .. } => "; to share it, leave out --no-wait; or stop the other run",
        QuotaError::Unusable { .. } => {
            ". Make its directory writable, remove the file if it is unusable, or choose another directory for all runs with --lock-dir or ZIM_LOCK_DIR"
        }
        other => usual(other.into()),
    };
    advised(error, hint)
}

fn input_error(error: &InputError) -> String {
    let hint = match &error.kind {
        InputErrorKind::Open(source) => unreadable(source.kind()),
        InputErrorKind::Changed(_) => ". Restore the file and resume (--resume), or start a new report (--report FILE)",
        InputErrorKind::StillWritten => "; resume (--resume) when the file is complete",
        InputErrorKind::CutOff(_) => ": provide the complete input again and resume (--resume)",
        InputErrorKind::Layout(error) => layout(&error.problem, error.diagnosis, error.reads),
        InputErrorKind::NoOutcomes => "; --only works only with the report of an earlier run",
        InputErrorKind::IsReport { .. } => {
            ". Choose the rows with --only: --only failed,outside for those not cleared, or --only all for all of them"
        }
        _ => usual(error.into()),
    };
    advised(error, hint)
}

/// What to do about a layout that can't be detected, depending on the diagnosis if there is one.
fn layout(problem: &LayoutProblem, diagnosis: Option<Diagnosis>, reads: Reads) -> &'static str {
    match (diagnosis, problem) {
        (Some(diagnosis), _) => diagnosed(diagnosis),
        (_, LayoutProblem::Ambiguous(..)) if reads == Reads::Users => ". Choose one with --columns user=A",
        _ if reads == Reads::Users => {
            ". Specify the column of the users with --columns user=A (by name, or by number from 1), or remove the header"
        }
        (_, LayoutProblem::Missing(missing))
            if !missing.iter().any(|column| column.column == Column::User) && missing.len() == 2 =>
        {
            ". If this is a list of users, use clear --users, or write their conversations as rows with zim-batch \
             list. Otherwise, specify the columns with --columns user=A,conv=B,type=C (by name, or by number from 1)"
        }
        (_, LayoutProblem::Ambiguous(..)) => ". Choose one with --columns user=A,conv=B,type=C",
        (_, LayoutProblem::Shared(..)) => ". Specify all three with --columns user=1,conv=2,type=3",
        _ => {
            ". Specify the columns with --columns user=A,conv=B,type=C (by name, or by number from 1). Or remove the header and \
             use the order user, conv, type, with 0, peer, 2 or group in the first row's third field"
        }
    }
}

/// Which column of an input was assumed to be the user, and how to specify it.
pub fn assumed_user(source: &Source, user: &AssumedUser) -> String {
    let AssumedUser {
        line, columns, first, ..
    } = user;
    format!(
        "{source}, line {line}: no known header, so column 1 of {columns} is the user from line {line} on ('{first}'). If this \
         line is a header, specify the user's column: --columns user=NAME. If it is not: --columns user=1, or another number"
    )
}

/// What the text of an input probably is, and what to do about it.
pub fn diagnosis(diagnosis: Diagnosis) -> String {
    format!("{diagnosis}{}", diagnosed(diagnosis))
}

fn diagnosed(diagnosis: Diagnosis) -> &'static str {
    match diagnosis {
        Diagnosis::NotUtf8(Some(likely)) if likely.name() == "GBK" => "; add --encoding gbk",
        Diagnosis::NotUtf8(Some(likely)) if likely.name() == "Big5" => "; add --encoding big5",
        Diagnosis::NotUtf8(_) => "; specify its encoding, for example --encoding gbk, big5, shift_jis or windows-1252",
        Diagnosis::Utf16 => "; add --encoding utf-16le or utf-16be",
        Diagnosis::ExcelDelimiter => "; remove it, and use --delimiter instead",
        Diagnosis::Pipes => "; if so, add --delimiter '|'. To specify the columns, add --columns user=A,conv=B,type=C",
        _ => "",
    }
}

fn report_error(error: &ReportError) -> String {
    let hint = match error {
        ReportError::Page { .. } => return format!("--html {error}"),
        ReportError::Exists { role: Role::Rows, .. } => {
            "; resume its list (--resume), replace it (--overwrite), or choose another file (--rows FILE)"
        }
        ReportError::Exists { .. } => {
            "; resume its run (--resume), replace it (--overwrite), or choose another report (--report FILE)"
        }
        ReportError::NotAFile { role, .. } => return format!("{error}; specify one with {} FILE", flag(*role)),
        ReportError::DanglingLink { role, .. } => {
            return format!(
                "{error}; mount its disk if it is not mounted. Otherwise, remove the link or choose another file with {}",
                flag(*role)
            );
        }
        ReportError::OtherOwner { role, .. } => {
            return format!("{error}; remove it, or choose another one with {} FILE", flag(*role));
        }
        ReportError::NotAnOutsideLog { .. } => "; choose another one with --outside FILE",
        ReportError::ForeignOutsideLog { .. } => {
            "; choose another one with --outside FILE, or move it away: the outside log is created again from the report"
        }
        ReportError::NotARowsFile { .. } => "; choose another one with --rows FILE",
        ReportError::ForeignRowsFile { .. } => {
            ". Restore the rows as they were written, choose another file with --rows, or list again (--overwrite)"
        }
        ReportError::RowsFileMissing { .. } => "; restore it, or list again (--overwrite)",
        ReportError::ListReportMissing { .. } => {
            "; restore it, choose another file with --rows, or list again (--overwrite)"
        }
        ReportError::NotAReport { is_output: false, .. } => {
            "; specify the file that a run wrote (--report), or its outside log"
        }
        ReportError::NotAReport {
            reason: NotAReport::OtherHeader,
            ..
        } => "; choose another file with --report",
        ReportError::Damaged { .. } => "; remove the line and resume (--resume): its row will be sent again",
        ReportError::OtherEncoding { .. } => "; save it as UTF-8 with commas as delimiters, then resume (--resume)",
        ReportError::Twice { .. } => "; remove one of its records and resume (--resume)",
        ReportError::IsSimulated { .. } => {
            "; choose another report (--report FILE), replace this one (--overwrite), or continue with --simulate"
        }
        ReportError::IsReal { .. } => "; choose another report (--report FILE), or leave out --simulate",
        ReportError::Write { source, .. } => write_error(source.kind()),
        ReportError::Open { source, .. } => unreadable(source.kind()),
        ReportError::Replaced { .. } => "; run this again",
        other => usual(other.into()),
    };
    advised(error, hint)
}

/// What to do about a file that can't be opened.
fn unreadable(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "; check the path and the current directory",
        io::ErrorKind::PermissionDenied => "; let this user read it",
        _ => "",
    }
}

/// What to do about a file that can't be written.
fn write_error(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => {
            "; check that its directory exists and correct the path, then run it again (with --resume if the run had started)"
        }
        io::ErrorKind::BrokenPipe => "; the program that reads it has ended",
        io::ErrorKind::IsADirectory => "; specify a file in this directory",
        io::ErrorKind::NotADirectory => "; a part of the path is not a directory; correct the path",
        io::ErrorKind::PermissionDenied => {
            "; give this user write access to the file and its directory, or choose another one (--report FILE; for list, --rows \
             FILE), then run it again (with --resume if the run had started)"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; choose a file in another directory (--report FILE; for list, --rows FILE), or mount it for writing, then run it \
             again (with --resume if the run had started)"
        }
        io::ErrorKind::Other => {
            "; find out which program did that (logrotate, perhaps), restore the file, then resume with --resume"
        }
        _ => usual(ErrorKind::Output),
    }
}

fn flag(role: Role) -> &'static str {
    match role {
        Role::Report => "--report",
        Role::Outside => "--outside",
        Role::Rows => "--rows",
        Role::ListReport => "--report",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use zim_batch::rows::error::{FileChange, MissingColumn};

    use super::*;

    #[test]
    fn a_stop_reason_and_its_cause_say_which_flag_helps() {
        let hour = Duration::from_secs(3600);
        let why = || "timed out".to_owned();
        let failed = |rows, users| StopReason::MaxFailures { rows, users };
        let path = || PathBuf::from("out.csv");
        let full = ReportError::Write {
            path: path(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let changed = InputErrorKind::Changed(FileChange::Cut).of("rows.csv");
        let unreachable =
            "the service was unreachable, or accepted no request, for 1h (--give-up-after); last: timed out";
        for (reason, says) in [
            (StopReason::MaxDuration(hour), "--max-duration 1h was reached"),
            (
                StopReason::GaveUp {
                    after: hour,
                    why: why(),
                },
                unreachable,
            ),
            (failed(1, 0), "1 row has failed (--max-failures)"),
            (failed(0, 2), "2 users have failed (--max-failures)"),
            (failed(2, 1), "2 rows and 1 user have failed (--max-failures)"),
            (StopReason::RowsLeft, "to send the others, use --resume"),
            (StopReason::ReportFailed(full.into()), "resume with --resume"),
            (StopReason::InputFailed(changed.into()), "resume (--resume)"),
        ] {
            let said = stop_reason(&reason);
            assert!(said.contains(says), "{said}");
            assert!(!reason.to_string().contains("--"), "{reason}");
        }
    }

    #[test]
    fn advice_for_columns_is_for_what_is_read() {
        let missing = |columns: &[Column]| {
            let missing = columns.iter().map(|column| MissingColumn {
                column: *column,
                given: None,
                columns: 1,
            });
            LayoutProblem::Missing(missing.collect())
        };
        let twice = LayoutProblem::Ambiguous(Column::User, Vec::new());
        for (problem, reads, says, never_says) in [
            (missing(&[Column::User]), Reads::Users, "--columns user=A", "conv=B"),
            (twice, Reads::Users, "--columns user=A", "conv=B"),
            (
                missing(&[Column::Conv, Column::Type]),
                Reads::Rows,
                "zim-batch list",
                "remove the header",
            ),
            (
                missing(&[Column::User, Column::Type]),
                Reads::Rows,
                "user=A,conv=B,type=C",
                "zim-batch list",
            ),
        ] {
            let said = layout(&problem, None, reads);
            assert!(said.contains(says) && !said.contains(never_says), "{problem}: {said}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_then_what_to_do() {
        let exists = ReportError::Exists {
            path: "out.csv".into(),
            role: Role::Report,
        };
        assert_eq!(
            super::error(&exists.into()),
            "out.csv: this file exists already; resume its run (--resume), replace it (--overwrite), or choose another \
             report (--report FILE)"
        );
    }

    #[test]
    fn what_to_do_about_a_file_system_that_is_read_only_is_to_name_another_report() {
        let error = report_error(&ReportError::Write {
            path: "/media/rows.report.csv".into(),
            source: io::ErrorKind::ReadOnlyFilesystem.into(),
        });
        assert!(
            error.contains("--report FILE") && !error.contains("free some space"),
            "{error}"
        );
    }
}
