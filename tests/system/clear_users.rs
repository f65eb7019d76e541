//! `clear --users` that is killed before each system call that changes a file, and resumed.
//!
//! After any end, every row that was sent is in the rows file and stays there. At the end every user has one record in the
//! list report, every conversation has one in the report, and the outside log is complete.

mod system_calls;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::list::{assert_together, sorted, with_app};
use crate::support::world::World;
use crate::support::{Answer, Call, Desk, Outcome, Record, Request, Server, read_list, read_report, read_rows};

const ROWS: &str = "out.rows.csv";
const LIST: &str = "out.list.csv";
const REPORT: &str = "out.csv";
const OUTSIDE: &str = "out.outside.csv";

/// User, conversation and type.
type Key = [String; 3];

/// Users to clear, and the service that has them.
struct Task {
    world: World,
    server: Server,
    /// The users' file.
    users: String,
}

impl Task {
    fn new(world: World) -> Task {
        let lines = world.users().map(|user| format!("\"{}\"\n", user.replace('"', "\"\"")));
        let users = "user\n".to_owned() + &lines.collect::<String>();
        let served = world.clone();
        Task {
            world,
            server: Server::start(move |request, n| answer(&served, request, n)),
            users,
        }
    }

    fn call(&self, desk: &Desk) -> Call {
        desk.write("users.csv", &self.users);
        with_app(desk.zim_batch(["clear", "--users", "users.csv", "--endpoint", &self.server.url()]))
            .flag("--report", REPORT)
            .flag("--rate", "1000000")
            .flag("--max-in-flight", "8")
            .arg("--resume")
            .arg("--json")
    }

    /// Checks the files and the summary of a run that has finished, and that began with `kept`.
    fn check_end(&self, desk: &Desk, kept: &Kept, outcome: &Outcome) {
        let rows = read_rows(&desk.read(ROWS));
        let is_clean = !rows.iter().any(|row| outcome_of(&row[1]) == "failed");
        let summary = outcome.assert_status(if is_clean { 0 } else { 3 }).summary();
        summary.assert_counts(&[("rows", rows.len() as u64), ("not_run", 0)]);
        let done = summary.count("already_done") as usize;
        // A record that lacks nothing but its line end is done.
        assert!(
            (kept.records.len()..=kept.records.len() + 1).contains(&done),
            "{summary:?}"
        );
        let summary: Value = serde_json::from_str(&outcome.stdout).expect("it was read before");
        let users = self.world.users().count();
        assert_eq!(
            summary["users"],
            json!({
                "total": users, "ok": users, "failed": 0, "invalid": 0, "skipped": 0, "not_run": 0, "full": 0,
                "conversations": rows.len()
            })
        );
        self.check_list(desk, &rows);
        check_report(desk);
        assert_eq!(sorted(rows), self.world.all_rows());
    }

    fn check_list(&self, desk: &Desk, rows: &[[String; 4]]) {
        assert_together(rows);
        let list = read_list(&desk.path(LIST));
        let lines: BTreeSet<u64> = list.iter().map(|record| record.line).collect();
        assert_eq!((lines.len(), list.len()), (list.len(), self.world.users().count()));
        for record in &list {
            let rows = match record.outcome.as_str() {
                "ok" => rows.iter().filter(|row| row[0] == record.user).count(),
                _ => 0,
            };
            assert_eq!(record.conversations, rows, "{record:?}");
        }
    }
}

/// Checks that the report has one record for each row of the rows file, and that the outside log is complete.
fn check_report(desk: &Desk) {
    let rows = whole_records(&fs::read(desk.path(ROWS)).expect("there are rows"));
    let report = read_report(&desk.path(REPORT));
    let by_line: BTreeMap<u64, &Record> = report.iter().map(|record| (record.line, record)).collect();
    assert_eq!(
        (by_line.len(), report.len()),
        (report.len(), rows.len()),
        "a row has no record, or two"
    );
    for row in &rows {
        let record = by_line[&row.line];
        assert_eq!(
            [&record.user, &record.conv, &record.kind],
            [&row.fields[0], &row.fields[1], &row.fields[2]]
        );
        assert_eq!(record.outcome, outcome_of(&record.conv), "{record:?}");
        record.assert_is_finished();
    }
    let outside = whole_records(&fs::read(desk.path(OUTSIDE)).expect("there is a log"));
    let records = whole_records(&fs::read(desk.path(REPORT)).expect("there is a report"));
    let of_report = records.iter().filter(|record| record.fields[4] == "outside");
    assert!(
        outside
            .iter()
            .map(|record| &record.fields)
            .eq(of_report.map(|record| &record.fields)),
        "the outside log is not that of the report"
    );
}

/// The outcome that the row of a conversation must have.
fn outcome_of(conv: &str) -> &'static str {
    match conv {
        _ if conv.ends_with("99") => "failed",
        _ if conv.ends_with('5') || conv.ends_with('1') => "outside",
        _ => "ok",
    }
}

fn answer(world: &World, request: &Request, n: usize) -> Answer {
    let conv = request.text("ConvId");
    match outcome_of(&conv) {
        _ if conv.ends_with("77") && n == 1 => Answer::Reset,
        "failed" => Answer::Code(660_600_001, "no such\ngroup"),
        "outside" => Answer::Code(660_800_002, "no, \"such\" conversation"),
        _ => world.answer(request),
    }
}

/// The rows that were sent with these requests.
fn rows_of(requests: &[Request]) -> impl Iterator<Item = Key> {
    requests.iter().filter(|request| !request.is_list()).map(key)
}

fn key(request: &Request) -> Key {
    [request.user(), request.text("ConvId"), request.text("ConvType")]
}

/// What the files have after a run was ended, and the next run must keep.
#[derive(Default)]
struct Kept {
    /// The rows file to the last row that was sent, with the other rows of its user: it was on the disk before.
    rows: Vec<u8>,
    /// The list report to the record of this user.
    list: Vec<u8>,
    /// The users who have a record and all their rows.
    users: BTreeSet<String>,
    /// The records of the report.
    records: BTreeMap<Key, Vec<String>>,
}

impl Kept {
    /// Checks what must be true after any end of a run with these requests, which found what `earlier` has.
    fn check(&self, earlier: &Kept, requests: &[Request]) {
        for request in requests {
            if request.is_list() {
                let user = request.user();
                assert!(!earlier.users.contains(&user), "{user} was listed before");
            } else {
                assert!(
                    !earlier.records.contains_key(&key(request)),
                    "{:?} was done",
                    key(request)
                );
            }
        }
        assert!(self.rows.starts_with(&earlier.rows), "rows that were sent have changed");
        assert!(
            self.list.starts_with(&earlier.list),
            "users whose rows were sent have changed"
        );
        for (key, record) in &earlier.records {
            assert_eq!(self.records.get(key), Some(record), "it was on record");
        }
    }

    /// Reads the files, after these rows were sent.
    fn of(desk: &Desk, sent: &BTreeSet<Key>) -> Kept {
        let [rows, list, report] = [ROWS, LIST, REPORT].map(|name| fs::read(desk.path(name)).unwrap_or_default());
        let [written, listed, recorded] = [&rows, &list, &report].map(|bytes| whole_records(bytes));
        let by_key: BTreeMap<Key, &Whole> = written.iter().map(|row| (row.key(0), row)).collect();
        assert_eq!(by_key.len(), written.len(), "a conversation is listed twice");
        let sent = sent.iter().map(|key| {
            *by_key
                .get(key)
                .unwrap_or_else(|| panic!("{key:?} was sent, and is no row"))
        });
        let last_user = sent.max_by_key(|row| row.end).map(|row| &row.fields[0]);
        let end = |records: &[Whole], column: usize| {
            let last = records.iter().rfind(|record| Some(&record.fields[column]) == last_user);
            last.map_or(0, |record| record.end)
        };
        let ends = (end(&written, 0), end(&listed, 1));
        assert_eq!(
            ends.0 > 0,
            ends.1 > 0,
            "{last_user:?} has rows that were sent, and no record"
        );

        let mut left = written.iter();
        let has_all_rows = |user: &&Whole| {
            let conversations = user.fields[3].parse().unwrap_or(0);
            left.by_ref()
                .take(conversations)
                .filter(|row| row.fields[0] == user.fields[1])
                .count()
                == conversations
        };
        let users = listed
            .iter()
            .take_while(has_all_rows)
            .map(|user| user.fields[1].clone())
            .collect();
        let mut records = BTreeMap::new();
        for record in recorded {
            let row = by_key.get(&record.key(1));
            assert_eq!(
                row.map(|row| row.line.to_string()).as_ref(),
                Some(&record.fields[0]),
                "a record of another row"
            );
            assert_eq!(
                records.insert(record.key(1), record.fields),
                None,
                "two records of a row"
            );
        }
        Kept {
            rows: rows[..ends.0].to_vec(),
            list: list[..ends.1].to_vec(),
            users,
            records,
        }
    }
}

/// A record with its line end.
struct Whole {
    /// The line on which it begins.
    line: u64,
    /// Where the next one begins, in bytes.
    end: usize,
    fields: Vec<String>,
}

impl Whole {
    fn key(&self, column: usize) -> Key {
        std::array::from_fn(|index| self.fields[column + index].clone())
    }
}

/// The records after the header, without a torn one at the end: one ends with a line break outside quotes.
fn whole_records(bytes: &[u8]) -> Vec<Whole> {
    let (mut is_quoted, mut len) = (false, 0);
    for (index, byte) in bytes.iter().enumerate() {
        is_quoted ^= *byte == b'"';
        if *byte == b'\n' && !is_quoted {
            len = index + 1;
        }
    }
    let records: Vec<_> = csv::Reader::from_reader(&bytes[..len])
        .into_records()
        .map(|record| record.expect("a whole record is well-formed"))
        .collect();
    let begin = |record: &csv::StringRecord| record.position().expect("it was read").clone();
    let ends = records
        .iter()
        .skip(1)
        .map(|next| begin(next).byte() as usize)
        .chain([len]);
    let whole = |(record, end): (&csv::StringRecord, usize)| Whole {
        line: begin(record).line(),
        end,
        fields: record.iter().map(str::to_owned).collect(),
    };
    records.iter().zip(ends).map(whole).collect()
}
