//! When requests are sent: evenly, never more than the rate in any one second.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::list::with_app;
use crate::support::world::World;
use crate::support::{Answer, Desk, Options, Request, Server, figures, kind_server, pace, rows};

const SECOND: Duration = Duration::from_secs(1);

/// Requests per second from the first of these to the last.
fn rate(requests: &[Request]) -> f64 {
    let [first, .., last] = requests else {
        panic!("too few requests for a rate")
    };
    (requests.len() - 1) as f64 / (last.at - first.at).as_secs_f64()
}

/// With delays of the machine below this, a strict server has no reason to refuse a request.
const QUIET: Duration = Duration::from_millis(2);

#[test]
fn two_hundred_rows_keep_a_strict_cap_of_twenty_and_use_it_fully() {
    let options = Options {
        cap: Some(20),
        ..Options::default()
    };
    let server = Server::with(options, |_, _| Answer::Code(0, "success"));
    let desk = Desk::new();

    let started_at = Instant::now();
    let outcome = desk.clear(&server, rows(200)).without("--rate").run();
    let delay = pace::delay(started_at, Instant::now());

    let summary = outcome.assert_status(0).summary();
    summary.assert_counts(&[("ok", 200)]);
    assert!(summary.count("peak_1s") <= 20, "{summary:?}");
    server.assert_well_formed();
    let requests = server.requests();
    pace::assert_within_cap(&server.arrivals(), 20);
    pace::assert_spread(&server.arrivals(), 10, Duration::from_millis(380));
    figures(&format!(
        "{} per second; delays of the machine: {delay:?}",
        rate(&requests)
    ));
    if delay <= QUIET {
        assert!(rate(&requests) >= 19.0, "{} requests per second", rate(&requests));
        summary.assert_counts(&[("requests", 200), ("limited", 0), ("retries", 0)]);
        assert!(requests.iter().all(|request| request.is_accepted));
    }
}

/// Two calls, one cap: a run that lists users and clears their rows.
#[test]
fn listing_and_clearing_together_keep_a_strict_cap_of_twenty_and_use_it_fully() {
    let options = Options {
        cap: Some(20),
        ..Options::default()
    };
    let world = World::of((0..60).map(|number| (format!("user{number}"), number % 3)));
    let (desk, server) = (Desk::new(), world.serve_with(options));
    desk.write("users.csv", world.users_csv());
    let call = desk.zim_batch(["clear", "--users", "users.csv", "--endpoint", &server.url()]);
    let call = with_app(call).flag("--report", "out.csv").arg("--json");

    let started_at = Instant::now();
    let outcome = call.run();
    let delay = pace::delay(started_at, Instant::now());

    let summary = outcome.assert_status(0).summary();
    summary.assert_counts(&[("ok", 60)]);
    assert!(summary.count("peak_1s") <= 20, "{summary:?}");
    server.assert_well_formed();
    let requests = server.requests();
    pace::assert_within_cap(&server.arrivals(), 20);
    pace::assert_spread(&server.arrivals(), 10, Duration::from_millis(380));
    let turns = requests.windows(2).filter(|two| two[0].is_list() != two[1].is_list());
    let turns = turns.count();
    assert!(turns >= 20, "the calls took turns {turns} times");
    figures(&format!(
        "{} per second, {turns} turns; delays of the machine: {delay:?}",
        rate(&requests)
    ));
    if delay <= QUIET {
        assert!(rate(&requests) >= 19.0, "{} requests per second", rate(&requests));
        summary.assert_counts(&[("requests", 120), ("limited", 0), ("retries", 0)]);
        assert!(requests.iter().all(|request| request.is_accepted));
    }
}

#[test]
fn a_rate_may_be_a_fraction() {
    thread::scope(|scope| {
        for (fraction, count) in [("2.5", 6), ("0.5", 2)] {
            scope.spawn(move || {
                let (desk, server) = (Desk::new(), kind_server());
                let call = desk.clear(&server, rows(count)).flag("--rate", fraction);
                call.run().assert_status(0);
                assert_eq!(server.count(), count);
                pace::assert_spread(&server.arrivals(), count, 2 * SECOND);
            });
        }
    });
}

#[test]
fn max_in_flight_limits_the_requests_in_flight() {
    let server = Server::start(|_, _| Answer::After(Duration::from_millis(200), Box::new(Answer::Code(0, "success"))));
    let desk = Desk::new();

    desk.clear(&server, rows(30))
        .flag("--max-in-flight", "3")
        .run()
        .assert_status(0);

    assert_eq!(server.most_open(), 3);
    assert_eq!(server.requests().len(), 30);
}
