//! The report and the outside log, and how later runs use them.

use std::collections::BTreeSet;

use crate::support::list::with_app;
use crate::support::{Answer, Desk, REPORT_HEADER, Server, kind_server, named_rows, read_report, rows, sorting_server};

#[test]
fn a_report_has_one_complete_record_per_row() {
    let server =
        Server::start(|_, _| Answer::Json(r#"{"Code":0,"Message":"success","RequestId":"9007199254740995"}"#.into()));
    let desk = Desk::new();

    let outcome = desk
        .clear(&server, "user,conv,type\nu1,c1,peer\nu2,#g2, Group \n")
        .run();

    outcome.assert_status(0);
    assert!(desk.read("out.csv").starts_with(&format!("{REPORT_HEADER}\n")));
    let mut records = desk.report();
    records.sort_by_key(|record| record.line);
    let keys: Vec<_> = records
        .iter()
        .map(|r| (r.line, r.user.as_str(), r.conv.as_str(), r.kind.as_str()))
        .collect();
    assert_eq!(keys, [(2, "u1", "c1", "0"), (3, "u2", "#g2", "2")]);
    for record in &records {
        let said = [
            &record.outcome,
            &record.code,
            &record.http,
            &record.message,
            &record.request_id,
        ];
        assert_eq!(said, ["ok", "0", "200", "success", "9007199254740995"]);
        assert!(
            record.attempts == 1 && record.latency_ms.parse::<f64>().is_ok(),
            "{record:?}"
        );
        record.assert_is_finished();
    }
}

#[test]
fn the_report_has_a_default_name_beside_the_rows() {
    let (desk, server) = (Desk::new(), kind_server());
    std::fs::create_dir(desk.path("directory")).unwrap();
    desk.write("directory/my.rows.csv", rows(2));

    let outcome = desk
        .clear_with(&server.url(), "directory/my.rows.csv")
        .arg("--json")
        .run();

    outcome.assert_status(0);
    assert_eq!(read_report(&desk.path("directory/my.rows.report.csv")).len(), 2);
    assert_eq!(read_report(&desk.path("directory/my.rows.report.outside.csv")).len(), 0);
    let summary = outcome.summary();
    let path = |key: &str| summary.0[key].as_str().unwrap().to_owned();
    assert!(path("report").ends_with("directory/my.rows.report.csv"), "{summary:?}");
    assert!(
        path("outside_log").ends_with("directory/my.rows.report.outside.csv"),
        "{summary:?}"
    );
}

#[test]
fn the_outside_log_exists_after_every_run_that_sent_something() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(2)).run().assert_status(0);
    assert_eq!(desk.read("out.outside.csv"), format!("{REPORT_HEADER}\n"));

    desk.clear(&server, rows(2))
        .arg("--overwrite")
        .flag("--outside", "elsewhere.csv")
        .run()
        .assert_status(0);
    assert_eq!(desk.read("elsewhere.csv"), format!("{REPORT_HEADER}\n"));
}

#[test]
fn report_and_outside_log_are_input_again() {
    let (desk, server) = (Desk::new(), sorting_server());
    let csv = "user,conv,type\n=u1,\"c,1\",0\noutside2, c2 ,2\nbad3,#c3,0\noutside4,c4,0\n,c5,0\n";
    desk.clear(&server, csv).run().assert_status(3);
    let outside = read_report(&desk.path("out.outside.csv"));
    assert_eq!(desk.read("out.outside.csv").lines().count(), 3);
    let users: BTreeSet<_> = outside
        .iter()
        .map(|record| (record.line, record.user.as_str()))
        .collect();
    assert_eq!(users, [(3, "outside2"), (5, "outside4")].into());

    let kind = kind_server();
    let again = |file: &str, more: &[&str]| {
        for file in ["second.csv", "second.outside.csv"] {
            std::fs::remove_file(desk.path(file)).ok();
        }
        let before = kind.requests().len();
        let call = desk
            .clear_with(&kind.url(), file)
            .flag("--report", "second.csv")
            .flag("--rate", "200");
        let status = more.iter().fold(call, |call, flag| call.arg(flag)).run().status;
        let sent: BTreeSet<_> = kind.requests()[before..].iter().map(|request| request.row()).collect();
        (status, sent)
    };
    let row = |user: &str, conv: &str, kind: &str| [user, conv, kind].map(|field| field.as_bytes().to_vec());
    let (two, four) = (row("outside2", " c2 ", "2"), row("outside4", "c4", "0"));
    let (one, three) = (row("=u1", "c,1", "0"), row("bad3", "#c3", "0"));
    assert_eq!(again("out.outside.csv", &[]), (0, [two.clone(), four.clone()].into()));
    assert_eq!(again("out.csv", &["--only", "failed"]), (0, [three.clone()].into()));
    assert_eq!(
        again("out.csv", &["--only", "ok,outside"]),
        (0, [one.clone(), two.clone(), four.clone()].into())
    );
    assert_eq!(
        again("out.csv", &["--only", "all"]),
        (3, [one, two, three, four].into()),
        "the empty user is invalid again"
    );
}

#[test]
fn an_existing_report_is_not_changed_without_a_flag() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("out.csv", "precious\n");

    desk.clear(&server, rows(2))
        .run()
        .assert_status(2)
        .assert_says(&["--resume", "--overwrite", "out.csv"]);
    assert_eq!(
        (desk.read("out.csv").as_str(), server.requests().len()),
        ("precious\n", 0)
    );

    desk.clear(&server, rows(2)).arg("--overwrite").run().assert_status(0);
    assert_eq!(desk.report().len(), 2);
}

#[test]
fn the_rows_file_is_never_used_as_the_report() {
    let (desk, server) = (Desk::new(), kind_server());
    let same = |flag: &str| {
        desk.clear(&server, rows(2))
            .flag("--report", "rows.csv")
            .arg(flag)
            .run()
    };

    for flag in ["--overwrite", "--resume"] {
        let outcome = same(flag);
        assert!([2, 4].contains(&outcome.status), "{flag}: {outcome:?}");
        assert_eq!((desk.read("rows.csv"), server.requests().len()), (rows(2), 0), "{flag}");
    }
    let outcome = desk
        .clear(&server, rows(2))
        .flag("--outside", "rows.csv")
        .arg("--overwrite")
        .run();
    assert_eq!((outcome.status, desk.read("rows.csv")), (2, rows(2)));
}

#[test]
fn resuming_a_finished_run_sends_nothing_and_appended_rows_are_new() {
    let (desk, server) = (Desk::new(), sorting_server());
    let resume = |users: &[&str]| desk.clear(&server, named_rows(users)).arg("--resume").run();
    resume(&["a", "bad", "outside"]).assert_status(3); // no report yet: a first run
    let before = desk.read("out.csv");

    let again = resume(&["a", "bad", "outside"]);
    again
        .assert_status(3)
        .summary()
        .assert_counts(&[("rows", 3), ("already_done", 3), ("requests", 0)]);
    assert_eq!(desk.read("out.csv"), before);

    let more = resume(&["a", "bad", "outside", "outside2", "b"]);
    more.assert_status(3)
        .summary()
        .assert_counts(&[("rows", 5), ("already_done", 3), ("requests", 2), ("outside", 1)]);
    assert_eq!(
        (
            desk.report_by_user().len(),
            read_report(&desk.path("out.outside.csv")).len()
        ),
        (5, 2)
    );

    let changed = resume(&["a", "changed", "outside", "outside2", "b"]);
    changed.assert_status(4).assert_says(&["line 3"]);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_repeated_row_is_sent_once_with_dedupe_and_each_time_without() {
    let csv = "user,conv,type\nu,c,0\nu,c,2\nu,c,peer\nu,d,0\nu,c,0\n";
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, csv)
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 5), ("skipped", 0)]);

    let (desk, server) = (Desk::new(), kind_server());
    let outcome = desk.clear(&server, csv).arg("--dedupe").run();

    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 5), ("ok", 3), ("skipped", 2), ("requests", 3)]);
    let skipped: BTreeSet<_> = desk
        .report()
        .iter()
        .filter(|r| r.outcome == "skipped")
        .map(|r| r.line)
        .collect();
    assert_eq!((skipped, server.requests().len()), ([4, 6].into(), 3));
}

#[test]
fn a_limit_sends_the_first_rows_that_are_not_done_and_the_next_run_continues() {
    let (desk, server) = (Desk::new(), kind_server());
    let rows = crate::support::rows(10).replace("u2,cu2,0", "u2,,0");
    let limited = desk.clear(&server, &rows).flag("--limit", "3").run();
    limited.assert_status(3).assert_tells(&["--limit", "--resume"]);
    limited
        .summary()
        .assert_counts(&[("rows", 4), ("ok", 3), ("invalid", 1), ("not_run", 0)]);
    let call = || desk.clear(&server, &rows).arg("--resume").arg("--ignore-invalid");
    let next = call().flag("--limit", "2").run();
    next.assert_status(0);
    next.summary()
        .assert_counts(&[("rows", 6), ("ok", 2), ("already_done", 4), ("not_run", 0)]);
    call()
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 4), ("already_done", 6)]);
    assert_eq!((desk.report().len(), server.requests().len()), (10, 9));

    let streamed = desk
        .clear_with(&server.url(), "-")
        .flag("--report", "streamed.csv")
        .flag("--limit", "2")
        .arg("--json");
    let summary = streamed.open_stdin(crate::support::rows(5)).run();
    summary
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 2), ("ok", 2)]);
}

#[test]
fn a_limit_on_a_stream_still_compares_what_is_done() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(10)).run().assert_status(0);
    let report = desk.read("out.csv");
    // Only the last rows are done, in whatever order they ended.
    let is_kept = |record: &&str| ["line,", "10,", "11,"].iter().any(|begin| record.starts_with(begin));
    let kept: Vec<&str> = report.lines().filter(is_kept).collect();
    let sent = server.requests().len();
    for (stream, status) in [(rows(10).replace("u9,", "x9,"), 4), (rows(10), 0)] {
        desk.write("out.csv", kept.join("\n") + "\n");
        let call = desk
            .clear_with(&server.url(), "-")
            .flag("--report", "out.csv")
            .arg("--resume")
            .arg("--json");
        let outcome = call.flag("--limit", "2").stdin(stream).run();
        outcome.assert_status(status);
        if status == 0 {
            outcome
                .summary()
                .assert_counts(&[("ok", 2), ("already_done", 2), ("rows", 4)]);
        }
    }
    assert_eq!(server.requests().len(), sent + 2);
}

#[test]
fn the_printed_commands_send_failed_and_outside_rows_again() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "bad" => Answer::Code(424_242, "not known"),
        "far" => Answer::Code(660_800_002, "no such conversation"),
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    desk.write("my.retry.csv", "somebody's");
    let mut args = vec!["clear", "rows.csv", "--report", "my.csv", "--rate", "50"];
    let url = server.url();
    args.extend(["--endpoint", &url]);
    desk.write("rows.csv", named_rows(["a", "bad", "b", "far"]));
    let outcome = with_app(desk.zim_batch(args)).run();
    outcome.assert_status(3);
    let commands: Vec<&str> = outcome
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("    zim-batch "))
        .collect();
    let [report, again @ ..] = &commands[..] else {
        panic!("{}", outcome.stdout);
    };
    let shown = desk.zim_batch(report.split(' ')).run();
    assert!(shown.assert_status(0).stdout.contains("424242"), "{shown:?}");
    assert_eq!(again.len(), 2, "{}", outcome.stdout);
    for (command, user) in again.iter().zip(["bad", "far"]) {
        let before = server.requests().len();
        with_app(desk.zim_batch(command.split(' '))).run();
        let mut sent: Vec<String> = server.requests()[before..]
            .iter()
            .map(|request| request.user())
            .collect();
        // An unknown code is retried.
        sent.dedup();
        assert_eq!(sent, [user], "{command}");
    }
    assert_eq!(desk.read("my.retry.csv"), "somebody's");
    let is_said = |line: &str| line.starts_with("failed ") && line.contains("424242");
    assert!(outcome.stdout.lines().any(is_said), "why: {}", outcome.stdout);
}

#[test]
fn invalid_rows_can_be_left_out_of_the_exit_status() {
    let (server, desk) = (kind_server(), Desk::new());
    let csv = "user,conv,type\nu1,c1,0\ntotal,,\n";
    desk.clear(&server, csv).run().assert_status(3);
    let call = desk.clear_with(&server.url(), "rows.csv").flag("--report", "out.csv");
    let outcome = call.arg("--overwrite").arg("--ignore-invalid").arg("-q").run();
    outcome.assert_status(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let resumed = desk.clear(&server, csv).arg("--resume").arg("--ignore-invalid");
    resumed
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("already_done", 2), ("invalid", 0)]);
    let check = desk.zim_batch(["check", "rows.csv", "--ignore-invalid"]);
    check.run().assert_status(0);
}
