//! `--resume` after any end of a run: rows with a record are done, others are not.

mod fixed_rows;
mod many_rows;
mod other_programs;
mod outside_log;
mod simulated;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::{
    APP_ID, Answer, Desk, Outcome, REPORT_HEADER, SECRET, Server, kind_server, named_rows, read_report, rows, signals,
};

const SECOND: Duration = Duration::from_secs(1);

/// Rows with line ends and quotes in their IDs, which make the end of a record hard to find.
const AWKWARD: &str = "user,conv,type\na,c,0\n\"b\nb\",\"c \"\"1\"\"\",2\nout,\"c,\n2\",0\n\"e\r\ne\",\"\"\"\n\",0\n";

/// Answers outside for users that begin with `out`, success for others.
fn sorting_server() -> Server {
    Server::start(|request, _| {
        if request.user().starts_with("out") {
            Answer::Code(660_800_002, "no \"such\"\nconversation")
        } else {
            Answer::Code(0, "success")
        }
    })
}

/// The users of a report or an outside log.
fn users(path: &Path) -> Vec<String> {
    let mut users: Vec<_> = read_report(path).into_iter().map(|record| record.user).collect();
    users.sort();
    users
}

/// Runs the printed command in a shell.
#[track_caller]
fn run_printed_command(desk: &Desk, outcome: &Outcome) -> Option<i32> {
    let (_, command) = outcome
        .stderr
        .lines()
        .find_map(|line| line.split_once("to resume this run: "))
        .unwrap_or_else(|| panic!("no command that resumes: {}", outcome.stderr));
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(desk.path(""))
        .env("ZIM_APP_ID", APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
        .output();
    output.expect("there is a shell").status.code()
}

#[test]
fn wherever_a_report_is_torn_it_is_completed() {
    let (desk, server) = (Desk::new(), sorting_server());
    desk.clear(&server, AWKWARD).run().assert_status(0);
    let whole = fs::read(desk.path("out.csv")).unwrap();
    assert_eq!(users(&desk.path("out.csv")), ["a", "b\nb", "e\r\ne", "out"]);

    // Some lengths in every record. Another test tries every length, without the program.
    let lengths: Vec<_> = (0..whole.len())
        .filter(|length| *length < 2 || length % 23 == 0 || *length + 3 > whole.len())
        .collect();
    thread::scope(|scope| {
        for half in lengths.chunks(lengths.len().div_ceil(2)) {
            let (whole, server) = (&whole, &server);
            scope.spawn(move || {
                let desk = Desk::new();
                for length in half {
                    desk.write("out.csv", &whole[..*length]);
                    desk.write("out.outside.csv", "line,user,conv,ty");
                    let outcome = desk.clear(server, AWKWARD).flag("--rate", "5000").arg("--resume").run();
                    assert_eq!(outcome.status, 0, "cut to {length} bytes: {}", outcome.stderr);
                    let report = users(&desk.path("out.csv"));
                    assert_eq!(report, ["a", "b\nb", "e\r\ne", "out"], "cut to {length} bytes");
                    assert_eq!(users(&desk.path("out.outside.csv")), ["out"], "cut to {length} bytes");
                    let kept = fs::read(desk.path("out.csv")).unwrap();
                    let summary = outcome.summary();
                    let done = summary.count("already_done");
                    assert_eq!(summary.count("requests"), 4 - done, "cut to {length} bytes");
                    assert!(kept.starts_with(REPORT_HEADER.as_bytes()), "cut to {length} bytes");
                }
            });
        }
    });
    server.assert_well_formed();
}

#[test]
fn what_a_power_cut_leaves_after_the_last_record_is_dropped() {
    let (desk, server) = (Desk::new(), sorting_server());
    desk.clear(&server, rows(5)).run().assert_status(0);
    let whole = fs::read(desk.path("out.csv")).unwrap();
    let two_lost = whole.len() - 150;
    let tails: [&[u8]; 7] = [
        &[0; 4096],
        &[0; 100_000],
        b"7,u6,c",
        b"7,\"u6",
        b"7,u6,cu6,0,ok,0,200,success,1,1,3,2026-01-01T00:00:00.00",
        b"\xff\xfe\x00garbage\n\x00\x00",
        b"7,u6,cu6,0,perhaps,0,200,success,1,1,3,2026-01-01T00:00:00.000Z\n",
    ];
    for (index, tail) in tails.into_iter().enumerate() {
        for keep in [whole.len(), two_lost] {
            desk.write("out.csv", [&whole[..keep], tail].concat());
            let outcome = desk.clear(&server, rows(5)).arg("--resume").run();
            assert_eq!(outcome.status, 0, "tail {index} after {keep} bytes: {}", outcome.stderr);
            assert_eq!(desk.report_by_user().len(), 5, "tail {index} after {keep} bytes");
        }
    }
}

#[test]
fn a_report_that_is_damaged_in_the_middle_is_refused_and_left_unchanged() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(5)).run().assert_status(0);
    let whole = desk.read("out.csv");
    let lines: Vec<_> = whole.lines().collect();
    let damaged = |line: usize, by: &str| {
        let mut lines = lines.clone();
        lines[line - 1] = by;
        lines.join("\n") + "\n"
    };
    let cases = [
        (damaged(3, "\0\0\0\0"), "line 3"),
        (damaged(4, "4,u3"), "line 4"),
        (damaged(3, lines[4]), "line"), // a row with two records
        (damaged(1, "not,a,report"), "out.csv"),
    ];
    std::fs::remove_file(desk.path("out.outside.csv")).unwrap();
    for (report, says) in cases {
        desk.write("out.csv", &report);
        let outcome = desk.clear(&server, rows(5)).arg("--resume").run();
        outcome.assert_status(4).assert_says(&["out.csv", says]);
        assert_eq!(desk.read("out.csv"), report, "it was changed");
        assert!(!desk.has("out.outside.csv"), "a file was left beside it");
    }
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn changed_or_removed_rows_are_refused_with_their_line_before_anything_is_sent() {
    let (desk, server) = (Desk::new(), sorting_server());
    let users = ["a", "b", "out", "d", "e"];
    desk.clear(&server, named_rows(users)).run().assert_status(0);
    let (report, outside) = (desk.read("out.csv"), desk.read("out.outside.csv"));
    let changed = [
        (named_rows(["a", "x", "out", "d", "e", "new"]), "line 3"),
        (named_rows(["a", "b", "out", "d"]), "line 6"),
        (named_rows(["new", "a", "b", "out", "d", "e"]), "line 2"),
        (named_rows(["a", "b", "d", "e"]), "line 4"),
        (named_rows(users).replace("cd,0", "cd,2"), "line 5"),
        (named_rows(users).replace("d,cd,0", "d,,0"), "line 5"),
        (named_rows(users).replace("\nb,", "\n\nb,"), "line 3"),
        ("user,conv,type\n".into(), "line 2"),
    ];
    for (csv, says) in &changed {
        for from_stdin in [false, true] {
            let call = desk.clear(&server, csv).arg("--resume");
            let outcome = if from_stdin {
                let call = desk.clear_with(&server.url(), "-").flag("--report", "out.csv");
                call.arg("--resume").stdin(csv.as_bytes()).run()
            } else {
                call.run()
            };
            outcome.assert_status(4).assert_says(&[says]);
            assert_eq!(
                (desk.read("out.csv"), desk.read("out.outside.csv")),
                (report.clone(), outside.clone())
            );
        }
    }
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn rows_with_another_spelling_of_the_type_are_the_same_rows() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, "user,conv,type\na,c,peer\nb,\"d\",2\n")
        .run()
        .assert_status(0);
    let same = [
        "\u{feff}FromUserId;ConvId;ConvType\r\n\"a\";c; PEER\r\nb;d;Group\r\n",
        "note,type,user,conv\nx,0,a,c\ny,2,b,d\n",
        "user,conv,type\na,c,0\nb,d,group",
    ];
    for csv in same {
        let outcome = desk.clear(&server, csv).arg("--resume").run();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("already_done", 2), ("requests", 0)]);
    }
}

#[test]
fn one_form_of_the_command_serves_for_every_night() {
    let (desk, server) = (Desk::new(), sorting_server());
    let users: Vec<_> = (0..100)
        .map(|n| {
            if n % 10 == 3 {
                format!("out{n}")
            } else {
                format!("u{n}")
            }
        })
        .collect();
    let mut nights = 0;
    loop {
        nights += 1;
        if nights == 2 {
            fs::remove_file(desk.path("out.outside.csv")).unwrap(); // removed by the user
        }
        let call = desk.clear(&server, named_rows(&users)).arg("--resume");
        // At most 41 rows in a night.
        let outcome = call.flag("--rate", "100").flag("--max-duration", "400ms").run();
        if outcome.status == 0 {
            break;
        }
        outcome.assert_status(7).assert_says(&["--max-duration", "--resume"]);
        let sent = server.requests().len() as u64;
        outcome
            .summary()
            .assert_counts(&[("rows", 100), ("not_run", 100 - sent)]);
        assert!(nights < 100, "it comes to no end");
    }
    assert!(nights >= 3, "{nights} nights");
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (100, 100));
    assert_eq!(read_report(&desk.path("out.outside.csv")).len(), 10);

    desk.write("out.csv", "");
    fs::remove_file(desk.path("out.outside.csv")).unwrap(); // its rows could not be distinguished from another report's
    desk.clear(&server, rows(2)).arg("--resume").run().assert_status(0);
    assert_eq!(desk.report().len(), 2, "an empty report is none");
}

#[test]
fn after_a_signal_requests_in_flight_are_finished_and_the_printed_command_resumes() {
    let end = |signal: &str, status: i32| {
        if signals::is_ignored(signal) {
            return;
        }
        let server = Server::start(|_, _| Answer::After(SECOND / 2, Box::new(Answer::Code(0, "success"))));
        let desk = Desk::new();
        let odd = desk.path("it's a report.csv");
        let call = desk.clear(&server, rows(400));
        let mut running = call.flag("--report", odd.to_str().unwrap()).spawn();
        running.wait_until("rows are in flight", || server.requests().len() >= 30);
        running.signal(signal);
        let outcome = running.wait();

        outcome.assert_status(status);
        let sent = server.requests().len();
        assert!(sent < 400, "{signal}: rows were sent after the signal");
        let summary = outcome.summary();
        summary.assert_counts(&[
            ("ok", sent as u64),
            ("not_run", 400 - sent as u64),
            ("requests", sent as u64),
        ]);
        assert_eq!(
            read_report(&odd).len(),
            sent,
            "{signal}: every row that was sent is on record"
        );

        assert_eq!(
            run_printed_command(&desk, &outcome),
            Some(0),
            "{signal}: {}",
            outcome.stderr
        );
        assert_eq!(
            (read_report(&odd).len(), server.requests().len()),
            (400, 400),
            "{signal}"
        );
    };
    thread::scope(|scope| {
        for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            scope.spawn(move || end(signal, status));
        }
    });
}

#[test]
fn a_drain_takes_at_most_one_attempt_and_a_second_signal_stops_immediately() {
    // The second signal does not wait for the time-out, which is longer than a test's patience.
    let drain = |is_twice: bool, timeout: &str| {
        let (desk, server) = (Desk::new(), Server::start(|_, _| Answer::Hang(600 * SECOND)));
        let mut running = desk.clear(&server, rows(50)).flag("--timeout", timeout).spawn();
        running.wait_until("rows are in flight", || server.requests().len() >= 20);
        running.signal("TERM");
        // Within one second it counts as the same signal.
        thread::sleep(11 * SECOND / 10);
        if is_twice {
            running.signal("TERM");
        }
        let outcome = running.wait();

        outcome.assert_status(143);
        assert!(
            server.requests().iter().all(|request| request.n == 1),
            "a drain is no retry"
        );
        // Rows without an answer are not in the report, even after retries.
        outcome
            .summary()
            .assert_counts(&[("rows", 50), ("not_run", 50), ("ok", 0), ("failed", 0)]);
        assert_eq!(desk.report().len(), 0);
    };
    thread::scope(|scope| {
        scope.spawn(|| drain(false, "4s"));
        scope.spawn(|| drain(true, "600s"));
    });
}

#[test]
fn a_hang_up_is_ignored_if_it_was_when_the_run_was_started() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("rows.csv", rows(30));
    let command = format!(
        "trap '' HUP; exec {} clear rows.csv --report out.csv --endpoint {}",
        env!("CARGO_BIN_EXE_zim-batch"),
        server.url()
    );
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .current_dir(desk.path(""))
        .env("ZIM_APP_ID", APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
        .spawn()
        .expect("there is a shell");
    while server.requests().len() < 5 {
        thread::sleep(Duration::from_millis(5));
    }
    Command::new("kill")
        .args(["-HUP", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(desk.report().len(), 30);
}
