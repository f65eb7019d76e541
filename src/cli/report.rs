//! `zim-batch report`: what a report says, of a run that ended or is under way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::io::BufReader;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use zim_batch::code;
use zim_batch::report::analysis::{Analysis, Kind, Reason, UserRows};
use zim_batch::report::page::{self, NextStep, Page, Progress};
use zim_batch::report::show::{duration, harmless, local, utc};
use zim_batch::report::summary::{Latencies, grouped};
use zim_batch::row::Outcome;
use zim_batch::rows::{Columns, Encoding, Format, Rows, Source, Types};

use super::error::Error;
use super::shell::quoted;
use super::{ExitStatus, print, print_error, settings};

/// How many users, pauses and lines the table names; JSON has more of them.
const SHOWN: usize = 10;

/// The width of the table, in characters.
const WIDTH: usize = 80;

pub const EXAMPLES: &str = "\
Examples:
  zim-batch report out.csv
  zim-batch report out.csv --rows rows.csv
  zim-batch report out.csv --html out.html
  zim-batch report out.csv --json";

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The report that a run wrote or is writing, or an outside log; - is standard input
    #[arg(value_name = "REPORT")]
    report: PathBuf,
    /// The rows of the run: says how many of them have no record yet, and until when a run will take
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// The delimiter of the rows, if their header line does not show it: one character, or 'tab'
    #[arg(long, value_name = "CHAR", value_parser = settings::parse_delimiter, requires = "rows")]
    delimiter: Option<u8>,
    /// The encoding of the rows, by its WHATWG label
    #[arg(long, value_name = "NAME", value_parser = settings::parse_encoding, requires = "rows")]
    encoding: Option<&'static Encoding>,
    /// The columns of the rows, by header name or by number: user=A,conv=B,type=C
    #[arg(long, value_name = "MAP", requires = "rows")]
    columns: Option<Columns>,
    /// More words for the types of the rows: single=0,room=2
    #[arg(long, value_name = "MAP", requires = "rows")]
    types: Option<Types>,
    /// Write one self-contained page with charts, for a browser; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl ReportArgs {
    /// Whether this file is read or written.
    pub fn uses(&self, file: &Path) -> bool {
        let others = [&self.rows, &self.html].into_iter().flatten();
        std::iter::once(&self.report)
            .chain(others)
            .any(|path| settings::same_file(path, file))
    }
}

pub fn report(args: &ReportArgs) -> Result<ExitCode, Error> {
    if let Some(html) = &args.html {
        check_page(html, [Some(&args.report), args.rows.as_ref()].into_iter().flatten())?;
    }
    let found = Found::read(args)?;
    let written = args.html.as_ref().map(|html| found.page().write(html));
    let text = match args.json {
        true => {
            let json = serde_json::to_string(&found.json()).map_err(|error| Error::Unexpected(error.to_string()))?;
            format!("{json}\n")
        }
        false => match (&args.html, &written) {
            (Some(html), Some(Ok(()))) if html.is_file() => format!("{found}\npage           {}\n", html.display()),
            _ => found.to_string(),
        },
    };
    print(&text)?;
    let mut status = ExitStatus::Success;
    if let Some((line, count)) = found.analysis.damaged {
        print_error(&format!(
            "{}, line {line}: this is no record of a report{}, so it is left out above, and what became of its row is \
             unknown; remove the line and resume the run: its row will be sent again",
            harmless(&found.place),
            match count {
                1 => String::new(),
                more => format!(" ({} such lines or more in all)", grouped(more)),
            }
        ));
        status = ExitStatus::Input;
    }
    if let (Some(html), Some(Err(error))) = (&args.html, written) {
        print_error(&format!("{}: the page can't be written: {error}", html.display()));
        status = ExitStatus::Report;
    }
    Ok(status.into())
}

/// Refuses to write a page over one of `others`, or over anything that is no page.
pub fn check_page<'a>(html: &Path, others: impl IntoIterator<Item = &'a PathBuf>) -> Result<(), Error> {
    Ok(page::check_target(html, others.into_iter().map(PathBuf::as_path))?)
}

/// Writes the page of a run that has just ended, with `not_run` rows that have no record. The run's exit status tells how
/// the run went, so a page that can't be written is only said.
pub fn write_page_after_run(report: &Path, rows: &Path, not_run: u64, html: &Path) {
    let write = || -> Result<(), String> {
        let analysis = Analysis::of_file(report).map_err(|error| error.to_string())?;
        let rows = rows.is_file().then_some(rows);
        let found = Found::new(report, rows, analysis, Some(not_run), None);
        found.page().write(html).map_err(|error| error.to_string())
    };
    if let Err(error) = write() {
        print_error(&format!(
            "{}: the page can't be written: {error}. The report is not affected; to make its page: zim-batch report {} \
             --html FILE",
            html.display(),
            quoted_path(report)
        ));
    }
}

/// All that there is to say about a report.
struct Found {
    place: String,
    analysis: Analysis,
    /// Rows that have no record, if the rows are known.
    not_run: Option<u64>,
    progress: Option<Progress>,
    next: Vec<NextStep>,
}

impl Found {
    fn read(args: &ReportArgs) -> Result<Found, Error> {
        let rows = args.rows.as_ref().map(|rows| count(rows, args)).transpose()?;
        if args.report.as_os_str() == "-" {
            let place = "standard input".to_owned();
            let analysis = Analysis::of(BufReader::with_capacity(256 * 1024, std::io::stdin()), &place)?;
            return Ok(Found {
                not_run: rows.map(|rows| rows.saturating_sub(analysis.rows)),
                place,
                analysis,
                progress: None,
                next: Vec::new(),
            });
        }
        // Before reading: a run that ends meanwhile was under way when this was asked for.
        let holder = zim_batch::report::holder(&args.report);
        let analysis = Analysis::of_file(&args.report)?;
        let not_run = rows.map(|rows| rows.saturating_sub(analysis.rows));
        Ok(Found::new(
            &args.report,
            args.rows.as_deref(),
            analysis,
            not_run,
            holder,
        ))
    }

    fn new(report: &Path, rows: Option<&Path>, analysis: Analysis, not_run: Option<u64>, holder: Option<u32>) -> Found {
        let progress = holder.map(|process| Progress::new(process, &analysis, not_run));
        let mut found = Found {
            place: report.display().to_string(),
            analysis,
            not_run,
            progress,
            next: Vec::new(),
        };
        found.next = next_steps(report, rows, &found);
        found
    }

    fn page(&self) -> Page<'_> {
        Page {
            place: &self.place,
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

/// Counts the rows as a run would.
fn count(rows: &Path, args: &ReportArgs) -> Result<u64, Error> {
    let format = Format {
        delimiter: args.delimiter,
        columns: args.columns.clone().unwrap_or_default(),
        encoding: args.encoding,
        types: args.types.clone().unwrap_or_default(),
    };
    let mut rows = Rows::open(&Source::from(rows.to_owned()), &format)?;
    let mut count = 0;
    while rows.next_raw()?.is_some() {
        count += 1;
    }
    Ok(count)
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

/// The table for people.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        writeln!(f, "report         {}", harmless(&self.place))?;
        if analysis.simulated {
            writeln!(f, "simulated      sent to the simulator, not to ZIM")?;
        }
        if analysis.is_torn {
            writeln!(f, "torn           the last record was cut short and is left out")?;
        }
        if let Some(progress) = &self.progress {
            write!(
                f,
                "under way      process {}: {:.1} rows/s in the last minute",
                progress.process, progress.rate
            )?;
            match (progress.rows_left, progress.until) {
                (Some(left), Some(until)) => {
                    write!(
                        f,
                        "\n               {} rows left, until {}",
                        grouped(left),
                        local(until)
                    )?;
                }
                (Some(left), None) => write!(f, "\n               {} rows left", grouped(left))?,
                (None, _) => {}
            }
            writeln!(f)?;
        }
        self.fmt_counts(f)?;
        self.fmt_times(f)?;
        self.fmt_codes(f)?;
        self.fmt_reasons(f)?;
        self.fmt_users(f)?;
        if !self.next.is_empty() {
            writeln!(
                f,
                "\nWhat to do{}",
                if self.progress.is_some() {
                    ", when the run has ended"
                } else {
                    ""
                }
            )?;
            for step in &self.next {
                writeln!(f, "  {}", step.what)?;
                if let Some(command) = &step.command {
                    writeln!(f, "    {command}")?;
                }
            }
        }
        Ok(())
    }
}

impl Found {
    fn fmt_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        writeln!(f, "{:<15}{:>12}", analysis.kind.noun(), grouped(analysis.rows))?;
        let mut line = |name: &str, number: u64, note: &str| match number {
            0 => Ok(()),
            number => writeln!(
                f,
                "{}",
                format!("  {name:<13}{:>12}  {note}", grouped(number)).trim_end()
            ),
        };
        line("ok", analysis.outcome(Outcome::Ok), "")?;
        line(
            "outside",
            analysis.outcome(Outcome::Outside),
            "out of reach, not cleared",
        )?;
        line("failed", analysis.outcome(Outcome::Failed), "")?;
        line("invalid", analysis.outcome(Outcome::Invalid), "not sent")?;
        line("skipped", analysis.outcome(Outcome::Skipped), "repeated, not sent")?;
        if self.progress.is_none() {
            line("not run", self.not_run.unwrap_or_default(), "no record yet")?;
        }
        if analysis.kind == Kind::List {
            writeln!(f, "conversations  {:>12}", grouped(analysis.conversations))?;
        }
        let retries = match analysis.retries {
            0 => String::new(),
            retries => format!("  {} of them retries", grouped(retries)),
        };
        writeln!(f, "requests       {:>12}{retries}", grouped(analysis.requests))?;
        if analysis.has_latency() {
            let latency = analysis.latency_ms();
            writeln!(
                f,
                "latency        {:>9} ms  median; 90 % {} ms, 99 % {} ms, longest {} ms",
                grouped(latency.p50 as u64),
                grouped(latency.p90 as u64),
                grouped(latency.p99 as u64),
                grouped(latency.max as u64)
            )?;
        }
        Ok(())
    }

    fn fmt_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        let (Some(first), Some(last)) = (analysis.first, analysis.last) else {
            return Ok(());
        };
        writeln!(f, "first          {}", local(first))?;
        write!(f, "last           {}", local(last))?;
        if last >= first + 1000 {
            write!(f, "  after {}", duration(last - first))?;
        }
        writeln!(f)?;
        if let Some(rate) = analysis.rate() {
            writeln!(f, "rate           {rate:>12.2}  rows/s, without the pauses")?;
        }
        if analysis.untimed > 0 {
            writeln!(f, "without time   {:>12}", grouped(analysis.untimed))?;
        }
        let mut pauses: Vec<(i64, i64)> = analysis.pauses().collect();
        if pauses.is_empty() {
            return Ok(());
        }
        let total: i64 = pauses.iter().map(|(from, to)| to - from).sum();
        writeln!(
            f,
            "pauses         {:>12}  of more than {}, {} in all",
            grouped(pauses.len() as u64),
            duration(analysis.pause_from()),
            duration(total)
        )?;
        let count = pauses.len();
        if count > SHOWN {
            pauses.sort_by_key(|(from, to)| from - to);
            pauses.truncate(SHOWN);
            pauses.sort_unstable();
            writeln!(f, "  the longest:")?;
        }
        for (from, to) in pauses {
            writeln!(f, "  {} to {}  {}", local(from), local(to), duration(to - from))?;
        }
        Ok(())
    }

    fn fmt_codes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        if analysis.codes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\ncode                 rows  meaning")?;
        let mut codes: Vec<(&i64, &u64)> = analysis.codes.iter().collect();
        codes.sort_by_key(|&(code, rows)| (std::cmp::Reverse(*rows), *code));
        for (code, rows) in codes {
            let known = code::find(*code);
            let mut text = String::new();
            wrap(
                &mut text,
                27,
                known.map_or("not in ZEGO's published lists", |known| known.meaning),
            );
            if let Some(advice) = known.map(|known| known.advice).filter(|advice| !advice.is_empty()) {
                text.push('\n');
                text.push_str(&" ".repeat(27));
                wrap(&mut text, 27, &format!("→ {advice}"));
            }
            writeln!(f, "{code:<13}{:>12}  {text}", grouped(*rows))?;
        }
        if analysis.other_codes > 0 {
            writeln!(f, "{:<13}{:>12}", "others", grouped(analysis.other_codes))?;
        }
        Ok(())
    }

    fn fmt_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = &self.analysis.reasons;
        if reasons.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nnot cleared          rows  why, and on which lines of the input")?;
        for reason in reasons {
            let mut text = String::new();
            let why = match reason.code {
                Some(code) => format!("code {code}: {}", harmless(&reason.message)),
                None => harmless(&reason.message),
            };
            wrap(&mut text, 27, &why);
            text.push('\n');
            text.push_str(&" ".repeat(27));
            // An invalid row has to be found in the input; a failed one is sent again by a command.
            let most = match reason.outcome {
                Outcome::Invalid => usize::MAX,
                _ => SHOWN,
            };
            wrap(&mut text, 27, &lines(reason, most));
            writeln!(f, "{:<13}{:>12}  {text}", reason.outcome, grouped(reason.rows))?;
        }
        Ok(())
    }

    fn fmt_users(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        if analysis.users.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n      failed     outside  user")?;
        for user in analysis.users.iter().take(SHOWN) {
            writeln!(
                f,
                "{:>12}{:>12}  {}",
                grouped(user.failed),
                grouped(user.outside),
                harmless(&user.user)
            )?;
        }
        if analysis.users.len() > SHOWN {
            writeln!(f, "  and more; these have the most rows (see --json)")?;
        }
        if analysis.users_missed > 0 {
            writeln!(
                f,
                "  so many users have such rows that each may have up to {} more",
                grouped(analysis.users_missed)
            )?;
        }
        Ok(())
    }
}

/// The lines of the input, at most so many of them.
fn lines(reason: &Reason, most: usize) -> String {
    let shown: Vec<String> = reason.lines.iter().take(most).map(u64::to_string).collect();
    let more = reason.rows - shown.len() as u64;
    let mut text = format!("line{} {}", if reason.rows == 1 { "" } else { "s" }, shown.join(", "));
    if more > 0 {
        let _ = write!(text, " and {} more", grouped(more));
    }
    text
}

/// Adds `words` to `text`; lines after the first are indented.
fn wrap(text: &mut String, indent: usize, words: &str) {
    let mut column = indent;
    for (index, word) in words.split(' ').enumerate() {
        let len = word.chars().count();
        if index > 0 {
            if column + 1 + len > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text.push_str(word);
        column += len;
    }
}

/// What can be done about the rows that are not cleared.
fn next_steps(report: &Path, rows: Option<&Path>, found: &Found) -> Vec<NextStep> {
    let analysis = &found.analysis;
    let mut steps = Vec::new();
    let mut step = |what: String, command: Option<String>| steps.push(NextStep { what, command });
    // Rows of a rehearsal have not failed at ZIM.
    let simulate = if analysis.simulated { " --simulate" } else { "" };
    let resume = || {
        rows.map(|rows| {
            format!(
                "zim-batch clear {} --report {} --resume{simulate}",
                quoted_path(rows),
                quoted_path(report)
            )
        })
    };
    if analysis.kind == Kind::Clear {
        let again = |outcome: Outcome, suffix: &str| {
            let fresh = fresh(report, suffix)?;
            Some(format!(
                "zim-batch clear {} --only {outcome} --report {}{simulate}",
                quoted_path(report),
                quoted_path(&fresh)
            ))
        };
        let not_run = found.not_run.filter(|&rows| rows > 0 && found.progress.is_none());
        if let Some(not_run) = not_run {
            step(
                format!("Send the {} that have no record yet", rows_of(not_run, "")),
                resume(),
            );
        }
        match analysis.outcome(Outcome::Failed) {
            0 => {}
            failed => step(
                format!("Send the {} once more", rows_of(failed, "failed ")),
                again(Outcome::Failed, "retry"),
            ),
        }
        match analysis.outcome(Outcome::Outside) {
            0 => {}
            outside => step(
                format!(
                    "Send the {} once more, after ZEGO has raised the limit",
                    rows_of(outside, "outside ")
                ),
                again(Outcome::Outside, "second"),
            ),
        }
        match analysis.outcome(Outcome::Invalid) {
            0 => {}
            invalid => step(
                format!("Correct the {} in the input, then resume", rows_of(invalid, "invalid ")),
                resume(),
            ),
        }
    }
    steps
}

fn rows_of(count: u64, which: &str) -> String {
    match count {
        1 => format!("1 {which}row"),
        more => format!("{} {which}rows", grouped(more)),
    }
}

/// A report's name that is not taken yet, nor its outside log's, beside `report`.
fn fresh(report: &Path, suffix: &str) -> Option<PathBuf> {
    let name = report.file_name()?.as_bytes();
    let stem = name.strip_suffix(b".csv").unwrap_or(name);
    let with = |ending: &str| report.with_file_name(OsString::from_vec([stem, ending.as_bytes()].concat()));
    (1_u32..1000)
        .map(|number| match number {
            1 => format!(".{suffix}"),
            more => format!(".{suffix}{more}"),
        })
        .find(|ending| {
            [".csv", ".outside.csv"]
                .iter()
                .all(|extension| with(&format!("{ending}{extension}")).symlink_metadata().is_err())
        })
        .map(|ending| with(&format!("{ending}.csv")))
}

/// A path as an argument that a shell can be given: quoted, never an option, and with no control character.
fn quoted_path(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let dot = if bytes.starts_with(b"-") { "./" } else { "" };
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => quoted(format!("{dot}{text}")),
        _ => {
            let mut text = format!("$'{dot}");
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => text.push(char::from(byte)),
                    _ => {
                        let _ = write!(text, "\\x{byte:02x}");
                    }
                }
            }
            text + "'"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn paths_are_quoted_so_that_a_shell_takes_them_as_they_are() {
        let quoted = |bytes: &[u8]| quoted_path(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(quoted(b"a/out.csv"), "a/out.csv");
        assert_eq!(quoted(b"my out.csv"), "'my out.csv'");
        assert_eq!(quoted(b"-out.csv"), "./-out.csv");
        assert_eq!(quoted(b"a\x1b'\xff.csv"), r"$'a\x1b\'\xff.csv'");
    }

    #[test]
    fn what_to_type_next_never_names_a_file_that_exists() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let report = path("out.csv");
        assert_eq!(fresh(&report, "retry"), Some(path("out.retry.csv")));
        std::fs::write(path("out.retry.csv"), "").unwrap();
        std::fs::write(path("out.retry2.outside.csv"), "").unwrap();
        assert_eq!(fresh(&report, "retry"), Some(path("out.retry3.csv")));
        assert_eq!(fresh(&path("out.2026"), "retry"), Some(path("out.2026.retry.csv")));
    }
}
