//! `zim-batch report`: its output for reports of all kinds, and that it does not disturb a run.

mod copies;
mod page;
mod remaining;
mod runs;
mod several;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::support::{Answer, Desk, REPORT_HEADER, Server, as_the_user_says, kind_server, named_rows, rows};
use proptest::prelude::*;
use serde_json::Value;

const OUTCOMES: [&str; 5] = ["ok", "outside", "failed", "invalid", "skipped"];

/// A report with these records.
fn report_of(records: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    records
        .into_iter()
        .fold(format!("{REPORT_HEADER}\n"), |report, record| {
            report + record.as_ref() + "\n"
        })
}

/// A record that ended `after` milliseconds after the start of a day.
fn record(line: usize, user: &str, outcome: &str, code: &str, message: &str, after: u64) -> String {
    let at = format!(
        "2026-11-25T{:02}:{:02}:{:02}.{:03}Z",
        after / 3_600_000,
        after / 60_000 % 60,
        after / 1000 % 60,
        after % 1000
    );
    let mut writer = csv::Writer::from_writer(Vec::new());
    let line = line.to_string();
    let fields = [
        &line, user, "c", "0", outcome, code, "200", message, "1", "1", "40", &at,
    ];
    writer.write_record(fields).expect("memory takes any record");
    String::from_utf8(writer.into_inner().expect("memory takes any record"))
        .expect("it is made of text")
        .trim_end()
        .to_owned()
}

fn ok(line: usize) -> String {
    record(line, &format!("u{line}"), "ok", "0", "success", line as u64 * 50)
}

fn json(desk: &Desk, args: &[&str]) -> Value {
    let outcome = desk.zim_batch([&["report", "out.csv", "--json"], args].concat()).run();
    outcome.assert_status(0);
    serde_json::from_str(&outcome.stdout).expect("one JSON object")
}

/// A number with a comma between thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

/// The first number after a name at the beginning of a line.
fn in_table(table: &str, name: &str) -> Option<String> {
    let line = table.lines().find(|line| line.trim_start().starts_with(name))?;
    let rest = line.trim_start().strip_prefix(name)?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The number in a tile of the page.
fn in_page<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("<small>{name}</small><b>"))
        .expect("the page has the tile");
    rest.split_once("</b>").expect("a tile ends").0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn counts_of_table_json_and_page_equal_those_of_the_file(
        records in prop::collection::vec(
            (0..5_usize, 0..6_usize, prop::sample::select(&["", "51102", "7", "-3"][..]), 0..86_400_000_u64),
            0..120,
        ),
        users in prop::collection::vec("[a-z=<&\"',\u{1b}用\n]{1,8}", 6),
    ) {
        let desk = Desk::new();
        let lines = records.iter().enumerate().map(|(index, (outcome, user, code, after))| {
            record(index + 2, &users[*user], OUTCOMES[*outcome], code, "some, \"message\"", *after)
        });
        desk.write("out.csv", report_of(lines));
        let json = json(&desk, &["--html", "out.html"]);
        let page = desk.read("out.html");
        let table = desk.zim_batch(["report", "out.csv"]).run();
        table.assert_status(0);

        prop_assert_eq!(&json["rows"], records.len());
        prop_assert_eq!(in_table(&table.stdout, "rows"), Some(grouped(records.len())));
        prop_assert_eq!(in_page(&page, "rows"), grouped(records.len()));
        for (index, outcome) in OUTCOMES.into_iter().enumerate() {
            let count = records.iter().filter(|record| record.0 == index).count();
            prop_assert_eq!(&json[outcome], count);
            prop_assert_eq!(in_page(&page, outcome), grouped(count));
            let table_part = table.stdout.split("\n\n").next().unwrap();
            prop_assert_eq!(in_table(table_part, outcome), (count > 0 || outcome == "ok").then(|| grouped(count)));
        }
        let mut codes = BTreeMap::new();
        let mut by_user: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (outcome, user, code, _) in &records {
            if !code.is_empty() {
                *codes.entry((*code).to_owned()).or_insert(0_u64) += 1;
            }
            let user = by_user.entry(&users[*user]).or_default();
            match OUTCOMES[*outcome] {
                "failed" => user.0 += 1,
                "outside" => user.1 += 1,
                _ => {}
            }
        }
        prop_assert_eq!(&json["codes"], &serde_json::to_value(&codes).unwrap());
        for (code, rows) in &codes {
            prop_assert_eq!(in_table(&table.stdout, &format!("{code} ")), Some(rows.to_string()));
            let cell = |name, number| format!("<td data-name=\"{name}\" class=\"n\">{number}</td>");
            let row = cell("Code", code.to_string()) + &cell("Rows", rows.to_string());
            prop_assert!(page.contains(&row), "{}", row);
        }
        let found: BTreeMap<&str, (u64, u64)> = json["users"].as_array().unwrap().iter().map(|user| {
            let count = |name: &str| user[name].as_u64().unwrap();
            (user["user"].as_str().unwrap(), (count("failed"), count("outside")))
        }).collect();
        by_user.retain(|_, rows| *rows != (0, 0));
        prop_assert_eq!(found, by_user);

        let mut times: Vec<u64> = records.iter().map(|record| record.3).collect();
        times.sort_unstable();
        let gaps = times.windows(2).filter(|pair| pair[1] - pair[0] > 60_000).count();
        prop_assert_eq!(json["pauses"].as_array().unwrap().len(), gaps);
        let has_escape = [&table.stdout, &page].iter().any(|text| text.contains(char::from(0x1b)));
        prop_assert!(!has_escape);
    }
}

#[test]
fn a_run_in_progress_is_shown_with_the_rows_left_and_is_not_disturbed() {
    let desk = Desk::new();
    let server = Server::start(|request, _| match request.user().as_str() {
        "u21" => Answer::Hang(Duration::from_secs(60)),
        _ => Answer::Code(0, "success"),
    });
    let mut run = desk.clear(&server, rows(40)).flag("--max-in-flight", "1").spawn();
    let records = || desk.has("out.csv").then(|| desk.read("out.csv").lines().count());
    run.wait_until("twenty records", || records() == Some(21));
    let found = json(&desk, &["--rows", "rows.csv"]);
    let running = &found["running"];
    assert_eq!(running["process"], run.id(), "{found}");
    assert_eq!(running["rows_left"], 20, "{found}");
    assert!(running["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{found}");
    assert!(
        running["until"].as_str().is_some_and(|until| until.ends_with('Z')),
        "{found}"
    );
    let table = desk.zim_batch(["report", "out.csv", "--rows", "rows.csv"]).run();
    assert!(
        table.stdout.contains(&format!("process {}", run.id())),
        "{}",
        table.stdout
    );
    assert!(table.stdout.contains("20 rows left"), "{}", table.stdout);
    let without_rows = json(&desk, &[]);
    assert_eq!(without_rows["running"]["rows_left"], 20, "by the log of runs");
    fs::remove_file(desk.path("out.runs.jsonl")).unwrap();
    let without_log = json(&desk, &[]);
    assert_eq!(without_log["running"]["rows_left"], Value::Null);
    assert_eq!(without_log["running"]["until"], Value::Null);

    run.signal("KILL");
    run.wait();
    let found = json(&desk, &["--rows", "rows.csv"]);
    assert_eq!((&found["running"], &found["not_run"]), (&Value::Null, &20.into()));
    let command = found["next"][0]["command"].as_str().unwrap();
    assert_eq!(command, "zim-batch clear rows.csv --report out.csv --resume");
}

#[test]
fn a_torn_last_record_is_ignored_and_a_complete_one_without_line_end_is_not() {
    let desk = Desk::new();
    let whole = report_of((2..5).map(ok));
    let last = ok(5);
    for (tail, rows, torn) in [
        (&last[..last.len() - 1], 3, true),
        (&last[..10], 3, true),
        ("5,\"u5\nxyz", 3, true),
        ("5,u5,c\n", 3, true),
        (last.as_str(), 4, false),
        (&"\0".repeat(100_000), 3, false),
        (&(last.clone() + "\n" + &"\0".repeat(3_000_000)), 4, false),
    ] {
        desk.write("out.csv", format!("{whole}{tail}"));
        let found = json(&desk, &[]);
        assert_eq!(
            (&found["rows"], &found["torn"]),
            (&rows.into(), &torn.into()),
            "{tail:.40?}"
        );
        assert_eq!(found["damaged"], 0, "{tail:.40?}");
    }
}

#[test]
fn damaged_records_in_the_middle_are_ignored_and_reported_with_their_line() {
    let desk = Desk::new();
    for (damage, left) in [("garbage\n", 6), ("3,\"u\n", 3)] {
        let end: String = (5..8).map(|line| ok(line) + "\n").collect();
        desk.write("out.csv", report_of((2..5).map(ok)) + damage + &end);
        let outcome = desk.zim_batch(["report", "out.csv", "--json"]).run();
        outcome
            .assert_status(4)
            .assert_says(&["out.csv, line 5", "remove the line"]);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["rows"], left, "{damage:?}");
    }
}

#[test]
fn a_file_that_is_not_a_report_is_an_input_error() {
    let desk = Desk::new();
    fs::create_dir(desk.path("directory")).unwrap();
    let header = REPORT_HEADER.replace(',', ";");
    for (name, content, says) in [
        ("rows.csv", rows(3).into_bytes(), "not a report"),
        ("empty.csv", Vec::new(), "empty"),
        ("other.csv", format!("{header}\n").into_bytes(), "delimiters"),
        ("packed.gz", b"\x1f\x8b\x08\x00\x00".to_vec(), "gzip -d"),
        ("noise", (0..=255).collect(), "not a report"),
    ] {
        desk.write(name, content);
        let outcome = desk.zim_batch(["report", name, "--html", "out.html"]).run();
        outcome.assert_status(4).assert_says(&[name, says]);
        assert_eq!(outcome.stdout, "");
    }
    for missing in ["directory", "missing.csv"] {
        desk.zim_batch(["report", missing])
            .run()
            .assert_status(4)
            .assert_says(&[missing]);
    }
    assert!(!desk.has("out.html"));
}

#[test]
fn a_report_is_read_as_a_spreadsheet_saves_it_and_from_standard_input() {
    let desk = Desk::new();
    let report = report_of((2..5).map(ok));
    for form in [
        report.clone(),
        format!("\u{feff}{report}"),
        report.replace('\n', "\r\n"),
        report.trim_end().to_owned(),
    ] {
        let outcome = desk.zim_batch(["report", "-", "--json"]).stdin(form).run();
        outcome.assert_status(0);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(found["ok"], 3);
    }
}

#[test]
fn a_list_report_is_read_too() {
    let desk = Desk::new();
    desk.write(
        "out.csv",
        "line,user,outcome,conversations,code,http,message,request_id,attempts,latency_ms,finished_at\n\
         2,alice,ok,120,0,200,success,1,2,40,2026-11-25T03:00:00.000Z\n\
         3,bob,failed,0,,503,HTTP 503,,6,41,2026-11-25T03:00:01.500Z\n\
         4,,invalid,,,,user is empty,,0,,2026-11-25T03:00:01.500Z\n",
    );
    let found = json(&desk, &["--html", "out.html"]);
    for (name, value) in [
        ("rows", 3),
        ("ok", 1),
        ("failed", 1),
        ("invalid", 1),
        ("conversations", 120),
        ("requests", 8),
    ] {
        assert_eq!(found[name], value, "{name}: {found}");
    }
    let table = desk.zim_batch(["report", "out.csv"]).run();
    assert_eq!(in_table(&table.stdout, "users").as_deref(), Some("3"));
    assert_eq!(in_table(&table.stdout, "conversations").as_deref(), Some("120"));
    assert!(desk.read("out.html").contains("Users that were not listed"));
}

#[test]
fn every_invalid_row_is_named_with_its_line() {
    let desk = Desk::new();
    let lines = (2..40).map(|line| record(line, "", "invalid", "", "user is empty", 1000));
    desk.write("out.csv", report_of(lines));
    let table = desk.zim_batch(["report", "out.csv"]).run();
    let words: Vec<&str> = table.stdout.split([' ', ',', '\n']).collect();
    for line in 2..40 {
        assert!(
            words.contains(&line.to_string().as_str()),
            "line {line}: {}",
            table.stdout
        );
    }
}

#[test]
fn times_are_utc_in_json_and_local_in_the_table() {
    let desk = Desk::new();
    desk.write("out.csv", report_of([record(2, "u", "ok", "0", "", 3_600_123)]));
    let found = json(&desk, &[]);
    assert_eq!(found["first"], "2026-11-25T01:00:00.123Z");
    let table = desk.zim_batch(["report", "out.csv"]).env("TZ", "UTC-8").run();
    assert!(table.stdout.contains("2026-11-25 09:00:00 +08:00"), "{}", table.stdout);
}

#[test]
fn the_report_of_a_simulated_run_is_marked_as_simulated_everywhere() {
    let desk = Desk::new();
    desk.write(
        "out.csv",
        report_of([record(2, "u", "failed", "2", "simulated: bad parameter", 0)]),
    );
    let found = json(&desk, &["--html", "out.html"]);
    assert_eq!(found["simulated"], true);
    assert_eq!(found["reasons"][0]["message"], "bad parameter");
    let table = desk.zim_batch(["report", "out.csv"]).run();
    assert!(table.stdout.contains("simulated"), "{}", table.stdout);
    assert!(desk.read("out.html").contains("Simulated"));
}

#[test]
fn the_suggested_commands_can_be_pasted_and_overwrite_no_existing_file() {
    let desk = Desk::new();
    let name = "it's \u{7528} $(report).csv";
    let taken = "it's \u{7528} $(report).retry.csv";
    desk.write(taken, "precious\n");
    let bad = [
        record(2, "u1", "failed", "", "simulated: HTTP 503", 0),
        record(3, "u2", "outside", "660800002", "simulated: no", 50),
    ];
    desk.write(name, report_of(bad));
    let outcome = desk.zim_batch(["report", name, "--json"]).run();
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let commands: Vec<&str> = found["next"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["command"].as_str())
        .collect();
    assert_eq!(commands.len(), 2, "{found}");
    let directory = std::path::Path::new(env!("CARGO_BIN_EXE_zim-batch")).parent().unwrap();
    for command in commands {
        let status = std::process::Command::new("/bin/sh")
            .args(["-c", command])
            .current_dir(desk.path(""))
            .env("PATH", directory)
            .output()
            .unwrap();
        assert!(status.status.success(), "{command}: {status:?}");
    }
    assert_eq!(desk.read(taken), "precious\n");
    assert!(desk.has("it's \u{7528} $(report).retry2.csv"));
}

#[test]
fn ids_and_messages_are_safe_on_a_terminal_and_in_a_browser() {
    let desk = Desk::new();
    let hostile = [
        "<script>alert(1)</script>",
        "=cmd|' /C calc'!A0",
        "\u{1b}]0;pwned\u{7}",
        "\u{202e}gnp.exe",
        "\"><img src=x onerror=alert(1)>",
        "{{ 7*7 }}",
        "a\nb",
    ];
    let lines = hostile
        .iter()
        .enumerate()
        .map(|(index, id)| record(index + 2, id, "failed", "", id, index as u64));
    desk.write("<b>\u{1b}[31m.csv", report_of(lines));
    let outcome = desk
        .zim_batch(["report", "<b>\u{1b}[31m.csv", "--html", "out.html"])
        .run();
    outcome.assert_status(0);
    let page = desk.read("out.html");
    for text in [&outcome.stdout, &page] {
        let is_unsafe = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!text.contains(is_unsafe), "{text:?}");
    }
    // IDs stand in the table as they are; in the page, from which cells are pasted into spreadsheets, as text.
    assert!(outcome.stdout.contains(" =cmd|"), "{}", outcome.stdout);
    let is_formula = |line: &str| line.trim_start().starts_with("=cmd") || line.contains(">=cmd");
    assert!(!page.lines().any(is_formula), "{page}");
    assert!(
        !page.contains("<script>a") && !page.contains("<img") && !page.contains("<b>\\"),
        "{page}"
    );
    assert!(
        page.contains("&lt;script&gt;") || page.contains("&#60;script&#62;"),
        "{page}"
    );
}

#[test]
fn a_closed_pipe_on_standard_output_is_not_an_error() {
    let desk = Desk::new();
    let lines = (2..3000).map(|line| record(line, &format!("u{line}"), "invalid", "", &format!("error {line}"), 0));
    desk.write("out.csv", report_of(lines));
    let script = format!(
        "{{ '{}' report out.csv; echo $? >status; }} | true; while ! test -s status; do :; done",
        env!("CARGO_BIN_EXE_zim-batch")
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(desk.path(""))
        .output()
        .unwrap();
    assert_eq!((desk.read("status").trim(), &*output.stderr), ("0", &b""[..]));
}
