//! `zim-batch report`: summarizes the report of a run, finished or still running.

mod runs;
mod table;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zim_batch::analysis::{Analysis, Run, UserRows};
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::Kind;
use zim_batch::page::{self, NextStep, Page};
use zim_batch::reasons::Reason;
use zim_batch::row::Outcome;
use zim_batch::rows::{CopyError, Format, Only, Reads, Rows, Source, copy_records};
use zim_batch::run::summary::{Latencies, Summary, UsersSummary};
use zim_batch::text::{grouped, one_line, utc};

use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::next;
use crate::cli::output::print::{print, print_error, to_json};
use crate::cli::output::remaining::Remaining;
use crate::cli::settings::ReportSettings;

pub fn report(settings: &ReportSettings) -> Result<ExitCode, Error> {
    if let Some(page) = &settings.page {
        page::check_target(page, [])?;
    }
    let overview = Overview::read(settings)?;
    let written = settings.page.as_ref().map(|html| overview.page().write(html));
    let copied = settings
        .csv
        .as_ref()
        .map(|csv| copy(settings, csv, overview.analysis.kind));
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
            one_line(&overview.place),
            match count {
                1 => String::new(),
                more => format!(" ({} or more such lines in total)", grouped(more)),
            }
        ));
        status = ExitStatus::Input;
    }
    match (&settings.csv, copied) {
        (Some((path, _)), Some(Ok(records))) if !settings.json => print(&format!(
            "records        {:>12}  in {}\n",
            grouped(records),
            one_line(&path.display().to_string())
        ))
        .map(drop)?,
        (_, Some(Err(CopyError::Input(error)))) => return Err(error.into()),
        (Some((path, _)), Some(Err(error))) => {
            print_error(&format!("{}: the records can't be written: {error}", path.display()));
            status = ExitStatus::Report;
        }
        _ => {}
    }
    if let (Some(html), Some(Err(error))) = (&settings.page, written) {
        print_error(&format!("{}: the page can't be written: {error}", html.display()));
        status = ExitStatus::Report;
    }
    Ok(status.into())
}

/// Copies the selected records to a file of their own.
fn copy(settings: &ReportSettings, (path, only): &(PathBuf, Only), kind: Kind) -> Result<u64, CopyError> {
    let report = Source::from(settings.report.clone());
    let rows = settings.rows.clone().map(Source::from);
    let format = format_of_rows(&settings.format, kind);
    let rows = rows.as_ref().map(|rows| (rows, &format));
    files::replace(path, kind.columns()[0], OWNER_ONLY, |out| {
        copy_records(&report, only, rows, out)
    })
}

/// How a report on standard input is named.
const STANDARD_INPUT: &str = "standard input";

/// What is shown of a report.
struct Overview {
    place: String,
    analysis: Analysis,
    summary: Summary,
    next: Vec<NextStep>,
}

impl Overview {
    fn read(settings: &ReportSettings) -> Result<Overview, Error> {
        let is_stdin = settings.report.as_os_str() == "-";
        let (place, mut analysis) = if is_stdin {
            let (place, input) = (STANDARD_INPUT, BufReader::with_capacity(256 * 1024, std::io::stdin()));
            (place.to_owned(), Analysis::from_reader(input, place)?)
        } else {
            let place = settings.report.display().to_string();
            (place, Analysis::from_file(&settings.report)?)
        };
        if let Some(rows) = &settings.rows {
            analysis.or_to_do(count(rows, &settings.format, analysis.kind)?);
        }
        let summary = analysis.summary();
        let next = if is_stdin {
            Vec::new()
        } else {
            remaining(settings, &analysis, &summary).steps()
        };
        Ok(Overview {
            place,
            analysis,
            summary,
            next,
        })
    }

    fn page(&self) -> Page<'_> {
        Page {
            report: &self.place,
            analysis: &self.analysis,
            next: &self.next,
            rewritten: None,
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
            not_run: analysis.left(),
            to_do: analysis.to_do,
            left: analysis.left(),
            requests: analysis.requests,
            retries: analysis.retries,
            conversations: self.summary.conversations,
            users_full: self.summary.users_full,
            latency_ms: analysis.latency_ms(),
            codes: &analysis.codes,
            other_codes: analysis.other_codes,
            reasons: &analysis.reasons,
            users: &analysis.users,
            listed: self.summary.users.as_ref(),
            users_missed: analysis.users_missed,
            first: analysis.first.map(utc),
            last: analysis.last.map(utc),
            pauses: pauses.collect(),
            simulated: analysis.simulated,
            runs: analysis.runs.iter().map(RunJson::new).collect(),
            running: analysis.under_way.map(|run| Running {
                process: run.process,
                rate: (analysis.recent_rate() * 1000.0).round() / 1000.0,
                rows_left: analysis.left(),
                until: analysis.until().map(utc),
            }),
            torn: analysis.is_torn,
            damaged: analysis.damaged.map_or(0, |(_, count)| count),
            next: &self.next,
        }
    }
}

/// What there is to do about the rows of a report.
fn remaining(settings: &ReportSettings, analysis: &Analysis, summary: &Summary) -> Remaining {
    // A simulated report can't be resumed at ZIM.
    let flags = if summary.simulated {
        vec!["--simulate".into()]
    } else {
        Vec::new()
    };
    let newest = analysis.runs.last();
    let resume = newest.and_then(|run| next::logged(&run.begin.resume, &run.begin));
    let of_rows = || Some(next::resume_report(settings.rows.as_ref()?, &settings.report, &flags));
    let resume = resume.or_else(of_rows);
    let mut remaining = Remaining::new(settings.report.clone(), summary, resume, flags);
    let in_vain = newest.filter(|run| run.end.as_ref().is_some_and(|end| end.all_rejected));
    remaining.start_again = in_vain.and_then(|run| next::logged(&run.begin.start_again, &run.begin));
    remaining
}

/// How the input of such a report is read.
fn format_of_rows(format: &Format, kind: Kind) -> Format {
    Format {
        reads: match kind {
            Kind::List => Reads::Users,
            _ => Reads::Rows,
        },
        ..format.clone()
    }
}

/// Counts the rows as a run would; `None` if the file is itself a report, some of whose rows the run may have selected.
fn count(rows: &Path, format: &Format, kind: Kind) -> Result<Option<u64>, Error> {
    let rows = Rows::open(&Source::from(rows.to_owned()), &format_of_rows(format, kind))?;
    let is_selected = rows.has_outcomes();
    Ok((!is_selected).then(|| rows.count_rows()).transpose()?)
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
    to_do: Option<u64>,
    left: Option<u64>,
    requests: u64,
    retries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<u64>,
    users_full: Option<u64>,
    latency_ms: Latencies,
    codes: &'a BTreeMap<i64, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    other_codes: u64,
    reasons: &'a [Reason],
    users: &'a [UserRows],
    /// The users whose rows these are, if the runs have listed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<&'a UsersSummary>,
    users_missed: u64,
    first: Option<String>,
    last: Option<String>,
    pauses: Vec<Pause>,
    simulated: bool,
    runs: Vec<RunJson<'a>>,
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
struct RunJson<'a> {
    began: String,
    ended: Option<String>,
    rows: u64,
    why: String,
    exit: Option<u8>,
    app_id: Option<u32>,
    endpoint: &'a str,
    host: &'a str,
    version: &'a str,
}

impl RunJson<'_> {
    fn new(run: &Run) -> RunJson<'_> {
        let (begin, end) = (&run.begin, run.end.as_ref());
        RunJson {
            began: utc(begin.at),
            ended: end.map(|end| utc(end.at)),
            rows: run.rows,
            why: run.why(),
            exit: end.map(|end| end.exit),
            app_id: begin.app_id,
            endpoint: &begin.endpoint,
            host: &begin.host,
            version: &begin.version,
        }
    }
}

#[derive(Serialize)]
struct Running {
    process: Option<u32>,
    rate: f64,
    rows_left: Option<u64>,
    until: Option<String>,
}
