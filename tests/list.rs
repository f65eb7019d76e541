//! `zim-batch list`, which writes the conversations of users as rows for `clear`, and `check --online`, which asks which
//! users exist: whole runs of the program against a server with users of its own.

#[path = "list/explain.rs"]
mod explain;
#[path = "list/files.rs"]
mod files;
#[path = "list/kills.rs"]
mod kills;
#[path = "list/leaks.rs"]
mod leaks;
#[path = "list/oddities.rs"]
mod oddities;
#[path = "list/online.rs"]
mod online;
#[path = "list/policies.rs"]
mod policies;
#[path = "support/say.rs"]
mod say;
#[path = "list/stdout.rs"]
mod stdout;
mod support;
#[path = "list/together.rs"]
mod together;
#[path = "list/whole.rs"]
mod whole;
#[path = "list/world.rs"]
mod world;

use std::collections::BTreeMap;

use support::{APP_ID, Call, Desk, ListRecord, SECRET, Server, read_list, read_rows};

/// The usual call: users in `users.csv`, rows in `rows.csv`, the list report in `rows.list.csv`, the summary as JSON, at a
/// high rate.
fn list(desk: &Desk, server: &Server, users: impl AsRef<[u8]>) -> Call {
    desk.write("users.csv", users);
    list_with(desk, &server.url(), "users.csv")
        .flag("--rows", "rows.csv")
        .flag("--rate", "500")
        .arg("--json")
}

/// `list` of a file against an endpoint, with the credentials in the environment and no other flag.
fn list_with(desk: &Desk, endpoint: &str, users: &str) -> Call {
    with_app(desk.zim_batch(["list", users, "--endpoint", endpoint]))
}

fn with_app(call: Call) -> Call {
    call.env("ZIM_APP_ID", &APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
}

/// The records of `rows.list.csv`, by their lines, which must differ.
#[track_caller]
fn records(desk: &Desk) -> BTreeMap<u64, ListRecord> {
    let records = read_list(&desk.path("rows.list.csv"));
    let count = records.len();
    let by_line: BTreeMap<_, _> = records.into_iter().map(|record| (record.line, record)).collect();
    assert_eq!(
        by_line.len(),
        count,
        "the list report has more than one record for a user"
    );
    by_line
}

/// The rows of `rows.csv`.
#[track_caller]
fn rows(desk: &Desk) -> Vec<[String; 4]> {
    read_rows(&desk.read("rows.csv"))
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// Panics unless all rows of a user stand together.
#[track_caller]
fn assert_together(rows: &[[String; 4]]) {
    let mut seen = std::collections::BTreeSet::new();
    for rows in rows.chunk_by(|one, other| one[0] == other[0]) {
        assert!(seen.insert(&rows[0][0]), "the rows of {} stand apart", rows[0][0]);
    }
}
