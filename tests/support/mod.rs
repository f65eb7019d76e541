//! Shared by the black-box tests: a working directory, the program as a process, its report and summary, and a server
//! that fails on demand.
//!
//! The usual test is three lines: a [`Server`] that answers as told, `desk.clear(&server, ROWS).run()`, and assertions
//! on the [`Outcome`], on `desk.report()` and on what the server saw.

#![allow(dead_code, unused_imports, reason = "each test program uses its own part of this")]

pub mod below;
mod codes;
mod latch;
pub mod list;
pub mod pace;
mod passed_over;
mod process;
pub mod proxy;
mod report;
mod request;
mod say;
mod server;
pub mod signals;
pub mod world;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

pub use codes::{APP_CODES, FATAL_CODES, LIMITED_CODES, ROW_CODES, SIGNATURE_CODES};
pub use latch::Latch;
pub use passed_over::passed_over;
pub use process::{Call, Outcome, Running, can_be_another_user};
pub use report::{
    LIST_HEADER, ListRecord, REPORT_HEADER, ROWS_HEADER, Record, Summary, read_list, read_report, read_rows,
};
pub use request::{APP_ID, Request, SECRET};
pub use say::{figures, program};
pub use server::{Answer, Options, Server, code_body};

/// `count` rows `u1,c1,0`, `u2,c2,0`, … under a header.
pub fn rows(count: usize) -> String {
    named_rows((1..=count).map(|number| format!("u{number}")))
}

/// One row for each user, its conversation `c` and the user, under a header.
pub fn named_rows(users: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let lines = users.into_iter().map(|user| format!("{0},c{0},0\n", user.as_ref()));
    "user,conv,type\n"
        .chars()
        .chain(lines.flat_map(|line| line.chars().collect::<Vec<_>>()))
        .collect()
}

/// A server that answers every request with success.
pub fn kind_server() -> Server {
    Server::start(|_, _| Answer::Code(0, "success"))
}

/// A server that answers by the user's name: `bad…` is rejected, `outside…` is outside, every other is ok.
pub fn sorting_server() -> Server {
    Server::start(|request, _| match request.user() {
        user if user.starts_with("bad") => Answer::Code(660_500_002, "not registered"),
        user if user.starts_with("outside") => Answer::Code(660_800_002, "conversation not found"),
        _ => Answer::Code(0, "success"),
    })
}

/// An answer that is a web page, not ZIM's.
pub fn html(status: u16) -> Answer {
    Answer::Raw {
        status,
        headers: vec![("Content-Type", "text/html".into())],
        body: "<html><body><h1>Bad Gateway</h1></body></html>".into(),
    }
}

/// The user of the row selects the answer: `code660800002`, `http503`, `reset`; success for all others.
pub fn as_the_user_says(request: &Request, _: usize) -> Answer {
    let user = request.user();
    let number = |prefix| user.strip_prefix(prefix).and_then(|rest| rest.parse::<i64>().ok());
    match (number("code"), number("http")) {
        (Some(code), _) => return Answer::Code(code, "as you asked"),
        (_, Some(status)) => return html(status.try_into().expect("a status")),
        _ => {}
    }
    match user.as_str() {
        "reset" => Answer::Reset,
        "close" => Answer::Close,
        "truncate" => Answer::Truncate,
        "half" => Answer::HalfJson,
        "empty" => Answer::Json(String::new()),
        "no-code" => Answer::Json(r#"{"Message":"success","RequestId":"1"}"#.into()),
        "odd-code" => Answer::Json(r#"{"Code":"fine","Message":"success"}"#.into()),
        "null-code" => Answer::Json(r#"{"Code":null}"#.into()),
        "array" => Answer::Json("[0]".into()),
        "hang" => Answer::Hang(Duration::from_secs(20)),
        "hang-in-body" => Answer::HangInBody(Duration::from_secs(20)),
        _ => Answer::Code(0, "success"),
    }
}

/// These users, with an ok row after each and many at the end, so that no outage is assumed for any answers to the users.
pub fn among_ok_rows(users: &[String], then: usize) -> String {
    let mixed = users
        .iter()
        .enumerate()
        .flat_map(|(index, user)| [user.clone(), format!("between{index}")]);
    named_rows(mixed.chain((0..then).map(|number| format!("after{number}"))))
}

/// A directory for one test: where the program runs, and its home.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be created"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), content).expect("the desk can be written to");
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// The program, without this machine's settings.
    pub fn zim_batch<A: AsRef<str>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        let args = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        Call::new(self.0.path(), args)
    }

    /// The usual call: rows in `rows.csv`, the report in `out.csv`, the summary as JSON, at a high rate.
    pub fn clear(&self, server: &Server, rows: impl AsRef<[u8]>) -> Call {
        self.write("rows.csv", rows);
        self.clear_with(&server.url(), "rows.csv")
            .flag("--report", "out.csv")
            .flag("--rate", "200")
            .arg("--json")
    }

    /// `clear` of a file against an endpoint, with the credentials in the environment and no other flag.
    pub fn clear_with(&self, endpoint: &str, file: &str) -> Call {
        self.zim_batch(["clear", file, "--endpoint", endpoint])
            .env("ZIM_APP_ID", &APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET)
    }

    /// The records of `out.csv`.
    pub fn report(&self) -> Vec<Record> {
        read_report(&self.path("out.csv"))
    }

    /// The records of `out.csv` by their users, which must differ.
    pub fn report_by_user(&self) -> BTreeMap<String, Record> {
        let records = self.report();
        let count = records.len();
        let by_user: BTreeMap<_, _> = records
            .into_iter()
            .map(|record| (record.user.clone(), record))
            .collect();
        assert_eq!(by_user.len(), count, "the report has more than one record for a row");
        by_user
    }
}
