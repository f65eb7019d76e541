//! Simulated runs: every record is marked, and the report is never mistaken for that of a real run.

use crate::support::{Call, Desk, kind_server, rows};

fn simulated(desk: &Desk, csv: &str) -> Call {
    desk.write("rows.csv", csv);
    desk.zim_batch([
        "clear",
        "rows.csv",
        "--simulate",
        "--report",
        "out.csv",
        "--rate",
        "200",
    ])
}

#[test]
fn every_record_of_a_simulated_run_is_marked_and_its_report_is_never_resumed_by_a_real_run() {
    let mixed = format!("{}u1,cu1,0\n,c,0\nu9,c,7\n", rows(30));
    let only_invalid = "user,conv,type\n,c,0\nu,,0\n".to_owned();
    for csv in [mixed, only_invalid] {
        let (desk, server) = (Desk::new(), kind_server());
        let outcome = simulated(&desk, &csv).arg("--dedupe").arg("--json").run();
        outcome.assert_status(3);
        assert_eq!(outcome.summary().0["simulated"], true);
        let records = desk.report();
        for record in &records {
            assert!(record.message.starts_with("simulated: "), "{record:?}");
        }
        assert!(
            records
                .iter()
                .any(|record| record.message == "simulated: user is empty")
        );

        let files = || (desk.read("out.csv"), desk.read("out.outside.csv"));
        let before = files();
        let outcome = desk.clear(&server, &csv).arg("--dedupe").arg("--resume").run();
        outcome
            .assert_status(4)
            .assert_says(&["out.csv", "--simulate", "never cleared", "--overwrite"]);
        assert_eq!((files(), server.requests().len()), (before.clone(), 0));

        // Another simulated run can resume it.
        simulated(&desk, &csv)
            .arg("--dedupe")
            .arg("--resume")
            .run()
            .assert_status(3);
        assert_eq!(files(), before);
    }
}

#[test]
fn a_real_report_is_never_resumed_by_a_simulated_run() {
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = desk.clear(&server, rows(3)).run();
    assert_eq!(outcome.assert_status(0).summary().0["simulated"], false);
    assert!(desk.report().iter().all(|record| record.message == "success"));
    let before = desk.read("out.csv");
    let outcome = simulated(&desk, &rows(5)).arg("--resume").run();
    outcome
        .assert_status(4)
        .assert_says(&["out.csv", "--simulate", "--report"]);
    assert_eq!(desk.read("out.csv"), before);
}

#[test]
fn the_table_of_a_simulated_run_shows_that_it_was_simulated() {
    let desk = Desk::new();
    let outcome = simulated(&desk, "user,conv,type\nu,c,0\n").run();
    assert!(outcome.stdout.contains("simulated"), "{}", outcome.stdout);
    let (server, desk) = (kind_server(), Desk::new());
    desk.write("rows.csv", rows(1));
    let real = desk.clear_with(&server.url(), "rows.csv").run();
    assert!(!real.stdout.contains("simulated"), "{}", real.stdout);
}
