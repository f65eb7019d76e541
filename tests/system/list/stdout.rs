//! `--rows -`: rows on standard output, for a reader that may be slow or go away.

use std::io::{self, BufRead, BufReader, Read};
use std::thread;
use std::time::Duration;

use crate::support::list::{assert_together, list_with, sorted};
use crate::support::world::World;
use crate::support::{Call, Desk, Options, Outcome, Server, pace, read_list, read_rows};

fn to_stdout(desk: &Desk, server: &Server, users: impl AsRef<[u8]>) -> Call {
    desk.write("users.csv", users);
    list_with(desk, &server.url(), "users.csv")
        .flag("--rows", "-")
        .flag("--rate", "500")
}

/// Users whose rows take several times a pipe's 64 KiB.
fn large() -> World {
    World::of((0..40).map(|number| (format!("a-user-with-a-long-name-{number}"), 200)))
}

#[test]
fn whole_users_and_nothing_else_are_on_stdout() {
    let world = World::of([("ann", 700), ("ben", 3), ("cyd", 0)]);
    let (desk, server) = (Desk::new(), world.serve());

    let outcome = to_stdout(&desk, &server, world.users_csv()).run();

    outcome.assert_status(0);
    let rows = read_rows(&outcome.stdout);
    assert_together(&rows);
    assert_eq!(sorted(rows), world.all_rows());
    let files: Vec<_> = std::fs::read_dir(desk.path(""))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    let is_result = |name: &str| name.ends_with(".csv") && name != "users.csv";
    assert!(!files.iter().any(|name| is_result(name.to_str().unwrap())), "{files:?}");
    assert!(
        outcome.stderr.contains("703"),
        "the table is not on stderr: {}",
        outcome.stderr
    );
    let reported = to_stdout(&desk, &server, world.users_csv())
        .flag("--report", "list.csv")
        .run();
    reported.assert_status(0);
    assert_eq!(
        (
            read_list(&desk.path("list.csv")).len(),
            sorted(read_rows(&reported.stdout))
        ),
        (3, world.all_rows())
    );
}

#[test]
fn no_rows_are_a_header() {
    let world = World::of([("ann", 0)]);
    let (desk, server) = (Desk::new(), world.serve());
    for users in ["ann\n", "user\n"] {
        let outcome = to_stdout(&desk, &server, users).run();
        outcome.assert_status(0);
        assert_eq!(read_rows(&outcome.stdout).len(), 0);
    }
}

#[test]
fn what_rows_on_stdout_exclude_is_refused() {
    let (desk, server) = (Desk::new(), World::default().serve());
    let call = || to_stdout(&desk, &server, "ann\n");
    call().arg("--json").run().assert_status(2).assert_says(&["--json"]);
    call()
        .arg("--resume")
        .run()
        .assert_status(2)
        .assert_says(&["--resume", "--report"]);
    call()
        .flag("--report", "-")
        .run()
        .assert_status(2)
        .assert_says(&["--report"]);
    assert!(server.count() == 0);
}

#[test]
fn a_slow_reader_loses_nothing() {
    let world = large();
    let (desk, server) = (Desk::new(), world.serve());
    let (mut reader, writer) = io::pipe().unwrap();
    let running = to_stdout(&desk, &server, world.users_csv())
        .stdout(writer)
        .flag("--report", "list.csv")
        .spawn();
    thread::sleep(Duration::from_secs(1));
    let mut text = Vec::new();
    let mut chunk = vec![0; 4096];
    loop {
        let length = reader.read(&mut chunk).unwrap();
        text.extend_from_slice(&chunk[..length]);
        if length == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    running.wait().assert_status(0);
    let rows = read_rows(&String::from_utf8(text).unwrap());
    assert_together(&rows);
    assert_eq!(sorted(rows), world.all_rows());
    assert_eq!(read_list(&desk.path("list.csv")).len(), 40);
}

#[test]
fn a_signal_is_obeyed_while_nobody_reads() {
    let world = large();
    let (desk, server) = (Desk::new(), world.serve());
    let (mut reader, writer) = io::pipe().unwrap();
    let mut running = to_stdout(&desk, &server, world.users_csv())
        .stdout(writer)
        .flag("--report", "list.csv")
        .spawn();
    running.wait_until("rows wait for their reader", || server.count() >= 5);
    thread::sleep(Duration::from_millis(500));
    assert!(running.is_running(), "it did not wait for its reader");
    running.signal("TERM");
    thread::sleep(Duration::from_secs(2));
    if running.is_running() {
        // What was taken is written, for as long as the reader may need; a second signal is for that.
        running.signal("TERM");
    }
    let outcome = running.wait();
    outcome.assert_status(143);
    // Users with a record have all their rows in the pipe; the others are listed again.
    let mut taken = Vec::new();
    reader.read_to_end(&mut taken).unwrap();
    let taken = String::from_utf8(taken).unwrap();
    for record in read_list(&desk.path("list.csv")) {
        let begin = format!("{},", record.user);
        let rows = taken.lines().filter(|line| line.starts_with(&begin)).count();
        assert_eq!((record.conversations, rows), (200, 200), "{record:?}");
    }
    let resumed = to_stdout(&desk, &server, world.users_csv())
        .flag("--report", "list.csv")
        .arg("--resume")
        .run();
    resumed.assert_status(0);
    assert_eq!(read_list(&desk.path("list.csv")).len(), 40);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_with_a_message() {
    let world = large();
    let (desk, server) = (Desk::new(), world.serve());
    for lines in [0, 10] {
        let (reader, writer) = io::pipe().unwrap();
        let running = to_stdout(&desk, &server, world.users_csv()).stdout(writer).spawn();
        let mut reader = BufReader::new(reader);
        for _ in 0..lines {
            reader.read_line(&mut String::new()).unwrap();
        }
        drop(reader);
        let outcome = running.wait();
        outcome.assert_status(74).assert_says(&["standard output"]);
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    }
}

#[test]
fn a_pipe_into_clear_keeps_the_cap_and_clears_everything_once() {
    let world = World::of([("ann", 20), ("ben", 0), ("cyd", 15)]);
    let options = Options {
        cap: Some(20),
        ..Options::default()
    };
    let (desk, server) = (Desk::new(), world.serve_with(options));
    let (listed, cleared) = list_into_clear(&desk, &server, &world, "20");

    listed.assert_status(0);
    let summary = cleared.assert_status(0).summary();

    summary.assert_counts(&[("rows", 35), ("ok", 35)]);
    pace::assert_within_cap(&server.arrivals(), 20);
    let requests = server.requests();
    let accepted = requests.iter().filter(|request| request.is_accepted);
    let cleared = accepted.filter(|request| !request.is_list());
    let cleared = cleared.map(|request| request.row()).collect();
    let expected = world.all_rows().into_iter();
    let expected = expected.map(|[user, conv, kind, _]| [user, conv, kind].map(String::into_bytes));
    assert_eq!(sorted(cleared), sorted(expected.collect()));
    server.assert_well_formed();
}

#[test]
fn a_pipe_into_clear_works_for_more_rows_than_a_pipe_holds() {
    let world = World::of((0..8).map(|number| (format!("a-user-with-a-long-name-{number}"), 200)));
    let (desk, server) = (Desk::new(), world.serve());
    let (listed, cleared) = list_into_clear(&desk, &server, &world, "2000");
    listed.assert_status(0);
    let summary = cleared.assert_status(0).summary();
    summary.assert_counts(&[("rows", 1600), ("ok", 1600)]);
}

/// A list whose rows a clear reads, both at this rate.
fn list_into_clear(desk: &Desk, server: &Server, world: &World, rate: &str) -> (Outcome, Outcome) {
    let (reader, writer) = io::pipe().expect("there are pipes");
    let list = to_stdout(desk, server, world.users_csv()).flag("--rate", rate);
    let list = list.stdout(writer).spawn();
    let clear = desk.clear_with(&server.url(), "-").flag("--report", "out.csv");
    let clear = clear.flag("--rate", rate).arg("--json").stdin_from(reader).spawn();
    (list.wait(), clear.wait())
}
