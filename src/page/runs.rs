//! The runs of a report, and the times between them.

use super::{MAX_TEXT, line, shortened};
use crate::analysis::{Analysis, Run};
use crate::text::{duration, formatted, grouped};

/// The maximum number of runs on a page: the newest.
const RUNS: usize = 30;

/// The maximum length of why a run ended, where all charts say it, and of what each run was made by, in characters.
const BRIEF: usize = 60;
const MADE_BY: usize = 100;

/// The runs on the page.
pub(super) struct Runs {
    /// What they have in common.
    pub common: String,
    pub lines: Vec<Line>,
    /// Earlier runs that are not shown.
    pub earlier: usize,
}

/// A run.
pub(super) struct Line {
    /// How long there was no run before, and why, if it was a second or more.
    pub gap: Option<String>,
    pub number: usize,
    pub began: String,
    pub took: String,
    pub rows: String,
    pub rate: String,
    pub why: String,
    /// Its app, machine and so on, as far as not all runs have it in common.
    pub by: String,
}

impl Runs {
    pub fn new(analysis: &Analysis) -> Runs {
        let runs = &analysis.runs;
        let earlier = runs.len().saturating_sub(RUNS);
        let all: Vec<[String; 5]> = runs[earlier..].iter().map(|run| made_by(run, analysis)).collect();
        let is_common = |index: usize| all.iter().all(|run| run[index] == all[0][index]);
        let join = |run: &[String; 5], common: bool| {
            let parts = run.iter().enumerate();
            let parts = parts.filter(|&(index, part)| is_common(index) == common && !part.is_empty());
            parts.map(|(_, part)| part.as_str()).collect::<Vec<_>>().join(" · ")
        };
        let line = |(index, made_by): (usize, &[String; 5])| {
            let (index, run) = (earlier + index, &runs[earlier + index]);
            Line {
                gap: index.checked_sub(1).and_then(|before| gap(index, &runs[before], run)),
                number: index + 1,
                began: formatted(run.begin.at, "%F %T"),
                took: took(run, analysis.read_at()),
                rows: grouped(run.rows),
                rate: run.rate().map_or_else(String::new, |rate| format!("{rate:.2}")),
                why: why(run),
                by: join(made_by, false),
            }
        };
        Runs {
            common: all.first().map_or_else(String::new, |first| join(first, true)),
            lines: all.iter().enumerate().map(line).collect(),
            earlier,
        }
    }
}

/// The report, if there are several; the app and the endpoint, the input, the machine, the version; empty if the log does not
/// say.
fn made_by(run: &Run, analysis: &Analysis) -> [String; 5] {
    let begin = &run.begin;
    let to = match begin.app_id {
        _ if begin.simulated => "simulator".to_owned(),
        Some(app_id) => format!("app {app_id} at {}", begin.endpoint),
        None => begin.endpoint.clone(),
    };
    let input = match begin.input.as_str() {
        "-" => "standard input",
        path => path,
    };
    let selected = begin.selected.as_deref().unwrap_or_default();
    let named = |name: &str, value: &str| match value {
        "" => String::new(),
        value => shortened(format!("{name} {value}").trim(), MADE_BY),
    };
    let report = match analysis.parts[..] {
        [] => "",
        _ => &run.report,
    };
    [
        named("report", report),
        named("", &to),
        named("", format!("{input} {selected}").trim()),
        named("on", &begin.host),
        named("zim-batch", &begin.version),
    ]
}

fn took(run: &Run, now: i64) -> String {
    match run.duration() {
        _ if run.is_under_way => format!("{} so far", duration((now - run.begin.at).max(0))),
        Some(took) if run.end.is_some() => duration(took),
        Some(took) => format!("{} until its last record", duration(took)),
        None => "not known".to_owned(),
    }
}

fn why(run: &Run) -> String {
    // It begins with the program's own words, so it needs no guard against spreadsheets: `--until 08:22 was reached`.
    let why = line(&run.why(), MAX_TEXT);
    match &run.end {
        Some(end) => format!("{why} (exit status {})", end.exit),
        None => why,
    }
}

/// The time between two runs, of which the first has this number.
fn gap(number: usize, before: &Run, next: &Run) -> Option<String> {
    let gap = next.begin.at - before.end_at();
    (gap >= 1000).then(|| format!("no run for {}: {}", duration(gap), ended(number, before)))
}

/// Why the run with this number ended, in a few words.
fn ended(number: usize, run: &Run) -> String {
    let ended = match &run.end {
        Some(_) => format!("run {number} had ended: {}", why(run)),
        None => format!("run {number} was {}", why(run)),
    };
    shortened(&ended, BRIEF)
}

/// Why there is no record between these times: a run had ended, and the next one began later. `None` if the same run wrote
/// the records before and after, or if it is not known.
pub(super) fn ended_before(analysis: &Analysis, from: i64, to: i64) -> Option<String> {
    let next = analysis
        .runs
        .iter()
        .position(|run| (from + 1..=to).contains(&run.begin.at))?;
    let before = next.checked_sub(1)?;
    Some(ended(before + 1, &analysis.runs[before]))
}
