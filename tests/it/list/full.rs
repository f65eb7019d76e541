//! Users with as many conversations as ZIM lists: older ones, if any, are out of reach, and that is said everywhere.

use serde_json::Value;

use crate::support::list::{list, list_with};
use crate::support::world::World;
use crate::support::{Desk, Outcome};

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).expect("one JSON object")
}

#[test]
fn users_with_a_thousand_conversations_are_counted_whatever_was_selected() {
    let world = World::of([("many", 1300), ("full", 1000), ("most", 999), ("few", 2)]);
    for selection in [&[][..], &["--type", "group"], &["--since", "2026-11-25"]] {
        let (desk, server) = (Desk::new(), world.serve());
        let call = || {
            selection
                .iter()
                .fold(list(&desk, &server, world.users_csv()), |call, arg| call.arg(arg))
        };
        let listed = call().run();
        assert_eq!(
            listed.assert_status(0).summary().count("users_full"),
            2,
            "{selection:?}"
        );
        let people = list_with(&desk, &server.url(), "users.csv")
            .flag("--rows", "rows.csv")
            .flag("--rate", "500");
        let people = selection.iter().fold(people, |call, arg| call.arg(arg));
        let shown = people.arg("--overwrite").run().stdout;
        assert!(
            shown.contains("full users") && shown.contains("ZIM lists the"),
            "{shown}"
        );

        let report = |args: &[&str]| desk.zim_batch([&["report", "rows.list.csv"], args].concat()).run();
        assert_eq!(json(&report(&["--json"]))["users_full"], 2, "{selection:?}");
        assert!(report(&[]).stdout.contains("full users"));
        let check = |args: &[&str]| desk.zim_batch([&["check"], args].concat()).run();
        assert_eq!(
            json(&check(&["rows.list.csv", "--json"]))["users_full"],
            2,
            "{selection:?}"
        );
        if selection.is_empty() {
            assert_eq!(json(&check(&["rows.csv", "--json"]))["users_full"], 2);
            assert!(check(&["rows.csv"]).stdout.contains("full users"));
        }
    }
}

#[test]
fn where_no_user_has_so_many_nothing_is_said_of_it() {
    let world = World::of([("most", 999)]);
    let (desk, server) = (Desk::new(), world.serve());
    let listed = list(&desk, &server, world.users_csv()).run();
    assert_eq!(listed.assert_status(0).summary().count("users_full"), 0);
    for args in [["report", "rows.list.csv"], ["check", "rows.csv"]] {
        let shown = desk.zim_batch(args).run().stdout;
        assert!(!shown.contains("full users"), "{shown}");
    }
}
