//! The same rows in every supported format; reports used as rows; and messages for unusable input.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod again;
mod messages;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{APP_ID, Call, Desk, Outcome, REPORT_HEADER, SECRET, Server, kind_server, read_report, rows};
use zim_batch::client::Item;
use zim_batch::rows::{Format, ParsedRow, Rows};

/// Three rows with everything that must be kept: leading zeros, blanks at the ends, `#`, `=`, quotes, delimiters, a
/// line end, letters that are not ASCII.
const ROWS: [[&str; 3]; 3] = [
    ["0012", " #te,a;m\t|", "0"],
    ["=1+1", "say \"line\n", "2"],
    ["#ü", "-é ", "0"],
];

/// The rows as CSV, quoted where necessary, with or without a header.
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
fn the_same_three_rows_are_the_same_three_requests_in_some_dialects() {
    // The next test reads all of them. These have every flag, and something of each kind.
    let some = [
        "a BOM and no header",
        "UTF-16 LE without a BOM",
        "semicolons, CRLF, BOM: Excel in Europe",
        "a delimiter of one's own",
        "tab by name",
        "CR",
        "other names",
        "types as words",
        "bytes of another encoding beside",
        "zstd of two frames",
        "gzip of UTF-16",
    ];
    for dialect in dialects().into_iter().filter(|dialect| some.contains(&dialect.name)) {
        let (name, flags) = (dialect.name, dialect.flags);
        let server = kind_server();
        for is_streamed in [false, true] {
            let desk = Desk::new();
            let call = if is_streamed {
                desk.clear_with(&server.url(), "-")
                    .stdin(dialect.bytes.clone())
                    .flag("--report", "out.csv")
            } else {
                desk.clear(&server, &dialect.bytes)
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

/// Returns one byte per read.
struct Drops(std::io::Cursor<Vec<u8>>);

impl Read for Drops {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn every_dialect_can_be_compressed_and_read_byte_by_byte() {
    type Packing = fn(&[u8]) -> Vec<u8>;
    let packings: [Packing; 3] = [<[u8]>::to_vec, gzip, zst];
    for dialect in dialects() {
        let flag = |name| dialect.flags.iter().skip_while(move |flag| **flag != name).nth(1);
        let format = Format {
            delimiter: flag("--delimiter").map(|text| if *text == "tab" { b'\t' } else { text.as_bytes()[0] }),
            encoding: flag("--encoding").and_then(|label| zim_batch::rows::encoding(label)),
            columns: flag("--columns").map(|map| map.parse().unwrap()).unwrap_or_default(),
            types: flag("--types").map(|map| map.parse().unwrap()).unwrap_or_default(),
            ..Format::default()
        };
        // Compressed inputs are not compressed again.
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
                    ParsedRow::Row(row) => (row.line, row.item.key().map(str::to_owned)),
                    ParsedRow::Invalid(row) => panic!("{}: {row:?}", dialect.name),
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
    // The bytes are from the encodings' tables, not from the library under test.
    let cases: &[(&str, &[u8], &str)] = &[
        ("gbk", b"\xd3\xc3\xbb\xa7", "用户"),
        ("GB2312", b"\xd3\xc3\xbb\xa7", "用户"),
        ("gb18030", b"\x94\x39\xfc\x36", "😀"),
        ("big5", b"\xb4\xfa\xb8\xd5", "測試"),
        ("shift_jis", b"\x93\xfa\x96\x7b\x83\x5c", "日本ソ"), // the last byte is that of a backslash
        ("sjis", b"\x83\x7c", "ポ"),                          // ... and of a `|`
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
        let csv = [b"user,conv,type\n\"", *bytes, b"\",", *bytes, b",2\nplain,row,0\n"].concat();
        let format = Format {
            encoding: zim_batch::rows::encoding(label),
            ..Format::default()
        };
        assert!(format.encoding.is_some(), "{label}");
        let found: Vec<_> = Rows::from_reader(Box::new(std::io::Cursor::new(csv)), label, &format)
            .unwrap()
            .map(|parsed| match parsed.unwrap() {
                ParsedRow::Row(row) => row.item.key().map(str::to_owned),
                ParsedRow::Invalid(row) => panic!("{label}: {row:?}"),
            })
            .collect();
        assert_eq!(found, [[user, user, "2"], ["plain", "row", "0"]], "{label}");
    }
}

#[test]
fn bytes_that_cannot_be_decoded_make_only_their_row_invalid() {
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
            record.message.starts_with(column) && record.message.contains("input's encoding"),
            "{record:?}"
        );
    }
}

#[test]
fn standard_input_is_sent_as_it_arrives_also_when_resuming() {
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
