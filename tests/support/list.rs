//! Calls of `zim-batch list` and `check --online`, and what they write.

use std::collections::BTreeMap;

use super::{APP_ID, Call, Desk, ListRecord, SECRET, Server, read_list, read_rows};

/// The usual call: users in `users.csv`, rows in `rows.csv`, the list report in `rows.list.csv`, the summary as JSON, at a
/// high rate.
pub fn list(desk: &Desk, server: &Server, users: impl AsRef<[u8]>) -> Call {
    desk.write("users.csv", users);
    list_with(desk, &server.url(), "users.csv")
        .flag("--rows", "rows.csv")
        .flag("--rate", "500")
        .arg("--json")
}

/// `list` of a file against an endpoint, with the credentials in the environment and no other flag.
pub fn list_with(desk: &Desk, endpoint: &str, users: &str) -> Call {
    with_app(desk.zim_batch(["list", users, "--endpoint", endpoint]))
}

pub fn with_app(call: Call) -> Call {
    call.env("ZIM_APP_ID", &APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
}

/// The records of `rows.list.csv`, by their lines, which must differ.
#[track_caller]
pub fn records(desk: &Desk) -> BTreeMap<u64, ListRecord> {
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
pub fn rows(desk: &Desk) -> Vec<[String; 4]> {
    read_rows(&desk.read("rows.csv"))
}

pub fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

/// Panics unless all rows of a user stand together.
#[track_caller]
pub fn assert_together(rows: &[[String; 4]]) {
    let mut seen = std::collections::BTreeSet::new();
    for rows in rows.chunk_by(|one, other| one[0] == other[0]) {
        assert!(seen.insert(&rows[0][0]), "the rows of {} stand apart", rows[0][0]);
    }
}
