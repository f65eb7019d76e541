//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::process::ExitCode;

use zim_batch::journal::{self, Report};
use zim_batch::page::NextStep;
use zim_batch::run::summary::Summary;

use crate::cli::commands::report;
use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::Prepared;
use crate::cli::errors::Error;
use crate::cli::output::next::{self, Remaining};
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
    let run = run.join(batch.name(), batch.report.as_deref()).await?;
    let mut journal = Report::open(&report, &outside, existing, run.settings().is_simulated())?;
    let plan = rows.plan(&mut journal)?;
    let client = run.client();
    let ended = batch.run(run, client, plan, journal).await?;

    let given = &ended.settings.given;
    let resume = Some(next::resume(given));
    let mut remaining = Remaining::new(report, &ended.summary, resume, next::app_and_rate(given));
    if batch.input.ignore_invalid {
        remaining.invalid = 0;
    }
    let table = table(&ended.summary, &remaining);
    let write_page = move || {
        if let Some(page) = page {
            // If that fails, the exit status remains that of the run.
            report::write_page_after_run(&remaining, &page);
        }
        true
    };
    batch.finish(ended, table, write_page).await
}

/// The summary for people, with what to do next.
fn table(summary: &Summary, remaining: &Remaining) -> String {
    let mut next = vec![NextStep {
        what: "See the details".to_owned(),
        command: Some(next::report(&remaining.report)),
    }];
    // After a stop, the run must be resumed first: see stderr.
    if summary.is_complete() {
        next.extend(remaining.steps());
    }
    Table { summary, next: &next }.to_string()
}
