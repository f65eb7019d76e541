//! Concurrent runs: one per report, and a quota that runs of an app share.

mod files;
pub mod steering;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::{
    Answer, Call, Desk, Options, Request, Running, Server, figures, kind_server, named_rows, pace, passed_over,
    program, read_report, rows,
};

const CAP: usize = 20;

/// A run of `count` rows of this user, at the default rate, with its own report.
pub fn run_of(desk: &Desk, server: &Server, user: &str, count: usize) -> Call {
    let csv = named_rows((0..count).map(|number| format!("{user}-{number}")));
    let file = format!("{user}.csv");
    desk.write(&file, csv);
    let report = format!("{user}.report.csv");
    desk.clear_with(&server.url(), &file)
        .flag("--report", &report)
        .arg("--json")
}

pub fn wait_for_requests(running: &mut Running, server: &Server, count: usize) {
    running.wait_until("it is under way", || server.requests().len() >= count);
}

/// How many of these requests are of this user's run.
fn count_of(requests: &[Request], user: &str) -> usize {
    let name = format!("{user}-");
    requests
        .iter()
        .filter(|request| request.user().starts_with(&name))
        .count()
}

#[test]
fn a_second_run_on_the_same_report_ends_immediately_whatever_its_path() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);
    std::os::unix::fs::symlink(desk.path("a.report.csv"), desk.path("link.csv")).unwrap();
    fs::hard_link(desk.path("a.report.csv"), desk.path("hard.csv")).unwrap();
    let before = fs::metadata(desk.path("a.report.outside.csv")).unwrap().len();

    let whole = desk.path("a.report.csv");
    for name in [
        "a.report.csv",
        "./a.report.csv",
        whole.to_str().unwrap(),
        "link.csv",
        "hard.csv",
    ] {
        for how in [None, Some("--resume"), Some("--overwrite")] {
            let call = run_of(&desk, &server, "b", 5).flag("--report", name);
            let outcome = how.into_iter().fold(call, Call::arg).run();
            outcome.assert_status(75).assert_says(&[name, "another run"]);
            if locks_are_listed() {
                outcome.assert_says(&[&format!("process {}", first.id())]);
            }
            assert!(first.is_running(), "{name}: it waited");
        }
    }

    assert_eq!(fs::metadata(desk.path("a.report.outside.csv")).unwrap().len(), before);
    first.signal("TERM");
    let sent = first.wait().assert_status(143).summary().count("ok");
    assert_eq!(read_report(&desk.path("a.report.csv")).len() as u64, sent);
    assert!(server.requests().iter().all(|request| request.user().starts_with("a-")));
}

/// Whether the kernel lists locks on files of the temporary directory by their inode numbers.
fn locks_are_listed() -> bool {
    let file = tempfile::tempfile().expect("a temporary file can be made");
    file.try_lock().expect("nobody else knows it");
    let inode = format!(":{} ", file.metadata().expect("it is open").ino());
    fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains(&inode))
}

#[test]
fn a_report_that_another_program_has_locked_is_refused_with_the_name_of_the_program() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(2)).run().assert_status(0);
    let before = desk.read("out.csv");
    let Some(flock) = program(&["flock"]) else { return };
    let mut other = Command::new(flock)
        .args(["out.csv", "sh", "-c", "echo locked; cat"])
        .current_dir(desk.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is flock");
    let mut ready = [0; 7];
    other.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();

    let outcome = desk.clear(&server, rows(3)).arg("--resume").run();
    outcome
        .assert_status(75)
        .assert_says(&["out.csv", "any user who can read"]);
    if locks_are_listed() {
        outcome.assert_says(&[&format!("process {} (flock)", other.id())]);
    }
    assert_eq!(desk.read("out.csv"), before);

    drop(other.stdin.take());
    other.wait().unwrap();
    desk.clear(&server, rows(3)).arg("--resume").run().assert_status(0);
}

#[test]
fn a_run_in_another_container_is_seen_to_be_under_way() {
    let (desk, server) = (Desk::new(), kind_server());
    let Some(unshare) = program(&["unshare"]) else { return };
    let words = format!("{unshare} --pid --fork --mount-proc");
    let can_unshare = desk.zim_batch(["--version"]).started_by(&words).run().status == 0;
    if !can_unshare {
        return passed_over("another PID namespace needs root");
    }
    let mut run = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut run, &server, 5);
    let read = || {
        let report = desk
            .zim_batch(["report", "a.report.csv", "--json"])
            .started_by(&words)
            .run();
        report.assert_status(0);
        serde_json::from_str::<serde_json::Value>(&report.stdout).expect("one JSON object")
    };
    let found = read();
    assert_eq!(found["running"]["process"], serde_json::Value::Null, "{found}");
    assert!(
        found["running"]["rate"].as_f64().is_some_and(|rate| rate > 0.0),
        "{found}"
    );
    assert_eq!(found["runs"][0]["why"], "under way", "{found}");
    assert!(run.is_running());
    run.signal("KILL");
    run.wait();
    let found = read();
    assert_eq!(found["running"], serde_json::Value::Null, "{found}");
    assert_eq!(found["runs"][0]["why"], "killed, or the machine stopped", "{found}");
}

#[test]
fn a_lock_dies_with_its_process() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
    wait_for_requests(&mut first, &server, 10);
    first.signal("KILL");
    first.wait();

    // The locks of the report and of the quota: even a run that does not wait succeeds. It shares the quota with nobody.
    let outcome = run_of(&desk, &server, "a", 40).arg("--resume").arg("--no-wait").run();
    outcome.assert_status(0);
    assert!(outcome.stdout.contains("\"runs\":1,"), "{outcome:?}");
    assert_eq!(read_report(&desk.path("a.report.csv")).len(), 40);
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn three_runs_at_once_share_the_quota_and_one_that_is_killed_leaves_its_share_to_the_others() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut runs = ["a", "b", "c"].map(|user| run_of(&desk, &server, user, 400).spawn());
    for (run, user) in runs.iter_mut().zip(["a", "b", "c"]) {
        run.wait_until("all are under way", || count_of(&server.requests(), user) > 0);
    }
    let before = server.requests().len();
    runs[0].wait_until("all have had their share", || server.requests().len() >= before + 90);
    let together = server.requests().split_off(before);
    for user in ["a", "b", "c"] {
        let share = count_of(&together, user) as f64 / together.len() as f64;
        assert!(share >= 0.15, "{user} has a share of {share:.2}");
    }

    let [killed, mut second, mut third] = runs;
    killed.signal("KILL");
    let left = server.requests().len();
    second.wait_until("the others go on", || server.requests().len() >= left + 60);
    let others = server.requests().split_off(left);
    // That nothing is left free is shown in paused time.
    let took = others[59].at - others[0].at;
    figures(&format!("60 requests of the others took {took:?}"));
    for user in ["b", "c"] {
        let share = count_of(&others[..60], user);
        assert!(share >= 15, "{user} has {share} of 60 requests");
    }
    second.signal("TERM");
    third.signal("TERM");
    third.wait_until("it ends", || true);
    for run in [second, third] {
        let outcome = run.wait();
        outcome.assert_status(143);
        assert!(outcome.stdout.contains("\"runs\":3,"), "{outcome:?}");
    }
    pace::assert_within_cap(&server.arrivals(), CAP);
    figures(&format!(
        "three runs at once: {} requests, none beyond {CAP} in any second",
        server.requests().len()
    ));
}

#[test]
fn a_short_run_beside_long_ones_gets_its_share_at_once() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut long = ["a", "b"].map(|user| run_of(&desk, &server, user, 1000).spawn());
    for run in &mut long {
        wait_for_requests(run, &server, 10);
    }
    let short = run_of(&desk, &server, "c", 25).run();
    short.assert_status(0).summary().assert_counts(&[("ok", 25)]);
    let requests = server.requests();
    let is_short = |request: &Request| request.user().starts_with("c-");
    let first = requests.iter().position(is_short).expect("it has sent");
    let last = requests.iter().rposition(is_short).expect("it has sent");
    assert!(last - first < 150, "25 of {} requests", last - first + 1);
    for run in long {
        run.signal("TERM");
        run.wait().assert_status(143);
    }
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn runs_with_different_rates_never_exceed_the_largest_together_nor_each_its_own() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut slow = run_of(&desk, &server, "slow", 1000).flag("--rate", "5").spawn();
    let mut quick = run_of(&desk, &server, "quick", 1000).spawn();
    quick.wait_until("both are under way", || {
        count_of(&server.requests(), "quick") >= 60 && count_of(&server.requests(), "slow") >= 10
    });
    slow.wait_until("it has sent", || true);
    let [slow, quick] = [slow, quick].map(|run| {
        run.signal("TERM");
        run.wait()
    });
    slow.assert_status(143);
    quick.assert_status(143);
    let says = "another run of this app has a rate of 20 requests per second, this one 5";
    assert_eq!(slow.stderr.matches(says).count(), 1, "{slow:?}");
    assert!(!quick.stderr.contains("has a rate of"), "{quick:?}");
    pace::assert_within_cap(&server.arrivals(), CAP);
    let requests = server.requests();
    let of_slow = requests.iter().filter(|request| request.user().starts_with("slow-"));
    let of_slow: Vec<Instant> = of_slow.map(|request| request.at).collect();
    pace::assert_within_cap(&of_slow, 5);
}

#[test]
fn many_runs_that_start_together_share() {
    let (desk, server) = (Desk::new(), kind_server());
    let runs: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|user| run_of(&desk, &server, user, 12).spawn())
        .collect();
    for run in runs {
        run.wait().assert_status(0).summary().assert_counts(&[("ok", 12)]);
    }
    assert_eq!(server.requests().len(), 60);
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_run_that_is_to_be_alone_names_another_and_ends() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);

    for _ in 0..2 {
        // Twice: the first time must leave nothing that blocks the second.
        let outcome = run_of(&desk, &server, "b", 5).arg("--no-wait").run();
        outcome.assert_status(75).assert_says(&[
            &format!("process {} on ", first.id()),
            "job \"a.report\"",
            "/a.report.csv\"",
        ]);
        assert!(first.is_running(), "it waited");
    }
    first.signal("TERM");
    first.wait().assert_status(143);
    assert!(server.requests().iter().all(|request| request.user().starts_with("a-")));
    run_of(&desk, &server, "b", 5).arg("--no-wait").run().assert_status(0);
}

#[test]
fn other_apps_other_endpoints_and_simulations_are_alone() {
    let (desk, server) = (Desk::new(), kind_server());
    let options = Options {
        takes_any_signature: true,
        ..Options::default()
    };
    let elsewhere = Server::with(options, |_, _| Answer::Code(0, "success"));
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);

    run_of(&desk, &elsewhere, "b", 3)
        .arg("--no-wait")
        .run()
        .assert_status(0);
    let mut second = run_of(&desk, &elsewhere, "c", 4000).spawn();
    wait_for_requests(&mut second, &elsewhere, 8);
    let other_app = run_of(&desk, &elsewhere, "d", 3).env("ZIM_APP_ID", "17");
    other_app.arg("--no-wait").run().assert_status(0);
    desk.write("e.csv", rows(3));
    let simulated = desk.zim_batch(["clear", "e.csv", "--simulate", "--no-wait"]);
    simulated.run().assert_status(0);
    assert!(
        first.is_running() && second.is_running(),
        "they ended too early to be waited for"
    );
}

/// The names of the lock files in this directory.
pub fn lock_files(desk: &Desk) -> Vec<String> {
    let names = fs::read_dir(desk.path("")).expect("the desk can be read").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("zim-batch-")).collect()
}

/// The paths of the files through which runs of this server's app share its quota: the one that each run locks, the entry of
/// a run, and the one with the starts. They exist while a run sends.
pub fn quota_files(desk: &Desk, server: &Server) -> [PathBuf; 3] {
    let mut running = run_of(desk, server, "finder", 100).spawn();
    wait_for_requests(&mut running, server, server.requests().len() + 1);
    let mut found = lock_files(desk);
    running.signal("TERM");
    running.wait();
    assert_eq!((found.len(), lock_files(desk).len()), (3, 0));
    found.sort();
    [&found[0], &found[1], &found[2]].map(|name| desk.path(name))
}

#[test]
fn no_lock_file_is_left_after_a_run_and_none_is_created_for_a_simulation() {
    let (desk, server) = (Desk::new(), kind_server());
    run_of(&desk, &server, "a", 3).run().assert_status(0);
    assert!(lock_files(&desk).is_empty());
    desk.write("rows.csv", rows(20));
    let mut simulated = desk.zim_batch(["clear", "rows.csv", "--simulate"]).spawn();
    simulated.wait_until("it is under way", || {
        assert!(lock_files(&desk).is_empty());
        desk.has("rows.report.csv")
    });
    simulated.wait().assert_status(0);
    assert!(lock_files(&desk).is_empty());
}

#[test]
fn consecutive_runs_keep_the_cap_although_no_file_is_left_between_them() {
    let (desk, server) = (Desk::new(), kind_server());
    for number in 0..22 {
        let name = format!("r{number}");
        run_of(&desk, &server, &name, 1).run().assert_status(0);
        assert!(lock_files(&desk).is_empty());
    }
    assert_eq!(server.requests().len(), 22);
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn localhost_and_127_0_0_1_share_one_quota() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);
    let url = server.url().replace("127.0.0.1", "LocalHost");
    let outcome = run_of(&desk, &server, "b", 5)
        .flag("--endpoint", &url)
        .arg("--no-wait")
        .run();
    outcome.assert_status(75).assert_says(&["a.report.csv"]);
    first.signal("TERM");
    first.wait();
}
