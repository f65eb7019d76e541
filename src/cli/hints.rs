//! What to do about an error or a stop, with the flags for it. The library says what is wrong and where; which flag
//! helps is known here alone.

use std::io::ErrorKind;

use humantime::format_duration;
use zim_batch::client::TRUST_ITS_CA;
use zim_batch::error::Error;
use zim_batch::quota::QuotaError;
use zim_batch::report::{NotAReport, ReportError, Role};
use zim_batch::rows::{InputError, LayoutClue, LayoutError, PlanError};
use zim_batch::stop::{Cause, StopReason};

/// An error of the library and what to do about it.
pub fn error(error: &Error) -> String {
    match error {
        Error::Rows(error) => plan_error(error),
        Error::Report(error) => report_error(error),
        Error::Quota(error) => quota_error(error),
        other => other.to_string(),
    }
}

/// Why a run stopped, by the flags that made it stop, and what to do about it.
pub fn stop_reason(reason: &StopReason) -> String {
    match reason {
        StopReason::MaxDuration(limit) => format!("--max-duration {} is over", format_duration(*limit)),
        StopReason::GaveUp { after, why } => format!(
            "the service was unreachable, or took no request, for {} (--give-up-after); last: {why}",
            format_duration(*after)
        ),
        StopReason::Untrusted { after, why } => {
            let hint = certificate(why);
            format!("for {} (--give-up-after) {why}{hint}", format_duration(*after))
        }
        StopReason::Fatal { why, .. } => format!("{reason}{}", certificate(why)),
        StopReason::NoTurn(_) => format!("{reason} (--give-up-after)"),
        StopReason::MaxFailures(_) => format!("{reason} (--max-failures)"),
        StopReason::ReportFailed(cause) | StopReason::InputFailed(cause) => self::cause(cause),
        StopReason::Bug(_) | StopReason::RowsLeft => {
            format!("{reason}. The rows that have a record are done; --resume sends the others")
        }
        other => other.to_string(),
    }
}

/// What follows a certificate that is not trusted.
fn certificate(why: &str) -> &'static str {
    match why.ends_with(TRUST_ITS_CA) {
        true => " too, with --ca-cert FILE",
        false => "",
    }
}

fn cause(cause: &Cause) -> String {
    if let Some(error) = cause.downcast_ref::<PlanError>() {
        plan_error(error)
    } else if let Some(error) = cause.downcast_ref::<InputError>() {
        input_error(error)
    } else if let Some(error) = cause.downcast_ref::<ReportError>() {
        report_error(error)
    } else {
        cause.to_string()
    }
}

/// Of the app's quota.
pub fn quota_error(error: &QuotaError) -> String {
    let hint = match error {
        QuotaError::Held { .. } => "; wait for it (without --no-wait), or stop it",
        QuotaError::Unusable { .. } => {
            ". Remove what is there, or choose another directory for all runs with --lock-dir or ZIM_LOCK_DIR"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

fn plan_error(error: &PlanError) -> String {
    let hint = match error {
        PlanError::Input(error) => return input_error(error),
        PlanError::NoOutcomes { .. } => "; --only is for the report of an earlier run",
        PlanError::IsReport { .. } => {
            ". Say which rows to take: --only failed,outside for those that were not cleared, --only all for all of them"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

fn input_error(error: &InputError) -> String {
    let hint = match error {
        InputError::Changed { .. } => ". Put it back as it was and resume (--resume), or begin a new report",
        InputError::StillWritten { .. } => "; resume (--resume) when the file is complete",
        InputError::CutOff { .. } => ": give the whole input again and resume (--resume)",
        InputError::Layout { error, clue, .. } => layout(error, *clue),
        _ => "",
    };
    format!("{error}{hint}")
}

/// What follows a layout that can't be told, and the clue if there is one.
fn layout(error: &LayoutError, clue: Option<LayoutClue>) -> &'static str {
    match (clue, error) {
        (Some(LayoutClue::NotUtf8(Some(likely))), _) if likely.name() == "GBK" => ": say --encoding gbk",
        (Some(LayoutClue::NotUtf8(Some(likely))), _) if likely.name() == "Big5" => ": say --encoding big5",
        (Some(LayoutClue::NotUtf8(_)), _) => {
            ": say which encoding it is in, for instance --encoding gbk, big5, shift_jis or windows-1252"
        }
        (Some(LayoutClue::Utf16), _) => "; say --encoding utf-16le or utf-16be",
        (Some(LayoutClue::ExcelDelimiter), _) => "; remove it, and say --delimiter",
        (Some(LayoutClue::Pipes), _) => {
            ": then say --delimiter '|'. Say which column is which with --columns user=A,conv=B,type=C"
        }
        (_, LayoutError::Twice(..)) => ". Say which is meant with --columns user=A,conv=B,type=C",
        (_, LayoutError::Same(..)) => ". Say where all three are with --columns user=1,conv=2,type=3",
        _ => {
            ". Say which is which with --columns user=A,conv=B,type=C (by name, or by number from 1), or leave the header \
             out and have user, conv, type in this order, with 0, peer, 2 or group in the first row's third field"
        }
    }
}

fn report_error(error: &ReportError) -> String {
    let hint = match error {
        ReportError::Page { .. } => return format!("--html {error}"),
        ReportError::Exists { .. } => {
            "; resume where its run ended (--resume), replace it (--overwrite), or write to another one (--report FILE)"
        }
        ReportError::NotAFile { role, .. } => return format!("{error}; name one with {} FILE", flag(*role)),
        ReportError::DanglingLink { role, .. } => {
            return format!(
                "{error}; if its disk is not mounted, mount it, else remove the link or name another file with {}",
                flag(*role)
            );
        }
        ReportError::NotAnOutsideLog { .. } => "; name another one with --outside FILE",
        ReportError::ForeignOutsideLog { .. } => {
            "; name another one with --outside FILE, or move it away: the outside rows of a report are written anew"
        }
        ReportError::NotAReport { reason, .. } => match reason {
            NotAReport::OtherHeader => "; name another file with --report",
            NotAReport::Unreadable(_) => "; name the file that a run wrote (--report), or its outside log",
            _ => "",
        },
        ReportError::Damaged { .. } => "; remove the line and resume: its row will be sent again",
        ReportError::OtherEncoding { .. } => ": save it as UTF-8, with commas, and resume",
        ReportError::Twice { .. } => "; remove one of its records and resume",
        ReportError::IsSimulated { .. } => {
            "; name another report (--report FILE), replace this one (--overwrite), or go on simulating (--simulate)"
        }
        ReportError::IsReal { .. } => "; name another report (--report FILE), or leave out --simulate",
        ReportError::Write { source, .. } => write_error(source.kind()),
        ReportError::Held { .. } => "; wait for it to end, or stop it",
        ReportError::Replaced { .. } => "; run this again",
        _ => "",
    };
    format!("{error}{hint}")
}

/// What to do about a file that can't be written.
fn write_error(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => {
            "; its directory does not exist; correct the path, then run it again (with --resume if it had begun)"
        }
        ErrorKind::IsADirectory => "; name a file in it",
        ErrorKind::NotADirectory => "; correct the path, of which a part is no directory",
        ErrorKind::PermissionDenied => {
            "; let this user write the file and its directory, or name another one, then run it again (with --resume if it \
             had begun)"
        }
        ErrorKind::Other => {
            "; find out what did that (logrotate, perhaps) and put the file back as it was, then resume with --resume"
        }
        _ => "; make room or correct the path, then resume with --resume",
    }
}

fn flag(role: Role) -> &'static str {
    match role {
        Role::Report => "--report",
        Role::Outside => "--outside",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    use zim_batch::rows::FileChange;

    use super::*;

    #[test]
    fn what_stopped_a_run_says_which_flag_helps_through_the_cause_too() {
        let hour = Duration::from_secs(3600);
        let why = || "timed out".to_owned();
        let path = || PathBuf::from("out.csv");
        let full = ReportError::Write {
            path: path(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let changed = || InputError::Changed {
            place: "rows.csv".into(),
            change: FileChange::Cut,
        };
        let unreachable = "the service was unreachable, or took no request, for 1h (--give-up-after); last: timed out";
        for (reason, says) in [
            (StopReason::MaxDuration(hour), "--max-duration 1h is over"),
            (
                StopReason::GaveUp {
                    after: hour,
                    why: why(),
                },
                unreachable,
            ),
            (StopReason::MaxFailures(1), "1 row has failed (--max-failures)"),
            (StopReason::RowsLeft, "--resume sends the others"),
            (StopReason::ReportFailed(full.into()), "resume with --resume"),
            (StopReason::InputFailed(changed().into()), "resume (--resume)"),
            (
                StopReason::InputFailed(PlanError::from(changed()).into()),
                "resume (--resume)",
            ),
        ] {
            let said = stop_reason(&reason);
            assert!(said.contains(says), "{said}");
            assert!(!reason.to_string().contains("--"), "{reason}");
        }
    }

    #[test]
    fn an_error_says_what_is_wrong_before_what_to_do() {
        let exists = ReportError::Exists { path: "out.csv".into() };
        assert_eq!(
            super::error(&exists.into()),
            "out.csv: this file exists already; resume where its run ended (--resume), replace it (--overwrite), or write to \
             another one (--report FILE)"
        );
    }

    /// Whether a flag or one of the command's variables is named.
    fn names_a_setting(line: &str) -> bool {
        let begins_flag = |start: &str| start.starts_with(|c: char| c.is_ascii_lowercase());
        line.contains("ZIM_")
            || [" --", "(--", "\"--", "`--"]
                .iter()
                .any(|mark| line.split(mark).skip(1).any(begins_flag))
    }

    #[test]
    fn the_library_names_no_flag_and_no_variable() {
        let mut directories = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true if !path.ends_with("src/cli") => directories.push(path),
                    false => {
                        let text = std::fs::read_to_string(&path).unwrap();
                        let named = text.lines().find(|line| names_a_setting(line));
                        assert_eq!(named, None, "{}", path.display());
                    }
                    _ => {}
                }
            }
        }
    }
}
