//! Arbitrary bytes and arbitrary CSV through the reader, the check, the plan and the resume.
//!
//! What is expected is told by a CSV reader of this file's own, a plain state machine after RFC 4180 and Python's csv
//! module, and by a plain list of what was written to a report. Nothing here may panic, whatever the bytes.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use zim_batch::error::Error;
use zim_batch::event::{Event, Outcome, Record};
use zim_batch::report::progress::{Progress, Style, Terminal};
use zim_batch::report::{COLUMNS, Existing, Files, Report};
use zim_batch::rows::check::check_rows;
use zim_batch::rows::{Columns, ConvType, Done, Entry, Format, Plan, PlanError, Rows, Selection, Step, encoding};

/// What CSV is made of, and what other files begin with.
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
    let columns = prop_oneof![3 => Just(""), 1 => Just("user=a"), 1 => Just("user=a,conv=bb,type=0")];
    (label, delimiter, columns).prop_map(|(encoding, delimiter, columns)| Format {
        delimiter,
        columns: columns.parse().unwrap_or_else(|_| Columns::default()),
        encoding,
    })
}

/// Gives as many bytes at a time as told, and is interrupted now and then, as reading from a pipe is.
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
                let most = size.unwrap_or(1).min(buffer.len());
                self.bytes.read(&mut buffer[..most])
            }
        }
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(1_usize..8, 1..6)
}

/// Every entry up to the first error, and the error.
fn read_all(reader: impl Read + Send + 'static, format: &Format) -> (Vec<Entry>, Option<String>) {
    let mut entries = Vec::new();
    let rows = match Rows::from_reader(Box::new(reader), "input", format) {
        Ok(rows) => rows,
        Err(error) => return (entries, Some(error.to_string())),
    };
    for entry in rows {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => return (entries, Some(error.to_string())),
        }
    }
    (entries, None)
}

fn entries(bytes: &[u8], format: &Format) -> Vec<Entry> {
    let (entries, error) = read_all(io::Cursor::new(bytes.to_vec()), format);
    assert_eq!(error, None, "{:?}", String::from_utf8_lossy(bytes));
    entries
}

fn plan(bytes: &[u8], selection: Selection) -> Plan {
    let reader = Box::new(io::Cursor::new(bytes.to_vec()));
    let rows = Rows::from_reader(reader, "input", &Format::default()).expect("there is a header");
    Plan::new(rows, "input".into(), Arc::new(selection)).expect("nothing is selected by outcome")
}

/// A record as an independent reader finds it.
#[derive(Debug)]
struct Found {
    line: u64,
    fields: Vec<Vec<u8>>,
    is_closed: bool,
}

impl Found {
    /// What the contract makes of it: the row, or `None` for an invalid one.
    fn row(&self) -> Option<(Vec<u8>, Vec<u8>, &'static str)> {
        let [user, conv, kind, ..] = &self.fields[..] else {
            return None;
        };
        let is_id = |id: &&Vec<u8>| (1..=32).contains(&id.len()) && std::str::from_utf8(id).is_ok();
        let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
        let kind = match kind.trim_matches([' ', '\t', '\r', '\n', '\x0c']) {
            "0" | "peer" => "0",
            "2" | "group" => "2",
            _ => return None,
        };
        let ids = (Some(user).filter(is_id)?.clone(), Some(conv).filter(is_id)?.clone());
        self.is_closed.then_some((ids.0, ids.1, kind))
    }
}

/// CSV as RFC 4180 has it, and Python's csv module where that is silent: a quote within an unquoted field is text, and
/// what follows a closing quote belongs to the field. CR, LF and CRLF end lines; blank lines are nothing.
fn read_like_python(bytes: &[u8], delimiter: u8) -> Vec<Found> {
    #[derive(PartialEq)]
    enum In {
        FieldStart,
        Text,
        Quotes,
        QuoteInQuotes,
    }
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let mut record = Found {
            line,
            fields: vec![Vec::new()],
            is_closed: true,
        };
        let mut state = In::FieldStart;
        let is_quoted = bytes[at] == b'"';
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            let is_line_end = byte == b'\n' || byte == b'\r';
            line += u64::from(is_line_end && !(byte == b'\r' && bytes.get(at) == Some(&b'\n')));
            let field = record.fields.last_mut().expect("there always is one");
            state = match state {
                In::Quotes if byte == b'"' => In::QuoteInQuotes,
                In::Quotes => {
                    field.push(byte);
                    In::Quotes
                }
                In::QuoteInQuotes if byte == b'"' => {
                    field.push(byte);
                    In::Quotes
                }
                In::FieldStart if byte == b'"' => In::Quotes,
                _ if is_line_end => {
                    if byte == b'\r' && bytes.get(at) == Some(&b'\n') {
                        (at, line) = (at + 1, line + 1);
                    }
                    state = In::FieldStart;
                    break;
                }
                _ if byte == delimiter => {
                    record.fields.push(Vec::new());
                    In::FieldStart
                }
                _ => {
                    field.push(byte);
                    In::Text
                }
            };
        }
        record.is_closed = state != In::Quotes;
        let is_blank = !is_quoted && record.fields.len() == 1 && record.fields[0].trim_ascii().is_empty();
        if !is_blank {
            found.push(record);
        }
    }
    found
}

fn assert_found(bytes: &[u8], delimiter: u8, format: &Format) -> Result<(), TestCaseError> {
    let expected = read_like_python(bytes, delimiter);
    let entries = entries(bytes, format);
    // The first record is the header.
    prop_assert_eq!(entries.len(), expected.len() - 1, "{:?}", expected);
    for (entry, found) in entries.iter().zip(&expected[1..]) {
        prop_assert_eq!(entry.line(), found.line, "{:?} {:?}", entry, found);
        match (entry, found.row()) {
            (Entry::Row(row), Some(expected)) => {
                let row = (
                    row.user.clone().into_bytes(),
                    row.conv.clone().into_bytes(),
                    row.conv_type.as_str(),
                );
                prop_assert_eq!(row, expected);
            }
            (Entry::Invalid(row), None) => {
                let text = |index: usize| {
                    let field = found.fields.get(index).map(Vec::as_slice).unwrap_or_default();
                    String::from_utf8_lossy(field).into_owned()
                };
                if found.is_closed {
                    prop_assert_eq!((&row.user, &row.conv), (&text(0), &text(1)));
                }
            }
            (entry, row) => prop_assert!(false, "{entry:?} is not {row:?}"),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn any_bytes_are_read_alike_however_they_come(bytes in soup(40), format in formats(), sizes in sizes()) {
        let whole = read_all(io::Cursor::new(bytes.clone()), &format);
        let trickled = read_all(Trickle::new(&bytes, sizes), &format);
        // A damaged archive gives more or less of its text before the damage is found.
        let is_packed = bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd");
        if !is_packed || whole.1.is_none() || trickled.1.is_none() {
            prop_assert_eq!(&whole, &trickled);
        }
        let lines: Vec<u64> = whole.0.iter().map(Entry::line).collect();
        prop_assert!(lines.is_sorted_by(|one, other| one < other), "{:?}", lines);
    }

    #[test]
    fn an_interrupted_read_is_no_error(bytes in soup(40), mut sizes in vec(0_usize..3, 1..6)) {
        sizes.push(1);
        let format = Format::default();
        prop_assert_eq!(read_all(io::Cursor::new(bytes.clone()), &format), read_all(Trickle::new(&bytes, sizes), &format));
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
    fn check_and_plan_say_what_the_reader_says(soup in soup(60)) {
        let bytes = [&b"user,conv,type\n"[..], &soup].concat();
        let entries = entries(&bytes, &Format::default());
        let rows = Rows::from_reader(Box::new(io::Cursor::new(bytes.clone())), "input", &Format::default()).unwrap();
        let findings = check_rows(rows, "input", &Selection::default()).unwrap();
        let (mut triples, mut repeats, mut invalid) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for entry in &entries {
            match entry {
                Entry::Row(row) => {
                    let triple = (&row.user, &row.conv, row.conv_type.as_str());
                    let first = *triples.entry(triple).or_insert(row.line);
                    if first != row.line {
                        repeats.insert(row.line, first);
                    }
                }
                Entry::Invalid(row) => invalid.push(row.line),
            }
        }
        let users: BTreeSet<_> = triples.keys().map(|triple| triple.0).collect();
        prop_assert_eq!(findings.rows, entries.len() as u64);
        prop_assert_eq!(findings.invalid_rows(), invalid.len() as u64);
        prop_assert_eq!(findings.peer + findings.group, (entries.len() - invalid.len()) as u64);
        prop_assert_eq!(findings.users, users.len() as u64);
        prop_assert_eq!(findings.duplicates.rows, repeats.len() as u64);
        prop_assert!(findings.duplicates.first_lines.iter().eq(repeats.keys().take(5)));

        let deduped = Selection { dedupe: true, ..Selection::default() };
        let steps: Vec<Step> = plan(&bytes, deduped.clone()).collect::<Result<_, _>>().unwrap();
        let mut skipped = BTreeMap::new();
        for (step, entry) in steps.iter().zip(&entries) {
            match (step, entry) {
                (Step::Send(sent), Entry::Row(row)) => prop_assert_eq!(sent, row),
                (Step::Invalid(one), Entry::Invalid(other)) => prop_assert_eq!(one, other),
                (Step::Skip { row, first }, Entry::Row(_)) => {
                    skipped.insert(row.line, *first);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!((skipped, steps.len()), (repeats, entries.len()));

        let survey = plan(&bytes, deduped.clone()).survey().unwrap();
        prop_assert_eq!(survey.rows, findings.rows);
        let surveyed = Selection { repeated: Some(survey.repeated), ..deduped };
        let again: Vec<Step> = plan(&bytes, surveyed).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(again, steps, "knowing the repeated rows changes nothing");
    }
}

/// Any text that may be an ID, with much of what has a meaning in CSV.
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
        writer.write_record([user, conv, kind.as_str()]).unwrap();
    }
    (writer.into_inner().unwrap(), lines)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

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
        if !holds_u_fffd { // in decoded text it stands for what could not be decoded
            forms.extend([utf16(0xff, u16::to_le_bytes), utf16(0xfe, u16::to_be_bytes)]);
        }
        for form in forms {
            let (found, error) = read_all(Trickle::new(&form, sizes.clone()), &Format::default());
            prop_assert_eq!(error, None);
            let found: Vec<_> = found
                .into_iter()
                .map(|entry| match entry {
                    Entry::Row(row) => (row.line, row.user, row.conv, row.conv_type),
                    Entry::Invalid(row) => panic!("{row:?}"),
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

/// A report and its outside log in a folder of their own, and what was written to them.
struct Desk {
    folder: tempfile::TempDir,
    records: Vec<Record>,
    /// Where the header ends and each record.
    ends: Vec<usize>,
    report: Vec<u8>,
}

impl Desk {
    fn new(records: Vec<Record>) -> Desk {
        let mut desk = Desk {
            folder: folder(),
            ends: Vec::new(),
            records,
            report: Vec::new(),
        };
        let files = desk.open(Existing::Refuse).unwrap();
        desk.ends.push(desk.read("report.csv").len());
        let mut report = desk.continued(files);
        for record in &desk.records {
            report.record(&Event::Settled(Box::new(record.clone())));
            report.commit().unwrap();
            desk.ends
                .push(std::fs::metadata(desk.path("report.csv")).unwrap().len() as usize);
        }
        desk.report = desk.read("report.csv");
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn open(&self, existing: Existing) -> Result<Files, Error> {
        Files::open(&self.path("report.csv"), &self.path("outside.csv"), existing)
    }

    /// Puts `bytes` in the report's place and resumes.
    fn resume(&self, bytes: &[u8]) -> Result<Files, Error> {
        std::fs::write(self.path("report.csv"), bytes).unwrap();
        self.open(Existing::Resume)
    }

    fn continued(&self, files: Files) -> Report {
        let paths = (self.path("report.csv"), self.path("outside.csv"));
        Report::new(files, paths, Progress::new(Style::None, Terminal::new(), None))
    }

    /// How many whole records are in the first `len` bytes; `None` if not even the header is.
    fn whole(&self, len: usize) -> Option<usize> {
        self.ends.iter().filter(|end| **end <= len).count().checked_sub(1)
    }

    /// The outside log of the first `count` records.
    fn outside(&self, count: usize) -> Vec<u8> {
        let is_outside = |index: &usize| self.records[*index].outcome == Outcome::Outside;
        let whole = (0..count)
            .filter(is_outside)
            .map(|at| &self.report[self.ends[at]..self.ends[at + 1]]);
        [&self.report[..self.ends[0]]]
            .into_iter()
            .chain(whole)
            .collect::<Vec<_>>()
            .concat()
    }
}

/// In memory where there is such a place: every opening syncs the folder, and thousands of them are opened here.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn record_of(entry: Entry, outcome: Outcome, message: String) -> Record {
    let (line, user, conv, conv_type, outcome) = match entry {
        Entry::Row(row) => (row.line, row.user, row.conv, row.conv_type.as_str().into(), outcome),
        Entry::Invalid(row) => (row.line, row.user, row.conv, row.conv_type.into(), Outcome::Invalid),
    };
    let millis = Duration::from_millis(1_790_000_000_123 + line);
    Record {
        line,
        user,
        conv,
        conv_type,
        outcome,
        code: (line % 2 == 0).then_some(660_800_002),
        http: (line % 3 == 0).then_some(200),
        message,
        request_id: line.to_string(),
        attempts: 1,
        latency: Some(Duration::from_millis(line)),
        finished_at: SystemTime::UNIX_EPOCH + millis,
    }
}

/// Records of distinct lines in any order, of rows whose IDs hold anything.
fn records(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Record>> {
    let outcome = select(&[Outcome::Ok, Outcome::Outside, Outcome::Failed][..]);
    let record = (id(), id(), outcome, id());
    vec(record, count).prop_map(|records| {
        let record = |(index, (user, conv, outcome, message))| {
            let line = 1 + (index as u64 * 7919) % 10_007;
            let row = zim_batch::rows::Row {
                line,
                user,
                conv,
                conv_type: ConvType::Group,
            };
            record_of(Entry::Row(row), outcome, message)
        };
        records.into_iter().enumerate().map(record).collect()
    })
}

fn assert_refused_untouched(desk: &Desk, bytes: &[u8], error: &Error) -> Result<(), TestCaseError> {
    prop_assert_eq!(error.exit_status(), 4, "{}", error);
    prop_assert_eq!(desk.read("report.csv"), bytes, "a refused report is left as it is");
    prop_assert!(error.to_string().contains("report.csv"), "{}", error);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn a_report_cut_anywhere_keeps_its_whole_records_and_can_be_completed(records in records(0..5)) {
        let desk = Desk::new(records);
        for cut in 0..=desk.report.len() {
            let mut files = desk.resume(&desk.report[..cut]).unwrap();
            let whole = desk.whole(cut).unwrap_or(0);
            prop_assert_eq!(files.take_done().len(), whole, "cut at {}", cut);
            prop_assert_eq!(desk.read("report.csv"), &desk.report[..desk.ends[whole]], "cut at {}", cut);
            prop_assert_eq!(desk.read("outside.csv"), desk.outside(whole), "cut at {}", cut);
            let mut report = desk.continued(files);
            for record in &desk.records[whole..] {
                report.record(&Event::Settled(Box::new(record.clone())));
            }
            report.commit().unwrap();
            prop_assert_eq!(&desk.read("report.csv"), &desk.report, "cut at {}", cut);
            prop_assert_eq!(desk.read("outside.csv"), desk.outside(desk.records.len()), "cut at {}", cut);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn bytes_behind_a_report_cost_no_whole_record(records in records(0..5), more in soup(30)) {
        let desk = Desk::new(records);
        let bytes = [&desk.report[..], &more].concat();
        match desk.resume(&bytes) {
            Err(error) => assert_refused_untouched(&desk, &bytes, &error)?,
            Ok(mut files) => {
                prop_assert!(desk.read("report.csv").starts_with(&desk.report));
                prop_assert!(desk.read("outside.csv").starts_with(&desk.outside(desk.records.len())));
                prop_assert!(files.take_done().len() >= desk.records.len());
            }
        }
    }

    #[test]
    fn a_flipped_byte_costs_no_whole_record_before_it(
        records in records(1..5),
        place in any::<prop::sample::Index>(),
        byte in prop_oneof![select(&b"\"\"\n\r,0\0"[..]), any::<u8>()],
    ) {
        let desk = Desk::new(records);
        let place = place.index(desk.report.len());
        let mut bytes = desk.report.clone();
        bytes[place] = byte;
        match desk.resume(&bytes) {
            Err(error) => assert_refused_untouched(&desk, &bytes, &error)?,
            Ok(mut files) => {
                let whole = desk.whole(place).unwrap_or(0);
                prop_assert!(desk.read("report.csv").starts_with(&bytes[..desk.ends[whole]]));
                prop_assert!(files.take_done().len() >= whole);
            }
        }
    }

    #[test]
    fn what_is_no_report_is_never_touched(bytes in soup(40)) {
        let desk = Desk::new(Vec::new());
        match desk.resume(&bytes) {
            Err(error) => assert_refused_untouched(&desk, &bytes, &error)?,
            // Nothing but line ends, or the beginning of a header: the header is written anew.
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).replace(['"', '\u{feff}'], "");
                prop_assert!(COLUMNS.join(",").starts_with(text.trim_ascii()), "{:?}", text);
            }
        }
    }

    #[test]
    fn a_run_goes_on_with_exactly_the_rows_whose_records_are_lost(
        soup in soup(60),
        order in any::<u64>(),
        cut in any::<prop::sample::Index>(),
        is_streamed in any::<bool>(),
    ) {
        let bytes = [&b"user,conv,type\n"[..], &soup].concat();
        let entries = entries(&bytes, &Format::default());
        let outcomes = [Outcome::Ok, Outcome::Outside, Outcome::Failed];
        let mut records: Vec<Record> = entries
            .iter()
            .map(|entry| record_of(entry.clone(), outcomes[entry.line() as usize % 3], "said".into()))
            .collect();
        records.sort_by_key(|record| record.line.wrapping_mul(order | 1).rotate_left(17));
        let desk = Desk::new(records);
        let cut = cut.index(desk.report.len() + 1);
        let done = desk.resume(&desk.report[..cut]).unwrap().take_done();
        let whole = desk.whole(cut).unwrap_or(0);
        let done_lines: BTreeSet<u64> = desk.records[..whole].iter().map(|record| record.line).collect();
        let last_done = done.last_line();

        let mut plan = plan(&bytes, Selection { done, ..Selection::default() });
        if is_streamed {
            plan = plan.verify_first();
        }
        let steps: Vec<Step> = plan.collect::<Result<_, _>>().unwrap();
        let already = steps.iter().filter(|step| **step == Step::AlreadyDone).count();
        prop_assert_eq!(already, done_lines.len());
        let rest: Vec<u64> = steps.iter().filter_map(line_of).collect();
        let expected: Vec<u64> = entries.iter().map(Entry::line).filter(|line| !done_lines.contains(line)).collect();
        prop_assert_eq!(rest, expected);
        if is_streamed {
            let verified = steps.iter().take_while(|step| **step == Step::AlreadyDone).count();
            prop_assert_eq!(verified, already, "nothing is done before all has been compared, up to line {}", last_done);
        }
    }

    #[test]
    fn a_row_that_changed_or_went_since_is_told(rows in id_rows(), which in any::<prop::sample::Index>(), goes in any::<bool>()) {
        prop_assume!(!rows.is_empty());
        let which = which.index(rows.len());
        let (bytes, lines) = as_csv(&rows, b',', csv::Terminator::Any(b'\n'), csv::QuoteStyle::Necessary);
        let mut done = Done::default();
        for (line, (user, conv, kind)) in lines.iter().zip(&rows) {
            done.insert(*line, user, conv, kind.as_str());
        }
        done.seal().unwrap();
        let mut changed = rows.clone();
        changed[which].2 = match rows[which].2 { ConvType::Peer => ConvType::Group, ConvType::Group => ConvType::Peer };
        if goes {
            changed.truncate(which);
        }
        let (other, _) = as_csv(&changed, b',', csv::Terminator::Any(b'\n'), csv::QuoteStyle::Necessary);
        for is_streamed in [false, true] {
            let follow = |bytes: &[u8]| {
                let plan = plan(bytes, Selection { done: done.clone(), ..Selection::default() });
                let plan = if is_streamed { plan.verify_first() } else { plan };
                plan.collect::<Result<Vec<_>, _>>()
            };
            prop_assert_eq!(follow(&bytes).unwrap(), vec![Step::AlreadyDone; rows.len()]);
            let told = follow(&other);
            let Err(PlanError::Mismatch(text)) = told else { panic!("{told:?}") };
            let line = lines[which];
            prop_assert!(text.contains(&format!("line {line}:")), "{}", text);
        }
    }
}

#[test]
fn a_quote_in_the_middle_of_a_report_does_not_cut_off_the_whole_records_behind_it() {
    let row = |line: u64| zim_batch::rows::Row {
        line,
        user: format!("u{line}"),
        conv: "c".into(),
        conv_type: ConvType::Peer,
    };
    let records = (2..1002).map(|line| record_of(Entry::Row(row(line)), Outcome::Ok, "fine".into()));
    let desk = Desk::new(records.collect());
    let mut bytes = desk.report.clone();
    bytes[desk.ends[10] + "12,".len()] = b'"'; // for the `u` of the user
    let resumed = desk.resume(&bytes);
    assert!(
        resumed.is_err(),
        "{} bytes of {} are left",
        desk.read("report.csv").len(),
        bytes.len()
    );
    assert_eq!(desk.read("report.csv"), bytes);
}

#[test]
fn a_quoted_nothing_is_no_blank_line() {
    let found = entries(b"user,conv,type\n\"\"\na,b,0\n", &Format::default());
    assert_eq!(found.iter().map(Entry::line).collect::<Vec<_>>(), [2, 3]);
}

fn line_of(step: &Step) -> Option<u64> {
    match step {
        Step::Send(row) | Step::Skip { row, .. } => Some(row.line),
        Step::Invalid(row) => Some(row.line),
        Step::AlreadyDone => None,
    }
}
