//! Messages for invalid rows and unusable input: what was found, where, and what to do about it.

use super::*;

#[test]
fn each_kind_of_invalid_row_is_reported_with_its_line_and_reason_and_the_good_rows_are_sent() {
    let (long, huge) = ("x".repeat(33), "y".repeat(1_100_000));
    let just = "é".repeat(16); // 32 bytes
    let mut csv = format!("type,user,conv\n0,{just},c\n").into_bytes();
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
        ("type,user,conv".into(), "the header again"), // concatenated files
        (format!("0,{huge},c").into(), "longer than 1 MiB"),
    ];
    for (row, _) in &wrong {
        csv.extend([row, &b"\n"[..]].concat());
    }
    csv.extend(b"2,good2,\"c\"\n0,\"never closed,c\n0,u,c\n");
    let (desk, server) = (Desk::new(), kind_server());

    let outcome = desk.clear(&server, &csv).run();

    outcome.assert_status(3);
    assert_eq!(
        sent(&server),
        bytes_of([[just.as_str(), "c", "0"], ["good2", "c", "2"]])
    );
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
        let attempts = usize::from(reason == "success");
        assert_eq!(
            (record.outcome.as_str(), record.attempts),
            (outcome, attempts),
            "line {line}"
        );
        record.assert_is_finished();
        if reason == "type is '1'" {
            let shown = (record.user.as_str(), record.kind.as_str());
            assert_eq!(shown, ("u", "1"), "what was read is shown");
        }
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

/// Asserts that `check` and `clear` refuse it with exit 4 and all of `expected`, send nothing and leave no report.
#[track_caller]
fn assert_refused(input: impl AsRef<[u8]>, flags: &[&str], expected: &[&str]) {
    let (desk, server) = (Desk::new(), kind_server());
    let clear = with_flags(desk.clear(&server, input), flags).run();
    let check = with_flags(desk.zim_batch(["check", "rows.csv"]), flags).run();
    assert_eq!(check.stdout, "");
    // The other one was run with --json.
    let object: serde_json::Value = serde_json::from_str(&clear.stdout).unwrap();
    assert_eq!(object["exit"], 4);
    for outcome in [clear, check] {
        assert_tells(&outcome, &[&["rows.csv"], expected].concat());
    }
    assert!(server.requests().is_empty() && !desk.has("out.csv") && !desk.has("out.outside.csv"));
}

#[track_caller]
fn assert_tells(outcome: &Outcome, expected: &[&str]) {
    outcome.assert_status(4).assert_says(expected);
    let text = outcome.stderr.trim_end();
    assert!(text.starts_with("zim-batch: ") && !text.contains("panicked"), "{text}");
    assert!(
        !text.chars().any(|c| c.is_control()),
        "one line, nothing for the terminal: {text:?}"
    );
}

#[test]
fn unusable_input_is_refused_with_what_was_found_and_what_to_do() {
    let mapped: &[&str] = &["--columns", "user=uid,conv=room"];
    assert_refused("", &[], &["is empty", "user, conv and type"]);
    assert_refused("\n\r\n \n", &[], &["is empty"]);
    assert_refused("\u{feff}", &[], &["is empty"]);
    assert_refused(gzip(b""), &[], &["is empty"]);
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
    assert_refused("a,b,type\n", mapped, &["user ('uid')", "conv ('room')", "--columns"]);
    assert_refused("a,b,0\n", mapped, &["'uid'", "'room'"]);
    assert_refused("\x1b[31mred,\"two\nlines\",\u{7}\n", &[], &["red", "two\\nlines"]);
    assert_refused(rows(2), &["--only", "failed"], &["--only", "outcome"]);
    assert_refused("a,b,0\n", &["--only", "failed,outside"], &["--only", "outcome"]);
    assert_refused(utf16("nothing,of,use\n", u16::to_le_bytes), &[], &["'nothing'"]);
    let packed = gzip(rows(1000).as_bytes());
    assert_refused(&packed[..packed.len() / 2], &[], &["can't be read"]);
    assert_refused(&zst(rows(1000).as_bytes())[..400], &[], &["can't be read"]);
    let mut damaged = gzip(rows(1000).as_bytes());
    let end = damaged.len() - 6;
    damaged[end] ^= 0xff; // in the checksum
    assert_refused(&damaged, &[], &["can't be read"]);
}

#[test]
fn rows_in_gbk_below_an_ascii_header_are_not_sent_and_the_encoding_is_named() {
    let gbk = |text: &str| encoding_rs::GBK.encode(text).0.into_owned();
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = desk
        .clear(&server, gbk("user,conv,type\nalice,bob,0\n用户,会话,0\n"))
        .run();
    outcome.assert_status(3).assert_says(&[
        "rows.csv, line 3",
        "not UTF-8 but most likely GBK (Chinese Windows); add --encoding gbk",
    ]);
    assert_eq!(outcome.stderr.matches("GBK").count(), 1, "{}", outcome.stderr);
    assert_eq!(sent(&server), bytes_of([["alice", "bob", "0"]]));
    let check = desk.zim_batch(["check", "rows.csv"]).run();
    let hint = "The text is not UTF-8 but most likely GBK (Chinese Windows); add --encoding gbk\n";
    assert!(check.assert_status(3).stdout.contains(hint), "{}", check.stdout);

    // With the encoding the row is sent.
    let call = desk
        .clear(&server, std::fs::read(desk.path("rows.csv")).unwrap())
        .arg("--resume");
    with_flags(call, &["--encoding", "gbk"]).run().assert_status(0);
    assert_eq!(sent(&server), bytes_of([["alice", "bob", "0"], ["用户", "会话", "0"]]));

    // A column that is not needed may be in any encoding, and a single byte is of no pair.
    for (csv, says) in [
        (gbk("user,conv,type,note\nalice,bob,0,备注\n"), ""),
        (
            b"user,conv,type\nalice,b\xe9b,0\n".to_vec(),
            "The text is not UTF-8; specify its encoding",
        ),
    ] {
        desk.write("rows.csv", csv);
        let said = desk.zim_batch(["check", "rows.csv"]).run().stdout;
        assert_eq!(
            (said.contains(says), said.contains("not UTF-8")),
            (true, !says.is_empty()),
            "{said}"
        );
    }
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
fn invalid_flags_about_the_input_are_usage_errors_that_name_the_valid_values() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for (flag, value, expected) in [
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
        outcome.assert_status(2).assert_says(&[flag, expected]);
    }
}

#[test]
fn a_resume_with_a_file_that_is_not_a_report_leaves_it_unchanged() {
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
