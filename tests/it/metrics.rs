//! Prometheus metrics: what a collector finds in the file during a run and after it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{
    APP_ID, Answer, Call, Desk, Latch, SECRET, Server, as_the_user_says, kind_server, named_rows, program, rows,
};

/// The samples by name and labels, without those of the job: for example `zim_batch_rows_total{outcome="ok"}`.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            let (name, labels) = name.split_once('{').expect("labels");
            let is_of_job = |label: &&str| {
                ["app_id=", "command=", "name="]
                    .iter()
                    .any(|job| label.starts_with(job))
            };
            let others: Vec<&str> = labels
                .trim_end_matches('}')
                .split(',')
                .filter(|label| !is_of_job(label))
                .collect();
            let others = if others.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", others.join(","))
            };
            (format!("{name}{others}"), value.parse().expect("a number"))
        })
        .collect()
}

/// A server that keeps its answers back until the latch is open.
fn held_server() -> (Server, Latch) {
    let latch = Latch::default();
    let opened = latch.clone();
    let server = Server::start(move |_, _| {
        opened.wait();
        Answer::Code(0, "success")
    });
    (server, latch)
}

#[test]
fn the_file_agrees_with_the_summary_at_the_end() {
    let server = Server::start(as_the_user_says);
    let desk = Desk::new();
    let mixed = named_rows(["a", "code660800002", "code660500002", "b", ""]);
    let outcome = desk.clear(&server, mixed).flag("--metrics", "zim.prom").run();
    outcome.assert_status(3);
    let found = samples(&desk.read("zim.prom"));
    for (name, value) in [
        ("zim_batch_rows_total{outcome=\"ok\"}", 2.0),
        ("zim_batch_rows_total{outcome=\"outside\"}", 1.0),
        ("zim_batch_rows_total{outcome=\"failed\"}", 1.0),
        ("zim_batch_rows_total{outcome=\"invalid\"}", 1.0),
        ("zim_batch_rows_total{outcome=\"skipped\"}", 0.0),
        ("zim_batch_requests_total", 4.0),
        ("zim_batch_retries_total", 0.0),
        ("zim_batch_limited_total", 0.0),
        ("zim_batch_rows_left", 0.0),
        ("zim_batch_on_hold", 0.0),
        ("zim_batch_running", 0.0),
        ("zim_batch_last_exit_status", 3.0),
        ("zim_batch_request_duration_seconds_count", 4.0),
        ("zim_batch_request_duration_seconds_bucket{le=\"+Inf\"}", 4.0),
    ] {
        assert_eq!(found.get(name), Some(&value), "{name}");
    }
    let names: Vec<_> = std::fs::read_dir(desk.path("."))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(
        names.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")),
        "{names:?}"
    );
}

#[test]
fn during_a_run_the_file_says_so_and_how_the_last_run_ended() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, "user,conv,type\n,,x\n")
        .flag("--metrics", "zim.prom")
        .run()
        .assert_status(3);
    let (slow, latch) = held_server();
    let call = desk.clear(&slow, rows(3)).arg("--overwrite");
    let mut running = call.flag("--metrics", "zim.prom").spawn();
    running.wait_until("the run is under way", || slow.requests().len() >= 3);
    let found = samples(&desk.read("zim.prom"));
    assert_eq!(
        (found["zim_batch_running"], found["zim_batch_last_exit_status"]),
        (1.0, 3.0)
    );
    assert_eq!(found["zim_batch_rows_total{outcome=\"ok\"}"], 0.0);
    latch.open();
    running.wait().assert_status(0);
    let found = samples(&desk.read("zim.prom"));
    assert_eq!(
        (found["zim_batch_running"], found["zim_batch_last_exit_status"]),
        (0.0, 0.0)
    );
}

#[test]
fn every_sample_says_which_job_it_is_of() {
    let (desk, server) = (Desk::new(), kind_server());
    let labels = |name: &str| format!("app_id=\"{APP_ID}\",command=\"clear\",name=\"{name}\"");
    let assert_labels = |labels: &str| {
        let text = desk.read("zim.prom");
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.all(|line| line.contains(labels)), "{labels}: {text}");
    };
    let clear = || {
        desk.clear(&server, rows(3))
            .flag("--metrics", "zim.prom")
            .arg("--overwrite")
    };
    clear().run().assert_status(0);
    assert_labels(&labels("out"));
    clear().flag("--name", "night \"2\"").run().assert_status(0);
    assert_labels(&labels("night \\\"2\\\""));
    // A run that can't start is told by what is known.
    clear().flag("--profile", "none").run().assert_status(2);
    assert_labels("app_id=\"\",command=\"clear\",name=\"out\"");
    clear().arg("--simulate").without("--endpoint").run().assert_status(0);
    assert_labels("app_id=\"simulated\"");
    for name in ["", "two\nlines", "\u{202e}x"] {
        clear().flag("--name", name).run().assert_status(2);
    }
}

#[test]
fn two_files_with_the_same_labels_in_one_directory_are_warned_about() {
    let (desk, server) = (Desk::new(), kind_server());
    let clear = |file: &str| desk.clear(&server, rows(3)).arg("--overwrite").flag("--metrics", file);
    let warns = |call: Call| call.run().assert_status(0).stderr.contains("--name");
    assert!(!warns(clear("one.prom")));
    assert!(warns(clear("two.prom")));
    assert!(!warns(clear("two.prom").flag("--name", "two")));
    assert!(!warns(clear("one.prom")));
}

#[test]
fn promtool_accepts_the_file() {
    let Some(promtool) = program(&["promtool"]) else { return };
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(5))
        .flag("--metrics", "zim.prom")
        .run()
        .assert_status(0);
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let text = desk.read("zim.prom");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(
        checked.status.success(),
        "{}\n{text}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
}

#[test]
fn a_file_that_can_t_be_written_or_has_another_use_is_exit_2_and_nothing_is_started() {
    let (desk, server) = (Desk::new(), kind_server());
    for file in [
        "no/such/directory/zim.prom",
        ".",
        "rows.csv",
        "out.csv",
        "out.outside.csv",
    ] {
        let outcome = desk.clear(&server, rows(3)).flag("--metrics", file).run();
        outcome.assert_status(2).assert_tells(&["--metrics"]);
        assert!(!desk.has("out.csv"), "{file}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_failing_write_costs_the_metrics_and_not_the_run() {
    let (desk, (server, latch)) = (Desk::new(), held_server());
    std::fs::create_dir(desk.path("collector")).unwrap();
    let call = desk.clear(&server, rows(3)).flag("--metrics", "collector/zim.prom");
    let mut running = call.spawn();
    running.wait_until("the run is under way", || server.requests().len() >= 3);
    std::fs::remove_dir_all(desk.path("collector")).unwrap();
    latch.open();
    let outcome = running.wait();
    outcome
        .assert_status(0)
        .assert_tells(&["--metrics", "the run continues"]);
    assert_eq!(desk.report().len(), 3);
}

#[test]
fn a_file_with_other_content_is_not_changed() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("notes.txt", "not to be lost\n");
    desk.write("secret", SECRET);
    let made = Command::new("mkfifo").arg(desk.path("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()));
    for file in ["notes.txt", "secret", "pipe", "/dev/null"] {
        let call = desk
            .clear(&server, rows(3))
            .flag("--metrics", file)
            .flag("--secret-file", "secret");
        call.run().assert_status(2).assert_tells(&["--metrics"]);
        assert!(!desk.has("out.csv"), "{file}");
    }
    assert_eq!(desk.read("notes.txt"), "not to be lost\n");
    assert_eq!(desk.read("secret"), SECRET);
}

#[test]
fn a_run_that_never_started_is_recorded_too() {
    let (desk, server) = (Desk::new(), kind_server());
    let clear = |rows: &str| {
        desk.clear(&server, rows)
            .flag("--metrics", "zim.prom")
            .arg("--overwrite")
            .run()
    };
    clear(&rows(3)).assert_status(0);
    clear("no,such,columns\n").assert_status(4);
    let found = samples(&desk.read("zim.prom"));
    assert_eq!(
        (found["zim_batch_last_exit_status"], found["zim_batch_running"]),
        (4.0, 0.0)
    );
    let wrong_settings = desk.clear(&server, rows(3)).flag("--metrics", "zim.prom");
    wrong_settings
        .arg("--overwrite")
        .flag("--profile", "none")
        .run()
        .assert_status(2);
    assert_eq!(samples(&desk.read("zim.prom"))["zim_batch_last_exit_status"], 2.0);
    clear(&rows(3)).assert_status(0);
    desk.write("letter.html", "not a page");
    let wrong_page = desk.clear(&server, rows(3)).flag("--metrics", "zim.prom");
    wrong_page
        .arg("--overwrite")
        .flag("--html", "letter.html")
        .run()
        .assert_status(2);
    assert_eq!(samples(&desk.read("zim.prom"))["zim_batch_last_exit_status"], 2.0);
}

#[test]
fn rows_left_are_known_from_the_start() {
    let desk = Desk::new();
    let (slow, latch) = held_server();
    let mut running = desk.clear(&slow, rows(3)).flag("--metrics", "zim.prom").spawn();
    running.wait_until("the run is under way", || slow.requests().len() >= 3);
    let found = samples(&desk.read("zim.prom"));
    assert_eq!(found["zim_batch_rows_left"], 3.0);
    assert_eq!(found["zim_batch_target_requests_per_second"], 200.0);
    latch.open();
    running.wait().assert_status(0);
}
