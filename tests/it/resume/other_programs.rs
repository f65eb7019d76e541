//! Reports changed by a spreadsheet, a converter or a power cut.

use std::fs::OpenOptions;
use std::time::Duration;

use encoding_rs::GBK;

use crate::support::{Answer, Desk, REPORT_HEADER, Server, kind_server, named_rows, rows};

/// A desk with the report of the first five of eight rows, and the text of the report.
fn desk_with_report(server: &Server) -> (Desk, String) {
    let desk = Desk::new();
    desk.clear(server, rows(5)).run().assert_status(0);
    let report = desk.read("out.csv");
    (desk, report)
}

fn quoted(report: &str) -> String {
    let quoted = |line: &str| {
        line.split(',')
            .map(|field| format!("\"{field}\""))
            .collect::<Vec<_>>()
            .join(",")
    };
    report.lines().map(|line| quoted(line) + "\r\n").collect()
}

#[test]
fn a_report_saved_by_a_spreadsheet_is_resumed_without_loss() {
    let server = kind_server();
    let (desk, report) = desk_with_report(&server);
    let crlf = report.replace('\n', "\r\n");
    let saved = [
        report.trim_end().to_owned(),
        crlf.clone(),
        crlf.trim_end().into(),
        crlf[..crlf.len() - 1].into(), // truncated within a line end
        report.replace('\n', "\r"),
        quoted(&report),
        quoted(&report).trim_end().into(),
        format!("\u{feff}{crlf}"),
        format!("\u{feff}{}", crlf.trim_end()),
        format!("{crlf}\r\n\r\n"),
        format!("{}\0\0\0\0", report.trim_end()),
    ];
    for saved in saved {
        desk.write("out.csv", &saved);
        let before = server.requests().len();
        let outcome = desk.clear(&server, rows(8)).arg("--resume").run();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("already_done", 5), ("ok", 3)]);
        assert_eq!(server.requests().len() - before, 3, "{saved:?}");
        let after = desk.read("out.csv");
        assert!(
            after.starts_with(saved.trim_end_matches(['\r', '\n', '\0'])),
            "{after:?}"
        );
        // One header, and one record per line, whatever the line ends.
        let lines: Vec<_> = after.split(['\r', '\n']).filter(|line| !line.is_empty()).collect();
        assert_eq!((lines.len(), after.matches("finished_at").count()), (9, 1), "{after:?}");
        assert!(lines.iter().all(|line| line.split(',').count() == 12), "{after:?}");
        assert!(after.ends_with("Z\n") && !after.contains("Z\r1"), "{after:?}");
    }
}

#[test]
fn a_record_is_dropped_only_when_it_is_torn() {
    let server = kind_server();
    let (desk, report) = desk_with_report(&server);
    for (cut, done) in [(1, 5), (2, 4), (20, 4), (40, 4)] {
        desk.write("out.csv", &report[..report.len() - cut]);
        let outcome = desk.clear(&server, rows(8)).arg("--resume").run();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("already_done", done)]);
        assert_eq!(desk.report_by_user().len(), 8);
    }
}

#[test]
fn a_report_saved_in_another_encoding_or_with_other_delimiters_is_refused_untouched() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv = named_rows(["张三", "李四", "王五"]);
    desk.clear(&server, &csv).run().assert_status(0);
    let report = desk.read("out.csv");
    let utf_16 = |report: &str| report.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let saved: [(Vec<u8>, &str); 8] = [
        (GBK.encode(&report).0.into(), "GBK"),
        (GBK.encode(&report.replace('\n', "\r\n")).0.into(), "GBK"),
        (GBK.encode(report.trim_end()).0.into(), "GBK"),
        (utf_16(&report), "UTF-16"),
        (utf_16(&format!("\u{feff}{report}")), "UTF-16"),
        (report.replace(',', ";").into(), "semicolons"),
        (report.replace(',', "\t").into(), "tabs"),
        (
            format!("\u{feff}{}", report.replace(',', ";").replace('\n', "\r\n")).into(),
            "semicolons",
        ),
    ];
    for (saved, says) in saved {
        desk.write("out.csv", &saved);
        let outcome = desk.clear(&server, &csv).arg("--resume").run();
        outcome.assert_status(4).assert_says(&["out.csv", says, "untouched"]);
        assert_eq!(std::fs::read(desk.path("out.csv")).unwrap(), saved);
    }
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_long_line_is_not_a_torn_header() {
    let (desk, server) = (Desk::new(), kind_server());
    for text in [
        "x".repeat(3 << 20),
        format!("{{\"{}\"}}", ",".repeat(3 << 20)),
        "\0".repeat(3 << 20),
    ] {
        desk.write("out.csv", &text);
        desk.clear(&server, rows(2))
            .arg("--resume")
            .run()
            .assert_status(4)
            .assert_says(&["out.csv"]);
        assert!(desk.read("out.csv") == text, "it was changed");
    }
}

#[test]
fn any_number_of_zeros_after_a_report_is_dropped() {
    let slow = || Answer::After(Duration::from_millis(300), Box::new(Answer::Code(0, "success")));
    let server = Server::start(move |_, _| slow());
    for (torn, done) in [("", 5), ("7,\"u6", 5)] {
        let (desk, report) = desk_with_report(&server);
        desk.write("out.csv", format!("{report}{torn}"));
        let file = OpenOptions::new().write(true).open(desk.path("out.csv")).unwrap();
        file.set_len(100 << 20).unwrap();
        let before = server.requests().len();
        let mut running = desk.clear(&server, rows(8)).arg("--resume").spawn();
        running.wait_until("the first row is sent", || server.requests().len() > before);
        let peak = running.peak_memory_kib();
        let outcome = running.wait();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("already_done", done)]);
        assert!(peak.is_none_or(|peak| peak < 64 << 10), "{peak:?} KiB");
        assert_eq!(desk.report_by_user().len(), 8);
        assert!(desk.read("out.csv").starts_with(&report));
    }
    // A power cut can also replace the header by zeros.
    let desk = Desk::new();
    desk.write("out.csv", format!("{}{}", &REPORT_HEADER[..20], "\0".repeat(5000)));
    desk.clear(&server, rows(2)).arg("--resume").run().assert_status(0);
    assert_eq!(desk.report_by_user().len(), 2);
}
