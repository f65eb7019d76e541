//! CSV records with the line on which each begins.
//!
//! The parser is csv-core, the one inside the csv crate. This module drives it directly because a report names lines: the
//! csv crate's own positions count a record from the blank lines before it, and don't support CR-only files. Records are
//! borrowed, so reading millions of them allocates nothing.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;

/// The longest record that is kept, in bytes. A longer one is probably caused by a quote that is not closed.
const MAX_RECORD: usize = 1024 * 1024;

/// Reads records in order.
pub(crate) struct CsvReader<R> {
    input: R,
    core: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// The line of the next byte, 1-based.
    line: u64,
    /// The last byte was a CR, so a following LF does not end another line.
    after_cr: bool,
    /// The current record: its first line and byte offset, its last line, its lengths in `fields` and `ends`, its error.
    start_line: u64,
    start_offset: u64,
    end_line: u64,
    fields_len: usize,
    ends_len: usize,
    error: Option<RecordError>,
    at_end: bool,
    /// How many bytes have been consumed.
    offset: u64,
    /// The first bytes of the current record as they stand in the input, at most `keeps`.
    kept: Vec<u8>,
    keeps: usize,
}

/// One record; its fields are borrowed from the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CsvRecord<'a> {
    /// The 1-based line on which it begins.
    pub line: u64,
    /// The line on which it ends; a later one if its quotes contain line ends.
    pub last_line: u64,
    /// Why it is not valid CSV, if it is not.
    pub error: Option<RecordError>,
    /// The input ends with the record, without a line end, so the record may be incomplete.
    pub at_end: bool,
    /// Its length in the input, in bytes, including its line end.
    bytes: u64,
    fields: &'a [u8],
    ends: &'a [usize],
}

/// Why a record is not valid CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// A quote was opened and the input ended before it was closed.
    UnclosedQuote,
    /// Longer than [`MAX_RECORD`].
    TooLong,
}

impl<'a> CsvRecord<'a> {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.fields[start..end])
    }

    /// Its length in the input, in bytes, including its line end.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// Its fields as text; `None` if they are not UTF-8.
    pub fn texts(self) -> Option<impl Iterator<Item = &'a str>> {
        let fields = std::str::from_utf8(self.fields).ok()?;
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ranges = starts.zip(self.ends).map(|(start, &end)| start..end);
        let are_whole = self.ends.iter().all(|&end| fields.is_char_boundary(end));
        are_whole.then(|| ranges.map(|range| &fields[range]))
    }

    /// Whether the line has only delimiters and blanks, and no quotes.
    pub fn is_blank(&self) -> bool {
        // Quotes are not in the fields, but each field is followed by a delimiter or the line end.
        let is_bare = self.bytes <= (self.fields.len() + self.ends.len()) as u64;
        self.error.is_none() && is_bare && self.fields.iter().all(u8::is_ascii_whitespace)
    }

    /// Whether the line has only Ctrl-Z, which marks the end of a DOS file.
    pub fn is_ctrl_z(&self) -> bool {
        self.len() == 1 && !self.fields.is_empty() && self.fields.iter().all(|byte| *byte == 0x1a)
    }
}

impl<R: BufRead> CsvReader<R> {
    pub fn new(input: R, delimiter: u8) -> CsvReader<R> {
        CsvReader {
            input,
            core: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            fields: vec![0; 1024],
            ends: vec![0; 32],
            line: 1,
            after_cr: false,
            start_line: 1,
            start_offset: 0,
            end_line: 1,
            fields_len: 0,
            ends_len: 0,
            error: None,
            at_end: false,
            offset: 0,
            kept: Vec::new(),
            keeps: 0,
        }
    }

    /// Also keeps the first bytes of each record as they stand in the input.
    pub fn keeping_bytes(mut self, max: usize) -> CsvReader<R> {
        self.keeps = max;
        self
    }

    /// The first bytes of the current record.
    pub fn kept_bytes(&self) -> &[u8] {
        &self.kept
    }

    /// How many bytes have been consumed: up to the current record's line end, or the first byte of it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The current record: valid after [`CsvReader::advance`] returned `true`.
    pub fn current(&self) -> CsvRecord<'_> {
        CsvRecord {
            line: self.start_line,
            last_line: self.end_line,
            error: self.error,
            at_end: self.at_end,
            bytes: self.offset - self.start_offset,
            fields: &self.fields[..self.fields_len],
            ends: &self.ends[..self.ends_len],
        }
    }

    /// The underlying input, from which the current record has been consumed.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// The line of the next byte, for messages about a failed read.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Advances to the next record; returns `false` at the end of the input.
    pub fn advance(&mut self) -> io::Result<bool> {
        if !self.skip_line_ends()? {
            return Ok(false);
        }
        (self.start_line, self.start_offset) = (self.line, self.offset);
        (self.fields_len, self.ends_len, self.error) = (0, 0, None);
        self.kept.clear();
        loop {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            self.at_end = at_end;
            // At the end of the input, a line end is added to complete the record; inside an open quote it does not.
            let input = match (at_end, self.error) {
                (false, _) => input,
                (true, None) => b"\n",
                (true, Some(_)) => b"",
            };
            let (fields, ends) = (&mut self.fields[self.fields_len..], &mut self.ends[self.ends_len..]);
            let (result, read, written, ended) = self.core.read_record(input, fields, ends);
            if !at_end {
                self.kept
                    .extend_from_slice(&input[..read.min(self.keeps - self.kept.len())]);
                count_lines(&input[..read], &mut self.line, &mut self.after_cr);
                self.input.consume(read);
                self.offset += read as u64;
            }
            self.fields_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty if at_end => self.error = self.error.or(Some(RecordError::UnclosedQuote)),
                ReadRecordResult::InputEmpty => {}
                // A record that is too long is read to its end, but not kept.
                ReadRecordResult::OutputFull if self.fields.len() >= MAX_RECORD => {
                    (self.fields_len, self.error) = (0, Some(RecordError::TooLong));
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() >= MAX_RECORD => {
                    (self.ends_len, self.error) = (0, Some(RecordError::TooLong));
                }
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => break,
            }
        }
        self.end_line = if self.at_end { self.line } else { self.line - 1 };
        if self.error == Some(RecordError::TooLong) {
            (self.fields_len, self.ends_len) = (0, 0);
        }
        Ok(true)
    }

    /// Whether nothing but line ends follows the current record.
    pub fn is_last(&mut self) -> io::Result<bool> {
        Ok(!self.skip_line_ends()?)
    }

    /// Skips line ends and so blank lines; returns `false` at the end of the input.
    fn skip_line_ends(&mut self) -> io::Result<bool> {
        loop {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                return Ok(false);
            }
            let skip = input
                .iter()
                .position(|byte| !matches!(byte, b'\r' | b'\n'))
                .unwrap_or(input.len());
            let found = skip < input.len();
            count_lines(&input[..skip], &mut self.line, &mut self.after_cr);
            self.input.consume(skip);
            self.offset += skip as u64;
            if found {
                return Ok(true);
            }
        }
    }
}

/// Counts LF, CR and CRLF as one line end each.
fn count_lines(bytes: &[u8], line: &mut u64, after_cr: &mut bool) {
    for at in memchr::memchr2_iter(b'\r', b'\n', bytes) {
        let follows_cr = match at {
            0 => *after_cr,
            _ => bytes[at - 1] == b'\r',
        };
        if !(bytes[at] == b'\n' && follows_cr) {
            *line += 1;
        }
    }
    if let Some(last) = bytes.last() {
        *after_cr = *last == b'\r';
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    /// Returns one byte at a time, to test every buffer boundary.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = usize::from(!self.0.is_empty() && !buffer.is_empty());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn read_all(input: impl BufRead) -> Vec<(u64, Vec<String>, Option<RecordError>)> {
        let mut records = CsvReader::new(input, b',');
        let mut all = Vec::new();
        while records.advance().unwrap() {
            let record = records.current();
            let fields = record
                .iter()
                .map(|field| String::from_utf8_lossy(field).into_owned())
                .collect();
            all.push((record.line, fields, record.error));
        }
        all
    }

    fn lines(text: &str) -> Vec<(u64, Vec<String>, Option<RecordError>)> {
        let all = read_all(text.as_bytes());
        assert_eq!(
            all,
            read_all(BufReader::with_capacity(1, Trickle(text.as_bytes()))),
            "{text:?}"
        );
        all
    }

    fn record(line: u64, fields: &[&str]) -> (u64, Vec<String>, Option<RecordError>) {
        (line, fields.iter().map(|&field| field.to_owned()).collect(), None)
    }

    #[test]
    fn a_record_begins_on_the_line_of_its_first_byte_whatever_ends_the_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("a,b{end}{end}{end}c,\"d{end}d\"{end}e,f");
            let d = format!("d{end}d");
            assert_eq!(
                lines(&text),
                [record(1, &["a", "b"]), record(4, &["c", &d]), record(6, &["e", "f"])]
            );
        }
    }

    #[test]
    fn a_record_ends_on_the_line_of_its_last_byte() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("a,b{end}c,\"d{end}{end}d\"{end}e,\"f{end}\"");
            let mut records = CsvReader::new(text.as_bytes(), b',');
            let mut lines = Vec::new();
            while records.advance().unwrap() {
                lines.push((records.current().line, records.current().last_line));
            }
            assert_eq!(lines, [(1, 1), (2, 4), (5, 6)], "{end:?}");
        }
    }

    #[test]
    fn quotes_are_read_as_in_rfc_4180() {
        assert_eq!(lines("\"a,\"\"x\"\"\",\"\"\n"), [record(1, &["a,\"x\"", ""])]);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_distinguished_from_a_missing_last_line_end() {
        assert_eq!(lines("a\nb,\"c\"")[1].2, None);
        assert_eq!(
            lines("a\nb,\"c\nd\n")[1],
            (2, vec!["b".into(), "c\nd\n\n".into()], Some(RecordError::UnclosedQuote))
        );
        assert_eq!(lines("a\nb,\"c\"\"")[1].2, Some(RecordError::UnclosedQuote));
    }

    #[test]
    fn a_record_that_is_too_long_is_dropped_with_an_error() {
        let text = format!("a,\"{}\"\nb,c\n", "x".repeat(3 * MAX_RECORD));
        let all = read_all(text.as_bytes());
        assert_eq!((all[0].0, all[0].2), (1, Some(RecordError::TooLong)));
        assert_eq!(all[1], record(2, &["b", "c"]));
        let many = format!("{}\nb,c\n", ",".repeat(3 * MAX_RECORD));
        let all = read_all(many.as_bytes());
        assert_eq!((all[0].0, all[0].2), (1, Some(RecordError::TooLong)));
        assert_eq!(all[1], record(2, &["b", "c"]));
    }
}
