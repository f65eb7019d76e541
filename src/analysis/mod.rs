//! Analyses a whole report, over all its runs: in one pass, in bounded memory; or several reports as one (`several.rs`).
//!
//! Everything that could grow has a bound: buckets of time are merged pairwise, adjacent spans of time are merged, and the
//! numbers of separate users, codes and reasons are limited. The analysis shows where a limit made it inexact.

mod collector;
mod model;
mod present;
mod runs;
mod several;
mod spans;
#[cfg_attr(not(feature = "page"), expect(dead_code, reason = "only the page shows all of it"))]
mod timeline;
mod users;
mod values;
mod work;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::journal::{self, FileStart, ReportError, ReportRecord, list_report_of};
use collector::Collector;
pub use model::Analysis;
pub use present::Present;
use runs::Runs;
pub use runs::{Run, UnderWay};
pub use several::Part;
#[cfg(feature = "page")]
pub(crate) use spans::Spans;
#[cfg(feature = "page")]
pub(crate) use timeline::Timeline;
pub use users::UserRows;

impl Analysis {
    /// Analyses the report in this file, as it is now, with the log of its runs beside it. A run may be writing it.
    ///
    /// # Errors
    /// [`ReportError::Open`], [`ReportError::Read`] and [`ReportError::NotAReport`].
    pub fn from_file(path: &Path) -> Result<Analysis, ReportError> {
        Analysis::of_file(path, |_, _| {})
    }

    /// Analyses several reports as one, in two passes: those of the parts of an input, or a report and those of its retries.
    /// A conversation that stands in several of them counts once, by its latest record. So does a user in list reports. A
    /// `skipped` record never counts in place of another one.
    ///
    /// The reports are [`Analysis::parts`]. The memory needed is about 50 bytes for each conversation.
    ///
    /// # Errors
    /// As [`Analysis::from_file`], and [`ReportError::NotAlike`] if they are not all reports or all list reports, or not all of
    /// simulated or all of real runs.
    pub fn from_files(paths: &[PathBuf]) -> Result<Analysis, ReportError> {
        match paths {
            [path] => Analysis::from_file(path),
            paths => several::read(paths),
        }
    }

    /// Analyses a report from any reader, without a log of runs; `place` names it in messages.
    ///
    /// # Errors
    /// [`ReportError::Read`] and [`ReportError::NotAReport`].
    pub fn from_reader(input: impl BufRead, place: &str) -> Result<Analysis, ReportError> {
        Analysis::of(input, place, Runs::default(), |_, _| {})
    }

    fn of_file(path: &Path, on_record: impl FnMut(&ReportRecord, u64)) -> Result<Analysis, ReportError> {
        // Before the records: a run that ends in the meantime still counts as under way.
        let runs = Runs::of(path);
        let mut analysis = journal::read_file(path, |input, place| Analysis::of(input, place, runs, on_record))?;
        if let Some(run) = analysis.runs.last().filter(|run| run.begin.lists) {
            let (path, users, is_to_the_end) = (list_report_of(path), run.begin.users, run.has_read_all());
            analysis.to_do = None;
            // Without the list report it is not known how many rows there are to be.
            let runs = Runs {
                under_way: analysis.under_way,
                ..Runs::default()
            };
            let list = |input: FileStart, place: &str| Analysis::of(input, place, runs, |_, _| {});
            if let Ok(listed) = journal::read_file(&path, list) {
                let users = users.or_else(|| is_to_the_end.then_some(listed.rows));
                analysis.add_listed(listed, users);
            }
        }
        Ok(analysis)
    }

    fn of(
        input: impl BufRead,
        place: &str,
        mut runs: Runs,
        mut on_record: impl FnMut(&ReportRecord, u64),
    ) -> Result<Analysis, ReportError> {
        let mut collector = Collector::new(runs.under_way.and_then(|run| run.began));
        let (kind, unreadable) = journal::read_report(input, place, |record, line| {
            if let Some(time) = collector.add(record) {
                runs.note(time);
            }
            on_record(record, line);
        })?;
        let mut analysis = collector.finish(kind);
        analysis.report = place.to_owned();
        analysis.to_do = runs.finish(analysis.rows);
        analysis.runs = runs.list;
        analysis.under_way = runs.under_way;
        analysis.damaged = unreadable.damaged.map(|lines| (lines.first, lines.count));
        analysis.is_torn = unreadable.torn.is_some();
        Ok(analysis)
    }
}

#[cfg(test)]
mod tests;
