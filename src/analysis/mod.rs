//! Analyses a whole report, over all its runs: in one pass, in bounded memory.
//!
//! Everything that could grow has a bound: buckets of time are merged pairwise, adjacent spans of time are merged, and the
//! numbers of separate users, codes and reasons are limited. The analysis shows where a limit made it inexact.

mod collector;
mod model;
mod runs;
mod spans;
#[cfg_attr(not(feature = "page"), expect(dead_code, reason = "only the page shows all of it"))]
mod timeline;
mod users;
mod values;

use std::io::BufRead;
use std::path::Path;

use crate::journal::{self, ReportError, list_report_of};
use collector::Collector;
pub use model::Analysis;
use runs::Runs;
pub use runs::{Run, UnderWay};
#[cfg(feature = "page")]
pub(crate) use spans::Spans;
#[cfg(feature = "page")]
pub(crate) use timeline::Timeline;
pub use users::UserRows;

impl Analysis {
    /// Analyses the report in this file, as it is now, with the log of its runs beside it. A run may be writing it.
    pub fn from_file(path: &Path) -> Result<Analysis, ReportError> {
        // Before the records: a run that ends in the meantime still counts as under way.
        let runs = Runs::of(path);
        let mut analysis = journal::read_file(path, |input, place| Analysis::of(input, place, runs))?;
        if let Some(run) = analysis.runs.last().filter(|run| run.begin.lists) {
            let (path, users, is_to_the_end) = (list_report_of(path), run.begin.users, run.has_read_all());
            analysis.to_do = None;
            // Without the list report it is not known how many rows there are to be.
            if let Ok(listed) = journal::read_file(&path, |input, place| Analysis::of(input, place, Runs::default())) {
                let users = users.or_else(|| is_to_the_end.then_some(listed.rows));
                analysis.add_listed(listed, users);
            }
        }
        Ok(analysis)
    }

    /// Analyses a report from any reader, without a log of runs; `place` names it in messages.
    pub fn from_reader(input: impl BufRead, place: &str) -> Result<Analysis, ReportError> {
        Analysis::of(input, place, Runs::default())
    }

    fn of(input: impl BufRead, place: &str, runs: Runs) -> Result<Analysis, ReportError> {
        let mut collector = Collector::new(runs);
        let (kind, unreadable) = journal::read_report(input, place, |record| collector.add(record))?;
        Ok(collector.finish(kind, &unreadable))
    }
}

#[cfg(test)]
mod tests;
