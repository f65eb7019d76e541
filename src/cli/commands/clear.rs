//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::path::PathBuf;
use std::process::ExitCode;

use zim_batch::journal::{self, Report};
use zim_batch::run::summary::Summary;

use crate::cli::args::Given;
use crate::cli::commands::report;
use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::Prepared;
use crate::cli::errors::Error;
use crate::cli::output::next::{self, Left};
use crate::cli::output::progress::Terminal;
use crate::cli::output::table::Table;
use crate::cli::settings::ClearSettings;
use crate::cli::settings::results::ReportPaths;

pub async fn clear(settings: ClearSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let ClearSettings {
        input,
        paths,
        page,
        run,
    } = settings;
    if let Some(page) = &page {
        report::check_page(page)?;
    }
    let batch = Batch {
        items: "rows",
        input,
        report: Some(paths.report.clone()),
        existing: paths.existing,
        is_stdout_taken: false,
    };
    let ReportPaths {
        report,
        outside,
        existing,
    } = paths;

    let run = Prepared::new(run, terminal)?.connect().await?;
    journal::check_paths(&report, &outside, existing)?;
    let rows = batch.open_input()?;
    let run = run.join(batch.name()).await?;
    let mut journal = Report::open(&report, &outside, existing, run.settings().is_simulated())?;
    let plan = rows.plan(&mut journal)?;
    let client = run.client();
    let ended = batch.run(run, client, plan, journal).await?;

    let left = left(
        &ended.summary,
        report,
        &ended.settings.given,
        batch.input.ignore_invalid,
    );
    let table = table(&ended.summary, &left);
    let write_page = move || {
        if let Some(page) = page {
            // If that fails, the exit status remains that of the run.
            report::write_page_after_run(&left, &page);
        }
        true
    };
    batch.finish(ended, table, write_page).await
}

/// What there is to do about the rows of the report.
fn left(summary: &Summary, report: PathBuf, given: &Given, ignore_invalid: bool) -> Left {
    Left {
        report,
        not_run: summary.not_run,
        failed: summary.all_failed,
        outside: summary.all_outside,
        invalid: if ignore_invalid { 0 } else { summary.all_invalid },
        resume: Some(next::resume(given)),
        flags: next::app_and_rate(given),
    }
}

/// The summary for people, with what to do next.
fn table(summary: &Summary, left: &Left) -> String {
    let mut steps = vec![next::details(&left.report)];
    // After a stop, the run must be resumed first: see stderr.
    if summary.is_complete() {
        steps.extend(left.steps());
    }
    format!("{}{}", Table(summary), next::as_text(&steps, ""))
}
