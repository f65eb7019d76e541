//! The outside log belongs to one report: the log of another is never overwritten, and a report's own is completed.

use std::fs;

use super::{sorting_server, users};
use crate::support::{Call, Desk, REPORT_HEADER, Server, named_rows, read_report};

const MODES: [Option<&str>; 3] = [None, Some("--resume"), Some("--overwrite")];

fn in_mode(call: Call, mode: Option<&str>) -> Call {
    match mode {
        Some(flag) => call.arg(flag),
        None => call,
    }
}

fn run_of(desk: &Desk, server: &Server, users: &[&str], report: &str) -> Call {
    desk.clear(server, named_rows(users)).flag("--report", report)
}

#[test]
fn the_outside_log_of_another_report_is_refused_and_left_unchanged_in_every_mode() {
    let (desk, server) = (Desk::new(), sorting_server());
    let run = |users, report, outside| run_of(&desk, &server, users, report).flag("--outside", outside);
    run(&["out1", "b", "out2"], "a.csv", "same.csv").run().assert_status(0);
    run(&["out1", "c", "out3"], "b.csv", "own.csv").run().assert_status(0);
    let files = ["a.csv", "b.csv", "same.csv"].map(|file| (file, desk.read(file)));
    let sent = server.requests().len();
    for mode in MODES {
        for report in ["b.csv", "new.csv"] {
            let outcome = in_mode(run(&["out1", "c", "out3"], report, "same.csv"), mode).run();
            outcome.assert_status(2);
            if report == "new.csv" || mode.is_some() {
                outcome.assert_says(&["same.csv", report, "--outside"]);
            }
            assert!(!desk.has("new.csv"), "{mode:?}: the report of a run that never began");
            for (file, before) in &files {
                assert_eq!(&desk.read(file), before, "{mode:?} {report}: {file}");
            }
        }
    }
    // A report is not an outside log, although it has the same header.
    let outcome = run(&["d"], "new.csv", "a.csv").arg("--resume").run();
    outcome.assert_status(2).assert_says(&["a.csv"]);
    assert_eq!(
        (desk.read("a.csv"), server.requests().len()),
        (files[0].1.clone(), sent)
    );
}

#[test]
fn a_file_that_is_not_an_outside_log_is_left_unchanged_in_every_mode() {
    let (desk, server) = (Desk::new(), sorting_server());
    run_of(&desk, &server, &["a", "out"], "old.csv").run().assert_status(0);
    let notes = [
        "1\n2\n3\n".to_owned(),
        "torn,\"as well".into(),
        "line,user,conv,type\n".into(),
        format!("{REPORT_HEADER}\nremember the milk\n"),
        format!("{REPORT_HEADER}\n\"remember\"\n2,out,cout,0,outside,,,,,,,\n"),
    ];
    for text in notes {
        for (mode, report) in [
            (None, "new.csv"),
            (Some("--resume"), "old.csv"),
            (Some("--overwrite"), "old.csv"),
        ] {
            desk.write("notes.txt", &text);
            let report_before = desk.has(report).then(|| desk.read(report));
            let call = run_of(&desk, &server, &["a", "out"], report).flag("--outside", "notes.txt");
            in_mode(call, mode)
                .run()
                .assert_status(2)
                .assert_says(&["notes.txt", "untouched"]);
            assert_eq!(desk.read("notes.txt"), text, "{mode:?}");
            assert_eq!(
                desk.has(report).then(|| desk.read(report)),
                report_before,
                "{mode:?} {text:?}"
            );
        }
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn reports_that_differ_in_what_is_no_csv_have_outside_logs_of_their_own() {
    let (desk, server) = (Desk::new(), sorting_server());
    let days = [
        ("out.2026-11-23", "out.2026-11-23.outside.csv"),
        ("out.2026-11-24", "out.2026-11-24.outside.csv"),
        ("out.txt", "out.txt.outside.csv"),
        ("out.csv", "out.outside.csv"),
        ("v1.2", "v1.2.outside.csv"),
    ];
    for (report, _) in days {
        let user = format!("out-of-{report}");
        run_of(&desk, &server, &[&user], report).run().assert_status(0);
    }
    for (report, outside) in days {
        assert_eq!(users(&desk.path(outside)), [format!("out-of-{report}")]);
    }
}

#[test]
fn the_outside_log_of_a_report_that_was_renamed_away_is_not_lost_to_the_next_of_its_name() {
    let (desk, server) = (Desk::new(), sorting_server());
    run_of(&desk, &server, &["out"], "out.csv").run().assert_status(0);
    fs::rename(desk.path("out.csv"), desk.path("yesterday.csv")).unwrap();
    for mode in MODES {
        let outcome = in_mode(run_of(&desk, &server, &["out"], "out.csv"), mode).run();
        outcome
            .assert_status(2)
            .assert_says(&["out.outside.csv", "move it away"]);
        assert_eq!(users(&desk.path("out.outside.csv")), ["out"], "{mode:?}");
        assert!(!desk.has("out.csv"), "{mode:?}");
    }
}

#[test]
fn an_outside_log_without_rows_belongs_to_any_report() {
    let server = sorting_server();
    let logs = [
        "",
        "\n",
        REPORT_HEADER,
        "line,user,con",
        &format!("{REPORT_HEADER}\n"),
        "\0\0\0",
    ];
    for (log, mode) in logs.into_iter().flat_map(|log| MODES.map(|mode| (log, mode))) {
        let desk = Desk::new();
        desk.write("log.csv", log);
        let call = run_of(&desk, &server, &["a", "out"], "out.csv").flag("--outside", "log.csv");
        in_mode(call, mode).run().assert_status(0);
        assert_eq!(users(&desk.path("log.csv")), ["out"], "{mode:?} {log:?}");
    }
}

#[test]
fn a_report_that_is_overwritten_takes_its_own_outside_log_with_it() {
    let (desk, server) = (Desk::new(), sorting_server());
    run_of(&desk, &server, &["out1", "out2", "b"], "out.csv")
        .run()
        .assert_status(0);
    run_of(&desk, &server, &["out3"], "out.csv")
        .arg("--overwrite")
        .run()
        .assert_status(0);
    assert_eq!(users(&desk.path("out.outside.csv")), ["out3"]);
    // A torn report also shows whose log it is.
    let report = desk.read("out.csv");
    desk.write("out.csv", format!("{report}3,torn"));
    run_of(&desk, &server, &["out4"], "out.csv")
        .arg("--overwrite")
        .run()
        .assert_status(0);
    assert_eq!(users(&desk.path("out.outside.csv")), ["out4"]);
}

#[test]
fn an_outside_log_in_any_order_is_completed_and_not_written_if_nothing_is_missing() {
    let (desk, server) = (Desk::new(), sorting_server());
    let rows = ["out1", "a", "out2", "out3", "b"];
    let resume = || {
        run_of(&desk, &server, &rows, "out.csv")
            .arg("--resume")
            .run()
            .assert_status(0)
            .summary()
    };
    resume();
    let log = desk.read("out.outside.csv");
    let lines: Vec<&str> = log.lines().collect();
    for some in [&[3, 1, 2][..], &[1, 3], &[2], &[1, 2, 3, 3], &[3, 2, 1]] {
        let lines: Vec<&str> = [0].iter().chain(some).map(|line| lines[*line]).collect();
        desk.write("out.outside.csv", lines.join("\r\n"));
        resume();
        let logged = read_report(&desk.path("out.outside.csv"));
        let mut lines: Vec<u64> = logged.iter().map(|record| record.line).collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 4, 5], "after {some:?}");
    }

    desk.write("out.outside.csv", &log);
    let written = || fs::metadata(desk.path("out.outside.csv")).unwrap().modified().unwrap();
    let before = written();
    resume();
    assert_eq!((desk.read("out.outside.csv"), written()), (log, before));
}
