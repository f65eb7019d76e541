//! A file of rows that changes while a run reads it: only appending is allowed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::support::{Desk, Running, Server, kind_server, named_rows, rows};

/// More rows than a run reads ahead, with IDs that begin with `letter`.
fn many(letter: char) -> String {
    named_rows((0..4000).map(|number| format!("{letter}{number:015}")))
}

/// Starts a run, and waits until it has sent `sent` rows.
fn start(desk: &Desk, server: &Server, file: &str, rate: &str, sent: usize) -> Running {
    let call = desk.clear_with(&server.url(), file).flag("--report", "out.csv");
    let mut running = call.flag("--rate", rate).arg("--json").spawn();
    running.wait_until("the run is under way", || server.requests().len() >= sent);
    running
}

fn write_over(path: &Path, content: &[u8]) {
    // In place, like `cp` and a redirection.
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .expect("the file is there");
    file.write_all(content).expect("it can be written");
}

#[track_caller]
fn assert_all_are_of_the_first_file(desk: &Desk, server: &Server, what: &str) {
    let is_first = |user: &str| user.starts_with('a');
    assert!(
        server.requests().iter().all(|request| is_first(&request.user())),
        "{what}: rows of the other file were sent"
    );
    for record in desk.report() {
        assert!(is_first(&record.user) && record.outcome == "ok", "{what}: {record:?}");
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_stops_the_run_before_any_row_of_the_changed_file() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("fewer rows over it", |path| write_over(path, rows(10).as_bytes())),
        ("emptied", |path| write_over(path, b"")),
        ("as many other rows over it", |path| {
            write_over(path, many('b').as_bytes())
        }),
        ("other rows of the same size and time", |path| {
            let time = path.metadata().unwrap().modified().unwrap();
            write_over(path, many('b').as_bytes());
            File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("cut within a record", |path| {
            let len = path.metadata().unwrap().len();
            OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(len * 3 / 4)
                .unwrap();
        }),
        ("more rows in its place", |path| {
            let other = path.with_extension("new");
            fs::write(&other, many('b') + &many('c')).unwrap();
            fs::rename(other, path).unwrap();
        }),
    ];
    for (what, change) in changes {
        let (desk, server) = (Desk::new(), kind_server());
        let path = desk.write("rows.csv", many('a'));
        let running = start(&desk, &server, "rows.csv", "1000", 200);
        change(&path);
        let outcome = running.wait();

        outcome.assert_status(4).assert_tells(&["rows.csv", "--resume"]);
        assert!(outcome.summary().count("not_run") > 0, "{what}: {outcome:?}");
        assert_all_are_of_the_first_file(&desk, &server, what);
    }
}

#[test]
fn after_a_change_a_run_resumes_with_the_original_file() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = desk.write("rows.csv", many('a'));
    let running = start(&desk, &server, "rows.csv", "1000", 200);
    write_over(&path, many('b').as_bytes());
    running.wait().assert_status(4);

    let outcome = desk
        .clear(&server, many('a'))
        .arg("--resume")
        .flag("--rate", "5000")
        .run();
    outcome.assert_status(0);
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (4000, 4000));
    assert_all_are_of_the_first_file(&desk, &server, "resumed");
}

#[test]
fn a_change_is_detected_even_if_all_rows_have_been_read_ahead() {
    for is_packed in [false, true] {
        let (desk, server) = (Desk::new(), kind_server());
        let pack = |text: String| {
            if is_packed {
                zstd::encode_all(text.as_bytes(), 3).unwrap()
            } else {
                text.into_bytes()
            }
        };
        let users = |letter: char| named_rows((0..100).map(move |number| format!("{letter}{number}")));
        let path = desk.write("rows.csv", pack(users('a')));
        let running = start(&desk, &server, "rows.csv", "10", 3);
        let other = desk.write("other.csv", pack(users('b')));
        fs::rename(other, path).unwrap();
        let outcome = running.wait();

        outcome.assert_status(4).assert_tells(&["rows.csv"]);
        assert!(outcome.summary().count("not_run") > 0, "{outcome:?}");
        assert_all_are_of_the_first_file(&desk, &server, "read ahead");
    }
}

#[test]
fn a_file_that_is_removed_stops_the_run() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = desk.write("rows.csv", rows(100));
    let running = start(&desk, &server, "rows.csv", "10", 3);
    fs::remove_file(path).unwrap();
    running.wait().assert_status(4).assert_tells(&["rows.csv", "removed"]);
}

#[test]
fn rows_added_during_a_run_are_left_to_a_resume_with_a_message() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = desk.write("rows.csv", rows(30).trim_end());
    let running = start(&desk, &server, "rows.csv", "20", 3);
    // With the missing line end, and an incomplete row.
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"\nmore,c,0\nhal")
        .unwrap();
    let outcome = running.wait();
    outcome.assert_status(0).assert_says(&["rows were added", "--resume"]);
    outcome.summary().assert_counts(&[("rows", 30), ("ok", 30)]);

    let all = rows(30) + "more,c,0\nhalf,c,0\n";
    desk.clear(&server, all).arg("--resume").run().assert_status(0);
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (32, 32));
}

#[test]
fn the_same_rows_in_a_new_file_with_a_new_time_are_not_a_change() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = desk.write("rows.csv", rows(40));
    let running = start(&desk, &server, "rows.csv", "20", 3);
    let other = desk.write("other.csv", rows(40) + "more,c,0\n");
    fs::rename(other, path).unwrap();
    running.wait().assert_status(0).summary().assert_counts(&[("ok", 40)]);
}

#[test]
fn a_last_row_that_becomes_longer_after_it_was_counted_is_not_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv = |last: &str| {
        let rows = (0..40).map(|number| format!("0,u{number},c\n"));
        format!("type,user,conv\n{}0,u40,conv-of-th{last}", rows.collect::<String>())
    };
    let path = desk.write("rows.csv", csv(""));
    let running = start(&desk, &server, "rows.csv", "10", 3);
    OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"ree\n")
        .unwrap();
    running
        .wait()
        .assert_status(4)
        .assert_tells(&["line 42", "still being written"]);

    desk.clear(&server, csv("ree\n")).arg("--resume").run().assert_status(0);
    assert_eq!((desk.report_by_user().len(), server.requests().len()), (41, 41));
    assert_eq!(server.requests_of("u40")[0].text("ConvId"), "conv-of-three");
}
