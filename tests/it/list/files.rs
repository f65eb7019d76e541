//! Rows file and list report as a crash, a power cut or a person leaves them.

use std::fs;

use crate::support::list::{assert_together, list, records, rows, sorted};
use crate::support::world::{Conv, FIRST, World};
use crate::support::{Desk, Server};

/// A desk with a whole list of three users, one without conversations. A user at a time, so that the order is known.
fn listed() -> (Desk, Server, World) {
    let world = World::of([("ann", 4), ("ben", 0), ("cyd", 5)]);
    let (desk, server) = (Desk::new(), world.serve());
    list(&desk, &server, world.users_csv())
        .flag("--max-in-flight", "1")
        .run()
        .assert_status(0);
    assert_eq!(server.count(), 3);
    (desk, server, world)
}

/// Resumes, and checks that the result is whole. Returns how many users were listed again.
#[track_caller]
fn resume(desk: &Desk, server: &Server, world: &World) -> usize {
    let before = server.count();
    let outcome = list(desk, server, world.users_csv())
        .flag("--max-in-flight", "1")
        .arg("--resume")
        .run();
    outcome.assert_status(0);
    assert_eq!(sorted(rows(desk)), world.all_rows(), "{}", outcome.stderr);
    assert_together(&rows(desk));
    let counts: Vec<_> = records(desk).values().map(|record| record.conversations).collect();
    assert_eq!(counts, [4, 0, 5]);
    server.count() - before
}

/// Panics unless a resume is refused and changes nothing.
#[track_caller]
fn assert_refused(desk: &Desk, server: &Server, world: &World, status: i32, parts: &[&str]) {
    let files = ["rows.csv", "rows.list.csv"].map(|name| desk.path(name));
    let before = files.each_ref().map(|file| fs::read(file).ok());
    let sent = server.count();
    let outcome = list(desk, server, world.users_csv()).arg("--resume").run();
    outcome.assert_status(status).assert_says(parts);
    assert_eq!(
        files.each_ref().map(|file| fs::read(file).ok()),
        before,
        "a file was changed"
    );
    assert_eq!(server.count(), sent);
}

fn cut(desk: &Desk, name: &str, bytes: usize) {
    let content = fs::read(desk.path(name)).expect("it is there");
    desk.write(name, &content[..content.len() - bytes]);
}

fn append(desk: &Desk, name: &str, text: impl AsRef<[u8]>) {
    let content = fs::read(desk.path(name)).expect("it is there");
    desk.write(name, [&content, text.as_ref()].concat());
}

#[test]
fn a_whole_list_is_resumed_without_a_request() {
    let (desk, server, world) = listed();
    assert_eq!(resume(&desk, &server, &world), 0);
}

#[test]
fn wherever_both_files_are_torn_they_are_completed() {
    let (desk, server, world) = listed();
    let whole = ["rows.csv", "rows.list.csv"].map(|name| fs::read(desk.path(name)).unwrap());
    // The report is torn in the record of the last user, whose rows may be there in part.
    let record = String::from_utf8_lossy(&whole[1]).lines().last().unwrap().len();
    for cut_record in [1, 2, 30, record, record + 1] {
        for cut_rows in [0, 1, 7, 60, 100] {
            desk.write("rows.csv", &whole[0][..whole[0].len() - cut_rows]);
            desk.write("rows.list.csv", &whole[1][..whole[1].len() - cut_record]);
            let again = resume(&desk, &server, &world);
            let is_whole = cut_record == 1 && cut_rows == 0;
            assert!(
                again == 1 || (is_whole && again == 0),
                "-{cut_record} -{cut_rows}: {again}"
            );
        }
    }
}

#[test]
fn whatever_is_lost_of_both_ends_is_listed_again() {
    let ids = ["a\nb", "\"", "x,\"\r\n", "plain", "\n"];
    let conv = |id: &&str| Conv {
        id: (*id).into(),
        kind: 2,
        at: FIRST,
    };
    let convs: Vec<_> = ids.iter().map(conv).collect();
    let world = ["one", "two\nlines", "\"three\"", "four"]
        .iter()
        .enumerate()
        .fold(World::default(), |world, (number, user)| {
            world.with(user, convs[..=number].to_vec())
        });
    let users = "user\none\n\"two\nlines\"\n\"\"\"three\"\"\"\nfour\n";
    let (desk, server) = (Desk::new(), world.serve());
    let call = || list(&desk, &server, users).flag("--rate", "100000");
    call().run().assert_status(0);
    let whole = ["rows.csv", "rows.list.csv"].map(|name| fs::read(desk.path(name)).unwrap());
    let seed = fastrand::u64(..1 << 32);
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..30 {
        let kept = whole.each_ref().map(|content| rng.usize(..=content.len()));
        for ((name, content), kept) in ["rows.csv", "rows.list.csv"].iter().zip(&whole).zip(kept) {
            let zeros = if rng.u8(..8) == 0 { rng.usize(..50) } else { 0 };
            desk.write(name, [&content[..kept], &vec![0; zeros]].concat());
        }
        let outcome = call().arg("--resume").run();
        if kept[1] == 0 && kept[0] > 0 {
            // Without a record, the rows may be anyone's.
            assert!(
                [0, 4].contains(&outcome.status),
                "seed {seed}, cut to {kept:?}: {outcome:?}"
            );
            continue;
        }
        assert_eq!(outcome.status, 0, "seed {seed}, cut to {kept:?}: {}", outcome.stderr);
        assert_eq!(sorted(rows(&desk)), world.all_rows(), "seed {seed}, cut to {kept:?}");
        assert_together(&rows(&desk));
        assert_eq!(records(&desk).len(), 4, "seed {seed}, cut to {kept:?}");
    }
}

#[test]
fn rows_without_a_record_are_dropped() {
    let (desk, server, world) = listed();
    append(&desk, "rows.csv", "dan,d1,0,\ndan,d2,0,\n");
    assert_eq!(resume(&desk, &server, &world), 0);
    append(&desk, "rows.csv", "dan,\"d1");
    assert_eq!(resume(&desk, &server, &world), 0);
    append(&desk, "rows.csv", [0; 5000]);
    append(&desk, "rows.list.csv", [0; 5000]);
    assert_eq!(resume(&desk, &server, &world), 0);
}

#[test]
fn users_whose_rows_a_power_cut_took_are_listed_again() {
    for (bytes, again) in [(1, 1), (20, 1), (150, 1), (230, 3)] {
        let (desk, server, world) = listed();
        cut(&desk, "rows.csv", bytes);
        let listed = resume(&desk, &server, &world);
        assert_eq!(listed, again, "{bytes} bytes of rows were lost");
    }
    for content in ["", "user,conv", "user,conv,type,updated_at\n"] {
        let (desk, server, world) = listed();
        desk.write("rows.csv", content);
        assert_eq!(resume(&desk, &server, &world), 3, "rows.csv is {content:?}");
    }
}

#[test]
fn a_rows_file_that_was_edited_is_not_resumed() {
    let (desk, server, world) = listed();
    let whole = desk.read("rows.csv");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = |index: usize| [&lines[..index], &lines[index + 1..]].concat().concat();
    for edited in [without(1), without(2), whole.replacen("ann,", "eve,", 1)] {
        desk.write("rows.csv", &edited);
        assert_refused(&desk, &server, &world, 4, &["rows.csv"]);
    }
    for foreign in [
        &whole.replace(",updated_at", ""),
        "user,conv,type\nann,c,0\n",
        "precious\n",
    ] {
        desk.write("rows.csv", foreign);
        assert_refused(&desk, &server, &world, 2, &["rows.csv"]);
    }
}

#[test]
fn a_missing_file_is_named() {
    let (desk, server, world) = listed();
    let [rows, report] = ["rows.csv", "rows.list.csv"].map(|name| desk.read(name));
    fs::remove_file(desk.path("rows.csv")).unwrap();
    assert_refused(&desk, &server, &world, 4, &["rows.csv"]);
    desk.write("rows.csv", rows);
    fs::remove_file(desk.path("rows.list.csv")).unwrap();
    assert_refused(&desk, &server, &world, 4, &["rows.list.csv"]);
    desk.write("rows.list.csv", report);
    assert_eq!(resume(&desk, &server, &world), 0);
}

#[test]
fn existing_files_are_not_changed_without_a_flag() {
    let (desk, server, world) = listed();
    let read = || ["rows.csv", "rows.list.csv"].map(|name| fs::read(desk.path(name)).ok());
    for missing in [None, Some("rows.csv"), Some("rows.list.csv")] {
        let whole = read();
        if let Some(name) = missing {
            fs::remove_file(desk.path(name)).unwrap();
        }
        let before = read();
        let outcome = list(&desk, &server, world.users_csv()).run();
        outcome.assert_status(2).assert_says(&["--resume", "--overwrite"]);
        assert_eq!(read(), before);
        for (name, content) in ["rows.csv", "rows.list.csv"].iter().zip(whole) {
            desk.write(name, content.unwrap());
        }
    }
    assert_eq!(server.count(), 3);
    list(&desk, &server, "ben\n").arg("--overwrite").run().assert_status(0);
    assert_eq!((rows(&desk).len(), records(&desk).len()), (0, 1));
}

#[test]
fn a_changed_user_is_named_and_appended_users_are_new() {
    let (desk, server, world) = listed();
    let changed = world.users_csv().replace("ben", "bob");
    list(&desk, &server, changed)
        .arg("--resume")
        .run()
        .assert_status(4)
        .assert_says(&["line 3"]);
    let more = world.with("dan", vec![]);
    let outcome = list(&desk, &server, more.users_csv()).arg("--resume").run();
    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("already_done", 3), ("failed", 1), ("requests", 1)]);
}

#[test]
fn a_simulated_list_is_not_resumed_for_real_nor_a_real_one_simulated() {
    let (desk, server, world) = listed();
    let simulated = || {
        desk.zim_batch([
            "list",
            "users.csv",
            "--rows",
            "rows.csv",
            "--simulate",
            "--rate",
            "500",
            "--json",
        ])
    };
    simulated()
        .arg("--resume")
        .run()
        .assert_status(4)
        .assert_says(&["simulate"]);
    let outcome = simulated().arg("--overwrite").run();
    assert!([0, 3].contains(&outcome.status), "{outcome:?}");
    assert!(
        records(&desk)
            .values()
            .all(|record| record.message.starts_with("simulated: "))
    );
    assert_refused(&desk, &server, &world, 4, &["simulate"]);
}

#[test]
fn one_list_at_a_time_writes_a_rows_file() {
    let world = World::of([("ann", 1), ("ben", 1)]);
    let desk = Desk::new();
    let server = Server::start(|_, _| crate::support::Answer::Hang(std::time::Duration::from_secs(20)));
    let mut running = list(&desk, &server, world.users_csv()).spawn();
    running.wait_until("a request", || server.count() > 0);
    for flag in ["--resume", "--overwrite"] {
        list(&desk, &server, world.users_csv())
            .arg(flag)
            .run()
            .assert_status(75);
        list(&desk, &server, world.users_csv())
            .arg(flag)
            .flag("--report", "other.csv")
            .run()
            .assert_status(75);
    }
}
