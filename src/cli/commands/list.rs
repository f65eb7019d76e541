//! `zim-batch list`: writes the conversations of users as rows for `clear`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zim_batch::analysis::Analysis;
use zim_batch::client::{Client, Lister};
use zim_batch::explain::{EXPLANATION_COLUMNS, Explained, explain};
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::{self, IfExists, Report, ReportError, RowsTo};
use zim_batch::page::NextStep;
use zim_batch::rows::{Format, Reads, Rows, Source};
use zim_batch::run::summary::Summary;

use crate::cli::args::Given;
use crate::cli::args::values::Since;
use crate::cli::engine::batch::{self, Batch, Command};
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::shell::{print_error, print_note};
use crate::cli::output::table::ListTable;
use crate::cli::settings::ListSettings;
use crate::cli::settings::files::check_target;
use crate::cli::settings::results::ListPaths;

pub async fn list(settings: ListSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let ListSettings {
        input,
        paths,
        since,
        conv_type,
        explanation,
        run,
    } = settings;
    let as_rows = Format {
        reads: Reads::Rows,
        ..input.format.clone()
    };
    if let Some(explanation) = &explanation {
        check_target("--explain", explanation, &EXPLANATION_COLUMNS.join(","))?;
        check_explainable(&input.source, &as_rows)?;
    }
    let command = List {
        since: since.and_then(|since| moment(since, &paths)),
        paths: paths.clone(),
        is_simulated: run.is_simulated(),
        conv_type,
        outside: (input.source.clone(), as_rows),
        explanation,
        is_quiet: run.quiet,
        given: run.given.clone(),
    };
    let batch = Batch {
        input,
        report: paths.report,
        existing: paths.existing,
        run,
        terminal,
        items: "users",
        is_stdout_taken: paths.rows == RowsTo::Stdout,
    };
    batch::run(batch, command).await
}

/// Refuses an input for `--explain` that is not rows, or can't be read again.
fn check_explainable(source: &Source, format: &Format) -> Result<(), Error> {
    if !source.can_be_read_twice() {
        return Err(Error::Usage(
            "--explain reads the outside log again when the users are listed, so it must be a file".into(),
        ));
    }
    Rows::open(source, format)?;
    Ok(())
}

/// What was found, in one sentence.
fn said(explained: &Explained) -> String {
    let Explained {
        listed,
        missing,
        beyond,
        unknown,
    } = explained;
    let mut text = format!(
        "outside rows: {listed} are listed now, {missing} are missing (no such conversation), {beyond} may be beyond the newest \
         1000 (inferred from the lists, not an answer of ZIM's)"
    );
    if *unknown > 0 {
        text += &format!("; {unknown} are not known, because their users could not be listed or not all was selected");
    }
    text
}

#[derive(Clone)]
struct List {
    paths: ListPaths,
    is_simulated: bool,
    since: Option<SystemTime>,
    conv_type: Option<zim_batch::ConvType>,
    /// The input, to be read as rows.
    outside: (Source, Format),
    explanation: Option<PathBuf>,
    is_quiet: bool,
    given: Given,
}

impl Command for List {
    type Service = Lister;
    type Journal = Report;

    fn check_paths(&self) -> Result<(), ReportError> {
        journal::check_list_paths(&self.paths.rows, self.paths.report.as_deref(), self.paths.existing)
    }

    fn service(&self, client: Client) -> Lister {
        Lister::new(client).since(self.since).conv_type(self.conv_type)
    }

    fn open(&self) -> Result<Report, ReportError> {
        let ListPaths { rows, report, existing } = &self.paths;
        Report::open_list(rows, report.as_deref(), *existing, self.is_simulated)
    }

    fn conclude(&self, summary: &Summary) -> bool {
        let (Some(explanation), RowsTo::File(rows), Some(report)) =
            (&self.explanation, &self.paths.rows, &self.paths.report)
        else {
            return true;
        };
        if summary.stopped.is_some() {
            print_note(&format!(
                "{}: not written, because not all users were listed",
                explanation.display()
            ));
            return true;
        }
        let (source, format) = &self.outside;
        let explained = files::replace(explanation, &EXPLANATION_COLUMNS.join(","), OWNER_ONLY, |out| {
            explain(source, format, rows, report, out)
        });
        match &explained {
            Ok(_) if self.is_quiet => {}
            Ok(explained) => print_note(&said(explained)),
            Err(error) => print_error(&format!("--explain {}: {error}", explanation.display())),
        }
        explained.is_ok()
    }

    fn table(&self, summary: &Summary) -> String {
        let mut text = ListTable(summary).to_string();
        if let (None, None, RowsTo::File(rows), Some(1..)) = (
            &self.explanation,
            &summary.stopped,
            &self.paths.rows,
            summary.conversations,
        ) {
            let step = NextStep {
                what: "Clear these conversations".to_owned(),
                command: Some(next::clear(&Source::File(rows.clone()), &self.given, false)),
            };
            text += &next::as_text(&[step], "");
        }
        text
    }
}

/// From when on conversations are listed. A duration counts back from when the list began, so that a list that is resumed
/// has no gap.
fn moment(since: Since, paths: &ListPaths) -> Option<SystemTime> {
    match since {
        Since::At(time) => Some(time),
        Since::Back(duration) => {
            let resumed = paths.report.as_ref().filter(|_| paths.existing == IfExists::Resume);
            let first = resumed.and_then(|report| Analysis::from_file(report).ok()?.first);
            let began = first.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis.try_into().ok()?)));
            began.unwrap_or_else(SystemTime::now).checked_sub(duration)
        }
    }
}
