//! `zim-batch check`: checks rows without sending any.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Desk, Outcome, kind_server, rows};
use serde_json::{Value, json};

/// Two valid rows, and an example of every finding.
const MIXED: &str = "user,conv,type\n\
    a,b,0\n\
    a,#g,group\n\
    ,b,0\n\
    a,b,peer\n\
    a,b,3\n\
    a,b\n\
    é, b,0\n\
    a,\"b\nc\",0\n\
    a,b ,0\n\
    a,b,0\n\
    ,c,\n";

fn check(desk: &Desk, args: &[&str]) -> Outcome {
    desk.zim_batch(["check"].iter().chain(args)).run()
}

#[track_caller]
fn found(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stderr, "");
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout))
}

#[test]
fn all_findings_are_in_the_json() {
    let desk = Desk::new();
    desk.write("rows.csv", MIXED);

    let outcome = check(&desk, &["rows.csv", "--json"]);

    outcome.assert_status(3);
    let found = found(&outcome);
    for (key, value) in [
        ("rows", json!(11)),
        ("valid", json!(7)),
        ("invalid", json!(4)),
        ("peer", json!(6)),
        ("group", json!(1)),
        ("users", json!(2)),
        ("duplicates", json!(2)),
        ("duplicate_lines", json!([5, 12])),
        ("to_send", json!(7)),
        ("rate", json!(20.0)),
        ("seconds_at_rate", json!(0.35)),
        ("busy_users", json!([])),
    ] {
        assert_eq!(found[key], value, "{key} in {found}");
    }
    let kinds = |key: &str| -> Vec<(String, u64, Value)> {
        let kinds = found[key].as_array().unwrap().iter();
        let kind = |kind: &Value| {
            let what = kind["what"].as_str().unwrap().to_owned();
            (what, kind["rows"].as_u64().unwrap(), kind["first_lines"].clone())
        };
        kinds.map(kind).collect()
    };
    let invalid = kinds("invalid_kinds");
    let has = |kinds: &[(String, u64, Value)], part: &str, lines: &[u64]| {
        let (rows, lines) = (lines.len() as u64, json!(lines));
        assert!(
            kinds
                .iter()
                .any(|kind| kind.0.contains(part) && kind.1 == rows && kind.2 == lines),
            "{part} {lines}: {kinds:?}"
        );
    };
    has(&invalid, "user is empty", &[4, 13]);
    has(&invalid, "type is not 0, peer, 2 or group", &[6]);
    has(&invalid, "type is missing", &[7]);
    assert_eq!(invalid.len(), 3, "{invalid:?}");
    let warnings = kinds("warning_kinds");
    has(&warnings, "user has a character", &[8]);
    has(&warnings, "conv has a line break", &[9]);
    has(&warnings, "conv begins or ends with a blank", &[8, 11]);
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(found["warnings"].as_u64() >= Some(3), "{found}");
}

#[test]
fn the_table_shows_the_first_lines_of_each_kind_and_what_to_run() {
    let desk = Desk::new();
    desk.write("my rows.csv", MIXED);

    let outcome = check(&desk, &["my rows.csv"]);

    outcome.assert_status(3);
    for line in [
        "rows 11 6 to peers, 1 to groups, of 2 users",
        "invalid 4 never sent",
        "2 user is empty; lines 4, 13",
        "1 type is not 0, peer, 2 or group; line 6",
        "1 type is missing; line 7",
        "duplicates 2 each is sent, unless --dedupe is given; lines 5, 12",
        "2 conv begins or ends with a blank, which is part of the ID; lines 8, 11",
        "requests 7 at 20/s: 1s",
        "to run it zim-batch clear 'my rows.csv' --report",
    ] {
        let is_said = outcome.stdout.lines().any(|found| {
            let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
            found.starts_with(line)
        });
        assert!(is_said, "`{line}` is not in\n{}", outcome.stdout);
    }
    assert_eq!(outcome.stderr, "");
    desk.write("one.csv", "user,conv,type\na,b,0\n");
    assert!(check(&desk, &["one.csv"]).stdout.contains(", of 1 user\n"));
}

#[test]
fn the_first_five_lines_of_a_kind_are_named_and_all_are_counted() {
    let desk = Desk::new();
    let csv = "user,conv,type\n".to_owned() + &"a,b,7\n".repeat(50) + &"é,b,0\n".repeat(50);
    desk.write("rows.csv", csv);

    let outcome = check(&desk, &["rows.csv", "--json"]);

    let found = found(&outcome);
    assert_eq!(found["invalid_kinds"][0]["first_lines"], json!([2, 3, 4, 5, 6]));
    assert_eq!(found["invalid_kinds"][0]["rows"], 50);
    assert_eq!(found["warning_kinds"][0]["first_lines"], json!([52, 53, 54, 55, 56]));
    assert_eq!(
        (&found["duplicates"], &found["duplicate_lines"]),
        (&json!(49), &json!([53, 54, 55, 56, 57]))
    );
}

#[test]
fn the_exit_status_distinguishes_valid_rows_invalid_rows_and_unusable_input() {
    let desk = Desk::new();
    for (csv, status) in [
        ("user,conv,type\n", 0),
        ("user,conv,type\na,b,0\n", 0),
        ("user,conv,type\né, b ,0\né, b ,0\n", 0), // warnings and duplicates are not failures
        ("user,conv,type\na,b,0\na,b\n", 3),
        ("who,conv,type\na,b,0\n", 4),
        ("", 4),
    ] {
        desk.write("rows.csv", csv);
        for json in [&["rows.csv"][..], &["rows.csv", "--json"]] {
            let outcome = check(&desk, json);
            outcome.assert_status(status);
            // With --json there is always an object, even after an error.
            let is_silent = status == 4 && json.len() == 1;
            assert_eq!(outcome.stdout.is_empty(), is_silent, "{csv:?}: {outcome:?}");
            assert_eq!(outcome.stderr.is_empty(), status != 4, "{csv:?}: {outcome:?}");
        }
    }
}

#[test]
fn check_and_dry_run_need_no_credentials_send_nothing_and_write_nothing() {
    let (desk, server) = (Desk::new(), kind_server());
    let before = desk.clear(&server, MIXED); // writes the rows
    drop(before);
    let plain = check(&desk, &["rows.csv", "--json"]);
    for args in [
        vec!["clear", "rows.csv", "--dry-run", "--json"],
        vec![
            "clear",
            "rows.csv",
            "--dry-run",
            "--json",
            "--report",
            "nowhere/out.csv",
        ],
    ] {
        let call = desk.zim_batch(args).flag("--endpoint", &server.url());
        let dry = call.run();
        dry.assert_status(3);
        assert_eq!(dry.stdout, plain.stdout);
    }
    let files: Vec<_> = fs::read_dir(desk.path("."))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!((files, server.connections()), (vec!["rows.csv".into()], 0));
}

#[test]
fn a_list_of_users_is_counted_as_users() {
    let desk = Desk::new();
    for (csv, columns) in [
        (
            "user,name\nann,Ann\nben,Ben\nann,A.\n,x\n",
            "line 1 is the header; user is column 1",
        ),
        ("ann\nben\nann\n\"\"\n", "no header; user is column 1"),
        ("uid\nann\nben\nann\n\"\"\n", "line 1 is the header; user is column 1"),
    ] {
        desk.write("users.csv", csv);
        let text = check(&desk, &["users.csv", "--rate", "5"])
            .assert_status(3)
            .stdout
            .clone();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            &format!("columns {columns}"),
            "users 4 2 of them different",
            "invalid 1 never sent",
            "requests 2 or more, to list them; at 5/s: 1s or more",
            "to clear them zim-batch clear --users users.csv --report out.csv --rate 5",
            "to list them zim-batch list users.csv --rate 5",
        ] {
            assert!(lines.iter().any(|found| found == line), "`{line}` is not in\n{text}");
        }
        let json = check(&desk, &["users.csv", "--json"]).stdout;
        let streamed = desk.zim_batch(["check", "-", "--json"]).stdin(csv).run().stdout;
        assert_eq!(json, streamed);
    }
    // These are rows with a mistake, and clear does not take users.
    for csv in [
        "user,conv\nann,ben\n",
        "ann,ben,1\n",
        "who,conv,type\nann,ben,0\n",
        "ann|ben|0\n",
    ] {
        desk.write("rows.csv", csv);
        let outcome = check(&desk, &["rows.csv"]);
        outcome
            .assert_status(4)
            .assert_says(&["no column for", "rows.csv, line 1"]);
    }
    desk.write("users.csv", "user\nann\n");
    let dry = desk.zim_batch(["clear", "users.csv", "--dry-run"]).run();
    dry.assert_status(4)
        .assert_says(&["no column for conv, type", "zim-batch list"]);
}

#[test]
fn standard_input_and_pipes_are_checked_like_files() {
    let desk = Desk::new();
    desk.write("rows.csv", MIXED);
    let file = check(&desk, &["rows.csv", "--json"]);
    let call = desk.zim_batch(["check", "-", "--json"]).stdin(MIXED);
    assert_eq!(call.run().assert_status(3).stdout, file.stdout);
    let call = desk.zim_batch(["check", "/dev/stdin", "--json"]).stdin(MIXED);
    assert_eq!(call.run().assert_status(3).stdout, file.stdout);
}

#[test]
fn the_estimated_time_is_that_of_the_rows_to_send_at_the_given_rate() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(90) + &"u1,cu1,0\n".repeat(10) + ",c,\n");
    let seconds = |args: &[&str]| {
        let args = [&["rows.csv", "--json"], args].concat();
        let found = found(&check(&desk, &args));
        (
            found["to_send"].as_u64().unwrap(),
            found["seconds_at_rate"].as_f64().unwrap(),
        )
    };
    assert_eq!(seconds(&[]), (100, 5.0));
    assert_eq!(seconds(&["--dedupe"]), (90, 4.5));
    assert_eq!(seconds(&["--rate", "50"]), (100, 2.0));
    assert_eq!(seconds(&["--rate", "0.5", "--dedupe"]), (90, 180.0));

    desk.write("many.csv", rows(72_001));
    let outcome = check(&desk, &["many.csv"]);
    assert!(
        outcome.stdout.contains("1h 1s"),
        "3600.05 s, rounded up: {}",
        outcome.stdout
    );
}

#[test]
fn users_with_more_conversations_than_can_be_reached_are_named() {
    let desk = Desk::new();
    let conversations = |user: &str, count: usize| -> String {
        let csv = (0..count).map(|number| format!("{user},c{number},0\n"));
        csv.collect()
    };
    let csv = "user,conv,type\n".to_owned()
        + &conversations("just", 1000)
        + &conversations("over", 1001)
        + &"again,same,0\n".repeat(1500) // one conversation
        + &conversations("far over", 1300)
        + &"far over,c1,0\n".repeat(9);
    desk.write("rows.csv", &csv);

    let busy = json!([
        {"user": "far over", "conversations": 1300, "first_line": 3503},
        {"user": "over", "conversations": 1001, "first_line": 1002},
    ]);
    assert_eq!(found(&check(&desk, &["rows.csv", "--json"]))["busy_users"], busy);
    let text = check(&desk, &["rows.csv"]).stdout;
    assert!(
        text.contains("'far over', from line 3503") && text.contains("'over', from line 1002"),
        "{text}"
    );
    // Standard input can't be read again for the names.
    let streamed = desk.zim_batch(["check", "-", "--json"]).stdin(csv).run();
    assert_eq!(found(&streamed)["busy_users"][1]["first_line"], 1002);
}

#[test]
fn rows_that_are_equal_only_when_concatenated_are_not_duplicates() {
    let desk = Desk::new();
    desk.write(
        "rows.csv",
        "user,conv,type\nab,c,0\na,bc,0\nabc,0,0\nabc,0,2\na,b,0\nA,b,0\n a,b,0\na,b ,0\n",
    );
    let found = found(&check(&desk, &["rows.csv", "--json"]));
    assert_eq!((&found["duplicates"], &found["users"]), (&json!(0), &json!(5)));
}

#[test]
fn a_report_is_checked_in_the_same_way_as_clear_reads_it() {
    let desk = Desk::new();
    let report =
        "line,user,conv,type,outcome,code\n2,a,b,0,ok,0\n3,c,d,0,failed,1\n4,,d,0,invalid,\n5,e,f,2,outside,1\n";
    desk.write("out.csv", report);
    let rows = |only: &str| {
        let found = found(&check(&desk, &["out.csv", "--only", only, "--json"]));
        (found["rows"].as_u64().unwrap(), found["invalid"].as_u64().unwrap())
    };
    assert_eq!(rows("failed"), (1, 0));
    assert_eq!(rows("outside,failed"), (2, 0));
    assert_eq!(rows("invalid,skipped"), (1, 1));
    assert_eq!(rows("all"), (4, 1));
    let outcome = desk
        .zim_batch(["check", "-", "--only", "failed"])
        .stdin("user,conv,type\n")
        .run();
    outcome
        .assert_status(4)
        .assert_says(&["standard input", "--only", "outcome"]);
}

/// Runs the command that check prints in a shell, with a simulator for ZIM.
fn run_printed_command(desk: &Desk, args: &[&str]) -> std::process::Output {
    let said = check(desk, args).assert_status(0).stdout.clone();
    let command = said
        .lines()
        .find_map(|line| line.strip_prefix("to run it"))
        .expect("it says what to run");
    let command = command.replacen("zim-batch clear", "zim-batch clear --simulate", 1);
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_zim-batch"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    Command::new("sh")
        .args(["-c", &command])
        .current_dir(desk.path("."))
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn assert_runs(desk: &Desk, args: &[&str]) {
    let output = run_printed_command(desk, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    for file in ["out.csv", "out.outside.csv", "out.runs.jsonl"] {
        fs::remove_file(desk.path(file)).expect("it wrote its results");
    }
}

#[test]
fn the_command_that_check_prints_runs_what_was_checked() {
    let desk = Desk::new();
    fs::create_dir(desk.path("it's here")).unwrap();
    desk.write("it's here/rows $HOME.csv", "user,conv,type\na,b,0\n");
    assert_runs(&desk, &["it's here/rows $HOME.csv"]);
    desk.write("odd.txt", b"My ID|Room's|k\n\xd3\xc3|b|0\n\xd3\xc3|b|0\n");
    let columns = "user=My ID,conv=Room's,type=k";
    assert_runs(
        &desk,
        &[
            "odd.txt",
            "--delimiter",
            "|",
            "--encoding",
            "gb2312",
            "--columns",
            columns,
            "--dedupe",
            "--rate",
            "33.5",
        ],
    );
    desk.write("tabs.csv", "user\tconv\ttype\na\tb\t0\n");
    assert_runs(&desk, &["tabs.csv", "--delimiter", "tab"]);
    assert_runs(&desk, &["tabs.csv", "--delimiter", "\t"]);
    desk.write("old.csv", "user,conv,type,outcome\na,b,0,failed\na,b,0,ok\n");
    assert_runs(&desk, &["old.csv", "--only", "failed,outside"]);
}

#[test]
fn the_command_for_a_report_does_not_write_over_it() {
    let desk = Desk::new();
    desk.write("out.csv", "user,conv,type,outcome\na,b,0,failed\n");
    let output = run_printed_command(&desk, &["out.csv", "--only", "failed"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_command_for_a_file_that_looks_like_a_flag_can_be_run() {
    let desk = Desk::new();
    desk.write("-rows.csv", "user,conv,type\na,b,0\n");
    let output = run_printed_command(&desk, &["--", "-rows.csv"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_in_an_id_reaches_the_terminal_as_a_control_character() {
    let desk = Desk::new();
    let rows = (0..1001).map(|number| format!("\"\x1b[2J\nu\",\"c{number}\x07\",0\n"));
    desk.write("rows.csv", "user,conv,type\n".to_owned() + &rows.collect::<String>());
    let text = check(&desk, &["rows.csv"]).stdout;
    assert!(
        text.lines().count() < 12 && !text.contains(['\x1b', '\x07']),
        "{text:?}"
    );
}

#[test]
fn a_closed_pipe_on_standard_output_is_not_an_error() {
    let desk = Desk::new();
    desk.write("rows.csv", MIXED);
    let output = Command::new("sh")
        .args([
            "-c",
            "\"$ZIM_BATCH\" check rows.csv | true; \"$ZIM_BATCH\" check rows.csv >&-; echo $?",
        ])
        .env("ZIM_BATCH", env!("CARGO_BIN_EXE_zim-batch"))
        .current_dir(desk.path("."))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).matches("panicked").count(),
        0,
        "{output:?}"
    );
}

/// A few bytes per row: the rows themselves would take far more.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_rows_text() {
    const ROWS: usize = 50_000;
    let desk = Desk::new();
    let peak = |rows: usize| {
        let mut csv = String::from("user,conv,type\n");
        for number in 0..rows {
            csv += &format!("a user with a long ID {number:010},and a conversation too {number:09},peer\n");
        }
        // Once the last row is in the pipe, all before it are read but the pipe's 64 KiB.
        let mut child = Command::new(env!("CARGO_BIN_EXE_zim-batch"))
            .args(["check", "-"])
            .current_dir(desk.path("."))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(csv.as_bytes()).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak: usize = peak.trim().trim_end_matches(" kB").parse().unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
        peak * 1024
    };
    let per_row = peak(ROWS).saturating_sub(peak(2000)) / ROWS;
    assert!(per_row < 60, "{per_row} bytes a row");
}
