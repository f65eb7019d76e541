//! A record of the input and the layout it is read by: checked as a row, without a copy.

use std::borrow::Cow;

use super::error::Diagnosis;
use super::layout::Layout;
use super::parsed::{InvalidRow, ParsedRow};
use crate::csv_reader::{CsvRecord, RecordError};
use crate::row::{Column, ConvType, Numbered, Row, RowError, Subject, check_id};
use crate::text::one_line;

/// The longest field of an invalid row that is written to a report, in characters.
const MAX_SHOWN: usize = 1000;

/// A row of the input, borrowed from the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRow<'a> {
    record: CsvRecord<'a>,
    layout: &'a Layout,
    is_decoded: bool,
    is_stream: bool,
}

impl<'a> RawRow<'a> {
    pub(super) fn new(record: CsvRecord<'a>, layout: &'a Layout, is_decoded: bool, is_stream: bool) -> RawRow<'a> {
        RawRow {
            record,
            layout,
            is_decoded,
            is_stream,
        }
    }

    /// The 1-based line on which it begins.
    pub fn line(&self) -> u64 {
        self.record.line
    }

    /// The 1-based line on which it ends; a later one if its quotes contain line ends.
    pub fn last_line(&self) -> u64 {
        self.record.last_line
    }

    /// A stream ends with this row, without a line end, so it may have been cut off.
    pub fn may_be_cut_off(&self) -> bool {
        self.is_stream && self.record.at_end
    }

    /// The row's outcome in an earlier report, if the input is one.
    pub fn outcome(&self) -> Option<&'a [u8]> {
        self.record.get(self.layout.outcome?)
    }

    /// Whether it has another type than this one. Users have none.
    pub fn is_not(&self, conv_type: ConvType) -> bool {
        let field = self
            .layout
            .conversation
            .and_then(|(_, conv_type)| self.record.get(conv_type));
        field
            .and_then(|field| self.layout.types.parse(field))
            .is_some_and(|found| found != conv_type)
    }

    /// Checks the row: returns its user, conversation and type, or the first error found. If
    /// [users](super::Reads::Users) are read, the conversation is empty and the type is `Peer`.
    pub fn check(&self) -> Result<(&'a str, &'a str, ConvType), RowError> {
        match self.record.error {
            Some(RecordError::UnclosedQuote) => return Err(RowError::UnclosedQuote),
            Some(RecordError::TooLong) => return Err(RowError::RecordTooLong),
            None => {}
        }
        let is_header = || self.layout.is_header(&self.record);
        // As a user, the name of the column would be valid.
        if self.layout.conversation.is_none() && is_header() {
            return Err(RowError::HeaderAgain);
        }
        self.check_fields().map_err(|error| {
            let lines = (self.line(), self.last_line());
            if is_header() {
                RowError::HeaderAgain
            } else if lines.0 < lines.1 {
                let error = Box::new(error);
                RowError::Spanning { error, lines }
            } else {
                error
            }
        })
    }

    fn check_fields(&self) -> Result<(&'a str, &'a str, ConvType), RowError> {
        let user = self.id(self.layout.user, Column::User)?;
        let Some((conv, conv_type)) = self.layout.conversation else {
            return Ok((user, "", ConvType::Peer));
        };
        let conv = self.id(conv, Column::Conv)?;
        let field = self.record.get(conv_type).ok_or(RowError::Missing(Column::Type))?;
        let conv_type = self.layout.types.parse(field).ok_or_else(|| match field.trim_ascii() {
            b"" => RowError::Empty(Column::Type),
            other => {
                let short: String = shown(Some(other)).chars().take(40).collect();
                RowError::BadType(one_line(&short).into_owned())
            }
        })?;
        Ok((user, conv, conv_type))
    }

    fn id(&self, index: usize, column: Column) -> Result<&'a str, RowError> {
        let field = self.record.get(index).ok_or(RowError::Missing(column))?;
        let text = std::str::from_utf8(field).map_err(|_| RowError::NotText(column))?;
        // A report contains U+FFFD where the original input was not valid text.
        let is_lossy = self.is_decoded || self.layout.outcome.is_some();
        if is_lossy && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(RowError::NotText(column));
        }
        check_id(column, text)?;
        Ok(text)
    }

    /// What it probably is instead, if this error says that it is not text and no encoding was given.
    pub fn diagnosis(&self, error: &RowError) -> Option<Diagnosis> {
        let is_not_text = match error {
            RowError::Spanning { error, .. } => matches!(**error, RowError::NotText(_)),
            error => matches!(error, RowError::NotText(_)),
        };
        let is_undecoded = !self.is_decoded && self.layout.outcome.is_none();
        (is_not_text && is_undecoded).then(|| Diagnosis::of_bytes(&self.record.iter().collect::<Vec<_>>().concat()))
    }

    /// Its user field, if that is text.
    pub(super) fn user(&self) -> Option<&'a str> {
        std::str::from_utf8(self.record.get(self.layout.user)?).ok()
    }

    /// All its fields; `None` if it is not valid CSV.
    pub(super) fn fields(&self) -> Option<impl Iterator<Item = &'a [u8]> + use<'a>> {
        self.record.error.is_none().then(|| self.record.iter())
    }

    /// The row as the report writes it: user, conversation, type. The last two are empty if
    /// [users](super::Reads::Users) are read.
    pub fn shown(&self) -> [Cow<'a, str>; 3] {
        let user = shown(self.record.get(self.layout.user));
        let Some((conv, conv_type)) = self.layout.conversation else {
            return [user, "".into(), "".into()];
        };
        let conv_type = self.record.get(conv_type);
        [
            user,
            shown(self.record.get(conv)),
            match conv_type.and_then(|field| self.layout.types.parse(field)) {
                Some(known) => Cow::Borrowed(known.digit()),
                None => shown(conv_type),
            },
        ]
    }

    /// Checks the row and returns an owned copy.
    pub fn parsed(self) -> ParsedRow {
        let line = self.line();
        match self.check() {
            Ok((user, conv, conv_type)) => {
                let item = Row::read(user, conv, conv_type);
                ParsedRow::Row(Numbered { line, item })
            }
            Err(error) => {
                let [user, conv, conv_type] = self.shown().map(Cow::into_owned);
                let subject = match self.layout.conversation {
                    Some(_) => Subject::Row,
                    None => Subject::User,
                };
                ParsedRow::Invalid(InvalidRow {
                    subject,
                    line,
                    user,
                    conv,
                    conv_type,
                    error,
                })
            }
        }
    }
}

fn shown(field: Option<&[u8]>) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(field.unwrap_or_default());
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => text,
    }
}
