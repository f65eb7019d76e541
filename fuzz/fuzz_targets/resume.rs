//! Any bytes as a report that is resumed: none may panic, a refused report stays as it is, and one that is taken is
//! only ever shortened, or given its last line end, or begun anew while it holds no record.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use zim_batch::journal::{COLUMNS, IfExists, Journal, Report, ReportError};

thread_local! {
    static DIRECTORY: RefCell<tempfile::TempDir> = RefCell::new(
        tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory can be made")
    );
}

// The first byte says whether a header is put before the rest, which few random bytes would begin with.
fuzz_target!(|data: &[u8]| {
    let Some((&flags, rest)) = data.split_first() else {
        return;
    };
    let header = format!("{}\n", COLUMNS.join(","));
    let before = match flags & 3 {
        0 => rest.to_vec(),
        _ => [header.as_bytes(), rest].concat(),
    };
    DIRECTORY.with_borrow(|directory| {
        let [report, outside] = ["report.csv", "outside.csv"].map(|name| directory.path().join(name));
        let _ = std::fs::remove_file(&outside);
        std::fs::write(&report, &before).expect("the directory can be written to");
        let opened = Report::open(&report, &outside, IfExists::Resume, false);
        let after = std::fs::read(&report).expect("the report is there");
        match opened {
            Err(error) => {
                assert!(!matches!(error, ReportError::Write { .. }), "{error}");
                assert_eq!(before, after, "{error}");
            }
            Ok(mut opened) => {
                let done = opened.take_done().len();
                drop(opened);
                let has_line_end_more = after.strip_suffix(b"\n") == Some(&before[..]);
                assert!(before.starts_with(&after) || has_line_end_more || (done == 0 && after == header.as_bytes()));
                // What was kept is whole: opening it again changes nothing.
                let mut again = Report::open(&report, &outside, IfExists::Resume, false).expect("it was just taken");
                assert_eq!(again.take_done().len(), done);
                assert_eq!(std::fs::read(&report).expect("the report is there"), after);
                let log = std::fs::read(&outside).expect("the outside log is there");
                assert!(log.starts_with(header.as_bytes()));
            }
        }
    });
});
