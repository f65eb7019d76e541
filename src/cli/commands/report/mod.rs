//! `zim-batch report`: summarizes the report of a run, finished or still running.

mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zim_batch::analysis::{Analysis, Reason, UserRows};
use zim_batch::journal::Kind;
use zim_batch::page::{self, NextStep, Page, Progress};
use zim_batch::row::Outcome;
use zim_batch::rows::{Format, Rows, Source};
use zim_batch::run::summary::Latencies;
use zim_batch::text::{grouped, table_cell, utc};

use crate::cli::args::given::path_argument;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::next::{self, Left};
use crate::cli::output::shell::{print, print_error};
use crate::cli::settings::ReportSettings;

pub fn report(settings: &ReportSettings) -> Result<ExitCode, Error> {
    if let Some(page) = &settings.page {
        check_page(page)?;
    }
    let found = Found::read(settings)?;
    let written = settings.page.as_ref().map(|html| found.page().write(html));
    let text = match settings.json {
        true => {
            let json = serde_json::to_string(&found.json()).map_err(|error| Error::Unexpected(error.to_string()))?;
            format!("{json}\n")
        }
        false => match (&settings.page, &written) {
            (Some(html), Some(Ok(()))) if html.is_file() => format!("{found}\npage           {}\n", html.display()),
            _ => found.to_string(),
        },
    };
    print(&text)?;
    let mut status = ExitStatus::Success;
    if let Some((line, count)) = found.analysis.damaged {
        print_error(&format!(
            "{}, line {line}: this is not a record of a report{}, so it is not counted above, and the outcome of its row \
             is unknown; remove the line and resume the run: its row will be sent again",
            table_cell(&found.place),
            match count {
                1 => String::new(),
                more => format!(" ({} or more such lines in total)", grouped(more)),
            }
        ));
        status = ExitStatus::Input;
    }
    if let (Some(html), Some(Err(error))) = (&settings.page, written) {
        print_error(&format!("{}: the page can't be written: {error}", html.display()));
        status = ExitStatus::Report;
    }
    Ok(status.into())
}

/// Refuses to replace a file that is not a page.
pub fn check_page(html: &Path) -> Result<(), Error> {
    Ok(page::check_target(html, [])?)
}

/// Writes the page of a run that has just ended. If that fails, an error is printed, but the exit status remains that of the
/// run.
pub fn write_page_after_run(left: &Left, html: &Path) {
    let write = || -> Result<(), String> {
        let analysis = Analysis::from_file(&left.report).map_err(|error| error.to_string())?;
        let found = Found {
            place: left.report.display().to_string(),
            analysis,
            not_run: Some(left.not_run),
            progress: None,
            next: left.steps(),
        };
        found.page().write(html).map_err(|error| error.to_string())
    };
    if let Err(error) = write() {
        let command = next::line(["zim-batch".into(), "report".into(), path_argument(&left.report)]);
        print_error(&format!(
            "{}: the page can't be written: {error}. The report is not affected. To write its page: {command} --html FILE",
            html.display()
        ));
    }
}

/// Everything that is shown about a report.
struct Found {
    place: String,
    analysis: Analysis,
    /// The number of rows without a record, if the rows are known.
    not_run: Option<u64>,
    progress: Option<Progress>,
    next: Vec<NextStep>,
}

impl Found {
    fn read(settings: &ReportSettings) -> Result<Found, Error> {
        let rows = settings
            .rows
            .as_ref()
            .map(|rows| count(rows, &settings.format))
            .transpose()?;
        if settings.report.as_os_str() == "-" {
            let place = "standard input".to_owned();
            let analysis = Analysis::from_reader(BufReader::with_capacity(256 * 1024, std::io::stdin()), &place)?;
            return Ok(Found {
                not_run: rows.map(|rows| rows.saturating_sub(analysis.rows)),
                place,
                analysis,
                progress: None,
                next: Vec::new(),
            });
        }
        // Checked before reading: a run that ends in the meantime still counts as running.
        let holder = zim_batch::journal::holder(&settings.report);
        let analysis = Analysis::from_file(&settings.report)?;
        let not_run = rows.map(|rows| rows.saturating_sub(analysis.rows));
        let progress = holder.map(|process| Progress::new(process, &analysis, not_run));
        let next = match analysis.kind {
            Kind::Clear => left(settings, &analysis, not_run.filter(|_| progress.is_none())).steps(),
            _ => Vec::new(),
        };
        Ok(Found {
            place: settings.report.display().to_string(),
            analysis,
            not_run,
            progress,
            next,
        })
    }

    fn page(&self) -> Page<'_> {
        Page {
            report: &self.place,
            analysis: &self.analysis,
            not_run: self.not_run,
            progress: self.progress.as_ref(),
            next: &self.next,
        }
    }

    fn json(&self) -> Json<'_> {
        let analysis = &self.analysis;
        let pauses = analysis.pauses().map(|(from, to)| Pause {
            from: utc(from),
            to: utc(to),
        });
        Json {
            report: &self.place,
            rows: analysis.rows,
            ok: analysis.outcome(Outcome::Ok),
            outside: analysis.outcome(Outcome::Outside),
            failed: analysis.outcome(Outcome::Failed),
            invalid: analysis.outcome(Outcome::Invalid),
            skipped: analysis.outcome(Outcome::Skipped),
            not_run: self.not_run,
            requests: analysis.requests,
            retries: analysis.retries,
            conversations: (analysis.kind == Kind::List).then_some(analysis.conversations),
            latency_ms: analysis.latency_ms(),
            codes: &analysis.codes,
            other_codes: analysis.other_codes,
            reasons: &analysis.reasons,
            users: &analysis.users,
            users_missed: analysis.users_missed,
            first: analysis.first.map(utc),
            last: analysis.last.map(utc),
            pauses: pauses.collect(),
            simulated: analysis.simulated,
            running: self.progress.as_ref().map(|progress| Running {
                process: progress.process,
                rate: (progress.rate * 1000.0).round() / 1000.0,
                rows_left: progress.rows_left,
                until: progress.until.map(utc),
            }),
            torn: analysis.is_torn,
            damaged: analysis.damaged.map_or(0, |(_, count)| count),
            next: &self.next,
        }
    }
}

/// What there is to do about the rows of a report.
fn left(settings: &ReportSettings, analysis: &Analysis, not_run: Option<u64>) -> Left {
    // A simulated report can't be resumed at ZIM.
    let flags: Vec<OsString> = if analysis.simulated {
        vec!["--simulate".into()]
    } else {
        Vec::new()
    };
    let resume = |rows: &PathBuf| {
        let words = [
            "zim-batch".into(),
            "clear".into(),
            path_argument(rows),
            "--report".into(),
        ];
        let report = [path_argument(&settings.report), "--resume".into()];
        next::line(words.iter().chain(&report).chain(&flags))
    };
    Left {
        report: settings.report.clone(),
        not_run: not_run.unwrap_or_default(),
        failed: analysis.outcome(Outcome::Failed),
        outside: analysis.outcome(Outcome::Outside),
        invalid: analysis.outcome(Outcome::Invalid),
        resume: settings.rows.as_ref().map(resume),
        flags,
    }
}

/// Counts the rows as a run would.
fn count(rows: &Path, format: &Format) -> Result<u64, Error> {
    Ok(Rows::open(&Source::from(rows.to_owned()), format)?.count_rows()?)
}

#[derive(Serialize)]
struct Json<'a> {
    report: &'a str,
    rows: u64,
    ok: u64,
    outside: u64,
    failed: u64,
    invalid: u64,
    skipped: u64,
    not_run: Option<u64>,
    requests: u64,
    retries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<u64>,
    latency_ms: Latencies,
    codes: &'a BTreeMap<i64, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    other_codes: u64,
    reasons: &'a [Reason],
    users: &'a [UserRows],
    users_missed: u64,
    first: Option<String>,
    last: Option<String>,
    pauses: Vec<Pause>,
    simulated: bool,
    running: Option<Running>,
    torn: bool,
    damaged: u64,
    next: &'a [NextStep],
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct Pause {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Running {
    process: u32,
    rate: f64,
    rows_left: Option<u64>,
    until: Option<String>,
}
