//! Together: a check that finds out at once, and `list` with `clear` in a pipe.

use std::io;

use crate::support::Desk;
use crate::world::World;
use crate::{list_with, with_app};

#[test]
fn a_wrong_secret_costs_a_check_two_requests() {
    let (desk, server) = (Desk::new(), World::default().serve());
    let rows: String = (0..1000).map(|number| format!("u{number},c,0\n")).collect();
    desk.write("rows.csv", rows);
    let call = with_app(desk.zim_batch(["check", "rows.csv", "--online", "--endpoint", &server.url()]));
    let call = call.env("ZIM_SERVER_SECRET", "0123456789abcdef0123456789abcdef");
    call.run().assert_status(6).assert_tells(&["100000005"]);
    assert!(server.count() <= 2, "{} requests", server.count());
}

/// `list` waits for `clear` to read, and `clear` for `list` to give up the quota: neither goes on.
#[test]
fn a_pipe_into_clear_works_for_more_rows_than_a_pipe_holds() {
    let world = World::of((0..20).map(|number| (format!("a-user-with-a-long-name-{number}"), 200)));
    let (desk, server) = (Desk::new(), world.serve());
    desk.write("users.csv", world.users_csv());
    let (reader, writer) = io::pipe().unwrap();
    let list = list_with(&desk, &server.url(), "users.csv")
        .flag("--rows", "-")
        .flag("--rate", "500");
    let list = list.stdout(writer).spawn();
    let clear = desk
        .clear_with(&server.url(), "-")
        .flag("--report", "out.csv")
        .flag("--rate", "500");
    let clear = clear.arg("--json").stdin_from(reader).spawn();
    list.wait().assert_status(0);
    clear
        .wait()
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 4000), ("ok", 4000)]);
}
