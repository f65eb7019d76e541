//! `zim-batch report`: summarizes the report of a run, finished or still running.

mod table;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use zim_batch::analysis::{Analysis, UserRows};
use zim_batch::journal::Kind;
use zim_batch::page::{self, NextStep, Page, Progress};
use zim_batch::row::Outcome;
use zim_batch::rows::{Format, Rows, Source};
use zim_batch::run::reasons::Reason;
use zim_batch::run::summary::{Latencies, Summary};
use zim_batch::text::{grouped, table_cell, utc, with_causes};

use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::next::{self, Remaining};
use crate::cli::output::print::{print, print_error, to_json};
use crate::cli::settings::ReportSettings;

pub fn report(settings: &ReportSettings) -> Result<ExitCode, Error> {
    if let Some(page) = &settings.page {
        check_page(page)?;
    }
    let overview = Overview::read(settings)?;
    let written = settings.page.as_ref().map(|html| overview.page().write(html));
    let text = if settings.json {
        to_json(&overview.json())?
    } else {
        overview.to_string()
    };
    print(&format!("{}\n", text.trim_end()))?;
    if let (Some(html), Some(Ok(())), false) = (&settings.page, &written, settings.json)
        && html.is_file()
    {
        print(&format!("\npage           {}\n", html.display()))?;
    }
    let mut status = ExitStatus::Success;
    if let Some((line, count)) = overview.analysis.damaged {
        print_error(&format!(
            "{}, line {line}: this is not a record of a report{}, so it is not counted above, and the outcome of its row \
             is unknown; remove the line and resume the run: its row will be sent again",
            table_cell(&overview.place),
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
pub fn write_page_after_run(remaining: &Remaining, html: &Path) {
    let write = || -> Result<(), String> {
        let analysis = Analysis::from_file(&remaining.report).map_err(|error| with_causes(&error))?;
        let page = Page {
            report: &remaining.report.display().to_string(),
            analysis: &analysis,
            not_run: Some(remaining.not_run),
            progress: None,
            next: &remaining.steps(),
        };
        page.write(html).map_err(|error| error.to_string())
    };
    if let Err(error) = write() {
        print_error(&format!(
            "{}: the page can't be written: {error}. The report is not affected. To write its page: {} --html FILE",
            html.display(),
            next::report(&remaining.report)
        ));
    }
}

/// What is shown of a report.
struct Overview {
    place: String,
    analysis: Analysis,
    summary: Summary,
    /// The number of rows without a record, if the rows are known.
    not_run: Option<u64>,
    /// The progress of the run that is writing the report, if there is one.
    progress: Option<Progress>,
    next: Vec<NextStep>,
}

impl Overview {
    fn read(settings: &ReportSettings) -> Result<Overview, Error> {
        let rows = settings.rows.as_ref();
        let rows = rows.map(|rows| count(rows, &settings.format)).transpose()?;
        let is_stdin = settings.report.as_os_str() == "-";
        // Checked before reading: a run that ends in the meantime still counts as running.
        let holder = zim_batch::journal::holder(&settings.report).filter(|_| !is_stdin);
        let (place, analysis) = if is_stdin {
            let (place, input) = ("standard input", BufReader::with_capacity(256 * 1024, std::io::stdin()));
            (place.to_owned(), Analysis::from_reader(input, place)?)
        } else {
            let place = settings.report.display().to_string();
            (place, Analysis::from_file(&settings.report)?)
        };
        let not_run = rows.map(|rows| rows.saturating_sub(analysis.rows));
        let progress = holder.map(|process| Progress::new(process, &analysis, not_run));
        // While the run is under way, rows without a record are its own.
        let summary = analysis.summary(not_run.filter(|_| progress.is_none()).unwrap_or_default());
        let next = match analysis.kind {
            Kind::Clear if !is_stdin => remaining(settings, &summary).steps(),
            _ => Vec::new(),
        };
        Ok(Overview {
            place,
            analysis,
            summary,
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
fn remaining(settings: &ReportSettings, summary: &Summary) -> Remaining {
    // A simulated report can't be resumed at ZIM.
    let flags = if summary.simulated {
        vec!["--simulate".into()]
    } else {
        Vec::new()
    };
    let resume = settings.rows.as_ref();
    let resume = resume.map(|rows| next::resume_report(rows, &settings.report, &flags));
    Remaining::new(settings.report.clone(), summary, resume, flags)
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
