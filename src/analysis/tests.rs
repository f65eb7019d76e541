use proptest::prelude::*;

use std::time::SystemTime;

use super::collector::MAX_CODES;
use super::values::milliseconds;
use super::*;
use crate::journal::COLUMNS;

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
