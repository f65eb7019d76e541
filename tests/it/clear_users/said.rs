//! What a run says at its end, and its report afterwards: the same.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::clear_users_shown;
use crate::support::world::{Conv, FIRST, World, page};
use crate::support::{Answer, Desk, Outcome, Server, read_list};

/// What to do next, by a report: each text, with its command.
fn next_steps(desk: &Desk, args: &[&str]) -> Vec<[String; 2]> {
    let found = report_json(desk, args);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = found["next"].as_array().expect("there are steps").iter();
    steps
        .map(|step| [text(&step["what"]), text(&step["command"])])
        .collect()
}

fn report_json(desk: &Desk, args: &[&str]) -> Value {
    let outcome = desk.zim_batch(["report", "--json"].iter().chain(args)).run();
    serde_json::from_str(&outcome.assert_status(0).stdout).expect("one JSON object")
}

/// A run whose summary is for people.
fn shown(desk: &Desk, server: &Server, users: &str, flags: &[&str]) -> Outcome {
    let call = clear_users_shown(desk, server, users);
    flags.iter().fold(call, |call, flag| call.arg(flag)).run()
}

/// All of these lines are in the text, one after the other.
#[track_caller]
fn assert_lines(text: &str, lines: &[&str]) {
    let mut rest = text;
    for line in lines {
        let found = rest.find(line);
        let at = found.unwrap_or_else(|| panic!("'{line}' is not there, or too early, in {text}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn an_invalid_user_is_to_be_corrected_in_the_file_of_the_users() {
    let world = World::of([("ann", 1)]);
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = shown(&desk, &server, "user\nann\n\"\"\n", &["--limit", "9"]);
    let what = "Correct the 1 invalid user in users.csv, then resume";
    assert_lines(&outcome.assert_status(3).stdout, &["What to do next", what, "--resume"]);
    assert!(!outcome.stdout.contains("--limit"), "{}", outcome.stdout);
    for args in [
        &["out.csv"][..],
        &["out.list.csv"],
        &["out.list.csv", "--rows", "users.csv"],
    ] {
        let steps = next_steps(&desk, args);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps[0][0], what);
        assert!(
            steps[0][1].contains("clear --users users.csv")
                && steps[0][1].contains("--report out.csv --rate 500 --resume"),
            "{steps:?}"
        );
    }
    let outcome = shown(&desk, &server, "user\nann\n\"\"\n", &["--ignore-invalid", "--resume"]);
    assert!(
        !outcome.assert_status(0).stdout.contains("invalid user in"),
        "{}",
        outcome.stdout
    );
}

/// Nobody has written it: ZIM has sent it.
#[test]
fn an_invalid_row_that_was_listed_is_not_to_be_corrected() {
    let conv = Conv {
        id: "c".repeat(40),
        kind: 0,
        at: FIRST,
    };
    let world = World::of([("ben", 1)]).with("ann", vec![conv]);
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = shown(&desk, &server, "user\nann\nben\n", &[]);
    let what = "Nothing to correct: 1 invalid row, listed by ZIM with an ID that can't be sent (conv";
    assert_lines(&outcome.assert_status(3).stdout, &["What to do next", what]);
    assert!(!outcome.stdout.contains("then resume"), "{}", outcome.stdout);
    let steps = next_steps(&desk, &["out.csv"]);
    assert!(
        steps.len() == 1 && steps[0][0].starts_with(what) && steps[0][1].is_empty(),
        "{steps:?}"
    );
}

#[test]
fn the_list_report_names_the_command_of_the_run_that_wrote_it_and_never_another_one() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "ann" if request.action() == "QueryConversationList" => Answer::Json(page("0", &[json!({"ConvId": "c"})], 1)),
        "ann" => Answer::Code(0, "success"),
        _ => Answer::Code(424_242, "later, perhaps"),
    });
    let desk = Desk::new();
    shown(&desk, &server, "user\nann\nben\n", &[]).assert_status(3);
    for report in ["out.csv", "out.list.csv"] {
        let steps = next_steps(&desk, &[report]);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!(steps[0][0], "List the 1 failed user again, and clear what is listed");
        let command = "zim-batch clear --users out.list.csv --only failed --report out.users.csv --endpoint";
        assert!(
            steps[0][1].starts_with(command) && steps[0][1].ends_with(" --rate 500"),
            "{steps:?}"
        );
    }
    // Of a run without a command in its log, as an earlier version has written it.
    desk.write("users.csv", "user\nann\nben\ncyd\n");
    let begin = r#"{"event":"begin","at":"2026-11-25T03:00:00.000Z","run":"r","lists":true}"#;
    desk.write("out.runs.jsonl", format!("{begin}\n"));
    let steps = next_steps(&desk, &["out.list.csv", "--rows", "users.csv"]);
    assert_eq!(
        steps[0],
        [
            "Continue: 1 user to list",
            "zim-batch clear --users users.csv --report out.csv --resume"
        ]
    );
    // The report of a list, whose log is lost.
    std::fs::rename(desk.path("out.list.csv"), desk.path("bare.list.csv")).unwrap();
    let steps = next_steps(&desk, &["bare.list.csv", "--rows", "users.csv"]);
    let command = "zim-batch list users.csv --rows bare.csv --report bare.list.csv --resume";
    assert_eq!(steps[0][1], command);
}

#[test]
fn a_run_with_a_limit_says_what_it_leaves_and_how_to_do_that_without_the_limit() {
    let world = World::of((0..40).map(|number| (format!("user{number}"), 100)));
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = shown(&desk, &server, &world.users_csv(), &["--limit", "10"]);
    outcome.assert_status(0);
    assert!(!outcome.stdout.contains("--limit"), "{}", outcome.stdout);
    let found = report_json(&desk, &["out.csv"]);
    let (listed, users) = (
        found["listed"]["conversations"].as_u64().unwrap() - 10,
        found["listed"]["not_run"].as_u64().unwrap(),
    );
    assert!(listed > 0 && users > 0, "{found}");
    let grouped = |number: u64| match number {
        0..1000 => number.to_string(),
        more => format!("{},{:03}", more / 1000, more % 1000),
    };
    let what = format!("Continue: {users} users to list, {} rows to clear", grouped(listed));
    assert_lines(&outcome.stdout, &[&what, "--resume"]);
    let left = format!(
        "{} of the rows listed so far, and {users} of the users",
        grouped(listed)
    );
    outcome.assert_says(&["rows sent: 10, the maximum set by --limit", &left]);
    assert_eq!(next_steps(&desk, &["out.csv"])[0][0], what);
}

/// Requests, retries, codes, times and latencies are those of both halves; rows are rows.
#[test]
fn the_report_has_the_figures_of_the_summary() {
    let world = World::of([("ann", 30), ("ben", 0), ("cyd", 12)]);
    let (served, has_failed) = (world.clone(), AtomicBool::new(false));
    let slow_list = Server::start(move |request, _| match request.action().as_str() {
        "QueryConversationList" if request.user() == "ann" => {
            std::thread::sleep(std::time::Duration::from_millis(200));
            served.answer(request)
        }
        "ClearConversationUnread" if !has_failed.swap(true, Ordering::Relaxed) => Answer::Code(660_000_001, "an error"),
        _ => served.answer(request),
    });
    let desk = Desk::new();
    let users = "user\nann\nben\ncyd\ngone\n";
    let outcome = clear_users_shown(&desk, &slow_list, users).arg("--json").run();
    let summary = outcome.assert_status(3).summary().0;
    let found = report_json(&desk, &["out.csv", "--html", "out.html"]);
    let figures = |of: &Value| json!([of["rows"], of["ok"], of["requests"], of["retries"]]);
    assert_eq!(figures(&found), figures(&summary));
    assert_eq!(summary["requests"], 4 + 42 + 1, "{summary}");
    assert_eq!(found["codes"], json!({"0": 45, "660500002": 1}), "by the last answer");
    assert!(found["latency_ms"]["max"].as_f64().unwrap() >= 200.0, "{found}");
    let first = read_list(&desk.path("out.list.csv"))
        .into_iter()
        .map(|record| record.finished_at)
        .min();
    assert!(found["first"].as_str() <= first.as_deref(), "{found}");
    let shown = desk.zim_batch(["report", "out.csv"]).run().stdout;
    assert_lines(
        &shown,
        &["requests                 47  1 of them retries", "rows, users  meaning"],
    );
    let page = desk.read("out.html");
    assert_lines(
        &page,
        &["<small>requests</small><b>47</b>", "1 of them retries", ">Rows, users<"],
    );

    // Nothing to clear: listing alone.
    let (desk, server) = (
        Desk::new(),
        World::of((0..20).map(|user| (format!("u{user}"), 0))).serve(),
    );
    let users: String = (0..20).map(|user| format!("u{user}\n")).collect();
    let outcome = clear_users_shown(&desk, &server, format!("user\n{users}")).run();
    outcome.assert_status(0);
    let found = report_json(&desk, &["out.csv", "--html", "out.html"]);
    assert_eq!(
        json!([found["rows"], found["requests"], found["codes"]]),
        json!([0, 20, {"0": 20}])
    );
    assert!(found["first"].is_string() && found["last"].is_string(), "{found}");
}

/// As the bar and SIGUSR1 do.
#[test]
fn the_report_of_a_run_under_way_estimates_when_it_ends_and_leaves_its_work_to_it() {
    let world = World::of((0..40).map(|number| (format!("user{number}"), 100)));
    let (desk, server) = (Desk::new(), world.serve());
    let call = clear_users_shown(&desk, &server, world.users_csv() + "\"\"\n");
    let mut running = call
        .without("--rate")
        .flag("--rate", "50")
        .flag("--html", "out.html")
        .spawn();
    running.wait_until("some rows are done", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() > 40
    });
    let found = report_json(&desk, &["out.csv"]);
    assert_eq!(
        json!([found["running"]["until"], found["running"]["rows_left"]]),
        json!([null, null])
    );
    let about: jiff::Timestamp = found["running"]["until_about"].as_str().unwrap().parse().unwrap();
    // About 4 000 requests at 50 per second.
    let left = about.duration_since(jiff::Timestamp::now()).as_secs_f64();
    assert!((40.0..400.0).contains(&left), "{left} s");
    let steps = found["next"].to_string();
    assert!(!steps.contains("Continue"), "{steps}");
    let shown = desk.zim_batch(["report", "out.csv"]).run().stdout;
    assert_lines(
        &shown,
        &[
            "left of those listed so far",
            "until about",
            "if the users left have as many rows",
        ],
    );
    desk.zim_batch(["report", "out.csv", "--html", "now.html"])
        .run()
        .assert_status(0);
    assert_lines(&desk.read("now.html"), &["left of those listed so far, until about"]);
    running.signal("TERM");
    running.wait();
    let steps = next_steps(&desk, &["out.csv"]);
    assert!(
        steps[0][0].starts_with("Continue: ") && steps[0][0].contains("users to list"),
        "{steps:?}"
    );
}

#[test]
fn users_are_called_users_and_the_file_that_was_named_is_named() {
    let rejecting = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let users: String = (0..30).map(|user| format!("u{user}\n")).collect();
    let stopped = |flags: &[&str]| {
        let desk = Desk::new();
        let call = clear_users_shown(&desk, &rejecting, format!("user\n{users}"));
        let call = flags
            .iter()
            .fold(call.flag("--max-in-flight", "1"), |call, flag| call.arg(flag));
        let outcome = call.flag("--metrics", "run.prom").run();
        outcome.assert_status(5);
        let metrics = desk.read("run.prom");
        let has = |outcome: &str| {
            metrics
                .lines()
                .any(|line| line.contains("users_total{") && line.contains(outcome))
        };
        assert!(has("\"failed\"") && has("\"ok\"") && !has("\"outside\""), "{metrics}");
        outcome
    };
    stopped(&["--max-failures", "2"]).assert_says(&["stopped: 2 users have failed (--max-failures)"]);
    stopped(&[]).assert_says(&[
        "the first 20 users were all rejected with the same error",
        "check the column of the users and the app",
    ]);

    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    let again = || shown(&desk, &server, "user\nann\n", &[]);
    again().assert_status(0);
    let outcome = again();
    outcome
        .assert_status(2)
        .assert_says(&["out.csv: ", "--resume", "--overwrite", "--report FILE"]);
    assert!(!outcome.stderr.contains("rows"), "{}", outcome.stderr);
    let call = clear_users_shown(&desk, &server, "user\nann\n").without("--report");
    let outcome = call.flag("--report", "nowhere/o.csv").run();
    outcome.assert_status(74).assert_says(&["nowhere/o.csv: "]);
}

#[test]
fn users_who_do_not_exist_are_to_be_registered_and_listed_again() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    let outcome = shown(&desk, &server, "user\nann\ngone\nlost\n", &[]);
    let what = "Register these users, then list them again; or remove them from users.csv (lines 3, 4): 2 failed users with code";
    let command = "clear --users out.list.csv --only failed --report out.users.csv";
    assert_lines(&outcome.assert_status(3).stdout, &["What to do next", what, command]);
    let steps = next_steps(&desk, &["out.csv"]);
    assert!(
        steps.len() == 1 && steps[0][0].starts_with(what) && steps[0][1].contains(command),
        "{steps:?}"
    );
    let chinese = desk.zim_batch(["report", "out.csv"]).env("LANG", "zh_CN.UTF-8").run();
    let what = "注册这些用户后重新查询；或从 users.csv 中删除（第 3、4 行）：2 个用户失败";
    assert_lines(&chinese.stdout, &["What to do next", what, command]);

    // The list half, by name and reason.
    let found = report_json(&desk, &["out.csv"]);
    let listed = &found["listed"];
    assert_eq!(listed["reasons"][0]["code"], 660_500_002, "{listed}");
    assert_eq!(listed["reasons"][0]["lines"], json!([3, 4]), "{listed}");
    let users: Vec<_> = listed["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["user"].clone())
        .collect();
    assert_eq!(json!([users, listed["failed"]]), json!([["gone", "lost"], 2]));

    // Another try is read together with the report.
    let again = [
        "clear",
        "--users",
        "out.list.csv",
        "--only",
        "failed",
        "--report",
        "out.users.csv",
    ];
    let again = crate::support::list::with_app(desk.zim_batch(again).flag("--endpoint", &server.url())).run();
    let what = ["See what is left after both", "zim-batch report out.csv out.users.csv"];
    assert_lines(&again.assert_status(3).stdout, &what);
    assert!(!again.stdout.contains("remove them from"), "{}", again.stdout);
}

#[test]
fn the_table_of_a_run_that_was_stopped_ends_with_the_command_that_resumes_it() {
    let world = World::of((0..40).map(|number| (format!("user{number}"), 100)));
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = shown(&desk, &server, &world.users_csv(), &["--max-duration", "1s"]);
    let lines: Vec<&str> = outcome.assert_status(7).stdout.trim_end().lines().collect();
    assert_eq!(lines[lines.len() - 2], "  Resume", "{}", outcome.stdout);
    assert!(
        lines[lines.len() - 1].ends_with("--max-duration 1s --resume"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn users_of_ones_own_in_a_simulation_are_told_where_conversations_are() {
    let desk = Desk::new();
    desk.write("users.csv", "user\nann\nben\n");
    let call = |flag: &str| {
        let call = desk.zim_batch([
            "clear",
            "--users",
            "users.csv",
            "--report",
            "out.csv",
            "--simulate",
            "--overwrite",
        ]);
        call.arg(flag).run()
    };
    let said = "none of these users has conversations in the simulator's sample; try examples/users.csv";
    let loud = call("-v");
    loud.assert_status(0)
        .assert_says(&[said, "zim-batch simulate --conversations FILE"]);
    assert!(!call("--quiet").stderr.contains(said));
}

#[test]
fn a_resumed_run_whose_users_have_no_conversations_says_that_nothing_is_left_to_do() {
    let world = World::of([("ann", 0), ("ben", 0)]);
    let (desk, server) = (Desk::new(), world.serve());
    let resume = |users: &str| clear_users_shown(&desk, &server, users).arg("--resume").run();

    let first = resume(&world.users_csv());
    assert!(!first.assert_status(0).stderr.contains("nothing is left"), "{first:?}");
    resume(&world.users_csv())
        .assert_status(0)
        .assert_says(&["nothing is left to do: all 2 users have a record"]);

    // Nothing was done before this run, and nothing in it.
    let (desk, server) = (Desk::new(), world.serve());
    let invalid = clear_users_shown(&desk, &server, "user\n\"\"\n").arg("--resume").run();
    assert!(
        !invalid.assert_status(3).stderr.contains("nothing is left"),
        "{invalid:?}"
    );
}
