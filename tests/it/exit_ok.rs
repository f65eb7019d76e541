//! `--exit-ok STATUS,…`: exit statuses that are reported as 0.

use serde_json::Value;

use crate::support::{APP_ID, Answer, Desk, Latch, SECRET, Server, as_the_user_says, kind_server, named_rows, rows};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The exit status of the last run by its log.
fn logged_exit(desk: &Desk, name: &str) -> Value {
    let log = desk.read(name);
    json(log.lines().last().expect("there is a line"))["exit"].clone()
}

#[test]
fn a_run_with_failed_rows_exits_with_0_and_everything_else_keeps_the_status() {
    let server = Server::start(as_the_user_says);
    let desk = Desk::new();
    let mixed = || named_rows(["a", "code660500002"]);
    let call = desk
        .clear(&server, mixed())
        .flag("--exit-ok", "3,7")
        .flag("--metrics", "zim.prom");
    let outcome = call.run();
    outcome.assert_status(0);
    assert_eq!(json(&outcome.stdout)["exit"], 3);
    assert_eq!(logged_exit(&desk, "out.runs.jsonl"), 3);
    let exit = desk
        .read("zim.prom")
        .lines()
        .any(|line| line.starts_with("zim_batch_last_exit_status{") && line.ends_with(" 3"));
    assert!(exit, "{}", desk.read("zim.prom"));

    // For people, with the flag and from a profile.
    std::fs::create_dir_all(desk.path(".config/zim-batch")).expect("it is our directory");
    desk.write(".config/zim-batch/config.toml", "[profiles.default]\nexit_ok = \"3\"\n");
    for flag in [Some("3"), None] {
        desk.write("rows.csv", mixed());
        let call = desk
            .clear_with(&server.url(), "rows.csv")
            .flag("--report", "out.csv")
            .arg("--overwrite");
        let call = flag
            .into_iter()
            .fold(call, |call, statuses| call.flag("--exit-ok", statuses));
        let outcome = call.run();
        let table = &outcome.assert_status(0).stdout;
        assert!(
            table.ends_with("\n\nexit status 3, reported as 0 (--exit-ok)\n"),
            "{table}"
        );
    }
    let shown = desk.zim_batch(["config"]).run().stdout;
    assert!(shown.contains("exit ok      3  "), "{shown}");
    let number = "[profiles.default]\nexit_ok = 7\n";
    desk.write(".config/zim-batch/config.toml", number);
    assert_eq!(
        json(&desk.zim_batch(["config", "--json"]).run().stdout)["exit_ok"]["value"],
        "7"
    );

    // Another status is not meant.
    desk.write("rows.csv", mixed());
    let call = desk
        .clear_with(&server.url(), "rows.csv")
        .flag("--report", "out.csv")
        .arg("--overwrite");
    let outcome = call.flag("--exit-ok", "7,75").run();
    assert!(
        !outcome.assert_status(3).stdout.contains("reported as 0"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_stop_and_a_report_that_another_run_holds_can_be_reported_as_0() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk
        .clear(&server, rows(200))
        .flag("--rate", "20")
        .flag("--max-duration", "300ms");
    let outcome = call.flag("--exit-ok", "7").run();
    assert_eq!(json(&outcome.assert_status(0).stdout)["exit"], 7);
    assert_eq!(logged_exit(&desk, "out.runs.jsonl"), 7);

    let latch = Latch::default();
    let opened = latch.clone();
    let server = Server::start(move |_, _| {
        opened.wait();
        Answer::Code(0, "success")
    });
    let (desk, ok) = (Desk::new(), "75,143");
    let mut first = desk.clear(&server, rows(2)).flag("--exit-ok", ok).spawn();
    first.wait_until("it sends", || !server.requests().is_empty());
    let second = desk.clear(&server, rows(2)).arg("--resume").flag("--exit-ok", ok).run();
    second
        .assert_status(0)
        .assert_says(&["another run is writing", "exit status 75, reported as 0 (--exit-ok)"]);
    assert_eq!(json(&second.stdout)["exit"], 75);
    first.signal("TERM");
    first.signal("TERM");
    let outcome = first.wait();
    assert_eq!(json(&outcome.assert_status(0).stdout)["exit"], 143);
    latch.open();
}

#[test]
fn list_and_check_take_it_too() {
    let server = Server::start(|_, _| Answer::Code(660_500_002, "not registered"));
    let desk = Desk::new();
    desk.write("rows.csv", "user,conv,type\na,,0\nb,c,0\n");
    for command in [&["list", "rows.csv"][..], &["check", "rows.csv", "--online"]] {
        let call = desk.zim_batch(command.iter().chain(&["--endpoint", &server.url()]));
        let call = call
            .env("ZIM_APP_ID", &APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET);
        let outcome = call.flag("--exit-ok", "3,5").run();
        let text = outcome.assert_status(0).stdout.clone();
        assert!(text.contains(", reported as 0 (--exit-ok)\n"), "{text}");
    }
    for command in [&["check", "rows.csv"][..], &["clear", "rows.csv", "--dry-run"]] {
        let outcome = desk.zim_batch(command.iter().chain(&["--exit-ok", "3"])).run();
        assert!(
            outcome
                .assert_status(0)
                .stdout
                .ends_with("\nexit status 3, reported as 0 (--exit-ok)\n"),
            "{outcome:?}"
        );
        let outcome = desk
            .zim_batch(command.iter().chain(&["--exit-ok", "3", "--json"]))
            .run();
        json(&outcome.assert_status(0).stdout);
    }
}

#[test]
fn a_status_that_is_none_or_a_bug_is_a_usage_error_with_the_list() {
    let (desk, server) = (Desk::new(), kind_server());
    for (statuses, says) in [
        ("1", "--exit-ok: 1 is an unexpected error, which is never a success"),
        ("0,3", "0 is reported as 0 anyway"),
        ("3;7", "each must be an exit status of zim-batch"),
        (
            "99",
            "the statuses that can be reported as 0 are 3, 4, 5, 6, 7, 74, 75, 129, 130, 143",
        ),
    ] {
        let outcome = desk.clear(&server, rows(1)).flag("--exit-ok", statuses).run();
        outcome.assert_status(2).assert_says(&[says]);
    }
    // What can't run is no success either.
    let outcome = desk
        .clear(&server, rows(1))
        .flag("--exit-ok", "3")
        .flag("--app-id", "x")
        .run();
    outcome.assert_status(2);
    assert_eq!(server.requests().len(), 0);
}
