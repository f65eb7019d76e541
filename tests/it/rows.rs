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
fn rows_can_come_from_standard_input_if_the_report_has_a_name() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || desk.clear_with(&server.url(), "-").stdin(rows(3));

    call().run().assert_status(2).assert_says(&["--report"]);
    assert_eq!(server.requests().len(), 0);
    call().flag("--report", "out.csv").run().assert_status(0);
    assert_eq!(desk.report().len(), 3);
}
