//! Runs side by side: one for each report, and turns for those that share an app's quota.

#[path = "support/say.rs"]
mod say;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use say::figures;
use support::{Answer, Call, Desk, Options, Request, Running, Server, kind_server, named_rows, read_report, rows};

const SECOND: Duration = Duration::from_secs(1);
const CAP: usize = 20;

/// How much closer together than they left two requests may arrive at a busy machine's server.
const ON_THE_WAY: Duration = Duration::from_millis(30);

/// A run of `count` rows of this user's, at the default rate, with a report of its own.
fn run_of(desk: &Desk, server: &Server, user: &str, count: usize) -> Call {
    let csv = named_rows((0..count).map(|number| format!("{user}-{number}")));
    let file = format!("{user}.csv");
    desk.write(&file, csv);
    let report = format!("{user}.report.csv");
    desk.clear_with(&server.url(), &file)
        .flag("--report", &report)
        .arg("--json")
}

fn wait_for_requests(running: &mut Running, server: &Server, count: usize) {
    running.wait_until("it is under way", || server.requests().len() >= count);
}

/// Panics unless no second had more than the cap, whoever sent, and nobody sent while another had the turn.
#[track_caller]
fn assert_they_took_turns(requests: &[Request]) {
    let shortest = requests.windows(CAP + 1).map(|some| some[CAP].at - some[0].at).min();
    assert!(
        shortest > Some(SECOND - ON_THE_WAY),
        "{} requests within {shortest:?}, of {}",
        CAP + 1,
        requests.len()
    );
    let mut order: Vec<_> = requests
        .iter()
        .map(|request| request.user().split('-').next().unwrap_or_default().to_owned())
        .collect();
    order.dedup();
    let mut names = order.clone();
    names.sort();
    names.dedup();
    assert_eq!(order.len(), names.len(), "they did not take turns: {order:?}");
}

#[test]
fn a_second_run_on_the_same_report_ends_at_once_whatever_the_report_is_called() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
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
        for how in ["--resume", "--overwrite"] {
            let call = run_of(&desk, &server, "b", 5).flag("--report", name).arg(how);
            let outcome = call.run();
            outcome.assert_status(75).assert_says(&[name, "another run"]);
            if locks_can_be_told() {
                outcome.assert_says(&[&format!("process {}", first.id())]);
            }
            assert!(outcome.elapsed < SECOND, "{name}: {:?}", outcome.elapsed);
        }
    }

    assert_eq!(fs::metadata(desk.path("a.report.outside.csv")).unwrap().len(), before);
    first.wait().assert_status(0).summary().assert_counts(&[("ok", 40)]);
    assert_eq!(read_report(&desk.path("a.report.csv")).len(), 40);
    assert!(server.requests().iter().all(|request| request.user().starts_with("a-")));
}

/// Whether the kernel lists the locks on files of the temporary folder by the files' own numbers.
fn locks_can_be_told() -> bool {
    let file = tempfile::tempfile().expect("a temporary file can be made");
    file.try_lock().expect("nobody else knows it");
    let inode = format!(":{} ", file.metadata().expect("it is open").ino());
    fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains(&inode))
}

#[test]
fn a_report_that_another_program_has_locked_is_told_with_that_program() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(2)).run().assert_status(0);
    let before = desk.read("out.csv");
    let mut other = Command::new("flock")
        .args(["out.csv", "sh", "-c", "echo locked; cat"])
        .current_dir(desk.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is flock");
    let mut said = [0; 7];
    other.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();

    let outcome = desk.clear(&server, rows(3)).arg("--resume").run();
    outcome
        .assert_status(75)
        .assert_says(&["out.csv", "any user who can read"]);
    if locks_can_be_told() {
        outcome.assert_says(&[&format!("process {} (flock)", other.id())]);
    }
    assert_eq!(desk.read("out.csv"), before);

    drop(other.stdin.take());
    other.wait().unwrap();
    desk.clear(&server, rows(3)).arg("--resume").run().assert_status(0);
}

#[test]
fn a_lock_dies_with_its_process() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
    wait_for_requests(&mut first, &server, 10);
    first.signal("KILL");
    first.wait();

    // The report's, and the quota's: even who won't wait goes on.
    let outcome = run_of(&desk, &server, "a", 40).arg("--resume").arg("--no-wait").run();
    outcome.assert_status(0);
    assert_eq!(read_report(&desk.path("a.report.csv")).len(), 40);
    assert_they_took_turns(&server.requests());
}

#[test]
fn two_runs_at_once_for_one_app_never_exceed_the_cap_together() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 60).spawn();
    wait_for_requests(&mut first, &server, 10);
    let second = run_of(&desk, &server, "b", 60).spawn();
    let (first_id, first, second) = (first.id(), first.wait(), second.wait());

    first.assert_status(0).summary().assert_counts(&[("ok", 60)]);
    second.assert_status(0).summary().assert_counts(&[("ok", 60)]);
    second.assert_says(&["waiting", "a.report.csv", &first_id.to_string()]);
    let said = second.stderr.matches("waiting").count();
    assert_eq!(said, 1, "it is said once whom it waits for: {}", second.stderr);
    let requests = server.requests();
    assert_eq!(requests.len(), 120);
    assert_they_took_turns(&requests);
    let took = requests[119].at - requests[0].at;
    assert!(took < 7 * SECOND, "120 rows at 20 a second took {took:?}");
    figures(&format!(
        "two runs at once: {} requests, none beyond {CAP} in any second, {took:?}",
        requests.len()
    ));
}

#[test]
fn many_runs_that_start_together_take_turns() {
    let (desk, server) = (Desk::new(), kind_server());
    let runs: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|user| run_of(&desk, &server, user, 12).spawn())
        .collect();
    for run in runs {
        run.wait().assert_status(0).summary().assert_counts(&[("ok", 12)]);
    }
    assert_eq!(server.requests().len(), 60);
    assert_they_took_turns(&server.requests());
}

#[test]
fn a_run_that_may_not_wait_says_whose_turn_it_is_and_ends() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
    wait_for_requests(&mut first, &server, 5);

    for _ in 0..2 {
        // Twice: the first time must leave nothing behind that is in the way of the second.
        let outcome = run_of(&desk, &server, "b", 5).arg("--no-wait").run();
        outcome
            .assert_status(75)
            .assert_says(&["a.report.csv", &first.id().to_string()]);
        assert!(outcome.elapsed < SECOND, "{:?}", outcome.elapsed);
    }
    first.wait().assert_status(0);
    assert_eq!(server.requests().len(), 40);
    run_of(&desk, &server, "b", 5).arg("--no-wait").run().assert_status(0);
}

#[test]
fn other_apps_other_endpoints_and_simulations_wait_for_nobody() {
    let (desk, server) = (Desk::new(), kind_server());
    let options = Options {
        takes_any_signature: true,
        ..Options::default()
    };
    let elsewhere = Server::with(options, |_, _| Answer::Code(0, "success"));
    let mut first = run_of(&desk, &server, "a", 80).spawn();
    wait_for_requests(&mut first, &server, 5);

    run_of(&desk, &elsewhere, "b", 3)
        .arg("--no-wait")
        .run()
        .assert_status(0);
    let mut second = run_of(&desk, &elsewhere, "c", 60).spawn();
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

#[test]
fn a_run_that_waits_goes_on_when_the_other_is_killed() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 200).spawn();
    wait_for_requests(&mut first, &server, 30);
    let second = run_of(&desk, &server, "b", 30).spawn();
    thread::sleep(SECOND);
    first.signal("KILL");
    let killed = Instant::now();
    first.wait();
    second.wait().assert_status(0).summary().assert_counts(&[("ok", 30)]);

    let requests = server.requests();
    let next = requests
        .iter()
        .find(|request| request.user().starts_with("b-"))
        .expect("it has run");
    let waited = next.at - killed;
    assert!(waited < 2 * SECOND, "it noticed only after {waited:?}");
    // The rows that the first one sent in its last second count in the second of the other.
    assert_they_took_turns(&requests);
}

#[test]
fn a_run_that_waits_can_be_stopped_and_resumed() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 120).spawn();
    wait_for_requests(&mut first, &server, 5);

    let waiting = run_of(&desk, &server, "b", 5).spawn();
    thread::sleep(SECOND);
    waiting.signal("TERM");
    let signalled = Instant::now();
    let outcome = waiting.wait();
    outcome.assert_status(143).assert_says(&["--resume"]);
    assert!(signalled.elapsed() < SECOND, "{:?}", signalled.elapsed());
    outcome
        .summary()
        .assert_counts(&[("rows", 5), ("not_run", 5), ("requests", 0)]);

    // The nightly window counts from the start, not from the turn.
    let outcome = run_of(&desk, &server, "c", 5).flag("--max-duration", "1s").run();
    outcome
        .assert_status(7)
        .summary()
        .assert_counts(&[("not_run", 5), ("requests", 0)]);
    assert!(outcome.elapsed < 3 * SECOND, "{outcome:?}");

    first.signal("TERM");
    first.wait().assert_status(143);
    run_of(&desk, &server, "b", 5).arg("--resume").run().assert_status(0);
    assert_eq!(read_report(&desk.path("b.report.csv")).len(), 5);
}
