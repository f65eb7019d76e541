//! Retries, outages, limits and signals: as for `clear`, page by page.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::list::{list, records, rows, sorted};
use crate::support::world::World;
use crate::support::{Answer, Desk, LIST_HEADER, Options, ROWS_HEADER, Server};

fn many(users: usize) -> World {
    World::of((0..users).map(|number| (format!("u{number:03}"), 3)))
}

#[test]
fn an_outage_is_waited_out() {
    const OUTAGE: Duration = Duration::from_secs(2);
    let world = many(60);
    let (served, began) = (world.clone(), Mutex::new(None::<Instant>));
    let server = Server::start(move |request, _| {
        let mut began = began.lock().unwrap();
        if request.user() == "u020" && began.is_none() {
            *began = Some(request.at);
        }
        if began.is_some_and(|began| began.elapsed() < OUTAGE) {
            Answer::Close
        } else {
            served.answer(request)
        }
    });
    let desk = Desk::new();

    let outcome = list(&desk, &server, world.users_csv())
        .flag("--rate", "100")
        .flag("--max-attempts", "3")
        .run();

    outcome.assert_status(0).assert_says(&["on hold", "answers again"]);
    assert_eq!(sorted(rows(&desk)), world.all_rows());
    assert!(server.count() < 200, "{} requests", server.count());
}

#[test]
fn each_page_is_retried_and_counts() {
    let world = World::of([("ann", 1000), ("ben", 2)]);
    let served = world.clone();
    let server = Server::start(move |request, n| match (request.user().as_str(), n) {
        ("ann", 1) => Answer::Code(660_800_053, "query failed"),
        ("ann", 2) => Answer::Reset,
        _ => served.answer(request),
    });
    let desk = Desk::new();

    let outcome = list(&desk, &server, world.users_csv())
        .flag("--max-attempts", "3")
        .run();

    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("requests", 7), ("retries", 4), ("ok", 2)]);
    assert_eq!(sorted(rows(&desk)), world.all_rows());
    let attempts: Vec<_> = records(&desk).values().map(|record| record.attempts).collect();
    assert_eq!(attempts, [6, 1]);
}

#[test]
fn a_user_whose_second_page_fails_has_no_rows() {
    let world = World::of([("ann", 1000), ("ben", 2)]);
    let served = world.clone();
    let server = Server::start(move |request, _| match request.member("Next").as_str() {
        "0" => served.answer(request),
        _ => Answer::Code(660_800_053, "query failed"),
    });
    let desk = Desk::new();
    let call = list(&desk, &server, world.users_csv()).flag("--max-attempts", "2");
    call.run()
        .assert_status(3)
        .summary()
        .assert_counts(&[("ok", 1), ("failed", 1), ("conversations", 2)]);
    assert_eq!(rows(&desk), world.rows("ben"));
    assert_eq!(
        (records(&desk)[&2].conversations, records(&desk)[&2].code.as_str()),
        (0, "660800053")
    );
}

#[test]
fn a_cap_costs_time_but_no_user() {
    let world = many(25);
    let options = Options {
        cap: Some(10),
        ..Options::default()
    };
    let (desk, server) = (Desk::new(), world.serve_with(options));
    let call = list(&desk, &server, world.users_csv())
        .flag("--rate", "20")
        .flag("--max-attempts", "1");
    let outcome = call.run();
    let limited = server.requests().iter().filter(|request| !request.is_accepted).count() as u64;
    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 25), ("limited", limited), ("requests", 25 + limited)]);
    assert!(limited > 0);
    assert_eq!(sorted(rows(&desk)), world.all_rows());
}

#[test]
fn a_refused_signature_stops_the_list_which_can_be_resumed() {
    let world = many(5);
    let (desk, server) = (Desk::new(), world.serve());
    let call = || list(&desk, &server, world.users_csv());
    let wrong = call()
        .env("ZIM_SERVER_SECRET", "0123456789abcdef0123456789abcdef")
        .run();
    wrong.assert_status(6).assert_says(&["100000005", "--resume"]);
    wrong.summary().assert_counts(&[("rows", 5), ("not_run", 5)]);
    for (name, header) in [("rows.csv", ROWS_HEADER), ("rows.list.csv", LIST_HEADER)] {
        assert_eq!(desk.read(name), format!("{header}\n"), "{name}");
    }
    call().arg("--resume").run().assert_status(0);
    assert_eq!(sorted(rows(&desk)), world.all_rows());
}

#[test]
fn max_failures_stops_the_list() {
    let world = many(60);
    let served = world.clone();
    let is_open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let opened = std::sync::Arc::clone(&is_open);
    let server = Server::start(move |request, _| match request.user().ends_with('5') {
        true if !opened.load(std::sync::atomic::Ordering::SeqCst) => Answer::Code(660_500_002, "not registered"),
        _ => served.answer(request),
    });
    let desk = Desk::new();
    let call = || {
        list(&desk, &server, world.users_csv())
            .flag("--rate", "100")
            .flag("--max-in-flight", "2")
    };
    let outcome = call().flag("--max-failures", "2").run();
    outcome.assert_status(5);
    let summary = outcome.summary();
    assert!(
        summary.count("not_run") > 20 && (2..=3).contains(&summary.count("failed")),
        "{summary:?}"
    );
    is_open.store(true, std::sync::atomic::Ordering::SeqCst);
    let failed = summary.count("failed") as usize;
    call().arg("--resume").run().assert_status(3);
    assert_eq!((records(&desk).len(), rows(&desk).len()), (60, 3 * (60 - failed)));
}

#[test]
fn max_duration_and_the_first_signal_leave_whole_users_only() {
    // Two pages for each user. What is in flight is finished; a user with another page to come is listed again.
    let world = World::of((0..60).map(|number| (format!("u{number:02}"), 501)));
    let stop = |flag: &str, signal: Option<&str>, status: i32| {
        let served = world.clone();
        let server = Server::start(move |request, _| {
            Answer::After(Duration::from_millis(300), Box::new(served.answer(request)))
        });
        let desk = Desk::new();
        let call = || {
            list(&desk, &server, world.users_csv())
                .flag("--max-in-flight", "4")
                .flag("--rate", "500")
        };
        let mut running = call().flag("--max-duration", flag).spawn();
        if let Some(signal) = signal {
            running.wait_until("pages are in flight", || server.count() >= 10);
            running.signal(signal);
        }
        let outcome = running.wait();
        outcome.assert_status(status).assert_says(&["--resume"]);
        let summary = outcome.summary();
        let (ok, not_run) = (summary.count("ok"), summary.count("not_run"));
        assert!(ok > 0 && not_run > 0 && ok + not_run == 60, "{summary:?}");
        let begun = server.count() as u64;
        assert!((2 * ok..=2 * ok + 4).contains(&begun), "{begun} requests: {summary:?}");
        assert_eq!((records(&desk).len() as u64, rows(&desk).len() as u64), (ok, ok * 501));
        call()
            .flag("--max-in-flight", "64")
            .arg("--resume")
            .run()
            .assert_status(0);
        assert_eq!(sorted(rows(&desk)), world.all_rows());
    };
    thread::scope(|scope| {
        scope.spawn(|| stop("1s", None, 7));
        scope.spawn(|| stop("1h", Some("TERM"), 143));
    });
}
