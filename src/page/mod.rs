//! A report as one self-contained HTML page. It shows at a glance whether everything went well, what did not, when, why,
//! and what to do.
//!
//! What the page says is in `view.rs`, how it looks in `templates/`: the page, a chart, the style sheet, and a script for
//! tooltips. All text is escaped by the template engine. In addition, a content security policy in the page blocks other
//! scripts and all requests.

mod axis;
mod chart;
mod charts;
mod headline;
mod histogram;
mod labels;
mod not_cleared;
mod runs;
mod scale;
mod view;

use std::io;
use std::path::Path;
use std::time::Duration;

use askama::Template;
use serde::Serialize;

use crate::analysis::Analysis;
use crate::files::{self, OWNER_ONLY};
use crate::journal::ReportError;
use crate::text::{one_line, table_cell};
use view::View;

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
    /// The report's path.
    pub report: &'a str,
    /// The analysis of the report.
    pub analysis: &'a Analysis,
    /// What can be done.
    pub next: &'a [NextStep],
    /// While a run is under way: about how often the page is written anew. Such a page reloads itself as often. `None` if it
    /// is not written again.
    pub rewritten: Option<Duration>,
}

impl Page<'_> {
    /// Writes the page as a whole; never replaces a file that is not a page.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let html = self.to_html()?;
        files::replace(path, MARK, OWNER_ONLY, |out| out.write_all(html.as_bytes()))
    }

    /// The page as HTML.
    pub fn to_html(&self) -> io::Result<String> {
        let html = View::new(self).render().map_err(io::Error::other)?;
        Ok(format!("{MARK}\n{html}"))
    }
}

/// The maximum length of a path or message on the page, in characters.
const MAX_TEXT: usize = 300;

/// Shortens text of a report and makes it safe to show; the template escapes it.
fn shown(text: &str) -> String {
    shortened(text, MAX_TEXT)
}

/// The same, with at most so many characters of it.
fn shortened(text: &str, max: usize) -> String {
    table_cell(&line(text, max)).into_owned()
}

/// At most so many characters of a text, in one line.
fn line(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text).into_owned(),
    }
}

#[cfg(test)]
mod tests;
