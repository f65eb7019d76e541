use proptest::prelude::*;

use std::time::SystemTime;

use super::collector::MAX_CODES;
use super::*;
use crate::journal::{COLUMNS, IfExists, Journal, Report, ReportError};
use crate::text::milliseconds;

fn record(line: usize, outcome: &str, latency: &str, finished_at: i64) -> String {
    format!(
        "{line},u,c,0,{outcome},0,200,success,1,1,{latency},{}\n",
        crate::text::utc(finished_at)
    )
}

fn analysis(records: impl IntoIterator<Item = String>) -> Analysis {
    let header = format!("{}\n", COLUMNS.join(","));
    let report = records.into_iter().fold(header, |report, record| report + &record);
    Analysis::from_reader(report.as_bytes(), "out.csv").unwrap()
}

proptest! {
    #[test]
    fn latencies_are_those_of_the_records_whatever_their_order(
        latencies in prop::collection::vec(0_u64..2000, 1..300),
    ) {
        let records = latencies.iter().map(|latency| record(2, "ok", &latency.to_string(), 0));
        let found = analysis(records).latency_ms();
        let mut sorted = latencies.clone();
        sorted.sort_unstable();
        let quantile = |q: f64| {
            let rank = (q * sorted.len() as f64).ceil() as usize;
            sorted[rank.max(1) - 1] as f64
        };
        prop_assert_eq!(found.p50, quantile(0.5));
        prop_assert_eq!(found.p90, quantile(0.9));
        prop_assert_eq!(found.max, quantile(1.0));
    }
}

#[test]
fn a_record_without_latency_or_time_counts_only_as_a_row() {
    let found = analysis([
        record(2, "ok", "40", 5000),
        "3,,c,0,invalid,,,user is empty,,0,,\n".to_owned(),
    ]);
    assert_eq!((found.rows, found.untimed, found.latencies.len()), (2, 1, 1));
    assert_eq!((found.first, found.last), (Some(5000), Some(5000)));
    assert_eq!(found.reasons[0].lines, [3]);
}

#[test]
fn the_rate_of_the_last_minute_is_that_of_the_time_since_the_run_began() {
    let now = milliseconds(SystemTime::now());
    let since = |started_at: i64, every: i64| {
        let times = (0..=started_at / every).map(|number| now - started_at + number * every);
        analysis(times.map(|time| record(2, "ok", "40", time))).recent_rate()
    };
    // The duration of this test is part of the time.
    assert!((15.0..=20.2).contains(&since(300_000, 50)), "{}", since(300_000, 50));
    assert!((3.0..=4.3).contains(&since(10_000, 250)), "{}", since(10_000, 250));
    let long_ago = analysis([record(2, "ok", "40", now - 600_000)]);
    assert_eq!(long_ago.recent_rate(), 0.0);
}

#[test]
fn when_a_run_that_has_just_waited_will_end_is_not_known() {
    let now = milliseconds(SystemTime::now());
    let until = |seconds: &[(i64, i64)], every: i64| {
        let times = seconds
            .iter()
            .flat_map(|(from, to)| (from * 1000..to * 1000).step_by(every as usize));
        let mut found = analysis(times.map(|ago| record(2, "ok", "40", now - 120_000 + ago)));
        found.under_way = Some(UnderWay {
            process: None,
            began: Some(now - 120_000),
        });
        found.or_to_do(Some(found.rows + 100));
        found.until()
    };
    assert!(until(&[(0, 120)], 50).is_some());
    assert!(until(&[(0, 120)], 20_000).is_some(), "a slow run");
    assert_eq!(until(&[(0, 75), (115, 120)], 50), None, "a pause has just ended");
    assert_eq!(until(&[(0, 105)], 50), None, "it waits, for whatever it is");
    assert!(until(&[(0, 60), (100, 101)], 50).is_none());
}

#[test]
fn the_rate_of_a_whole_report_excludes_pauses_and_needs_a_minimum_duration() {
    let times = (0..=1000).flat_map(|number| [number * 50, 9 * 3_600_000 + number * 50]);
    let found = analysis(times.map(|time| record(2, "ok", "40", time)));
    assert_eq!(found.rate(), Some(20.0));
    assert_eq!(analysis([record(2, "ok", "40", 0)]).rate(), None);
}

#[test]
fn thousands_of_codes_use_bounded_memory_and_lose_no_row() {
    let codes = (0..2 * MAX_CODES).map(|code| record(2, "ok", "1", 0).replace(",ok,0,", &format!(",ok,{code},")));
    let found = analysis(codes);
    assert_eq!((found.codes.len(), found.other_codes as usize), (MAX_CODES, MAX_CODES));
}

proptest! {
    #[test]
    fn the_rows_of_a_damaged_report_are_those_that_a_run_would_not_send_again(
        records in 1..6_usize,
        cut in any::<prop::sample::Index>(),
        tail in "[\"\n,0-9a-z]{0,12}",
    ) {
        let report: String = (1..=records).map(|line| record(line + 1, "ok", "40", 5000)).collect();
        let report = format!("{}\n{report}", COLUMNS.join(","));
        let header = COLUMNS.join(",").len() + 1;
        let damaged = format!("{}{tail}", &report[..header + cut.index(report.len() - header + 1)]);
        let directory = tempfile::tempdir().unwrap();
        let [path, outside] = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
        std::fs::write(&path, &damaged).unwrap();
        let found = Analysis::from_file(&path).unwrap();
        match Report::open(&path, &outside, IfExists::Resume, false) {
            Ok(mut report) => {
                prop_assert_eq!((report.take_done().len() as u64, found.damaged), (found.rows, None));
            }
            Err(error) => {
                let is_damaged = matches!(error, ReportError::Damaged { .. });
                prop_assert_eq!((is_damaged, found.damaged.is_some()), (true, true), "{}", error);
            }
        }
    }
}

#[test]
fn what_is_not_utf_8_is_replaced() {
    let mut report = format!("{}\n", COLUMNS.join(",")).into_bytes();
    report.extend(b"2,\xd3\xc3,c,0,failed,,503,\xb3\xc9,1,1,40,2026-11-25T03:00:00.000Z\n");
    let found = Analysis::from_reader(&report[..], "out.csv").unwrap();
    assert_eq!((found.rows, found.damaged), (1, None));
    assert_eq!(found.users[0].user, "\u{fffd}\u{fffd}");
}
