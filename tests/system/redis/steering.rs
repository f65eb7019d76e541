//! `zim-batch quota` while runs of several machines are under way.

use std::thread::sleep;

use serde_json::Value;

use super::{CAP, PASSWORD, Redis, SECOND, run_of};
use crate::locks::steering::{since, since_the_pause, steer};
use crate::support::{APP_ID, Desk, kind_server, pace};

#[test]
fn a_limit_is_for_all_machines_and_a_server_that_goes_away_in_a_pause_loses_no_row() {
    let Some(mut redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let url = redis.url();
    let runs = ["a", "b"].map(|user| run_of(&desk, &server, &url, user, 80).spawn());
    let mut runs = runs;
    for run in &mut runs {
        run.wait_until("they are under way", || server.count() >= 20);
    }
    let (shown, limited_at) = steer(&desk, &server, Some(&url), &["--limit", "6"]);
    assert_eq!(shown["runs"].as_array().map(Vec::len), Some(2), "{shown}");
    assert!(!shown.to_string().contains(PASSWORD), "{shown}");
    sleep(4 * SECOND);
    // What was reserved before: one start of each run.
    pace::assert_within_cap(&since(&server, limited_at), 6 + runs.len());
    let limited = since(&server, limited_at + SECOND);
    pace::assert_within_cap(&limited, 6);
    assert!(limited.len() >= 6, "{} requests in three seconds", limited.len());

    let (_, paused_at) = steer(&desk, &server, Some(&url), &["--limit", "0"]);
    sleep(2 * SECOND);
    redis.end();
    sleep(2 * SECOND);
    // What was reserved before may have started within a second.
    let meanwhile = since_the_pause(&server, paused_at + SECOND);
    assert_eq!(meanwhile, 0, "requests in a pause");
    // It knows neither the runs nor the limit any more.
    redis.begin();
    for run in runs {
        let outcome = run.wait();
        outcome.assert_status(0).assert_says(&[
            "limited to 6/s by 'zim-batch quota'",
            "paused by 'zim-batch quota'",
            "the limit by 'zim-batch quota' has ended",
            "on hold, because the quota that runs share can't be used: quota server",
            "the quota that runs share can be used again",
        ]);
        outcome.summary().assert_counts(&[("ok", 80), ("requests", 80)]);
    }
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_server_that_is_gone_in_a_pause_without_an_end_is_given_up_like_an_outage_and_one_that_is_there_is_not() {
    let Some(mut redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let url = redis.url();
    let call = run_of(&desk, &server, &url, "a", 200).flag("--give-up-after", "3s");
    let mut run = call.spawn();
    run.wait_until("it is under way", || server.count() >= 10);
    let (_, paused_at) = steer(&desk, &server, Some(&url), &["--limit", "0"]);
    sleep(5 * SECOND);
    assert!(run.is_running(), "a pause is no outage");
    redis.end();
    let outcome = run.wait();
    outcome.assert_status(5).assert_says(&[
        "on hold, because the quota that runs share can't be used: quota server",
        "connection refused",
        "to resume this run: ",
    ]);
    assert!(paused_at.elapsed() < 20 * SECOND, "{:?}", paused_at.elapsed());
    assert_eq!(since_the_pause(&server, paused_at + SECOND), 0, "requests in a pause");
}

#[test]
fn a_server_that_refuses_is_exit_2_and_one_that_is_gone_exit_1_without_the_password() {
    let Some(mut redis) = Redis::start() else { return };
    let desk = Desk::new();
    redis.command("ACL SETUSER reader on >reader-pass ~* +ping +get +time");
    let port = redis.port;
    let quota = |url: &str, args: &[&str]| {
        let outcome = desk
            .zim_batch([&["quota", "--app-id", &APP_ID.to_string()], args].concat())
            .env("ZIM_QUOTA", url)
            .run();
        assert!(!format!("{outcome:?}").contains("-pass"), "{outcome:?}");
        outcome
    };
    for args in [&[][..], &["--limit", "5"]] {
        let refused = quota(&format!("redis://:wrong-pass@127.0.0.1:{port}"), args);
        refused
            .assert_status(2)
            .assert_says(&["refuses the user or the password", "ZIM_QUOTA"]);
        let lacks = quota(&format!("redis://reader:reader-pass@127.0.0.1:{port}"), args);
        lacks.assert_status(2).assert_says(&["lacks a right", "ZIM_QUOTA"]);
    }
    quota(&redis.url(), &["--limit", "5", "--for", "1h"]).assert_status(0);
    let shown = quota(&redis.url(), &["--json"]);
    let shown: Value = serde_json::from_str(&shown.assert_status(0).stdout).unwrap();
    assert_eq!((&shown["limit"], &shown["lock_dir"]), (&Value::from(5.0), &Value::Null));
    assert_eq!(shown["quota"], format!("redis://127.0.0.1:{port}"));
    let url = redis.url();
    redis.end();
    for args in [&[][..], &["--limit", "5"]] {
        quota(&url, args)
            .assert_status(1)
            .assert_says(&[&format!("redis://127.0.0.1:{port}"), "not known"]);
    }
}
