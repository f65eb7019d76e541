//! `zim-batch list`: writes the conversations of users as rows for `clear`.

mod explain;

use std::process::ExitCode;

use jiff::Timestamp;
use zim_batch::analysis::Analysis;
use zim_batch::client::Lister;
use zim_batch::journal::{self, IfExists, Report, RowsTo};
use zim_batch::page::NextStep;
use zim_batch::rows::Source;
use zim_batch::text::local;

use crate::cli::args::time::Since;
use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::{Ended, Prepared};
use crate::cli::errors::Error;
use crate::cli::output::logging::START;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
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
        run,
    } = settings;
    let explanation = explanation.map(|path| Explanation::new(path, &input, &paths));
    let explanation = explanation.transpose()?;
    let since = since.and_then(|since| moment(since, &paths));
    let ListPaths { rows, report, existing } = paths;
    let batch = Batch {
        items: "users",
        input,
        report: report.clone(),
        existing,
        is_stdout_taken: rows == RowsTo::Stdout,
    };

    let run = Prepared::new(run, terminal)?.connect().await?;
    journal::check_list_paths(&rows, report.as_deref(), existing)?;
    let users = batch.open_input()?;
    let run = run.join(batch.name(), batch.report.as_deref()).await?;
    let mut journal = Report::open_list(&rows, report.as_deref(), existing, run.settings().is_simulated())?;
    let plan = users.plan(&mut journal)?;
    let lister = Lister::new(run.client())
        .since(since.and_then(|since| since.try_into().ok()))
        .conv_type(conv_type);
    if let Some(since) = since {
        tracing::info!(target: START, "only conversations updated since {} are listed", local(since.as_millisecond()));
    }
    let ended = batch.run(run, lister, plan, journal).await?;

    let table = table(&ended, &rows, since, explanation.is_some());
    let (is_complete, quiet) = (ended.summary.is_complete(), ended.settings.quiet);
    let explain = move || explanation.is_none_or(|explanation| explanation.write(is_complete, quiet));
    batch.finish(ended, table, explain).await
}

/// The summary for people, with what to do next.
fn table(ended: &Ended, rows: &RowsTo, since: Option<Timestamp>, is_explained: bool) -> String {
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
    let table = Table { summary, next: &next };
    match since {
        Some(since) => format!("updated since  {}\n{table}", local(since.as_millisecond())),
        None => table.to_string(),
    }
}

/// From when on conversations are listed. A duration counts back from when the list began, so that a list that is resumed
/// has no gap.
fn moment(since: Since, paths: &ListPaths) -> Option<Timestamp> {
    match since {
        Since::At(time) => Some(time),
        Since::Back(duration) => {
            let resumed = paths.report.as_ref().filter(|_| paths.existing == IfExists::Resume);
            let first = resumed.and_then(|report| Analysis::from_file(report).ok()?.first);
            let began = first.and_then(|millis| Timestamp::from_millisecond(millis).ok());
            began.unwrap_or_else(Timestamp::now).checked_sub(duration).ok()
        }
    }
}
