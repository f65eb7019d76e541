//! The same rows in every form that people have them in; reports as rows again; and what is said when nothing can be
//! made of an input.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{APP_ID, Answer, Call, Desk, Outcome, REPORT_HEADER, SECRET, Server, kind_server, read_report, rows};
use zim_batch::rows::{Entry, Format, Rows};

/// Three rows with all that must not be touched: leading zeros, blanks at the ends, `#`, `=`, quotes, delimiters, a
/// line end, letters that are not ASCII.
const ROWS: [[&str; 3]; 3] = [
    ["0012", " #te,a;m\t|", "0"],
    ["=1+1", "say \"line\n", "2"],
    ["#ü", "-é ", "0"],
];

/// The rows, every field quoted that needs it, with a header or without.
fn text(header: Option<[&str; 3]>, delimiter: char, end: &str) -> String {
    let quoted = |field: &str| {
        if field.contains(['"', ',', ';', '\t', '|', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.to_owned()
        }
    };
    let record = |fields: [&str; 3]| fields.map(quoted).join(&delimiter.to_string());
    let records = header.into_iter().chain(ROWS).map(record);
    records.collect::<Vec<_>>().join(end) + end
}

const HEADER: Option<[&str; 3]> = Some(["user", "conv", "type"]);

fn utf16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    format!("\u{feff}{text}").encode_utf16().flat_map(to_bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

struct Dialect {
    name: &'static str,
    bytes: Vec<u8>,
    flags: &'static [&'static str],
    /// The lines on which the rows begin.
    lines: [u64; 3],
}

fn dialects() -> Vec<Dialect> {
    let plain = text(HEADER, ',', "\n");
    let dialect = |name, bytes: Vec<u8>, flags| Dialect {
        name,
        bytes,
        flags,
        lines: [2, 3, 5],
    };
    let at = |lines, mut dialect: Dialect| {
        dialect.lines = lines;
        dialect
    };
    let reordered = |header: &str, row: fn([String; 3]) -> String| {
        let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
        ROWS.iter()
            .fold(format!("{header}\n"), |text, fields| {
                text + &row(fields.map(quoted)) + "\n"
            })
            .into_bytes()
    };
    let with = |header| text(Some(header), ',', "\n").into_bytes();
    let half = plain.find("#ü").unwrap();
    let two_members = [gzip(&plain.as_bytes()[..half]), gzip(&plain.as_bytes()[half..])].concat();
    let two_frames = [zst(&plain.as_bytes()[..half]), zst(&plain.as_bytes()[half..])].concat();
    let mut foreign = Vec::from(&b"note \xff\xfe,user,conv,type,\x80\n"[..]);
    for line in text(None, ',', "\r\n").trim_end().split("\r\n") {
        foreign.extend([b"\xc3\x28,", line.as_bytes(), b",\xff\r\n"].concat());
    }
    vec![
        dialect("plain", plain.clone().into(), &[]),
        dialect("UTF-8 with a BOM", format!("\u{feff}{plain}").into(), &[]),
        at(
            [1, 2, 4],
            dialect(
                "a BOM and no header",
                format!("\u{feff}{}", text(None, ',', "\n")).into(),
                &[],
            ),
        ),
        dialect("UTF-16 LE", utf16(&plain, u16::to_le_bytes), &[]),
        dialect("UTF-16 BE", utf16(&plain, u16::to_be_bytes), &[]),
        dialect(
            "UTF-16 LE, tabs, CRLF: Excel's Unicode text",
            utf16(&text(HEADER, '\t', "\r\n"), u16::to_le_bytes),
            &[],
        ),
        dialect(
            "UTF-16 LE without a BOM",
            utf16(&plain, u16::to_le_bytes)[2..].to_vec(),
            &["--encoding", "utf-16le"],
        ),
        dialect(
            "a BOM that knows better",
            utf16(&plain, u16::to_be_bytes),
            &["--encoding", "gbk"],
        ),
        dialect(
            "windows-1252",
            plain.chars().map(|c| c as u8).collect(),
            &["--encoding", "windows-1252"],
        ),
        dialect(
            "latin1, in capitals",
            plain.chars().map(|c| c as u8).collect(),
            &["--encoding", "ISO-8859-1"],
        ),
        dialect("CRLF", text(HEADER, ',', "\r\n").into(), &[]),
        dialect("CR", text(HEADER, ',', "\r").into(), &[]),
        dialect("no line end at the end", plain.trim_end().into(), &[]),
        at(
            [10, 15, 21],
            dialect(
                "blank lines",
                format!("\n \n\t\n\r\n{}", text(HEADER, ',', "\n\n \n\r\n\n")).into(),
                &[],
            ),
        ),
        dialect("tabs", text(HEADER, '\t', "\n").into(), &[]),
        dialect(
            "semicolons, CRLF, BOM: Excel in Europe",
            format!("\u{feff}{}", text(HEADER, ';', "\r\n")).into(),
            &[],
        ),
        dialect(
            "a delimiter of one's own",
            text(HEADER, '|', "\n").into(),
            &["--delimiter", "|"],
        ),
        dialect("tab by name", text(HEADER, '\t', "\n").into(), &["--delimiter", "tab"]),
        at([1, 2, 4], dialect("no header", text(None, ',', "\n").into(), &[])),
        at(
            [1, 2, 4],
            dialect("no header, tabs", text(None, '\t', "\n").into(), &[]),
        ),
        at(
            [1, 2, 4],
            dialect("no header, semicolons", text(None, ';', "\n").into(), &[]),
        ),
        dialect(
            "all quoted",
            reordered("\"user\",\"conv\",\"type\"", |row| row.join(",")),
            &[],
        ),
        dialect(
            "API names in any order",
            reordered("ConvType,ConvId,FromUserId", |[user, conv, kind]| {
                [kind, conv, user].join(",")
            }),
            &[],
        ),
        dialect(
            "more columns",
            reordered("id,conv_id,x,user_id,,conv_type,y", |[user, conv, kind]| {
                format!("7,{conv},,{user},a,{kind}")
            }),
            &[],
        ),
        dialect("capitals and blanks", with([" USER ", "Conv\u{a0}", "\tTyPe"]), &[]),
        dialect("snake case", with(["from_user_id", "conv_id", "conv_type"]), &[]),
        dialect(
            "other names",
            with(["uid", "Room ID", "kind"]),
            &["--columns", "user=uid,conv=Room ID,type=kind"],
        ),
        dialect(
            "one other name, in another case",
            with(["UID", "conv", "type"]),
            &["--columns", "user=uid"],
        ),
        dialect(
            "which of two",
            reordered("user,FromUserId,conv,type", |[user, conv, kind]| {
                format!("other,{user},{conv},{kind}")
            }),
            &["--columns", "user=FromUserId"],
        ),
        dialect(
            "types as words",
            plain.replace(",0\n", ", Peer \n").replace(",2\n", ",GROUP\n").into(),
            &[],
        ),
        dialect("bytes of another encoding beside", foreign, &[]),
        dialect("gzip", gzip(plain.as_bytes()), &[]),
        dialect("gzip of two members", two_members, &[]),
        dialect("zstd", zst(plain.as_bytes()), &[]),
        dialect("zstd of two frames", two_frames, &[]),
        dialect(
            "gzip of UTF-16",
            gzip(&utf16(&text(HEADER, ';', "\r\n"), u16::to_le_bytes)),
            &[],
        ),
    ]
}

fn sent(server: &Server) -> BTreeSet<[Vec<u8>; 3]> {
    server.requests().iter().map(|request| request.row()).collect()
}

fn bytes_of<const N: usize>(rows: [[&str; 3]; N]) -> BTreeSet<[Vec<u8>; 3]> {
    rows.map(|row| row.map(|field| field.as_bytes().to_vec())).into()
}

fn with_flags(call: Call, flags: &[&str]) -> Call {
    flags.iter().fold(call, |call, flag| call.arg(flag))
}

#[test]
fn the_same_three_rows_are_the_same_three_requests_in_every_dialect() {
    for dialect in dialects() {
        let (name, flags) = (dialect.name, dialect.flags);
        let server = kind_server();
        for is_streamed in [false, true] {
            let desk = Desk::new();
            let call = match is_streamed {
                false => desk.clear(&server, &dialect.bytes),
                true => desk
                    .clear_with(&server.url(), "-")
                    .stdin(dialect.bytes.clone())
                    .flag("--report", "out.csv"),
            };
            let before = server.requests().len();
            with_flags(call, flags).flag("--rate", "500").run().assert_status(0);

            assert_eq!(server.requests().len() - before, 3, "{name}");
            assert_eq!(sent(&server), bytes_of(ROWS), "{name}");
            let mut records = desk.report();
            records.sort_by_key(|record| record.line);
            let lines: Vec<u64> = records.iter().map(|record| record.line).collect();
            assert_eq!(lines, dialect.lines, "{name}");
            let written: Vec<_> = records.iter().map(|r| [&*r.user, &*r.conv, &*r.kind]).collect();
            assert_eq!(written, ROWS, "{name}");
        }
        server.assert_well_formed();
    }
}

/// Gives its bytes one at a time.
struct Drops(std::io::Cursor<Vec<u8>>);

impl Read for Drops {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn every_dialect_can_be_packed_and_come_in_drops() {
    let packings: [fn(&[u8]) -> Vec<u8>; 3] = [<[u8]>::to_vec, gzip, zst];
    for dialect in dialects() {
        let flag = |name| dialect.flags.iter().skip_while(move |flag| **flag != name).nth(1);
        let format = Format {
            delimiter: flag("--delimiter").map(|text| if *text == "tab" { b'\t' } else { text.as_bytes()[0] }),
            encoding: flag("--encoding").and_then(|label| zim_batch::rows::encoding(label)),
            columns: flag("--columns").map(|map| map.parse().unwrap()).unwrap_or_default(),
        };
        // What is packed already is not packed again.
        let count = if dialect.name.contains("gzip") || dialect.name.contains("zstd") {
            1
        } else {
            3
        };
        for pack in &packings[..count] {
            let drops = Drops(std::io::Cursor::new(pack(&dialect.bytes)));
            let found: Vec<_> = Rows::from_reader(Box::new(drops), dialect.name, &format)
                .unwrap()
                .map(|entry| match entry.unwrap() {
                    Entry::Row(row) => (row.line, [row.user, row.conv, row.conv_type.as_str().to_owned()]),
                    Entry::Invalid(row) => panic!("{}: {row:?}", dialect.name),
                })
                .collect();
            let rows = ROWS.map(|row| row.map(str::to_owned));
            assert_eq!(
                found,
                dialect.lines.into_iter().zip(rows).collect::<Vec<_>>(),
                "{}",
                dialect.name
            );
        }
    }
}

#[test]
fn encodings_are_known_by_their_whatwg_labels() {
    // The bytes are written down from the encodings' tables, not made by the library under test.
    let cases: &[(&str, &[u8], &str)] = &[
        ("gbk", b"\xd3\xc3\xbb\xa7", "用户"),
        ("GB2312", b"\xd3\xc3\xbb\xa7", "用户"),
        ("gb18030", b"\x94\x39\xfc\x36", "😀"),
        ("big5", b"\xb4\xfa\xb8\xd5", "測試"),
        ("shift_jis", b"\x93\xfa\x96\x7b\x83\x5c", "日本ソ"), // the last byte is a backslash's
        ("sjis", b"\x83\x7c", "ポ"),                          // ... and a `|`'s
        ("euc-jp", b"\xc6\xfc\xcb\xdc", "日本"),
        ("iso-2022-jp", b"\x1b$B\x46\x7c\x4b\x5c\x1b(B", "日本"),
        ("euc-kr", b"\xc7\xd1\xb1\xb9", "한국"),
        ("windows-1251", b"\xcf\xf0\xe8", "При"),
        ("koi8-r", b"\xf0\xd2\xc9", "При"),
        ("windows-1252", b"M\xfcller\x80", "Müller€"),
        ("cp1252", b"M\xfcller\x80", "Müller€"),
        ("macintosh", b"M\x9fller", "Müller"),
        ("utf-8", "Müller€".as_bytes(), "Müller€"),
    ];
    for (label, bytes, user) in cases {
        let (desk, server) = (Desk::new(), kind_server());
        let csv = [b"user,conv,type\n\"", *bytes, b"\",", *bytes, b",2\nplain,row,0\n"].concat();
        desk.clear(&server, csv)
            .flag("--encoding", label)
            .run()
            .assert_status(0);
        assert_eq!(
            sent(&server),
            bytes_of([[user, user, "2"], ["plain", "row", "0"]]),
            "{label}"
        );
    }
}

#[test]
fn what_cannot_be_decoded_makes_its_row_invalid_and_no_other() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv = b"user,conv,type,note\n\xd3\xc3,c,0,\xff\xff\n\xd3\xff,c,0,\nu,\xff,0,\nlast,c,0,".to_vec();

    let outcome = desk.clear(&server, csv).flag("--encoding", "gbk").run();

    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("ok", 2), ("invalid", 2)]);
    assert_eq!(sent(&server), bytes_of([["用", "c", "0"], ["last", "c", "0"]]));
    let invalid: Vec<_> = desk
        .report()
        .into_iter()
        .filter(|record| record.outcome == "invalid")
        .collect();
    assert_eq!(invalid.iter().map(|record| record.line).collect::<Vec<_>>(), [3, 4]);
    for (record, column) in invalid.iter().zip(["user", "conv"]) {
        assert!(
            record.message.starts_with(column) && record.message.contains("--encoding"),
            "{record:?}"
        );
    }
}

#[test]
fn each_kind_of_invalid_row_is_reported_with_its_line_and_reason_and_the_good_rows_are_sent() {
    let (long, huge) = ("x".repeat(33), "y".repeat(1_100_000));
    let mut csv = b"type,user,conv\n0,good1,c\n".to_vec();
    let wrong: Vec<(Vec<u8>, &str)> = vec![
        ("0,,c".into(), "user is empty"),
        ("0,\"\",c".into(), "user is empty"),
        ("0,u,".into(), "conv is empty"),
        (",u,c".into(), "type is empty"),
        ("  ,u,c".into(), "type is empty"),
        ("0,u".into(), "conv is missing"),
        ("0".into(), "user is missing"),
        (format!("0,{long},c").into(), "user is 33 bytes long"),
        (format!("0,u,{}é", &long[2..]).into(), "conv is 33 bytes long"),
        (b"0,\xe4\xf6,c".to_vec(), "user is not"),
        (b"0,u,\xc3".to_vec(), "conv is not"),
        (b"0,u,\xed\xa0\x80".to_vec(), "conv is not"), // half of a surrogate pair
        ("1,u,c".into(), "type is '1'"),
        ("00,u,c".into(), "type is '00'"),
        ("-0,u,c".into(), "type is '-0'"),
        ("peers,u,c".into(), "type is 'peers'"),
        ("type,user,conv".into(), "type is 'type'"), // a second file behind the first
        (format!("0,{huge},c").into(), "longer than 1 MiB"),
    ];
    for (row, _) in &wrong {
        csv.extend([row, &b"\n"[..]].concat());
    }
    csv.extend(b"2,good2,\"c\"\n0,\"never closed,c\n0,u,c\n");
    let (desk, server) = (Desk::new(), kind_server());

    let outcome = desk.clear(&server, &csv).run();

    outcome.assert_status(3);
    assert_eq!(sent(&server), bytes_of([["good1", "c", "0"], ["good2", "c", "2"]]));
    let mut records = desk.report();
    records.sort_by_key(|record| record.line);
    let reasons = wrong
        .iter()
        .map(|(_, reason)| *reason)
        .chain(["success", "a quote opened here is never closed"]);
    for ((record, reason), line) in records[1..].iter().zip(reasons).zip(3..) {
        assert_eq!(record.line, line, "{reason}");
        assert!(
            record.message.starts_with(reason),
            "line {line}: {} is not {reason}",
            record.message
        );
        let outcome = if reason == "success" { "ok" } else { "invalid" };
        assert_eq!(record.outcome, outcome, "line {line}");
    }
    assert_eq!(records.len(), wrong.len() + 3);

    let check = desk.zim_batch(["check", "rows.csv", "--json"]).run();
    check.assert_status(3);
    let found: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(found["invalid"], wrong.len() + 1);
    let kinds = found["invalid_kinds"].as_array().unwrap();
    let lines: BTreeSet<u64> = kinds
        .iter()
        .flat_map(|kind| kind["first_lines"].as_array().unwrap())
        .map(|line| line.as_u64().unwrap())
        .collect();
    let expected: BTreeSet<u64> = (3..3 + wrong.len() as u64).chain([22]).collect();
    assert_eq!(lines, expected, "no kind has more than five of these");
}

/// `bad…` users fail, `outside…` users are outside.
fn sorting_server() -> Server {
    Server::start(|request, _| match request.user() {
        user if user.starts_with("bad") => Answer::Code(660_500_002, "not registered"),
        user if user.starts_with("outside") => Answer::Code(660_800_002, "conversation not found"),
        _ => Answer::Code(0, "success"),
    })
}

/// A desk whose `out.csv` and `out.outside.csv` tell of rows of every outcome.
fn desk_with_report() -> Desk {
    let (desk, server) = (Desk::new(), sorting_server());
    let csv =
        "user,conv,type\nbad1,\"a\n,b\",2\nok2, c,0\noutside3,\"\"\"\",0\n,c,0\nok2, c,0\nbad6,=1,0\noutside7,#c,2\n";
    desk.clear(&server, csv).arg("--dedupe").run().assert_status(3);
    let outcomes: BTreeSet<_> = desk.report().into_iter().map(|record| record.outcome).collect();
    assert_eq!(outcomes.len(), 5, "{outcomes:?}");
    desk
}

const FAILED: [[&str; 3]; 2] = [["bad1", "a\n,b", "2"], ["bad6", "=1", "0"]];
const OUTSIDE: [[&str; 3]; 2] = [["outside3", "\"", "0"], ["outside7", "#c", "2"]];

#[test]
fn only_takes_exactly_the_rows_with_these_outcomes_from_a_report_in_any_dialect() {
    let desk = desk_with_report();
    let report = desk.read("out.csv");
    desk.write("excel.csv", format!("\u{feff}{}", report.replace(",a", ",a")));
    desk.write("packed.csv.gz", gzip(report.as_bytes()));
    let columns = desk
        .report()
        .iter()
        .fold(String::from("Outcome;Type;Conv;User\r\n"), |text, r| {
            text + &format!(
                "{};{};\"{}\";{}\r\n",
                r.outcome,
                r.kind,
                r.conv.replace('"', "\"\""),
                r.user
            )
        });
    desk.write("reordered.csv", columns);
    for file in ["out.csv", "excel.csv", "packed.csv.gz", "reordered.csv", "-"] {
        for (only, expected) in [
            ("failed", bytes_of(FAILED)),
            ("outside,failed", &bytes_of(FAILED) | &bytes_of(OUTSIDE)),
            ("skipped", bytes_of([["ok2", " c", "0"]])),
        ] {
            let server = kind_server();
            let call = desk
                .clear_with(&server.url(), file)
                .flag("--only", only)
                .flag("--rate", "200");
            let call = if file == "-" { call.stdin(report.clone()) } else { call };
            let outcome = call
                .flag("--report", "retry.csv")
                .arg("--overwrite")
                .arg("--json")
                .run();

            outcome
                .assert_status(0)
                .summary()
                .assert_counts(&[("rows", expected.len() as u64)]);
            assert_eq!(server.requests().len(), expected.len(), "{file} {only}");
            assert_eq!(sent(&server), expected, "{file} {only}");
            assert_eq!(
                read_report(&desk.path("retry.csv")).len(),
                expected.len(),
                "{file} {only}"
            );
        }
    }
}

#[test]
fn the_outside_log_and_a_retrys_report_run_as_they_are() {
    let desk = desk_with_report();
    let server = sorting_server();
    let run = |rows: &str, report: &str| desk.clear_with(&server.url(), rows).flag("--report", report).run();

    run("out.outside.csv", "second.csv").assert_status(0);
    assert_eq!(sent(&server), bytes_of(OUTSIDE));
    run("second.outside.csv", "third.csv").assert_status(0);
    assert_eq!(read_report(&desk.path("third.outside.csv")).len(), 2);
    let lines: BTreeSet<u64> = read_report(&desk.path("third.csv"))
        .iter()
        .map(|record| record.line)
        .collect();
    assert_eq!(lines, [2, 3].into(), "its lines are those of the log");
}

#[test]
fn only_can_be_resumed_and_compares_the_rows_it_takes() {
    let desk = desk_with_report();
    let run = |server: &Server| {
        let call = desk
            .clear_with(&server.url(), "out.csv")
            .flag("--only", "failed,outside");
        call.flag("--report", "retry.csv").arg("--resume").arg("--json").run()
    };
    run(&kind_server()).assert_status(0);
    let retry = desk.read("retry.csv");
    let two_records = retry.match_indices("Z\n").nth(1).unwrap().0 + 2;
    desk.write("retry.csv", &retry[..two_records + 9]);

    let server = kind_server();
    run(&server)
        .assert_status(0)
        .summary()
        .assert_counts(&[("rows", 4), ("already_done", 2), ("ok", 2)]);
    assert_eq!(
        (server.requests().len(), read_report(&desk.path("retry.csv")).len()),
        (2, 4)
    );
}

#[test]
fn a_skipped_row_names_the_line_of_the_first() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv = "user,conv,type\n\na,\"b\n\",0\nA,\"b\n\",0\na,\"b\n\",peer\na,\"b\n\",2\na,\"b\n\", 0 \n";
    desk.clear(&server, csv).arg("--dedupe").run().assert_status(0);
    let skipped: Vec<_> = desk
        .report()
        .into_iter()
        .filter(|record| record.outcome == "skipped")
        .collect();
    assert_eq!(skipped.iter().map(|record| record.line).collect::<Vec<_>>(), [7, 11]);
    for record in skipped {
        assert!(record.message.ends_with("line 3") && record.attempts == 0, "{record:?}");
    }
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn standard_input_is_sent_while_it_comes_also_when_resuming() {
    for resumes in [false, true] {
        let (desk, server) = (Desk::new(), kind_server());
        if resumes {
            desk.clear(&server, rows(2)).run().assert_status(0);
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_zim-batch"))
            .args([
                "clear",
                "-",
                "--resume",
                "--report",
                "out.csv",
                "--endpoint",
                &server.url(),
            ])
            .current_dir(desk.path("."))
            .env("XDG_RUNTIME_DIR", desk.path("."))
            .env("ZIM_APP_ID", APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let all = rows(4);
        let lines: Vec<&str> = all.split_inclusive('\n').collect();
        for (row, line) in lines.iter().enumerate() {
            stdin.write_all(line.as_bytes()).unwrap();
            let arrived = || server.requests().len() >= row;
            let waited = (0..2000).any(|_| {
                std::thread::sleep(Duration::from_millis(5));
                arrived()
            });
            assert!(waited, "row {row} is not sent before the next one comes");
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
        assert_eq!((server.requests().len(), desk.report().len()), (4, 4));
    }
}

#[test]
fn standard_input_that_differs_from_the_report_is_refused_before_anything_is_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(3)).run().assert_status(0);
    let before = desk.read("out.csv");
    let changed = rows(5).replace("u3,", "other,");
    let call = desk.clear_with(&server.url(), "-").stdin(format!("{changed}u9,c9,0\n"));

    call.flag("--report", "out.csv")
        .arg("--resume")
        .run()
        .assert_status(4)
        .assert_says(&["standard input, line 4"]);
    assert_eq!((server.requests().len(), desk.read("out.csv")), (3, before));
}

/// Both `check` and `clear` refuse it with exit 4 and all of `says`, send nothing and leave no report.
#[track_caller]
fn assert_refused(input: impl AsRef<[u8]>, flags: &[&str], says: &[&str]) {
    let (desk, server) = (Desk::new(), kind_server());
    let clear = with_flags(desk.clear(&server, input), flags).run();
    let check = with_flags(desk.zim_batch(["check", "rows.csv"]), flags).run();
    for outcome in [clear, check] {
        assert_tells(&outcome, &[&["rows.csv"], says].concat());
        assert_eq!(outcome.stdout, "");
    }
    assert!(server.requests().is_empty() && !desk.has("out.csv") && !desk.has("out.outside.csv"));
}

#[track_caller]
fn assert_tells(outcome: &Outcome, says: &[&str]) {
    outcome.assert_status(4).assert_says(says);
    let text = outcome.stderr.trim_end();
    assert!(text.starts_with("zim-batch: ") && !text.contains("panicked"), "{text}");
    assert!(
        !text.chars().any(|c| c.is_control()),
        "one line, nothing for the terminal: {text:?}"
    );
}

#[test]
fn input_that_no_rows_can_be_made_of_is_refused_with_what_was_found_and_what_to_do() {
    let mapped: &[&str] = &["--columns", "user=uid,conv=room"];
    assert_refused("", &[], &["nothing in it", "user, conv and type"]);
    assert_refused("\n\r\n \n", &[], &["nothing in it"]);
    assert_refused("\u{feff}", &[], &["nothing in it"]);
    assert_refused(gzip(b""), &[], &["nothing in it"]);
    assert_refused(
        "who,conv,type\na,b,0\n",
        &[],
        &["line 1", "no column for user;", "'who', 'conv', 'type'", "--columns"],
    );
    assert_refused("a,b,1\n", &[], &["line 1", "user, conv, type", "'a', 'b', '1'"]);
    assert_refused("a|b|0\n", &[], &["'a|b|0'"]);
    assert_refused(
        "user,FromUserId,conv,type\n",
        &[],
        &["more than one column for user", "user, FromUserId", "--columns"],
    );
    assert_refused(
        "a,b,type\n",
        mapped,
        &["user (--columns says 'uid')", "conv (--columns says 'room')"],
    );
    assert_refused("a,b,0\n", mapped, &["'uid'", "'room'"]);
    assert_refused("\x1b[31mred,\"two\nlines\",\u{7}\n", &[], &["red", "two lines"]);
    assert_refused(rows(2), &["--only", "failed"], &["--only", "outcome"]);
    assert_refused("a,b,0\n", &["--only", "failed,outside"], &["--only", "outcome"]);
    assert_refused(utf16("nothing,of,use\n", u16::to_le_bytes), &[], &["'nothing'"]);
    let packed = gzip(rows(1000).as_bytes());
    assert_refused(&packed[..packed.len() / 2], &[], &["can't be read"]);
    assert_refused(&zst(rows(1000).as_bytes())[..400], &[], &["can't be read"]);
    let mut damaged = gzip(rows(1000).as_bytes());
    let end = damaged.len() - 6;
    damaged[end] ^= 0xff; // of the check sum
    assert_refused(&damaged, &[], &["can't be read"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_with_its_name_and_why() {
    let (desk, server) = (Desk::new(), kind_server());
    for (file, why) in [("nowhere.csv", "No such file"), (".", "directory")] {
        let clear = desk.clear_with(&server.url(), file).flag("--report", "out.csv").run();
        let check = desk.zim_batch(["check", file]).run();
        for outcome in [clear, check] {
            assert_tells(&outcome, &[file, why]);
        }
    }
    assert!(!desk.has("out.csv"));
}

#[test]
fn flags_about_the_input_that_make_no_sense_are_usage_errors_that_name_what_is_possible() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for (flag, value, says) in [
        ("--delimiter", "||", "one ASCII character"),
        ("--delimiter", "§", "one ASCII character"),
        ("--delimiter", "\"", "quote"),
        ("--delimiter", "\n", "line end"),
        ("--encoding", "klingon", "WHATWG"),
        ("--encoding", "replacement", "WHATWG"),
        ("--columns", "user", "user=A,conv=B,type=C"),
        ("--columns", "colour=red", "user, conv and type"),
        ("--columns", "user=", "no name"),
        ("--columns", "user=a,user=b", "twice"),
        ("--only", "fail", "ok, outside, failed, invalid, skipped"),
        ("--only", "", "ok, outside, failed, invalid, skipped"),
    ] {
        let outcome = desk.zim_batch(["check", "rows.csv", flag, value]).run();
        outcome.assert_status(2).assert_says(&[flag, says]);
    }
}

#[test]
fn a_resume_with_a_file_that_is_no_report_leaves_it_alone() {
    for content in [
        "user,conv,type\na,b,0\n",
        "line,user\n",
        "precious",
        &format!("{REPORT_HEADER},more\n"),
    ] {
        let (desk, server) = (Desk::new(), kind_server());
        desk.write("out.csv", content);
        desk.clear(&server, rows(1))
            .arg("--resume")
            .run()
            .assert_status(4)
            .assert_says(&["out.csv", "not a report"]);
        assert_eq!((desk.read("out.csv").as_str(), server.requests().len()), (content, 0));
    }
}
