//! Together: a check that finds out at once, and `list` with `clear` in a pipe.

use std::io;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zim_batch::simulator::{self, Options};

use crate::support::list::{list_with, with_app};
use crate::support::world::World;
use crate::support::{APP_ID, Desk, SECRET};

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

/// The simulator counts the clears that changed an unread count, so a second time there is nothing left to change.
#[test]
fn after_list_and_clear_every_unread_count_that_can_be_reached_is_zero() {
    const OF_BUSY: usize = 1100;
    const NEWEST: u64 = 1000;
    let mut world =
        "user,conv,type,unread\nalice,bob,0,3\nalice,#team,2,7\nalice,carol,0,0\nbob,alice,0,1\n".to_owned();
    for number in 0..OF_BUSY {
        world += &format!("busy,c{number},0,1\n");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut cleared = Vec::new();
    for rounds in [1, 2] {
        let desk = Desk::new();
        desk.write("users.csv", "user\nalice\nbob\nbusy\n");
        let (listener, url) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            (listener, url)
        });
        let options = Options {
            app_id: APP_ID,
            server_secret: SECRET.into(),
            cap: 0,
            ..Options::default()
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let world = simulator::World::from_csv(world.as_bytes()).unwrap();
        let serving = runtime.spawn(simulator::serve(listener, world, options, None, async {
            _ = stopped.await
        }));
        for round in 0..rounds {
            let list = list_with(&desk, &url, "users.csv")
                .flag("--rate", "5000")
                .arg("--overwrite");
            list.run().assert_status(0);
            let clear = desk.clear_with(&url, "users.rows.csv").flag("--rate", "5000");
            let outcome = clear.flag("--report", &format!("out{round}.csv")).arg("--json").run();
            outcome.assert_status(0).summary().assert_counts(&[("ok", NEWEST + 4)]);
        }
        stop.send(()).unwrap();
        cleared.push(runtime.block_on(serving).unwrap().unwrap().cleared);
    }
    // Three unread counts of alice and bob, and those of the conversations that can be reached.
    assert_eq!(cleared, [NEWEST + 3; 2]);
}
