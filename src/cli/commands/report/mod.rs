//! `zim-batch report`: summarizes the report of a run, finished or still running.

mod json;
mod present;
mod runs;
mod table;

use std::ffi::OsString;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zim_batch::analysis::Analysis;
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::{Kind, LoggedRun, RunBegin, RunLog, read_runs};
use zim_batch::page::{self, NextStep, Page};
use zim_batch::rows::{CopyError, Format, Only, Reads, RecordsToCopy, Rows, Source, copy_records};
use zim_batch::run::summary::Summary;
use zim_batch::text::{grouped, one_line};

use crate::cli::args::given::path_argument;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::empty_input;
use crate::cli::output::language::Language;
use crate::cli::output::next;
use crate::cli::output::print::{print, print_error, print_note, to_json};
use crate::cli::output::remaining::{Remaining, without_list};
use crate::cli::settings::ReportSettings;
use crate::cli::settings::results::COPY_BEGINS;

pub async fn report(settings: &ReportSettings) -> Result<ExitCode, Error> {
    if let Some(page) = &settings.page {
        page::check_target(page, [])?;
    }
    let overview = Overview::read(settings).await?;
    let written = settings.page.as_ref().map(|html| overview.page().write(html));
    let copied = settings.csv.as_ref().map(|csv| copy(settings, csv, &overview.analysis));
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
    for (place, line, count) in overview.damaged() {
        print_error(&format!(
            "{}, line {line}: this is not a record of a report{}, so it is not counted above, and the outcome of its row \
             is unknown; remove the line and resume the run: its row will be sent again",
            one_line(place),
            match count {
                1 => String::new(),
                more => format!(" ({} or more such lines in total)", grouped(more)),
            }
        ));
        status = ExitStatus::Input;
    }
    match (&settings.csv, copied) {
        (Some((path, only)), Some(Ok(records))) => {
            if !settings.json {
                let path = path.display().to_string();
                print(&format!(
                    "records        {:>12}  in {}\n",
                    grouped(records),
                    one_line(&path)
                ))?;
            }
            let empty =
                (records == 0).then(|| empty_input::of_copy(&settings.reports, only, path, overview.analysis.kind));
            empty.flatten().iter().for_each(|note| print_note(note));
        }
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
fn copy(settings: &ReportSettings, (path, only): &(PathBuf, Only), analysis: &Analysis) -> Result<u64, CopyError> {
    let sources: Vec<Source> = settings.reports.iter().cloned().map(Source::from).collect();
    let is_wanted = |index: usize| {
        let part = analysis.parts.get(index);
        move |line| part.is_none_or(|part| part.counts(line))
    };
    let are_wanted: Vec<_> = (0..sources.len()).map(is_wanted).collect();
    let reports = sources.iter().zip(&are_wanted);
    let reports: Vec<RecordsToCopy> = reports
        .map(|(source, is_wanted)| RecordsToCopy { source, is_wanted })
        .collect();
    let rows = settings.rows.clone().map(Source::from);
    let format = format_of_rows(&settings.format, analysis.kind);
    let rows = rows.as_ref().map(|rows| (rows, &format));
    files::replace(path, COPY_BEGINS, OWNER_ONLY, |out| {
        copy_records(&reports, only, rows, out)
    })
}

/// How a report on standard input is named.
const STANDARD_INPUT: &str = "standard input";

/// What is shown of a report.
struct Overview {
    place: String,
    analysis: Analysis,
    summary: Summary,
    /// What to do next, for files.
    next: Vec<NextStep>,
    /// The same for the table.
    next_shown: Vec<NextStep>,
    /// That of the table, as far as it explains return codes.
    language: Language,
}

impl Overview {
    async fn read(settings: &ReportSettings) -> Result<Overview, Error> {
        let is_stdin = settings.reports.iter().any(|report| report.as_os_str() == "-");
        let mut analysis = if is_stdin {
            let input = BufReader::with_capacity(256 * 1024, std::io::stdin());
            Analysis::from_reader(input, STANDARD_INPUT)?
        } else {
            Analysis::from_files(&settings.reports)?
        };
        if let Some(rows) = &settings.rows {
            analysis.or_to_do(count(rows, &settings.format, analysis.kind)?);
        }
        analysis.present = present::of(&analysis).await.unwrap_or_default();
        let summary = analysis.summary();
        let language = Language::of_environment();
        let next = |language| {
            if is_stdin {
                Vec::new()
            } else {
                next_steps(settings, &analysis, &summary, language)
            }
        };
        let (next, next_shown) = (next(Language::English), next(language));
        let names = analysis.parts.iter().map(|part| part.analysis.report.as_str());
        let names: Vec<&str> = names.collect();
        Ok(Overview {
            place: match names[..] {
                [] => analysis.report.clone(),
                _ => names.join(", "),
            },
            analysis,
            summary,
            next,
            next_shown,
            language,
        })
    }

    /// The reports with lines that are not records: the first of them, and how many.
    fn damaged(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let parts = self.analysis.parts.iter().map(|part| &part.analysis);
        parts.chain([&self.analysis]).filter_map(|analysis| {
            let (line, count) = analysis.damaged?;
            Some((analysis.report.as_str(), line, count))
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
}

/// What there is to do about the rows of the reports.
fn next_steps(settings: &ReportSettings, analysis: &Analysis, summary: &Summary, language: Language) -> Vec<NextStep> {
    let [report, others @ ..] = &settings.reports[..] else {
        return Vec::new();
    };
    if others.is_empty() {
        let mut remaining = remaining(report, settings.rows.as_deref(), analysis, summary);
        remaining.language = language;
        return remaining.steps();
    }
    // Each run is resumed by itself, and what has failed in all of them is tried again together.
    let mut steps = Vec::new();
    for (report, part) in settings.reports.iter().zip(&analysis.parts) {
        if part.left != Some(0) {
            let summary = part.analysis.summary();
            let mut remaining = remaining(report, None, &part.analysis, &summary);
            remaining.only_not_run();
            steps.extend(remaining.steps().into_iter().map(|step| NextStep {
                what: format!("{} ({})", step.what, one_line(&part.analysis.report)),
                ..step
            }));
        }
    }
    let newest = analysis.runs.last().map(|run| &run.begin);
    let mut together = Remaining::new(report.clone(), summary, None, flags(newest, summary));
    together.others = others.to_vec();
    together.language = language;
    together.without_not_run();
    steps.extend(together.steps());
    steps
}

/// The flags for a new run, as words for a shell: those of the newest run, or what the records tell. A simulated report can't
/// be resumed at ZIM.
fn flags(newest: Option<&RunBegin>, summary: &Summary) -> String {
    let simulate = if summary.simulated { "--simulate" } else { "" };
    newest
        .and_then(next::logged_flags)
        .filter(|flags| !flags.is_empty())
        .unwrap_or_else(|| simulate.to_owned())
}

/// What there is to do about the rows of a report.
fn remaining(report: &Path, input: Option<&Path>, analysis: &Analysis, summary: &Summary) -> Remaining {
    let clear = run_of_clear(analysis);
    let newest = match &clear {
        Some((_, run)) => Some((&run.begin, &run.end)),
        None => analysis.runs.last().map(|run| (&run.begin, &run.end)),
    };
    let begin = newest.map(|(begin, _)| begin);
    let flags = flags(begin, summary);
    let resume = begin.and_then(|begin| next::logged(&begin.resume, begin));
    let resume_with = |input: &Path| {
        let (input, of) = (path_argument(input), |path: &Path| path_argument(path));
        let words: Vec<OsString> = match (&clear, analysis.kind) {
            (Some((report, _)), _) => vec!["clear".into(), "--users".into(), input, "--report".into(), of(report)],
            (None, Kind::List) => {
                let rows = of(&without_list(report));
                vec![
                    "list".into(),
                    input,
                    "--rows".into(),
                    rows,
                    "--report".into(),
                    of(report),
                ]
            }
            (None, _) => vec!["clear".into(), input, "--report".into(), of(report)],
        };
        next::resumes([OsString::from("zim-batch")].into_iter().chain(words), &flags)
    };
    let resume = resume.or_else(|| input.map(resume_with));
    let mut remaining = Remaining::new(report.to_owned(), summary, resume, flags);
    let named = input.map(|input| input.display().to_string());
    remaining.name_input(begin.map(|begin| begin.input.clone()).or(named));
    let in_vain = newest.filter(|(_, end)| end.as_ref().is_some_and(|end| end.all_rejected));
    remaining.start_again = in_vain.and_then(|(begin, _)| next::logged(&begin.start_again, begin));
    if let Some((report, _)) = clear {
        remaining.of_users_of(report);
    }
    // A run does by itself what it has not done yet.
    if analysis.under_way.is_some() {
        remaining.without_not_run();
    }
    remaining
}

/// Of a list report whose run clears what it lists: the report of the rows, and the newest run.
fn run_of_clear(analysis: &Analysis) -> Option<(PathBuf, LoggedRun)> {
    let stem = analysis.report.strip_suffix(".list.csv");
    let stem = stem.filter(|_| analysis.kind == Kind::List && analysis.runs.is_empty())?;
    let report = PathBuf::from(format!("{stem}.csv"));
    let newest = read_runs(&RunLog::path_of(&report))?.pop()?;
    newest.begin.lists.then_some((report, newest))
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
