//! What pages say of reports with a log of runs.

use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::text::utc;

const RECORDS: &str = "line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n";
const LISTED: &str = "line,user,outcome,conversations,code,http,message,request_id,attempts,latency_ms,finished_at\n";

/// Milliseconds since 1970, in November 2026.
const BEGIN: i64 = 1_795_000_000_000;

/// Writes so many records, one each second, with this outcome.
fn records(report: &mut String, after: i64, count: i64, outcome: &str) {
    for number in 1..=count {
        let line = report.lines().count() + 1;
        let time = utc(BEGIN + (after + number) * 1000);
        let _ = writeln!(report, "{line},u{},c,0,{outcome},0,200,m,r,1,40,{time}", line / 2);
    }
}

fn began(after: i64, run: &str, total: i64, done: i64, lists: bool) -> String {
    format!(
        "{{\"event\":\"begin\",\"at\":\"{}\",\"run\":\"{run}\",\"host\":\"host-{run}\",\"version\":\"0.9\",\"app_id\":42,\
         \"endpoint\":\"https://zim.example/\",\"input\":\"rows.csv\",\"total\":{total},\"already_done\":{done},\
         \"lists\":{lists},\"users\":3}}\n",
        utc(BEGIN + after * 1000)
    )
}

fn ended(after: i64, run: &str, stopped: &str, ok: i64) -> String {
    format!(
        "{{\"event\":\"end\",\"at\":\"{}\",\"run\":\"{run}\",\"exit\":0,\"stopped\":{stopped},\"summary\":{{\"rows\":{ok},\
         \"ok\":{ok}}}}}\n",
        utc(BEGIN + after * 1000)
    )
}

/// The page of a report with these files.
fn page(report: &str, log: &str, listed: Option<&str>) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.csv");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("out.csv", report);
    write("out.runs.jsonl", log);
    if let Some(listed) = listed {
        write("out.list.csv", listed);
    }
    html(&path)
}

fn html(report: &Path) -> String {
    let analysis = Analysis::from_file(report).unwrap();
    let page = Page {
        report: "out.csv",
        analysis: &analysis,
        next: &[],
        rewritten: None,
    };
    page.to_html().unwrap()
}

/// The status and text of the headline.
fn headline(page: &str) -> (&str, &str) {
    let (_, rest) = page.split_once("<div class=\"verdict ").unwrap();
    let (status, rest) = rest.split_once('"').unwrap();
    let (_, rest) = rest.split_once("<div><p>").unwrap();
    (status, rest.split_once("</p>").unwrap().0)
}

#[test]
fn a_page_is_green_only_when_nothing_is_left_and_nothing_has_failed() {
    let of = |outcome: &str, total: i64, log: bool| {
        let mut report = RECORDS.to_owned();
        records(&mut report, 0, 5, outcome);
        let log = if log {
            began(0, "a", total, 0, false)
        } else {
            String::new()
        };
        let page = page(&report, &log, None);
        let (status, text) = headline(&page);
        (status.to_owned(), text.to_owned())
    };
    let said = |status: &str, text: &str| (status.to_owned(), text.to_owned());
    assert_eq!(of("ok", 5, true), said("good", "All 5 rows are cleared"));
    assert_eq!(of("ok", 9, true), said("warn", "Of 9 rows, 4 have no record yet"));
    assert_eq!(of("failed", 5, true), said("bad", "All 5 rows failed"));
    assert_eq!(of("outside", 5, true), said("warn", "All 5 rows are out of reach"));
    let (status, text) = of("ok", 5, false);
    assert!(
        status == "quiet" && text.ends_with("how many were to be is not known"),
        "{status}: {text}"
    );
}

#[test]
fn the_page_of_rows_that_were_listed_tells_of_the_users_too() {
    let mut report = RECORDS.to_owned();
    records(&mut report, 0, 5, "ok");
    let log = began(0, "a", 0, 0, true) + &ended(9, "a", "null", 5);
    let listed = |users: &[&str]| {
        let line = |(index, outcome): (usize, &&str)| {
            let line = index + 2;
            format!(
                "{line},user-{line},{outcome},{},0,200,m,r,1,40,{}\n",
                5 * u8::from(index == 0),
                utc(BEGIN)
            )
        };
        LISTED.to_owned() + &users.iter().enumerate().map(line).collect::<String>()
    };
    let of = |users: &[&str]| page(&report, &log, Some(&listed(users)));
    assert_eq!(headline(&of(&["ok", "ok", "ok"])), ("good", "All 5 rows are cleared"));
    let failed = of(&["ok", "failed", "failed"]);
    assert_eq!(headline(&failed), ("bad", "5 rows are cleared; of 3 users, 2 failed"));
    assert!(failed.contains("<small>users failed</small><b>2</b>"), "{failed}");
    assert!(failed.contains("user-3, user-4"), "{failed}");
    let left = of(&["ok", "ok"]);
    let (status, text) = headline(&left);
    assert!(
        status == "warn" && text.ends_with("of 3 users, 1 has no record yet"),
        "{status}: {text}"
    );
    assert!(left.contains("<small>users left</small><b>1</b>"), "{left}");
    // Rows that were listed and not cleared count, although it is not known how many there will be.
    let mut fewer = RECORDS.to_owned();
    records(&mut fewer, 0, 3, "ok");
    let stopped = page(&fewer, &log, Some(&listed(&["ok", "ok"])));
    let (status, text) = headline(&stopped);
    assert_eq!(status, "warn");
    assert!(
        text.contains("2 have no record yet") && text.contains("of 3 users, 1"),
        "{text}"
    );
    // While a run is under way, what it has not done yet is as it should be.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.csv");
    std::fs::write(&path, &report).unwrap();
    std::fs::write(directory.path().join("out.runs.jsonl"), began(0, "a", 0, 0, true)).unwrap();
    std::fs::write(directory.path().join("out.list.csv"), listed(&["ok", "ok"])).unwrap();
    let run = std::fs::File::open(&path).unwrap();
    run.try_lock().unwrap();
    let said = "Under way: 5 rows so far; 2 of 3 users done, and all is well so far";
    assert_eq!(headline(&html(&path)), ("quiet", said));
    // Without the list report it is not known what was to be done.
    assert_eq!(headline(&page(&report, &log, None)).0, "quiet");
}

#[test]
fn users_with_1000_conversations_are_told() {
    let mut listed = LISTED.to_owned();
    let _ = writeln!(listed, "2,u,ok,1000,0,200,1000 conversations,r,10,40,{}", utc(BEGIN));
    let page = page(&listed, "", None);
    assert!(page.contains("older conversations, if any, are out of reach"));
}

/// Three runs: stopped, killed, finished; 20 seconds and 2 hours between them. Each wrote 100 records in 100 seconds.
fn three_runs() -> String {
    let mut report = RECORDS.to_owned();
    for after in [0, 120, 8000] {
        records(&mut report, after, 100, "ok");
    }
    let log = began(0, "a", 300, 0, false)
        + &ended(100, "a", "\"SIGINT\"", 100)
        + &began(120, "b", 300, 100, false)
        + &began(8000, "c", 300, 200, false)
        + &ended(8100, "c", "null", 300);
    page(&report, &log.replace("\"ok\":300", "\"ok\":100"), None)
}

#[test]
fn the_page_tells_of_each_run_when_and_why_it_ended_and_of_the_times_between() {
    let page = three_runs();
    assert_eq!(headline(&page), ("good", "All 300 rows are cleared"));
    for said in [
        "SIGINT (exit status 0)",
        "killed, or the machine stopped",
        "finished (exit status 0)",
        "<tr class=\"gap\"><td colspan=\"6\">no run for 20s: run 1 had ended: SIGINT (exit status 0)</td></tr>",
        "<tr class=\"gap\"><td colspan=\"6\">no run for 2h 10m: run 2 was killed, or the machine stopped</td></tr>",
        "1m 40s until its last record",
        "<br><small>on host-b</small>",
    ] {
        assert!(page.contains(said), "{said}");
    }
    // What they have in common is said once.
    assert_eq!(
        page.matches("app 42 at https://zim.example/ · rows.csv · zim-batch 0.9")
            .count(),
        1
    );
    assert_eq!(page.matches("zim.example").count(), 1);
    // The pause between two runs is no pause of a run, but the charts tell it.
    assert!(!page.contains("<h2>Pauses</h2>"));
    assert!(
        page.contains("; run 2 was killed, or the machine stopped</title>"),
        "{page}"
    );
}

#[test]
fn neither_times_between_runs_nor_short_pauses_are_work() {
    let rate = |page: &str| {
        let (_, rest) = page.split_once("<small>rows/s</small><b>").unwrap();
        let (rate, rest) = rest.split_once("</b><small>").unwrap();
        (rate.to_owned(), rest.split_once("</small>").unwrap().0.to_owned())
    };
    // 100 records in 100 seconds, three times. Too few for telling a short pause, but the runs are known.
    let (between, said) = rate(&three_runs());
    assert_eq!(between, "1.00");
    assert_eq!(said, "without the times between runs and pauses of more than 1m");
    // Twenty records each second, for 60 seconds and, after 30 seconds without any, for 60 more.
    let mut report = RECORDS.to_owned();
    for number in 0..2400_i64 {
        let after = number * 50 + if number < 1200 { 0 } else { 30_000 };
        let _ = writeln!(report, "{number},u,c,0,ok,0,200,m,r,1,40,{}", utc(BEGIN + after));
    }
    let (within, said) = rate(&page(&report, &began(0, "a", 2400, 0, false), None));
    assert_eq!(
        (within.as_str(), said.as_str()),
        ("20.00", "without pauses of more than 2s")
    );
}

#[test]
fn users_are_told_only_where_one_has_several_rows() {
    let of = |report: &str| page(report, "", None).contains("<h2>Users with several rows");
    let failed = |user: u64| format!("{user},u{user},c,0,failed,7,200,m,r,1,40,\n");
    let singles: String = (0..19).map(failed).collect();
    assert!(!of(&format!("{RECORDS}{singles}")));
    assert!(of(&format!("{RECORDS}{singles}{}", failed(3))));
}

#[test]
fn a_page_of_several_reports_says_that_its_charts_are_of_all_records_and_has_no_empty_column() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (mut first, mut retry) = (RECORDS.to_owned(), RECORDS.to_owned());
    records(&mut first, 0, 4, "failed");
    records(&mut retry, 60, 3, "ok");
    let reports = [write("out.csv", &first), write("retry.csv", &retry)];
    let html = |reports: &[std::path::PathBuf]| {
        let analysis = Analysis::from_files(reports).unwrap();
        let page = Page {
            report: "out.csv",
            analysis: &analysis,
            next: &[],
            rewritten: None,
        };
        page.to_html().unwrap()
    };
    let (one, both) = (html(&reports[..1]), html(&reports));
    assert_eq!(
        (one.matches("<th>Lines</th>").count(), both.matches("Lines").count()),
        (1, 0)
    );
    assert_eq!(one.matches("of all records").count(), 0);
    assert!(both.contains("Rows that were not cleared, of all records"), "{both}");
    assert!(both.contains("that another report has a later record for"), "{both}");
}

#[test]
fn why_a_run_ended_is_said_without_an_apostrophe_and_the_most_frequent_reason_is_the_first_of_the_table() {
    let mut report = RECORDS.to_owned();
    for (line, message) in [(2, "first"), (3, "second")] {
        let _ = writeln!(report, "{line},u{line},c,0,failed,,200,{message},r,1,40,{}", utc(BEGIN));
    }
    let log = began(0, "a", 9, 0, false) + &ended(9, "a", "\"--until 08:22 was reached\"", 0);
    let page = page(&report, &log, None);
    assert!(page.contains(">--until 08:22 was reached (exit status 0)"), "{page}");
    let (_, table) = page.split_once("<td data-name=\"Reason\" class=\"w\">").unwrap();
    let (first, _) = table.split_once('<').unwrap();
    assert!(
        page.contains(&format!("The most frequent reason: {first} (")),
        "{first}: {page}"
    );
}
