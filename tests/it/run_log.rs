//! The log of runs: what each run writes beside its report.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::support::{APP_ID, Answer, Desk, SECRET, Server, kind_server, rows};

/// The events of a log.
fn events(desk: &Desk, name: &str) -> Vec<Value> {
    let lines = desk.read(name);
    assert!(lines.ends_with('\n'), "{lines}");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

/// Panics unless the object has all of these members.
#[track_caller]
fn assert_has(object: &Value, members: &[&str]) {
    for member in members {
        assert!(object.get(member).is_some(), "{member} is missing: {object}");
    }
}

const BEGIN: [&str; 14] = [
    "event",
    "at",
    "run",
    "process",
    "host",
    "version",
    "command",
    "app_id",
    "endpoint",
    "simulated",
    "input",
    "total",
    "already_done",
    "selected",
];

#[test]
fn each_run_of_a_report_is_logged_at_its_begin_and_its_end() {
    let (desk, server) = (Desk::new(), kind_server());
    let stopped = desk.clear(&server, rows(300)).flag("--max-duration", "300ms").run();
    let sent = stopped.assert_status(7).summary().count("ok");
    let finished = desk.clear(&server, rows(300)).arg("--resume").run();
    finished.assert_status(0);

    let events = events(&desk, "out.runs.jsonl");
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["begin", "end", "begin", "end"]);
    for (begin, end, done) in [(&events[0], &events[1], 0), (&events[2], &events[3], sent)] {
        assert_has(begin, &BEGIN);
        assert_has(end, &["at", "run", "exit", "stopped", "summary"]);
        assert_eq!(begin["run"], end["run"]);
        assert_eq!((&begin["total"], &begin["already_done"]), (&300.into(), &done.into()));
        assert_eq!(
            (&begin["app_id"], &begin["input"]),
            (&APP_ID.into(), &"rows.csv".into())
        );
        assert_eq!((&begin["simulated"], &begin["selected"]), (&false.into(), &Value::Null));
        assert!(begin["at"].as_str() < end["at"].as_str(), "{begin} {end}");
        assert!(
            begin["endpoint"].as_str().unwrap().starts_with(&server.url()),
            "{begin}"
        );
        let command = begin["command"].as_str().unwrap();
        assert!(command.contains("clear rows.csv --endpoint"), "{command}");
    }
    assert_ne!(events[0]["run"], events[2]["run"]);
    assert_eq!((&events[1]["exit"], &events[3]["exit"]), (&7.into(), &0.into()));
    assert!(
        events[1]["stopped"].as_str().unwrap().contains("--max-duration"),
        "{}",
        events[1]
    );
    assert_eq!(events[3]["stopped"], Value::Null);
    assert_eq!(events[1]["summary"]["not_run"], 300 - sent);
    let mode = fs::metadata(desk.path("out.runs.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!desk.read("out.runs.jsonl").contains(SECRET));
}

#[test]
fn overwriting_a_report_begins_a_new_log_and_resuming_continues_it() {
    let (desk, server) = (Desk::new(), kind_server());
    let lines = || desk.read("out.runs.jsonl").lines().count();
    for (how, expected) in [
        (None, 2),
        (Some("--resume"), 4),
        (Some("--overwrite"), 2),
        (Some("--resume"), 4),
    ] {
        let call = desk.clear(&server, rows(2));
        how.into_iter()
            .fold(call, |call, how| call.arg(how))
            .run()
            .assert_status(0);
        assert_eq!(lines(), expected, "{how:?}");
    }
    // What is left of an earlier report's log says nothing of a new report.
    fs::remove_file(desk.path("out.csv")).unwrap();
    desk.clear(&server, rows(2)).arg("--resume").run().assert_status(0);
    assert_eq!(lines(), 2);
}

#[test]
fn what_is_to_be_done_is_what_was_selected_whatever_the_limit_of_one_run() {
    let (desk, server) = (Desk::new(), kind_server());
    let failing = Server::start(|request, _| match request.user().as_str() {
        "u3" | "u5" | "u7" => Answer::Code(660500002, "no"),
        _ => Answer::Code(0, "success"),
    });
    desk.clear(&failing, rows(9)).run().assert_status(3);
    let retry = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "failed")
        .flag("--report", "retry.csv");
    retry.flag("--limit", "1").run().assert_status(0);
    let begin = &events(&desk, "retry.runs.jsonl")[0];
    assert_eq!(
        (&begin["total"], &begin["already_done"]),
        (&3.into(), &0.into()),
        "{begin}"
    );
    assert_eq!(begin["selected"], "--only failed");
    // The rows of a stream are not known before its end.
    let stream = desk
        .clear_with(&server.url(), "-")
        .flag("--report", "stream.csv")
        .stdin(rows(4));
    stream.run().assert_status(0);
    let begin = &events(&desk, "stream.runs.jsonl")[0];
    assert_eq!(
        (&begin["total"], &begin["input"]),
        (&Value::Null, &"-".into()),
        "{begin}"
    );
}

#[test]
fn a_list_and_a_check_that_writes_a_file_are_logged_too() {
    let desk = Desk::new();
    desk.write("users.csv", "user\nalice\nbob\n");
    let list = desk.zim_batch(["list", "users.csv", "--simulate"]).run();
    list.assert_status(0);
    let events_of_list = events(&desk, "users.rows.list.runs.jsonl");
    assert_eq!(
        (&events_of_list[0]["total"], &events_of_list[0]["simulated"]),
        (&2.into(), &true.into())
    );
    assert_eq!((events_of_list.len(), &events_of_list[1]["exit"]), (2, &0.into()));

    let check = desk.zim_batch(["check", "users.csv", "--online", "--simulate"]).run();
    assert!(!desk.has("users.runs.jsonl"), "it wrote nothing else: {check:?}");
    let status = desk
        .zim_batch([
            "check",
            "users.csv",
            "--online",
            "--simulate",
            "--missing",
            "missing.csv",
        ])
        .run()
        .status;
    let events_of_check = events(&desk, "missing.runs.jsonl");
    assert_eq!(
        (events_of_check.len(), &events_of_check[1]["exit"]),
        (2, &status.into())
    );
}

#[test]
fn a_killed_run_has_no_end_and_the_next_one_is_logged_after_it() {
    let desk = Desk::new();
    let server = Server::start(|request, _| match request.user().as_str() {
        "u5" => Answer::Hang(Duration::from_secs(60)),
        _ => Answer::Code(0, "success"),
    });
    let mut run = desk.clear(&server, rows(9)).flag("--max-in-flight", "1").spawn();
    run.wait_until("four records", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() == 5
    });
    run.signal("KILL");
    run.wait();
    let log = desk.read("out.runs.jsonl");
    assert_eq!(log.lines().count(), 1);
    // A line that a power cut has torn is skipped.
    desk.write("out.runs.jsonl", &log[..log.len() - 9]);
    let server = kind_server();
    desk.clear(&server, rows(9)).arg("--resume").run().assert_status(0);
    let log = desk.read("out.runs.jsonl");
    let whole: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(
        (log.lines().count(), whole.len(), &whole[0]["already_done"]),
        (3, 2, &4.into())
    );
}

#[test]
fn a_log_that_can_t_be_written_is_a_warning_and_another_file_in_its_place_is_left_alone() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("out.runs.jsonl", "my notes\n");
    let outcome = desk.clear(&server, rows(3)).run();
    outcome
        .assert_status(0)
        .assert_says(&["out.runs.jsonl", "left untouched", "the run continues"]);
    assert_eq!(desk.read("out.runs.jsonl"), "my notes\n");
    fs::remove_file(desk.path("out.runs.jsonl")).unwrap();
    fs::create_dir(desk.path("out.runs.jsonl")).unwrap();
    let outcome = desk.clear(&server, rows(3)).arg("--resume").run();
    outcome
        .assert_status(0)
        .assert_says(&["out.runs.jsonl", "the run continues"]);
}

#[test]
fn the_log_of_runs_is_used_for_nothing_else() {
    let (desk, server) = (Desk::new(), kind_server());
    for flag in ["--outside", "--html", "--metrics", "--log-file"] {
        let outcome = desk.clear(&server, rows(3)).flag(flag, "out.runs.jsonl").run();
        outcome.assert_status(2).assert_says(&["out.runs.jsonl"]);
    }
    desk.clear(&server, rows(3)).run().assert_status(0);
    for command in ["clear", "list", "check", "report"] {
        let status = desk.zim_batch([command, "out.runs.jsonl"]).run().status;
        assert!(status == 4 || status == 2, "{command}: {status}");
    }
    assert_eq!(desk.read("out.runs.jsonl").lines().count(), 2);
}
