//! `check --online`: which users exist, asked a hundred at a time.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::list::with_app;
use crate::support::world::World;
use crate::support::{Answer, Call, Desk, Outcome, Server, html, kind_server};

fn check(desk: &Desk, endpoint: &str, rows: impl AsRef<[u8]>) -> Call {
    desk.write("rows.csv", rows);
    with_app(desk.zim_batch(["check", "rows.csv", "--online", "--endpoint", endpoint])).flag("--rate", "100")
}

#[track_caller]
fn json_of(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

const ROWS: &str = "user,conv,type\nann,c,0\ngone,c,0\nben,c,0\ngone,d,2\nann,d,2\n\n\"lost,1\",\"c,1\",0\n,x,0\n";

#[test]
fn missing_users_are_named_by_their_first_lines() {
    let world = World::of([("ann", 1), ("ben", 1)]);
    let (desk, server) = (Desk::new(), world.serve());
    let outcome = check(&desk, &server.url(), ROWS).arg("--ignore-invalid").run();
    outcome.assert_status(3);
    let said = outcome.stdout.clone();
    for part in ["line 3 ", "'gone'", "line 8 ", "'lost,1'"] {
        assert!(said.contains(part), "stdout lacks `{part}`: {said}");
    }
    assert!(!said.contains("line 5 "), "{said}");
    assert!(said.contains("2  do not exist; clears for them will fail"), "{said}");
    let users = check(&desk, &server.url(), "user\nann\ngone\n").run();
    let said = &users.assert_status(3).stdout;
    assert!(said.contains("1  do not exist; listing them will fail"), "{said}");
    let outcome = check(&desk, &server.url(), ROWS).arg("--json").run();
    outcome.assert_status(3);
    let summary = json_of(&outcome);
    assert_eq!(
        (&summary["users_missing"], &summary["missing_lines"]),
        (&json!(2), &json!([3, 8]))
    );
    assert_eq!((&summary["rows"], &summary["invalid"]), (&json!(7), &json!(1)));
    assert_eq!(server.count(), 3);
    server.assert_well_formed();
}

#[test]
fn all_users_exist_is_exit_0() {
    let (desk, server) = (Desk::new(), World::of([("ann", 0), ("ben", 0)]).serve());
    let outcome = check(&desk, &server.url(), "ann,c,0\nben,c,0\n").arg("--json").run();
    outcome.assert_status(0);
    let summary = json_of(&outcome);
    assert_eq!(
        (&summary["users_missing"], &summary["missing_lines"]),
        (&json!(0), &json!([]))
    );
}

#[test]
fn a_hundred_distinct_users_are_asked_for_at_a_time() {
    let name = |number: usize| format!("u{number}");
    let (desk, server) = (Desk::new(), World::of((0..250).map(|number| (name(number), 0))).serve());
    let rows: String = (0..600)
        .map(|number| format!("{},c{number},0\n", name(number % 250)))
        .collect();
    check(&desk, &server.url(), rows).run().assert_status(0);
    let asked: Vec<_> = server.requests().iter().map(|request| request.users()).collect();
    let mut sizes: Vec<_> = asked.iter().map(Vec::len).collect();
    sizes.sort();
    assert_eq!(sizes, [50, 100, 100]);
    let distinct: BTreeSet<_> = asked.concat().into_iter().collect();
    assert_eq!(distinct, (0..250).map(name).collect());
    server.assert_well_formed();
}

/// Answers that `later` can't be found out, this many times.
fn uncertain(times: usize) -> Server {
    Server::start(move |request, n| {
        let (later, found): (Vec<_>, Vec<_>) = request
            .users()
            .into_iter()
            .partition(|user| user == "later" && n <= times);
        let found: Vec<_> = found.iter().map(|user| json!({"UserId": user})).collect();
        let later: Vec<_> = later
            .iter()
            .map(|user| json!({"UserId": user, "SubCode": 660_700_008}))
            .collect();
        Answer::Json(json!({"Code": 0, "Message": "", "Result": found, "ErrorList": later}).to_string())
    })
}

#[test]
fn users_that_can_t_be_found_out_are_asked_for_again_then_unknown() {
    let (desk, server) = (Desk::new(), uncertain(1));
    check(&desk, &server.url(), "ann,c,0\nlater,c,0\n")
        .run()
        .assert_status(0);
    let asked: Vec<_> = server.requests().iter().map(|request| request.users()).collect();
    assert_eq!(asked[0], ["ann", "later"]);
    assert!(
        asked.len() >= 2 && asked.last().unwrap().contains(&"later".to_owned()),
        "{asked:?}"
    );

    let server = uncertain(usize::MAX);
    let outcome = check(&desk, &server.url(), "ann,c,0\nlater,c,0\n").arg("--json").run();
    outcome.assert_status(3);
    assert_eq!(json_of(&outcome)["users_missing"], json!(0));
    assert_eq!(json_of(&outcome)["users_unknown"], json!(1));
    assert!((2..=10).contains(&server.count()));
}

#[test]
fn a_check_soon_says_what_is_wrong_with_app_or_endpoint() {
    let rows: String = (0..1000).map(|number| format!("u{number},c,0\n")).collect();
    let (desk, server) = (Desk::new(), World::default().serve());
    let wrong = check(&desk, &server.url(), &rows).env("ZIM_SERVER_SECRET", "0123456789abcdef0123456789abcdef");
    wrong
        .flag("--rate", "5")
        .run()
        .assert_status(6)
        .assert_tells(&["100000005"]);
    // The next hundred may be on the way already.
    assert!(server.count() <= 3, "{} requests", server.count());

    let web = Server::start(|_, _| html(404));
    let many: String = (0..5000).map(|number| format!("u{number},c,0\n")).collect();
    check(&desk, &web.url(), &many)
        .flag("--give-up-after", "3s")
        .run()
        .assert_status(5)
        .assert_tells(&["404"]);
    assert!(web.count() <= 25, "{} requests", web.count());

    let gone = kind_server().url();
    let refused = check(&desk, &gone, &rows).flag("--give-up-after", "1s").run();
    refused.assert_status(5);
}

#[test]
fn the_rows_of_missing_users_are_written_as_they_are() {
    let (desk, server) = (Desk::new(), World::of([("ann", 0)]).serve());
    let rows = "note;user;conv;type;more\nä;gone;c;0;\"x;y\"\n1;ann;c;0;\n2;gone;\"d \"\"q\"\"\";Group; z \n3;;c;0;\n";
    check(&desk, &server.url(), rows)
        .flag("--missing", "missing.csv")
        .run()
        .assert_status(3);
    let written = desk.read("missing.csv");
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b';')
        .has_headers(false)
        .from_reader(written.as_bytes());
    let records: Vec<Vec<String>> = reader
        .records()
        .map(|record| record.unwrap().iter().map(str::to_owned).collect())
        .collect();
    let expected = [
        ["note", "user", "conv", "type", "more"],
        ["ä", "gone", "c", "0", "x;y"],
        ["2", "gone", "d \"q\"", "Group", " z "],
    ];
    assert_eq!(records, expected, "{written}");

    desk.write("missing.csv", "precious\n");
    let sent = server.count();
    let outcome = check(&desk, &server.url(), rows).flag("--missing", "missing.csv").run();
    outcome.assert_status(2).assert_says(&["missing.csv"]);
    assert_eq!(
        (desk.read("missing.csv").as_str(), server.count()),
        ("precious\n", sent)
    );
}

#[test]
fn no_missing_user_is_a_header() {
    let (desk, server) = (Desk::new(), World::of([("ann", 0)]).serve());
    let outcome = check(&desk, &server.url(), "user,conv,type\nann,c,0\n")
        .flag("--missing", "missing.csv")
        .run();
    outcome.assert_status(0);
    assert!(desk.has("missing.csv") && desk.read("missing.csv").trim_end() == "user,conv,type");
}

#[test]
fn flags_of_an_app_need_online() {
    let desk = Desk::new();
    desk.write("rows.csv", "ann,c,0\n");
    let check = || desk.zim_batch(["check", "rows.csv"]);
    check().run().assert_status(0);
    for flags in [
        ["--app-id", "7"],
        ["--region", "fra"],
        ["--secret-file", "secret.txt"],
        ["--missing", "m.csv"],
    ] {
        let outcome = check().flag(flags[0], flags[1]).run();
        outcome.assert_status(2).assert_says(&["--online"]);
    }
    check()
        .arg("--simulate")
        .run()
        .assert_status(2)
        .assert_says(&["--online"]);
    desk.zim_batch(["check", "rows.csv", "--online"])
        .run()
        .assert_status(2)
        .assert_says(&["ZIM_APP_ID"]);
}
