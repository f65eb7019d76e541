//! Several reports, read as one.

use serde_json::{Value, json};

use crate::support::list::list_with;
use crate::support::world::World;
use crate::support::{Answer, Desk, Server, html};

const HEADER: &str = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n";

/// A record of conversation `conv`, made in this second.
fn record(line: u64, conv: &str, outcome: &str, second: u64) -> String {
    let code = if outcome == "ok" { "0" } else { "660600001" };
    format!("{line},ann,{conv},2,{outcome},{code},200,said,1,2,31,2026-11-25T03:00:{second:02}.000Z\n")
}

fn report(records: &[(u64, &str, &str, u64)]) -> String {
    let records = records
        .iter()
        .map(|&(line, conv, outcome, second)| record(line, conv, outcome, second));
    HEADER.to_owned() + &records.collect::<String>()
}

fn read(desk: &Desk, reports: &[&str]) -> Value {
    let outcome = desk.zim_batch(["report", "--json"].iter().chain(reports)).run();
    serde_json::from_str(outcome.assert_status(0).stdout.trim()).expect("one JSON object")
}

fn members(found: &Value, names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| found[*name].clone()).collect()
}

/// Fails the rows of these users the first time.
fn failing_once(users: &'static [&'static str]) -> Server {
    Server::start(move |request, nth| match users.contains(&request.user().as_str()) {
        true if nth == 1 => Answer::Code(660_600_001, "no such group"),
        _ => Answer::Code(0, "success"),
    })
}

#[test]
fn a_report_and_its_retry_say_what_is_left_and_how_to_go_on() {
    let (desk, server) = (Desk::new(), failing_once(&["bad"]));
    let rows = "user,conv,type\nann,a,0\nbad,b,0\nworse,c,9\nbob,d,0\neve,e,0\n";
    desk.write("rows.csv", rows);
    let first = desk
        .clear_with(&server.url(), "rows.csv")
        .flag("--report", "out.csv")
        .flag("--limit", "3");
    first.run().assert_status(3);
    let retry = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "failed")
        .flag("--report", "out.retry.csv");
    retry.run().assert_status(0);

    let found = read(&desk, &["out.csv", "out.retry.csv"]);
    assert_eq!(
        members(
            &found,
            &["rows", "ok", "failed", "invalid", "to_do", "left", "requests"]
        ),
        [4, 3, 0, 1, 5, 1, 4].map(Value::from)
    );
    assert_eq!(found["codes"], json!({"0": 3}));
    let reports: Vec<Vec<Value>> = found["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|report| members(report, &["report", "rows", "counted", "left"]))
        .collect();
    assert_eq!(
        json!(reports),
        json!([["out.csv", 4, 3, 1], ["out.retry.csv", 1, 1, 0]])
    );
    assert_eq!(found["runs"][1]["report"], "out.retry.csv");
    assert!(
        found["next"][0]["what"].as_str().unwrap().contains("(out.csv)"),
        "{found}"
    );

    let shown = desk
        .zim_batch(["report", "out.csv", "out.retry.csv", "--html", "page.html"])
        .run();
    let shown = shown.assert_status(0).stdout.clone();
    for said in [
        "latest record",
        "1 of them has its record in another report",
        "out.retry.csv; app",
        "not run",
    ] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(!shown.contains("on which lines"), "{shown}");
    assert!(desk.read("page.html").contains("2 reports are read as one"));
}

#[test]
fn a_retry_that_was_cut_short_leaves_no_row_without_a_record() {
    let (desk, server) = (Desk::new(), failing_once(&["bad", "worse"]));
    desk.clear(&server, "user,conv,type\nann,a,0\nbad,b,0\nworse,c,0\n")
        .run()
        .assert_status(3);
    let retry = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "failed")
        .flag("--report", "again.csv");
    retry.flag("--limit", "1").run().assert_status(0);
    let found = read(&desk, &["out.csv", "again.csv"]);
    assert_eq!(
        members(&found, &["rows", "ok", "failed", "left"]),
        [3, 2, 1, 0].map(Value::from)
    );
}

#[test]
fn the_latest_record_of_a_conversation_counts_in_any_order_and_a_copy_of_a_record_is_no_other_one() {
    let desk = Desk::new();
    desk.write(
        "a.csv",
        report(&[
            (2, "x", "failed", 1),
            (3, "y", "ok", 2),
            (4, "x", "skipped", 50),
            (5, "z", "outside", 3),
        ]),
    );
    desk.write(
        "b.csv",
        report(&[(2, "x", "ok", 20), (3, "y", "failed", 1), (4, "w", "failed", 5)]),
    );
    desk.write("a.outside.csv", report(&[(5, "z", "outside", 3)]));
    for reports in [
        &["a.csv", "b.csv"][..],
        &["b.csv", "a.csv"],
        &["a.csv", "b.csv", "a.csv", "./b.csv"],
        &["a.csv", "a.outside.csv", "b.csv"],
        &["a.outside.csv", "b.csv", "a.csv"],
    ] {
        let found = read(&desk, reports);
        assert_eq!(
            members(
                &found,
                &["rows", "ok", "outside", "failed", "skipped", "requests", "left"]
            ),
            [json!(4), json!(2), json!(1), json!(1), json!(0), json!(14), json!(null)],
            "{reports:?}"
        );
    }
    let copy = ["report", "a.csv", "b.csv", "--only", "failed,ok", "--csv", "copy.csv"];
    desk.zim_batch(copy).run().assert_status(0);
    let expected = record(3, "y", "ok", 2) + &record(2, "x", "ok", 20) + &record(4, "w", "failed", 5);
    assert_eq!(desk.read("copy.csv"), HEADER.to_owned() + &expected);
}

#[test]
fn rows_of_a_part_that_repeat_within_it_count_as_they_do_in_it_alone() {
    let desk = Desk::new();
    desk.write(
        "a.csv",
        report(&[
            (2, "x", "ok", 1),
            (3, "x", "ok", 2),
            (4, "y", "failed", 1),
            (5, "y", "failed", 2),
        ]),
    );
    desk.write("b.csv", report(&[(2, "y", "ok", 9)]));
    let found = read(&desk, &["a.csv", "b.csv"]);
    assert_eq!(members(&found, &["rows", "ok", "failed"]), [3, 3, 0].map(Value::from));
}

#[test]
fn what_has_no_record_is_known_of_each_part_and_of_all_only_if_no_part_can_have_the_rows_of_another() {
    let (desk, server) = (Desk::new(), failing_once(&[]));
    for (part, users) in [("1", ["a", "b", "c"]), ("2", ["d", "e", "f"])] {
        let rows = users.map(|user| format!("{user},x,0\n")).concat();
        desk.write(&format!("part{part}.csv"), format!("user,conv,type\n{rows}"));
        let (rows, report) = (format!("part{part}.csv"), format!("out{part}.csv"));
        let call = desk
            .clear_with(&server.url(), &rows)
            .flag("--report", &report)
            .flag("--limit", "1");
        call.run().assert_status(0);
    }
    let shown = desk.zim_batch(["report", "out1.csv", "out2.csv"]).run().stdout;
    assert!(shown.contains("not known: at most 4,"), "{shown}");
    for part in ["1", "2"] {
        // What is left of the second part may be among the rows of the first one.
        assert_eq!(read(&desk, &["out1.csv", "out2.csv"])["left"], Value::Null);
        let (rows, report) = (format!("part{part}.csv"), format!("out{part}.csv"));
        let call = desk
            .clear_with(&server.url(), &rows)
            .flag("--report", &report)
            .arg("--resume");
        call.run().assert_status(0);
    }
    let found = read(&desk, &["out1.csv", "out2.csv"]);
    assert_eq!(members(&found, &["to_do", "left", "rows"]), [6, 0, 6].map(Value::from));
}

#[test]
fn what_failed_in_all_of_them_is_tried_again_by_the_command_that_is_shown() {
    let (desk, server) = (Desk::new(), Server::start(|_, _| html(400)));
    desk.write("a.csv", report(&[(2, "x", "ok", 1)]));
    for (name, user) in [("one", "ann"), ("two", "bob")] {
        desk.write(&format!("{name}.rows.csv"), format!("user,conv,type\n{user},x,0\n"));
        let (rows, report) = (format!("{name}.rows.csv"), format!("{name}.csv"));
        desk.clear_with(&server.url(), &rows)
            .flag("--report", &report)
            .run()
            .assert_status(3);
    }
    let found = read(&desk, &["one.csv", "two.csv"]);
    let step = &found["next"][0];
    assert!(
        step["what"]
            .as_str()
            .unwrap()
            .starts_with("Send the 2 failed rows again"),
        "{step}"
    );
    assert_eq!(
        step["command"],
        format!(
            "zim-batch report one.csv two.csv --only failed --csv one.failed.csv && \
             zim-batch clear one.failed.csv --only failed --report one.retry.csv --endpoint {}",
            server.url()
        )
    );
    let copy = [
        "report",
        "one.csv",
        "two.csv",
        "--only",
        "failed",
        "--csv",
        "one.failed.csv",
    ];
    desk.zim_batch(copy).run().assert_status(0);
    let healthy = failing_once(&[]);
    let retry = desk.clear_with(&healthy.url(), "one.failed.csv");
    retry
        .flag("--only", "failed")
        .flag("--report", "one.retry.csv")
        .run()
        .assert_status(0);
    let found = read(&desk, &["one.csv", "two.csv", "one.retry.csv"]);
    assert_eq!(members(&found, &["ok", "failed", "left"]), [2, 0, 0].map(Value::from));
}

#[test]
fn list_reports_count_each_user_by_the_latest_record() {
    let desk = Desk::new();
    let server = World::of([("ann", 2), ("bob", 1)]).serve();
    desk.write("users.csv", "user\nann\nbob\n");
    let list = |rows: &str| list_with(&desk, &server.url(), "users.csv").flag("--rows", rows);
    list("one.csv").run().assert_status(0);
    list("two.csv").run().assert_status(0);
    let found = read(&desk, &["one.list.csv", "two.list.csv"]);
    assert_eq!(members(&found, &["rows", "left"]), [2, 0].map(Value::from));
}

#[test]
fn reports_that_can_t_be_one_are_refused_by_name() {
    let desk = Desk::new();
    desk.write("a.csv", report(&[(2, "x", "ok", 1)]));
    desk.write(
        "simulated.csv",
        report(&[(2, "x", "ok", 1)]).replace(",said,", ",simulated: said,"),
    );
    desk.write(
        "rows.list.csv",
        "line,user,outcome,conversations,code,http,message,request_id,attempts,latency_ms,finished_at\n",
    );
    desk.write("torn.csv", report(&[(2, "x", "ok", 1)]) + "3,ann");
    desk.write("notes.csv", "some,notes\n");
    for (args, status, said) in [
        (
            &["a.csv", "rows.list.csv"][..],
            4,
            &["rows.list.csv", "a list report"][..],
        ),
        (&["a.csv", "simulated.csv"], 4, &["simulated.csv", "a simulated run"]),
        (&["a.csv", "notes.csv"], 4, &["notes.csv"]),
        (&["a.csv", "gone.csv"], 4, &["gone.csv"]),
        (&["a.csv", "-"], 2, &["standard input"]),
        (&["a.csv", "torn.csv", "--rows", "notes.csv"], 2, &["--rows"]),
        (&["a.csv", "torn.csv", "--csv", "torn.csv"], 2, &["torn.csv"]),
    ] {
        let outcome = desk.zim_batch(["report"].iter().chain(args)).run();
        outcome.assert_status(status).assert_says(said);
    }
    let shown = desk.zim_batch(["report", "a.csv", "torn.csv"]).run().stdout;
    assert!(shown.contains("its last record is incomplete"), "{shown}");
}
