//! `zim-batch check --online`: asks ZIM which users exist.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;

use zim_batch::client::{UserBatch, UserLookup};
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::{ReportError, RunBegin};
use zim_batch::rows::{self, CopyError, copy_rows};
use zim_batch::run::Job;
use zim_batch::{Outcome, Record};

use super::result::{Checked, Online, to_run};
use super::users::Users;
use crate::cli::engine::input::print_typing_hint;
use crate::cli::engine::run::{Ended, Joined, Prepared};
use crate::cli::engine::run_log::{self, LoggedRun};
use crate::cli::errors::{Error, ExitStatus, hints};
use crate::cli::output::print::{print_error, print_note};
use crate::cli::output::progress::Terminal;
use crate::cli::output::work::Work;
use crate::cli::settings::OnlineSettings;
use crate::cli::settings::files::check_target;
use crate::cli::settings::input::InputSettings;

/// Checks the rows, and asks ZIM which of their users exist.
pub async fn check(input: InputSettings, settings: OnlineSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let OnlineSettings { run, missing } = settings;
    if let Some(missing) = &missing {
        check_missing(missing, &input)?;
    }

    let run = Prepared::new(run, terminal)?.connect().await?;
    print_typing_hint(&input.source, "rows");
    let mut users = Users::default();
    let keep = |line, user: &str| users.push(line, user);
    let findings = rows::check::check_with_users(&input.source, &input.format, &input.selection, keep)?;
    let run = run.join(format!("check of {}", input.source), None).await?;
    let settings = run.settings();
    let begin = RunBegin {
        total: Some(users.len() as u64),
        rate: settings.pace.rate.value.to_string(),
        ..run_log::begin(&run.client(), settings.is_simulated(), &input, &settings.given)
    };
    let log = LoggedRun::begin(missing.as_deref(), &input, &begin, false);
    let failed = |error: &Error| log.end_by(error, true);
    let (ended, online) = look_up(run, users).await.inspect_err(failed)?;

    if let Some(missing) = &missing {
        write_missing(missing, &online, &input).inspect_err(failed)?;
    }
    let to_run = to_run(&findings, &input.source, &ended.settings.given);
    let checked = Checked {
        findings,
        online: Some(&online),
        input: &input,
        rate: ended.settings.pace.rate.value.clone(),
        until: None,
        to_run,
    };
    let exit = match &ended.summary.stopped {
        Some(stop) => stop.kind().into(),
        // All requests failed with the same error: this is not ZIM, or not the app.
        None if online.has_failed() => ExitStatus::Policy,
        None => ExitStatus::of_rows(checked.has_bad_rows() || !online.missing.is_empty() || online.unknown > 0),
    };
    log.end(exit, &ended.summary);
    let exit_ok = &ended.settings.exit_ok;
    checked.print(ended.settings.json, exit_ok.note(exit))?;
    Ok(exit_ok.code(exit))
}

/// Refuses a file for `--missing` that can't be written, or an input that can't be read again.
fn check_missing(missing: &Path, input: &InputSettings) -> Result<(), Error> {
    check_target("--missing", missing, "")?;
    if !input.source.can_be_read_twice() {
        return Err(Error::Usage(
            "--missing reads the rows again when the users are known, so they must be in a file".into(),
        ));
    }
    Ok(())
}

/// Looks up all users. Says on stderr why not all could be.
async fn look_up(run: Joined, users: Users) -> Result<(Ended, Online), Error> {
    let users = Arc::new(users);
    let work = Work {
        rows: Some(users.batches() as u64),
        ..Work::default()
    };
    let progress = run.progress(&work, "requests");
    let (answered, first_answer) = mpsc::channel();
    let of_batches = Arc::clone(&users);
    // Made when it is their turn, because there may be millions of users.
    let batches = (0..users.batches()).map(move |index| {
        if index == 1 {
            // The first answer shows whether credentials and endpoint are right. A run that stops drops the sender.
            let _ = first_answer.recv();
        }
        UserBatch::new(of_batches.batch(index).map(|user| user.item).collect())
    });
    let (found, all_found) = mpsc::channel();
    let (failed, failures) = mpsc::channel();
    let on_record = move |record: &Record| {
        // The receivers exist until they are no longer needed.
        let _ = answered.send(());
        let _ = found.send((record.line, record.looked_up.clone().unwrap_or_default()));
        if record.outcome == Outcome::Failed {
            let _ = failed.send(record.message.clone());
        }
    };
    let job = run.attach(
        Job::new(UserLookup::new(run.client()), batches)
            .on_record(on_record)
            .observer(progress),
    );
    let ended = run.drive(job.run(), None).await?;

    let (mut existing, mut missing) = (0, Vec::new());
    for (number, found) in all_found.try_iter() {
        existing += found.existing;
        // A batch's number counts from 1.
        let batch = users.batch(number as usize - 1);
        missing.extend(batch.filter(|user| found.missing.contains(&user.item)));
    }
    missing.sort_by_key(|user| user.line);
    let online = Online {
        unknown: users.len() as u64 - existing - missing.len() as u64,
        existing,
        missing,
        stopped: hints::stopped(&ended.summary),
    };
    ended.print_stop_reason();
    if let (true, Some(why)) = (ended.summary.is_complete(), failures.try_iter().last()) {
        print_error(&format!("users that could not be looked up: {}; {why}", online.unknown));
    }
    Ok((ended, online))
}

/// Writes the rows of the users who do not exist.
fn write_missing(path: &Path, online: &Online, input: &InputSettings) -> Result<(), Error> {
    if online.stopped.is_some() {
        print_note(&format!(
            "{}: not written, because not all users were looked up",
            path.display()
        ));
        return Ok(());
    }
    let missing: HashSet<&str> = online.missing.iter().map(|user| user.item.id()).collect();
    let is_missing = |user: &str| missing.contains(user);
    let written = files::replace(path, "", OWNER_ONLY, |out| {
        copy_rows(&input.source, &input.format, &input.selection, is_missing, out)
    });
    let source = match written {
        Ok(_) => return Ok(()),
        Err(CopyError::Input(error)) => return Err(error.into()),
        Err(CopyError::Write(source)) => source,
        Err(other) => io::Error::other(other),
    };
    let path = path.to_owned();
    Err(zim_batch::Error::from(ReportError::Write { path, source }).into())
}
