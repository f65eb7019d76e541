//! Analyses a whole report, over all its runs: in one pass, in bounded memory.
//!
//! Everything that could grow has a bound: buckets of time are merged pairwise, adjacent spans of time are merged, and the
//! numbers of separate users, codes and reasons are limited. The analysis shows where a limit made it inexact.

mod collector;
mod model;
mod spans;
#[cfg_attr(not(feature = "page"), expect(dead_code, reason = "only the page shows all of it"))]
mod timeline;
mod users;
mod values;

use std::io::BufRead;
use std::path::Path;

use crate::journal::{self, ReportError};
use collector::Collector;
pub use model::Analysis;
#[cfg(feature = "page")]
pub(crate) use spans::Spans;
#[cfg(feature = "page")]
pub(crate) use timeline::Timeline;
pub use users::UserRows;

impl Analysis {
    /// Analyses the report in this file, as it is now. A run may be writing it.
    pub fn from_file(path: &Path) -> Result<Analysis, ReportError> {
        journal::read_file(path, |input, place| Analysis::from_reader(input, place))
    }

    /// Analyses a report from any reader; `place` names it in messages.
    pub fn from_reader(input: impl BufRead, place: &str) -> Result<Analysis, ReportError> {
        let mut collector = Collector::new();
        let (kind, unreadable) = journal::read_report(input, place, |record| collector.add(record))?;
        Ok(collector.finish(kind, &unreadable))
    }
}

#[cfg(test)]
mod tests;
