//! `list outside.csv --explain FILE`: which outside rows are missing, and which may be beyond the newest 1000.

use crate::support::list::list_with;
use crate::support::world::World;
use crate::support::{Call, Desk, Server};

fn explain(desk: &Desk, server: &Server, input: &str) -> Call {
    list_with(desk, &server.url(), input)
        .flag("--rows", "listed.csv")
        .flag("--rate", "500")
        .flag("--explain", "why.csv")
}

#[test]
fn each_outside_row_is_listed_missing_beyond_or_unknown() {
    let world = World::of([("ann", 2), ("full", 1200), ("most", 999)]);
    let (desk, server) = (Desk::new(), world.serve());
    let rows =
        "user,conv,type\nann,ann-1,0\nann,ann-1,2\nann,\"x,\"\"1\",0\nfull,full-1,0\nmost,most-9999,0\ngone,c,0\n";
    desk.clear(&server, rows)
        .run()
        .assert_status(0)
        .summary()
        .assert_counts(&[("ok", 1), ("outside", 5)]);
    // Some are listed meanwhile.
    let world = World::of([("ann", 2), ("full", 1200), ("most", 10_000)]);
    let listed_now = world.serve();
    let outside = desk.read("out.outside.csv");

    let outcome = explain(&desk, &listed_now, "out.outside.csv").run();

    outcome.assert_status(3);
    assert_eq!(desk.read("out.outside.csv"), outside);
    let mut reader = csv::Reader::from_path(desk.path("why.csv")).unwrap();
    assert_eq!(reader.headers().unwrap(), vec!["line", "user", "conv", "type", "found"]);
    let why: Vec<_> = reader.records().map(|record| record.unwrap()).collect();
    let mut found: Vec<_> = why
        .iter()
        .map(|why| (why[2].to_owned(), why[3].to_owned(), why[4].to_owned()))
        .collect();
    found.sort();
    let expected = [
        ("ann-1", "2", "missing"),
        ("c", "0", ""),
        ("full-1", "0", "beyond"),
        ("most-9999", "0", "missing"),
        ("x,\"1", "0", "missing"),
    ];
    let mut expected = expected.map(|(conv, kind, found)| (conv.to_owned(), kind.to_owned(), found.to_owned()));
    // The last of ten thousand is 9999, a group.
    expected[3].2 = "beyond".into();
    assert_eq!(found, expected);
    outcome.assert_says(&["2 are missing", "2 may be beyond", "inferred"]);
}

#[test]
fn an_input_that_is_a_report_has_its_outside_rows_explained() {
    let (desk, server) = (Desk::new(), World::of([("ann", 2), ("full", 1000)]).serve());
    let rows = "user,conv,type\nann,ann-1,0\nann,x,0\nfull,x,0\n";
    desk.clear(&server, rows).run().assert_status(0);
    explain(&desk, &server, "out.csv")
        .flag("--only", "outside")
        .run()
        .assert_status(0);
    let why = desk.read("why.csv");
    let mut lines: Vec<_> = why
        .lines()
        .skip(1)
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    lines.sort();
    assert_eq!(lines, ["ann,x,0,missing", "full,x,0,beyond"]);
}

#[test]
fn a_conversation_that_exists_by_now_is_listed() {
    let (desk, server) = (Desk::new(), World::of([("ann", 1)]).serve());
    desk.clear(&server, "user,conv,type\nann,ann-1,0\n")
        .run()
        .assert_status(0);
    let server = World::of([("ann", 2)]).serve();
    explain(&desk, &server, "out.outside.csv").run().assert_status(0);
    assert_eq!(
        desk.read("why.csv"),
        "line,user,conv,type,found\n2,ann,ann-1,0,listed\n"
    );
}

#[test]
fn an_empty_outside_log_is_explained_by_a_header() {
    let (desk, server) = (Desk::new(), World::of([("ann", 2)]).serve());
    desk.clear(&server, "user,conv,type\nann,ann-1,0\n")
        .run()
        .assert_status(0);
    explain(&desk, &server, "out.outside.csv").run().assert_status(0);
    assert_eq!(desk.read("why.csv"), "line,user,conv,type,found\n");
}

#[test]
fn what_would_hide_conversations_is_refused() {
    let (desk, server) = (Desk::new(), World::of([("ann", 2)]).serve());
    desk.write("out.outside.csv", "user,conv,type\nann,x,0\n");
    for (flag, value) in [("--since", "7d"), ("--type", "peer"), ("--rows", "-")] {
        let outcome = explain(&desk, &server, "out.outside.csv").flag(flag, value).run();
        outcome.assert_status(2).assert_says(&["--explain"]);
    }
    desk.write("why.csv", "precious\n");
    explain(&desk, &server, "out.outside.csv")
        .run()
        .assert_status(2)
        .assert_says(&["why.csv"]);
    assert!(server.count() == 0 && desk.read("why.csv") == "precious\n");
}
