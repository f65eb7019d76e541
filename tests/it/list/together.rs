//! Together: a check that finds out at once, and `list` with `clear`.

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use zim_batch::simulator::{self, Options};

use crate::support::list::list_with;
use crate::support::{APP_ID, Desk, SECRET};

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
