//! What another local user could do: files and links put beforehand where this user's files will be, in a directory that
//! everyone may write to.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use crate::support::{Call, Desk, Server, can_be_another_user, kind_server, rows};

/// Another user, and a third one.
const OTHER: u32 = 54321;
const THIRD: u32 = 54322;

/// A desk in a directory like /tmp.
fn open_desk() -> Desk {
    let desk = Desk::new();
    fs::set_permissions(desk.path(""), Permissions::from_mode(0o1777)).expect("root may do that");
    desk
}

/// A file of this user that everyone may read and write.
fn plant(desk: &Desk, name: &str, content: &str, owner: u32) {
    let path = desk.write(name, content);
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("root may do that");
    chown(&path, Some(owner), Some(owner)).expect("root may do that");
}

/// A run that writes all kinds of files.
fn run(desk: &Desk, server: &Server) -> Call {
    let call = desk.clear(server, rows(2)).flag("--log-file", "run.log");
    call.flag("--html", "page.html").flag("--metrics", "run.prom")
}

const FILES: [&str; 5] = ["out.csv", "out.outside.csv", "run.log", "page.html", "run.prom"];

#[test]
fn a_file_that_another_user_has_put_there_is_refused() {
    if !can_be_another_user() {
        return;
    }
    let server = kind_server();
    for (name, user) in FILES.into_iter().flat_map(|name| [(name, None), (name, Some(THIRD))]) {
        let desk = open_desk();
        plant(&desk, name, "", OTHER);
        let call = run(&desk, &server);
        let call = match user {
            Some(user) => call.by_user(user),
            None => call,
        };
        let outcome = call.run();
        outcome
            .assert_status(2)
            .assert_says(&[name, "belongs to another user (user ID 54321)", "remove it"]);
        assert_eq!(desk.read(name), "");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_link_that_another_user_has_put_there_is_refused() {
    if !can_be_another_user() {
        return;
    }
    let server = kind_server();
    for name in FILES {
        let desk = open_desk();
        desk.write("precious", "");
        symlink("precious", desk.path(name)).unwrap();
        lchown(desk.path(name), Some(OTHER), Some(OTHER)).unwrap();
        run(&desk, &server)
            .run()
            .assert_status(2)
            .assert_says(&[name, "belongs to another user"]);
        assert_eq!(desk.read("precious"), "");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn events_of_the_simulator_are_not_written_to_a_file_of_another_user() {
    if !can_be_another_user() {
        return;
    }
    let desk = open_desk();
    plant(&desk, "events.jsonl", "", OTHER);
    let outcome = desk.zim_batch(["simulate", "--events", "events.jsonl"]).run();
    outcome
        .assert_status(2)
        .assert_says(&["--events", "belongs to another user"]);
}

#[test]
fn a_user_resumes_no_report_of_another_one_and_root_does_if_it_has_records() {
    if !can_be_another_user() {
        return;
    }
    let (desk, server) = (open_desk(), kind_server());
    desk.clear(&server, rows(4))
        .flag("--limit", "2")
        .by_user(OTHER)
        .run()
        .assert_status(0);
    fs::set_permissions(desk.path("out.csv"), Permissions::from_mode(0o666)).unwrap();
    let resume = || desk.clear(&server, rows(4)).arg("--resume");
    resume()
        .by_user(THIRD)
        .run()
        .assert_status(2)
        .assert_says(&["out.csv", "another user", "--report FILE"]);
    resume().run().assert_status(0);
    assert_eq!(desk.report().len(), 4);
    let overwrite = desk.clear(&server, rows(4)).arg("--overwrite").run();
    overwrite.assert_status(2).assert_says(&["out.csv", "another user"]);
    assert_eq!(desk.report().len(), 4);
}

#[test]
fn a_log_of_runs_of_another_user_is_not_written_to_and_its_command_is_not_suggested() {
    if !can_be_another_user() {
        return;
    }
    let (desk, server) = (open_desk(), kind_server());
    let run = desk.clear(&server, rows(4)).flag("--limit", "2").run();
    run.assert_status(0);
    let planted = desk.read("out.runs.jsonl").replace("--resume", "--resume; rm -r x");
    let suggests = || {
        desk.zim_batch(["report", "out.csv", "--rows", "rows.csv"])
            .run()
            .stdout
            .contains("rm -r x")
    };
    desk.write("out.runs.jsonl", &planted);
    assert!(suggests(), "{planted}");
    plant(&desk, "out.runs.jsonl", &planted, OTHER);
    assert!(!suggests());
    plant(&desk, "out.runs.jsonl", "", OTHER);
    let outcome = desk.clear(&server, rows(4)).arg("--resume").run();
    outcome
        .assert_status(0)
        .assert_says(&["out.runs.jsonl", "belongs to another user"]);
    assert_eq!(desk.read("out.runs.jsonl"), "");
}

#[test]
fn a_mark_of_another_user_does_not_say_since_when_conversations_are_listed() {
    if !can_be_another_user() {
        return;
    }
    let desk = open_desk();
    desk.write("users.csv", "alice\n");
    let list = || {
        desk.zim_batch(["list", "users.csv", "--simulate", "--since", "last", "--overwrite"])
            .run()
    };
    list().assert_status(0);
    plant(
        &desk,
        "users.rows.list.since",
        &desk.read("users.rows.list.since"),
        OTHER,
    );
    list()
        .assert_status(2)
        .assert_says(&["users.rows.list.since", "belongs to another user"]);
}
