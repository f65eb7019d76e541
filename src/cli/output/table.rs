//! The summary as a table on stdout: at the end of a run, and of a report.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use zim_batch::code;
use zim_batch::page::NextStep;
use zim_batch::reasons::Reason;
use zim_batch::row::Outcome;
use zim_batch::run::summary::{Summary, UsersSummary};
use zim_batch::stop::StopReason;
use zim_batch::text::{grouped, one_line};

use crate::cli::errors::hints;
use crate::cli::output::language::Language;
use crate::cli::output::next;
use crate::cli::output::wrapped::{INDENT, wrapped};

/// The maximum number of each that a table lists, so that the end of a run fits on a screen.
pub const SHOWN: usize = 10;

/// What is said of users with as many conversations as ZIM lists.
pub const FULL: &str =
    "with 1,000 conversations or more: ZIM lists the newest 1,000, and older ones, if any, are out of reach";

/// Up to this share of `limited` answers, jitter alone may be the cause: requests were sent evenly, but arrived closer
/// together.
const JITTER_UP_TO: f64 = 0.05;

/// The end of a run.
pub struct Table<'a> {
    pub summary: &'a Summary,
    pub next: &'a [NextStep],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.summary;
        // After that, the run is to be started again.
        let resumes = !matches!(summary.stopped, Some(StopReason::AllRejected { .. }));
        fmt_rows(f, summary, resumes)?;
        fmt_requests(f, summary)?;
        fmt_latency(f, summary)?;
        if let Some(rows) = &summary.rows_file {
            let rows = if rows == "-" { "standard output" } else { rows };
            writeln!(f, "rows           {}", one_line(rows))?;
        }
        if let Some(list) = &summary.list_report {
            writeln!(f, "list report    {}", one_line(list))?;
        }
        let report = if summary.conversations.is_some() {
            "list report"
        } else {
            "report"
        };
        let path = |path: &Option<String>| one_line(path.as_deref().unwrap_or("none")).into_owned();
        writeln!(f, "{report:<15}{}", path(&summary.report))?;
        if summary.outside_log.is_some() {
            writeln!(f, "outside log    {}", path(&summary.outside_log))?;
        }
        fmt_reasons(f, summary, SHOWN, Language::English)?;
        if summary.last_error.is_some() || summary.stopped.is_some() {
            writeln!(f)?;
        }
        if let Some(error) = &summary.last_error {
            writeln!(f, "last error     {error}")?;
        }
        if let Some(why) = hints::stopped(summary) {
            writeln!(f, "stopped        {why}")?;
        }
        f.write_str(&next::as_text(self.next, ""))
    }
}

/// The rows or users, by outcome. `resumes`: those without a record are for `--resume`.
pub fn fmt_rows(f: &mut fmt::Formatter<'_>, summary: &Summary, resumes: bool) -> fmt::Result {
    let is_list = summary.conversations.is_some();
    if summary.simulated {
        let cleared = if is_list { "" } else { ", and nothing was cleared" };
        writeln!(f, "simulated      nothing was sent to ZIM{cleared}")?;
    }
    if let Some(users) = &summary.users {
        fmt_users(f, users, resumes)?;
    }
    let not_run = match (resumes, is_list) {
        (true, true) => "no record yet; to list them, use --resume",
        (true, false) => "no record yet; to send them, use --resume",
        (false, _) => "no record yet",
    };
    writeln!(
        f,
        "{:<15}{:>12}",
        if is_list { "users" } else { "rows" },
        grouped(summary.rows)
    )?;
    let already_done = match summary.already_failed {
        0 => "by an earlier run".to_owned(),
        bad => format!("by an earlier run; {} of them failed or invalid", grouped(bad)),
    };
    writeln!(f, "  ok           {:>12}", grouped(summary.ok))?;
    for (name, number, note) in [
        ("outside", summary.outside, "out of reach, not cleared"),
        ("failed", summary.failed, ""),
        ("invalid", summary.invalid, "not sent"),
        ("skipped", summary.skipped, "repeated, not sent"),
        ("already done", summary.already_done, &already_done),
        ("not run", summary.not_run, not_run),
    ] {
        fmt_line(f, name, number, note)?;
    }
    if let Some(conversations) = summary.conversations {
        writeln!(f, "conversations  {:>12}", grouped(conversations))?;
    }
    match summary.users_full {
        Some(users @ 1..) => fmt_texts(f, "  full users", users, [FULL.to_owned()]),
        _ => Ok(()),
    }
}

/// The users of a run that clears what it lists, by outcome.
fn fmt_users(f: &mut fmt::Formatter<'_>, users: &UsersSummary, resumes: bool) -> fmt::Result {
    let not_run = match resumes {
        true => "not listed yet; to list them, use --resume",
        false => "not listed yet",
    };
    writeln!(f, "users          {:>12}", grouped(users.total))?;
    writeln!(f, "  listed       {:>12}", grouped(users.ok))?;
    for (name, number, note) in [
        ("failed", users.failed, "not listed"),
        ("invalid", users.invalid, "not sent"),
        ("skipped", users.skipped, "repeated, not sent"),
        ("not run", users.not_run, not_run),
    ] {
        fmt_line(f, name, number, note)?;
    }
    Ok(())
}

/// A number that is shown only if it is not zero.
fn fmt_line(f: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str) -> fmt::Result {
    match number {
        0 => Ok(()),
        number => {
            let line = format!("  {name:<13}{:>12}  {note}", grouped(number));
            writeln!(f, "{}", line.trim_end())
        }
    }
}

/// The requests of a run, and their answers.
fn fmt_requests(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    writeln!(f, "requests       {:>12}  {}", grouped(summary.requests), pace(summary))?;
    let others = (summary.runs as u64).saturating_sub(1);
    let note = match others {
        1 => "other run of this app",
        _ => "other runs of this app, at most at a time",
    };
    fmt_line(f, "shared with", others, note)?;
    let item = if summary.conversations.is_some() { "page" } else { "row" };
    let retries = format!("requests that were not a {item}'s first");
    fmt_line(f, "retries", summary.retries, &retries)?;
    fmt_line(f, "limited", summary.limited, &why_limited(summary))?;
    let retried = summary.retried.iter().filter(|(code, _)| **code != 0);
    for (index, (&code, &answers)) in retried.enumerate() {
        if index == 0 {
            writeln!(f, "other answers (retried, or they ended the run):")?;
        }
        fmt_line(f, &code.to_string(), answers, &shortened(meaning(code)))?;
    }
    Ok(())
}

/// The latency of the answers, if there were any.
pub fn fmt_latency(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    let latency = summary.latency_ms;
    if latency.max == 0.0 {
        return Ok(());
    }
    let [p50, p90, p99, max] =
        [latency.p50, latency.p90, latency.p99, latency.max].map(|time| grouped(time.round() as u64));
    writeln!(
        f,
        "latency        {p50:>9} ms  median; 90 % {p90} ms, 99 % {p99} ms, longest {max} ms",
    )
}

/// Why rows are failed or invalid, with their lines: at most `most` reasons, and `most` lines of invalid rows for each.
pub fn fmt_reasons(f: &mut fmt::Formatter<'_>, summary: &Summary, most: usize, language: Language) -> fmt::Result {
    let rows = &summary.reasons;
    let (input, rows_file) = (
        lines_of(&summary.input, "the input"),
        lines_of(&summary.rows_file, "the rows file"),
    );
    match (&summary.users, summary.conversations) {
        (None, None) => fmt_reasons_of(f, rows, ["not cleared", "rows", &input], most, language),
        (None, Some(_)) => fmt_reasons_of(f, rows, ["not listed", "users", &input], most, language),
        (Some(users), _) => {
            fmt_reasons_of(f, &users.reasons, ["not listed", "users", &input], most, language)?;
            fmt_reasons_of(f, rows, ["not cleared", "rows", &rows_file], most, language)
        }
    }
}

/// The name of the file that lines are of. A run of an earlier report has lines of that report.
pub fn lines_of(file: &Option<String>, unknown: &str) -> String {
    let name = file
        .as_deref()
        .filter(|file| *file != "-")
        .and_then(|file| Path::new(file).file_name());
    name.map_or(unknown.to_owned(), |name| {
        one_line(&name.to_string_lossy()).into_owned()
    })
}

fn fmt_reasons_of(
    f: &mut fmt::Formatter<'_>,
    reasons: &[Reason],
    [title, noun, file]: [&str; 3],
    most: usize,
    language: Language,
) -> fmt::Result {
    if reasons.is_empty() {
        return Ok(());
    }
    // Those of several reports are on lines of different inputs.
    let has_lines = reasons.iter().any(|reason| !reason.lines.is_empty());
    let on_lines = has_lines.then(|| format!(", and on which lines of {file}"));
    writeln!(f, "\n{title:<13}{noun:>12}  why{}", on_lines.unwrap_or_default())?;
    for reason in reasons.iter().take(most) {
        // Invalid rows must be found and corrected in the input; failed rows are sent again by a command.
        let most_lines = match reason.outcome {
            Outcome::Invalid => most,
            _ => SHOWN,
        };
        let lines = (!reason.lines.is_empty()).then(|| lines(reason, most_lines));
        let texts = [why(reason, language)].into_iter().chain(lines);
        fmt_texts(f, reason.outcome.as_str(), reason.rows, texts)?;
    }
    match reasons.len().saturating_sub(most) {
        0 => Ok(()),
        1 => writeln!(f, "  and 1 more reason (see the report)"),
        more => writeln!(f, "  and {} more reasons (see the report)", grouped(more as u64)),
    }
}

fn why(reason: &Reason, language: Language) -> String {
    let message = one_line(&reason.message);
    match reason.code.map(|code| (code, code::find(code))) {
        Some((code, Some(known))) if known.meaning != message => {
            format!("code {code}: {} ('{message}')", language.meaning(known))
        }
        Some((code, _)) => format!("code {code}: {message}"),
        None => message.into_owned(),
    }
}

/// A name and a number with texts beside them, each of which begins on a line.
pub fn fmt_texts(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    number: u64,
    texts: impl IntoIterator<Item = String>,
) -> fmt::Result {
    let texts: Vec<String> = texts.into_iter().map(|text| wrapped(&text)).collect();
    let texts = texts.join(&format!("\n{:INDENT$}", ""));
    writeln!(f, "{name:<13}{:>12}  {texts}", grouped(number))
}

/// The lines of the input, at most `most` of them.
fn lines(reason: &Reason, most: usize) -> String {
    let shown: Vec<String> = reason.lines.iter().take(most).map(u64::to_string).collect();
    let more = reason.rows - shown.len() as u64;
    let mut text = format!("line{} {}", if reason.rows == 1 { "" } else { "s" }, shown.join(", "));
    if more > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, " and {} more", grouped(more));
    }
    text
}

/// The meaning of a return code.
fn meaning(code: i64) -> &'static str {
    code::find(code).map_or("not in ZEGO's published lists", |known| known.meaning)
}

/// Shortens a text between words, so that it fits beside a count in 80 columns.
fn shortened(text: &str) -> String {
    match wrapped(text).split_once('\n') {
        Some((line, _)) => format!("{line} …"),
        None => text.to_owned(),
    }
}

/// The probable reason why the server refused requests.
fn why_limited(summary: &Summary) -> String {
    match summary.limited as f64 / summary.requests as f64 {
        _ if summary.peak_1s > summary.cap => "rate limited: too many requests per second".into(),
        ..JITTER_UP_TO => format!(
            "rate limited, although at most {} start in any second",
            grouped(summary.cap)
        ),
        _ => "rate limited: other traffic probably shares the quota".into(),
    }
}

fn took(summary: &Summary) -> String {
    match summary.elapsed_s {
        ..60.0 => format!("{:.1} s", summary.elapsed_s),
        more => humantime::format_duration(Duration::from_secs(more as u64)).to_string(),
    }
}

/// `in 10.1 s: 19.91/s, peak 20 in one second`; for a run that is too short for a rate, only the time. The rate is that
/// between the first request and the last, which is said if the run waited before or after them.
pub fn pace(summary: &Summary) -> String {
    let rate = match summary.rate {
        ..0.005 => return format!("in {}", took(summary)),
        _ if summary.elapsed_s < 1.0 => return format!("in {}", took(summary)),
        ..1000.0 => format!("{:.2}", summary.rate),
        many => grouped(many as u64),
    };
    let waited = summary.requests as f64 / summary.elapsed_s < 0.9 * summary.rate;
    let span = if waited { " from the first to the last" } else { "" };
    let (took, peak) = (took(summary), grouped(summary.peak_1s));
    format!("in {took}: {rate}/s{span}, peak {peak} in one second")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn table(summary: &Summary) -> String {
        Table { summary, next: &[] }.to_string()
    }

    #[test]
    fn retried_answers_are_listed_below_the_requests() {
        let table = table(&Summary {
            rows: 4,
            ok: 4,
            retried: BTreeMap::from([(0, 1), (660000001, 2)]),
            ..Summary::default()
        });
        let (rows, answers) = table.split_once("other answers").unwrap();
        assert!(!rows.contains("660000001") && answers.contains("660000001"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn a_short_run_shows_no_rate_and_a_long_one_does() {
        let mut summary = Summary {
            elapsed_s: 0.14,
            ..Summary::default()
        };
        assert_eq!(pace(&summary), "in 0.1 s");
        (summary.elapsed_s, summary.rate, summary.peak_1s) = (10.1, 20.0, 20);
        summary.requests = 201;
        assert_eq!(pace(&summary), "in 10.1 s: 20.00/s, peak 20 in one second");
        // The run was paused for most of the time, so requests and time would give another rate.
        summary.elapsed_s = 101.0;
        assert_eq!(
            pace(&summary),
            "in 1m 41s: 20.00/s from the first to the last, peak 20 in one second"
        );
    }

    #[test]
    fn limited_answers_are_explained() {
        let mut refused = Summary {
            cap: 20,
            limited: 7,
            requests: 600,
            ..Summary::default()
        };
        let said = table(&refused);
        assert!(said.contains("although at most 20 start in any second"), "{said}");
        refused.limited = 60;
        let said = table(&refused);
        assert!(said.contains("other traffic probably"), "{said}");
        refused.peak_1s = 21;
        let said = table(&refused);
        assert!(said.contains("too many requests"), "{said}");
    }

    #[test]
    fn the_last_error_and_the_reason_for_a_stop_come_last() {
        let said = table(&Summary {
            last_error: Some("timed out after 10s".into()),
            stopped: Some(StopReason::Signal(2)),
            ..Summary::default()
        });
        assert!(
            said.ends_with("\nlast error     timed out after 10s\nstopped        SIGINT\n"),
            "{said}"
        );
    }
}
