//! `--until TIME`: a run that ends by the clock.

use jiff::{ToSpan, ZonedDateTime};

use crate::support::{Call, Desk, Server, kind_server, rows};

/// A local time in so many seconds, without their fraction, so up to a second earlier: `2026-11-30T06:00:00`.
fn in_seconds(seconds: i64) -> String {
    (&ZonedDateTime::now() + seconds.seconds())
        .strftime("%Y-%m-%dT%H:%M:%S")
        .to_string()
}

fn clear(desk: &Desk, server: &Server, until: &str) -> Call {
    desk.clear(server, rows(200))
        .flag("--rate", "50")
        .flag("--until", until)
}

#[test]
fn a_run_ends_by_the_clock_with_status_7_and_resumes_without_the_time_that_has_passed() {
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = clear(&desk, &server, &in_seconds(3)).run();
    outcome
        .assert_status(7)
        .assert_says(&["stopped: --until ", "to resume this run: "]);
    let resume = outcome
        .stderr
        .lines()
        .find(|line| line.contains("to resume"))
        .expect("it says how");
    assert!(!resume.contains("--until") && resume.contains("--rate 50"), "{resume}");
    let summary = outcome.summary();
    let stopped = summary.stopped();
    assert!(
        stopped.starts_with("--until ") && stopped.ends_with(" was reached"),
        "{stopped}"
    );
    let sent = server.requests().len();
    assert!((20..=151).contains(&sent), "{sent} requests");
    assert!(desk.read("out.runs.jsonl").contains("\"stopped\":\"--until "));
    desk.clear(&server, rows(200)).arg("--resume").run().assert_status(0);
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (200, 200));
}

#[test]
fn of_a_duration_and_a_time_the_first_one_ends_the_run_and_is_named() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = clear(&desk, &server, &in_seconds(3600)).flag("--max-duration", "300ms");
    let stopped = call.run().assert_status(7).summary().stopped().to_owned();
    assert_eq!(stopped, "--max-duration 300ms was reached");
    let call = clear(&desk, &server, &in_seconds(3))
        .flag("--max-duration", "1h")
        .arg("--resume");
    let stopped = call.run().assert_status(7).summary().stopped().to_owned();
    assert!(stopped.starts_with("--until "), "{stopped}");
}

#[test]
fn a_time_that_has_passed_or_is_none_is_a_usage_error() {
    let (desk, server) = (Desk::new(), kind_server());
    for (until, says) in [
        (in_seconds(-60), "--until: 20"),
        (
            "2026-01-01T00:00".to_owned(),
            "has passed already; give a time in the future",
        ),
        ("24:00".to_owned(), "--until: it must be a time of day, like 06:00"),
        ("5h".to_owned(), "it must be a time of day, like 06:00"),
    ] {
        let outcome = clear(&desk, &server, &until).run();
        outcome.assert_status(2).assert_says(&[says]);
        let shown = desk.zim_batch(["config", "--until", &until]).run();
        shown.assert_status(2).assert_says(&[says]);
        let dry = clear(&desk, &server, &until).arg("--dry-run").run();
        dry.assert_status(2).assert_says(&[says]);
        let checked = desk.zim_batch(["check", "in.csv", "--until", &until]).run();
        checked.assert_status(2).assert_says(&[says]);
    }
    let negative = clear(&desk, &server, "-5").run();
    negative.assert_status(2).assert_says(&["like 06:00"]);
    assert!(!negative.stderr.contains("'-- "), "{negative:?}");
    desk.write("one.csv", "user,conv,type\na,b,0\n");
    let ends = in_seconds(3600);
    let checked = desk.zim_batch(["check", "one.csv", "--until", &ends]).run();
    let says = " at the latest (--until)";
    assert!(checked.assert_status(0).stdout.contains(says), "{}", checked.stdout);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn the_next_time_of_day_may_be_in_a_profile_and_ends_a_paused_run() {
    let (desk, server) = (Desk::new(), kind_server());
    std::fs::create_dir_all(desk.path(".config/zim-batch")).expect("it is our directory");
    desk.write(".config/zim-batch/config.toml", "[profiles.night]\nuntil = \"6:00\"\n");
    let shown = desk.zim_batch(["config", "--profile", "night"]).run();
    assert!(
        shown.assert_status(0).stdout.contains("until        06:00  "),
        "{}",
        shown.stdout
    );
    // It is some time off, so the run has ended before.
    let outcome = desk.clear(&server, rows(2)).flag("--profile", "night").run();
    outcome.assert_status(0);

    let at = |hours: i64| (&ZonedDateTime::now() + hours.hours()).strftime("%H:%M").to_string();
    let paused = format!("{}=0,{}=5", at(-1), at(2));
    let call = clear(&desk, &server, &in_seconds(3))
        .flag("--rate", &paused)
        .arg("--overwrite");
    let outcome = call.run();
    outcome.assert_status(7).assert_says(&["paused until "]);
    assert!(outcome.elapsed.as_secs() < 6, "{outcome:?}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_list_ends_by_the_clock_too() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("users.csv", rows(200));
    let call = desk.zim_batch(["list", "users.csv", "--endpoint", &server.url(), "--rate", "20"]);
    let call = call
        .env("ZIM_APP_ID", &crate::support::APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", crate::support::SECRET);
    call.flag("--until", &in_seconds(3))
        .run()
        .assert_status(7)
        .assert_says(&["--until "]);
}
