//! Plans of arbitrary rows, duplicates and reports of earlier runs.

use std::io::{Cursor, Write as _};

use super::super::format::Reads;
use super::super::input::Input;
use super::super::selection::Only;
use super::super::source::Source;
use super::*;
use crate::row::Outcome;

/// Plans the rows as a file, and as a stream.
fn plans(csv: &str, reads: Reads, selection: &Selection, done: &Done) -> [Result<Plan, InputError>; 2] {
    let format = Format {
        reads,
        ..Format::default()
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(csv.as_bytes()).unwrap();
    let opened = Input::open(&Source::File(file.path().to_owned()), &format).unwrap();
    let rows = Rows::from_reader(Box::new(Cursor::new(csv.to_owned())), "input", &format).unwrap();
    [opened, Input::from(rows)].map(|input| input.plan(selection, done.clone()))
}

/// What is done with each row, in the order of the input; a stream must agree, with what is done first.
fn steps(csv: &str, reads: Reads, selection: &Selection, done: &Done) -> Vec<String> {
    let [of_file, of_stream] = plans(csv, reads, selection, done).map(|plan| {
        let plan = plan.unwrap();
        let (total, rows_done) = (plan.total(), plan.rows_done());
        let step = |task: Result<Task, InputError>| match task.unwrap() {
            Task::Send(row) => format!("{} {}", row.line, row.item.user()),
            Task::Invalid(row) => format!("{} invalid", row.line),
            Task::Skip { item: row, first } => format!("{} as {first}", row.line),
            Task::AlreadyDone => "done".into(),
        };
        let steps: Vec<String> = plan.map(step).collect();
        let not_done = steps.iter().filter(|step| *step != "done").count() as u64;
        assert!(
            total.is_none_or(|total| total == rows_done + not_done),
            "{total:?}: {steps:?}"
        );
        steps
    });
    let sorted = |steps: &[String]| {
        let mut steps = steps.to_vec();
        steps.sort_by_key(|step| step != "done");
        steps
    };
    assert_eq!(sorted(&of_file), sorted(&of_stream));
    of_file
}

fn done(rows: &[(u64, [&str; 3])]) -> Done {
    let mut done = Done::default();
    for (line, [user, conv, conv_type]) in rows {
        done.insert(*line, user, conv, conv_type);
    }
    done.seal().unwrap();
    done
}

#[test]
fn a_limit_counts_the_rows_that_are_sent() {
    let csv = "user,conv,type\na,b,0\na,b,0\na,,0\nb,c,0\nc,d,0\nd,e,0\n";
    let done = done(&[(7, ["d", "e", "0"])]);
    for (dedupe, limit, expected) in [
        (false, 3, &["2 a", "3 a", "4 invalid", "5 b"][..]),
        (true, 3, &["2 a", "3 as 2", "4 invalid", "5 b", "6 c"]),
        (false, 9, &["2 a", "3 a", "4 invalid", "5 b", "6 c", "done"]),
        (true, 1, &["2 a"]),
    ] {
        let selection = Selection {
            dedupe,
            limit: Some(limit),
            ..Selection::default()
        };
        let [of_file, of_stream] = plans(csv, Reads::Rows, &selection, &done).map(Result::unwrap);
        assert_eq!(
            of_file.total(),
            Some(1 + expected.iter().filter(|step| **step != "done").count() as u64)
        );
        assert_eq!((of_file.rows_done(), of_stream.rows_done()), (1, 1));
        let lines = |plan: Plan| {
            plan.map(Result::unwrap)
                .filter(|task| *task != Task::AlreadyDone)
                .count()
        };
        assert_eq!(lines(of_file), lines(of_stream));
        if limit == 9 {
            assert_eq!(steps(csv, Reads::Rows, &selection, &done), expected);
        }
    }
}

#[test]
fn repeated_users_are_skipped_and_recorded_ones_are_done() {
    let csv = "line,user,conv,type,outcome\n2,a,x,0,ok\n3,b,x,0,failed\n4,a,y,2,ok\n5,,x,0,invalid\n6,c,x,0,ok\n";
    let mut selection = Selection {
        dedupe: true,
        ..Selection::default()
    };
    let users = |selection: &Selection, done: &Done| steps(csv, Reads::Users, selection, done);
    let none = Done::default();
    assert_eq!(users(&selection, &none), ["2 a", "3 b", "4 as 2", "5 invalid", "6 c"]);

    let mut recorded = done(&[(2, ["a", "", ""])]);
    recorded.insert_invalid(5, "", "", "");
    recorded.seal().unwrap();
    assert_eq!(users(&selection, &recorded), ["done", "3 b", "4 as 2", "done", "6 c"]);

    recorded.insert(6, "another", "", "");
    recorded.seal().unwrap();
    for changed in plans(csv, Reads::Users, &selection, &recorded) {
        let error = changed.unwrap_err();
        assert!(
            matches!(error.kind, InputErrorKind::RowChanged) && error.line == Some(6),
            "{error}"
        );
    }

    selection.only = Some(Only::Outcomes(vec![Outcome::Failed]));
    assert_eq!(users(&selection, &none), ["3 b"]);
}

#[test]
fn rows_before_the_one_that_is_done_are_skipped_and_not_counted_as_sent() {
    let csv = "user,conv,type\na,b,0\nc,d,0\na,b,0\ne,f,0\n";
    let done = done(&[(4, ["a", "b", "0"])]);
    for (limit, expected) in [
        (None, &["2 as 4", "3 c", "done", "5 e"][..]),
        (Some(1), &["2 as 4", "3 c"]),
    ] {
        let selection = Selection {
            dedupe: true,
            limit,
            ..Selection::default()
        };
        let [of_file, _] = plans(csv, Reads::Rows, &selection, &done).map(Result::unwrap);
        let not_done = expected.iter().filter(|step| **step != "done").count() as u64;
        assert_eq!(of_file.total(), Some(1 + not_done), "{limit:?}");
        assert_eq!(of_file.count(), expected.len());
    }
}

#[test]
fn a_row_whose_repetition_was_skipped_before_it_had_a_record_is_sent() {
    let csv = "user,conv,type\na,b,0\nc,d,0\na,b,0\na,b,0\n";
    let mut recorded = done(&[(3, ["c", "d", "0"])]);
    recorded.insert_skipped(4, "a", "b", "0");
    recorded.seal().unwrap();
    let selection = Selection {
        dedupe: true,
        ..Selection::default()
    };
    assert_eq!(
        steps(csv, Reads::Rows, &selection, &recorded),
        ["2 a", "done", "done", "5 as 2"]
    );
}

#[test]
fn records_of_rows_that_have_changed_are_stale_if_they_were_never_sent() {
    let csv = "user,conv,type\na,b,0\n,d,0\n";
    let mut recorded = Done::default();
    recorded.insert_invalid(2, "a", "b", "9");
    recorded.insert_invalid(3, "", "d", "0");
    recorded.insert_invalid(4, "gone", "", "0");
    recorded.seal().unwrap();
    for plan in plans(csv, Reads::Rows, &Selection::default(), &recorded) {
        let plan = plan.unwrap();
        assert_eq!((plan.stale(), plan.rows_done()), (&[2, 4][..], 1));
    }
    assert_eq!(
        steps(csv, Reads::Rows, &Selection::default(), &recorded),
        ["2 a", "done"]
    );
}

#[test]
fn an_ok_row_far_behind_in_a_stream_is_not_sent() {
    let failed = "u,c,0,failed\n".repeat(LOOKAHEAD);
    let csv = format!("user,conv,type,outcome\n{failed}u,c,0,ok\nu,c,0,failed\n");
    let [of_file, of_stream] = plans(&csv, Reads::Rows, &Selection::default(), &Done::default());
    let is_report = |error: &InputError| matches!(error.kind, InputErrorKind::IsReport { .. });
    assert!(of_file.is_err_and(|error| is_report(&error)));
    let after = of_stream.unwrap().nth(LOOKAHEAD);
    assert!(matches!(&after, Some(Err(error)) if is_report(error)), "{after:?}");
}
