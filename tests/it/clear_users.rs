//! `clear --users`: lists users and clears what is listed, in one run.

mod said;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::list::with_app;
use crate::support::world::{Conv, World, page};
use crate::support::{
    Answer, Call, Desk, LIST_HEADER, Options, ROWS_HEADER, Server, read_list, read_report, read_rows,
};

/// The usual call: users in `users.csv`, everything else named after `out.csv`, at a high rate.
fn clear_users_shown(desk: &Desk, server: &Server, users: impl AsRef<[u8]>) -> Call {
    desk.write("users.csv", users);
    with_app(desk.zim_batch(["clear", "--users", "users.csv", "--endpoint", &server.url()]))
        .flag("--report", "out.csv")
        .flag("--rate", "500")
}

/// The same, with the summary as JSON.
fn clear_users(desk: &Desk, server: &Server, users: impl AsRef<[u8]>) -> Call {
    clear_users_shown(desk, server, users).arg("--json")
}

/// The report must have exactly one record for each row of the rows file, with its line.
#[track_caller]
fn assert_each_row_once(desk: &Desk) {
    let rows = read_rows(&desk.read("out.rows.csv"));
    let report = read_report(&desk.path("out.csv"));
    let by_line: BTreeMap<u64, [String; 3]> = report
        .iter()
        .map(|record| {
            (
                record.line,
                [&record.user, &record.conv, &record.kind].map(String::clone),
            )
        })
        .collect();
    assert_eq!(by_line.len(), report.len(), "a row has two records");
    let expected: BTreeMap<u64, [String; 3]> = (2..)
        .zip(&rows)
        .map(|(line, [user, conv, kind, _])| (line, [user, conv, kind].map(String::clone)))
        .collect();
    assert_eq!(by_line, expected);
}

fn users_of(summary: &Value) -> Value {
    summary["users"].clone()
}

#[test]
fn every_conversation_of_every_user_is_cleared_and_recorded() {
    let world = World::of([("ann", 3), ("ben", 0), ("cyd", 700), ("dan", 2)]);
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = clear_users(&desk, &server, "user\nann\nben\ngone\nann\ncyd\n\"\"\ndan\n").run();
    outcome.assert_status(3);
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        users_of(&summary),
        serde_json::json!({
            "total": 7, "ok": 4, "failed": 1, "invalid": 1, "skipped": 1, "not_run": 0, "full": 0, "conversations": 705
        })
    );
    outcome
        .summary()
        .assert_counts(&[("rows", 705), ("ok", 705), ("requests", 6 + 705)]);
    let mut rows = read_rows(&desk.read("out.rows.csv"));
    rows.sort();
    assert_eq!(rows, world.all_rows());
    assert_each_row_once(&desk);
    assert_eq!(read_list(&desk.path("out.list.csv")).len(), 7);
    assert_eq!(read_report(&desk.path("out.outside.csv")).len(), 0);
    server.assert_well_formed();
}

/// Whatever the end, a run that resumes lists the other users and clears the other rows.
#[test]
fn a_run_that_was_ended_anyhow_resumes_with_each_user_listed_and_each_row_recorded_once() {
    let world = World::of((0..60).map(|number| (format!("user{number}"), number % 23)));
    let (desk, server) = (Desk::new(), world.serve());
    let call = || {
        clear_users(&desk, &server, world.users_csv())
            .arg("--resume")
            .flag("--max-in-flight", "8")
    };
    for (signal, requests) in [("KILL", 40), ("TERM", 170), ("KILL", 330), ("INT", 480)] {
        let mut running = call().spawn();
        running.wait_until("enough requests", || server.count() > requests);
        running.signal(signal);
        running.wait();
        let rows = desk.read("out.rows.csv");
        let report = read_report(&desk.path("out.csv"));
        let torn = fs::OpenOptions::new().append(true).open(desk.path("out.list.csv"));
        std::io::Write::write_all(&mut torn.unwrap(), b"99,us").unwrap();
        for record in report {
            let row = rows.lines().nth(record.line as usize - 1).expect("its line");
            assert!(row.starts_with(&format!("{},", record.user)), "{row}: {record:?}");
        }
    }
    let outcome = call().run();
    outcome.assert_status(0).summary().assert_adds_up();
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&summary["users"]["ok"], &summary["users"]["total"]),
        (&60.into(), &60.into())
    );
    let mut rows = read_rows(&desk.read("out.rows.csv"));
    rows.sort();
    assert_eq!(rows, world.all_rows());
    assert_each_row_once(&desk);
    assert_eq!(call().run().assert_status(0).summary().count("requests"), 0);
}

/// A row that was sent is never taken out of the rows file, so nothing may be sent before its user is on record.
#[test]
fn a_row_is_sent_only_when_its_user_is_recorded_and_listing_stays_about_a_thousand_rows_ahead() {
    let world = World::of((0..40).map(|number| (format!("user{number}"), 150)));
    let desk = Desk::new();
    let list_report: PathBuf = desk.path("out.list.csv");
    let seen = std::sync::Arc::new(Mutex::new((BTreeSet::new(), 0_usize, 0_usize)));
    let (served, watched) = (world.clone(), std::sync::Arc::clone(&seen));
    let server = Server::with(Options::default(), move |request, _| {
        let answer = served.answer(request);
        let mut seen = watched.lock().unwrap();
        if request.action() == "QueryConversationList" {
            seen.1 += 150;
        } else {
            let user = request.user();
            if seen.0.insert(user.clone()) {
                let list = fs::read_to_string(&list_report).unwrap_or_default();
                assert!(list.contains(&format!(",{user},ok,")), "{user} is not on record");
            }
            seen.1 -= 1;
        }
        seen.2 = seen.2.max(seen.1);
        answer
    });
    clear_users(&desk, &server, world.users_csv())
        .flag("--max-in-flight", "16")
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 6000), ("requests", 6040)]);
    let (_, _, most) = *seen.lock().unwrap();
    // The lists that are in flight when the thousand is reached come in addition.
    assert!((1000..1000 + 17 * 150).contains(&most), "{most} rows ahead");
    assert_each_row_once(&desk);
}

#[test]
fn a_limit_counts_rows_and_the_next_run_takes_those_after_them() {
    let world = World::of([("ann", 30), ("ben", 30)]);
    let (desk, server) = (Desk::new(), world.serve());
    let call = || clear_users(&desk, &server, "user\nann\nben\n").arg("--resume");
    let outcome = call().flag("--limit", "20").run();
    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 20), ("ok", 20)]);
    let outcome = call().run();
    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 60), ("already_done", 20), ("ok", 40)]);
    assert_each_row_once(&desk);
}

/// Whoever wants to overwrite keeps what there is, if one of the files can't be replaced.
#[test]
fn nothing_is_overwritten_if_one_of_the_files_can_t_be_opened() {
    let world = World::of([("ann", 3), ("ben", 2)]);
    let (desk, server) = (Desk::new(), world.serve());
    let overwrite = || clear_users(&desk, &server, "user\nann\nben\n").arg("--overwrite");
    overwrite().run().assert_status(0);
    let names = ["out.rows.csv", "out.list.csv", "out.csv", "out.outside.csv"];
    let read = || names.map(|name| desk.read(name));
    let another = "2,ann,z,0,outside,660800002,200,x,1,1,1,2026-12-01T00:00:00.000Z\n";
    desk.write("out.outside.csv", desk.read("out.outside.csv") + another);
    let before = read();
    overwrite()
        .run()
        .assert_status(2)
        .assert_says(&["out.outside.csv", "--outside"]);
    assert_eq!(read(), before);
    let held = fs::File::open(desk.path("out.csv")).unwrap();
    held.lock().unwrap();
    overwrite().run().assert_status(75).assert_says(&["out.csv"]);
    assert_eq!(read(), before);
}

#[test]
fn what_is_for_rows_is_refused_for_users_and_the_other_way_round() {
    let desk = Desk::new();
    desk.write("users.csv", "user\nann\n");
    desk.write("rows.csv", "user,conv,type\nann,ben,0\n");
    let users = ["clear", "--users", "users.csv", "--simulate"];
    for (args, said) in [
        (&["rows.csv"][..], "cannot be used with"),
        (&["--dedupe"], "cannot be used with"),
        (&["--rows", "-"], "must be a file"),
        (&["--rows", "users.csv"], "contains the users"),
    ] {
        let outcome = desk.zim_batch(users.iter().chain(args)).run();
        outcome.assert_status(2).assert_says(&[said]);
    }
    for args in [&["--since", "7d"][..], &["--rows", "new.csv"]] {
        let outcome = desk
            .zim_batch(["clear", "rows.csv", "--simulate"].iter().chain(args))
            .run();
        outcome.assert_status(2).assert_says(&["--users"]);
    }
    assert!(
        desk.zim_batch(["clear"])
            .run()
            .assert_status(2)
            .stderr
            .contains("--users")
    );
}

#[test]
fn only_conversations_of_the_type_are_listed_and_only_rows_of_the_type_are_sent() {
    let world = World::of([("ann", 9)]);
    let (desk, server) = (Desk::new(), world.serve());
    clear_users(&desk, &server, "user\nann\n")
        .flag("--type", "group")
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 3), ("ok", 3)]);
    let rows = "user,conv,type\nann,a,0\nann,#b,2\nann,c,nothing\nann,d,peer\n";
    let call = |kind: &str| {
        desk.clear(&server, rows)
            .flag("--report", "rows.out.csv")
            .flag("--type", kind)
            .arg("--resume")
    };
    let outcome = call("peer").run();
    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("rows", 3), ("outside", 2), ("invalid", 1)]);
    let outcome = call("group").run();
    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("rows", 4), ("already_done", 3), ("outside", 1)]);
}

#[test]
fn an_outage_of_the_service_holds_both_halves_and_ends_as_ever() {
    let (desk, server) = (Desk::new(), Server::start(|_, _| Answer::Reset));
    let outcome = clear_users(&desk, &server, "user\nann\nben\n")
        .flag("--give-up-after", "1s")
        .run();
    outcome.assert_status(5);
    let summary: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(users_of(&summary)["not_run"], 2);
}

/// Three nights with `--since last`: each lists what was updated since the last one that left nothing to do again.
#[test]
fn since_last_reaches_back_to_the_last_run_that_left_nothing_to_do_again() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let minutes_ago = |minutes: u64| now - minutes * 60_000;
    let conv = |id: &str, at| Conv {
        id: id.into(),
        kind: 0,
        at,
    };
    let convs = vec![conv("old", minutes_ago(3 * 24 * 60)), conv("new", minutes_ago(5))];
    let world = World::default().with("ann", convs);
    let (desk, server) = (Desk::new(), world.serve());
    let busy = Server::start(|request, _| match request.action().as_str() {
        "QueryConversationList" => Answer::Json(page("0", &[serde_json::json!({"ConvId": "new"})], 1)),
        _ => Answer::Code(660_000_001, "an error"),
    });
    let night = |server: &Server| {
        clear_users(&desk, server, "user\nann\n")
            .flag("--since", "last")
            .flag("--max-attempts", "1")
            .arg("--resume")
    };
    let rows = || read_rows(&desk.read("out.rows.csv")).len();
    let mark = || desk.read("out.list.since");

    night(&server).run().assert_status(0);
    assert_eq!(rows(), 2, "without an earlier run everything is listed");
    let first = mark();
    night(&server).run().assert_status(0);
    assert_eq!(rows(), 1, "ten minutes less than the beginning of the last run");
    assert_ne!(mark(), first);
    let second = mark();
    night(&busy).run().assert_status(3);
    assert_eq!(mark(), second, "a failure that another try may mend does not move it");
    let mut running = night(&Server::start(|_, _| Answer::Hang(Duration::from_secs(20)))).spawn();
    running.wait_until("it has begun", || desk.has("out.runs.jsonl"));
    running.signal("KILL");
    running.wait();
    assert_eq!(mark(), second);
    night(&server).run().assert_status(0);
    assert_eq!(rows(), 1, "what was killed is resumed");
    assert_ne!(mark(), second);
    let second = mark();
    // What can't be mended is not listed again for ever.
    clear_users(&desk, &server, "user\nann\ngone\n")
        .flag("--since", "last")
        .arg("--overwrite")
        .run()
        .assert_status(3);
    assert_ne!(mark(), second);
    desk.write("out.list.since", "something else");
    night(&server)
        .run()
        .assert_status(2)
        .assert_says(&["out.list.since", "--since last"]);
}

/// The moment of conversations of a type, or of both, as a run keeps it.
fn moment(desk: &Desk, of: &str) -> Value {
    let mark: Value = serde_json::from_str(&desk.read("out.list.since")).expect("it is JSON");
    mark[of].clone()
}

#[test]
fn a_run_of_one_type_leaves_the_moment_of_the_others() {
    let world = World::of([("ann", 6)]);
    let (desk, server) = (Desk::new(), world.serve());
    let night = |server: &Server| {
        clear_users(&desk, server, "user\nann\n")
            .flag("--since", "last")
            .arg("--resume")
    };
    let since = |outcome: &crate::support::Outcome| outcome.stderr.contains("only conversations updated since");
    assert!(!since(&night(&server).run()));
    let all = moment(&desk, "all");
    assert!(since(&night(&server).flag("--type", "peer").run()));
    assert_eq!(moment(&desk, "all"), all);
    let peer = moment(&desk, "peer");
    assert!(peer.as_str() > all.as_str(), "{peer} is not after {all}");
    assert!(since(&night(&server).run()), "the moment of both types still counts");
    assert!(moment(&desk, "all").as_str() > peer.as_str());
}

#[test]
fn a_run_that_was_resumed_with_other_flags_does_not_move_the_moment() {
    let world = World::of([("ann", 6), ("ben", 6)]);
    for (earlier, flags, moves) in [
        (["--type", "peer"], &["--since", "last"][..], false),
        (["--since", "2000d"], &["--since", "last"], false),
        (["--since", "last"], &["--since", "last", "--type", "peer"], true),
        (["--since", "last"], &["--since", "last"], true),
        (["--max-attempts", "2"], &["--since", "last"], true),
    ] {
        let (desk, server) = (Desk::new(), world.serve());
        let limited = clear_users(&desk, &server, world.users_csv())
            .flag("--limit", "1")
            .flag("--rate", "100");
        limited.flag(earlier[0], earlier[1]).run();
        let resumed = clear_users(&desk, &server, world.users_csv()).arg("--resume");
        let resumed = flags.chunks(2).fold(resumed, |call, flag| call.flag(flag[0], flag[1]));
        let outcome = resumed.run();
        assert_eq!(desk.has("out.list.since"), moves, "{earlier:?} {flags:?}: {outcome:?}");
        assert_eq!(outcome.stderr.contains("with other flags"), !moves, "{outcome:?}");
    }
}

#[test]
fn only_runs_that_have_listed_users_count_and_their_flags_are_shown_as_typed() {
    let (desk, server) = (Desk::new(), World::of([("ann", 2), ("ben", 2)]).serve());
    let refusing = Server::start(|_, _| Answer::Code(3, "no"));
    let call = |server: &Server, since: &str| {
        clear_users(&desk, server, "user\nann\nben\n")
            .flag("--since", since)
            .arg("--resume")
    };
    // It lists nobody.
    call(&refusing, "24h").run().assert_status(6);
    let begun = call(&server, "96h")
        .flag("--limit", "1")
        .flag("--max-in-flight", "1")
        .run();
    begun.assert_status(0);
    assert!(!begun.stderr.contains("with other flags"), "{}", begun.stderr);
    let listed = read_list(&desk.path("out.list.csv")).len();
    desk.write("users.csv", "user\nann\nben\n");
    assert!(listed > 0, "{begun:?}");
    let other = call(&server, "168h").run();
    other.assert_says(&["with other flags (--since 96h)", "the rest (--since 168h)"]);
}

#[test]
fn a_finished_report_that_is_resumed_since_a_time_says_that_nothing_was_listed() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    let call = || {
        clear_users(&desk, &server, "user\nann\n")
            .flag("--since", "2000d")
            .arg("--resume")
    };
    call()
        .run()
        .assert_status(0)
        .assert_says(&["only conversations updated since"]);
    let outcome = call().run();
    outcome
        .assert_status(0)
        .assert_says(&["Nothing was listed", "--since last --resume"]);
    assert!(!outcome.stderr.contains("only conversations"), "{outcome:?}");
}

#[test]
fn a_list_of_no_user_does_not_move_the_moment() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    for (users, status) in [("user\n", 0), ("user\nnobody\n", 3)] {
        let call = clear_users(&desk, &server, users)
            .flag("--since", "last")
            .arg("--overwrite");
        call.run().assert_status(status);
        assert!(!desk.has("out.list.since"), "{users:?}");
    }
}

#[test]
fn a_stream_of_users_who_are_all_rejected_stops_the_run_and_the_first_rows_likewise() {
    let users: String = (0..40).map(|user| format!("u{user}\n")).collect();
    let users = format!("user\n{users}");
    let rejecting = Server::start(|_, _| Answer::Code(660_500_002, "FromUserId is not registered"));
    let desk = Desk::new();
    for input in ["-", "users.csv"] {
        let call = desk.zim_batch([
            "clear",
            "--users",
            input,
            "--endpoint",
            &rejecting.url(),
            "--json",
            "--overwrite",
        ]);
        desk.write("users.csv", &users);
        let call = with_app(call)
            .flag("--report", "out.csv")
            .flag("--since", "last")
            .flag("--max-in-flight", "8")
            .stdin(users.clone());
        let outcome = call.flag("--rate", "500").run();
        outcome.assert_status(5);
        assert!(!desk.has("out.list.since"));
    }
    // The list is answered, and every row is rejected.
    let world = World::of((0..40).map(|user| (format!("u{user}"), 2)));
    let server = Server::start(move |request, _| match request.action().as_str() {
        "QueryConversationList" => world.answer(request),
        _ => Answer::Code(660_600_024, "no such group"),
    });
    let outcome = clear_users(&desk, &server, users).arg("--overwrite").run();
    outcome.assert_status(5);
    let failed = outcome.summary().count("failed");
    assert!((20..100).contains(&failed), "{failed}");
}

/// A new run replaces the list report before the report. If it was killed in between, the next night begins anew.
#[test]
fn a_run_that_was_killed_while_it_replaced_the_files_of_the_last_night_begins_again() {
    let world = World::of([("ann", 2), ("ben", 1)]);
    for list in [String::new(), format!("{LIST_HEADER}\n")] {
        let (desk, server) = (Desk::new(), world.serve());
        let call = || clear_users(&desk, &server, world.users_csv()).arg("--resume");
        let night = || call().flag("--since", "last");
        night().run().assert_status(0);
        fs::remove_file(desk.path("out.list.since")).unwrap();
        desk.write("out.list.csv", list);
        desk.write("out.rows.csv", format!("{ROWS_HEADER}\n"));
        let report = desk.read("out.csv");
        call().run().assert_status(4);
        assert_eq!(desk.read("out.csv"), report, "without --since last nothing is replaced");
        let simulated = "clear --users users.csv --report out.csv --since last --resume --simulate";
        desk.zim_batch(simulated.split(' ')).run().assert_status(4);
        assert_eq!(desk.read("out.csv"), report);
        let outcome = night().run();
        outcome
            .assert_status(0)
            .assert_says(&["out.csv", "begins again"])
            .summary()
            .assert_counts(&[("rows", 3), ("ok", 3), ("requests", 5)]);
        assert_each_row_once(&desk);
    }
}

/// As without `--since last`: neither kind of run may replace the report of the other.
#[test]
fn a_finished_real_report_is_not_replaced_by_a_simulated_run() {
    let world = World::of([("ann", 2)]);
    let (desk, server) = (Desk::new(), world.serve());
    clear_users(&desk, &server, "user\nann\n").run().assert_status(0);
    let report = desk.read("out.csv");
    let simulated = "clear --users users.csv --report out.csv --since last --resume --simulate";
    desk.zim_batch(simulated.split(' ')).run().assert_status(4);
    assert_eq!(desk.read("out.csv"), report);
}

#[test]
fn a_run_and_the_run_of_the_users_that_it_could_not_list_are_one_report() {
    let (desk, world) = (Desk::new(), World::of([("ann", 3), ("ben", 2)]));
    let is_away =
        |request: &crate::support::Request| request.user() == "ben" && request.action() == "QueryConversationList";
    let without_ben = world.clone();
    let flaky = Server::start(move |request, _| match is_away(request) {
        true => Answer::Code(424_242, "later, perhaps"),
        false => without_ben.answer(request),
    });
    clear_users(&desk, &flaky, "user\nann\nben\n").run().assert_status(3);
    let server = world.serve();
    let again = desk.zim_batch(["clear", "--users", "out.list.csv", "--endpoint", &server.url()]);
    let again = with_app(again)
        .flag("--only", "failed")
        .flag("--report", "out.users.csv");
    again.run().assert_status(0);

    let outcome = desk.zim_batch(["report", "out.csv", "out.users.csv", "--json"]).run();
    let found: Value = serde_json::from_str(&outcome.assert_status(0).stdout).unwrap();
    assert_eq!(
        serde_json::json!([found["rows"], found["ok"], found["left"], found["listed"]]),
        serde_json::json!([5, 5, 0, {
            "total": 2, "ok": 2, "failed": 0, "invalid": 0, "skipped": 0, "not_run": 0, "full": 0, "conversations": 5,
            "codes": {"0": 2}, "reasons": [], "users": [], "users_missed": 0
        }])
    );
}
