//! `zim-batch quota` while runs of one machine are under way.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{CAP, count_of, lock_files, run_of, wait_for_requests};
use crate::support::{APP_ID, Desk, Server, figures, kind_server, pace};

const SECOND: Duration = Duration::from_secs(1);

/// What may be on its way to the server when a limit is set.
const ON_THE_WAY: Duration = Duration::from_millis(200);

/// Calls `zim-batch quota` for the runs that use this server; returns what it prints, and when it had done so.
pub fn steer(desk: &Desk, server: &Server, quota: Option<&str>, args: &[&str]) -> (Value, Instant) {
    let call = desk.zim_batch(
        [
            &[
                "quota",
                "--json",
                "--app-id",
                &APP_ID.to_string(),
                "--endpoint",
                &server.url(),
            ],
            args,
        ]
        .concat(),
    );
    let call = match quota {
        Some(url) => call.env("ZIM_QUOTA", url),
        None => call,
    };
    let outcome = call.run();
    outcome.assert_status(0);
    let shown = serde_json::from_str(&outcome.stdout).expect("one JSON object");
    (shown, Instant::now())
}

/// The arrivals from then on.
pub fn since(server: &Server, from: Instant) -> Vec<Instant> {
    server.arrivals().into_iter().filter(|at| *at >= from).collect()
}

/// How many requests were sent after a pause began: all that were sent before have arrived.
pub fn since_the_pause(server: &Server, from: Instant) -> usize {
    let delay = pace::delay(from - SECOND, Instant::now());
    since(server, from + ON_THE_WAY + 3 * delay).len()
}

#[test]
fn a_limit_slows_down_all_runs_together_pauses_them_without_an_outage_and_lets_them_go() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut runs = ["a", "b"].map(|user| {
        let call = run_of(&desk, &server, user, 1000);
        call.flag("--give-up-after", "2s")
            .flag("--log-file", &format!("{user}.log"))
            .spawn()
    });
    for (run, user) in runs.iter_mut().zip(["a", "b"]) {
        run.wait_until("both are under way", || count_of(&server.requests(), user) >= 20);
    }
    let (shown, _) = steer(&desk, &server, None, &[]);
    let mut shown_runs: Vec<_> = shown["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| &run["process"])
        .collect();
    let mut processes = runs.each_ref().map(|run| run.id());
    shown_runs.sort_by_key(|process| process.as_u64());
    processes.sort_unstable();
    assert_eq!(shown_runs, processes.each_ref(), "{shown}");
    assert_eq!(shown["limit"], Value::Null);
    assert!(
        shown["runs"][0]["report"].as_str().unwrap().ends_with(".report.csv"),
        "{shown}"
    );

    let (shown, limited_at) = steer(&desk, &server, None, &["--limit", "6"]);
    assert_eq!(
        (&shown["limit"], shown["runs"].as_array().unwrap().len()),
        (&Value::from(6.0), 2)
    );
    sleep(4 * SECOND);
    let limited = since(&server, limited_at);
    pace::assert_within_cap(&limited, 6);
    assert!(limited.len() >= 8, "{} requests in four seconds", limited.len());

    // Longer than --give-up-after.
    let (_, paused_at) = steer(&desk, &server, None, &["--limit", "0"]);
    sleep(4 * SECOND);
    let meanwhile = since_the_pause(&server, paused_at);
    assert_eq!(meanwhile, 0, "requests in a pause");

    steer(&desk, &server, None, &["--limit", "off"]);
    let before = server.count();
    runs[0].wait_until("both go on", || server.count() >= before + 40);
    for (run, user) in runs.into_iter().zip(["a", "b"]) {
        run.signal("TERM");
        let outcome = run.wait();
        outcome.assert_status(143).assert_says(&[
            "limited to 6/s by 'zim-batch quota'",
            "paused by 'zim-batch quota'",
            "the limit by 'zim-batch quota' has ended",
        ]);
        let log = desk.read(&format!("{user}.log"));
        assert!(!log.contains("on hold") && !log.contains("has a rate of"), "{log}");
    }
    pace::assert_within_cap(&server.arrivals(), CAP);
    assert!(lock_files(&desk).is_empty());
    figures(&format!(
        "two runs with a limit of 6: {} requests in four seconds; none in a pause of four seconds",
        limited.len()
    ));
}

#[test]
fn a_limit_outlives_runs_that_are_killed_and_ends_by_itself() {
    let (desk, server) = (Desk::new(), kind_server());
    let lasts = 5 * SECOND;
    let (_, set_at) = steer(&desk, &server, None, &["--limit", "4", "--for", "5s"]);
    let mut killed = run_of(&desk, &server, "a", 1000).spawn();
    wait_for_requests(&mut killed, &server, 4);
    killed.signal("KILL");
    killed.wait();
    let (shown, _) = steer(&desk, &server, None, &[]);
    assert_eq!(
        (&shown["limit"], &shown["runs"]),
        (&Value::from(4.0), &Value::Array(vec![]))
    );

    let outcome = run_of(&desk, &server, "a", 60).arg("--resume").run();
    outcome.assert_status(0).assert_says(&[
        "limited to 4/s by 'zim-batch quota' until ",
        "the limit by 'zim-batch quota' has ended",
    ]);
    let arrivals = server.arrivals();
    let limited: Vec<Instant> = arrivals
        .iter()
        .copied()
        .filter(|at| *at < set_at + lasts - ON_THE_WAY)
        .collect();
    assert!(limited.len() >= 5, "{} requests under the limit", limited.len());
    pace::assert_within_cap(&limited, 4);
    pace::assert_within_cap(&arrivals, CAP);
    assert!(outcome.summary().count("peak_1s") > 4, "{outcome:?}");
    assert!(lock_files(&desk).is_empty(), "{:?}", lock_files(&desk));
}
