//! Reports with many records: counted correctly, and read back in little memory.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Instant;

use crate::support::{Answer, Desk, Latch, REPORT_HEADER, Server, figures, kind_server, rows};

#[test]
fn what_an_earlier_run_did_counts_as_done_however_early_the_next_one_stops() {
    // The first 50 rows and the last 30 have records: a run that stops between them has not reached the last ones.
    let (desk, server) = (Desk::new(), kind_server());
    let record = |line| {
        let user = line - 1;
        format!("{line},u{user},cu{user},0,ok,0,200,success,1,1,3,2026-08-01T12:34:56.789Z\n")
    };
    let records: String = (2..52).chain(1972..2002).map(record).collect();
    desk.write("out.csv", format!("{REPORT_HEADER}\n{records}"));
    let call = desk.clear(&server, rows(2000)).arg("--resume");
    let mut running = call.flag("--rate", "5").spawn();
    running.wait_until("the run is under way", || server.requests().len() >= 2);
    running.signal("TERM");
    let outcome = running.wait();

    outcome.assert_status(143);
    let sent = server.requests().len() as u64;
    let counts = [
        ("rows", 2000),
        ("already_done", 80),
        ("ok", sent),
        ("not_run", 1920 - sent),
    ];
    outcome.summary().assert_counts(&counts);
}

#[test]
fn a_long_report_is_read_back_with_a_few_bytes_per_row() {
    // The last row, after many that are done, is not answered before the process has been measured.
    let count = std::env::var("ZIM_RESUME_ROWS").map_or(50_000, |text| text.parse::<u64>().expect("a number"));
    let peak_of = |count: u64| {
        let latch = Latch::default();
        let is_measured = latch.clone();
        let server = Server::start(move |_, _| {
            is_measured.wait();
            Answer::Code(0, "success")
        });
        let desk = Desk::new();
        let mut files = ["rows.csv", "out.csv"].map(|name| {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(desk.path(name))
                .unwrap();
            std::io::BufWriter::new(file)
        });
        let [input, report] = &mut files;
        writeln!(input, "user,conv,type").unwrap();
        writeln!(report, "{REPORT_HEADER}").unwrap();
        for line in 2..count + 2 {
            writeln!(input, "user{line},conversation{line},0").unwrap();
            let rest = "0,ok,0,200,success,343649807833778782,1,41,2026-08-01T12:34:56.789Z";
            writeln!(report, "{line},user{line},conversation{line},{rest}").unwrap();
        }
        writeln!(input, "last,one,0").unwrap();
        drop(files.map(|file| file.into_inner().unwrap()));
        let call = desk.clear_with(&server.url(), "rows.csv").flag("--report", "out.csv");
        let started_at = Instant::now();
        let mut running = call.arg("--resume").arg("--json").spawn();
        running.wait_until("the last row is sent", || server.count() > 0);
        let took = started_at.elapsed();
        let peak = running.peak_memory_kib();
        latch.open();
        let outcome = running.wait();
        outcome
            .assert_status(0)
            .summary()
            .assert_counts(&[("already_done", count), ("ok", 1)]);
        (took, peak)
    };
    let (_, nothing) = peak_of(0);
    let (took, much) = peak_of(count);
    let rows_a_second = count as f64 / took.as_secs_f64();
    figures(&format!(
        "{count} records read back in {took:?}: {rows_a_second:.0} a second"
    ));
    if let (Some(nothing), Some(much)) = (nothing, much) {
        let bytes = (much.saturating_sub(nothing) * 1024) as f64 / count as f64;
        figures(&format!("{bytes:.1} bytes a row"));
        assert!(bytes < 48.0, "{bytes:.1} bytes a row");
    }
}
