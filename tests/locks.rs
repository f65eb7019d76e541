//! Concurrent runs: one per report, and turns for runs that share an app's quota.

#[path = "support/say.rs"]
mod say;
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use say::figures;
use support::{Answer, Call, Desk, Options, Request, Running, Server, kind_server, named_rows, read_report, rows};

const SECOND: Duration = Duration::from_secs(1);
const CAP: usize = 20;

/// How much a busy machine may reduce the time between two requests.
const ON_THE_WAY: Duration = Duration::from_millis(30);

/// A run of `count` rows of this user, at the default rate, with its own report.
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

/// Asserts that no second had more requests than the cap, from all runs together, and that no run sent during another's
/// turn.
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
fn a_second_run_on_the_same_report_ends_immediately_whatever_its_path() {
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
            if locks_are_listed() {
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
    let mut other = Command::new("flock")
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
fn a_lock_dies_with_its_process() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
    wait_for_requests(&mut first, &server, 10);
    first.signal("KILL");
    first.wait();

    // The locks of the report and of the quota: even a run that does not wait succeeds.
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
fn a_run_that_may_not_wait_names_the_holder_of_the_turn_and_ends() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 40).spawn();
    wait_for_requests(&mut first, &server, 5);

    for _ in 0..2 {
        // Twice: the first time must leave nothing that blocks the second.
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
fn other_apps_other_endpoints_and_simulations_do_not_wait() {
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
fn a_waiting_run_continues_when_the_other_is_killed() {
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
    // Requests of the last second of the first run count for the second run.
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

    // The time limit counts from the start of the run, not from its turn.
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

/// The names of the lock files in this directory.
fn lock_files(desk: &Desk) -> Vec<String> {
    let names = fs::read_dir(desk.path("")).expect("the desk can be read").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".lock")).collect()
}

/// The path of this server's lock file, which exists while a run sends.
fn lock_file(desk: &Desk, server: &Server) -> PathBuf {
    let mut running = run_of(desk, server, "finder", 100).spawn();
    wait_for_requests(&mut running, server, server.requests().len() + 1);
    let found = lock_files(desk);
    running.signal("TERM");
    running.wait();
    assert_eq!((found.len(), lock_files(desk).len()), (1, 0));
    desk.path(&found[0])
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
    for number in 0..30 {
        let name = format!("r{number}");
        run_of(&desk, &server, &name, 1).run().assert_status(0);
        assert!(lock_files(&desk).is_empty());
    }
    assert_eq!(server.requests().len(), 30);
    assert_they_took_turns(&server.requests());
}

#[test]
fn localhost_and_127_0_0_1_share_one_quota() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 60).spawn();
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

#[test]
fn any_other_file_in_place_of_the_lock_file_causes_a_warning_and_stays_unchanged() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = lock_file(&desk, &server);
    let victim = desk.write("victim", "precious");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    let cases: [(&str, &dyn Fn()); 6] = [
        ("FIFO", &|| {
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        }),
        ("directory", &|| fs::create_dir(&path).unwrap()),
        ("symbolic link", &|| {
            std::os::unix::fs::symlink(&victim, &path).unwrap();
        }),
        ("hard link", &|| fs::hard_link(&victim, &path).unwrap()),
        ("too large", &|| {
            fs::File::create(&path).unwrap().set_len(1_500_000_000).unwrap();
        }),
        ("socket", &|| {
            std::os::unix::net::UnixListener::bind(&path).unwrap();
        }),
    ];
    for (index, (what, put)) in cases.into_iter().enumerate() {
        put();
        for (number, flag) in ["-v", "--no-wait"].into_iter().enumerate() {
            let name = format!("run{index}{number}");
            let outcome = run_of(&desk, &server, &name, 2).arg(flag).run();
            outcome.assert_status(0).assert_says(&[what, "ZIM_LOCK_DIR"]);
            assert_eq!(
                outcome.stderr.matches("can't be used as a lock file").count(),
                1,
                "{outcome:?}"
            );
        }
        assert!(path.symlink_metadata().is_ok(), "{what} was removed");
        assert_eq!(
            (desk.read("victim").as_str(), mode(&victim)),
            ("precious", 0o600),
            "{what}"
        );
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
}

#[test]
fn a_run_that_can_create_no_lock_file_warns_and_continues() {
    let (desk, server) = (Desk::new(), kind_server());
    // Not even root can create a file there.
    let outcome = run_of(&desk, &server, "a", 2).env("ZIM_LOCK_DIR", "/sys").run();
    outcome.assert_status(0).assert_says(&["/sys/zim-batch", "exceed"]);

    let outcome = run_of(&desk, &server, "b", 2)
        .flag("--lock-dir", "no-such-directory")
        .run();
    outcome
        .assert_status(2)
        .assert_says(&["no-such-directory", "--lock-dir"]);
    assert!(!desk.has("b.report.csv") && server.requests().len() == 2);
}

#[test]
fn a_lock_that_is_held_forever_delays_a_run_no_longer_than_its_limits() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = lock_file(&desk, &server);
    let before = server.requests().len();
    let holder = fs::File::create(&path).unwrap();
    holder.lock().unwrap();
    fs::write(&path, "\u{1b}]0;owned\u{7}\u{1b}[2J evil \u{9b}31m\n").unwrap();

    let outcome = run_of(&desk, &server, "a", 2).flag("--give-up-after", "1s").run();
    outcome
        .assert_status(5)
        .assert_says(&["waiting", "evil", "--give-up-after", "--resume"])
        .summary()
        .assert_counts(&[("rows", 2), ("not_run", 2), ("requests", 0)]);
    let refused = run_of(&desk, &server, "b", 2).arg("--no-wait").run();
    refused.assert_status(75).assert_says(&["evil"]);
    for said in [outcome.stderr, refused.stderr] {
        assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
    }
    assert_eq!(server.requests().len(), before);
    drop(holder);
    run_of(&desk, &server, "a", 2).arg("--resume").run().assert_status(0);
}

#[test]
fn removing_the_lock_file_during_a_run_never_lets_two_runs_send_together() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 120).spawn();
    wait_for_requests(&mut first, &server, 5);
    let path = desk.path(&lock_files(&desk)[0]);

    // It is created again; a second run has to wait, or ends.
    fs::remove_file(&path).unwrap();
    first.wait_until("the file is created again", || path.exists());
    run_of(&desk, &server, "b", 2).arg("--no-wait").run().assert_status(75);

    // If a second run is quicker, the first waits for it.
    fs::remove_file(&path).unwrap();
    let second = run_of(&desk, &server, "c", 60).arg("--no-wait").run();
    second.assert_status(0);
    let first = first.wait();
    first
        .assert_status(0)
        .assert_says(&["removed or replaced", "c.report.csv"]);

    let requests = server.requests();
    let of = |user: &str| {
        requests
            .iter()
            .filter(|request| request.user().starts_with(user))
            .collect::<Vec<_>>()
    };
    let (of_first, of_second) = (of("a-"), of("c-"));
    assert_eq!((of_first.len(), of_second.len()), (120, 60));
    let (begin, end) = (of_second[0].at, of_second[59].at);
    let together = of_first.iter().filter(|r| r.at > begin + SECOND && r.at < end);
    assert_eq!(together.count(), 0, "they sent together for more than a second");
}
