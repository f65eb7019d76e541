//! The page of `report --html`: its size, and where it is written.

use super::*;

#[test]
fn the_page_is_at_most_a_megabyte_whatever_the_report() {
    let desk = Desk::new();
    let mut report = format!("{REPORT_HEADER}\n");
    let message = "<&\"'>".repeat(200);
    for index in 0..12_000_usize {
        let outcome = OUTCOMES[index % 5];
        let user = format!("<&\"'>{index:>027}").replace('"', "\"\"");
        let at = record(
            index,
            "u",
            outcome,
            "",
            "",
            (index % 55 * 10 + index / 55 * 350_000) as u64,
        );
        let (_, at) = at.rsplit_once(',').unwrap();
        let code = if index % 3 == 0 {
            (index % 5000).to_string()
        } else {
            String::new()
        };
        let _ = writeln!(
            report,
            "{index},\"{user}\",c,0,{outcome},{code},200,\"{}{}\",1,1,{},{at}",
            index % 1000,
            message.replace('"', "\"\""),
            index % 10_000
        );
    }
    desk.write("out.csv", report);
    let mut log = String::new();
    let long = message.replace('"', "\\\"");
    let midnight: jiff::Timestamp = "2026-11-25T00:00:00Z".parse().unwrap();
    for run in 0..220_i64 {
        // Each wrote 55 records, and after each is a pause that the charts show.
        let at = |after| (midnight + jiff::SignedDuration::from_secs(run * 350 + after)).to_string();
        let (begin, end) = (at(0), at(1));
        let _ = writeln!(
            log,
            "{{\"event\":\"begin\",\"at\":\"{begin}\",\"run\":\"{run}\",\"host\":\"{run}{long}\",\"version\":\"{run}{long}\",\
             \"endpoint\":\"{run}{long}\",\"input\":\"{run}{long}\",\"total\":12000}}\n\
             {{\"event\":\"end\",\"at\":\"{end}\",\"run\":\"{run}\",\"exit\":5,\"stopped\":\"{long}\"}}"
        );
    }
    desk.write("out.runs.jsonl", log);
    json(&desk, &["--html", "out.html"]);
    assert!(desk.read("out.html").contains("<h2>Runs</h2>"));
    let size = fs::metadata(desk.path("out.html")).unwrap().len();
    assert!((100_000..1_000_000).contains(&size), "{size} bytes");
}

#[test]
fn a_page_replaces_an_earlier_page_and_no_other_file() {
    let desk = Desk::new();
    desk.write("out.csv", report_of((2..5).map(ok)));
    desk.write("notes.html", "<!doctype html>\nmine\n");
    fs::create_dir(desk.path("directory")).unwrap();
    for (target, says) in [
        ("out.csv", "something else"),
        ("./directory/../out.csv", "something else"),
        ("notes.html", "exists already"),
        ("directory", "directory"),
        ("nowhere/out.html", "does not exist"),
        ("-", "/dev/stdout"),
    ] {
        let outcome = desk.zim_batch(["report", "out.csv", "--html", target]).run();
        outcome.assert_status(2).assert_says(&[target, says]);
        assert_eq!(outcome.stdout, "", "{target}");
    }
    assert_eq!(desk.read("notes.html"), "<!doctype html>\nmine\n");
    json(&desk, &["--html", "out.html"]);
    desk.write("out.csv", report_of((2..9).map(ok)));
    json(&desk, &["--html", "out.html"]);
    assert_eq!(in_page(&desk.read("out.html"), "rows"), "7");
    let full = desk.zim_batch(["report", "out.csv", "--html", "/dev/full"]).run();
    full.assert_status(74).assert_says(&["/dev/full", "can't be written"]);
    assert_eq!(in_table(&full.stdout, "rows").as_deref(), Some("7"));
}

#[test]
fn a_run_writes_the_page_of_its_report_at_the_end() {
    let desk = Desk::new();
    let server = Server::start(as_the_user_says);
    let outcome = desk
        .clear(&server, named_rows(["a", "b", "code51102"]))
        .flag("--html", "out.html")
        .run();
    outcome.assert_status(3).summary().assert_counts(&[("failed", 1)]);
    let page = desk.read("out.html");
    assert_eq!((in_page(&page, "rows"), in_page(&page, "failed")), ("3", "1"));
    assert!(!page.contains("under way"));
}

#[test]
fn a_page_that_cannot_be_written_does_not_change_how_the_run_ended() {
    let desk = Desk::new();
    let server = kind_server();
    let outcome = desk.clear(&server, rows(3)).flag("--html", "/dev/full").run();
    outcome.assert_status(0).assert_says(&[
        "/dev/full",
        "the page can't be written",
        "zim-batch report out.csv --html",
    ]);
    outcome.summary().assert_counts(&[("ok", 3)]);
    for target in ["rows.csv", "new.csv", "nowhere/page.html"] {
        let refused = desk
            .clear(&server, rows(3))
            .flag("--report", "new.csv")
            .flag("--html", target)
            .run();
        refused.assert_status(2).assert_says(&[target]);
        assert!(!desk.has("new.csv"), "{target}");
    }
}

#[test]
fn a_list_writes_the_page_of_its_report() {
    let desk = Desk::new();
    desk.write("users.csv", "user\nalice\nbob\n");
    let list = |args: &[&str]| {
        let words = ["list", "users.csv", "--simulate", "--overwrite", "--html", "out.html"];
        desk.zim_batch([&words, args].concat()).run()
    };
    list(&[]).assert_status(0);
    let page = desk.read("out.html");
    assert_eq!(in_page(&page, "users"), "2");
    assert!(page.contains("All 2 users are listed"));
    list(&["--rows", "-"])
        .assert_status(2)
        .assert_says(&["--html is the page of the list report", "--report FILE"]);
}
