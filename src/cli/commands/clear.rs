//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use zim_batch::journal::{self, Report, RunLog};
use zim_batch::page::NextStep;
use zim_batch::rows::Source;

use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::{Ended, Prepared};
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::remaining::Remaining;
use crate::cli::output::run_page::RunPage;
use crate::cli::output::table::Table;
use crate::cli::settings::ClearSettings;
use crate::cli::settings::input::InputSettings;
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

    let table = table(&ended, report, &batch.input);
    batch.finish(ended, table, || true).await
}

/// The summary for people, with what is left to do.
pub fn table(ended: &Ended, report: PathBuf, input: &InputSettings) -> String {
    let (summary, given) = (&ended.summary, &ended.settings.given);
    let resume = Some(next::without_limit(given));
    let mut remaining = Remaining::new(report, summary, resume, next::line(next::app_and_rate(given)));
    if input.ignore_invalid {
        remaining.without_invalid();
    }
    let earlier = earlier_report(input);
    let mut next = vec![match &earlier {
        None => NextStep {
            what: "See the details".to_owned(),
            command: Some(next::report(&remaining.report)),
        },
        Some(earlier) => NextStep {
            what: "See what is left after both".to_owned(),
            command: Some(next::reports([earlier, remaining.report.as_path()])),
        },
    }];
    // After a stop, the run must be resumed first.
    match next::after_stop(summary, given) {
        Some(resume) => next.push(resume),
        None if summary.is_complete() => next.extend(remaining.steps()),
        None => {}
    }
    Table { summary, next: &next }.to_string()
}

/// The report of an earlier run, if the input was written by it: that report itself, its outside log, or the list report beside
/// it.
fn earlier_report(input: &InputSettings) -> Option<PathBuf> {
    let Source::File(path) = &input.source else { return None };
    let name = path.file_name()?.as_bytes();
    let beside = [b".outside.csv".as_slice(), b".list.csv"];
    let stem = beside.iter().find_map(|ending| name.strip_suffix(*ending));
    let report = match stem {
        Some(stem) => path.with_file_name(OsStr::from_bytes(&[stem, b".csv"].concat())),
        None => path.clone(),
    };
    // Only a report of rows can be read together with this one.
    let is_report = RunLog::path_of(&report).is_file();
    (is_report && report.is_file()).then_some(report)
}
