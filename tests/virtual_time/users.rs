//! A run that lists users and clears their rows, with a client and the simulator on the paused clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpListener;
use zim_batch::client::ClearUsers;
use zim_batch::event::Event;
use zim_batch::journal::{Journal, UsersReport};
use zim_batch::row::Subject;
use zim_batch::rows::Reads;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::{Client, Lister};

use super::*;

const USERS: usize = 400;
/// Fewer than a run lists ahead, so that there is always something to send.
const ROWS: usize = 600;

/// The client of a simulator that refuses the 21st request of any second, with so many users and rows.
async fn strict_client() -> Client {
    let rows = (0..ROWS).map(|row| format!("u{},c{row},0\n", row % USERS));
    let world = "user,conv,type\n".to_owned() + &rows.collect::<String>();
    let world = World::from_csv(world.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let options = Options {
        cap: 20,
        ..Options::default()
    };
    let client = Client::builder(options.app_id, options.server_secret.clone()).endpoint(endpoint);
    tokio::spawn(serve(listener, world, options, None, std::future::pending()));
    client.build().unwrap()
}

#[test]
fn listing_and_clearing_together_start_at_most_twenty_requests_in_any_second() {
    in_paused_time(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let lines = (0..USERS).map(|user| format!("u{user}\n"));
        std::fs::write(path("users.csv"), "user\n".to_owned() + &lines.collect::<String>()).unwrap();
        let files = ["rows.csv", "list.csv", "out.csv", "outside.csv"].map(path);
        let [rows, list, report, outside] = &files;
        let mut journal = UsersReport::open([rows, list], [report, outside], IfExists::Refuse, false).unwrap();
        let format = Format {
            reads: Reads::Users,
            ..Format::default()
        };
        let users = Input::open(&Source::File(path("users.csv")), &format)
            .and_then(|input| input.plan(&Selection::default(), journal.list().take_done()))
            .unwrap();
        let rows = Plan::of_listed(&journal.listed(), None, journal.take_done()).unwrap();

        let starts = Arc::new(Mutex::new(Vec::new()));
        let (sent, turns, was_user) = (
            Arc::clone(&starts),
            Arc::new(AtomicUsize::new(0)),
            AtomicBool::new(true),
        );
        let counted = Arc::clone(&turns);
        let summary = Job::listed(
            ClearUsers::new(Lister::new(strict_client().await)),
            users,
            rows,
            journal,
        )
        .on_event(move |event| {
            if let Event::Sent { at, .. } = event {
                sent.lock().unwrap().push(*at);
            }
        })
        .on_record(move |record| {
            let is_user = record.subject == Subject::User;
            let is_other = was_user.swap(is_user, Ordering::Relaxed) != is_user;
            counted.fetch_add(usize::from(is_other), Ordering::Relaxed);
        })
        .run()
        .await
        .unwrap();

        let requests = USERS + ROWS;
        assert_eq!(
            (summary.ok, summary.requests, summary.limited),
            (ROWS as u64, requests as u64, 0),
            "{summary:?}"
        );
        let starts = starts.lock().unwrap();
        let peak = peak(&starts);
        assert_eq!((starts.len(), peak, summary.peak_1s), (requests, 20, 20));
        let turns = turns.load(Ordering::Relaxed);
        assert!(turns > 50, "rows and users took turns {turns} times");
        // Threads read rows and sync files in real time, so the first rows and the last ones may come late.
        let rate = 899.0 / (starts[949] - starts[50]).as_secs_f64();
        assert!(rate > 19.8, "{rate} per second");
    });
}
