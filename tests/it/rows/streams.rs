//! Rows from a stream, which may end inside a row.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Desk, kind_server, program};

#[test]
fn a_stream_that_ends_within_a_row_leaves_no_record_of_it() {
    for cut in ["u3,conv-of-th", "u3", "\"u3", "u3,conv,pe", "u3,"] {
        let (desk, server) = (Desk::new(), kind_server());
        let csv = format!("user,conv,type\nu1,c1,peer\n{cut}");
        let call = desk
            .clear_with(&server.url(), "-")
            .flag("--report", "out.csv")
            .arg("--json");
        let outcome = call.stdin(csv.clone()).run();

        outcome
            .assert_status(4)
            .assert_tells(&["standard input, line 3", "--resume"]);
        // The previous row may or may not have been sent.
        let summary = outcome.summary();
        summary.assert_counts(&[("invalid", 0), ("failed", 0), ("rows", 1)]);
        assert_eq!(summary.count("ok") + summary.count("not_run"), 1, "{cut}");
        let check = desk.zim_batch(["check", "-"]).stdin(csv).run();
        check.assert_status(4).assert_says(&["standard input, line 3"]);

        let call = desk
            .clear_with(&server.url(), "-")
            .flag("--report", "out.csv")
            .arg("--resume");
        call.stdin("user,conv,type\nu1,c1,peer\nu3,conv-of-three,peer\n")
            .run()
            .assert_status(0);
        assert_eq!(desk.report_by_user()["u3"].conv, "conv-of-three");
    }
}

#[test]
fn a_last_row_of_a_stream_that_lacks_only_its_line_end_is_sent_with_a_warning() {
    let csv = "user,conv,type\nu1,c1,peer\nu2,c2,peer";
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear_with(&server.url(), "-").flag("--report", "out.csv");
    let outcome = call.stdin(csv).run();
    outcome
        .assert_status(0)
        .assert_says(&["standard input, line 3", "without a line end"]);
    assert_eq!(desk.report().len(), 2);
    let check = desk.zim_batch(["check", "-"]).stdin(csv).run();
    assert!(check.assert_status(0).stdout.contains("cut off; line 3"), "{check:?}");

    // In a file this is common, so there is no warning.
    let outcome = desk.clear(&server, csv).arg("--overwrite").run();
    outcome.assert_status(0);
    assert!(!outcome.stderr.contains("line end"), "{}", outcome.stderr);
    desk.clear(&server, "user,conv,type\nu2,c2")
        .arg("--overwrite")
        .run()
        .assert_status(3);
}

#[test]
fn a_named_pipe_is_refused_as_input_of_a_resume_and_as_report() {
    let desk = Desk::new();
    let made = std::process::Command::new("mkfifo").arg(desk.path("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "a FIFO can be made");
    let run = |flags: &[&str]| {
        desk.zim_batch(["clear", "pipe", "--simulate"].iter().chain(flags))
            .run()
    };
    run(&["--report", "out.csv", "--resume"])
        .assert_status(2)
        .assert_says(&["pipe", "standard input"]);
    for mode in ["--resume", "--overwrite"] {
        run(&["--report", "pipe", mode]).assert_status(2).assert_says(&["pipe"]);
        run(&["--report", "out.csv", "--outside", "pipe", mode]).assert_status(2);
    }
    assert!(!desk.has("out.csv"));
}

#[test]
fn a_terminal_as_standard_input_shows_that_the_run_waits_for_rows() {
    let Some(script) = program(&["script"]) else { return };
    let desk = Desk::new();
    // `script` provides the terminal; a header and Ctrl-D are typed.
    for args in ["check -", "clear - --simulate --report out.csv", "check /dev/stdin"] {
        let command = format!("{} {args}", env!("CARGO_BIN_EXE_zim-batch"));
        let mut child = Command::new(script)
            .args(["-qec", &command, "/dev/null"])
            .current_dir(desk.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let mut typed = child.stdin.take().expect("it is piped");
        typed.write_all(b"user,conv,type\n\x04").expect("it is read");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            said.matches("reading rows from the terminal").count(),
            1,
            "{args}: {said}"
        );
    }
    let piped = desk.zim_batch(["check", "-"]).stdin("user,conv,type\n").run();
    assert_eq!(piped.stderr, "");
}
