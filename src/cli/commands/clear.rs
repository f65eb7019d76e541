//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::path::PathBuf;
use std::process::ExitCode;

use zim_batch::journal::{self, Report};
use zim_batch::page::NextStep;

use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::{Ended, Prepared};
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::remaining::Remaining;
use crate::cli::output::run_page::RunPage;
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
    let page = page.map(|page| RunPage::new(page, paths.report.clone(), &run.given, input.ignore_invalid));
    let page = page.transpose()?;
    let batch = Batch {
        items: "rows",
        limit: input.selection.limit,
        listing: String::new(),
        input,
        report: Some(paths.report.clone()),
        existing: paths.existing,
        page,
        is_stdout_taken: false,
    };
    let ReportPaths {
        report,
        outside,
        existing,
    } = paths;

    let run = Prepared::new(run, terminal)?.connect().await?;
    journal::check_paths(&report, &outside, existing)?;
    let rows = batch.open_input(Some(&report))?;
    let run = run.join(batch.name(), batch.report.as_deref()).await?;
    let mut journal = Report::open(&report, &outside, existing, run.settings().is_simulated())?;
    let plan = rows.plan(&mut journal)?;
    let client = run.client();
    let ended = batch.run(run, client, plan, journal).await?;

    let table = table(&ended, report, batch.input.ignore_invalid);
    batch.finish(ended, table, || true).await
}

/// The summary for people, with what is left to do.
pub fn table(ended: &Ended, report: PathBuf, ignore_invalid: bool) -> String {
    let (summary, given) = (&ended.summary, &ended.settings.given);
    let resume = Some(next::without_limit(given));
    let mut remaining = Remaining::new(report, summary, resume, next::line(next::app_and_rate(given)));
    if ignore_invalid {
        remaining.without_invalid();
    }
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
