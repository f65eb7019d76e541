//! Output on terminals and pipes of all kinds, including those that nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::{PipeReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Answer, Call, Desk, Latch, Running, SECRET, Server, kind_server, named_rows, program, rows};
use console::{measure_text_width, strip_ansi_codes};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

/// A pseudo-terminal: the test's end and the program's end.
fn terminal(columns: u16) -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are pseudoterminals");
    grantpt(&ours).expect("a terminal can be had");
    unlockpt(&ours).expect("a terminal can be had");
    let name = ptsname(&ours, Vec::new())
        .expect("a terminal can be had")
        .into_string()
        .expect("a terminal can be had");
    let size = Winsize {
        ws_row: 24,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&ours, size).expect("a terminal can be had");
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let theirs = options
        .custom_flags(OFlags::NOCTTY.bits() as i32)
        .open(name)
        .expect("a terminal can be had");
    (ours.into(), theirs)
}

/// A full pipe: a write to it blocks until it is read.
fn full_pipe() -> (PipeReader, File) {
    let (reader, writer) = std::io::pipe().expect("there are few pipes");
    let mut writer = File::from(std::os::fd::OwnedFd::from(writer));
    let flags = rustix::fs::fcntl_getfl(&writer).expect("it is open");
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).expect("it is open");
    for size in [4096, 1] {
        while writer.write(&b"\n".repeat(size)).is_ok() {}
    }
    rustix::fs::fcntl_setfl(&writer, flags).expect("it is open");
    (reader, writer)
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // Reading a terminal fails after the program has ended.
        from.read_to_end(&mut bytes).ok();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs on a terminal that is read, and returns what was written to it.
fn on_terminal(call: Call, columns: u16) -> String {
    let (ours, theirs) = terminal(columns);
    let screen = read_all(ours);
    call.stderr(theirs).run();
    screen.join().expect("it only reads")
}

/// Sends signals until the program ends: several pending ones may count as one.
fn signal_until_the_end(mut running: Running) -> i32 {
    while running.is_running() {
        running.signal("TERM");
        thread::sleep(Duration::from_millis(50));
    }
    running.wait().status
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_terminal_or_pipe_that_nobody_reads_delays_no_row() {
    let (server, desk) = (kind_server(), Desk::new());
    let (_terminal, to_terminal) = terminal(80);
    let (_pipe, to_pipe) = full_pipe();
    for stderr in [to_terminal, to_pipe] {
        let call = desk
            .clear(&server, rows(1500))
            .flag("--rate", "5000")
            .arg("--overwrite");
        let call = call.arg("-vv").env("TERM", "xterm").flag("--progress", "bar");
        let outcome = call.stderr(stderr).run();
        outcome.assert_status(0).summary().assert_counts(&[("ok", 1500)]);
        assert_eq!(desk.report().len(), 1500);
    }
}

#[test]
fn a_time_limit_is_kept_if_nobody_reads_the_output() {
    let (server, desk) = (kind_server(), Desk::new());
    let (_pipe, stderr) = full_pipe();
    let call = desk.clear(&server, rows(50_000)).flag("--rate", "1000").arg("-vv");
    let outcome = call.flag("--max-duration", "1s").stderr(stderr).run();
    outcome.assert_status(7);
}

#[test]
fn two_signals_end_a_run_whose_stderr_nobody_reads() {
    let server = Server::start(|_, _| Answer::Hang(Duration::from_secs(60)));
    let desk = Desk::new();
    let (_pipe, stderr) = full_pipe();
    let call = desk.clear(&server, rows(500)).arg("-vv").flag("--timeout", "80s");
    let mut running = call.stderr(stderr).spawn();
    running.wait_until("the first request", || !server.requests().is_empty());
    assert_eq!(signal_until_the_end(running), 143);
}

#[test]
fn signals_end_a_program_whose_summary_nobody_reads() {
    let (server, desk) = (kind_server(), Desk::new());
    let (_pipe, stdout) = full_pipe();
    let mut running = desk.clear(&server, rows(3)).stdout(stdout).spawn();
    running.wait_until("the last record", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() == 4
    });
    assert_eq!(signal_until_the_end(running), 143);
}

#[test]
fn a_reader_that_continues_is_told_how_much_is_missing() {
    const ROWS: usize = 3000;
    let latch = Latch::default();
    let is_read = latch.clone();
    let server = Server::start(move |request, _| {
        if request.user() == "u3000" {
            is_read.wait();
        }
        Answer::Code(0, "success")
    });
    let desk = Desk::new();
    let (pipe, stderr) = full_pipe();
    let call = desk.clear(&server, rows(ROWS)).flag("--rate", "100000").arg("-vv");
    let mut running = call.flag("--log-format", "json").stderr(stderr).spawn();
    running.wait_until("all but the last record", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() == ROWS
    });
    let read = read_all(pipe);
    latch.open();
    running.wait().assert_status(0);
    let lines = json_lines(read.join().unwrap().trim_start());
    let missing = lines.iter().filter_map(|line| {
        let text = line["message"].as_str()?;
        let (count, _) = text.split_once(" lines are missing")?;
        count.parse::<usize>().ok()
    });
    let missing: usize = missing.sum();
    let answered = lines.iter().filter(|line| line["message"] == "answered").count();
    assert!(missing > 0, "{} lines", lines.len());
    assert!(
        (ROWS..ROWS + 100).contains(&(answered + missing)),
        "{answered} and {missing}"
    );
}

#[test]
fn everything_that_was_logged_is_written_before_the_end() {
    let (server, desk) = (kind_server(), Desk::new());
    let call = desk.clear(&server, rows(800)).flag("--rate", "5000").arg("-vv");
    let outcome = call.flag("--log-file", "run.log").run();
    outcome.assert_status(0);
    for text in [outcome.stderr, desk.read("run.log")] {
        assert_eq!(text.lines().filter(|line| line.contains("answered")).count(), 800);
        assert!(text.lines().last().is_some_and(|line| line.contains("the run ends")));
    }
}

#[test]
fn logs_have_no_colors_if_they_are_disabled() {
    let (server, desk) = (kind_server(), Desk::new());
    let logs = |name: &str, value: &str| {
        let call = desk.clear(&server, rows(3)).arg("--overwrite").arg("-vv");
        on_terminal(call.env("TERM", "xterm-256color").env(name, value), 80)
    };
    let is_colored = |text: &str| {
        let mut codes = text.split("\u{1b}[").skip(1);
        codes.any(|code| {
            code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
                .starts_with('m')
        })
    };
    assert!(is_colored(&logs("LANG", "C")), "the test would see colors");
    for (name, value) in [("NO_COLOR", "1"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
        let text = logs(name, value);
        assert!(text.contains("answered") && !is_colored(&text), "{name}: {text:?}");
    }
}

#[test]
fn no_bar_is_drawn_on_a_terminal_that_can_t_show_one() {
    let (server, desk) = (kind_server(), Desk::new());
    let call = || {
        let call = desk.clear(&server, rows(200)).arg("--overwrite");
        call.flag("--progress", "bar").env("TERM", "xterm")
    };
    assert!(on_terminal(call(), 80).contains("200 rows"), "the test would see a bar");
    for screen in [
        on_terminal(call().env("TERM", "dumb"), 80),
        on_terminal(call().without_env("TERM"), 80),
        call().run().stderr,
    ] {
        let (first, rest) = screen.split_once('\n').expect("it says where requests go");
        assert!(first.contains("requests go to"), "{screen}");
        assert_eq!(rest, "");
    }
}

#[test]
fn the_bar_never_wraps_at_any_width() {
    let server = Server::start(|request, n| match request.user().ends_with('7') {
        true if n == 1 => Answer::Code(660_000_001, "general error"),
        _ => Answer::Code(0, "success"),
    });
    for columns in [12, 40, 80, 200] {
        let desk = Desk::new();
        let call = desk.clear(&server, rows(300)).env("TERM", "vt100");
        let screen = on_terminal(call, columns);
        let lines = screen.split(['\r', '\n']).map(strip_ansi_codes);
        let bars: Vec<_> = lines.filter(|line| line.contains('%')).collect();
        assert!(bars.len() > 3, "{columns}: {screen:?}");
        for bar in &bars {
            assert!(measure_text_width(bar) < usize::from(columns), "{columns}: {bar:?}");
        }
        assert!(
            columns < 40 || bars.iter().all(|bar| bar.contains("/300 rows")),
            "{bars:?}"
        );
    }
}

#[test]
fn a_terminal_that_becomes_narrower_shows_one_bar() {
    let Some(tmux) = program(&["tmux"]) else { return };
    let (server, desk) = (kind_server(), Desk::new());
    // On a screen that is full.
    let start =
        format!("exec {tmux} -f /dev/null -S socket new-session -d -x 150 -y 20 sh -c 'seq 30; exec \"$0\" \"$@\"'");
    let call = desk.clear(&server, rows(1000)).flag("--rate", "20");
    call.started_by(&start).run().assert_status(0);
    let tmux = |args: &[&str]| {
        let mut tmux = Command::new(tmux);
        let output = tmux.arg("-S").arg(desk.path("socket")).args(args).output();
        String::from_utf8_lossy(&output.expect("it is installed").stdout).into_owned()
    };
    // The program's lines on the screen and those scrolled off it, each as it was before the terminal wrapped it.
    let lines = || {
        let screen = tmux(&["capture-pane", "-p", "-J", "-S", "-"]);
        screen
            .lines()
            .skip_while(|line| !line.contains("requests"))
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let is_one_bar = |lines: &[String], width| match lines {
        [first, bar] => {
            first.contains("requests go to") && bar.contains('%') && measure_text_width(bar.trim_end()) <= width
        }
        _ => false,
    };
    let mut wrong = None;
    for width in [150, 100, 60, 33, 120] {
        tmux(&["resize-window", "-x", &width.to_string()]);
        let until = Instant::now() + Duration::from_secs(10);
        while !is_one_bar(&lines(), width) && wrong.is_none() {
            thread::sleep(Duration::from_millis(50));
            wrong = (Instant::now() > until).then(|| (width, lines()));
        }
    }
    tmux(&["kill-server"]);
    assert_eq!(wrong, None, "the width, and the lines on the screen");
}

#[test]
fn the_title_shows_the_progress_and_is_restored() {
    let (server, desk) = (kind_server(), Desk::new());
    let on = |term: &str| {
        let call = desk.clear(&server, rows(100)).arg("--overwrite");
        on_terminal(call.env("TERM", term), 80)
    };
    let screen = on("xterm-256color");
    let (before, after) = screen.split_once("\u{1b}]0;zim-batch: ").expect("a title");
    assert!(before.ends_with("\u{1b}[22;0t"), "saved first: {screen:?}");
    let (_, end) = after.rsplit_once("\u{1b}]0;").expect("a title");
    assert!(end.starts_with("\u{7}\u{1b}[23;0t"), "restored last: {screen:?}");
    assert!(!on("linux").contains("\u{1b}]"), "no title");
}

#[test]
fn with_json_logs_every_line_is_json_and_the_command_that_resumes_is_a_field() {
    let server = Server::start(|_, _| Answer::Code(100_000_017, "service not enabled"));
    let desk = Desk::new();
    let call = desk.clear(&server, rows(5)).flag("--log-format", "json").arg("-v");
    let outcome = call.run();
    outcome.assert_status(6);
    let lines = json_lines(&outcome.stderr);
    for line in &lines {
        assert!(
            line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')),
            "{line}"
        );
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let resume: Vec<&str> = lines.iter().filter_map(|line| line["resume"].as_str()).collect();
    assert!(
        matches!(resume[..], [command] if command.contains("--resume")),
        "{lines:?}"
    );
    let stopped = lines
        .iter()
        .find(|line| line["message"].as_str().unwrap().starts_with("stopped: "));
    assert_eq!(stopped.unwrap()["level"], "ERROR");

    for wrong in [
        &["clear", "rows.csv", "--timeout", "10"][..],
        &["clear", "no-such-file.csv"],
        &["check", "no-such-file.csv"],
        &["clear", "rows.csv", "--log-file", "no-such-directory/run.log"],
    ] {
        let outcome = desk.zim_batch(wrong).flag("--log-format", "json").run();
        let lines = json_lines(&outcome.stderr);
        assert!(outcome.status != 0 && lines.len() == 1, "{outcome:?}");
        assert_eq!(lines[0]["level"], "ERROR");
    }
}

#[test]
fn a_log_file_collects_the_logs_of_all_runs_with_timestamps_and_is_private() {
    let (server, desk) = (kind_server(), Desk::new());
    let run = |format: &str| {
        let call = desk.clear(&server, rows(3)).arg("--overwrite").arg("-v");
        let outcome = call.flag("--log-file", "run.log").flag("--log-format", format).run();
        outcome.assert_status(0);
        desk.read("run.log")
    };
    let first = run("text");
    let mode = fs::metadata(desk.path("run.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let expected = [
        "line 1 is the header",
        "requests go to",
        "the run begins",
        "the run ends",
    ];
    assert_eq!(first.lines().count(), expected.len(), "{first}");
    for (line, what) in first.lines().zip(expected) {
        let time: String = line.chars().take(24).collect();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{line}");
        assert!(line.contains(what), "{first}");
    }
    let both = run("json");
    let second = both
        .strip_prefix(&first)
        .expect("the first run's lines are still there");
    assert_eq!(json_lines(second).len(), expected.len());
    assert!(second.contains("127.0.0.1") && !second.contains(SECRET), "{second}");
}

#[test]
fn a_log_file_that_cannot_be_opened_is_exit_2_and_nothing_is_started() {
    let (server, desk) = (kind_server(), Desk::new());
    for file in [
        "no/such/directory/run.log",
        ".",
        "rows.csv",
        "out.csv",
        "out.outside.csv",
    ] {
        let outcome = desk.clear(&server, rows(3)).flag("--log-file", file).run();
        outcome.assert_status(2).assert_says(&[file, "choose another one"]);
        assert!(!desk.has("out.csv") && !desk.has("out.outside.csv"), "{file}");
        assert_eq!(desk.read("rows.csv"), rows(3), "{file}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_full_disk_costs_only_the_log_and_is_reported_once() {
    let (server, desk) = (kind_server(), Desk::new());
    let call = desk.clear(&server, rows(50)).arg("-vv").flag("--log-file", "/dev/full");
    let outcome = call.run();
    outcome.assert_status(0).assert_says(&["/dev/full", "No space left"]);
    assert_eq!(outcome.stderr.matches("/dev/full").count(), 1, "{}", outcome.stderr);
}

#[test]
fn sigusr1_prints_the_progress_and_changes_nothing() {
    let latch = Latch::default();
    let is_asked = latch.clone();
    let server = Server::start(move |request, _| {
        if request.user() == "last" {
            is_asked.wait();
        }
        Answer::Code(0, "success")
    });
    let desk = Desk::new();
    let call = desk.clear(&server, named_rows(["a", "b", "last"])).arg("-q");
    let call = call.flag("--log-format", "json").flag("--log-file", "run.log");
    let mut running = call.spawn();
    running.wait_until("two records", || {
        desk.has("out.csv") && desk.read("out.csv").lines().count() == 3
    });
    running.signal("USR1");
    running.wait_until("the answer", || desk.read("run.log").contains("2/3 rows"));
    latch.open();
    let outcome = running.wait();
    outcome.assert_status(0).summary().assert_counts(&[("ok", 3)]);
    let lines = json_lines(&outcome.stderr);
    assert_eq!(
        (lines.len(), &lines[0]["done"], &lines[0]["rows"]),
        (1, &2.into(), &3.into())
    );
    assert!(
        lines[0]["message"].as_str().unwrap().starts_with("2/3 rows, ok 2"),
        "{lines:?}"
    );
}

#[test]
fn a_run_without_a_server_says_why_from_the_first_failure_on() {
    let gone = kind_server().url(); // nobody listens there any more
    let desk = Desk::new();
    desk.write("rows.csv", rows(2));
    let call = desk.clear_with(&gone, "rows.csv").flag("--report", "out.csv");
    let mut running = call.flag("--log-file", "run.log").spawn();
    running.wait_until("the report", || desk.has("out.csv"));
    while !desk.read("run.log").contains("refused") {
        running.signal("USR1");
        thread::sleep(Duration::from_millis(50));
    }
    running.signal("INT");
    let outcome = running.wait();
    outcome.assert_status(130).assert_says(&["did not answer", "refused"]);
    let last = outcome.stdout.lines().find(|line| line.starts_with("last error"));
    assert!(last.is_some_and(|line| line.contains("refused")), "{outcome:?}");
}
