//! What a list writes, for every kind of input.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::list::{assert_together, list, list_with, records, rows, sorted};
use crate::support::world::{Conv, FIRST, World, time};
use crate::support::{Desk, LIST_HEADER, ROWS_HEADER, Server};

#[test]
fn rows_and_list_report_are_as_documented() {
    let world = World::of([("ann", 3), ("ben", 0), ("cyd", 1000), ("dan", 1200)]);
    let (desk, server) = (Desk::new(), world.serve());
    let long = "x".repeat(33);
    let users = format!("note,user\n1,ann\n2,ben\n3,\n4,gone\n5,ann\n6,{long}\n7,cyd\n8,dan\n");

    let outcome = list(&desk, &server, users).run();

    outcome.assert_status(3).summary().assert_counts(&[
        ("rows", 8),
        ("ok", 4),
        ("failed", 1),
        ("invalid", 2),
        ("skipped", 1),
        ("conversations", 2003),
        ("requests", 7),
    ]);
    assert!(desk.read("rows.csv").starts_with(&format!("{ROWS_HEADER}\n")));
    assert!(desk.read("rows.list.csv").starts_with(&format!("{LIST_HEADER}\n")));
    let written = rows(&desk);
    assert_together(&written);
    for user in ["ann", "cyd", "dan"] {
        let of_user: Vec<_> = written.iter().filter(|row| row[0] == user).cloned().collect();
        assert_eq!(of_user, world.rows(user), "in the order of the list");
    }
    assert_eq!(written[0][3].len(), "2025-11-13T02:13:20.123Z".len());
    let records = records(&desk);
    let said = |line: u64| {
        let record = &records[&line];
        let [outcome, code, http] = [&record.outcome, &record.code, &record.http].map(String::as_str);
        (outcome, record.conversations, code, http, record.attempts)
    };
    assert_eq!(said(2), ("ok", 3, "0", "200", 1));
    assert_eq!(said(3), ("ok", 0, "0", "200", 1));
    assert_eq!(said(4), ("invalid", 0, "", "", 0));
    assert_eq!(said(5), ("failed", 0, "660500002", "200", 1));
    assert_eq!(said(6), ("skipped", 0, "", "", 0));
    assert_eq!(said(7), ("invalid", 0, "", "", 0));
    assert_eq!(said(8), ("ok", 1000, "0", "200", 2));
    assert_eq!(said(9), ("ok", 1000, "0", "200", 2));
    assert_eq!(records[&2].message, "success");
    assert_eq!(records[&2].request_id, "9007199254740995");
    assert!(records[&4].message.contains("empty"), "{:?}", records[&4]);
    for record in records.values() {
        let shape: String = record
            .finished_at
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{record:?}");
        assert_eq!(record.latency_ms.is_empty(), record.attempts == 0, "{record:?}");
    }
    server.assert_well_formed();
}

#[test]
fn rows_reports_and_outside_logs_are_users() {
    let world = World::of([("ann", 4), ("ben", 2)]);
    let (desk, server) = (Desk::new(), world.serve());
    list(&desk, &server, "ann\nben\n").run().assert_status(0);
    let listed = sorted(rows(&desk));
    assert_eq!(listed, world.all_rows());
    assert_eq!(records(&desk).keys().copied().collect::<Vec<_>>(), [1, 2]);

    let more = "ben,#gone,2\n";
    let clear = desk.clear(&server, desk.read("rows.csv") + more).run();
    clear
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 6), ("outside", 1)]);
    let cases = [
        ("rows.csv", None, 2),
        ("out.csv", Some("all"), 2),
        ("out.outside.csv", None, 1),
    ];
    for (input, only, users) in cases {
        let call = list_with(&desk, &server.url(), input)
            .flag("--rows", "again.csv")
            .flag("--rate", "500")
            .arg("--json")
            .arg("--overwrite");
        let call = only.into_iter().fold(call, |call, only| call.flag("--only", only));
        let outcome = call.run();
        assert_eq!(outcome.status, 0, "{input}: {}", outcome.stderr);
        outcome.summary().assert_counts(&[("ok", users)]);
        let again = crate::support::read_rows(&desk.read("again.csv"));
        let is_listed = |row: &[String; 4]| users == 2 || row[0] == "ben";
        let expected: Vec<_> = listed.iter().filter(|row| is_listed(row)).cloned().collect();
        assert_eq!(sorted(again), expected, "{input}");
    }
}

#[test]
fn failed_users_of_a_list_report_can_be_listed_again() {
    let desk = Desk::new();
    let before = World::of([("ann", 2)]).serve();
    list(&desk, &before, "user\nann\nben\n").run().assert_status(3);
    let world = World::of([("ann", 2), ("ben", 5)]);
    let server = world.serve();

    let outcome = list_with(&desk, &server.url(), "rows.list.csv")
        .flag("--rows", "second.csv")
        .flag("--only", "failed")
        .arg("--json")
        .run();

    outcome
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 1), ("ok", 1), ("conversations", 5)]);
    assert_eq!(crate::support::read_rows(&desk.read("second.csv")), world.rows("ben"));
    assert_eq!(server.count(), 1);
}

#[test]
fn users_can_come_from_standard_input_and_the_files_have_default_names() {
    let world = World::of([("ann", 2)]);
    let (desk, server) = (Desk::new(), world.serve());
    let call = || list_with(&desk, &server.url(), "-").arg("--json").stdin("user\nann\n");
    call().run().assert_status(2).assert_says(&["--rows"]);
    call().flag("--rows", "rows.csv").run().assert_status(0);
    assert_eq!(rows(&desk), world.rows("ann"));
    assert_eq!(records(&desk).len(), 1);

    desk.write("my.users.csv", "ann\n");
    list_with(&desk, &server.url(), "my.users.csv").run().assert_status(0);
    assert!(desk.has("my.users.rows.csv") && desk.has("my.users.rows.list.csv"));
}

#[test]
fn odd_ids_survive_the_body_the_rows_and_the_clear() {
    let ids = [
        "#g",
        "+&=%?",
        "a,b",
        "q\"q\"",
        "=1+1",
        " lead trail ",
        "漢字é🦀",
        "\\u0041",
        "@RBT#1",
        "-x",
        "'",
        "a\tb",
    ];
    let convs: Vec<_> = ids
        .iter()
        .flat_map(|id| {
            [0, 2].map(|kind| Conv {
                id: (*id).into(),
                kind,
                at: FIRST,
            })
        })
        .collect();
    let world = ids
        .iter()
        .fold(World::default(), |world, user| world.with(user, convs.clone()));
    let (desk, server) = (Desk::new(), world.serve());
    let quoted = ids.map(|id| format!("\"{}\"\n", id.replace('"', "\"\"")));

    let outcome = list(&desk, &server, "user\n".to_owned() + &quoted.concat()).run();

    outcome.assert_status(0);
    let asked: BTreeSet<_> = server.requests().iter().map(|request| request.user()).collect();
    assert_eq!(asked, ids.map(str::to_owned).into());
    assert_eq!(sorted(rows(&desk)), world.all_rows());
    let listed = server.count();
    let clear = desk.clear(&server, desk.read("rows.csv")).flag("--rate", "1000").run();
    clear
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", (ids.len() * convs.len()) as u64)]);
    let cleared: Vec<_> = server.requests()[listed..]
        .iter()
        .map(|request| request.row())
        .collect();
    let expected = world
        .all_rows()
        .into_iter()
        .map(|[user, conv, kind, _]| [user, conv, kind].map(String::into_bytes));
    assert_eq!(sorted(cleared), sorted(expected.collect()));
    server.assert_well_formed();
}

/// A user with a conversation for each age, in seconds, and one whose age is not known.
fn world_of_ages(ages: &[u64]) -> Server {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    let now = now.as_millis() as u64;
    let mut entries: Vec<_> = ages
        .iter()
        .map(|age| serde_json::json!({"ConvId": format!("{age}s"), "UpdateTime": now - age * 1000, "ConvType": 2}))
        .collect();
    entries.push(serde_json::json!({"ConvId": "ageless"}));
    let page = crate::support::world::page("0", &entries, entries.len());
    Server::start(move |_, _| crate::support::Answer::Json(page.clone()))
}

#[test]
fn since_and_type_select_conversations() {
    let server = world_of_ages(&[40 * 86_400, 100_000, 80_000, 10]);
    let selected = |flags: &[(&str, &str)]| {
        let desk = Desk::new();
        let call = list(&desk, &server, "ann\n");
        let outcome = flags
            .iter()
            .fold(call, |call, (name, value)| call.flag(name, value))
            .run();
        outcome.assert_status(0);
        let rows: Vec<_> = rows(&desk).into_iter().map(|[_, conv, ..]| conv).collect();
        assert_eq!(records(&desk)[&1].conversations, rows.len());
        rows.join(" ")
    };
    assert_eq!(selected(&[]), "3456000s 100000s 80000s 10s ageless");
    assert_eq!(selected(&[("--since", "24h")]), "80000s 10s ageless");
    assert_eq!(selected(&[("--since", "7d")]), "100000s 80000s 10s ageless");
    let day = time((SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 3 * 86_400) * 1000);
    assert_eq!(selected(&[("--since", &day[..10])]), "100000s 80000s 10s ageless");
    assert_eq!(
        selected(&[("--since", &format!("{}Z", &day[..19]))]),
        "100000s 80000s 10s ageless"
    );
    assert_eq!(selected(&[("--type", "peer")]), "ageless");
    assert_eq!(selected(&[("--type", "group"), ("--since", "1h")]), "10s");
    let desk = Desk::new();
    for (flag, value) in [("--since", "yesterday"), ("--type", "channel")] {
        list(&desk, &server, "ann\n")
            .flag(flag, value)
            .run()
            .assert_status(2)
            .assert_says(&[flag]);
    }
}

#[test]
fn since_a_date_means_local_midnight_and_the_run_says_so_with_the_offset() {
    // 00:59 and 01:00 on the 25th in Shanghai.
    let entries = [("before", 1_764_003_540_000_u64), ("at one", 1_764_003_600_000)]
        .map(|(conv, at)| serde_json::json!({"ConvId": conv, "UpdateTime": at}));
    let page = crate::support::world::page("0", &entries, entries.len());
    let server = Server::start(move |_, _| crate::support::Answer::Json(page.clone()));
    for (since, convs, shown) in [
        ("2025-11-25", "before at one", "2025-11-25 00:00:00 +08:00"),
        ("2025-11-25T01:00:00", "at one", "2025-11-25 01:00:00 +08:00"),
        ("2025-11-24T16:59:30Z", "at one", "2025-11-25 00:59:30 +08:00"),
    ] {
        let desk = Desk::new();
        desk.write("users.csv", "ann\n");
        let call = list_with(&desk, &server.url(), "users.csv").flag("--rows", "rows.csv");
        let outcome = call.env("TZ", "Asia/Shanghai").flag("--since", since).run();
        outcome.assert_status(0).assert_says(&[shown]);
        assert!(
            outcome.stdout.contains(&format!("updated since  {shown}")),
            "{outcome:?}"
        );
        let rows: Vec<_> = rows(&desk).into_iter().map(|[_, conv, ..]| conv).collect();
        assert_eq!(rows.join(" "), convs, "{since}");
    }
    let desk = Desk::new();
    let outcome = list(&desk, &server, "ann\n").flag("--since", "2999-01-01").run();
    outcome.assert_status(2).assert_says(&["--since", "in the future"]);
    assert!(!desk.has("users.rows.csv"));
}
