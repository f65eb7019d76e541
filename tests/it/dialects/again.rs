//! Reports used as rows: `--only`, the outside log unchanged, `--dedupe`.

use super::*;
use crate::support::sorting_server;

/// A desk whose `out.csv` and `out.outside.csv` have rows of every outcome.
fn desk_with_report() -> Desk {
    let (desk, server) = (Desk::new(), sorting_server());
    let csv =
        "user,conv,type\nbad1,\"a\n,b\",2\nok2, c,0\noutside3,\"\"\"\",0\n,c,0\nok2, c,0\nbad6,=1,0\noutside7,#c,2\n";
    desk.clear(&server, csv).arg("--dedupe").run().assert_status(3);
    let outcomes: BTreeSet<_> = desk.report().into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
    desk
}

const FAILED: [[&str; 3]; 2] = [["bad1", "a\n,b", "2"], ["bad6", "=1", "0"]];
const OUTSIDE: [[&str; 3]; 2] = [["outside3", "\"", "0"], ["outside7", "#c", "2"]];

#[test]
fn only_takes_exactly_the_rows_with_these_outcomes_from_a_report_in_any_dialect() {
    let desk = desk_with_report();
    let report = desk.read("out.csv");
    desk.write("excel.csv", format!("\u{feff}{report}"));
    desk.write("packed.csv.gz", gzip(report.as_bytes()));
    let columns = desk
        .report()
        .iter()
        .fold(String::from("Outcome;Type;Conv;User\r\n"), |text, r| {
            text + &format!(
                "{};{};\"{}\";{}\r\n",
                r.outcome,
                r.kind,
                r.conv.replace('"', "\"\""),
                r.user
            )
        });
    desk.write("reordered.csv", columns);
    for file in ["out.csv", "excel.csv", "packed.csv.gz", "reordered.csv", "-"] {
        for (only, expected) in [
            ("failed", bytes_of(FAILED)),
            ("outside,failed", &bytes_of(FAILED) | &bytes_of(OUTSIDE)),
            ("skipped", bytes_of([["ok2", " c", "0"]])),
        ] {
            let server = kind_server();
            let call = desk
                .clear_with(&server.url(), file)
                .flag("--only", only)
                .flag("--rate", "200");
            let call = if file == "-" { call.stdin(report.clone()) } else { call };
            let outcome = call
                .flag("--report", "retry.csv")
                .arg("--overwrite")
                .arg("--json")
                .run();

            outcome
                .assert_status(0)
                .summary()
                .assert_counts(&[("rows", expected.len() as u64)]);
            assert_eq!(server.requests().len(), expected.len(), "{file} {only}");
            assert_eq!(sent(&server), expected, "{file} {only}");
            assert_eq!(
                read_report(&desk.path("retry.csv")).len(),
                expected.len(),
                "{file} {only}"
            );
        }
    }
}

#[test]
fn the_outside_log_and_the_report_of_a_retry_run_as_they_are() {
    let desk = desk_with_report();
    let server = sorting_server();
    let run = |rows: &str, report: &str| desk.clear_with(&server.url(), rows).flag("--report", report).run();

    run("out.outside.csv", "second.csv").assert_status(0);
    assert_eq!(sent(&server), bytes_of(OUTSIDE));
    run("second.outside.csv", "third.csv").assert_status(0);
    assert_eq!(read_report(&desk.path("third.outside.csv")).len(), 2);
    let lines: BTreeSet<u64> = read_report(&desk.path("third.csv"))
        .iter()
        .map(|record| record.line)
        .collect();
    assert_eq!(lines, [2, 3].into(), "its lines are those of the log");
}

#[test]
fn only_can_be_resumed_and_compares_the_rows_it_takes() {
    let desk = desk_with_report();
    let run = |server: &Server| {
        let call = desk
            .clear_with(&server.url(), "out.csv")
            .flag("--only", "failed,outside");
        call.flag("--report", "retry.csv").arg("--resume").arg("--json").run()
    };
    run(&kind_server()).assert_status(0);
    let retry = desk.read("retry.csv");
    let two_records = retry.match_indices("Z\n").nth(1).unwrap().0 + 2;
    desk.write("retry.csv", &retry[..two_records + 9]);

    let server = kind_server();
    run(&server)
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 4), ("already_done", 2), ("ok", 2)]);
    assert_eq!(
        (server.requests().len(), read_report(&desk.path("retry.csv")).len()),
        (2, 4)
    );
}

#[test]
fn a_skipped_row_names_the_line_of_the_first() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv =
        "user,conv,type\n\na,\"b\n\",0\nA,\"b\n\",0\na,\"b\n\",peer\na,\"b\n\",2\na,\"b\n\", 0 \nab,c,0\na,bc,0\n";
    desk.clear(&server, csv).arg("--dedupe").run().assert_status(0);
    let skipped: Vec<_> = desk
        .report()
        .into_iter()
        .filter(|record| record.outcome == "skipped")
        .collect();
    assert_eq!(skipped.iter().map(|record| record.line).collect::<Vec<_>>(), [7, 11]);
    for record in skipped {
        assert!(record.message.ends_with("line 3") && record.attempts == 0, "{record:?}");
    }
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_report_with_ok_rows_is_refused_unless_rows_are_selected() {
    let desk = desk_with_report();
    let report = desk.read("out.csv");
    let server = kind_server();
    for resumes in [false, true] {
        for file in ["out.csv", "-"] {
            let call = desk.clear_with(&server.url(), file).flag("--report", "new.csv");
            let call = if resumes { call.arg("--resume") } else { call };
            let call = if file == "-" { call.stdin(report.clone()) } else { call };
            let outcome = call.run();
            outcome
                .assert_status(2)
                .assert_says(&["--only failed,outside", "--only all"]);
            let check = desk.zim_batch(["check", file]).stdin(report.clone()).run();
            check.assert_status(2);
            for outcome in [&outcome, &check] {
                let has_counts = outcome
                    .stderr
                    .contains("ok 1, outside 2, failed 2, invalid 1, skipped 1");
                assert!(has_counts || file == "-", "{}", outcome.stderr);
            }
            assert!(server.requests().is_empty() && !desk.has("new.csv") && !desk.has("new.outside.csv"));
        }
    }

    let outcome = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "all")
        .flag("--report", "new.csv")
        .arg("--json")
        .run();
    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("rows", 7), ("ok", 6), ("invalid", 1)]);
    // This also works for input that is not a report.
    desk.write("rows.csv", rows(2));
    desk.clear_with(&server.url(), "rows.csv")
        .flag("--only", "all")
        .flag("--report", "two.csv")
        .run()
        .assert_status(0);
}

#[test]
fn a_stream_is_searched_for_ok_rows_before_anything_is_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    let failed = |count: usize| {
        (0..count)
            .map(|number| format!("u{number},c,0,failed\n"))
            .collect::<String>()
    };
    let csv = format!(
        "user,conv,type,outcome\n{}last,c,0,ok\nnever,c,0,failed\n",
        failed(99_999)
    );
    let outcome = desk.zim_batch(["check", "-"]).stdin(csv.clone()).run();
    outcome.assert_status(2);
    let call = desk.clear_with(&server.url(), "-").flag("--report", "new.csv");
    call.stdin(csv)
        .run()
        .assert_status(2)
        .assert_says(&["line 100001 is an ok row"]);
    assert!(server.requests().is_empty() && !desk.has("new.csv"));
}
