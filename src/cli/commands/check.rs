//! `zim-batch check`: reads and validates everything, clears nothing; with `--online`, asks ZIM which users exist.

mod online;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use zim_batch::Rate;
use zim_batch::rows;
use zim_batch::rows::check::{Finding, Findings, MAX_REACHABLE};
use zim_batch::text::{grouped, one_line};

use crate::cli::engine::batch;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::shell::print;
use crate::cli::settings::CheckSettings;
use crate::cli::settings::input::InputSettings;
use online::{Online, users_as_text};

/// How many busy users are shown.
const BUSY_SHOWN: usize = 10;

pub async fn check(settings: CheckSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let CheckSettings {
        input,
        rate,
        without_profile,
        json,
        given,
        is_dry_run,
        online,
    } = settings;
    if let Some(online) = online {
        return online::check(&input, online, &given, terminal).await;
    }
    if let Some(error) = without_profile {
        tracing::warn!("{error}; the time is that of a run without a profile");
    }
    batch::say_if_typed(&input.source, "rows");
    let findings = rows::check::check(&input.source, &input.format, &input.selection)?;
    let to_run = match is_dry_run {
        true => next::without_dry_run(&given),
        false => next::clear(&input.source, &given, true),
    };
    show(&findings, None, &input, rate, json, &to_run)?;
    Ok(ExitStatus::of_rows(findings.invalid_rows() > 0 && !input.ignore_invalid).into())
}

/// Prints what was found.
fn show(
    findings: &Findings,
    online: Option<&Online>,
    input: &InputSettings,
    rate: Rate,
    json: bool,
    to_run: &str,
) -> Result<(), Error> {
    let repeats = if input.selection.dedupe {
        findings.duplicates.rows
    } else {
        0
    };
    let sent = findings.peer + findings.group - repeats;
    let sent = input.selection.limit.map_or(sent, |limit| limit.min(sent));
    let seconds = sent as f64 / rate.per_second();
    if json {
        let mut object = as_json(findings, sent, rate, seconds);
        if let Some(online) = online {
            let lines: Vec<u64> = online.found.missing.iter().map(|user| user.line).collect();
            object["users_missing"] = lines.len().into();
            object["missing_lines"] = lines.into();
            object["users_unknown"] = online.unknown().into();
            object["stopped"] = online.stopped.clone().into();
        }
        print(&format!("{object}\n"))?;
    } else {
        print(&as_text(findings, online, sent, rate, seconds, input, to_run))?;
    }
    Ok(())
}

fn as_json(findings: &Findings, sent: u64, rate: Rate, seconds: f64) -> serde_json::Value {
    let kinds = |kinds: &BTreeMap<String, Finding>| -> serde_json::Value {
        kinds
            .iter()
            .map(|(kind, finding)| {
                serde_json::json!({
                    "what": kind,
                    "rows": finding.rows,
                    "first_lines": finding.first_lines,
                    "example": finding.example,
                })
            })
            .collect()
    };
    serde_json::json!({
        "rows": findings.rows,
        "valid": findings.peer + findings.group,
        "invalid": findings.invalid_rows(),
        "duplicates": findings.duplicates.rows,
        "warnings": findings.warned_rows(),
        "to_send": sent,
        "rate": rate,
        "seconds_at_rate": (seconds * 1000.0).round() / 1000.0,
        "peer": findings.peer,
        "group": findings.group,
        "users": findings.users,
        "invalid_kinds": kinds(&findings.invalid),
        "warning_kinds": kinds(&findings.warnings),
        "duplicate_lines": findings.duplicates.first_lines,
        "busy_users": findings.busy_users,
    })
}

fn as_text(
    findings: &Findings,
    online: Option<&Online>,
    sent: u64,
    rate: Rate,
    seconds: f64,
    input: &InputSettings,
    to_run: &str,
) -> String {
    let mut text = String::new();
    let are_users = online.is_some_and(|online| online.are_users);
    // Writing to a String does not fail.
    let _ = match are_users {
        true => writeln!(
            text,
            "users          {:>12}  {} of them different",
            grouped(findings.rows),
            grouped(findings.users)
        ),
        false => writeln!(
            text,
            "rows           {:>12}  {} to peers, {} to groups, of {} users",
            grouped(findings.rows),
            grouped(findings.peer),
            grouped(findings.group),
            grouped(findings.users)
        ),
    };
    section(
        &mut text,
        "invalid",
        findings.invalid_rows(),
        "never sent",
        &findings.invalid,
    );
    if findings.duplicates.rows > 0 {
        let lines = lines(&findings.duplicates);
        let note = if input.selection.dedupe || are_users {
            "sent once"
        } else {
            "each is sent, unless --dedupe is given"
        };
        let _ = writeln!(
            text,
            "duplicates     {:>12}  {note}; {lines}",
            grouped(findings.duplicates.rows)
        );
    }
    section(
        &mut text,
        "warnings",
        findings.warned_rows(),
        "sent as they are",
        &findings.warnings,
    );
    if !findings.busy_users.is_empty() {
        let _ = writeln!(
            text,
            "busy users     {:>12}  with more than {MAX_REACHABLE} conversations here; the older ones will be outside",
            grouped(findings.busy_users.len() as u64)
        );
        for busy in findings.busy_users.iter().take(BUSY_SHOWN) {
            let name = if busy.user.is_empty() {
                String::new()
            } else {
                format!("'{}', ", one_line(&busy.user))
            };
            let _ = writeln!(
                text,
                "  {:>25}  {name}from line {}",
                grouped(busy.conversations),
                busy.first_line
            );
        }
    }
    text += &online.map(users_as_text).unwrap_or_default();
    let is_stopped = online.is_some_and(|online| online.stopped.is_some() || online.has_failed());
    if are_users || is_stopped {
        // Nothing can be said of a run to clear these.
        return text;
    }
    let time = Duration::from_secs(seconds.ceil() as u64);
    let _ = writeln!(
        text,
        "requests       {:>12}  at {rate}/s: {}",
        grouped(sent),
        humantime::format_duration(time)
    );
    let _ = match (sent, findings.rows) {
        (0, 0) => writeln!(text, "nothing to run: there are no rows"),
        (0, _) => writeln!(
            text,
            "nothing to run: all rows are invalid. Correct the rows, or change how they are read:\n  \
             --columns (which column is which), --types (other words for the types), --encoding"
        ),
        _ => writeln!(text, "to run it      {to_run}"),
    };
    text
}

fn section(text: &mut String, name: &str, rows: u64, note: &str, kinds: &BTreeMap<String, Finding>) {
    if rows > 0 {
        let _ = writeln!(text, "{name:<15}{:>12}  {note}", grouped(rows));
        for (kind, finding) in kinds {
            let _ = writeln!(text, "  {:>25}  {kind}; {}", grouped(finding.rows), lines(finding));
        }
    }
}

fn lines(finding: &Finding) -> String {
    let shown: Vec<String> = finding.first_lines.iter().map(u64::to_string).collect();
    let more = if finding.rows > shown.len() as u64 { ", …" } else { "" };
    let example = finding.example.as_ref().map(|example| format!(" ({example})"));
    format!(
        "line{} {}{more}{}",
        if finding.rows == 1 { "" } else { "s" },
        shown.join(", "),
        example.unwrap_or_default()
    )
}
