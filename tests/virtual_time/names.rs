//! Names, conversions and traits that embedding programs rely on.

use std::io;

use serde_json::{Value, from_value, json, to_value};
use zim_batch::rows::{Format, ParsedRow, Rows};
use zim_batch::{
    Client, ClientBuilder, ConvType, ErrorKind, Job, Outcome, Rate, Record, Row, StopHandle, StopKind, StopReason,
    Summary,
};

fn builder() -> ClientBuilder {
    Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38")
}

#[test]
fn a_client_is_shared_by_cloning_it_and_a_run_may_be_spawned() {
    fn is_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn may_be_spawned<T: Send + 'static>(_: T) {}

    let client = builder().build().unwrap();
    is_shared(&client);
    is_shared(&StopHandle::new());
    may_be_spawned(Job::new(client.clone(), Vec::<Row>::new()).run());
    let row = Row::new("alice", "bob", ConvType::Peer).unwrap();
    may_be_spawned(async move { client.clear(&row).await });
}

#[test]
fn a_row_is_checked_as_the_rows_of_a_file_are() {
    for (user, conv_bytes) in [("", 5), ("alice", 0), ("alice", 32), ("alice", 33), (" ", 1)] {
        let conv = "c".repeat(conv_bytes);
        let csv = format!("user,conv,type\n\"{user}\",\"{conv}\",0\n");
        let mut rows = Rows::from_reader(Box::new(io::Cursor::new(csv)), "rows", &Format::default()).unwrap();
        let read = match rows.next().unwrap().unwrap() {
            ParsedRow::Row(row) => Ok(row.item),
            ParsedRow::Invalid(row) => Err(row.error),
        };
        assert_eq!(Row::new(user, conv, ConvType::Peer), read);
    }
}

#[test]
fn rows_and_results_are_serde_s_with_the_names_of_the_report() {
    let row = json!({"user": "alice", "conv": "#team", "type": 2});
    assert_eq!(
        from_value::<Row>(row.clone()).unwrap(),
        Row::new("alice", "#team", ConvType::Group).unwrap()
    );
    let written = to_value(from_value::<Row>(row).unwrap()).unwrap();
    assert_eq!(written, json!({"user": "alice", "conv": "#team", "type": "group"}));
    assert!(from_value::<Row>(json!({"user": "", "conv": "#team", "type": 2})).is_err());
    assert_eq!(from_value::<ConvType>(json!("peer")).unwrap(), ConvType::Peer);
    assert_eq!(from_value::<Outcome>(json!("outside")).unwrap(), Outcome::Outside);

    let key = ["alice", "bob", "0"].map(str::to_owned);
    let record = to_value(Record::new(7, key, Outcome::Failed, "HTTP 503".into())).unwrap();
    let names: Vec<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
    let mut columns = zim_batch::journal::COLUMNS;
    columns.sort();
    assert_eq!(names, columns);
    assert_eq!((&record["outcome"], &record["line"]), (&json!("failed"), &json!(7)));
    let summary = to_value(Summary::default()).unwrap();
    assert_eq!(
        (&summary["not_run"], summary.get("stopped")),
        (&json!(0), None::<&Value>)
    );
}

#[test]
fn what_people_read_is_displayed() {
    assert_eq!(
        format!("{} {} {}", ConvType::Peer, Outcome::Ok, StopReason::Cancelled),
        "peer ok cancelled"
    );
    assert_eq!(
        (StopReason::Cancelled.kind(), StopReason::Signal(15).kind()),
        (StopKind::Cancelled, StopKind::Signal(15))
    );
    let refused = builder()
        .endpoint("http://example.com".parse().unwrap())
        .build()
        .unwrap_err();
    assert_eq!(zim_batch::Error::from(refused).kind(), ErrorKind::Settings);
    assert_eq!(Rate::try_from(20.0).unwrap(), Rate::default());
}
