//! `--rate HH:MM=N,…`: what is shown of a timetable, and a run that its timetable pauses.

use jiff::{ToSpan, ZonedDateTime};
use serde_json::Value;

use crate::support::{APP_ID, Call, Desk, SECRET, Server, kind_server, rows};

/// A timetable with a pause from an hour ago until in two hours, and when it ends: `14:00`. Then it is 200 requests per second.
fn paused_now() -> (String, String) {
    let at = |hours: i64| (&ZonedDateTime::now() + hours.hours()).strftime("%H:%M").to_string();
    (format!("{}=0,{}=200", at(-1), at(2)), at(2))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A run of 20 rows, or 2 users, that is paused.
fn paused(desk: &Desk, server: &Server, timetable: &str, command: &[&str]) -> Call {
    desk.write("rows.csv", rows(20));
    desk.write("users.csv", "user\na\nb\n");
    desk.zim_batch(command)
        .flag("--endpoint", &server.url())
        .flag("--rate", timetable)
        .env("ZIM_APP_ID", &APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
}

#[test]
fn a_timetable_that_is_wrong_is_a_usage_error_that_says_what_is_right() {
    let (desk, server) = (Desk::new(), kind_server());
    for (text, says) in [
        (
            "25:00=5",
            "--rate: entry 1, '25:00=5': write the time as hours and minutes from 00:00 to 23:59",
        ),
        ("08:00=5,8:60=7", "entry 2, '8:60=7'"),
        ("08:00=5,08:00=7", "08:00 has two entries"),
        (
            "08:00=five",
            "entry 1, '08:00=five': the rate must be 0, which is a pause, or a number",
        ),
        ("08:00=0", "all entries are pauses"),
        ("08:00=5,", "entry 2, '': write each entry"),
    ] {
        let outcome = desk.clear(&server, rows(1)).flag("--rate", text).run();
        outcome.assert_status(2).assert_says(&[says]);
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    }
    // What may be the secret is not shown.
    let secret = crate::support::SECRET;
    let outcome = desk
        .clear(&server, rows(1))
        .flag("--rate", &format!("08:00={secret}"))
        .run();
    assert!(!outcome.assert_status(2).stderr.contains(secret), "{}", outcome.stderr);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_time_zone_that_is_not_known_is_not_taken_for_utc() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for (flag, value, is_local) in [
        ("--rate", "08:00=5,22:00=20", true),
        ("--until", "06:00", true),
        ("--until", "2100-01-01T06:00", true),
        ("--rate", "5", false),
        ("--until", "2100-01-01T06:00:00Z", false),
    ] {
        let outcome = desk.zim_batch(["config", flag, value]).env("TZ", "Nowhere/Else").run();
        if is_local {
            let says =
                format!("{flag}: local times need a time zone, and the time zone of TZ, 'Nowhere/Else', is not known");
            outcome
                .assert_status(2)
                .assert_says(&[&says, "install the time zone database (tzdata)"]);
        } else {
            outcome.assert_status(0);
        }
        desk.zim_batch(["config", flag, value])
            .env("TZ", "CST-8")
            .run()
            .assert_status(0);
    }
    let check = |zone| {
        let outcome = desk
            .zim_batch(["check", "rows.csv", "--rate", "00:00=5,12:00=7", "--json"])
            .env("TZ", zone)
            .run();
        json(&outcome.assert_status(0).stdout)["seconds_at_rate"].as_f64()
    };
    // It is another half of the day there.
    assert_ne!(check("AAA-12"), check("BBB0"));
}

#[test]
fn a_profile_may_have_a_timetable_and_config_shows_it() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path(".config/zim-batch")).expect("it is our directory");
    desk.write(
        ".config/zim-batch/config.toml",
        "[profiles.day]\nrate = \"22:00=20, 8:00=5\"\n",
    );
    for (flags, value, from) in [
        (
            &["--profile", "day"][..],
            Value::from("08:00=5,22:00=20"),
            "config.toml",
        ),
        (
            &["--profile", "day", "--rate", "1:00=0,5:00=2.5"],
            "01:00=0,05:00=2.5".into(),
            "--rate",
        ),
        (&["--rate", "08:00=7"], 7.0.into(), "--rate"),
    ] {
        let outcome = desk.zim_batch(["config", "--json"].iter().chain(flags)).run();
        let rate = &json(&outcome.assert_status(0).stdout)["rate"];
        assert_eq!(rate["value"], value);
        assert!(
            rate["from"].as_str().is_some_and(|it_is| it_is.contains(from)),
            "{rate}"
        );
    }
    let shown = desk.zim_batch(["config", "--profile", "day"]).run();
    assert!(
        shown.stdout.contains("rate         08:00=5,22:00=20 "),
        "{}",
        shown.stdout
    );
}

#[test]
fn check_reckons_with_the_timetable_from_now_on() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(400));
    let (timetable, until) = paused_now();
    for command in [&["check"][..], &["clear", "--dry-run"]] {
        let call = |more: &[&str]| {
            let of_run = ["rows.csv", "--rate", timetable.as_str()];
            desk.zim_batch(command.iter().chain(&of_run).chain(more)).run()
        };
        let found = json(&call(&["--json"]).assert_status(0).stdout);
        let seconds = found["seconds_at_rate"].as_f64().expect("it is a number");
        // Until the pause ends, and two seconds. Clocks may be changed by an hour.
        assert!((3540.0..=10_802.0).contains(&seconds), "{found}");
        assert!(
            found["rate"].as_str().is_some_and(|rate| rate.contains("=0")),
            "{found}"
        );
        let text = call(&[]).stdout;
        assert!(
            text.contains("paused from ") && text.contains(" if started now, until "),
            "{text}"
        );
        assert!(text.contains(&until), "{text}");
        assert!(text.contains(&format!("--rate {timetable}")), "{text}");
    }
}

#[test]
fn a_run_that_its_timetable_pauses_sends_nothing_says_so_and_ends_at_once_when_it_is_stopped() {
    let server = kind_server();
    let (timetable, until) = paused_now();
    for command in [
        &["clear", "rows.csv", "--report", "out.csv", "--metrics", "zim.prom"][..],
        &["list", "users.csv"],
        &["clear", "--users", "users.csv", "--report", "out.csv"],
        &["check", "rows.csv", "--online"],
    ] {
        let desk = Desk::new();
        let call = paused(&desk, &server, &timetable, command);
        // A hold would be a reason to stop.
        let call = call.flag("--give-up-after", "200ms").flag("--log-file", "log.txt");
        let mut run = call.spawn();
        run.wait_until("it says that it is paused", || {
            desk.has("log.txt") && desk.read("log.txt").contains("paused until ")
        });
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(run.is_running());
        run.signal("USR1");
        run.wait_until("it says how far it is", || {
            desk.read("log.txt").matches("paused until ").count() == 2
        });
        if desk.has("zim.prom") {
            assert!(
                desk.read("log.txt")
                    .contains(&format!("{until} (--rate), 0/20 rows, ok 0, ")),
                "{}",
                desk.read("log.txt")
            );
            let gauge = desk.read("zim.prom").lines().find_map(|line| {
                line.starts_with("zim_batch_rate_limit{")
                    .then(|| line.rsplit(' ').next().map(str::to_owned))?
            });
            assert_eq!(gauge.as_deref(), Some("0"));
            let report = desk.zim_batch(["report", "out.csv"]).run().stdout;
            assert!(
                report.contains("paused by its timetable until ") && report.contains("20 rows left, until about "),
                "{report}"
            );
            desk.zim_batch(["report", "out.csv", "--html", "page.html"])
                .run()
                .assert_status(0);
            let page = desk.read("page.html");
            assert!(page.contains(", and is paused by its timetable until "), "{page}");
            let report = json(&desk.zim_batch(["report", "out.csv", "--json"]).run().stdout);
            assert!(
                report["running"]["until"].is_string() && report["running"]["paused_until"].is_string(),
                "{report}"
            );
            let begin = desk.read("out.runs.jsonl");
            assert!(
                json(begin.lines().next().unwrap_or_default())["rate"] == timetable.as_str(),
                "{begin}"
            );
        }
        let stopped_at = std::time::Instant::now();
        run.signal("TERM");
        let outcome = run.wait();
        outcome.assert_status(143);
        assert!(stopped_at.elapsed().as_secs() < 2, "{command:?}: {outcome:?}");
    }
    let desk = Desk::new();
    let call = paused(&desk, &server, &timetable, &["clear", "rows.csv"]);
    let outcome = call.flag("--max-duration", "300ms").run();
    outcome
        .assert_status(7)
        .assert_says(&["was reached; nothing was sent; at the end the run was paused until "]);
    assert!(outcome.elapsed.as_secs() < 3, "{outcome:?}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_run_with_a_timetable_goes_at_the_rate_of_the_hour() {
    let (desk, server) = (Desk::new(), kind_server());
    let at = |hours: i64| (&ZonedDateTime::now() + hours.hours()).strftime("%H:%M").to_string();
    let timetable = format!("{}=50,{}=0", at(-1), at(3));
    let outcome = desk
        .clear(&server, rows(101))
        .flag("--rate", &timetable)
        .arg("-v")
        .run();
    let summary = outcome.assert_status(0).summary();
    outcome.assert_says(&["at most 50/s from ", "paused from "]);
    summary.assert_counts(&[("ok", 101)]);
    let took = summary.0["elapsed_s"].as_f64().expect("a number");
    assert!((2.0..4.0).contains(&took), "{took} s");
    assert!(summary.count("peak_1s") <= 50);
}
