//! `--since`: from when on conversations are listed. `--since last` goes by a mark beside the list report, which only a run
//! moves that left nothing to do again.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use zim_batch::ConvType;
use zim_batch::analysis::Analysis;
use zim_batch::files::{self, OWNER_ONLY, TargetError};
use zim_batch::journal::{IfExists, RunLog, read_runs};
use zim_batch::run::summary::Summary;
use zim_batch::text::local;

use crate::cli::args::time::Since;
use crate::cli::errors::Error;
use crate::cli::output::logging::START;
use crate::cli::output::print::print_error;

/// How long before the beginning of the last run `--since last` begins: ZIM's servers may not have the same clock.
const MARGIN: SignedDuration = SignedDuration::from_mins(10);

/// What every mark begins with.
const MARK_BEGINS: &str = r#"{"since":""#;

/// From when on a run lists conversations, and the mark that it moves.
#[derive(Debug)]
pub struct ListedSince {
    /// `None`: all conversations.
    pub since: Option<Timestamp>,
    /// When the list began; a run that is resumed continues it.
    began: Timestamp,
    /// Where the mark is; `None` if this run does not move it.
    mark: Option<PathBuf>,
    conv_type: Option<ConvType>,
    simulated: bool,
    /// What must have left nothing to do again: the list report, and the report of the rows if they are cleared.
    reports: Vec<PathBuf>,
}

/// The moment since which a run that leaves out what is done already must list conversations.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// By ZIM's clock.
    since: Timestamp,
    /// Only conversations of this type were listed.
    #[serde(rename = "type")]
    conv_type: Option<ConvType>,
    /// The run was simulated.
    simulated: bool,
}

impl Mark {
    /// The mark, if it can be read and holds for such a run: one of another type has left out what this run lists.
    fn read(path: &Path, conv_type: Option<ConvType>, simulated: bool) -> Result<Option<Mark>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::Usage(format!("{}: can't be read: {error}", path.display()))),
        };
        if let Ok(metadata) = path.metadata()
            && let Some(owner) = files::other_owner(path, &metadata)
        {
            let why = TargetError::OtherOwner(owner);
            return Err(Error::Usage(format!("{}: {why}", path.display())));
        }
        let mark: Mark = serde_json::from_str(&text).map_err(|_| {
            Error::Usage(format!(
                "{}: this is not what --since last keeps there; remove it to list all conversations once",
                path.display()
            ))
        })?;
        let holds = mark.simulated == simulated && (mark.conv_type.is_none() || mark.conv_type == conv_type);
        Ok(holds.then_some(mark))
    }
}

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
    ) -> Result<ListedSince, Error> {
        let resumed = list.filter(|_| existing == IfExists::Resume);
        let began = resumed
            .and_then(|list| first_began(list, report.unwrap_or(list)))
            .unwrap_or_else(Timestamp::now);
        let path = list.map(|list| files::named_after(list, ".since"));
        let mark = match &path {
            Some(path) => Mark::read(path, conv_type, simulated),
            None => Ok(None),
        };
        let (since, moves_mark) = match since {
            None => (None, true),
            Some(Since::Last) => (mark?.and_then(|mark| mark.since.checked_sub(MARGIN).ok()), true),
            // What was updated before is not listed, unless an earlier run has done it.
            Some(since) => {
                let at = since.at(began);
                let is_covered = mark.ok().flatten().is_some_and(|mark| at <= Some(mark.since));
                (at, is_covered)
            }
        };
        Ok(ListedSince {
            since,
            began,
            mark: path.filter(|_| moves_mark),
            conv_type,
            simulated,
            reports: list.into_iter().chain(report).map(Path::to_owned).collect(),
        })
    }

    /// Says since when.
    pub fn announce(&self) {
        if let Some(since) = self.since {
            tracing::info!(target: START, "only conversations updated since {} are listed", local(since.as_millisecond()));
        }
    }

    /// Moves the mark, if the run has ended and left nothing to do again. `limited`: it ended after a number of rows or users.
    pub fn end(&self, summary: &Summary, limited: bool) {
        let Some(path) = &self.mark else { return };
        if !summary.is_complete() || limited || !self.reports.iter().all(|report| leaves_nothing(report)) {
            return;
        }
        let skew = SignedDuration::from_secs(summary.clock_skew.unwrap_or_default());
        let mark = Mark {
            since: self.began.checked_sub(skew).unwrap_or(self.began),
            conv_type: self.conv_type,
            simulated: self.simulated,
        };
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

/// Whether no failure of the report may be mended by another try.
fn leaves_nothing(report: &Path) -> bool {
    let Ok(analysis) = Analysis::from_file(report) else {
        return false;
    };
    !analysis.reasons.iter().any(|reason| reason.retryable)
}
