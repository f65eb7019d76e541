//! Answers that ZEGO's documents leave open, or do not allow.

use std::thread;

use serde_json::{Value, json};

use crate::support::list::{list, records, rows};
use crate::support::world::{FIRST, page, time};
use crate::support::{Answer, Desk, ListRecord, Request, Server};

/// Lists one user whose pages are these: each with the `Next` that asks for it. Returns the exit status, the record, and
/// conversation, type and time of each row.
fn list_pages(pages: &[(&str, String)]) -> (i32, ListRecord, Vec<String>) {
    let pages: Vec<_> = pages
        .iter()
        .map(|(next, page)| (next.to_string(), page.clone()))
        .collect();
    list_answers(move |request, _| {
        let next = request.members["Next"].get().to_owned();
        let page = pages.iter().find(|(of, _)| *of == next);
        Answer::Json(page.unwrap_or_else(|| panic!("no page begins at {next}")).1.clone())
    })
}

fn list_answers(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> (i32, ListRecord, Vec<String>) {
    let (desk, server) = (Desk::new(), Server::start(answer));
    let outcome = list(&desk, &server, "user\nann\n").run();
    server.assert_well_formed();
    let record = records(&desk)
        .remove(&2)
        .unwrap_or_else(|| panic!("no record: {outcome:?}"));
    assert_eq!(record.conversations, rows(&desk).len());
    assert_eq!(record.attempts, server.count());
    let rows = rows(&desk)
        .into_iter()
        .map(|[_, conv, kind, at]| format!("{conv} {kind} {at}"));
    (outcome.status, record, rows.collect())
}

fn convs(from: usize, to: usize) -> Vec<Value> {
    (from..to)
        .map(|number| json!({"ConvId": format!("c{number}"), "ConvType": 2}))
        .collect()
}

#[test]
fn what_may_be_absent_may_be_absent_and_numbers_may_be_strings() {
    let list = r#"[{"ConvId":"a","UpdateTime":1763000000123}, {"ConvId":"b","ConvType":"2","UpdateTime":"1763000000123"},
        {"ConvId":"c","ConvType":0,"Unknown":{"x":[1,{}]}}, {"ConvType":2,"ConvId":"a","UpdateTime":null}]"#;
    let first = format!(
        r#"{{"Extra":null,"Code":"0","Message":"success","RequestId":9007199254740995,"TotalCount":"4","Next":"77","List":{list}}}"#
    );
    let (status, record, rows) = list_pages(&[("0", first), ("77", r#"{"Code":0}"#.into())]);
    let at = time(FIRST);
    let expected = [format!("a 0 {at}"), format!("b 2 {at}"), "c 0 ".into(), "a 2 ".into()];
    assert_eq!((status, rows), (0, expected.to_vec()), "{record:?}");
    for last in [
        r#"{"Code":0,"List":null,"Next":null}"#,
        r#"{"Code":0,"Next":0,"List":[]}"#,
        r#"{"Code":0,"Next":"0"}"#,
    ] {
        let (status, record, rows) = list_pages(&[("0", last.into())]);
        assert_eq!((status, record.outcome.as_str(), rows.len()), (0, "ok", 0), "{last}");
    }
}

#[test]
fn a_next_keeps_all_its_digits() {
    let (long, longer) = ("98765432109876543210987", "18446744073709551617");
    let (status, _, rows) = list_pages(&[
        ("0", page(long, &convs(0, 1), 3)),
        (long, page(&format!("\"{longer}\""), &convs(1, 2), 3)),
        (longer, page("0", &convs(2, 3), 3)),
    ]);
    assert_eq!(
        (status, rows),
        (0, vec!["c0 2 ".to_owned(), "c1 2 ".into(), "c2 2 ".into()])
    );
}

#[test]
fn empty_pages_and_repeated_conversations_do_no_harm() {
    let at = |conv: &str, at: u64| json!({"ConvId": conv, "UpdateTime": at});
    let (status, record, rows) = list_pages(&[
        ("0", page("1", &[at("a", FIRST), at("b", FIRST)], 3)),
        ("1", page("2", &[], 3)),
        ("2", page("3", &[at("c", FIRST), at("a", FIRST + 5)], 3)),
        ("3", page("0", &[], 3)),
    ]);
    let rows: Vec<_> = rows.iter().map(|row| &row[..1]).collect();
    assert_eq!((status, record.attempts, rows), (0, 4, vec!["a", "b", "c"]));
}

#[test]
fn a_list_that_does_not_end_fails_the_user_soon() {
    let fails = |(status, record, rows): (i32, ListRecord, Vec<String>)| {
        assert_eq!(
            (status, record.outcome.as_str(), rows.len()),
            (3, "failed", 0),
            "{record:?}"
        );
        assert!(record.message.contains("does not end"), "{record:?}");
        record.attempts
    };
    let repeats = list_pages(&[("0", page("5", &convs(0, 1), 9)), ("5", page("5", &convs(1, 2), 9))]);
    assert_eq!(fails(repeats), 2);
    let circle = [
        ("0", page("5", &convs(0, 1), 9)),
        ("5", page("6", &convs(1, 2), 9)),
        ("6", page("5", &convs(2, 3), 9)),
    ];
    assert_eq!(fails(list_pages(&circle)), 3);
    let endless = |new: usize| {
        list_answers(move |request, _| {
            let number: usize = request.member("Next").parse().unwrap();
            Answer::Json(page(
                &(number + 1).to_string(),
                &convs(number * new, (number + 1) * new),
                1000,
            ))
        })
    };
    assert!((3..=5).contains(&fails(endless(400))));
    assert!(fails(endless(0)) <= 100);
    let same = list_answers(|request, _| {
        let number: usize = request.member("Next").parse().unwrap();
        Answer::Json(page(&(number + 1).to_string(), &convs(0, 10), 10))
    });
    assert!(fails(same) <= 100);
}

#[test]
fn a_list_that_can_t_be_read_is_tried_again() {
    let unreadable = |body: &'static str| {
        let (status, record, rows) = list_answers(move |_, _| Answer::Json(body.into()));
        assert_eq!(
            (status, record.outcome.as_str(), rows.len()),
            (3, "failed", 0),
            "{body}"
        );
        assert!((2..=6).contains(&record.attempts), "{record:?}");
        assert!(record.message.contains("list can't be read"), "{record:?}");
    };
    thread::scope(|scope| {
        for body in [
            r#"{"Code":0,"List":7}"#,
            r#"{"Code":0,"List":[7]}"#,
            r#"{"Code":0,"List":{"ConvId":"a"}}"#,
        ] {
            scope.spawn(move || unreadable(body));
        }
    });
    let (status, record, rows) = list_answers(|request, n| match (request.member("Next").as_str(), n) {
        ("0", _) => Answer::Json(page("9", &convs(0, 2), 3)),
        (_, 1) => Answer::HalfJson,
        (_, 2) => Answer::Truncate,
        _ => Answer::Json(page("0", &convs(2, 3), 3)),
    });
    assert_eq!((status, record.attempts, rows.len()), (0, 4, 3), "{record:?}");
}

#[test]
fn large_pages_are_read_whole() {
    let large = |from: usize| -> Vec<Value> {
        let conv = |number: usize| json!({"ConvId": format!("{number:032}"), "ConvType": 2, "UpdateTime": FIRST, "Notice": "n".repeat(200), "More": {"a": [1, 2, 3]}});
        (from..from + 500).map(conv).collect()
    };
    let pages = [
        ("0", page("500", &large(0), 1000)),
        ("500", page("0", &large(500), 1000)),
    ];
    assert!(pages[0].1.len() > 128 * 1024);
    let (status, record, rows) = list_pages(&pages);
    assert_eq!((status, record.conversations), (0, 1000));
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(*row, format!("{number:032} 2 {}", time(FIRST)));
    }
}
