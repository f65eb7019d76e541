//! From rows to requests: what is read, what is sent byte for byte, and what is never sent.

mod changing;
mod kinds;
mod streams;

use std::collections::BTreeSet;

use crate::support::{Desk, kind_server, rows};

/// Every character that ZEGO's pages allow in an ID, besides letters and digits.
const LEGAL: &str = "!#$%&()+-:;<=.>?@[]^_{}|~ ";

#[test]
fn ids_with_every_legal_character_arrive_byte_for_byte() {
    let mut ids: Vec<String> = LEGAL
        .chars()
        .flat_map(|c| [format!("{c}"), format!("a{c}b"), format!("{c}{c}z{c}")])
        .collect();
    ids.extend([
        LEGAL.to_owned(),
        "a+b c%20d%2Bd&e=f?g#h".into(),
        "%".into(),
        "%zz%00".into(),
        "&Action=SendPeer".into(),
    ]);
    ids.extend(
        [
            "=1+1",
            "@x",
            "+x",
            "-x",
            "#group",
            " leading",
            "trailing ",
            "\"q\"",
            "a,b",
            "a;b",
            "'",
        ]
        .map(String::from),
    );
    ids.extend(
        [
            "用户一二三四五六七八",
            "é\u{301}ñ",
            "\u{1f600}",
            "..",
            "/",
            "\\",
            "*",
            "`",
            "tab\there",
        ]
        .map(String::from),
    );
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(["user", "conv", "type"]).unwrap();
    let mut expected = Vec::new();
    for (index, id) in ids.iter().enumerate() {
        let (conv, kind) = (&ids[(index * 7 + 3) % ids.len()], ["0", "2"][index % 2]);
        csv.write_record([id, conv, kind]).unwrap();
        expected.push([id, conv, kind].map(|field| field.as_bytes().to_vec()));
    }
    let (desk, server) = (Desk::new(), kind_server());

    desk.clear(&server, csv.into_inner().unwrap())
        .flag("--rate", "400")
        .run()
        .assert_status(0);

    server.assert_well_formed();
    let sent: BTreeSet<_> = server.requests().iter().map(|request| request.row()).collect();
    assert_eq!(server.requests().len(), expected.len());
    assert_eq!(sent, expected.iter().cloned().collect());
    let mut records = desk.report();
    records.sort_by_key(|record| record.line);
    let written: Vec<_> = records
        .iter()
        .map(|r| [&r.user, &r.conv, &r.kind].map(|f| f.as_bytes().to_vec()))
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn invalid_rows_are_reported_with_their_reason_and_never_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    let long = "x".repeat(33);
    let just = "é".repeat(16);
    let mut csv =
        format!("user,conv,type\n,c2,0\nu3,,0\nu4,c4,\nu5,c5,1\nu6,c6,peers\n{long},c7,0\nu8,{long},0\nu9,c9\nu10\n");
    csv += &format!("{just},c11,0\n{just}x,c12,0\nu13,c13,00\n");
    let mut csv = csv.into_bytes();
    csv.extend(b"u14\xff,c14,0\nu15,c15,2\n");

    let outcome = desk.clear(&server, csv).run();

    outcome.assert_status(3);
    let mut records = desk.report();
    records.sort_by_key(|record| record.line);
    assert_eq!(
        records.iter().map(|record| record.line).collect::<Vec<_>>(),
        (2..=15).collect::<Vec<_>>()
    );
    for record in &records {
        let is_valid = [11, 15].contains(&record.line);
        assert_eq!(record.outcome, if is_valid { "ok" } else { "invalid" }, "{record:?}");
        assert_eq!(record.attempts, usize::from(is_valid), "{record:?}");
        assert!(
            is_valid || (record.code.is_empty() && record.http.is_empty() && !record.message.is_empty()),
            "{record:?}"
        );
        record.assert_is_finished();
    }
    let message = |line: usize| records[line - 2].message.to_lowercase();
    assert_eq!(message(2), "user is empty");
    for (line, part) in [
        (3, "conv"),
        (4, "type"),
        (5, "type"),
        (6, "type"),
        (7, "32"),
        (8, "32"),
        (9, "type"),
        (14, "utf-8"),
    ] {
        assert!(
            message(line).contains(part),
            "line {line}: `{}` lacks `{part}`",
            message(line)
        );
    }
    assert_eq!(
        (records[3].user.as_str(), records[3].kind.as_str()),
        ("u5", "1"),
        "what was read is shown"
    );
    let sent: BTreeSet<_> = server.requests().iter().map(|request| request.user()).collect();
    assert_eq!(sent, [just, "u15".into()].into());
    outcome
        .summary()
        .assert_counts(&[("rows", 14), ("invalid", 12), ("ok", 2), ("requests", 2)]);
}

#[test]
fn a_row_is_identified_by_the_line_on_which_it_begins() {
    let (desk, server) = (Desk::new(), kind_server());
    let csv = "user,conv,type\n\nu3,c,0\n\n\n\"u\n6\",\"c\n\n\",0\nu10,c,0\n\"u11\n12\",c,\nu13,c,2\n\n";

    desk.clear(&server, csv).run().assert_status(3);

    let lines: BTreeSet<_> = desk
        .report()
        .into_iter()
        .map(|record| (record.line, record.user))
        .collect();
    let expected = [(3, "u3"), (6, "u\n6"), (10, "u10"), (11, "u11\n12"), (13, "u13")];
    assert_eq!(lines, expected.map(|(line, user)| (line, user.to_owned())).into());
}

#[test]
fn rows_are_read_in_every_documented_format() {
    let utf16 = |text: &str, is_little: bool| -> Vec<u8> {
        let units = text.encode_utf16().chain([]).collect::<Vec<_>>();
        let bytes = |unit: u16| {
            if is_little {
                unit.to_le_bytes()
            } else {
                unit.to_be_bytes()
            }
        };
        [0xfeff].iter().chain(&units).flat_map(|unit| bytes(*unit)).collect()
    };
    let plain = "user,conv,type\nü1,c1,0\nu2,c2,2\n";
    let forms: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("a BOM", format!("\u{feff}{plain}").into(), &[]),
        ("UTF-16 LE", utf16(plain, true), &[]),
        ("UTF-16 BE", utf16(plain, false), &[]),
        ("CRLF", plain.replace('\n', "\r\n").into(), &[]),
        ("CR", plain.replace('\n', "\r").into(), &[]),
        ("no newline at the end", plain.trim_end().into(), &[]),
        ("tabs", plain.replace(',', "\t").into(), &[]),
        ("semicolons", plain.replace(',', ";").into(), &[]),
        (
            "a delimiter of one's own",
            plain.replace(',', "|").into(),
            &["--delimiter", "|"],
        ),
        ("no header", "ü1,c1,0\nu2,c2,group\n".into(), &[]),
        (
            "other names",
            "ConvType,x,FromUserId,CONV_ID\npeer,?,ü1,c1\nGROUP,?,u2,c2\n".into(),
            &[],
        ),
        (
            "mapped names",
            "a,b,c\nc1,0,ü1\nc2,2,u2\n".into(),
            &["--columns", "user=c,conv=a,type=b"],
        ),
        (
            "GB18030",
            b"user,conv,type\n\xa8\xb91,c1,0\nu2,c2,2\n".to_vec(),
            &["--encoding", "gb18030"],
        ),
        (
            "windows-1252",
            b"user,conv,type\n\xfc1,c1,0\nu2,c2,2\n".to_vec(),
            &["--encoding", "windows-1252"],
        ),
    ];
    for (form, bytes, flags) in forms {
        let (desk, server) = (Desk::new(), kind_server());

        let outcome = flags
            .iter()
            .fold(desk.clear(&server, bytes), |call, flag| call.arg(flag))
            .run();

        assert_eq!(outcome.status, 0, "{form}: {}", outcome.stderr);
        let sent: BTreeSet<_> = server.requests().iter().map(|request| request.row()).collect();
        let rows = [["ü1", "c1", "0"], ["u2", "c2", "2"]];
        assert_eq!(
            sent,
            rows.map(|row| row.map(|field| field.as_bytes().to_vec())).into(),
            "{form}"
        );
    }
}

#[test]
fn rows_can_come_from_standard_input_if_the_report_has_a_name() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || desk.clear_with(&server.url(), "-").stdin(rows(3));

    call().run().assert_status(2).assert_says(&["--report"]);
    assert_eq!(server.requests().len(), 0);
    call().flag("--report", "out.csv").run().assert_status(0);
    assert_eq!(desk.report().len(), 3);
}
