//! `zim-batch clear`: clears the unread count of every row's conversation.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zim_batch::client::Client;
use zim_batch::files::same_file;
use zim_batch::journal::{self, Report, ReportError};
use zim_batch::page::NextStep;
use zim_batch::rows::{Selection, Source};
use zim_batch::run::summary::Summary;

use crate::cli::args::ClearArgs;
use crate::cli::args::Given;
use crate::cli::args::Logging;
use crate::cli::commands::check;
use crate::cli::engine::batch::{self, Batch, Command};
use crate::cli::errors::Error;
use crate::cli::output::next::{self, Left};
use crate::cli::output::progress::Terminal;
use crate::cli::output::table::Table;
use crate::cli::settings::app;
use crate::cli::settings::{self, Output};

pub async fn clear(args: ClearArgs, given: &Given, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    app::check_files(&args.app, [args.rows.rows.as_path()])?;
    if args.output.dry_run {
        return check::offline(
            &args.rows,
            check::rate(&args.app, args.simulator.simulate)?,
            args.pace.limit.map(NonZeroU64::get),
            args.run.json,
            &next::without_dry_run(given),
        );
    }
    let source = args.rows.source();
    let output = Output::new(&args.output, &args.run, &source)?;
    let written = [&output.report, &output.outside].into_iter().chain(&args.output.html);
    app::check_files(&args.app, written.map(PathBuf::as_path))?;
    if let Some(html) = &args.output.html {
        crate::cli::commands::report::check_page(html, [&output.report, &output.outside, &args.rows.rows])?;
    }
    let batch = Batch {
        source,
        format: settings::format(&args.rows),
        selection: Selection {
            limit: args.pace.limit.map(NonZeroU64::get),
            ..args.rows.selection()
        },
        ignore_invalid: args.rows.dialect.ignore_invalid,
        report: Some(output.report.clone()),
        existing: output.existing,
        run: &args.run,
        app: &args.app,
        is_simulated: args.simulator.simulate,
        pace: &args.pace,
        logging,
        given,
        terminal,
        items: "rows",
        files: files(&args),
        is_stdout_taken: false,
    };
    let command = Clear {
        output,
        is_simulated: args.simulator.simulate,
        page: args.output.html.clone(),
        given: given.clone(),
        ignore_invalid: args.rows.dialect.ignore_invalid,
    };
    batch::run(batch, command).await
}

#[derive(Clone)]
struct Clear {
    output: Output,
    is_simulated: bool,
    page: Option<PathBuf>,
    given: Given,
    ignore_invalid: bool,
}

impl Clear {
    /// What to do after the run.
    fn next(&self, summary: &Summary) -> Vec<NextStep> {
        let mut steps = vec![next::details(&self.output.report)];
        // After a stop, the run must be resumed first: see stderr.
        if summary.is_complete() {
            steps.extend(self.left(summary).steps());
        }
        steps
    }

    fn left(&self, summary: &Summary) -> Left<'_> {
        Left {
            report: &self.output.report,
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
        journal::check_paths(&self.output.report, &self.output.outside, self.output.existing)
    }

    fn service(&self, client: Client) -> Client {
        client
    }

    fn open(&self) -> Result<Report, ReportError> {
        let Output {
            report,
            outside,
            existing,
        } = &self.output;
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

/// Every file that a run reads or writes.
pub fn files(args: &ClearArgs) -> Vec<PathBuf> {
    let source = args.rows.source();
    // Errors in the output paths are reported later.
    let output = Output::new(&args.output, &args.run, &source).ok();
    let written = output.into_iter().flat_map(|output| [output.report, output.outside]);
    let read = match source {
        Source::File(path) => Some(path),
        Source::Stdin => None,
    };
    written
        .chain(read)
        .chain(args.output.html.clone())
        .chain(app::files(&args.app))
        .collect()
}

/// Whether a run would write to this file or read from it.
pub fn uses(args: &ClearArgs, file: &Path) -> bool {
    files(args).iter().any(|path| same_file(path, file))
}
