//! `--since`: from when on conversations are listed. `--since last` goes by a mark beside the list report, which only a run
//! moves that left nothing to do again.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zim_batch::ConvType;
use zim_batch::analysis::Analysis;
use zim_batch::files::{self, OWNER_ONLY, TargetError};
use zim_batch::journal::{IfExists, Kind, LoggedRun, RunLog, read_runs};
use zim_batch::row::Outcome;
use zim_batch::run::summary::Summary;
use zim_batch::text::{local, one_line};

use crate::cli::args::Given;
use crate::cli::args::time::Since;
use crate::cli::errors::Error;
use crate::cli::output::logging::START;
use crate::cli::output::next;
use crate::cli::output::print::print_error;

/// How long before the beginning of the last run `--since last` begins: ZIM's servers may not have the same clock.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);

/// What every mark begins with.
const MARK_BEGINS: &str = r#"{"simulated":"#;

/// From when on a run lists conversations, and the mark that it moves.
#[derive(Debug)]
pub struct ListedSince {
    /// `None`: all conversations.
    pub since: Option<Timestamp>,
    /// When the list began; a run that is resumed continues it.
    began: Timestamp,
    /// Where the mark is, and what it says; `None` if this run does not move it.
    mark: Option<(PathBuf, Mark)>,
    listing: Listing,
    /// What must have left nothing to do again: the list report, and the report of the rows if they are cleared.
    reports: Vec<PathBuf>,
}

/// The moments, by ZIM's clock, since which a run must list conversations that leaves out what is done already.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Mark {
    /// The runs were simulated.
    simulated: bool,
    /// By runs that listed conversations of both types.
    all: Option<Timestamp>,
    /// By runs that listed only those of this type.
    peer: Option<Timestamp>,
    group: Option<Timestamp>,
}

impl Mark {
    /// The mark, if it can be read; an empty one for the first run, or after simulated runs for a real one.
    fn read(path: &Path, simulated: bool) -> Result<Mark, Error> {
        let empty = Mark {
            simulated,
            ..Mark::default()
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(empty),
            Err(error) => return Err(Error::Usage(format!("{}: can't be read: {error}", path.display()))),
        };
        if let Ok(metadata) = path.metadata()
            && let Some(owner) = files::other_owner(path, &metadata)
        {
            let why = TargetError::OtherOwner(owner);
            return Err(Error::Usage(format!("{}: {why}", path.display())));
        }
        let mark = text.starts_with(MARK_BEGINS).then(|| serde_json::from_str(&text));
        let mark: Option<Mark> = mark.and_then(Result::ok);
        let mark = mark.ok_or_else(|| {
            Error::Usage(format!(
                "{}: this is not what --since last keeps there; remove it to list all conversations once",
                path.display()
            ))
        })?;
        Ok(if mark.simulated == simulated { mark } else { empty })
    }

    /// Since when conversations of this type, or of both, must be listed; `None`: all of them.
    fn since(&self, conv_type: Option<ConvType>) -> Option<Timestamp> {
        match conv_type {
            Some(ConvType::Peer) => self.all.max(self.peer),
            Some(ConvType::Group) => self.all.max(self.group),
            None => self.since(Some(ConvType::Peer)).min(self.since(Some(ConvType::Group))),
        }
    }

    fn set(&mut self, conv_type: Option<ConvType>, since: Timestamp) {
        *match conv_type {
            Some(ConvType::Peer) => &mut self.peer,
            Some(ConvType::Group) => &mut self.group,
            None => &mut self.all,
        } = Some(since);
    }
}

/// The flags that choose what is listed of a user.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Listing {
    since: Option<Since>,
    conv_type: Option<ConvType>,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.map(|since| format!("--since {since}"));
        let conv_type = self.conv_type.map(|conv_type| format!("--type {conv_type}"));
        match (since, conv_type) {
            (None, None) => f.write_str(ALL),
            (since, conv_type) => f.write_str(&since.into_iter().chain(conv_type).collect::<Vec<_>>().join(" ")),
        }
    }
}

/// How a run lists that has neither `--since` nor `--type`.
pub const ALL: &str = "all conversations";

impl ListedSince {
    /// Of a run whose list report is `list`, and whose rows are recorded in `report` if they are cleared.
    ///
    /// # Errors
    /// With `--since last`, if the mark can't be read.
    pub fn new(
        since: Option<Since>,
        conv_type: Option<ConvType>,
        simulated: bool,
        (list, report): (Option<&Path>, Option<&Path>),
        existing: IfExists,
        given: &Given,
    ) -> Result<ListedSince, Error> {
        let listing = Listing { since, conv_type };
        let resumed = list.filter(|_| existing == IfExists::Resume);
        let began = resumed
            .and_then(|list| first_began(list, report.unwrap_or(list)))
            .unwrap_or_else(Timestamp::now);
        let path = list.map(|list| files::named_after(list, ".since"));
        let mark = path.as_deref().map(|path| Mark::read(path, simulated)).transpose();
        let (since, mut moves_mark) = match since {
            None => (None, true),
            Some(Since::Last) => {
                let since = mark
                    .as_ref()
                    .map_err(|_| ())
                    .ok()
                    .and_then(|mark| mark.as_ref()?.since(conv_type));
                (since.and_then(|since| since.checked_sub(MARGIN).ok()), true)
            }
            // What was updated before is not listed, unless an earlier run has done it.
            Some(since) => {
                let at = since.at(began);
                let known = mark.as_ref().ok().and_then(|mark| mark.as_ref()?.since(conv_type));
                (at, known.is_some_and(|known| at <= Some(known)))
            }
        };
        let mark = match (listing.since, mark) {
            (Some(Since::Last), mark) => mark?,
            (_, mark) => mark.ok().flatten(),
        };
        if let Some(list) = resumed {
            moves_mark &= is_listed_alike(list, report.unwrap_or(list), listing, &next::again(given));
        }
        Ok(ListedSince {
            since,
            began,
            mark: path.zip(mark).filter(|_| moves_mark),
            listing,
            reports: list.into_iter().chain(report).map(Path::to_owned).collect(),
        })
    }

    /// The flags that choose what is listed, for the log of runs.
    pub fn listing(&self) -> String {
        self.listing.to_string()
    }

    /// Says since when.
    pub fn announce(&self) {
        if let Some(since) = self.since {
            tracing::info!(target: START, "only conversations updated since {} are listed", local(since.as_millisecond()));
        }
    }

    /// Moves the mark, if the run has ended and left nothing to do again. `limited`: it ended after a number of rows or users.
    pub fn end(self, summary: &Summary, limited: bool) {
        let Some((path, mut mark)) = self.mark else { return };
        let leave_nothing = || self.reports.iter().all(|report| leaves_nothing(report));
        if !summary.is_complete() || limited || !leave_nothing() {
            return;
        }
        let skew = SignedDuration::from_secs(summary.clock_skew.unwrap_or_default());
        mark.set(
            self.listing.conv_type,
            self.began.checked_sub(skew).unwrap_or(self.began),
        );
        let path = &path;
        let written = files::replace(path, MARK_BEGINS, OWNER_ONLY, |out| {
            serde_json::to_writer(&mut *out, &mark)?;
            out.write_all(b"\n")
        });
        if let Err(error) = written {
            print_error(&format!(
                "{}: can't be written: {error}; the next run with --since last reaches back as far as this one",
                path.display()
            ));
        }
    }
}

/// What happens to results of an earlier run, by the flags `typed`. With `--since last`, `--resume` resumes a run that did not
/// finish; after one that did, a new run begins, so that the same command serves every night. `list` is the list report of a
/// run that records rows in `report`.
pub fn existing(
    since: Option<Since>,
    typed: IfExists,
    (list, report): (Option<&Path>, Option<&Path>),
    simulated: bool,
) -> IfExists {
    let (Some(Since::Last), IfExists::Resume, Some(report)) = (since, typed, report) else {
        return typed;
    };
    let Ok(analysis) = Analysis::from_file(report) else {
        return typed;
    };
    // A simulated run must not replace a real report, nor a real run a simulated one: resuming refuses that.
    let of_users = analysis.listed.as_deref().filter(|listed| listed.rows > 0);
    let is_alike = of_users.unwrap_or(&analysis).simulated == simulated;
    if analysis.under_way.is_some() || !is_alike {
        return typed;
    }
    if analysis.left() == Some(0) {
        tracing::info!(target: START, "{}: the run of this report has finished; a new one begins", report.display());
        IfExists::Overwrite
    } else if analysis.rows > 0 && list.is_some_and(has_no_user) {
        tracing::info!(
            target: START,
            "{}: a new run was ended while it replaced this report; it begins again",
            report.display()
        );
        IfExists::Overwrite
    } else {
        typed
    }
}

/// Whether a list report exists and has no record. The list report is replaced before the report of the rows, and rows are sent
/// only when it has their user: so records of rows are then those of an earlier run.
fn has_no_user(list: &Path) -> bool {
    match Analysis::from_file(list) {
        Ok(analysis) => analysis.rows == 0,
        // Its header is not written yet.
        Err(_) => list.metadata().is_ok_and(|list| list.len() == 0),
    }
}

impl Since {
    /// The moment, for a list that began then; `None` before the beginning of the calendar.
    fn at(self, began: Timestamp) -> Option<Timestamp> {
        match self {
            Since::At(at) => Some(at),
            Since::Back(duration) => began.checked_sub(duration).ok(),
            Since::Last => None,
        }
    }
}

/// When the list began that is resumed: by the log of its runs, or else its first record.
fn first_began(list: &Path, logged_beside: &Path) -> Option<Timestamp> {
    let logged = read_runs(&RunLog::path_of(logged_beside));
    let logged = logged.and_then(|runs| Timestamp::from_millisecond(runs.first()?.begin.at).ok());
    let recorded = || Timestamp::from_millisecond(Analysis::from_file(list).ok()?.first?).ok();
    match (logged, recorded()) {
        (Some(logged), Some(recorded)) => Some(logged.min(recorded)),
        (None, recorded) => recorded,
        // A log without records is of another report that was here.
        (Some(_), None) => None,
    }
}

/// Whether no failure of the report may be mended by another try. A list that has listed no user says nothing: its input may
/// be the wrong file.
fn leaves_nothing(report: &Path) -> bool {
    let Ok(analysis) = Analysis::from_file(report) else {
        return false;
    };
    let has_listed = analysis.kind != Kind::List || analysis.outcome(Outcome::Ok) > 0;
    has_listed && !analysis.reasons.iter().any(|reason| reason.retryable)
}

/// Whether all users of a list that is resumed are listed in the same way, by the log of its runs. Users that an earlier run
/// has listed in another way are not listed again; that is said. `command` is that of this run.
fn is_listed_alike(list: &Path, logged_beside: &Path, listing: Listing, command: &str) -> bool {
    let records = Analysis::from_file(list).map_or(0, |analysis| analysis.rows);
    if records == 0 {
        return true;
    }
    let runs = read_runs(&RunLog::path_of(logged_beside)).unwrap_or_default();
    let runs = runs_that_listed(&runs, records);
    // What lists more than that is no worse.
    let sinces = [listing.since, None];
    let alike = sinces.map(|since| [listing.conv_type, None].map(|conv_type| Listing { since, conv_type }.to_string()));
    let mut begins = runs.iter().map(|run| &run.begin);
    let other = begins.find(|begin| !alike.as_flattened().contains(&begin.listing));
    match other {
        None => !runs.is_empty(),
        Some(other) => {
            if !other.listing.is_empty() {
                tracing::warn!(
                    "{}: an earlier run has listed users with other flags ({}), which does not change for them; this run lists \
                     the rest ({}). A later '--since last' still begins where it did before",
                    list.display(),
                    one_line(&as_typed(&other.listing, &other.command)),
                    one_line(&as_typed(&listing.to_string(), command)),
                );
            }
            false
        }
    }
}

/// The runs that have written records of users, as far as the log tells. So many `records` are in the list report.
fn runs_that_listed(runs: &[LoggedRun], records: u64) -> Vec<&LoggedRun> {
    let mut recorded = 0;
    let mut has_listed = |run: &LoggedRun, next: Option<&LoggedRun>| {
        let summary = run.end.as_ref().and_then(|end| end.summary);
        if run.begin.lists {
            let Some(users) = summary.and_then(|summary| summary.users) else {
                return true;
            };
            let before = std::mem::replace(&mut recorded, users.recorded());
            return users.recorded() > before;
        }
        match summary {
            Some(summary) => summary.recorded() > 0,
            None => next.map_or(records, |next| next.begin.already_done) != run.begin.already_done,
        }
    };
    let with_next = runs.iter().enumerate().map(|(index, run)| (run, runs.get(index + 1)));
    let listed = with_next.filter(|(run, next)| has_listed(run, *next));
    listed.map(|(run, _)| run).collect()
}

/// The flags of a listing as they were typed in this command, if that can be told.
fn as_typed(listing: &str, command: &str) -> String {
    let mut words = command.split(' ');
    let mut typed = Vec::new();
    while let Some(word) = words.next() {
        if ["--since", "--type"].contains(&word) {
            typed.extend([word, words.next().unwrap_or_default()]);
        } else if word.starts_with("--since=") || word.starts_with("--type=") {
            typed.push(word);
        }
    }
    match typed.is_empty() || typed.iter().any(|word| word.contains('\'')) {
        true => listing.to_owned(),
        false => typed.join(" "),
    }
}
