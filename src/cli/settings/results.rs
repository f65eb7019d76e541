//! The files of results: which flag chooses them, and what they are named after by default.

use std::path::{Path, PathBuf};

use zim_batch::files::named_after;
use zim_batch::journal::{IfExists, RowsTo, RunLog, is_file_of_a_run, list_report_of};
use zim_batch::rows::Source;

use crate::cli::args::{ListOutputArgs, OutputArgs, RunArgs};
use crate::cli::errors::Error;
use crate::cli::settings::files::{Files, Role, check_target};
use crate::cli::settings::input::InputSettings;

const REPORT: Role = Role::Result {
    name: "report",
    flag: "--report",
};
const OUTSIDE: Role = Role::Result {
    name: "outside log",
    flag: "--outside",
};
const RUNS: Role = Role::Result {
    name: "log of runs",
    flag: "--report",
};
const ROWS: Role = Role::Result {
    name: "rows",
    flag: "--rows",
};
const LIST_REPORT: Role = Role::Result {
    name: "list report",
    flag: "--report",
};

/// The results of `clear`.
#[derive(Debug, Clone)]
pub struct ReportPaths {
    pub report: PathBuf,
    pub outside: PathBuf,
    pub existing: IfExists,
}

impl ReportPaths {
    pub fn new(
        args: &OutputArgs,
        run: &RunArgs,
        input: &InputSettings,
        files: &mut Files,
    ) -> Result<ReportPaths, Error> {
        let report = match (&args.report, default_beside(&input.source, "report.csv")) {
            (Some(report), _) => report.clone(),
            (None, Some(beside)) => beside,
            (None, None) => {
                return Err(Error::Usage(
                    "an input from standard input or a pipe has no default report; specify one with --report FILE"
                        .into(),
                ));
            }
        };
        refuse_standard_output(&report, "--report")?;
        let outside = match &args.outside {
            Some(outside) => {
                refuse_standard_output(outside, "--outside")?;
                outside.clone()
            }
            None => default_outside(&report)?,
        };
        files.add(REPORT, &report)?;
        files.add(OUTSIDE, &outside)?;
        files.add(RUNS, &RunLog::path_of(&report))?;
        Ok(ReportPaths {
            report,
            outside,
            existing: existing(run, input)?,
        })
    }
}

/// The results of `clear --users`.
#[derive(Debug, Clone)]
pub struct UsersReportPaths {
    pub rows: PathBuf,
    pub list: PathBuf,
    /// Those of the rows.
    pub report: ReportPaths,
}

impl UsersReportPaths {
    pub fn new(
        args: &OutputArgs,
        run: &RunArgs,
        input: &InputSettings,
        files: &mut Files,
    ) -> Result<UsersReportPaths, Error> {
        let report = ReportPaths::new(args, run, input, files)?;
        let rows = match &args.rows_file {
            Some(rows) => {
                refuse_standard_output(rows, "--rows")?;
                rows.clone()
            }
            None => named_after(&report.report, ".rows.csv"),
        };
        let list = list_report_of(&report.report);
        files.add(ROWS, &rows)?;
        files.add(LIST_REPORT, &list)?;
        Ok(UsersReportPaths { rows, list, report })
    }
}

/// The results of `list`.
#[derive(Debug, Clone)]
pub struct ListPaths {
    pub rows: RowsTo,
    /// The list report; `None` if the rows go to standard output and it was not asked for.
    pub report: Option<PathBuf>,
    pub existing: IfExists,
}

impl ListPaths {
    pub fn new(
        args: &ListOutputArgs,
        run: &RunArgs,
        input: &InputSettings,
        files: &mut Files,
    ) -> Result<ListPaths, Error> {
        let rows = match (&args.rows, default_beside(&input.source, "rows.csv")) {
            (Some(path), _) if path.as_os_str() == "-" => RowsTo::Stdout,
            (Some(path), _) => RowsTo::File(path.clone()),
            (None, Some(beside)) => RowsTo::File(beside),
            (None, None) => {
                return Err(Error::Usage(
                    "users from standard input or a pipe have no default file for their rows; specify one with --rows FILE, or \
                     write them to standard output with --rows -"
                        .into(),
                ));
            }
        };
        let report = match (&args.report, &rows) {
            (Some(report), _) => {
                refuse_standard_output(report, "--report")?;
                Some(report.clone())
            }
            (None, RowsTo::File(rows)) => Some(named_after(rows, ".list.csv")),
            (None, RowsTo::Stdout) => None,
        };
        match &rows {
            RowsTo::File(rows) => files.add(ROWS, rows)?,
            RowsTo::Stdout => refuse_with_rows_on_stdout(args, run)?,
        }
        if let Some(report) = &report {
            files.add(LIST_REPORT, report)?;
            files.add(RUNS, &RunLog::path_of(report))?;
        }
        Ok(ListPaths {
            rows,
            report,
            existing: existing(run, input)?,
        })
    }
}

/// Refuses what can't be combined with `--rows -`.
fn refuse_with_rows_on_stdout(args: &ListOutputArgs, run: &RunArgs) -> Result<(), Error> {
    let refuse = |text: &str| Err(Error::Usage(text.into()));
    if run.json {
        return refuse(
            "--json prints the summary to standard output, where --rows - prints the rows; specify a file with --rows",
        );
    }
    if run.resume && args.report.is_none() {
        return refuse(
            "--resume with --rows - needs the list report, which says which users are done; specify it with --report FILE",
        );
    }
    if args.explain.is_some() {
        return refuse("--explain compares with the rows, which --rows - does not keep; specify a file with --rows");
    }
    Ok(())
}

/// What happens to results of an earlier run.
fn existing(run: &RunArgs, input: &InputSettings) -> Result<IfExists, Error> {
    Ok(match (run.resume, run.overwrite) {
        (true, _) => {
            input.refuse_named_pipe()?;
            IfExists::Resume
        }
        (false, true) => IfExists::Overwrite,
        (false, false) => IfExists::Refuse,
    })
}

/// Refuses `-` for a file that a later run reads.
fn refuse_standard_output(path: &Path, flag: &str) -> Result<(), Error> {
    if path.as_os_str() == "-" {
        return Err(Error::Usage(format!(
            "{flag} -: this must be a file, not standard output, because a later run reads it; specify a file, or write ./- \
             for a file of that name"
        )));
    }
    Ok(())
}

/// How a copy of records begins, as every report does.
pub const COPY_BEGINS: &str = "line,user,";

/// Refuses a file for copied records that can't be replaced. A copy looks like a report, so what a run keeps is told by the
/// files beside it.
pub fn check_copy(path: &Path) -> Result<(), Error> {
    if is_file_of_a_run(path) {
        return Err(Error::Usage(format!(
            "--csv {}: this file belongs to a run, and would be lost; choose another one",
            path.display()
        )));
    }
    check_target("--csv", path, COPY_BEGINS)
}

/// The default name beside an input that is a regular file.
fn default_beside(input: &Source, ending: &str) -> Option<PathBuf> {
    match input {
        Source::File(path) if input.can_be_read_twice() => Some(beside(path, ending)),
        _ => None,
    }
}

/// `rows.csv` and `rows.csv.gz` → `rows.report.csv`, for the ending `report.csv`.
fn beside(rows: &Path, ending: &str) -> PathBuf {
    let rows = match rows.extension() {
        Some(extension) if extension == "gz" || extension == "zst" => rows.with_extension(""),
        _ => rows.to_owned(),
    };
    rows.with_extension(ending)
}

/// `out.csv` → `out.outside.csv`.
fn default_outside(report: &Path) -> Result<PathBuf, Error> {
    // No file can be created beside a device.
    let is_file = report
        .metadata()
        .map_or(true, |metadata| metadata.is_file() || metadata.is_dir());
    if is_file {
        Ok(named_after(report, ".outside.csv"))
    } else {
        Err(Error::Usage(format!(
            "{}: this is a device or a pipe, but the report must be a file, because a later run reads it; specify one \
             with --report FILE",
            report.display()
        )))
    }
}
