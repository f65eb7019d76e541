//! What `check` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use humantime::format_duration;
use serde_json::{Value, json};
use zim_batch::row::Numbered;
use zim_batch::rows::Source;
use zim_batch::rows::check::{Finding, Findings, MAX_REACHABLE};
use zim_batch::text::{clock, ends_at, grouped, one_line};
use zim_batch::{Timetable, User};

use crate::cli::args::Given;
use crate::cli::errors::{Error, hints};
use crate::cli::output::next;
use crate::cli::output::print::print;
use crate::cli::output::table::FULL;
use crate::cli::output::wrapped::{INDENT, wrapped};
use crate::cli::settings::input::InputSettings;

/// How many busy users are shown.
const BUSY_SHOWN: usize = 10;

/// How many users who do not exist are shown.
const MISSING_SHOWN: usize = 20;

/// What ZIM said about the users.
pub struct Online {
    pub existing: u64,
    /// Users who don't exist, by their first lines.
    pub missing: Vec<Numbered<User>>,
    /// Users who could not be looked up.
    pub unknown: u64,
    /// Why not all users were looked up.
    pub stopped: Option<String>,
}

impl Online {
    /// Whether all requests were made, and ZIM answered at least one of them.
    pub fn is_answered(&self) -> bool {
        self.stopped.is_none() && !self.has_failed()
    }

    /// Whether there were users, and nothing is known of any.
    pub fn has_failed(&self) -> bool {
        self.unknown > 0 && self.existing == 0 && self.missing.is_empty()
    }
}

/// The result of a check.
pub struct Checked<'a> {
    pub findings: Findings,
    /// What ZIM said about the users, if it was asked.
    pub online: Option<&'a Online>,
    pub input: &'a InputSettings,
    /// The rate of a run.
    pub rate: Timetable,
    /// When a run that begins now ends by the clock.
    pub until: Option<SystemTime>,
    /// The commands to run next, each with what it is for.
    pub to_run: Vec<(&'static str, String)>,
}

/// What a command is for that does what was checked.
pub const TO_RUN: &str = "to run it";

/// The commands to run next: send the rows, or list the conversations of the users, and clear them or not.
pub fn to_run(findings: &Findings, source: &Source, given: &Given) -> Vec<(&'static str, String)> {
    match source {
        Source::File(users) if findings.are_users() => vec![
            ("to clear them", next::clear_users(users, given)),
            ("to list them", next::list(users, given)),
        ],
        _ => vec![(TO_RUN, next::clear(source, given, true))],
    }
}

impl Checked<'_> {
    /// Whether there are rows that make the exit status 3.
    pub fn has_bad_rows(&self) -> bool {
        self.findings.invalid_rows() > 0 && !self.input.ignore_invalid
    }

    /// Prints the result, and for people a note.
    pub fn print(&self, as_json: bool, note: Option<String>) -> Result<(), Error> {
        let text = if as_json {
            format!("{}\n", self.json())
        } else {
            let note = note.map_or_else(String::new, |note| format!("\n{note}\n"));
            self.text() + &note
        };
        print(&text)?;
        Ok(())
    }

    /// How many rows a run would send, or users it would list.
    fn rows_to_send(&self) -> u64 {
        let findings = &self.findings;
        let selection = &self.input.selection;
        let are_sent_once = selection.dedupe || findings.are_users();
        let repeats = if are_sent_once { findings.duplicates.rows } else { 0 };
        let rows = findings.peer + findings.group - repeats;
        selection.limit.map_or(rows, |limit| limit.min(rows))
    }

    /// How many seconds a run takes at least; with a timetable, one that begins now. `None` if that is more than ten years.
    fn seconds(&self) -> Option<f64> {
        let rows = self.rows_to_send() as f64;
        match self.rate.constant() {
            Some(rate) => Some(rows / rate.per_second()),
            None => Some(self.rate.time_for(rows, SystemTime::now())?.as_secs_f64()),
        }
    }

    /// The same for people, with the rate: `at 20/s: 5m`. `more` follows the time if it takes longer.
    fn time_in_words(&self, more: &str) -> String {
        let takes = self.seconds().map(|seconds| Duration::from_secs(seconds.ceil() as u64));
        let time = takes.map_or("more than ten years".into(), |takes| {
            format!("{}{more}", format_duration(takes))
        });
        match (self.rate.constant(), takes) {
            (Some(rate), _) => format!("at {rate}/s: {time}"),
            (None, None) => format!("{}: {time}", self.rate.in_words()),
            (None, Some(takes)) => format!(
                "{}: {time} if started now, until {}",
                self.rate.in_words(),
                clock(SystemTime::now() + takes)
            ),
        }
    }

    fn json(&self) -> Value {
        let findings = &self.findings;
        let mut object = json!({
            "columns": findings.columns,
            "rows": findings.rows,
            "valid": findings.peer + findings.group,
            "invalid": findings.invalid_rows(),
            "duplicates": findings.duplicates.rows,
            "warnings": findings.warned_rows(),
            "to_send": self.rows_to_send(),
            "rate": self.rate,
            "seconds_at_rate": self.seconds().map(|seconds| (seconds * 1000.0).round() / 1000.0),
            "peer": findings.peer,
            "group": findings.group,
            "users": findings.users,
            "invalid_kinds": kinds(&findings.invalid),
            "warning_kinds": kinds(&findings.warnings),
            "duplicate_lines": findings.duplicates.first_lines,
            "users_full": findings.users_full,
            "busy_users": findings.busy_users,
        });
        if let Some(online) = self.online {
            let lines: Vec<u64> = online.missing.iter().map(|user| user.line).collect();
            object["users_missing"] = lines.len().into();
            object["missing_lines"] = lines.into();
            object["users_unknown"] = online.unknown.into();
            object["stopped"] = online.stopped.clone().into();
        }
        object
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = self.write_findings(&mut text);
        if let Some(online) = self.online {
            let _ = write_users(&mut text, online, self.findings.are_users());
        }
        // With users who can't be looked up, there is nothing to say about a run.
        if self.online.is_none_or(Online::is_answered) {
            let _ = self.write_run(&mut text);
        }
        text
    }

    fn write_findings(&self, text: &mut String) -> std::fmt::Result {
        let findings = &self.findings;
        let are_users = findings.are_users();
        writeln!(text, "columns        {}", findings.columns)?;
        if let Some(user) = &findings.assumed_user {
            let assumed = hints::assumed_user(&self.input.source, user);
            writeln!(text, "{:INDENT$}{}", "", wrapped(&one_line(&assumed)))?;
        }
        let (rows, users) = (grouped(findings.rows), grouped(findings.users));
        if are_users {
            writeln!(text, "users          {rows:>12}  {users} of them different")?;
        } else {
            let (peer, group) = (grouped(findings.peer), grouped(findings.group));
            let noun = if findings.users == 1 { "user" } else { "users" };
            writeln!(
                text,
                "rows           {rows:>12}  {peer} to peers, {group} to groups, of {users} {noun}"
            )?;
        }
        write_kinds(
            text,
            "invalid",
            findings.invalid_rows(),
            "never sent",
            &findings.invalid,
        )?;
        if let Some(diagnosis) = findings.diagnosis {
            writeln!(text, "  {:>25}  {}", "", hints::diagnosis(diagnosis))?;
        }
        if findings.duplicates.rows > 0 {
            let note = if self.input.selection.dedupe || are_users {
                "sent once"
            } else {
                "each is sent, unless --dedupe is given"
            };
            let (rows, lines) = (grouped(findings.duplicates.rows), lines(&findings.duplicates));
            writeln!(text, "duplicates     {rows:>12}  {note}; {lines}")?;
        }
        write_kinds(
            text,
            "warnings",
            findings.warned_rows(),
            "sent as they are",
            &findings.warnings,
        )?;
        if findings.users_full > 0 {
            writeln!(text, "full users     {:>12}  {FULL}", grouped(findings.users_full))?;
        }
        if !findings.busy_users.is_empty() {
            writeln!(
                text,
                "busy users     {:>12}  with more than {MAX_REACHABLE} conversations here; the older ones will be outside",
                grouped(findings.busy_users.len() as u64)
            )?;
        }
        for busy in findings.busy_users.iter().take(BUSY_SHOWN) {
            let name = if busy.user.is_empty() {
                String::new()
            } else {
                format!("'{}', ", one_line(&busy.user))
            };
            let conversations = grouped(busy.conversations);
            writeln!(text, "  {conversations:>25}  {name}from line {}", busy.first_line)?;
        }
        Ok(())
    }

    /// What a run would do.
    fn write_run(&self, text: &mut String) -> std::fmt::Result {
        let to_send = self.rows_to_send();
        if self.findings.are_users() {
            writeln!(
                text,
                "requests       {:>12}  or more, to list them; {}",
                grouped(to_send),
                self.time_in_words(" or more")
            )?;
            return match self.input.source {
                Source::File(_) if to_send > 0 => self.write_to_run(text),
                _ => Ok(()),
            };
        }
        let time = self.time_in_words("");
        writeln!(text, "requests       {:>12}  {time}", grouped(to_send))?;
        match (to_send, self.findings.rows) {
            (0, 0) => writeln!(text, "nothing to run: there are no rows"),
            (0, _) => writeln!(
                text,
                "nothing to run: all rows are invalid. Correct the rows, or change how they are read:\n  \
                 --columns (which column is which), --types (other words for the types), --encoding"
            ),
            _ => self.write_to_run(text),
        }
    }

    fn write_to_run(&self, text: &mut String) -> std::fmt::Result {
        if let Some(until) = self.until {
            writeln!(text, "until          {} at the latest (--until)", ends_at(until))?;
        }
        let mut commands = self.to_run.iter();
        commands.try_for_each(|(what, command)| writeln!(text, "{what:<15}{command}"))
    }
}

/// The users who do not exist, by their first lines.
fn write_users(text: &mut String, online: &Online, are_listed: bool) -> std::fmt::Result {
    let missing = &online.missing;
    writeln!(
        text,
        "users found    {:>12}  exist, according to ZIM",
        grouped(online.existing)
    )?;
    if !missing.is_empty() {
        let number = grouped(missing.len() as u64);
        let will_fail = match are_listed {
            true => "listing them will fail",
            false => "clears for them will fail",
        };
        writeln!(text, "users missing  {number:>12}  do not exist; {will_fail}")?;
    }
    for user in missing.iter().take(MISSING_SHOWN) {
        writeln!(
            text,
            "  {:>25}  '{}'",
            format!("line {}", user.line),
            one_line(user.item.id())
        )?;
    }
    if missing.len() > MISSING_SHOWN {
        writeln!(
            text,
            "  {:>25}  more: see --json, or --missing FILE for their rows",
            "…"
        )?;
    }
    if online.unknown > 0 {
        writeln!(
            text,
            "users unknown  {:>12}  could not be looked up",
            grouped(online.unknown)
        )?;
    }
    Ok(())
}

/// How many rows have something in common, and each kind of it.
fn write_kinds(
    text: &mut String,
    name: &str,
    rows: u64,
    note: &str,
    kinds: &BTreeMap<String, Finding>,
) -> std::fmt::Result {
    if rows > 0 {
        writeln!(text, "{name:<15}{:>12}  {note}", grouped(rows))?;
    }
    for (kind, finding) in kinds {
        writeln!(text, "  {:>25}  {kind}; {}", grouped(finding.rows), lines(finding))?;
    }
    Ok(())
}

fn kinds(kinds: &BTreeMap<String, Finding>) -> Value {
    let kind = |(kind, finding): (&String, &Finding)| {
        json!({
            "what": kind,
            "rows": finding.rows,
            "first_lines": finding.first_lines,
            "example": finding.example,
        })
    };
    kinds.iter().map(kind).collect()
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
