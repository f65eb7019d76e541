//! What `report` says of the runs, and of what is left, by the log of runs.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::in_table;
use crate::support::{Answer, Desk, LIST_HEADER, REPORT_HEADER, Server, kind_server, rows};

/// Answers all but one user, who hangs.
fn hanging_at(user: &'static str) -> Server {
    Server::start(move |request, _| match request.user() == user {
        true => Answer::Hang(Duration::from_secs(60)),
        false => Answer::Code(0, "success"),
    })
}

fn report(desk: &Desk, args: &[&str]) -> Value {
    let outcome = desk.zim_batch([&["report", "--json"], args].concat()).run();
    outcome.assert_status(0);
    serde_json::from_str(&outcome.stdout).expect("one JSON object")
}

fn table(desk: &Desk, args: &[&str]) -> String {
    let outcome = desk.zim_batch([&["report"], args].concat()).run();
    outcome.assert_status(0);
    outcome.stdout
}

/// Kills a run of 40 rows when 20 have a record.
fn kill_at_half(desk: &Desk) {
    let server = hanging_at("u21");
    let mut run = desk.clear(&server, rows(40)).flag("--max-in-flight", "1").spawn();
    run.wait_until("twenty records", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() == 21
    });
    run.signal("KILL");
    run.wait();
}

#[test]
fn a_run_that_did_not_finish_is_never_called_complete() {
    let desk = Desk::new();
    kill_at_half(&desk);
    let found = report(&desk, &["out.csv", "--html", "out.html"]);
    assert_eq!(
        (&found["rows"], &found["to_do"], &found["left"]),
        (&20.into(), &40.into(), &20.into()),
        "{found}"
    );
    let run = &found["runs"][0];
    assert_eq!(
        (&run["rows"], &run["ended"], &run["exit"]),
        (&20.into(), &Value::Null, &Value::Null),
        "{found}"
    );
    assert!(run["why"].as_str().unwrap().contains("killed"), "{found}");
    for member in ["began", "app_id", "endpoint", "host", "version"] {
        assert!(!run[member].is_null(), "{member}: {found}");
    }
    let command = found["next"][0]["command"].as_str().unwrap();
    assert!(
        command.contains("clear rows.csv") && command.ends_with("--resume"),
        "{command}"
    );
    let shown = table(&desk, &["out.csv"]);
    let numbers = ["rows", "not run"].map(|name| in_table(&shown, name));
    assert_eq!(numbers, [Some("40".to_owned()), Some("20".to_owned())], "{shown}");
    assert!(shown.contains("killed, or the machine stopped"), "{shown}");
    let page = desk.read("out.html");
    assert!(page.contains("Of 40 rows, 20 have no record yet"), "{page}");

    // The command goes on from another directory too.
    fs::create_dir(desk.path("elsewhere")).unwrap();
    let from_elsewhere = desk
        .zim_batch(["report", "../out.csv", "--json"])
        .started_by("cd elsewhere; exec")
        .run();
    let found: Value = serde_json::from_str(&from_elsewhere.stdout).unwrap();
    let command = found["next"][0]["command"].as_str().unwrap();
    assert!(command.starts_with("cd /"), "{command}");
}

#[test]
fn what_is_left_is_told_by_the_newest_run_and_why_each_run_ended() {
    let desk = Desk::new();
    kill_at_half(&desk);
    let server = kind_server();
    let more = || desk.clear(&server, rows(50)).arg("--resume");
    more().flag("--limit", "5").run().assert_status(0);
    let found = report(&desk, &["out.csv"]);
    assert_eq!((&found["to_do"], &found["left"]), (&50.into(), &25.into()), "{found}");
    assert!(found["runs"][1]["why"].as_str().unwrap().contains('5'), "{found}");
    more().run().assert_status(0);
    let found = report(&desk, &["out.csv", "--html", "out.html"]);
    assert_eq!(
        (&found["to_do"], &found["left"], &found["next"]),
        (&50.into(), &0.into(), &Value::Array(vec![]))
    );
    let counts: Vec<_> = found["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["rows"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [20, 5, 25]);
    assert_eq!(
        (&found["runs"][2]["why"], &found["runs"][2]["exit"]),
        (&"finished".into(), &0.into())
    );
    let page = desk.read("out.html");
    assert!(page.contains("All 50 rows are cleared"), "{page}");
    assert!(table(&desk, &["out.csv"]).contains("all rows have a record"));
}

#[test]
fn without_a_log_it_is_not_known_what_was_to_be_done() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(3)).run().assert_status(0);
    let log = desk.read("out.runs.jsonl");
    for damage in [None, Some("nonsense\n"), Some(&log[..log.len() / 9])] {
        fs::remove_file(desk.path("out.runs.jsonl")).ok();
        if let Some(damage) = damage {
            desk.write("out.runs.jsonl", damage);
        }
        let found = report(&desk, &["out.csv", "--html", "out.html"]);
        assert_eq!(
            (&found["to_do"], &found["left"], &found["rows"]),
            (&Value::Null, &Value::Null, &3.into())
        );
        assert_eq!(found["runs"], Value::Array(vec![]));
        assert!(table(&desk, &["out.csv"]).contains("not known"), "{damage:?}");
        assert!(!desk.read("out.html").contains("All 3 rows"), "{damage:?}");
    }
    // But the rows of the run can be named.
    assert_eq!(report(&desk, &["out.csv", "--rows", "rows.csv"])["left"], 0);
    // A log of another report says nothing of this one.
    let other = log.replace("\"total\":3", "\"total\":2");
    assert_ne!(log, other);
    desk.write("out.runs.jsonl", other);
    assert_eq!(report(&desk, &["out.csv"])["left"], Value::Null);
}

#[test]
fn what_was_selected_is_to_be_done_whatever_else_the_rows_file_has() {
    let (desk, server) = (Desk::new(), kind_server());
    let failing = Server::start(|request, _| match request.user().as_str() {
        "u1" | "u2" | "u3" => Answer::Code(51102, "no"),
        _ => Answer::Code(0, "success"),
    });
    desk.clear(&failing, rows(30)).run().assert_status(3);
    let retry = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "failed")
        .flag("--report", "retry.csv");
    retry.flag("--limit", "2").run().assert_status(0);
    let found = report(&desk, &["retry.csv", "--rows", "out.csv"]);
    assert_eq!((&found["to_do"], &found["left"]), (&3.into(), &1.into()), "{found}");
    let command = found["next"][0]["command"].as_str().unwrap();
    assert!(
        command.contains("--only failed") && command.contains("--resume"),
        "{command}"
    );
    fs::remove_file(desk.path("retry.runs.jsonl")).unwrap();
    let found = report(&desk, &["retry.csv", "--rows", "out.csv"]);
    assert_eq!(
        (&found["to_do"], &found["left"]),
        (&Value::Null, &Value::Null),
        "{found}"
    );
}

#[test]
fn rows_of_a_stream_are_known_once_it_was_read_to_its_end() {
    let (desk, server) = (Desk::new(), kind_server());
    let stream = || {
        desk.clear_with(&server.url(), "-")
            .flag("--report", "out.csv")
            .flag("--rate", "100")
            .stdin(rows(9))
    };
    stream().flag("--limit", "4").run().assert_status(0);
    assert_eq!(report(&desk, &["out.csv"])["left"], Value::Null);
    assert!(table(&desk, &["out.csv"]).contains("was a stream"));
    stream().arg("--resume").run().assert_status(0);
    let found = report(&desk, &["out.csv"]);
    assert_eq!((&found["to_do"], &found["left"]), (&9.into(), &0.into()), "{found}");
}

#[test]
fn a_list_report_says_how_many_users_are_left() {
    let desk = Desk::new();
    desk.write("users.csv", "user\nalice\nbob\ncarol\n");
    let list = desk
        .zim_batch(["list", "users.csv", "--rows", "rows.csv", "--simulate", "--limit", "1"])
        .run();
    list.assert_status(0);
    let found = report(&desk, &["rows.list.csv"]);
    assert_eq!(
        (&found["rows"], &found["to_do"], &found["left"]),
        (&1.into(), &3.into(), &2.into()),
        "{found}"
    );
    let command = found["next"][0]["command"].as_str().unwrap();
    assert!(
        command.contains("list users.csv") && command.contains("--resume"),
        "{command}"
    );
}

/// The report, list report, rows file and log of a `clear --users` of `users` that was killed with two of five rows cleared.
fn killed_after_two_rows(desk: &Desk, users: &str) {
    let rows = "user,conv,type,updated_at\na,c1,0,\na,c2,0,\na,c3,0,\nb,c1,0,\nb,c2,0,\n";
    desk.write("out.rows.csv", rows);
    let of_user = |line: u8, user: &str, rows: u8| {
        format!("{line},{user},ok,{rows},0,200,simulated: success,1,1,40,2026-11-25T03:00:00.000Z\n")
    };
    let list = format!("{LIST_HEADER}\n{}{}", of_user(2, "a", 3), of_user(3, "b", 2));
    desk.write("out.list.csv", list);
    let of_row = |line: u8| {
        format!(
            "{line},a,c{},0,ok,0,200,simulated: success,1,1,40,2026-11-25T03:00:01.000Z\n",
            line - 1
        )
    };
    desk.write("out.csv", format!("{REPORT_HEADER}\n{}{}", of_row(2), of_row(3)));
    let begin = format!(
        "{{\"event\":\"begin\",\"at\":\"2026-11-25T03:00:00.000Z\",\"run\":\"r\",\"lists\":true,\"users\":{users},\
         \"resume\":\"zim-batch clear --users users.csv --resume\"}}\n"
    );
    desk.write("out.runs.jsonl", begin);
}

/// What is listed is known; what will be listed is not.
#[test]
fn while_users_are_left_the_rows_listed_so_far_are_counted_and_no_more_is_said() {
    let desk = Desk::new();
    killed_after_two_rows(&desk, "3");
    for args in [&["out.csv"][..], &["out.csv", "--rows", "out.rows.csv"]] {
        let found = report(&desk, args);
        assert_eq!((&found["rows"], &found["left"]), (&2.into(), &Value::Null), "{found}");
        assert_eq!(
            found["next"].as_array().unwrap().len(),
            1,
            "one command does both: {found}"
        );
        let table = table(&desk, args);
        for (name, value) in [("users", "3"), ("rows", "5")] {
            assert_eq!(in_table(&table, name).as_deref(), Some(value), "{name}: {table}");
        }
        assert!(table.contains("  3  no record yet"), "{table}");
        assert!(table.contains("not all users are listed yet"), "{table}");
    }
    assert!(table(&desk, &["out.list.csv"]).contains("the runs are logged beside the report of the rows"));
}

#[test]
fn users_of_a_stream_are_known_once_it_was_read_to_its_end() {
    let desk = Desk::new();
    killed_after_two_rows(&desk, "null");
    let log = desk.read("out.runs.jsonl");
    assert!(table(&desk, &["out.csv"]).contains("was a stream"));
    let end = "{\"event\":\"end\",\"at\":\"2026-11-25T03:00:02.000Z\",\"run\":\"r\",\"exit\":0,\"stopped\":null,\"summary\":{\"rows\":5}}\n";
    desk.write("out.runs.jsonl", log + end);
    let found = report(&desk, &["out.csv"]);
    assert_eq!((&found["to_do"], &found["left"]), (&5.into(), &3.into()), "{found}");
}

/// `report` suggests what does the rest, not another part of it.
#[test]
fn the_command_that_does_the_rest_has_no_limit() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(9)).flag("--limit", "4").run().assert_status(0);
    let found = report(&desk, &["out.csv"]);
    let command = found["next"][0]["command"].as_str().unwrap();
    assert!(
        command.contains("--resume") && !command.contains("--limit"),
        "{command}"
    );
}

#[test]
fn the_rate_and_the_end_just_after_a_resume_are_those_of_the_present_run() {
    let desk = Desk::new();
    let server = hanging_at("u111");
    let call = || {
        desk.clear(&server, rows(200))
            .flag("--rate", "100")
            .flag("--max-in-flight", "1")
    };
    let records = |count: usize| desk.has("out.csv") && desk.read("out.csv").lines().count() == count + 1;
    let mut first = call().flag("--limit", "60").spawn();
    first.wait_until("sixty records", || records(60));
    first.wait().assert_status(0);
    std::thread::sleep(Duration::from_secs(3));
    let mut second = call().arg("--resume").spawn();
    second.wait_until("fifty more", || records(110));
    let found = report(&desk, &["out.csv"]);
    let rate = found["running"]["rate"].as_f64().unwrap();
    let began: jiff::Timestamp = found["runs"][1]["began"].as_str().unwrap().parse().unwrap();
    // All of its rows are of this minute; a rate counts at least a second.
    let took = jiff::Timestamp::now().duration_since(began).as_secs_f64().max(1.0);
    assert!(
        (50.0 / took - 0.1..=50.1).contains(&rate),
        "{rate} after {took} s: {found}"
    );
    assert_eq!(found["running"]["rows_left"], 90, "{found}");
    assert_eq!(
        (&found["runs"][1]["why"], &found["runs"][1]["rows"]),
        (&"under way".into(), &50.into()),
        "{found}"
    );
}

#[test]
fn the_rate_is_that_of_the_page_names_what_is_counted_and_is_left_out_where_there_is_none() {
    let desk = Desk::new();
    let lines = |ends: &dyn Fn(u32, &str) -> String| {
        let times = (0..20)
            .map(|second| (second, "00"))
            .chain((0..20).map(|second| (second, "30")));
        times.map(|(second, minute)| ends(second, minute)).collect::<String>()
    };
    let begin = |run: u32, minute: &str| {
        format!("{{\"event\":\"begin\",\"at\":\"2026-11-25T03:{minute}:00Z\",\"run\":\"{run}\"}}\n")
    };
    let end = "{\"event\":\"end\",\"at\":\"2026-11-25T03:00:19Z\",\"run\":\"1\",\"exit\":0,\"stopped\":null}\n";
    let log = [begin(1, "00"), end.to_owned(), begin(2, "30")].concat();
    let rows = lines(&|second, minute| {
        format!("2,u,c{minute}{second},0,ok,0,200,m,r,1,40,2026-11-25T03:{minute}:{second:02}.000Z\n")
    });
    desk.write("out.csv", format!("{REPORT_HEADER}\n{rows}"));
    desk.write("out.runs.jsonl", &log);
    let shown = table(&desk, &["out.csv", "--html", "page.html"]);
    let says = "1.00  rows/s, without the times between runs and pauses of more than 1m";
    assert!(shown.contains(says), "{shown}");
    assert!(desk.read("page.html").contains("<small>rows/s</small><b>1.00</b>"));
    let users = lines(&|second, minute| {
        format!("2,u{minute}{second},ok,1,0,200,m,r,1,40,2026-11-25T03:{minute}:{second:02}.000Z\n")
    });
    desk.write("out.list.csv", format!("{LIST_HEADER}\n{users}"));
    let shown = table(&desk, &["out.list.csv"]);
    assert!(
        shown.contains("1.00  users/s, without pauses of more than 1m"),
        "{shown}"
    );
    // Users were listed for a while, and none has a row.
    desk.write("out.csv", format!("{REPORT_HEADER}\n"));
    desk.write("out.runs.jsonl", log.replace("\"run\"", "\"lists\":true,\"run\""));
    let shown = table(&desk, &["out.csv"]);
    assert!(shown.contains("first ") && !shown.contains("rows/s"), "{shown}");
}
