//! What is shown on the terminal and written to the log file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::support::{Desk, kind_server, rows};

#[test]
fn a_mark_that_reverses_text_is_escaped_wherever_a_path_is_shown() {
    let (desk, server) = (Desk::new(), kind_server());
    let name = "rows\u{202e}vsc.csv";
    desk.write(name, rows(3) + "u,,0\n");
    let run = |flags: &[&str]| {
        let call = desk.clear_with(&server.url(), name).flag("--log-file", "run.log");
        flags.iter().fold(call, |call, flag| call.arg(flag)).arg("-vv").run()
    };
    let outcomes = [
        run(&[]),
        run(&[]),
        run(&["--resume", "--log-format=json"]),
        run(&["--overwrite", "--limit=1"]),
        run(&["--report=no-such-directory/\u{202e}.csv"]),
        run(&["--name=\u{202e}"]),
        desk.zim_batch(["check", name]).run(),
        desk.zim_batch(["report", "rows\u{202e}vsc.report.csv"]).run(),
        desk.zim_batch(["report", "\u{202e}"]).run(),
        desk.zim_batch(["codes", "\u{202e}"]).run(),
    ];
    for outcome in outcomes {
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!said.contains('\u{202e}'), "{said}");
    }
    let log = desk.read("run.log");
    assert!(
        !log.contains('\u{202e}') && log.contains("\\u{202e}") && log.contains("\\u202e"),
        "{log}"
    );
}

#[test]
fn a_log_file_that_is_moved_is_created_anew() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(60)).flag("--rate", "20").arg("-vv");
    let mut running = call.flag("--log-file", "run.log").spawn();
    running.wait_until("the run is under way", || server.requests().len() > 5);
    fs::rename(desk.path("run.log"), desk.path("run.log.1")).unwrap();
    running.wait().assert_status(0);
    let (moved, new) = (desk.read("run.log.1"), desk.read("run.log"));
    assert!(
        moved.contains("the run begins") && !moved.contains("the run ends"),
        "{moved}"
    );
    assert!(!new.contains("the run begins") && new.contains("the run ends"), "{new}");
    let mode = fs::metadata(desk.path("run.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn sigusr1_ends_no_command() {
    let desk = Desk::new();
    let (stdin, mut rows_of_check) = std::io::pipe().unwrap();
    let mut check = desk.zim_batch(["check", "-"]).stdin_from(stdin).spawn();
    let mut simulate = desk.zim_batch(["simulate", "--events", "events.jsonl"]).spawn();
    simulate.wait_until("it is ready", || desk.has("events.jsonl"));
    const USR1: u64 = 1 << 9;
    const TERM: u64 = 1 << 14;
    for (running, handled_signals) in [(&mut check, USR1), (&mut simulate, USR1 | TERM)] {
        let handled = format!("/proc/{}/status", running.id());
        let began = Instant::now();
        running.wait_until("it handles signals", || {
            let status = fs::read_to_string(&handled).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
            caught.is_some_and(|mask| mask & handled_signals == handled_signals)
                || began.elapsed() > Duration::from_secs(2)
        });
        running.signal("USR1");
    }
    rows_of_check.write_all(rows(2).as_bytes()).unwrap();
    drop(rows_of_check);
    check.wait().assert_status(0);
    simulate.signal("TERM");
    simulate.wait().assert_status(0);
}
