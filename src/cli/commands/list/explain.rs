//! `zim-batch list --explain`: says of each row of an outside log what became of its conversation.

use std::path::PathBuf;

use zim_batch::explain::{EXPLANATION_COLUMNS, Explained, explain};
use zim_batch::files::{self, OWNER_ONLY};
use zim_batch::journal::RowsTo;
use zim_batch::rows::{Format, Reads, Rows, Source};
use zim_batch::text::with_causes;

use crate::cli::errors::Error;
use crate::cli::output::print::{print_error, print_note};
use crate::cli::settings::files::check_target;
use crate::cli::settings::input::InputSettings;
use crate::cli::settings::results::ListPaths;

/// An explanation that is to be written when the users are listed.
pub struct Explanation {
    path: PathBuf,
    /// The input of the list, to be read as rows.
    outside: Source,
    format: Format,
    /// The results of the list.
    rows: PathBuf,
    report: PathBuf,
}

impl Explanation {
    /// Refuses an input that is not rows, or can't be read again.
    pub fn new(path: PathBuf, input: &InputSettings, results: &ListPaths) -> Result<Explanation, Error> {
        let columns = EXPLANATION_COLUMNS.join(",");
        check_target("--explain", &path, &columns)?;
        let (RowsTo::File(rows), Some(report)) = (&results.rows, &results.report) else {
            return Err(Error::Usage("--explain needs a file of rows (--rows FILE)".into()));
        };
        if !input.source.can_be_read_twice() {
            return Err(Error::Usage(
                "--explain reads the outside log again when the users are listed, so it must be a file".into(),
            ));
        }
        let format = Format {
            reads: Reads::Rows,
            ..input.format.clone()
        };
        Rows::open(&input.source, &format)?;
        Ok(Explanation {
            path,
            outside: input.source.clone(),
            format,
            rows: rows.clone(),
            report: report.clone(),
        })
    }

    /// Writes the file after a list. Returns `false`, with the error printed, if that fails.
    pub fn write(&self, are_all_listed: bool, quiet: bool) -> bool {
        let Explanation {
            path,
            outside,
            format,
            rows,
            report,
        } = self;
        if !are_all_listed {
            print_note(&format!(
                "{}: not written, because not all users were listed",
                path.display()
            ));
            return true;
        }
        let written = files::replace(path, &EXPLANATION_COLUMNS.join(","), OWNER_ONLY, |out| {
            explain(outside, format, rows, report, out)
        });
        match &written {
            Ok(_) if quiet => {}
            Ok(explained) => print_note(&in_words(explained)),
            Err(error) => print_error(&format!("--explain {}: {}", path.display(), with_causes(error))),
        }
        written.is_ok()
    }
}

/// What was found, in one sentence.
fn in_words(explained: &Explained) -> String {
    let Explained {
        listed,
        missing,
        beyond,
        unknown,
    } = explained;
    let mut text = format!(
        "outside rows: {listed} are listed now, {missing} are missing (no such conversation), {beyond} may be beyond the newest \
         1000 (inferred from the lists, not an answer of ZIM's)"
    );
    if *unknown > 0 {
        text += &format!("; {unknown} are not known, because their users could not be listed or not all was selected");
    }
    text
}
