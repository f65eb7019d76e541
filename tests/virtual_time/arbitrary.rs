//! Arbitrary bytes and arbitrary CSV through the reader, the check, the plan and the resume.
//!
//! The expected results come from an independent CSV reader, a state machine after RFC 4180 and Python's csv module, and
//! from a list of what was written to a report. Nothing here may panic, whatever the bytes. `PROPTEST_CASES=5000` makes it
//! more thorough.

mod model;
mod resume;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write as _};

use model::read_like_python;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use zim_batch::row::{ConvType, Numbered};
use zim_batch::rows::check::check_rows;
use zim_batch::rows::{
    Columns, Done, Format, Input, InputError, ParsedRow, Reads, Rows, Selection, Source, Task, encoding,
};

/// The elements of CSV, and the first bytes of other files.
const TOKENS: &[&[u8]] = &[
    b",",
    b",",
    b",",
    b"\"",
    b"\"",
    b"\"\"",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b";",
    b"\t",
    b" ",
    b"a",
    b"bb",
    b"0",
    b"2",
    b"peer",
    b" Group ",
    b"1",
    b"a,b,0\n",
    b"\"a\n\",b,2\r\n",
    b"user",
    b"conv",
    b"type",
    b"user,conv,type\n",
    b"outcome",
    b"failed",
    "é".as_bytes(),
    "用户".as_bytes(),
    b"\xff",
    b"\xc3",
    b"\0",
    b"#",
    b"=",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

fn soup(parts: usize) -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        8 => select(TOKENS).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(part, 0..parts).prop_map(|parts| parts.concat())
}

fn formats() -> impl Strategy<Value = Format> {
    let label = prop_oneof![
        6 => Just(None),
        1 => select(&["gbk", "big5", "shift_jis", "windows-1252", "utf-16le", "utf-16be", "iso-2022-jp", "x-user-defined"][..])
            .prop_map(encoding),
    ];
    let delimiter = prop_oneof![2 => Just(None), 1 => select(&b",;\t| a"[..]).prop_map(Some)];
    let columns = prop_oneof![
        3 => Just(""),
        1 => Just("user=a"),
        1 => Just("user=a,conv=bb,type=0x"),
        1 => Just("user=2"),
        1 => Just("user=3,conv=1,type=2"),
    ];
    let reads = select(&[Reads::Rows, Reads::Rows, Reads::Users, Reads::RowsOrUsers][..]);
    (reads, label, delimiter, columns).prop_map(|(reads, encoding, delimiter, columns)| Format {
        reads,
        delimiter,
        columns: columns.parse().unwrap_or_else(|_| Columns::default()),
        encoding,
        ..Format::default()
    })
}

/// Returns the given numbers of bytes, and is sometimes interrupted, like a read from a pipe.
struct Trickle {
    bytes: io::Cursor<Vec<u8>>,
    sizes: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

impl Trickle {
    fn new(bytes: &[u8], sizes: Vec<usize>) -> Trickle {
        let (bytes, sizes) = (io::Cursor::new(bytes.to_vec()), sizes.into_iter().cycle());
        Trickle { bytes, sizes }
    }
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.sizes.next() {
            Some(0) => Err(io::ErrorKind::Interrupted.into()),
            size => {
                let len = size.unwrap_or(1).min(buffer.len());
                self.bytes.read(&mut buffer[..len])
            }
        }
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    (vec(0_usize..8, 0..6), 1_usize..8).prop_map(|(mut sizes, last)| {
        sizes.push(last); // not only interruptions
        sizes
    })
}

/// All rows up to the first error, and the error.
fn read_all(reader: impl Read + Send + 'static, format: &Format) -> (Vec<ParsedRow>, Option<String>) {
    let mut parsed_rows = Vec::new();
    let rows = match Rows::from_reader(Box::new(reader), "input", format) {
        Ok(rows) => rows,
        Err(error) => return (parsed_rows, Some(error.to_string())),
    };
    for parsed in rows {
        match parsed {
            Ok(parsed) => parsed_rows.push(parsed),
            Err(error) => return (parsed_rows, Some(error.to_string())),
        }
    }
    (parsed_rows, None)
}

fn parsed_rows(bytes: &[u8], format: &Format) -> Vec<ParsedRow> {
    let (parsed_rows, error) = read_all(io::Cursor::new(bytes.to_vec()), format);
    assert_eq!(error, None, "{:?}", String::from_utf8_lossy(bytes));
    parsed_rows
}

/// The tasks of these bytes, from a stream or from a file.
fn tasks(bytes: &[u8], is_streamed: bool, selection: &Selection, done: Done) -> Result<Vec<Task>, InputError> {
    let format = Format::default();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let input = if is_streamed {
        Rows::from_reader(Box::new(io::Cursor::new(bytes.to_vec())), "input", &format).map(Input::from)
    } else {
        file.write_all(bytes).unwrap();
        Input::open(&Source::File(file.path().to_owned()), &format)
    };
    let plan = input.expect("the header is valid").plan(selection, done)?;
    let total = plan.total();
    let tasks: Vec<Task> = plan.collect::<Result<_, _>>()?;
    assert!(total.is_none_or(|total| total == tasks.len() as u64));
    Ok(tasks)
}

fn assert_found(bytes: &[u8], delimiter: u8, format: &Format) -> Result<(), TestCaseError> {
    let expected = read_like_python(bytes, delimiter);
    let parsed_rows = parsed_rows(bytes, format);
    // The first record is the header.
    prop_assert_eq!(parsed_rows.len(), expected.len() - 1, "{:?}", expected);
    for (parsed, found) in parsed_rows.iter().zip(&expected[1..]) {
        prop_assert_eq!(parsed.line(), found.line, "{:?} {:?}", parsed, found);
        match (parsed, found.row()) {
            (ParsedRow::Row(row), Some(expected)) => {
                let row = &row.item;
                let row = (
                    row.user().as_bytes().to_vec(),
                    row.conv().as_bytes().to_vec(),
                    row.conv_type().digit(),
                );
                prop_assert_eq!(row, expected);
            }
            (ParsedRow::Invalid(row), None) => {
                let text = |index: usize| {
                    let field = found.fields.get(index).map(Vec::as_slice).unwrap_or_default();
                    String::from_utf8_lossy(field).into_owned()
                };
                if found.is_closed {
                    prop_assert_eq!((&row.user, &row.conv), (&text(0), &text(1)));
                }
            }
            (parsed, row) => prop_assert!(false, "{parsed:?} is not {row:?}"),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_give_the_same_rows_however_they_arrive(bytes in soup(40), format in formats(), sizes in sizes()) {
        let whole = read_all(io::Cursor::new(bytes.clone()), &format);
        let trickled = read_all(Trickle::new(&bytes, sizes), &format);
        // How much of a damaged archive is read before the error may differ.
        let is_compressed = bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd");
        if !is_compressed || whole.1.is_none() || trickled.1.is_none() {
            prop_assert_eq!(&whole, &trickled);
        }
        let lines: Vec<u64> = whole.0.iter().map(ParsedRow::line).collect();
        prop_assert!(lines.is_sorted_by(|one, other| one < other), "{:?}", lines);
    }

    #[test]
    fn every_record_of_rfc_4180_is_found_on_its_line(soup in soup(40), delimiter in select(&b",;\t|"[..])) {
        let header = ["user", "conv", "type"].join(&char::from(delimiter).to_string());
        let is_usual = delimiter != b'|';
        for line_end in ["\n", "\r", "\r\n"] {
            let bytes = [header.as_bytes(), line_end.as_bytes(), &soup].concat();
            let given = Format { delimiter: Some(delimiter), ..Format::default() };
            assert_found(&bytes, delimiter, &given)?;
            if is_usual {
                assert_found(&bytes, delimiter, &Format::default())?;
            }
        }
    }

    #[test]
    fn check_and_plan_agree_with_the_reader(soup in soup(60)) {
        let bytes = [&b"user,conv,type\n"[..], &soup].concat();
        let parsed_rows = parsed_rows(&bytes, &Format::default());
        let rows = Rows::from_reader(Box::new(io::Cursor::new(bytes.clone())), "input", &Format::default()).unwrap();
        let findings = check_rows(rows, &Selection::default()).unwrap();
        let (mut triples, mut repeats, mut invalid) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for parsed in &parsed_rows {
            match parsed {
                ParsedRow::Row(row) => {
                    let triple = (row.item.user(), row.item.conv(), row.item.conv_type().digit());
                    let first = *triples.entry(triple).or_insert(row.line);
                    if first != row.line {
                        repeats.insert(row.line, first);
                    }
                }
                ParsedRow::Invalid(row) => invalid.push(row.line),
            }
        }
        let users: BTreeSet<_> = triples.keys().map(|triple| triple.0).collect();
        prop_assert_eq!(findings.rows, parsed_rows.len() as u64);
        prop_assert_eq!(findings.invalid_rows(), invalid.len() as u64);
        prop_assert_eq!(findings.peer + findings.group, (parsed_rows.len() - invalid.len()) as u64);
        prop_assert_eq!(findings.users, users.len() as u64);
        prop_assert_eq!(findings.duplicates.rows, repeats.len() as u64);
        prop_assert!(findings.duplicates.first_lines.iter().eq(repeats.keys().take(5)));

        let deduped = Selection { dedupe: true, ..Selection::default() };
        let streamed = tasks(&bytes, true, &deduped, Done::default()).unwrap();
        let mut skipped = BTreeMap::new();
        for (task, parsed) in streamed.iter().zip(&parsed_rows) {
            match (task, parsed) {
                (Task::Send(sent), ParsedRow::Row(row)) => prop_assert_eq!(sent, row),
                (Task::Invalid(one), ParsedRow::Invalid(other)) => prop_assert_eq!(one, other),
                (Task::Skip { item: row, first }, ParsedRow::Row(_)) => {
                    skipped.insert(row.line, *first);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!((skipped, streamed.len()), (repeats, parsed_rows.len()));

        prop_assert_eq!(streamed.len() as u64, findings.rows);
        let of_file = tasks(&bytes, false, &deduped, Done::default()).unwrap();
        prop_assert_eq!(of_file, streamed, "knowing the repeated rows changes nothing");
    }
}

/// Any valid ID, often with characters that are special in CSV.
fn id() -> impl Strategy<Value = String> {
    let char = prop_oneof![
        3 => select(&['"', ',', ';', '\t', '\n', '\r', ' ', '#', '=', '0', 'a', '\u{feff}', '\0', 'é', '用', '😀'][..]),
        1 => any::<char>(),
    ];
    vec(char, 1..12).prop_map(|chars| {
        let fits = |bytes: &mut usize, c: &char| {
            *bytes += c.len_utf8();
            Some(*c).filter(|_| *bytes <= 32)
        };
        chars.iter().scan(0, fits).collect()
    })
}

fn id_rows() -> impl Strategy<Value = Vec<(String, String, ConvType)>> {
    vec((id(), id(), select(&[ConvType::Peer, ConvType::Group][..])), 0..8)
}

fn as_csv(
    rows: &[(String, String, ConvType)],
    delimiter: u8,
    end: csv::Terminator,
    style: csv::QuoteStyle,
) -> (Vec<u8>, Vec<u64>) {
    let mut writer = csv::WriterBuilder::new();
    let mut writer = writer
        .delimiter(delimiter)
        .terminator(end)
        .quote_style(style)
        .from_writer(Vec::new());
    writer.write_record(["user", "conv", "type"]).unwrap();
    let mut lines = Vec::new();
    for (user, conv, kind) in rows {
        writer.flush().unwrap();
        let before = String::from_utf8_lossy(writer.get_ref()).replace("\r\n", "\n");
        lines.push(1 + before.matches(['\n', '\r']).count() as u64);
        writer.write_record([user, conv, kind.digit()]).unwrap();
    }
    (writer.into_inner().unwrap(), lines)
}

proptest! {
    #[test]
    fn ids_come_back_byte_for_byte_with_their_lines(
        rows in id_rows(),
        delimiter in select(&b",;\t"[..]),
        end in select(&[csv::Terminator::Any(b'\n'), csv::Terminator::Any(b'\r'), csv::Terminator::CRLF][..]),
        style in select(&[csv::QuoteStyle::Necessary, csv::QuoteStyle::Always][..]),
        sizes in sizes(),
    ) {
        let (bytes, lines) = as_csv(&rows, delimiter, end, style);
        let text = std::str::from_utf8(&bytes).unwrap();
        let utf16 = |mark: u8, to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let units = std::iter::once('\u{feff}').chain(text.chars()).collect::<String>();
            let bytes: Vec<u8> = units.encode_utf16().flat_map(to_bytes).collect();
            assert_eq!(bytes[0], mark);
            bytes
        };
        let holds_u_fffd = text.contains(char::REPLACEMENT_CHARACTER);
        let mut forms = vec![bytes.clone(), [&b"\xef\xbb\xbf"[..], &bytes].concat()];
        if !holds_u_fffd { // in decoded text it marks bytes that could not be decoded
            forms.extend([utf16(0xff, u16::to_le_bytes), utf16(0xfe, u16::to_be_bytes)]);
        }
        for form in forms {
            let (found, error) = read_all(Trickle::new(&form, sizes.clone()), &Format::default());
            prop_assert_eq!(error, None);
            let found: Vec<_> = found
                .into_iter()
                .map(|parsed| match parsed {
                    ParsedRow::Row(Numbered { line, item }) => (line, item.user().to_owned(), item.conv().to_owned(), item.conv_type()),
                    ParsedRow::Invalid(row) => panic!("{row:?}"),
                })
                .collect();
            let expected: Vec<_> = lines
                .iter()
                .zip(&rows)
                .map(|(&line, (user, conv, kind))| (line, user.clone(), conv.clone(), *kind))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn an_empty_quoted_field_is_not_a_blank_line() {
    let found = parsed_rows(b"user,conv,type\n\"\"\na,b,0\n", &Format::default());
    assert_eq!(found.iter().map(ParsedRow::line).collect::<Vec<_>>(), [2, 3]);
}
