//! `zim-batch list`: writes the conversations of users as rows for `clear`.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zim_batch::analysis::Analysis;
use zim_batch::client::{Client, Lister};
use zim_batch::explain::{EXPLANATION_COLUMNS, Explained, explain};
use zim_batch::files::{self, OWNER_ONLY, same_file};
use zim_batch::journal::{self, IfExists, ListReport, ReportError, RowsTo};
use zim_batch::page::NextStep;
use zim_batch::rows::{Format, Reads, Rows, Selection, Source};
use zim_batch::run::summary::Summary;

use crate::cli::args::Given;
use crate::cli::args::ListArgs;
use crate::cli::args::Logging;
use crate::cli::engine::batch::{self, Batch, Command};
use crate::cli::errors::Error;
use crate::cli::output::next;
use crate::cli::output::progress::Terminal;
use crate::cli::output::shell::{print_error, print_note};
use crate::cli::output::table::ListTable;
use crate::cli::settings;
use crate::cli::settings::Since;
use crate::cli::settings::app;

pub async fn list(args: ListArgs, given: &Given, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    let output = Output::new(&args)?;
    let used = [&args.users.users].into_iter().chain(&args.output.explain);
    app::check_files(&args.app, output.files().chain(used.map(PathBuf::as_path)))?;
    let format = Format {
        reads: Reads::Users,
        ..settings::dialect(&args.users.dialect, args.users.columns.as_ref())
    };
    if let Some(explanation) = &args.output.explain {
        let mut used = files(&args);
        used.retain(|file| file != explanation);
        settings::check_target("--explain", explanation, &EXPLANATION_COLUMNS.join(","), &used)?;
        check_explainable(&args)?;
    }
    let batch = Batch {
        source: args.users.source(),
        format,
        selection: Selection {
            only: args.users.dialect.only(),
            // A user is listed once.
            dedupe: true,
            limit: args.pace.limit.map(NonZeroU64::get),
        },
        ignore_invalid: args.users.dialect.ignore_invalid,
        report: output.report.clone(),
        existing: output.existing,
        run: &args.run,
        app: &args.app,
        is_simulated: args.simulator.simulate,
        pace: &args.pace,
        logging,
        given,
        terminal,
        items: "users",
        files: files(&args),
        is_stdout_taken: output.rows == RowsTo::Stdout,
    };
    let command = List {
        since: since(&args, &output),
        output,
        is_simulated: args.simulator.simulate,
        conv_type: args.output.conv_type,
        outside: (
            args.users.source(),
            settings::dialect(&args.users.dialect, args.users.columns.as_ref()),
        ),
        explanation: args.output.explain.clone(),
        is_quiet: logging.quiet,
        given: given.clone(),
    };
    batch::run(batch, command).await
}

impl crate::cli::args::UsersArgs {
    fn source(&self) -> Source {
        Source::from(self.users.clone())
    }
}

/// The files that a list writes.
#[derive(Debug, Clone)]
struct Output {
    rows: RowsTo,
    report: Option<PathBuf>,
    existing: IfExists,
}

impl Output {
    fn new(args: &ListArgs) -> Result<Output, Error> {
        let users = args.users.source();
        settings::refuse_directory(&users)?;
        let rows = match (&args.output.rows, &users) {
            (Some(path), _) if path.as_os_str() == "-" => RowsTo::Stdout,
            (Some(path), _) => RowsTo::File(path.clone()),
            (None, Source::File(path)) if users.can_be_read_twice() => RowsTo::File(settings::beside(path, "rows.csv")),
            (None, _) => {
                return Err(Error::Usage(
                    "users from standard input or a pipe have no default file for their rows; name one with --rows FILE, or \
                     write them to standard output with --rows -"
                        .into(),
                ));
            }
        };
        settings::refuse_standard_output([(args.output.report.as_ref(), "--report")])?;
        let report = match (&args.output.report, &rows) {
            (Some(report), _) => Some(report.clone()),
            (None, RowsTo::File(rows)) => Some(settings::named_after(rows, ".list.csv")),
            (None, RowsTo::Stdout) => None,
        };
        if rows == RowsTo::Stdout {
            refuse_with_rows_on_stdout(args)?;
        }
        let output = Output {
            rows,
            report,
            existing: args.run.existing(),
        };
        let written: Vec<&Path> = output.files().collect();
        let advice = "name another one with --rows (the list report is named after it, unless --report is given)";
        settings::check_distinct(&written, &users, "users", advice)?;
        if let [rows, report] = written[..]
            && same_file(rows, report)
        {
            return Err(Error::Usage(format!(
                "{}: the rows and the list report can't be the same file; name another one with --report FILE",
                report.display()
            )));
        }
        if args.run.resume {
            settings::refuse_named_pipe(&users)?;
        }
        Ok(output)
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let rows = match &self.rows {
            RowsTo::File(path) => Some(path.as_path()),
            RowsTo::Stdout => None,
        };
        rows.into_iter().chain(self.report.as_deref())
    }
}

/// Refuses what can't be combined with `--rows -`.
fn refuse_with_rows_on_stdout(args: &ListArgs) -> Result<(), Error> {
    let refuse = |text: &str| Err(Error::Usage(text.into()));
    if args.run.json {
        return refuse(
            "--json prints the summary to standard output, where --rows - prints the rows; name a file with --rows",
        );
    }
    if args.run.resume && args.output.report.is_none() {
        return refuse(
            "--resume with --rows - needs the list report, which says which users are done; name it with --report FILE",
        );
    }
    if args.output.explain.is_some() {
        return refuse("--explain compares with the rows, which --rows - does not keep; name a file with --rows");
    }
    Ok(())
}

/// Refuses an input for `--explain` that is not rows, or can't be read again.
fn check_explainable(args: &ListArgs) -> Result<(), Error> {
    let source = args.users.source();
    if !source.can_be_read_twice() {
        return Err(Error::Usage(
            "--explain reads the outside log again when the users are listed, so it must be a file".into(),
        ));
    }
    Rows::open(
        &source,
        &settings::dialect(&args.users.dialect, args.users.columns.as_ref()),
    )?;
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
    output: Output,
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
    type Journal = ListReport;

    fn check_paths(&self) -> Result<(), ReportError> {
        journal::check_list_paths(&self.output.rows, self.output.report.as_deref(), self.output.existing)
    }

    fn service(&self, client: Client) -> Lister {
        Lister::new(client).since(self.since).conv_type(self.conv_type)
    }

    fn open(&self) -> Result<ListReport, ReportError> {
        let Output { rows, report, existing } = &self.output;
        ListReport::open(rows, report.as_deref(), *existing, self.is_simulated)
    }

    fn conclude(&self, summary: &Summary) -> bool {
        let (Some(explanation), RowsTo::File(rows), Some(report)) =
            (&self.explanation, &self.output.rows, &self.output.report)
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
            &self.output.rows,
            summary.conversations,
        ) {
            let step = NextStep {
                what: "Clear these conversations".to_owned(),
                command: Some(next::clear(rows, &self.given, false)),
            };
            text += &next::as_text(&[step], "");
        }
        text
    }
}

/// From when on conversations are listed. A duration counts back from when the list began, so that a list that is resumed
/// has no gap.
fn since(args: &ListArgs, output: &Output) -> Option<SystemTime> {
    match args.output.since? {
        Since::At(time) => Some(time),
        Since::Back(duration) => {
            let resumed = output.report.as_ref().filter(|_| output.existing == IfExists::Resume);
            let first = resumed.and_then(|report| Analysis::from_file(report).ok()?.first);
            let began = first.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis.try_into().ok()?)));
            began.unwrap_or_else(SystemTime::now).checked_sub(duration)
        }
    }
}

/// Every file that a list reads or writes.
fn files(args: &ListArgs) -> Vec<PathBuf> {
    // Errors in the output paths are reported later.
    let output = Output::new(args).ok();
    let written = output
        .iter()
        .flat_map(|output| output.files().map(Path::to_owned).collect::<Vec<_>>());
    let read = match args.users.source() {
        Source::File(path) => Some(path),
        Source::Stdin => None,
    };
    written
        .chain(read)
        .chain(args.output.explain.clone())
        .chain(app::files(&args.app))
        .collect()
}

/// Whether a list would write to this file or read from it.
pub fn uses(args: &ListArgs, file: &Path) -> bool {
    files(args).iter().any(|path| same_file(path, file))
}
