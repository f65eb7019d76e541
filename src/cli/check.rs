//! `zim-batch check`: reads and validates everything, clears nothing; with `--online`, asks ZIM which users exist.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use zim_batch::client::{Found, Lookup, MAX_USERS, UserLookup};
use zim_batch::report::ReportError;
use zim_batch::report::show::grouped;
use zim_batch::rows::check::{Finding, Findings, MAX_REACHABLE};
use zim_batch::rows::{self, CopyError, Format, InputError, Only, Reads, Rows, copy_rows};
use zim_batch::run::{Job, Limits};
use zim_batch::{Outcome, Record, User};

use super::batch::{self, Session};
use super::error::Error;
use super::progress::{Progress, Terminal};
use super::shell::{print_error, print_note, quoted};
use super::{AppArgs, CheckArgs, ExitStatus, Logging, RowsArgs, derived, hints, print, settings};

/// How many busy users are shown.
const BUSY_SHOWN: usize = 10;

/// How many users who do not exist are shown.
const MISSING_SHOWN: usize = 20;

/// The default of `--give-up-after`: a check is to say soon that the service can't be reached.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

pub async fn check(args: CheckArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    if args.online {
        return online(&args, logging, terminal).await;
    }
    let AppArgs {
        app_id,
        secret_file,
        region,
        endpoint,
        ca_cert,
        simulate,
    } = &args.app;
    if app_id.is_some()
        || [secret_file, ca_cert].iter().any(|path| path.is_some())
        || region.is_some()
        || endpoint.is_some()
        || *simulate
    {
        return Err(Error::Usage(
            "check sends nothing, so it needs no app; to ask ZIM which users exist, add --online".into(),
        ));
    }
    let limit = args.pace.limit.map(NonZeroU64::get);
    offline(&args.rows, args.pace.rate, limit, args.json, None)
}

/// `limit` is the maximum number of rows that a run would send. `to_run` is the command that sends the rows; if `None`, it
/// is made from the arguments.
pub fn offline(
    args: &RowsArgs,
    rate: f64,
    limit: Option<u64>,
    json: bool,
    to_run: Option<String>,
) -> Result<ExitCode, Error> {
    batch::say_if_typed(&args.source(), "rows");
    let selection = args.selection();
    let findings = rows::check::check(&args.source(), &settings::format(args), &selection)?;
    show(&findings, None, args, rate, limit, json, to_run)?;
    Ok(ExitStatus::of_rows(findings.invalid_rows() > 0 && !args.dialect.ignore_invalid).into())
}

/// Whether a check would read from this file or write to it.
pub fn uses(args: &CheckArgs, file: &Path) -> bool {
    let others = [&args.missing, &args.app.secret_file, &args.app.ca_cert];
    let mut files = others.into_iter().flatten().chain([&args.rows.rows]);
    files.any(|path| settings::same_file(path, file))
}

/// What ZIM said about the users.
struct Online {
    found: Found,
    /// Users of the rows that can be sent.
    users: u64,
    /// Why not all users were looked up.
    stopped: Option<String>,
    /// The input is a list of users, not of rows.
    are_users: bool,
}

impl Online {
    /// Whether there were users, and nothing is known of any.
    fn has_failed(&self) -> bool {
        self.users > 0 && self.unknown() == self.users
    }

    fn unknown(&self) -> u64 {
        self.users - self.found.existing - self.found.missing.len() as u64
    }
}

async fn online(args: &CheckArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    let (source, format, selection) = (args.rows.source(), rows_or_users(&args.rows), args.rows.selection());
    if let Some(missing) = &args.missing {
        let used = [
            Some(&args.rows.rows),
            args.app.secret_file.as_ref(),
            args.app.ca_cert.as_ref(),
        ];
        let used: Vec<PathBuf> = used.into_iter().flatten().cloned().collect();
        derived::check("--missing", missing, "", &used)?;
        if !source.can_be_read_twice() {
            return Err(Error::Usage(
                "--missing reads the rows again when the users are known, so they must be in a file".into(),
            ));
        }
    }
    let mut session = Session::begin()?;
    let app = session.connect(&args.app, &args.pace).await?;
    let client = batch::build(&app, &args.app)?;
    batch::say_if_typed(&source, "rows");
    let mut users = Vec::new();
    let keep = |line, user: &str| {
        users.push(User {
            line,
            user: user.to_owned(),
        });
    };
    let findings = rows::check::check_with_users(&source, &format, &selection, keep)?;
    session.name = format!("check of {source}");
    session.join(&args.pace).await?;
    if !args.app.simulate {
        settings::announce(&app, &args.app, args.pace.rate);
    }
    let lookup = UserLookup::new(client);
    let found = lookup.found();
    let number = users.len() as u64;
    let lookups: Vec<Lookup> = users
        .chunks(MAX_USERS)
        .map(|users| Lookup::new(users.to_vec()))
        .collect();
    let style = batch::style(None, logging.quiet);
    let progress = Progress::new(style, terminal.clone(), Some(lookups.len() as u64), "requests");
    let (failed, failures) = mpsc::channel();
    let (answered, first_answer) = mpsc::channel();
    let keep_why = move |record: &Record| {
        // The receivers are there until they are no longer needed.
        let _ = answered.send(());
        if record.outcome == Outcome::Failed {
            let _ = failed.send(record.message.clone());
        }
    };
    let lookups = lookups.into_iter().enumerate().map(move |(index, lookup)| {
        if index == 1 {
            // The first answer shows whether credentials and endpoint are right. A run that stops drops the sender.
            let _ = first_answer.recv();
        }
        lookup
    });
    let job = Job::new(lookup, lookups)
        .on_record(keep_why)
        .limiter(session.limiter(args.pace.rate))
        .observer(progress);
    let limits = Limits {
        // With the first answer it is known whether credentials, clock and endpoint are right.
        max_rejected_alike: NonZeroU64::MIN,
        ..session.limits(&args.pace, GIVE_UP_AFTER)
    };
    let summary = session.drive(job, limits, &args.pace, &terminal, None).await?;
    let mut online = Online {
        found: found(),
        users: number,
        stopped: summary.stopped.as_ref().map(hints::stop_reason),
        are_users: format.reads == Reads::Users,
    };
    online.found.missing.sort_by_key(|user| user.line);
    if let Some(stop) = &summary.stopped {
        let service = format!("the AppId was {}, the endpoint {}", app.app_id(), app.endpoint_url());
        batch::say_why_it_stopped(&summary, stop, &service);
    }
    if let (true, Some(why)) = (summary.stopped.is_none(), failures.try_iter().last()) {
        print_error(&format!(
            "users that could not be looked up: {}; {why}",
            online.unknown()
        ));
    }
    if let Some(missing) = &args.missing {
        write_missing(args, &format, &online, missing)?;
    }
    let limit = args.pace.limit.map(NonZeroU64::get);
    show(
        &findings,
        Some(&online),
        &args.rows,
        args.pace.rate,
        limit,
        args.json,
        None,
    )?;
    let is_bad = findings.invalid_rows() > 0 && !args.rows.dialect.ignore_invalid;
    Ok(match &summary.stopped {
        Some(stop) => ExitStatus::from(stop),
        // All requests failed alike: this is not ZIM, or not the app.
        None if online.has_failed() => ExitStatus::Policy,
        None => ExitStatus::of_rows(is_bad || online.found.existing < online.users),
    }
    .into())
}

/// How to read the rows; users, if the columns show that the file is a list of users.
fn rows_or_users(args: &RowsArgs) -> Format {
    let (source, format) = (args.source(), settings::format(args));
    let users = Format {
        reads: Reads::Users,
        ..format.clone()
    };
    let is_unclear = |error: &InputError| matches!(error, InputError::Layout { .. });
    let are_users = source.can_be_read_twice()
        && Rows::open(&source, &format).is_err_and(|error| is_unclear(&error))
        && Rows::open(&source, &users).is_ok();
    if are_users { users } else { format }
}

/// Writes the rows of the users who do not exist.
fn write_missing(args: &CheckArgs, format: &Format, online: &Online, path: &Path) -> Result<(), Error> {
    if online.stopped.is_some() {
        print_note(&format!(
            "{}: not written, because not all users were looked up",
            path.display()
        ));
        return Ok(());
    }
    let missing: HashSet<&str> = online.found.missing.iter().map(|user| user.user.as_str()).collect();
    let (source, selection) = (args.rows.source(), args.rows.selection());
    derived::write(path, |out| {
        copy_rows(&source, format, &selection, |user| missing.contains(user), out)
    })
    .map_err(|error| match error {
        CopyError::Input(error) => error.into(),
        error => {
            let source = match error {
                CopyError::Write(source) => source,
                other => std::io::Error::other(other),
            };
            Error::Library(
                ReportError::Write {
                    path: path.to_owned(),
                    source,
                }
                .into(),
            )
        }
    })?;
    Ok(())
}

/// Prints what was found.
fn show(
    findings: &Findings,
    online: Option<&Online>,
    args: &RowsArgs,
    rate: f64,
    limit: Option<u64>,
    json: bool,
    to_run: Option<String>,
) -> Result<(), Error> {
    let sent = findings.peer + findings.group - if args.dedupe { findings.duplicates.rows } else { 0 };
    let sent = limit.map_or(sent, |limit| limit.min(sent));
    let seconds = sent as f64 / rate;
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
        let to_run = to_run.unwrap_or_else(|| command(args, rate));
        print(&as_text(findings, online, sent, rate, seconds, args, &to_run))?;
    }
    Ok(())
}

/// The users who do not exist, by their first lines.
fn users_as_text(online: &Online) -> String {
    let missing = &online.found.missing;
    let mut text = format!(
        "users found    {:>12}  exist, according to ZIM\n",
        grouped(online.found.existing)
    );
    if !missing.is_empty() {
        text += &format!(
            "users missing  {:>12}  do not exist; clears for them will fail\n",
            grouped(missing.len() as u64)
        );
        for user in missing.iter().take(MISSING_SHOWN) {
            text += &format!(
                "  {:>25}  '{}'\n",
                format!("line {}", user.line),
                user.user.escape_debug()
            );
        }
        if missing.len() > MISSING_SHOWN {
            text += &format!("  {:>25}  more: see --json, or --missing FILE for their rows\n", "…");
        }
    }
    if online.unknown() > 0 {
        text += &format!(
            "users unknown  {:>12}  could not be looked up\n",
            grouped(online.unknown())
        );
    }
    text
}

fn as_json(findings: &Findings, sent: u64, rate: f64, seconds: f64) -> serde_json::Value {
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
    rate: f64,
    seconds: f64,
    args: &RowsArgs,
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
        let note = if args.dedupe || are_users {
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
                format!("'{}', ", busy.user.escape_debug())
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

/// The `clear` command that sends the checked rows.
fn command(args: &RowsArgs, rate: f64) -> String {
    let rows = match args.rows.as_os_str() {
        name if name.as_encoded_bytes().starts_with(b"-") && name != "-" => Path::new(".").join(name),
        name => name.into(),
    };
    let mut words = vec!["zim-batch".to_owned(), "clear".into(), quoted(&rows)];
    if let Some(delimiter) = args.dialect.delimiter {
        let name = if delimiter == b'\t' {
            "tab".to_owned()
        } else {
            char::from(delimiter).to_string()
        };
        words.extend(["--delimiter".into(), quoted(&name)]);
    }
    if let Some(encoding) = args.dialect.encoding {
        words.extend(["--encoding".into(), encoding.name().to_lowercase()]);
    }
    if let Some(columns) = &args.columns {
        words.extend(["--columns".into(), quoted(columns.to_string())]);
    }
    if let Some(types) = args.types.as_ref().filter(|types| !types.is_empty()) {
        words.extend(["--types".into(), quoted(types.to_string())]);
    }
    match args.dialect.only() {
        None => {}
        Some(Only::All) => words.extend(["--only".into(), "all".into()]),
        Some(Only::Outcomes(only)) => {
            let names: Vec<&str> = only.iter().map(|outcome| outcome.as_str()).collect();
            words.extend(["--only".into(), names.join(",")]);
        }
    }
    if args.dedupe {
        words.push("--dedupe".into());
    }
    if args.dialect.ignore_invalid {
        words.push("--ignore-invalid".into());
    }
    if rate != 20.0 {
        words.extend(["--rate".into(), rate.to_string()]);
    }
    // The suggested report must not be the input.
    let is_taken = ["out.csv", "out.outside.csv"]
        .iter()
        .any(|name| args.rows.ends_with(name));
    words.extend([
        "--report".into(),
        if is_taken { "second.csv" } else { "out.csv" }.into(),
    ]);
    words.join(" ")
}
