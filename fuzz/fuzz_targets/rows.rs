//! Any bytes through the reader, the check and the plan: none may panic, and all three must agree.
//!
//! The first byte says how the rest is read, so that the fuzzer can choose the flags too.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use zim_batch::rows::check::check_rows;
use zim_batch::rows::{Done, Format, Input, ParsedRow, Reads, Rows, Selection, Task, encoding};

const ENCODINGS: [&str; 8] = ["", "", "", "", "gbk", "shift_jis", "utf-16le", "windows-1252"];
const DELIMITERS: [Option<u8>; 4] = [None, None, Some(b';'), Some(b'\t')];
const COLUMNS: [&str; 4] = ["", "", "user=3,conv=1,type=2", "user=2,conv=b"];

fuzz_target!(|data: &[u8]| {
    let Some((&flags, bytes)) = data.split_first() else {
        return;
    };
    let format = Format {
        reads: if flags >> 7 == 0 { Reads::Rows } else { Reads::RowsOrUsers },
        encoding: encoding(ENCODINGS[usize::from(flags & 7)]),
        delimiter: DELIMITERS[usize::from(flags >> 3 & 3)],
        columns: COLUMNS[usize::from(flags >> 5 & 3)].parse().unwrap_or_default(),
        ..Format::default()
    };
    let open = || Rows::from_reader(Box::new(Cursor::new(bytes.to_vec())), "input", &format);
    let Ok(rows) = open() else { return };
    let are_users = rows.columns().conv.is_none();
    let (mut rows_sent, mut rows_invalid, mut last, mut is_readable) = (0, 0, 0, true);
    for entry in rows {
        let Ok(entry) = entry else {
            is_readable = false;
            break;
        };
        assert!(entry.line() > last, "lines ascend");
        last = entry.line();
        match entry {
            ParsedRow::Row(row) => {
                rows_sent += 1;
                assert!((1..=32).contains(&row.item.user().len()));
                assert!(row.item.conv().len() <= 32 && row.item.conv().is_empty() == are_users);
            }
            ParsedRow::Invalid(row) => {
                rows_invalid += 1;
                assert!(!row.error.to_string().is_empty());
            }
        }
    }
    let selection = Selection {
        dedupe: true,
        ..Selection::default()
    };
    let checked = check_rows(open().expect("it could be opened before"), &selection);
    let input = Input::from(open().expect("it could be opened before"));
    let steps = input.plan(&selection, Done::default()).and_then(|plan| plan.collect::<Result<Vec<Task>, _>>());
    assert_eq!((checked.is_ok(), steps.is_ok()), (is_readable, is_readable));
    if let (Ok(findings), Ok(steps)) = (checked, steps) {
        let skipped = steps.iter().filter(|step| matches!(step, Task::Skip { .. })).count() as u64;
        assert_eq!(findings.rows, rows_sent + rows_invalid);
        assert_eq!(findings.invalid_rows(), rows_invalid);
        assert_eq!(findings.peer + findings.group, rows_sent);
        assert_eq!((findings.duplicates.rows, steps.len() as u64), (skipped, findings.rows));
    }
});
