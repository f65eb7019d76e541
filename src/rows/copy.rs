//! Copies the rows of some users, for instance of those who don't exist.

use std::io::{self, Write};

use super::error::{InputError, PlanError};
use super::format::Format;
use super::input::Source;
use super::reader::Rows;
use super::selection::Selection;

/// Why rows can't be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] PlanError),
    /// The copy can't be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

impl From<InputError> for CopyError {
    fn from(error: InputError) -> CopyError {
        CopyError::Input(error.into())
    }
}

/// Copies the header, if there is one, and the rows of the users that `is_wanted` returns `true` for: those that
/// [`Selection::only`] selects, all their columns, and invalid rows too, except those that are not valid CSV. Returns their
/// number. The copy has the input's delimiter; it is UTF-8, with LF line ends and quotes where they are needed.
///
/// ```
/// use zim_batch::rows::{Format, Selection, Source, copy_rows};
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, "user;conv;type;note\r\nalice;bob;0;\"a;b\"\r\nbob;#team;2;\r\n")?;
/// let source = Source::File(file.path().to_owned());
/// let mut copy = Vec::new();
/// let rows = copy_rows(&source, &Format::default(), &Selection::default(), |user| user == "alice", &mut copy)?;
/// assert_eq!((rows, &copy[..]), (1, &b"user;conv;type;note\nalice;bob;0;\"a;b\"\n"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn copy_rows(
    source: &Source,
    format: &Format,
    selection: &Selection,
    is_wanted: impl Fn(&str) -> bool,
    out: impl Write,
) -> Result<u64, CopyError> {
    let mut rows = Rows::open(source, format)?;
    selection.check_applies_to(&rows, &source.to_string())?;
    let (delimiter, header) = rows.dialect();
    let mut writer = csv::WriterBuilder::new()
        .delimiter(delimiter)
        .terminator(csv::Terminator::Any(b'\n'))
        .flexible(true)
        .from_writer(out);
    if let Some(header) = header {
        writer.write_record(header).map_err(io::Error::from)?;
    }
    let mut copied = 0;
    while let Some(row) = rows.next_raw()? {
        if selection.includes(&row)
            && row.user().is_some_and(&is_wanted)
            && let Some(fields) = row.fields()
        {
            writer.write_record(fields).map_err(io::Error::from)?;
            copied += 1;
        }
    }
    writer.flush()?;
    Ok(copied)
}
