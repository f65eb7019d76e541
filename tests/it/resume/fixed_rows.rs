//! Invalid rows that were fixed after a run: they are processed again, and each has one record.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{sorting_server, users};
use crate::support::{Desk, Server, read_report};

const BAD: &str = "user,conv,type\na,b,pear\nok,c,0\n,c,0\nout,c,0\nbad,c,9\n,z,0\n";

fn desk_after_a_run(server: &Server) -> Desk {
    let desk = Desk::new();
    desk.clear(server, BAD).run().assert_status(3);
    assert_eq!(desk.report().len(), 6);
    desk
}

#[test]
fn a_fixed_row_is_sent_and_has_one_record() {
    for is_streamed in [false, true] {
        let server = sorting_server();
        let desk = desk_after_a_run(&server);
        let mode = fs::Permissions::from_mode(0o640);
        fs::set_permissions(desk.path("out.csv"), mode).unwrap();
        let sent = server.requests().len();
        // The first is fixed, the second becomes a blank line, the third has another error, the last is removed.
        let fixed = "user,conv,type\na,b,peer\nok,c,0\n,,\nout,c,0\nbad,c,8\n";
        let run = || {
            let call = if is_streamed {
                desk.clear_with(&server.url(), "-")
                    .flag("--report", "out.csv")
                    .arg("--json")
                    .stdin(fixed)
            } else {
                desk.clear(&server, fixed)
            };
            call.arg("--resume").run()
        };
        let outcome = run();
        outcome.assert_status(3).summary().assert_counts(&[
            ("rows", 4),
            ("ok", 1),
            ("invalid", 1),
            ("already_done", 2),
            ("requests", 1),
        ]);
        assert_eq!(server.requests()[sent..][0].user(), "a");

        let mut records = desk.report();
        records.sort_by_key(|record| record.line);
        let recorded = records
            .iter()
            .map(|record| (record.line, record.outcome.as_str(), record.kind.as_str()));
        assert_eq!(
            recorded.collect::<Vec<_>>(),
            [(2, "ok", "0"), (3, "ok", "0"), (5, "outside", "0"), (6, "invalid", "8")]
        );
        assert_eq!(users(&desk.path("out.outside.csv")), ["out"]);
        assert_eq!(
            fs::metadata(desk.path("out.csv")).unwrap().permissions().mode() & 0o777,
            0o640
        );

        // A second resume changes nothing and leaves no files.
        let report = desk.read("out.csv");
        run()
            .assert_status(3)
            .summary()
            .assert_counts(&[("already_done", 4), ("requests", 0)]);
        assert_eq!(desk.read("out.csv"), report);
        let is_left = |name: OsString| name.to_string_lossy().ends_with(".tmp");
        let mut files = fs::read_dir(desk.path(".")).unwrap();
        assert!(!files.any(|file| is_left(file.unwrap().file_name())));
    }
}

#[test]
fn a_row_that_was_sent_must_not_change_even_if_others_are_fixed() {
    let server = sorting_server();
    let desk = desk_after_a_run(&server);
    let report = desk.read("out.csv");
    let sent = server.requests().len();
    let changed = BAD.replace("pear", "peer").replace("out,c", "out,x");
    desk.clear(&server, changed)
        .arg("--resume")
        .run()
        .assert_status(4)
        .assert_says(&["line 5"]);
    assert_eq!((desk.read("out.csv"), server.requests().len()), (report, sent));
}

#[test]
fn additional_words_for_the_types_fix_rows_too() {
    let server = sorting_server();
    let desk = Desk::new();
    desk.clear(&server, "user,conv,type\na,b,single\nc,d,0\n")
        .run()
        .assert_status(3);
    let call = desk.clear(&server, "user,conv,type\na,b,single\nc,d,0\n");
    call.flag("--types", "single=0").arg("--resume").run().assert_status(0);
    assert_eq!(desk.report_by_user()["a"].kind, "0");
}

#[test]
fn a_report_behind_a_symbolic_link_keeps_its_link() {
    let server = sorting_server();
    let desk = desk_after_a_run(&server);
    fs::rename(desk.path("out.csv"), desk.path("real.csv")).unwrap();
    std::os::unix::fs::symlink("real.csv", desk.path("out.csv")).unwrap();
    desk.clear(&server, BAD.replace("pear", "peer"))
        .arg("--resume")
        .run()
        .assert_status(3);
    assert!(fs::symlink_metadata(desk.path("out.csv")).unwrap().is_symlink());
    assert_eq!(read_report(&desk.path("real.csv")).len(), 6);
}
