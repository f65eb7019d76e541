//! `zim-batch quota`: who shares an app's quota, and the limit for all of them.

use std::fs;

use serde_json::{Value, json};

use crate::support::{APP_ID, Answer, Call, Desk, Server, can_be_another_user, kind_server, rows};

const APP: &str = "7";

/// Needs no secret.
fn quota(desk: &Desk, args: &[&str]) -> Call {
    let call = desk.zim_batch([&["quota", "--app-id", APP], args].concat());
    call.env("ZIM_LOCK_DIR", desk.path("").to_str().expect("it is UTF-8"))
}

fn as_json(desk: &Desk, args: &[&str]) -> Value {
    let outcome = quota(desk, &[args, &["--json"]].concat()).run();
    outcome.assert_status(0);
    serde_json::from_str(&outcome.stdout).expect("one JSON object")
}

#[test]
fn where_nobody_is_there_it_says_so_and_leaves_no_file() {
    let desk = Desk::new();
    let outcome = quota(&desk, &[]).run();
    outcome.assert_status(0);
    for says in [
        "app            7, shared on this machine",
        "limit          none",
        "runs           none",
    ] {
        assert!(outcome.stdout.contains(says), "{}", outcome.stdout);
    }
    let shown = as_json(&desk, &[]);
    let directory = desk.path("").display().to_string();
    let expected = json!({
        "app_id": 7, "quota": null, "lock_dir": directory, "runs": [], "unreadable": 0, "recent_rate": 0.0,
        "limit": null, "limit_until": null, "limit_set_at": null, "limit_by": null, "limit_unreadable": null
    });
    assert_eq!(shown, expected);
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 0);
}

#[test]
fn a_limit_is_set_shown_replaced_and_ended() {
    let desk = Desk::new();
    let set = as_json(&desk, &["--limit", "2.5", "--for", "2h"]);
    assert_eq!(set["limit"], 2.5);
    let at = |name: &str| set[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lasts = at("limit_until").duration_since(at("limit_set_at")).as_secs();
    assert!((7198..=7200).contains(&lasts), "{set}");
    assert!(set["limit_by"].as_str().unwrap().contains('@'), "{set}");
    assert_eq!(as_json(&desk, &[]), set);
    let other = quota(&desk, &["--json"]).flag("--app-id", "8").run();
    assert!(
        other.assert_status(0).stdout.contains("\"limit\":null"),
        "{}",
        other.stdout
    );

    let paused = quota(&desk, &["--limit", "0"]).run();
    assert!(
        paused
            .assert_status(0)
            .stdout
            .contains("all runs are paused, and so are those that start later, until --limit off"),
        "{}",
        paused.stdout
    );
    let shown = as_json(&desk, &[]);
    assert_eq!((&shown["limit"], &shown["limit_until"]), (&json!(0.0), &Value::Null));
    for _ in 0..2 {
        assert_eq!(as_json(&desk, &["--limit", "off"])["limit"], Value::Null);
    }
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 0);
}

#[test]
fn what_can_t_be_a_limit_is_a_usage_error_and_changes_nothing() {
    let desk = Desk::new();
    for (args, says) in [
        (&["--limit", "-1"][..], "0 for a pause, or off"),
        (&["--limit", "NaN"], "0 for a pause, or off"),
        (&["--limit", "inf"], "--limit"),
        (&["--limit", "0.0001"], "--limit"),
        (&["--limit", "on"], "--limit"),
        (&["--for", "2h"], "--limit"),
        (&["--limit", "off", "--for", "2h"], "--for"),
        (&["--limit", "5", "--for", "0s"], "longer than zero"),
        (&["--limit", "5", "--for", "500d"], "at most a year"),
        (&["--limit", "5", "--app-id", "seven"], "--app-id"),
        (&["--limit", "5", "--quota", "http://cache"], "--quota"),
        (&["--limit", "5", "--lock-dir", "nowhere"], "no such directory"),
        (&["--secret-file", "x"], "--secret-file"),
    ] {
        quota(&desk, args).run().assert_status(2).assert_says(&[says]);
    }
    let without_app = desk.zim_batch(["quota", "--limit", "5"]).run();
    without_app.assert_status(2).assert_says(&["ZIM_APP_ID", "--profile"]);
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), 0);
}

#[test]
fn a_server_that_can_t_be_reached_is_named_without_its_password() {
    let desk = Desk::new();
    for args in [&[][..], &["--limit", "5"], &["--json"]] {
        let outcome = quota(&desk, args).env("ZIM_QUOTA", "redis://:p4ss@127.0.0.1:1").run();
        outcome
            .assert_status(1)
            .assert_says(&["redis://127.0.0.1:1", "not known"]);
        assert!(!format!("{outcome:?}").contains("p4ss"), "{outcome:?}");
    }
    let outcome = quota(&desk, &["--quota", "redis+unix:///nonexist"]).run();
    outcome
        .assert_status(1)
        .assert_says(&["quota server redis+unix:///nonexist: there is no such socket"]);
}

#[test]
fn app_and_place_can_come_from_a_profile() {
    let desk = Desk::new();
    fs::create_dir_all(desk.path("zim-batch")).unwrap();
    desk.write(
        "zim-batch/config.toml",
        "[profiles.night]\napp_id = 9\nquota = \"redis://:p4ss@127.0.0.1:1\"\n",
    );
    let call = desk.zim_batch(["quota", "--profile", "night"]);
    let outcome = call.env("XDG_CONFIG_HOME", desk.path("").to_str().unwrap()).run();
    outcome.assert_status(1).assert_says(&["redis://127.0.0.1:1"]);
    assert!(!outcome.stderr.contains("p4ss"), "{outcome:?}");
}

#[test]
fn a_damaged_or_hostile_file_is_told_and_harmless() {
    let desk = Desk::new();
    let file = "zim-batch-7.limit";
    for text in ["", "{", "{\"limit\":-3}", "{\"limit\":1e999}", "[[[[[[[[", "\u{1b}[2J"] {
        desk.write(file, text);
        let outcome = quota(&desk, &[]).run();
        outcome.assert_status(0);
        let says = match text {
            "" => "limit          none",
            _ => "limit          not known: ",
        };
        assert!(outcome.stdout.contains(says), "{text}: {}", outcome.stdout);
        assert_eq!(
            outcome.stdout.contains("can't be read"),
            !text.is_empty(),
            "{outcome:?}"
        );
        assert!(!outcome.stdout.contains('\u{1b}'), "{outcome:?}");
    }
    desk.write(file, b"\xff\xfe");
    let shown = as_json(&desk, &[]);
    let why = shown["limit_unreadable"].as_str().unwrap();
    assert!(why.contains(file) && why.contains("set it again"), "{shown}");
    assert_eq!(shown["limit"], Value::Null);
    let by = format!("{{\"limit\":5,\"by\":\"me\\u001b[2J\\n{}\"}}", "x".repeat(9000));
    desk.write(file, by);
    let outcome = quota(&desk, &[]).run();
    assert!(
        outcome.assert_status(0).stdout.contains("set by me\\u{1b}[2J\\n"),
        "{}",
        outcome.stdout
    );
    assert!(
        !outcome.stdout.contains('\u{1b}') && outcome.stdout.len() < 1000,
        "{}",
        outcome.stdout
    );

    fs::remove_file(desk.path(file)).unwrap();
    fs::create_dir(desk.path(file)).unwrap();
    quota(&desk, &["--limit", "5"]).run().assert_status(2).assert_says(&[
        file,
        "it is a directory",
        "Remove it, as its owner or as root",
    ]);
    let why = as_json(&desk, &[])["limit_unreadable"].to_string();
    assert!(
        why.contains("it is a directory") && why.contains("; remove the file"),
        "{why}"
    );
    fs::remove_dir(desk.path(file)).unwrap();
    desk.write(file, "x".repeat(70_000));
    let why = as_json(&desk, &[])["limit_unreadable"].to_string();
    assert!(why.contains("too large") && why.contains("; remove the file"), "{why}");
}

#[test]
fn a_user_who_can_t_see_the_runs_is_told_so_and_not_that_there_are_none() {
    if !can_be_another_user() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    fs::create_dir(desk.path("locks")).unwrap();
    for (mode, args, status) in [
        (0o700, &[][..], 2),
        (0o755, &[], 0),
        (0o755, &["--limit", "5"], 2),
        (0o1777, &["--limit", "5"], 0),
        (0o1777, &["--limit", "off"], 0),
    ] {
        fs::set_permissions(desk.path("locks"), fs::Permissions::from_mode(mode)).unwrap();
        fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let call = quota(&desk, args).flag("--lock-dir", "locks").by_user(54321);
        let outcome = call.run();
        outcome.assert_status(status);
        if status == 2 {
            outcome.assert_says(&["locks/zim-batch-7.", "--lock-dir"]);
        }
    }
}

#[test]
fn everybody_may_change_the_limit_of_another_user() {
    if !can_be_another_user() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new();
    fs::create_dir(desk.path("locks")).unwrap();
    fs::set_permissions(desk.path("locks"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let call = |args: &[&str]| quota(&desk, args).flag("--lock-dir", "locks");
    call(&["--limit", "5"]).run().assert_status(0);
    call(&["--limit", "7"]).by_user(54321).run().assert_status(0);
    let shown = as_json(&desk, &["--lock-dir", "locks"]);
    assert_eq!(shown["limit"], 7.0);
    assert!(shown["limit_by"].as_str().unwrap().starts_with("uid 54321@"), "{shown}");
    // In a directory like /tmp it can be emptied only.
    let off = call(&["--limit", "off"]).by_user(54321).run();
    assert!(
        off.assert_status(0).stdout.contains("limit          none"),
        "{}",
        off.stdout
    );
    assert_eq!(fs::read_to_string(desk.path("locks/zim-batch-7.limit")).unwrap(), "");
}

#[test]
fn a_run_that_ends_while_it_is_paused_or_limited_says_so_even_if_it_is_quiet() {
    let (desk, server) = (Desk::new(), kind_server());
    let place = ["--app-id", &APP_ID.to_string(), "--endpoint", &server.url()].map(str::to_owned);
    for (limit, says) in [
        (
            "0",
            "nothing was sent; at the end the run was paused by 'zim-batch quota'",
        ),
        ("3", "at the end the run was limited to 3/s by 'zim-batch quota'"),
    ] {
        let set = desk.zim_batch(["quota", "--limit", limit].map(str::to_owned).iter().chain(&place));
        set.run().assert_status(0);
        let call = desk.clear(&server, rows(100)).flag("--max-duration", "3s");
        let outcome = call.arg("-q").arg("--overwrite").flag("--lock-dir", ".").run();
        let stopped = format!("--max-duration 3s was reached; {says}");
        let command = format!("zim-batch quota --endpoint {} --lock-dir . --limit off", server.url());
        outcome
            .assert_status(7)
            .assert_says(&[&format!("stopped: {stopped}\n"), &format!(": {command}\n")]);
        assert_eq!(outcome.summary().stopped(), stopped);
        let log = desk.read("out.runs.jsonl");
        assert!(log.contains(&stopped), "{log}");
    }
    // The time is local, so it has its zone.
    let words = ["quota", "--limit", "0", "--for", "1h"].map(str::to_owned);
    desk.zim_batch(words.iter().chain(&place)).run().assert_status(0);
    let call = desk.clear(&server, rows(100)).flag("--max-duration", "300ms");
    let outcome = call.arg("-q").arg("--overwrite").env("TZ", "CST-8").run();
    outcome
        .assert_status(7)
        .assert_says(&["paused by 'zim-batch quota' until ", " +08:00\n"]);
}

#[test]
fn a_report_of_a_run_under_way_tells_of_its_limit_its_pause_and_its_time_limit() {
    let (desk, server) = (Desk::new(), kind_server());
    let place = ["--app-id", &APP_ID.to_string(), "--endpoint", &server.url()].map(str::to_owned);
    let limit_to = |limit: &str| {
        let set = desk.zim_batch(["quota", "--limit", limit].map(str::to_owned).iter().chain(&place));
        set.run().assert_status(0);
    };
    let call = desk.clear(&server, rows(5000)).flag("--rate", "50");
    let mut run = call.flag("--max-duration", "20s").spawn();
    run.wait_until("some records", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() > 20
    });
    let told = || {
        desk.zim_batch(["report", "out.csv"])
            .run()
            .assert_status(0)
            .stdout
            .clone()
    };
    let running = || {
        let json = desk.zim_batch(["report", "out.csv", "--json"]).run().stdout;
        serde_json::from_str::<Value>(&json).expect("one JSON object")["running"].clone()
    };
    let shown = told();
    assert!(
        shown.contains(", when its time limit ends it with rows left"),
        "{shown}"
    );
    assert!(!shown.contains("zim-batch quota"), "{shown}");
    assert_eq!((&running()["limit"], &running()["waits"]), (&Value::Null, &Value::Null));
    limit_to("7");
    let shown = told();
    assert!(shown.contains("limited to 7/s by 'zim-batch quota'\n"), "{shown}");
    assert_eq!(running()["limit"], 7.0);
    limit_to("0");
    let shown = told();
    assert!(shown.contains("paused by 'zim-batch quota'\n"), "{shown}");
    assert!(
        shown.contains("rows left, at the latest until ") && !shown.contains("until about"),
        "{shown}"
    );
    desk.zim_batch(["report", "out.csv", "--html", "page.html"])
        .run()
        .assert_status(0);
    let page = desk.read("page.html");
    assert!(page.contains("; paused by ") && !page.contains("all is well"), "{page}");
    let found = running();
    assert_eq!(
        (&found["limit"], &found["waits"], &found["until"]),
        (&json!(0.0), &json!("paused by 'zim-batch quota'"), &Value::Null)
    );
    assert!(found["ends_at"].is_string(), "{found}");
    // Where the run is not found, nothing is said of it.
    let elsewhere = desk.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let call = desk.zim_batch(["report", "out.csv"]);
    let shown = call.env("ZIM_LOCK_DIR", elsewhere.to_str().unwrap()).run().stdout;
    assert!(!shown.contains("zim-batch quota"), "{shown}");
    run.signal("TERM");
    run.wait().assert_status(143);
}

#[test]
fn a_report_of_a_run_on_hold_says_so() {
    let (desk, server) = (Desk::new(), Server::start(|_, _| Answer::Close));
    let mut run = desk.clear(&server, rows(500)).spawn();
    run.wait_until("it is on hold", || {
        let report = desk.zim_batch(["report", "out.csv"]).run().stdout;
        report.contains("\n               on hold\n")
    });
    run.signal("TERM");
    run.wait().assert_status(143);
}
