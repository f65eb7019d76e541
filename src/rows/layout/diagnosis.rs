//! What an input without known columns probably is: another kind of file, text in another encoding, or with another
//! delimiter.

use super::file_kind::{is_certainly_not_csv, kind_of_file};
use super::first_record::{FirstRecord, guess};
use super::resolve::{Layout, Unresolved};
use crate::row::Column;
use crate::rows::error::{Diagnosis, InputError, InputErrorKind, LayoutError, LayoutProblem, MissingColumn};
use crate::rows::format::{Format, Reads};
use crate::rows::text::{Encoding, guesses};

impl Diagnosis {
    /// What a row that is not valid text probably is: GBK, if all of its bytes beyond ASCII are pairs that GBK has.
    pub(in crate::rows) fn of_bytes(row: &[u8]) -> Diagnosis {
        let [gbk, _] = guesses(row);
        let is_valid = |text: &str| is_paired(row) && !text.contains(char::REPLACEMENT_CHARACTER);
        let likely = gbk.filter(|(text, _)| is_valid(text)).map(|(_, encoding)| encoding);
        Diagnosis::NotUtf8(likely)
    }
}

/// The first bytes of an input whose columns are not known.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    /// Its text, at least the first record.
    pub text: &'a [u8],
    /// The first bytes before decoding.
    pub signature: &'a [u8],
    pub format: &'a Format,
}

impl Start<'_> {
    /// The error that says what the input probably is.
    pub fn error(self, unresolved: Unresolved, name: &str) -> InputError {
        let reads = self.format.reads;
        if let Some((kind, advice)) = kind_of_file(self.text, self.signature, reads) {
            return InputErrorKind::NotCsv { kind, advice }.of(name);
        }
        let Unresolved { line, found, problem } = unresolved;
        let (found, diagnosis) = match self.likely_encoding() {
            Some(Decoded { encoding, fields, .. }) => (fields.unwrap_or(found), Some(Diagnosis::NotUtf8(encoding))),
            None => (found, self.diagnosis(&problem)),
        };
        let error = LayoutError {
            problem,
            reads,
            found,
            diagnosis,
        };
        InputErrorKind::Layout(Box::new(error)).at(name, line)
    }

    /// The problem with a first record that could be a user but is more likely something else; `None` if there is none.
    pub fn problem_of_users(self, layout: &Layout) -> Option<Unresolved> {
        if layout.conversation.is_some() || layout.header.is_some() || !self.is_doubtful() {
            return None;
        }
        if self.format.reads == Reads::RowsOrUsers {
            let rows = Format {
                reads: Reads::Rows,
                ..self.format.clone()
            };
            return Layout::resolve(&guess(self.text, rows.delimiter), &rows)
                .err()
                .flatten();
        }
        let first = guess(self.text, Some(layout.delimiter)).pop()?;
        let missing = MissingColumn {
            column: Column::User,
            given: None,
            columns: first.fields.len(),
        };
        Some(Unresolved::new(&first, LayoutProblem::Missing(vec![missing])))
    }

    fn is_doubtful(self) -> bool {
        let has_pipes = || {
            let first = guess(self.text, Some(b'|')).pop();
            first.is_some_and(|first| first.has_known_columns(&self.format.types))
        };
        let is_not_csv = match self.format.reads {
            Reads::RowsOrUsers => kind_of_file(self.text, self.signature, Reads::Rows).is_some(),
            _ => is_certainly_not_csv(self.text, self.signature),
        };
        is_not_csv
            || self.first_line().contains(&0)
            || self.text.starts_with(b"sep=")
            || (self.format.delimiter.is_none() && has_pipes())
            || self.likely_encoding().is_some_and(|decoded| decoded.has_columns)
    }

    /// What it probably is, if it is UTF-8.
    fn diagnosis(self, problem: &LayoutProblem) -> Option<Diagnosis> {
        let first_line = self.first_line();
        match problem {
            _ if first_line.contains(&0) => Some(Diagnosis::Utf16),
            _ if self.text.starts_with(b"sep=") => Some(Diagnosis::ExcelDelimiter),
            LayoutProblem::Missing(_) if first_line.contains(&b'|') => Some(Diagnosis::Pipes),
            _ => None,
        }
    }

    /// The most likely encoding, if no encoding is given and the first line is not UTF-8.
    fn likely_encoding(self) -> Option<Decoded> {
        let first_line = self.first_line();
        if self.format.encoding.is_some() || std::str::from_utf8(first_line).is_ok() || first_line.contains(&0) {
            return None;
        }
        let unknown = Decoded {
            encoding: None,
            fields: None,
            has_columns: false,
        };
        let guesses = guesses(first_line).into_iter().flatten();
        let mut decoded = guesses.map(|(text, encoding)| self.decoded(&text, encoding));
        let (gbk, big5) = (decoded.next(), decoded.next());
        let has_columns = |decoded: &Option<Decoded>| decoded.as_ref().is_some_and(|decoded| decoded.has_columns);
        let likely = if has_columns(&gbk) || (!has_columns(&big5) && is_paired(first_line)) {
            gbk
        } else {
            big5.filter(|decoded| decoded.has_columns)
        };
        Some(likely.unwrap_or(unknown))
    }

    fn decoded(self, text: &str, encoding: &'static Encoding) -> Decoded {
        let guesses = guess(text.as_bytes(), self.format.delimiter);
        let (fields, has_columns) = match Layout::resolve(&guesses, self.format) {
            // Any record could be a user alone.
            Ok(layout) => (
                guesses
                    .iter()
                    .find(|first| first.delimiter == layout.delimiter)
                    .map(FirstRecord::shown),
                layout.conversation.is_some() || layout.header.is_some(),
            ),
            Err(unresolved) => (unresolved.map(|unresolved| unresolved.found), false),
        };
        Decoded {
            encoding: Some(encoding),
            fields,
            has_columns,
        }
    }

    /// The first line that is not blank.
    fn first_line(&self) -> &[u8] {
        let mut lines = self.text.split(|byte| matches!(byte, b'\r' | b'\n'));
        lines.find(|line| !line.trim_ascii().is_empty()).unwrap_or_default()
    }
}

/// The first line in an encoding that is likely.
struct Decoded {
    encoding: Option<&'static Encoding>,
    /// The fields of the first record, for messages.
    fields: Option<String>,
    /// Whether the first record shows its columns.
    has_columns: bool,
}

/// Whether all bytes beyond ASCII come in pairs, as Chinese characters do in GBK.
fn is_paired(text: &[u8]) -> bool {
    text.chunk_by(|one, other| one.is_ascii() == other.is_ascii())
        .all(|run| run[0].is_ascii() || run.len().is_multiple_of(2))
}
