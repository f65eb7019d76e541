//! A report as one self-contained HTML page. It shows at a glance whether everything went well, what did not, when, why,
//! and what to do.
//!
//! All text from the report is escaped, by the template engine or by the drawing of the charts. In addition, a content
//! security policy in the page blocks scripts and requests.

mod axis;
mod charts;
mod figure;
mod histogram;
mod labels;
mod plot;
mod scale;

use std::io;
use std::path::Path;
use std::time::SystemTime;

use askama::Template;
use serde::Serialize;

use crate::analysis::{Analysis, Reason, milliseconds};
use crate::code;
use crate::files::{self, OWNER_ONLY};
use crate::journal::{Kind, ReportError};
use crate::row::Outcome;
use crate::text::{duration, grouped, local, table_cell};
use figure::Figure;

/// The beginning of every page, which distinguishes pages from files that must not be replaced.
const MARK: &str = "<!doctype html>\n<!-- zim-batch report -->";

/// Checks that a page may be written to `path`: that it is none of `used`, and that an existing file is a page.
///
/// # Errors
/// [`ReportError::Page`], which says why not.
pub fn check_target<'a>(path: &Path, used: impl IntoIterator<Item = &'a Path>) -> Result<(), ReportError> {
    files::check_target(path, MARK, used).map_err(|reason| ReportError::Page {
        path: path.to_owned(),
        reason,
    })
}

/// The maximum number of each that a page lists, so that its size is bounded.
const CODES: usize = 100;
const REASONS: usize = 40;
const LINES: usize = 60;
const USERS: usize = 20;
const PAUSES: usize = 50;

/// The maximum length of a path or message on the page, in characters.
const MAX_TEXT: usize = 300;

/// The progress of a run that is writing the report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// The process ID of the run.
    pub process: u32,
    /// Rows per second in the last minute.
    pub rate: f64,
    /// Rows without a record, if the rows are known.
    pub rows_left: Option<u64>,
    /// The estimated time of completion at this rate, in milliseconds since 1970.
    pub until: Option<i64>,
}

impl Progress {
    /// The progress of the run in `process`, according to its report.
    pub fn new(process: u32, analysis: &Analysis, rows_left: Option<u64>) -> Progress {
        let rate = analysis.recent_rate();
        let until = rows_left.filter(|_| rate > 0.0).map(|left| {
            let takes = left as f64 / rate * 1000.0;
            milliseconds(SystemTime::now()).saturating_add(takes as i64)
        });
        Progress {
            process,
            rate,
            rows_left,
            until,
        }
    }
}

/// What can be done about rows that are not cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NextStep {
    /// What the command does.
    pub what: String,
    /// The shell command, if there is one.
    pub command: Option<String>,
}

/// The content of a page.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The report's name.
    pub place: &'a str,
    /// The analysis of the report.
    pub analysis: &'a Analysis,
    /// Rows without a record, if the rows are known.
    pub not_run: Option<u64>,
    /// The progress of the run that is writing the report, if there is one.
    pub progress: Option<&'a Progress>,
    /// What can be done.
    pub next: &'a [NextStep],
}

impl Page<'_> {
    /// Writes the page as a whole; never replaces a file that is not a page.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let html = self.to_html()?;
        files::replace(path, MARK, OWNER_ONLY, |out| out.write_all(html.as_bytes()))
    }

    /// The page as HTML.
    pub fn to_html(&self) -> io::Result<String> {
        let html = View::new(self)?.render().map_err(io::Error::other)?;
        Ok(format!("{MARK}\n{html}"))
    }
}

/// The overall status, shown as the color of the headline.
#[derive(Clone, Copy)]
enum Status {
    Good,
    Warn,
    Bad,
    Quiet,
}

/// A number with its name and a note.
struct Tile {
    name: &'static str,
    value: String,
    note: String,
    class: &'static str,
}

/// The values for the template, as text.
#[derive(Template)]
#[template(path = "report.html")]
struct View {
    place: String,
    nonce: String,
    palette: String,
    mood: &'static str,
    sign: &'static str,
    headline: String,
    facts: Vec<String>,
    is_simulated: bool,
    tiles: Vec<Tile>,
    next: Vec<NextStep>,
    after_run: bool,
    figures: Vec<Figure>,
    codes: Vec<[String; 4]>,
    codes_more: usize,
    reasons: Vec<[String; 4]>,
    reasons_more: usize,
    users: Vec<[String; 3]>,
    users_note: String,
    pauses: Vec<[String; 3]>,
    pauses_note: String,
    made: String,
    version: &'static str,
}

impl View {
    fn new(page: &Page) -> io::Result<View> {
        let analysis = page.analysis;
        let (mood, headline) = headline(page);
        let (mood, sign) = match mood {
            Status::Good => ("good", "✓"),
            Status::Warn => ("warn", "!"),
            Status::Bad => ("bad", "✗"),
            Status::Quiet => ("quiet", "…"),
        };
        let (users_note, pauses_note) = (users_note(analysis), pauses_note(analysis));
        Ok(View {
            place: shown(page.place),
            nonce: format!("{:032x}", fastrand::u128(..)),
            palette: plot::style_rules(),
            mood,
            sign,
            headline,
            facts: facts(page),
            is_simulated: analysis.simulated,
            tiles: tiles(page),
            next: page.next.to_vec(),
            after_run: page.progress.is_some(),
            figures: charts::figures(analysis).map_err(|error| io::Error::other(error.to_string()))?,
            codes: codes(analysis),
            codes_more: analysis.codes.len().saturating_sub(CODES),
            reasons: analysis.reasons.iter().take(REASONS).map(reason).collect(),
            reasons_more: analysis.reasons.len().saturating_sub(REASONS),
            users: analysis
                .users
                .iter()
                .take(USERS)
                .map(|user| [shown(&user.user), grouped(user.failed), grouped(user.outside)])
                .collect(),
            users_note,
            pauses: pauses(analysis),
            pauses_note,
            made: local(analysis.read_at()),
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

/// Shortens and sanitises text of a report; the template escapes it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", table_cell(&text[..end])),
        None => table_cell(text).into_owned(),
    }
}

/// The headline: whether everything went well.
fn headline(page: &Page) -> (Status, String) {
    let analysis = page.analysis;
    let [outside, failed, invalid] =
        [Outcome::Outside, Outcome::Failed, Outcome::Invalid].map(|outcome| analysis.outcome(outcome));
    let noun = analysis.kind.noun();
    let done = match analysis.kind {
        Kind::List => "listed",
        Kind::Clear => "cleared",
    };
    let all = analysis.rows;
    let not_run = page.not_run.filter(|_| page.progress.is_none()).unwrap_or_default();
    let parts: Vec<(u64, &str, &str)> = [
        (failed, "failed", "failed"),
        (invalid, "could not be sent", "could not be sent"),
        (outside, "is out of reach", "are out of reach"),
        (not_run, "has no record yet", "have no record yet"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .collect();
    let part_text =
        |&(count, one, more): &(u64, &str, &str)| format!("{} {}", grouped(count), if count == 1 { one } else { more });
    let one = noun.trim_end_matches('s');
    let headline = match (&parts[..], all) {
        ([], _) if page.progress.is_some() => return (Status::Quiet, "Under way, and all is well so far".into()),
        ([], 0) => return (Status::Quiet, format!("There are no {noun} in this report yet")),
        ([], 1) => return (Status::Good, format!("The only {one} is {done}")),
        ([], _) => return (Status::Good, format!("All {} {noun} are {done}", grouped(all))),
        (&[(1, what, _)], 1) if not_run == 0 => format!("The only {one} {what}"),
        (&[(count, _, what)], _) if count == all && not_run == 0 => format!("All {} {noun} {what}", grouped(all)),
        _ => {
            let parts: Vec<String> = parts.iter().map(part_text).collect();
            format!("Of {} {noun}, {}", grouped(all + not_run), parts.join(", "))
        }
    };
    let is_bad = failed + invalid > 0;
    (if is_bad { Status::Bad } else { Status::Warn }, headline)
}

/// Facts below the headline: times, duration, the most frequent reason.
fn facts(page: &Page) -> Vec<String> {
    let analysis = page.analysis;
    let mut facts = Vec::new();
    if let Some(progress) = page.progress {
        let mut text = format!(
            "A run is under way (process {}): {:.1} rows/s in the last minute",
            progress.process, progress.rate
        );
        if let Some(left) = progress.rows_left {
            text += &format!(", {} rows left", grouped(left));
        }
        if let Some(until) = progress.until {
            text += &format!(", until {}", local(until));
        }
        facts.push(text + ".");
    }
    if let (Some(first), Some(last)) = (analysis.first, analysis.last) {
        let pauses: i64 = analysis.pauses().map(|(from, to)| to - from).sum();
        let mut text = match last - first {
            0..1000 => local(first),
            took => format!("{} to {}: {}", local(first), local(last), duration(took)),
        };
        if pauses > 0 {
            text += &format!(", of it {} in pauses", duration(pauses));
        }
        facts.push(text + ".");
    }
    if let Some(reason) = analysis.reasons.iter().max_by_key(|reason| reason.rows) {
        let [_, why, ..] = self::reason(reason);
        facts.push(format!(
            "The most frequent reason: {why} ({}, {}).",
            match reason.rows {
                1 => "1 row".to_owned(),
                more => format!("{} rows", grouped(more)),
            },
            reason.outcome
        ));
    }
    if analysis.is_torn {
        facts.push("The last record was cut short and is left out.".into());
    }
    if let Some((line, count)) = analysis.damaged {
        facts.push(format!(
            "Lines of the report that are not records are left out: {}, the first is line {line}.",
            grouped(count)
        ));
    }
    facts
}

fn tiles(page: &Page) -> Vec<Tile> {
    let analysis = page.analysis;
    let tile = |name, value: String, note: &str, class| Tile {
        name,
        value,
        note: note.to_owned(),
        class,
    };
    let mut tiles = vec![tile(analysis.kind.noun(), grouped(analysis.rows), "", "")];
    for (outcome, note) in [
        (Outcome::Ok, ""),
        (Outcome::Outside, "out of reach"),
        (Outcome::Failed, ""),
        (Outcome::Invalid, "not sent"),
        (Outcome::Skipped, "repeated"),
    ] {
        let count = analysis.outcome(outcome);
        let class = if count > 0 { outcome.as_str() } else { "zero" };
        tiles.push(tile(outcome.as_str(), grouped(count), note, class));
    }
    if let Some(not_run) = page.not_run.filter(|&rows| rows > 0) {
        let name = if page.progress.is_some() { "left" } else { "not run" };
        tiles.push(tile(name, grouped(not_run), "no record yet", ""));
    }
    if analysis.kind == Kind::List {
        tiles.push(tile("conversations", grouped(analysis.conversations), "", ""));
    }
    let retries = match analysis.retries {
        0 => "no retries".to_owned(),
        retries => format!("{} of them retries", grouped(retries)),
    };
    tiles.push(tile("requests", grouped(analysis.requests), &retries, ""));
    if let Some(rate) = analysis.rate() {
        tiles.push(tile("rows/s", format!("{rate:.2}"), "without pauses over 1 min", ""));
    }
    if analysis.has_latency() {
        let latency = analysis.latency_ms();
        let note = format!(
            "median; 90 % {}, 99 % {}, longest {}",
            grouped(latency.p90 as u64),
            grouped(latency.p99 as u64),
            grouped(latency.max as u64)
        );
        tiles.push(tile(
            "latency",
            format!("{} ms", grouped(latency.p50 as u64)),
            &note,
            "latency",
        ));
    }
    tiles
}

fn codes(analysis: &Analysis) -> Vec<[String; 4]> {
    let mut codes: Vec<(&i64, &u64)> = analysis.codes.iter().collect();
    codes.sort_by_key(|&(code, rows)| (std::cmp::Reverse(*rows), *code));
    let line = |(code, rows): (&i64, &u64)| {
        let known = code::find(*code);
        [
            code.to_string(),
            grouped(*rows),
            known
                .map_or("not in ZEGO's published lists", |known| known.meaning)
                .to_owned(),
            known
                .map_or("ask ZEGO's support, with the report's request_id", |known| known.advice)
                .to_owned(),
        ]
    };
    codes.into_iter().take(CODES).map(line).collect()
}

/// The cells of a reason: outcome, reason, rows, lines.
fn reason(reason: &Reason) -> [String; 4] {
    let message = shown(&reason.message);
    let why = match reason.code {
        Some(code) => format!("code {code}: {message}"),
        None if message.is_empty() => "no message".to_owned(),
        None => message,
    };
    // Failed rows are sent again by a command; invalid ones have to be found in the input.
    let lines = if reason.outcome == Outcome::Invalid { LINES } else { 8 };
    let shown: Vec<String> = reason.lines.iter().take(lines).map(u64::to_string).collect();
    let more = reason.rows - shown.len() as u64;
    let mut lines = shown.join(", ");
    if more > 0 {
        lines += &format!(" and {} more", grouped(more));
    }
    [reason.outcome.to_string(), why, grouped(reason.rows), lines]
}

fn users_note(analysis: &Analysis) -> String {
    let mut notes = Vec::new();
    if analysis.users.len() > USERS {
        notes.push(format!("The {USERS} with the most rows; there are more."));
    }
    if analysis.users_missed > 0 {
        notes.push(format!(
            "So many users have such rows that each may have up to {} more.",
            grouped(analysis.users_missed)
        ));
    }
    notes.join(" ")
}

/// The longest pauses, in order of time.
fn pauses(analysis: &Analysis) -> Vec<[String; 3]> {
    let mut pauses: Vec<(i64, i64)> = analysis.pauses().collect();
    pauses.sort_by_key(|(from, to)| from - to);
    pauses.truncate(PAUSES);
    pauses.sort_unstable();
    pauses
        .into_iter()
        .map(|(from, to)| [local(from), local(to), duration(to - from)])
        .collect()
}

fn pauses_note(analysis: &Analysis) -> String {
    match analysis.pauses().count() {
        count if count > PAUSES => format!(
            "The {PAUSES} longest of {} times without a record for more than {}.",
            grouped(count as u64),
            duration(analysis.min_pause())
        ),
        _ => format!(
            "Times without a record for more than {}.",
            duration(analysis.min_pause())
        ),
    }
}
