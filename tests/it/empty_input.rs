//! An input in which there is nothing to do, or whose users may be in another column: what is said, and not silently passed
//! over.

use crate::support::list::{list_with, with_app};
use crate::support::world::World;
use crate::support::{Call, Desk, Server};

fn clear_users(desk: &Desk, server: &Server, users: &str) -> Call {
    with_app(desk.zim_batch(["clear", "--users", users, "--endpoint", &server.url()]))
        .flag("--rate", "500")
        .arg("--quiet")
}

#[test]
fn an_input_with_only_a_header_is_said_even_if_quiet() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    desk.write("u.csv", "user\n");
    desk.write("r.csv", "user,conv,type\n");
    let users = "u.csv: no user in this input, only a header; nothing was done";
    let rows = "r.csv: no row in this input, only a header; nothing was done";
    clear_users(&desk, &server, "u.csv")
        .flag("--report", "out.csv")
        .run()
        .assert_status(0)
        .assert_says(&[users]);
    list_with(&desk, &server.url(), "u.csv")
        .arg("--quiet")
        .run()
        .assert_status(0)
        .assert_says(&[users]);
    for flag in ["--dedupe", "--resume"] {
        desk.clear_with(&server.url(), "r.csv")
            .arg("--quiet")
            .arg(flag)
            .run()
            .assert_status(0)
            .assert_says(&[rows]);
    }
    desk.write("peer.csv", "user,conv,type\nann,ben,0\n");
    desk.clear_with(&server.url(), "peer.csv")
        .arg("--quiet")
        .flag("--type", "group")
        .run()
        .assert_status(0)
        .assert_says(&["peer.csv: no row of type group; nothing was done"]);
}

#[test]
fn a_list_with_a_limit_says_that_users_were_listed() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1), ("ben", 1)]).serve());
    desk.write("u.csv", "user\nann\nben\n");
    let call = list_with(&desk, &server.url(), "u.csv").flag("--limit", "1");
    call.run()
        .assert_status(0)
        .assert_says(&["users listed: 1, the maximum set by --limit", "to list the rest: "]);
}

#[test]
fn failures_that_are_those_of_users_are_named_where_rows_are_asked_for() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    desk.write("users.csv", "user\nann\ngone\nlost\n");
    let run = clear_users(&desk, &server, "users.csv")
        .flag("--report", "out.csv")
        .run();
    run.assert_status(3);

    let retry = desk
        .clear_with(&server.url(), "out.csv")
        .flag("--only", "failed")
        .flag("--report", "retry.csv")
        .arg("--quiet")
        .run();
    let command = "zim-batch clear --users out.list.csv --only failed --report out.users.csv";
    let said = format!("no row of out.csv is failed, so nothing was done; 2 users are: {command}");
    retry.assert_status(0).assert_says(&[&said]);

    let copy = desk
        .zim_batch(["report", "out.csv", "--only", "failed", "--csv", "f.csv"])
        .run();
    let command = "zim-batch report out.list.csv --only failed --csv f.csv";
    let said = format!("no row of out.csv is failed; 2 users are: {command}");
    copy.assert_status(0).assert_says(&[&said]);

    // None of either.
    let copy = desk
        .zim_batch(["report", "out.csv", "--only", "skipped,outside", "--csv", "f.csv"])
        .run();
    copy.assert_status(0)
        .assert_says(&["no row of out.csv is skipped or outside\n"]);
}

#[test]
fn a_first_column_that_is_only_assumed_to_be_the_user_is_said() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1), ("a1", 1)]).serve());
    desk.write("swap.csv", "full name,member\nann,a1\n");
    let said = "swap.csv, line 1: no known header, so column 1 of 2 is the user from line 1 on ('full name')";
    let how = "--columns user=NAME";
    clear_users(&desk, &server, "swap.csv")
        .flag("--report", "out.csv")
        .run()
        .assert_status(3);
    let loud = || list_with(&desk, &server.url(), "swap.csv").flag("--rows", "-");
    loud().run().assert_says(&["WARN", said, how]);
    let text = desk
        .zim_batch(["check", "swap.csv"])
        .run()
        .assert_status(0)
        .stdout
        .clone();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(said) && words.contains(how), "{text}");

    // Nothing is assumed.
    let named = loud().flag("--columns", "user=member").run();
    assert!(!named.assert_status(0).stderr.contains("no known header"));
    for users in ["ann\na1\n", "uid,name\nann,Ann\n", "ann,c,0\n", "user,name\nann,Ann\n"] {
        desk.write("swap.csv", users);
        let told = loud().run();
        assert!(!told.stderr.contains("no known header"), "{users}: {}", told.stderr);
    }
}
