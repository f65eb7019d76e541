//! The commands to run next: the same one again, or another one about its results.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory;
use zim_batch::code::{self, Class};
use zim_batch::journal::RunBegin;
use zim_batch::page::NextStep;
use zim_batch::rows::Source;
use zim_batch::run::summary::Summary;
use zim_batch::stop::{StopKind, StopReason};
use zim_batch::text::{one_line, shell_word};

use crate::cli::args::given::{Argument, path_argument};
use crate::cli::args::{APP, Cli, Given, PACE, RESULTS};
use crate::cli::output::free_name;

/// The command of this run.
pub fn again(given: &Given) -> String {
    line(given.changed(&[], None))
}

/// The command that resumes this run.
pub fn resume(given: &Given) -> String {
    line(given.lasting().changed(&["overwrite"], Some("--resume")))
}

/// What to do after a run that was stopped. `None` if it was not, or if the same command would fail in the same way.
pub fn after_stop(summary: &Summary, given: &Given) -> Option<NextStep> {
    let stopped = summary.stopped.as_ref()?;
    if matches!(stopped, StopReason::AllRejected { .. }) {
        return Some(NextStep {
            what: START_AGAIN.to_owned(),
            command: Some(overwrite(given)),
        });
    }
    let what = match stopped.kind() {
        StopKind::Input => return None,
        StopKind::Rejected if is_about_the_app(summary) => "Correct the AppId or the ServerSecret, then resume",
        StopKind::Rejected => "Correct what stopped the run, then resume",
        StopKind::Output => "When the report can be written again, resume",
        StopKind::Signal(_) | StopKind::Cancelled | StopKind::TimeLimit | StopKind::Policy | StopKind::Bug => "Resume",
    };
    Some(NextStep {
        what: what.to_owned(),
        command: Some(resume(given)),
    })
}

/// Whether an answer that ended the run, or was retried before, says that the AppId or the ServerSecret may be wrong.
fn is_about_the_app(summary: &Summary) -> bool {
    let mut known = summary.retried.keys().filter_map(|code| code::find(*code));
    known.any(|known| {
        matches!(known.class, Class::Fatal | Class::Signature | Class::App) && known.advice.contains("AppId")
    })
}

/// What is to be done after a run of which all that was sent has failed.
pub const START_AGAIN: &str = "Start again, after correcting what is wrong";

/// The command that does what `--limit` has left for later.
pub fn without_limit(given: &Given) -> String {
    line(given.lasting().changed(&["overwrite", "limit"], Some("--resume")))
}

/// The command that starts this run again.
pub fn overwrite(given: &Given) -> String {
    line(given.lasting().changed(&["resume"], Some("--overwrite")))
}

/// The command that sends what `--dry-run` has checked.
pub fn without_dry_run(given: &Given) -> String {
    line(given.changed(&["dry_run"], None))
}

/// What else a command needs to be run again.
pub fn to_provide_again(given: &Given) -> Vec<String> {
    let is_stream = |argument: &&Argument| {
        let value = argument.words.last().map(|word| word.to_string_lossy());
        value.is_some_and(|value| {
            value == "-"
                || ["/dev/fd/", "/dev/stdin", "/proc/self/fd/"]
                    .iter()
                    .any(|place| value.contains(place))
        })
    };
    let inputs = given
        .arguments()
        .filter(|argument| argument.heading.as_deref() != Some(RESULTS));
    let streams: Vec<String> = inputs.filter(is_stream).map(|argument| line(&argument.words)).collect();
    let mut notes = Vec::new();
    if !streams.is_empty() {
        notes.push(format!(
            "provide the same input again in place of {}, which was a pipe or an open file of this command",
            streams.join(" and ")
        ));
    }
    if given.arguments().any(|argument| argument.is_secret) {
        notes.push(
            "set ZIM_QUOTA to the quota URL first; it is not shown, because it may have a password in it".to_owned(),
        );
    }
    notes
}

/// The command that clears rows for the first time, with the given flags that choose the app and the rate, and, with
/// `same_format`, those that say how to read the rows.
pub fn clear(rows: &Source, given: &Given, same_format: bool) -> String {
    let reading = if same_format {
        words_of(given, "clear", &[None])
    } else {
        Vec::new()
    };
    clear_line(rows.path(), reading, &free_name::here(), &app_and_rate(given))
}

/// The given flags that choose the app and the rate.
pub fn app_and_rate(given: &Given) -> Vec<OsString> {
    words_of(given, "clear", &[Some(APP), Some(PACE)])
}

/// The command that ends the limit that an operator has set for all runs of the app.
pub fn end_limit(given: &Given) -> String {
    let mut words = vec!["zim-batch".into(), "quota".into()];
    words.extend(words_of(given, "quota", &[Some(APP), Some(PACE)]));
    words.extend(["--limit".into(), "off".into()]);
    line(words)
}

/// The command that lists the conversations of the users in a file, with the given flags that say how to read them and that
/// choose the app and the rate.
pub fn list(users: &Path, given: &Given) -> String {
    let mut words = vec!["zim-batch".into(), "list".into(), path_argument(users)];
    words.extend(words_of(given, "list", &[None, Some(APP), Some(PACE)]));
    line(words)
}

/// The command that lists the conversations of the users in a file and clears them, likewise.
pub fn clear_users(users: &Path, given: &Given) -> String {
    let mut words = vec![
        "zim-batch".into(),
        "clear".into(),
        "--users".into(),
        path_argument(users),
    ];
    words.extend(words_of(given, "list", &[None]));
    words.extend(["--report".into(), path_argument(&free_name::here())]);
    words.extend(app_and_rate(given));
    line(words)
}

/// The command that lists the users with these outcomes of a list report once more, and clears what is listed. `report` is that
/// of the rows.
pub fn users_of(report: &Path, list: &Path, outcomes: &str, given: &Given) -> String {
    let mut words = vec![
        "zim-batch".into(),
        "clear".into(),
        "--users".into(),
        path_argument(list),
        "--only".into(),
        outcomes.into(),
        "--report".into(),
        path_argument(&free_name::beside(report, "users")),
    ];
    words.extend(app_and_rate(given));
    line(words)
}

/// The command that copies the records with these outcomes of a report.
pub fn copy_records(report: &Path, outcomes: &str, copy: &Path) -> String {
    line([
        "zim-batch".into(),
        "report".into(),
        path_argument(report),
        "--only".into(),
        outcomes.into(),
        "--csv".into(),
        path_argument(copy),
    ])
}

/// The command that shows a report.
pub fn report(report: &Path) -> String {
    reports([report])
}

/// The command that shows several reports as one.
pub fn reports<'a>(reports: impl IntoIterator<Item = &'a Path>) -> String {
    let words = ["zim-batch".into(), "report".into()];
    line(words.into_iter().chain(reports.into_iter().map(path_argument)))
}

/// A command of a run, as the log of runs has it, to be run in this directory.
pub fn logged(command: &str, begin: &RunBegin) -> Option<String> {
    let command = one_line(command);
    if command.is_empty() {
        return None;
    }
    Some(if is_here(begin) {
        command.into_owned()
    } else {
        format!("cd {} && {command}", shell_word(&begin.directory))
    })
}

/// The flags that choose the app and the rate of a logged run, as words for a shell, if paths in them lead to the same files
/// from this directory.
pub fn logged_flags(begin: &RunBegin) -> Option<String> {
    is_here(begin).then(|| one_line(&begin.flags).into_owned())
}

fn is_here(begin: &RunBegin) -> bool {
    std::env::current_dir().is_ok_and(|here| here == begin.directory)
}

/// A command that resumes a run, made of these words, with flags as words for a shell.
pub fn resumes(words: impl IntoIterator<Item = impl AsRef<OsStr>>, flags: &str) -> String {
    format!("{} --resume {flags}", line(words)).trim_end().to_owned()
}

/// What to do next, below a table. `when` says when it can be done, if that is not now.
pub fn as_text(steps: &[NextStep], when: &str) -> String {
    let mut text = String::new();
    if !steps.is_empty() {
        text = format!("\nWhat to do next{when}");
    }
    for step in steps {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  {}", step.what);
        if let Some(command) = &step.command {
            let _ = write!(text, "\n    {command}");
        }
    }
    text
}

/// A `clear` command.
fn clear_line(rows: &Path, reading: Vec<OsString>, report: &Path, flags: &[OsString]) -> String {
    let mut words = vec!["zim-batch".into(), "clear".into(), path_argument(rows)];
    words.extend(reading);
    words.extend(["--report".into(), path_argument(report)]);
    words.extend_from_slice(flags);
    line(words)
}

/// A command line for a shell.
pub fn line(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    words.into_iter().map(shell_word).collect::<Vec<_>>().join(" ")
}

/// The given flags that the command has under one of these headings of its help, except those for one run only.
fn words_of(given: &Given, command: &str, headings: &[Option<&str>]) -> Vec<OsString> {
    let cli = Cli::command();
    let is_known = |argument: &&Argument| {
        let mut known = cli
            .find_subcommand(command)
            .into_iter()
            .flat_map(clap::Command::get_arguments);
        known.any(|arg| {
            !arg.is_positional() && *arg.get_id() == argument.id && headings.contains(&arg.get_help_heading())
        })
    };
    let given = given.lasting();
    let kept = given
        .arguments()
        .filter(|argument| !argument.is_secret && argument.id != "limit");
    kept.filter(is_known)
        .flat_map(|argument| argument.words.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given<'a>(words: impl IntoIterator<Item = &'a str>) -> Given {
        Cli::from_words(words).unwrap().given
    }

    #[test]
    fn the_command_that_resumes_is_the_given_one_quoted_for_a_shell() {
        let typed = "zim-batch|clear|my rows.csv|--overwrite|--report|it's.csv|--only=failed,ok|-qv|--rate|5|--|";
        let shown = |typed: &str| resume(&given(typed.split('|').filter(|word| !word.is_empty())));
        assert_eq!(
            shown(&typed.replace("-qv", "-vv")),
            r"zim-batch clear 'my rows.csv' --report 'it'\''s.csv' --only failed,ok -v -v --rate 5 --resume"
        );
        assert_eq!(
            shown("zim-batch|clear|--resume|a.csv"),
            "zim-batch clear --resume a.csv"
        );
        assert_eq!(
            shown("./zim-batch|clear|-q|--|-a.csv"),
            "./zim-batch clear -q ./-a.csv --resume"
        );
        assert_eq!(
            shown("zim-batch|clear|-|--report=-a.csv"),
            "zim-batch clear - --report=-a.csv --resume"
        );
        let typed = ["zim-batch", "clear", "a.csv", "--resume", "--rate", "2.5"];
        assert_eq!(overwrite(&given(typed)), "zim-batch clear a.csv --rate 2.5 --overwrite");
    }

    #[test]
    fn only_flags_of_the_app_and_the_rate_are_kept() {
        let typed = "zim-batch clear rows.csv --report out.csv -q --overwrite --only ok --region fra --rate=50 \
                     --secret-file file --dedupe --timeout 5s --limit 7 --delimiter ;";
        let given = given(typed.split_whitespace());
        assert_eq!(
            app_and_rate(&given).join(OsStr::new(" ")),
            "--region fra --rate 50 --secret-file file --timeout 5s"
        );
        let shown = clear(&Source::File("-rows.csv".into()), &given, true);
        let expected = "zim-batch clear ./-rows.csv --only ok --dedupe --delimiter ';' --report ";
        assert!(shown.starts_with(expected), "{shown}");
    }

    #[test]
    fn a_quota_url_with_a_password_is_not_shown() {
        for url in ["redis://:pw@host", "redis+unix:///x?pass=pw"] {
            let given = given(["zim-batch", "clear", "a.csv", "--quota", url]);
            assert_eq!(resume(&given), "zim-batch clear a.csv --resume");
            assert!(app_and_rate(&given).is_empty());
            assert!(to_provide_again(&given)[0].contains("ZIM_QUOTA"));
        }
        let plain = given(["zim-batch", "clear", "a.csv", "--quota", "redis://host"]);
        assert_eq!(resume(&plain), "zim-batch clear a.csv --quota redis://host --resume");
        assert!(to_provide_again(&plain).is_empty());
    }

    #[test]
    fn the_input_of_pipes_must_be_provided_again() {
        let told = |typed: &str| to_provide_again(&given(typed.split_whitespace()));
        assert!(told("zim-batch clear rows.csv --report a-b").is_empty());
        let said = told("zim-batch clear /dev/fd/63 --secret-file=/proc/self/fd/3").join("");
        assert!(said.contains("/dev/fd/63 and --secret-file /proc/self/fd/3"), "{said}");
        assert_eq!(told("zim-batch clear -").len(), 1);
        assert!(told("zim-batch list users.csv --rows -").is_empty());
    }
}
