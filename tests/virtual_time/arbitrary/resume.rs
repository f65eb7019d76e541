//! Reports that are truncated, extended, damaged or missing; and the rows that a resumed run still has to send.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use zim_batch::client::Item;
use zim_batch::journal::{COLUMNS, IfExists, Journal, Report, ReportError};
use zim_batch::row::{Numbered, Outcome, Record, Row};
use zim_batch::rows::Done;
use zim_batch::rows::InputErrorKind;

use super::*;

/// A report and its outside log in a temporary directory, and what was written to them.
struct Desk {
    directory: tempfile::TempDir,
    records: Vec<Record>,
    /// The offsets at which the header and each record end.
    ends: Vec<usize>,
    report: Vec<u8>,
}

impl Desk {
    fn new(records: Vec<Record>) -> Desk {
        let mut desk = Desk {
            directory: directory(),
            ends: Vec::new(),
            records,
            report: Vec::new(),
        };
        let mut report = desk.open(IfExists::Refuse).unwrap();
        desk.ends.push(desk.read("report.csv").len());
        for record in &desk.records {
            report.push(record);
            report.commit().1.unwrap();
            desk.ends
                .push(std::fs::metadata(desk.path("report.csv")).unwrap().len() as usize);
        }
        desk.report = desk.read("report.csv");
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    fn open(&self, existing: IfExists) -> Result<Report, ReportError> {
        Report::open(&self.path("report.csv"), &self.path("outside.csv"), existing, false)
    }

    /// Resumes with these bytes as the report, without an outside log.
    fn resume(&self, bytes: &[u8]) -> Result<Report, ReportError> {
        let _ = std::fs::remove_file(self.path("outside.csv"));
        std::fs::write(self.path("report.csv"), bytes).unwrap();
        self.open(IfExists::Resume)
    }

    /// Resumes with these bytes as the report and as the outside log.
    fn resume_with_log(&self, report: &[u8], outside: &[u8]) -> Result<Report, ReportError> {
        std::fs::write(self.path("report.csv"), report).unwrap();
        std::fs::write(self.path("outside.csv"), outside).unwrap();
        self.open(IfExists::Resume)
    }

    /// How many complete records are in the first `len` bytes; `None` if not even the header is complete.
    fn whole(&self, len: usize) -> Option<usize> {
        self.ends.iter().filter(|end| **end <= len).count().checked_sub(1)
    }

    /// How many records the first `len` bytes keep: one that lacks only its line end is complete.
    fn whole_when_cut(&self, len: usize) -> usize {
        self.whole(len + 1).unwrap_or(0)
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

/// In memory if possible: opening a report syncs its directory, and these tests open thousands.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn record_of(parsed: ParsedRow, outcome: Outcome, message: String) -> Record {
    let (line, key, outcome) = match parsed {
        ParsedRow::Row(row) => (row.line, row.item.key().map(str::to_owned), outcome),
        ParsedRow::Invalid(row) => (row.line, [row.user, row.conv, row.conv_type], Outcome::Invalid),
    };
    let millis = Duration::from_millis(1_790_000_000_123 + line);
    let mut record = Record::new(line, key, outcome, message);
    record.code = (line % 2 == 0).then_some(660_800_002);
    record.http = (line % 3 == 0).then_some(200);
    record.request_id = line.to_string();
    record.attempts = 1;
    record.latency = Some(Duration::from_millis(line));
    record.finished_at = SystemTime::UNIX_EPOCH + millis;
    record
}

/// Records of distinct lines in any order, with arbitrary IDs.
fn records(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Record>> {
    let outcome = select(&[Outcome::Ok, Outcome::Outside, Outcome::Failed][..]);
    let record = (id(), id(), outcome, id());
    vec(record, count).prop_map(|records| {
        let record = |(index, (user, conv, outcome, message))| {
            let line = 1 + (index as u64 * 7919) % 10_007;
            let item = Row::new(user, conv, ConvType::Group).unwrap();
            record_of(ParsedRow::Row(Numbered { line, item }), outcome, message)
        };
        records.into_iter().enumerate().map(record).collect()
    })
}

fn assert_refused_untouched(desk: &Desk, bytes: &[u8], error: &ReportError) -> Result<(), TestCaseError> {
    let is_no_report = matches!(
        error,
        ReportError::NotAReport { .. } | ReportError::Damaged { .. } | ReportError::OtherEncoding { .. }
    );
    prop_assert!(
        is_no_report || matches!(error, ReportError::Twice { .. }),
        "{:?}",
        error
    );
    prop_assert_eq!(desk.read("report.csv"), bytes, "a refused report is left as it is");
    prop_assert!(error.to_string().contains("report.csv"), "{}", error);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn a_report_cut_anywhere_keeps_its_whole_records_and_can_be_completed(records in records(0..5)) {
        let desk = Desk::new(records);
        for cut in 0..=desk.report.len() {
            let whole = desk.whole_when_cut(cut);
            let outside = desk.outside(desk.records.len());
            // The log is complete or truncated; without a row of the report it belongs to any report.
            let log_cut = if desk.outside(whole).len() > desk.ends[0] { outside.len() - cut % outside.len() } else { cut.min(desk.ends[0]) };
            let mut files = desk.resume_with_log(&desk.report[..cut], &outside[..log_cut]).unwrap();
            prop_assert_eq!(files.take_done().len(), whole, "cut at {}", cut);
            prop_assert_eq!(desk.read("report.csv"), &desk.report[..desk.ends[whole]], "cut at {}", cut);
            prop_assert_eq!(desk.read("outside.csv"), desk.outside(whole), "cut at {}", cut);
            let mut report = files;
            for record in &desk.records[whole..] {
                report.push(record);
            }
            report.finish(true).unwrap();
            prop_assert_eq!(&desk.read("report.csv"), &desk.report, "cut at {}", cut);
            prop_assert_eq!(desk.read("outside.csv"), desk.outside(desk.records.len()), "cut at {}", cut);
        }
    }
}

proptest! {
    #[test]
    fn bytes_after_a_report_cost_no_complete_record(records in records(0..5), more in soup(30)) {
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
    fn a_flipped_byte_costs_no_complete_record_before_it(
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
    fn a_file_that_is_not_a_report_is_never_changed(bytes in soup(40)) {
        let desk = Desk::new(Vec::new());
        match desk.resume(&bytes) {
            Err(error) => assert_refused_untouched(&desk, &bytes, &error)?,
            // Only line ends, an incomplete header or zeros: the header is written again.
            Ok(_) => {
                let text = String::from_utf8_lossy(&bytes).replace(['"', '\u{feff}', '\0'], "");
                prop_assert!(COLUMNS.join(",").starts_with(text.trim_ascii()), "{:?}", text);
            }
        }
    }

    #[test]
    fn a_resumed_run_sends_exactly_the_rows_whose_records_are_lost(
        soup in soup(60),
        order in any::<u64>(),
        cut in any::<prop::sample::Index>(),
        is_streamed in any::<bool>(),
    ) {
        let bytes = [&b"user,conv,type\n"[..], &soup].concat();
        let parsed_rows = parsed_rows(&bytes, &Format::default());
        let outcomes = [Outcome::Ok, Outcome::Outside, Outcome::Failed];
        let mut records: Vec<Record> = parsed_rows
            .iter()
            .map(|parsed| record_of(parsed.clone(), outcomes[parsed.line() as usize % 3], "said".into()))
            .collect();
        records.sort_by_key(|record| record.line.wrapping_mul(order | 1).rotate_left(17));
        let desk = Desk::new(records);
        let cut = cut.index(desk.report.len() + 1);
        let done = desk.resume(&desk.report[..cut]).unwrap().take_done();
        let whole = desk.whole_when_cut(cut);
        let done_lines: BTreeSet<u64> = desk.records[..whole].iter().map(|record| record.line).collect();
        let last_done = done.last_line();

        let tasks = tasks(&bytes, is_streamed, &Selection::default(), done).unwrap();
        let already = tasks.iter().filter(|task| **task == Task::AlreadyDone).count();
        prop_assert_eq!(already, done_lines.len());
        let rest: Vec<u64> = tasks.iter().filter_map(line_of).collect();
        let expected: Vec<u64> = parsed_rows.iter().map(ParsedRow::line).filter(|line| !done_lines.contains(line)).collect();
        prop_assert_eq!(rest, expected);
        if is_streamed {
            let verified = tasks.iter().take_while(|task| **task == Task::AlreadyDone).count();
            prop_assert_eq!(verified, already, "all rows up to line {} are compared before any is returned", last_done);
        }
    }

    #[test]
    fn a_changed_or_removed_row_is_reported(rows in id_rows(), which in any::<prop::sample::Index>(), is_removed in any::<bool>()) {
        prop_assume!(!rows.is_empty());
        let which = which.index(rows.len());
        let (bytes, lines) = as_csv(&rows, b',', csv::Terminator::Any(b'\n'), csv::QuoteStyle::Necessary);
        let mut done = Done::default();
        for (line, (user, conv, kind)) in lines.iter().zip(&rows) {
            done.insert(*line, user, conv, kind.digit());
        }
        done.seal().unwrap();
        let mut changed = rows.clone();
        changed[which].2 = match rows[which].2 { ConvType::Peer => ConvType::Group, ConvType::Group => ConvType::Peer };
        if is_removed {
            changed.truncate(which);
        }
        let (other, _) = as_csv(&changed, b',', csv::Terminator::Any(b'\n'), csv::QuoteStyle::Necessary);
        for is_streamed in [false, true] {
            let follow = |bytes: &[u8]| tasks(bytes, is_streamed, &Selection::default(), done.clone());
            prop_assert_eq!(follow(&bytes).unwrap(), vec![Task::AlreadyDone; rows.len()]);
            let result = follow(&other);
            let error = result.unwrap_err();
            prop_assert!(matches!(error.kind, InputErrorKind::RowGone | InputErrorKind::RowChanged), "{:?}", error);
            prop_assert_eq!(error.line, Some(lines[which]));
        }
    }
}

#[test]
fn a_quote_in_the_middle_of_a_report_does_not_drop_the_complete_records_after_it() {
    let row = |line: u64| Numbered {
        line,
        item: Row::new(format!("u{line}"), "c", ConvType::Peer).unwrap(),
    };
    let records = (2..1002).map(|line| record_of(ParsedRow::Row(row(line)), Outcome::Ok, "fine".into()));
    let desk = Desk::new(records.collect());
    let mut bytes = desk.report.clone();
    bytes[desk.ends[10] + "12,".len()] = b'"'; // instead of the `u` of the user
    let resumed = desk.resume(&bytes);
    assert!(
        resumed.is_err(),
        "{} bytes of {} are left",
        desk.read("report.csv").len(),
        bytes.len()
    );
    assert_eq!(desk.read("report.csv"), bytes);
}

fn line_of(task: &Task) -> Option<u64> {
    match task {
        Task::Send(row) | Task::Skip { item: row, .. } => Some(row.line),
        Task::Invalid(row) => Some(row.line),
        Task::AlreadyDone => None,
    }
}
