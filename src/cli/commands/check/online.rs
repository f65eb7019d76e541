//! `zim-batch check --online`: asks ZIM which users exist.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;

use zim_batch::client::{Found, Lookup, MAX_USERS, UserLookup};
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::ReportError;
use zim_batch::rows::{self, CopyError, Format, InputError, InputErrorKind, Reads, Rows, Source, copy_rows};
use zim_batch::run::{Job, Limits};
use zim_batch::text::{grouped, one_line};
use zim_batch::{Outcome, Record, User};

use crate::cli::args::Given;
use crate::cli::engine::batch;
use crate::cli::engine::session::Session;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::errors::hints;
use crate::cli::output::next;
use crate::cli::output::progress::{Progress, Terminal};
use crate::cli::output::shell::{print_error, print_note};
use crate::cli::settings::OnlineSettings;
use crate::cli::settings::files::check_target;
use crate::cli::settings::input::InputSettings;

/// How many users who do not exist are shown.
const MISSING_SHOWN: usize = 20;

/// What ZIM said about the users.
pub struct Online {
    pub found: Found,
    /// Users of the rows that can be sent.
    pub users: u64,
    /// Why not all users were looked up.
    pub stopped: Option<String>,
    /// The input is a list of users, not of rows.
    pub are_users: bool,
}

impl Online {
    /// Whether there were users, and nothing is known of any.
    pub fn has_failed(&self) -> bool {
        self.users > 0 && self.unknown() == self.users
    }

    pub fn unknown(&self) -> u64 {
        self.users - self.found.existing - self.found.missing.len() as u64
    }
}

/// Checks the rows, and asks ZIM which of their users exist.
pub async fn check(
    input: &InputSettings,
    settings: OnlineSettings,
    given: &Given,
    terminal: Terminal,
) -> Result<ExitCode, Error> {
    let OnlineSettings { run, missing } = settings;
    let InputSettings { source, selection, .. } = input;
    let format = rows_or_users(source, &input.format);
    if let Some(missing) = &missing {
        check_target("--missing", missing, "")?;
        if !source.can_be_read_twice() {
            return Err(Error::Usage(
                "--missing reads the rows again when the users are known, so they must be in a file".into(),
            ));
        }
    }
    let mut session = Session::begin()?;
    let app = session.connect(run.app, &run.pace).await?;
    let client = session.build(&app)?;
    batch::say_if_typed(source, "rows");
    let mut users = Vec::new();
    let keep = |line, user: &str| {
        users.push(User {
            line,
            user: user.to_owned(),
        });
    };
    let findings = rows::check::check_with_users(source, &format, selection, keep)?;
    session.name = format!("check of {source}");
    session.join(run.pace.no_wait).await?;
    session.announce(&app);
    let lookup = UserLookup::new(client);
    let (found, rate) = (lookup.found(), session.rate);
    let number = users.len() as u64;
    let lookups: Vec<Lookup> = users
        .chunks(MAX_USERS)
        .map(|users| Lookup::new(users.to_vec()))
        .collect();
    let progress = Progress::new(run.progress, terminal.clone(), Some(lookups.len() as u64), "requests");
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
        .limiter(session.limiter())
        .observer(progress);
    let limits = Limits {
        // With the first answer it is known whether credentials, clock and endpoint are right.
        max_rejected_alike: NonZeroU64::MIN,
        ..session.limits(&run.pace.limits)
    };
    let summary = session.drive(job, limits, run.pace.timeout, &terminal, None).await?;
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
    if let Some(missing) = &missing {
        write_missing(input, &format, &online, missing)?;
    }
    let to_run = next::clear(source, given, true);
    super::show(&findings, Some(&online), input, rate, run.json, &to_run)?;
    let is_bad = findings.invalid_rows() > 0 && !input.ignore_invalid;
    Ok(match &summary.stopped {
        Some(stop) => ExitStatus::from(stop),
        // All requests failed alike: this is not ZIM, or not the app.
        None if online.has_failed() => ExitStatus::Policy,
        None => ExitStatus::of_rows(is_bad || online.found.existing < online.users),
    }
    .into())
}

/// How to read the rows; users, if the columns show that the file is a list of users.
fn rows_or_users(source: &Source, format: &Format) -> Format {
    let users = Format {
        reads: Reads::Users,
        ..format.clone()
    };
    let is_unclear = |error: &InputError| matches!(error.kind, InputErrorKind::Layout(_));
    let are_users = source.can_be_read_twice()
        && Rows::open(source, format).is_err_and(|error| is_unclear(&error))
        && Rows::open(source, &users).is_ok();
    if are_users { users } else { format.clone() }
}

/// Writes the rows of the users who do not exist.
fn write_missing(input: &InputSettings, format: &Format, online: &Online, path: &Path) -> Result<(), Error> {
    if online.stopped.is_some() {
        print_note(&format!(
            "{}: not written, because not all users were looked up",
            path.display()
        ));
        return Ok(());
    }
    let missing: HashSet<&str> = online.found.missing.iter().map(|user| user.user.as_str()).collect();
    files::replace(path, "", OWNER_ONLY, |out| {
        copy_rows(
            &input.source,
            format,
            &input.selection,
            |user| missing.contains(user),
            out,
        )
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

/// The users who do not exist, by their first lines.
pub fn users_as_text(online: &Online) -> String {
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
            text += &format!("  {:>25}  '{}'\n", format!("line {}", user.line), one_line(&user.user));
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
