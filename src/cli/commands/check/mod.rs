//! `zim-batch check`: reads and validates everything, clears nothing; with `--online`, asks ZIM which users exist.

mod online;
mod result;
mod users;

use std::process::ExitCode;

use zim_batch::analysis::Analysis;
use zim_batch::journal::Kind;
use zim_batch::rows::{self, Reads, Source};

use crate::cli::engine::input::print_typing_hint;
use crate::cli::errors::{Error, ExitStatus};
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::settings::CheckSettings;
use result::Checked;

pub async fn check(settings: CheckSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let CheckSettings {
        mut input,
        rate,
        until,
        without_profile,
        json,
        given,
        is_dry_run,
        exit_ok,
        online,
    } = settings;
    if !is_dry_run {
        input.format.reads = Reads::RowsOrUsers;
    }
    if let Some(online) = online {
        return online::check(input, online, terminal).await;
    }
    if let Some(error) = without_profile {
        tracing::warn!("{error}; the time is that of a run without a profile");
    }
    print_typing_hint(&input.source, "rows");
    let mut findings = rows::check::check(&input.source, &input.format, &input.selection)?;
    if findings.are_users() {
        findings.users_full = users_full(&input.source);
    }
    let to_run = if is_dry_run {
        vec![(result::TO_RUN, next::without_dry_run(&given))]
    } else {
        result::to_run(&findings, &input.source, &given)
    };
    let checked = Checked {
        findings,
        online: None,
        input: &input,
        rate,
        until: until.and_then(|until| until.try_into().ok()),
        to_run,
    };
    let exit = ExitStatus::of_rows(checked.has_bad_rows());
    checked.print(json, exit_ok.note(exit))?;
    Ok(exit_ok.code(exit))
}

/// How many users have as many conversations as ZIM lists, if the users are those of a list report.
fn users_full(users: &Source) -> u64 {
    let Source::File(path) = users else { return 0 };
    let report = Analysis::from_file(path)
        .ok()
        .filter(|report| report.kind == Kind::List);
    report.map_or(0, |report| report.users_full)
}
