//! What is left to do about rows that failed: another try only for those that it may mend.

use serde_json::Value;

use crate::support::list::list_with;
use crate::support::world::World;
use crate::support::{Answer, Desk, Server, as_the_user_says, named_rows, rows};

/// What to do next, by the report: each text, with its command.
fn next_steps(desk: &Desk, report: &str) -> Vec<(String, String)> {
    let outcome = desk.zim_batch(["report", report, "--json"]).run();
    let found: Value = serde_json::from_str(outcome.assert_status(0).stdout.trim()).expect("one JSON object");
    let steps = found["next"].as_array().expect("there are steps");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    steps
        .iter()
        .map(|step| (text(&step["what"]), text(&step["command"])))
        .collect()
}

fn rejecting() -> Server {
    Server::start(|_, _| Answer::Code(660_500_002, "no such user"))
}

/// Twelve rows that no other try can change.
const HOPELESS: usize = 12;

#[test]
fn rows_that_can_t_succeed_are_not_to_be_sent_again() {
    let (desk, server) = (Desk::new(), rejecting());
    let call = desk.clear_with(&server.url(), "rows.csv").flag("--report", "out.csv");
    desk.write("rows.csv", rows(HOPELESS));
    let shown = call.run().assert_status(3).stdout.clone();
    assert!(
        !shown.contains("--only failed") && shown.contains("Register the user or drop the row"),
        "{shown}"
    );
    let steps = next_steps(&desk, "out.csv");
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(
        steps[0].0.starts_with("Register the user") && steps[0].1.is_empty(),
        "{steps:?}"
    );
}

#[test]
fn rows_that_another_try_may_mend_are_told_from_those_that_it_can_t() {
    let desk = Desk::new();
    let server = Server::start(as_the_user_says);
    let users = [
        "a",
        "code660500002",
        "code660600001",
        "http400",
        "b",
        "code424242",
        "c",
        "d",
    ];
    desk.clear(&server, named_rows(users)).run().assert_status(3);
    let steps = next_steps(&desk, "out.csv");
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(steps[0].0.contains("4 failed rows again; 2 of them"), "{steps:?}");
    assert!(steps[0].1.contains("--only failed"), "{steps:?}");
    assert!(steps[1..].iter().all(|(_, command)| command.is_empty()), "{steps:?}");
}

#[test]
fn a_finished_report_that_is_resumed_says_that_nothing_is_left_and_why_it_is_still_3() {
    let (desk, server) = (Desk::new(), rejecting());
    let csv = rows(HOPELESS) + "x,,0\n";
    desk.clear(&server, &csv).run().assert_status(3);
    for quiet in [false, true] {
        let call = desk.clear(&server, &csv).arg("--resume");
        let again = if quiet { call.arg("-q") } else { call }.run();
        again.assert_status(3).assert_says(&[
            "nothing is left to do: all 13 rows have a record",
            "12 rows failed and can't succeed unchanged",
            "1 row invalid",
        ]);
    }
    assert_eq!(server.count(), HOPELESS);
    let shown = desk
        .clear_with(&server.url(), "rows.csv")
        .flag("--report", "out.csv")
        .arg("--resume")
        .run()
        .stdout;
    assert!(
        shown.contains("660500002") && !shown.contains("--only failed"),
        "why: {shown}"
    );

    // With nothing wrong, a nightly job is silent.
    let (desk, server) = (Desk::new(), crate::support::kind_server());
    desk.clear(&server, rows(2)).run().assert_status(0);
    let again = desk.clear(&server, rows(2)).arg("--resume").run();
    again
        .assert_status(0)
        .assert_says(&["nothing is left to do: all 2 rows have a record"]);
    let again = desk.clear(&server, rows(2)).arg("--resume").arg("-q").run();
    assert_eq!(again.assert_status(0).stderr, "");
}

#[test]
fn lines_are_said_with_the_file_that_they_are_of() {
    let (desk, server) = (Desk::new(), rejecting());
    let call = |input: &str, report: &str| desk.clear_with(&server.url(), input).flag("--report", report);
    desk.write("rows.csv", rows(2));
    let first = call("rows.csv", "out.csv").run().stdout;
    assert!(first.contains("on which lines of rows.csv"), "{first}");
    let retry = call("out.csv", "retry.csv").flag("--only", "failed").run().stdout;
    assert!(retry.contains("on which lines of out.csv"), "{retry}");
    let shown = |report: &str| desk.zim_batch(["report", report]).run().stdout;
    assert!(
        shown("retry.csv").contains("on which lines of out.csv"),
        "{}",
        shown("retry.csv")
    );
    std::fs::remove_file(desk.path("retry.runs.jsonl")).unwrap();
    assert!(
        shown("retry.csv").contains("on which lines of the input"),
        "{}",
        shown("retry.csv")
    );
}

#[test]
fn users_that_could_not_be_listed_are_told_likewise() {
    let desk = Desk::new();
    let world = World::of([("ann", 2)]);
    let server = world.serve();
    desk.write("users.csv", "user\nann\ngone\n");
    let shown = list_with(&desk, &server.url(), "users.csv")
        .flag("--rows", "rows.csv")
        .run();
    let shown = &shown.assert_status(3).stdout;
    assert!(shown.contains("1 failed user with code"), "{shown}");
    let steps = next_steps(&desk, "rows.list.csv");
    assert!(
        steps.len() == 1 && steps[0].0.starts_with("Register this user, then list the user again"),
        "{steps:?}"
    );
    let again = "zim-batch list rows.list.csv --only failed --rows rows.retry.csv";
    assert!(steps[0].1.starts_with(again), "{steps:?}");

    let failing = Server::start(|_, _| crate::support::html(500));
    let failed = list_with(&desk, &failing.url(), "users.csv")
        .flag("--rows", "bad.csv")
        .flag("--max-attempts", "1");
    failed.flag("--max-in-flight", "1").run();
    let steps = next_steps(&desk, "bad.list.csv");
    assert!(
        steps.iter().any(
            |(_, command)| command.contains("list bad.list.csv --only failed --rows bad.retry.csv")
                || command.contains("--resume")
        ),
        "{steps:?}"
    );
}
