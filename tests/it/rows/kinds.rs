//! Rows as exports and spreadsheets write them: lines that are not rows, names of columns, types.

use std::collections::BTreeSet;
use std::io::Write;

use crate::support::{Desk, Outcome, kind_server};

fn check(desk: &Desk, flags: &[&str]) -> Outcome {
    desk.zim_batch(["check", "rows.csv"].iter().chain(flags)).run()
}

#[test]
fn lines_of_delimiters_and_blanks_are_not_rows() {
    for text in [
        "user,conv,type\n,,\na,b,0\n , ,\t\n,,,,\n",
        ";;\nuser;conv;type\n;;\na;b;0\n ;;\n",
    ] {
        let (desk, server) = (Desk::new(), kind_server());
        let outcome = desk.clear(&server, text).run();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("rows", 1), ("ok", 1)]);
    }
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = desk.clear(&server, "user,conv,type\n\"\",,\n").run();
    outcome.assert_status(3).summary().assert_counts(&[("invalid", 1)]);
}

#[test]
fn zeros_after_gzip_and_a_last_ctrl_z_are_ignored() {
    let text = "user,conv,type\na,b,0\n";
    let gzip = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    };
    for bytes in [
        [gzip(text), vec![0; 100_000]].concat(),
        [gzip("user,conv,type\n"), vec![0; 512], gzip("a,b,0\n"), vec![0; 3]].concat(),
        format!("{text}\x1a").into(),
        format!("{text}\x1a\x1a\x1a\r\n\r\n").into(),
        gzip(&format!("{text}\x1a")),
    ] {
        let (desk, server) = (Desk::new(), kind_server());
        let outcome = desk.clear(&server, &bytes).run();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("rows", 1), ("ok", 1)]);
        let call = desk.clear_with(&server.url(), "-").flag("--report", "two.csv");
        let outcome = call.stdin(bytes).run();
        outcome.assert_status(0);
        assert!(!outcome.stderr.contains("cut off"), "{}", outcome.stderr);
    }
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = desk.clear(&server, format!("{text}\x1a\nc,d,0\n")).run();
    outcome
        .assert_status(3)
        .summary()
        .assert_counts(&[("ok", 2), ("invalid", 1)]);
    desk.clear(&server, [gzip(text), b"garbage".to_vec()].concat())
        .arg("--overwrite")
        .run()
        .assert_status(4);
}

#[test]
fn a_repeated_header_is_distinguished_from_a_row_with_a_wrong_type() {
    let again = "user,conv,type\na,b,0\nUser, conv ,TYPE\n\u{feff}user,conv,type\nuser,conv,x\nb,c,0\n";
    let mapped = "uid,room,kind\na,b,0\nuid,room,kind\n";
    for (text, flags, lines) in [
        (again, &[][..], &[3, 4][..]),
        ("a,b,0\nuser_id,ConvId,会话类型\n", &[], &[2]),
        (mapped, &["--columns", "user=uid,conv=room,type=kind"], &[3]),
        (mapped, &["--columns", "user=1,conv=2,type=3"], &[3]),
    ] {
        let (desk, server) = (Desk::new(), kind_server());
        let call = flags
            .iter()
            .fold(desk.clear(&server, text), |call, flag| call.arg(flag));
        call.run().assert_status(3);
        let found: Vec<u64> = desk
            .report()
            .iter()
            .filter(|record| record.message == "the header again")
            .map(|record| record.line)
            .collect();
        assert_eq!(found, lines, "{text}");
    }
}

#[test]
fn an_unclosed_quote_is_reported_with_the_lines_that_it_spans() {
    let (desk, server) = (Desk::new(), kind_server());
    let rows: String = (3..12).map(|line| format!("a{line},b{line},peer\n")).collect();
    let csv = format!("user,conv,type\na2,\"b2,peer\n{rows}a12,b12\",peer\nz,z\n\"z\n\",z\n");
    desk.clear(&server, &csv).run().assert_status(3);
    let mut records = desk.report();
    records.sort_by_key(|record| record.line);
    let message = |line: u64| {
        &records
            .iter()
            .find(|record| record.line == line)
            .expect("a record")
            .message
    };
    assert!(
        message(2).contains("at most 32 are allowed, and the row spans lines 2 to 12; perhaps a quote is not closed")
    );
    assert_eq!(message(13), "type is missing");
    assert!(
        message(14).contains("type is missing, and the row spans lines 14 to 15"),
        "{}",
        message(14)
    );
    let said = check(&desk, &[]).stdout;
    assert!(
        said.contains("perhaps a quote is not closed; line 2 (it spans lines 2 to 12)"),
        "{said}"
    );

    // Valid rows are sent, with one warning for all of them.
    let outcome = desk
        .clear(&server, "user,conv,type\na,b,0\n\"b\nc\",d,0\nc,\"e\rf\",0\n")
        .arg("--overwrite")
        .run();
    outcome
        .assert_status(0)
        .assert_says(&["line 3", "spans lines 3 to 4", "a quote is not closed"]);
    assert_eq!(outcome.stderr.matches("quote").count(), 1, "{}", outcome.stderr);
}

#[test]
fn columns_are_found_by_the_names_in_exports_and_by_number() {
    let gbk = |text: &str| encoding_rs::GBK.encode(text).0.into_owned();
    let data = |a: &str, b: &str| format!("甲,x,{a},c1\n乙,x,{b},c2\n");
    let chinese = "用户ID,备注,会话类型,会话ID\n".to_owned() + &data("单聊", " 群聊 ");
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (chinese.clone().into(), &[]),
        (chinese.to_lowercase().into(), &[]),
        (gbk(&chinese), &["--encoding", "cp936"]),
        (gbk(&chinese), &["--encoding", "936"]),
        (
            format!("USERID,x,Conversation_Type,conversationid\n{}", data("0", "2")).into(),
            &[],
        ),
        (
            format!("Account ID,note,kind,room\n{}", data("0", "2")).into(),
            &["--columns", "user=1,conv=4,type=3"],
        ),
        (data("0", "2").into(), &["--columns", "user=1,conv=4,type=3"]),
        (data("0", "2").into(), &["--columns", "conv=4"]),
        (
            format!("a,b,type,d\n{}", data("0", "2")).into(),
            &["--columns", "user=1,conv=4"],
        ),
        (
            format!("a,b,type,room\n{}", data("0", "2")).into(),
            &["--columns", "user=1,conv=room"],
        ),
        (
            format!("user,x,type,conv\n{}", data("单人", " room ")).into(),
            &["--types", " 单人 =0,Room=group"],
        ),
        (
            data("1", "2").into(),
            &["--columns", "user=1,conv=4,type=3", "--types", "1=0,2=2"],
        ),
    ];
    for (text, flags) in cases {
        let (desk, server) = (Desk::new(), kind_server());
        let call = flags
            .iter()
            .fold(desk.clear(&server, &text), |call, flag| call.arg(flag));
        let outcome = call.run();
        assert_eq!(
            outcome.status,
            0,
            "{}: {flags:?} {outcome:?}",
            String::from_utf8_lossy(&text)
        );
        let sent: BTreeSet<_> = server.requests().iter().map(|request| request.row()).collect();
        let row = |fields: [&str; 3]| fields.map(|field| field.as_bytes().to_vec());
        assert_eq!(
            sent,
            [row(["甲", "c1", "0"]), row(["乙", "c2", "2"])].into(),
            "{flags:?}"
        );

        // The command that check prints has the same flag.
        let said = check(&desk, flags).assert_status(0).stdout.clone();
        let command = said
            .lines()
            .find(|line| line.starts_with("to run it"))
            .expect("a command")
            .to_owned();
        for flag in flags.iter().filter(|flag| flag.starts_with("--")) {
            assert!(command.contains(flag), "{command} lacks {flag}");
        }
    }
}

#[test]
fn a_first_row_of_an_unknown_type_is_no_header() {
    let (desk, server) = (Desk::new(), kind_server());
    let numbered = ["--columns", "user=2,conv=3,type=4"];
    let csv = "x,alice,bob,pear\ny,carl,dan,peer\n";

    let outcome = desk
        .clear(&server, csv)
        .arg(numbered[0])
        .arg(numbered[1])
        .arg("-v")
        .run();
    outcome
        .assert_status(3)
        .assert_says(&["rows.csv: no header; user is column 2, conv column 3, type column 4"]);
    outcome.summary().assert_counts(&[("ok", 1), ("invalid", 1)]);
    let invalid = desk.report().into_iter().find(|record| record.outcome == "invalid");
    let invalid = invalid.expect("a record");
    assert_eq!(
        (invalid.line, invalid.message.contains("type is 'pear'")),
        (1, true),
        "{invalid:?}"
    );

    let said = check(&desk, &numbered).assert_status(3).stdout.clone();
    assert!(
        said.contains("no header") && said.contains("type is not 0, peer, 2 or group; line 1"),
        "{said}"
    );
    desk.write("rows.csv", format!("\nno,UID,to,kind\n{csv}"));
    let said = check(&desk, &numbered).assert_status(3).stdout.clone();
    assert!(
        said.contains("line 2 is the header; user is column 2, conv column 3, type column 4"),
        "{said}"
    );
    let json = check(&desk, &["--columns", "user=2,conv=3,type=4", "--json"]).stdout;
    let found: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        found["columns"],
        serde_json::json!({"header": 2, "user": 2, "conv": 3, "type": 4})
    );
}

#[test]
fn impossible_columns_are_refused() {
    let desk = Desk::new();
    desk.write("rows.csv", "user,conv,type\na,b,0\n");
    for (flag, value, says) in [
        ("--columns", "user=0", "numbered from 1"),
        ("--columns", "user=1,conv=1", "two columns at once"),
        ("--types", "x", "WORD=TYPE"),
        ("--types", "x=1", "not a type"),
        ("--types", "peer=2", "already"),
        ("--types", "x=0,x=2", "already"),
        ("--types", "=0", "no word"),
    ] {
        check(&desk, &[flag, value]).assert_status(2).assert_says(&[flag, says]);
    }
    for (value, says) in [
        ("type=9", "column 9, and there are 3"),
        ("user=2", "column 2 would be two of user, conv and type"),
    ] {
        check(&desk, &["--columns", value])
            .assert_status(4)
            .assert_says(&[says]);
    }
}

#[test]
fn a_file_that_is_not_csv_is_named_with_what_to_do() {
    let gbk = |text: &str| encoding_rs::GBK.encode(text).0.into_owned();
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0xl/workbook".to_vec(),
            &["Excel", "save it as CSV"],
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0".to_vec(),
            &["Excel", "save it as CSV"],
        ),
        (b"\xfd7zXZ\0\0\x04\xe6\xd6".to_vec(), &["xz", "unpack"]),
        (b"BZh91AY&SY\x01\x02".to_vec(), &["bzip2", "unpack"]),
        (b"PAR1\x15\x04\x15\x10".to_vec(), &["Parquet", "CSV"]),
        (b" \n[{\"user\": \"a\"}]\n".to_vec(), &["JSON", "CSV"]),
        (b"{\"user\": \"a\"}\n{\"user\": \"b\"}\n".to_vec(), &["JSON", "CSV"]),
        (b"<!DOCTYPE html>\n".to_vec(), &["HTML"]),
        (
            gbk("用户ID,会话ID,会话类型\nu,c,单聊\n"),
            &["GBK", "--encoding gbk", "'用户ID', '会话ID'"],
        ),
        (gbk("编号,房间,种类\nu,c,单聊\n"), &["GBK", "--encoding gbk", "'编号'"]),
        (b"M\xfcller,b,z\n".to_vec(), &["not UTF-8", "--encoding"]),
    ];
    let desk = Desk::new();
    for (bytes, says) in cases {
        desk.write("rows.csv", &bytes);
        check(&desk, &[]).assert_status(4).assert_says(says);
        assert!(!check(&desk, &[]).stderr.contains("UTF-16"), "{bytes:?}");
    }
    desk.write("rows.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0");
    check(&desk, &["--encoding", "gbk"])
        .assert_status(4)
        .assert_says(&["Excel"]);
}

#[test]
fn check_warns_about_values_that_are_probably_not_ids() {
    let desk = Desk::new();
    let ids = [
        ("1.23457E+11", "(1.23457E+11)"),
        ("NULL", "is NULL"),
        ("nan", "is nan"),
        ("#N/A", "is #N/A"),
        ("none", "is None"),
        ("undefined", "is undefined"),
        ("a\u{200b}b", "U+200B, zero-width space"),
        ("a\u{a0}b", "U+00A0, no-break space"),
        ("a\u{ad}b", "U+00AD, soft hyphen"),
        ("\u{201c}a\u{201d}", "U+201C, left double quotation mark"),
        ("a\u{2019}s", "U+2019, right single quotation mark"),
        ("\u{feff}a", "U+FEFF, byte order mark"),
        ("a\u{202e}b", "U+202E, text direction mark"),
        ("a\u{1}b", "U+0001, control character"),
    ];
    for (index, (id, says)) in ids.into_iter().enumerate() {
        desk.write("rows.csv", format!("user,conv,type\n{id},c{index},0\nu,{id},0\n"));
        let outcome = check(&desk, &[]);
        let said = &outcome.assert_status(0).stdout;
        for (column, line) in [("user", 2), ("conv", 3)] {
            let is_said = said
                .lines()
                .any(|text| text.contains(column) && text.contains(says) && text.contains(&format!("line {line}")));
            assert!(is_said, "{id:?}: {says} is not in {said}");
        }
        // The slash is not in ZEGO's list.
        assert_eq!(said.contains("don't list"), id.contains('/'), "it has a name: {said}");
    }
}

#[test]
fn when_nothing_can_be_sent_there_is_no_command_to_run() {
    let desk = Desk::new();
    desk.write("rows.csv", "user,conv,type\na,b,single\nc,d,单人\n");
    let said = check(&desk, &[]).assert_status(3).stdout.clone();
    assert!(!said.contains("to run it") && said.contains("nothing to run"), "{said}");
    assert!(said.contains("'single'") && said.contains("--types"), "{said}");
    desk.write("rows.csv", "user,conv,type\n");
    let said = check(&desk, &[]).assert_status(0).stdout.clone();
    assert!(!said.contains("to run it") && said.contains("nothing to run"), "{said}");
}
