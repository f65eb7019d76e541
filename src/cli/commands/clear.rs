//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::path::PathBuf;
use std::process::ExitCode;

use zim_batch::client::Client;
use zim_batch::journal::{self, Report, ReportError};
use zim_batch::page::NextStep;
use zim_batch::run::summary::Summary;

use crate::cli::args::Given;
use crate::cli::engine::batch::{self, Batch, Command};
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
        crate::cli::commands::report::check_page(page)?;
    }
    let command = Clear {
        is_simulated: run.is_simulated(),
        page,
        given: run.given.clone(),
        ignore_invalid: input.ignore_invalid,
        paths: paths.clone(),
    };
    let batch = Batch {
        input,
        report: Some(paths.report),
        existing: paths.existing,
        run,
        terminal,
        items: "rows",
        is_stdout_taken: false,
    };
    batch::run(batch, command).await
}

#[derive(Clone)]
struct Clear {
    paths: ReportPaths,
    is_simulated: bool,
    page: Option<PathBuf>,
    given: Given,
    ignore_invalid: bool,
}

impl Clear {
    /// What to do after the run.
    fn next(&self, summary: &Summary) -> Vec<NextStep> {
        let mut steps = vec![next::details(&self.paths.report)];
        // After a stop, the run must be resumed first: see stderr.
        if summary.is_complete() {
            steps.extend(self.left(summary).steps());
        }
        steps
    }

    fn left(&self, summary: &Summary) -> Left<'_> {
        Left {
            report: &self.paths.report,
            not_run: summary.not_run,
            failed: summary.all_failed,
            outside: summary.all_outside,
            invalid: if self.ignore_invalid { 0 } else { summary.all_invalid },
            resume: Some(next::resume(&self.given)),
            flags: next::app_and_rate(&self.given),
        }
    }
}

impl Command for Clear {
    type Service = Client;
    type Journal = Report;

    fn check_paths(&self) -> Result<(), ReportError> {
        journal::check_paths(&self.paths.report, &self.paths.outside, self.paths.existing)
    }

    fn service(&self, client: Client) -> Client {
        client
    }

    fn open(&self) -> Result<Report, ReportError> {
        let ReportPaths {
            report,
            outside,
            existing,
        } = &self.paths;
        Report::open(report, outside, *existing, self.is_simulated)
    }

    fn conclude(&self, summary: &Summary) -> bool {
        if let Some(page) = &self.page {
            // If that fails, the exit status remains that of the run.
            crate::cli::commands::report::write_page_after_run(&self.left(summary), page);
        }
        true
    }

    fn table(&self, summary: &Summary) -> String {
        format!("{}{}", Table(summary), next::as_text(&self.next(summary), ""))
    }
}
