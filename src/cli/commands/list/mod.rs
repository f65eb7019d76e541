//! `zim-batch list`: writes the conversations of users as rows for `clear`.

mod explain;

use std::process::ExitCode;

use jiff::Timestamp;
use zim_batch::client::Lister;
use zim_batch::journal::{self, Report, RowsTo};
use zim_batch::page::NextStep;
use zim_batch::rows::Source;
use zim_batch::text::local;
use zim_batch::{Client, ConvType};

use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::{Ended, Prepared};
use crate::cli::engine::since::{self, ListedSince};
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::remaining::Remaining;
use crate::cli::output::run_page::RunPage;
use crate::cli::output::table::Table;
use crate::cli::settings::ListSettings;
use crate::cli::settings::results::ListPaths;
use explain::Explanation;

pub async fn list(settings: ListSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let ListSettings {
        input,
        paths,
        since,
        conv_type,
        explanation,
        page,
        run,
    } = settings;
    let page = paths.report.clone().zip(page);
    let page = page.map(|(report, page)| RunPage::new(page, report, &run.given, input.ignore_invalid));
    let page = page.transpose()?;
    let explanation = explanation.map(|path| Explanation::new(path, &input, &paths));
    let explanation = explanation.transpose()?;
    let paths = ListPaths {
        existing: since::existing(
            since,
            paths.existing,
            (None, paths.report.as_deref()),
            run.is_simulated(),
        ),
        ..paths
    };
    let reports = (paths.report.as_deref(), None);
    let listed = ListedSince::new(
        since,
        conv_type,
        run.is_simulated(),
        reports,
        paths.existing,
        &run.given,
    )?;
    let ListPaths { rows, report, existing } = paths;
    let batch = Batch {
        items: "users",
        limit: input.selection.limit,
        listing: listed.listing(),
        input,
        report: report.clone(),
        existing,
        page,
        is_stdout_taken: rows == RowsTo::Stdout,
    };

    let run = Prepared::new(run, terminal)?.connect().await?;
    journal::check_list_paths(&rows, report.as_deref(), existing)?;
    let users = batch.open_input(batch.report.as_deref())?;
    let run = run.join(batch.name(), batch.report.as_deref()).await?;
    let mut journal = Report::open_list(&rows, report.as_deref(), existing, run.settings().is_simulated())?;
    let plan = users.plan(&mut journal)?;
    if plan.total() != Some(plan.rows_done()) {
        listed.announce();
    }
    let lister = lister(run.client(), &listed, conv_type);
    let since = listed.since;
    let ended = batch.run(run, lister, plan, journal).await?;
    listed.end(&ended.summary, batch.limit.is_some());

    let table = table(&ended, &rows, since, explanation.is_some(), batch.input.ignore_invalid);
    let (is_complete, quiet) = (ended.summary.is_complete(), ended.settings.quiet);
    let explain = move || explanation.is_none_or(|explanation| explanation.write(is_complete, quiet));
    batch.finish(ended, table, explain).await
}

/// Lists what is to be listed.
pub fn lister(client: Client, listed: &ListedSince, conv_type: Option<ConvType>) -> Lister {
    Lister::new(client)
        .since(listed.since.and_then(|since| since.try_into().ok()))
        .conv_type(conv_type)
}

/// The summary for people, with what to do next.
fn table(ended: &Ended, rows: &RowsTo, since: Option<Timestamp>, is_explained: bool, ignore_invalid: bool) -> String {
    let summary = &ended.summary;
    let mut next = Vec::new();
    if let (false, true, RowsTo::File(rows), Some(1..)) =
        (is_explained, summary.is_complete(), rows, summary.conversations)
    {
        next.push(NextStep {
            what: "Clear these conversations".to_owned(),
            command: Some(next::clear(&Source::File(rows.clone()), &ended.settings.given, false)),
        });
    }
    if let Some(resume) = next::after_stop(summary, &ended.settings.given).filter(|_| summary.report.is_some()) {
        next.push(resume);
    }
    if let (true, Some(report)) = (summary.is_complete(), &summary.report) {
        let given = &ended.settings.given;
        let resume = Some(next::without_limit(given));
        let mut remaining = Remaining::new(report.into(), summary, resume, next::line(next::app_and_rate(given)));
        if ignore_invalid {
            remaining.without_invalid();
        }
        next.extend(remaining.steps());
    }
    let table = Table { summary, next: &next };
    match since {
        Some(since) => format!("updated since  {}\n{table}", local(since.as_millisecond())),
        None => table.to_string(),
    }
}
