//! CSV records with the line on which each begins.
//!
//! The parser is csv-core, the one inside the csv crate. It is driven here by hand because a report names lines: the
//! csv crate's own positions count a record from the blank lines before it, and know no CR-only files. Records are
//! lent, not owned, so reading millions of them allocates nothing.

use std::io::{self, BufRead};

use csv_core::ReadRecordResult;

/// The longest record that is kept, in bytes. A longer one is most likely an opening quote that nobody closed.
const MAX_RECORD: usize = 1024 * 1024;

/// Reads records one after the other.
pub(crate) struct CsvReader<R> {
    input: R,
    core: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    /// The line of the next byte, 1-based.
    line: u64,
    /// The last byte was a CR, so that an LF that follows ends no further line.
    after_cr: bool,
    /// The current record: the line it begins on, where, the line it ends on, its extent in `fields` and `ends`, what is wrong with it.
    begins: u64,
    start_offset: u64,
    ended: u64,
    fields_len: usize,
    ends_len: usize,
    error: Option<RecordError>,
    at_end: bool,
    /// How many bytes have been read.
    offset: u64,
}

/// One record; its fields are lent from the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CsvRecord<'a> {
    /// The 1-based line on which it begins.
    pub line: u64,
    /// The line on which it ends; another one if there are line ends within its quotes.
    pub last_line: u64,
    /// What is wrong with it as CSV, if anything.
    pub error: Option<RecordError>,
    /// The input ends where the record does, with no line end between them: perhaps it was meant to be longer.
    pub at_end: bool,
    /// How many bytes it takes in the input, with its line end.
    bytes: u64,
    fields: &'a [u8],
    ends: &'a [usize],
}

/// What can be wrong with a record as such.
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

    /// How many bytes it takes in the input, with its line end.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    /// A line with nothing but delimiters and blanks on it; not even quotes, which are not in the fields.
    pub fn is_blank(&self) -> bool {
        // Behind each field stands a delimiter or the line end.
        let is_bare = self.bytes <= (self.fields.len() + self.ends.len()) as u64;
        self.error.is_none() && is_bare && self.fields.iter().all(u8::is_ascii_whitespace)
    }

    /// A line with nothing but Ctrl-Z on it, which ended a file under DOS.
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
            begins: 1,
            start_offset: 0,
            ended: 1,
            fields_len: 0,
            ends_len: 0,
            error: None,
            at_end: false,
            offset: 0,
        }
    }

    /// How many bytes have been read: up to and with the current record's line end, or its first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The record that [`CsvReader::advance`] came to.
    pub fn current(&self) -> CsvRecord<'_> {
        CsvRecord {
            line: self.begins,
            last_line: self.ended,
            error: self.error,
            at_end: self.at_end,
            bytes: self.offset - self.start_offset,
            fields: &self.fields[..self.fields_len],
            ends: &self.ends[..self.ends_len],
        }
    }

    /// What has not been read yet of an input in memory.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// The line of the next byte, to say where reading failed.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Goes on to the next record; `false` at the end of the input.
    pub fn advance(&mut self) -> io::Result<bool> {
        if !self.skip_line_ends()? {
            return Ok(false);
        }
        (self.begins, self.start_offset) = (self.line, self.offset);
        (self.fields_len, self.ends_len, self.error) = (0, 0, None);
        loop {
            let input = self.input.fill_buf()?;
            let at_end = input.is_empty();
            self.at_end = at_end;
            // At the end of the input a line end completes the record, unless it lands inside an open quote.
            let input = match (at_end, self.error) {
                (false, _) => input,
                (true, None) => b"\n",
                (true, Some(_)) => b"",
            };
            let (fields, ends) = (&mut self.fields[self.fields_len..], &mut self.ends[self.ends_len..]);
            let (result, read, written, ended) = self.core.read_record(input, fields, ends);
            if !at_end {
                count_lines(&input[..read], &mut self.line, &mut self.after_cr);
                self.input.consume(read);
                self.offset += read as u64;
            }
            self.fields_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty if at_end => self.error = self.error.or(Some(RecordError::UnclosedQuote)),
                ReadRecordResult::InputEmpty => {}
                // A record without end is read on to its end, but nothing of it is kept.
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
        self.ended = if self.at_end { self.line } else { self.line - 1 };
        if self.error == Some(RecordError::TooLong) {
            (self.fields_len, self.ends_len) = (0, 0);
        }
        Ok(true)
    }

    /// Whether nothing but line ends follows the current record.
    pub fn is_last(&mut self) -> io::Result<bool> {
        Ok(!self.skip_line_ends()?)
    }

    /// Skips line ends, and with them blank lines; `false` at the end of the input.
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

    /// Gives one byte at a time, to meet every seam.
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
    fn a_quote_that_is_never_closed_is_told_from_a_missing_last_line_end() {
        assert_eq!(lines("a\nb,\"c\"")[1].2, None);
        assert_eq!(
            lines("a\nb,\"c\nd\n")[1],
            (2, vec!["b".into(), "c\nd\n\n".into()], Some(RecordError::UnclosedQuote))
        );
        assert_eq!(lines("a\nb,\"c\"\"")[1].2, Some(RecordError::UnclosedQuote));
    }

    #[test]
    fn a_record_without_end_is_dropped_but_told() {
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
