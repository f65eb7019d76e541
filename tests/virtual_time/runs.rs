//! Whole runs: retries, refusals and slow answers.

use super::*;

#[test]
fn rows_that_wait_for_a_retry_keep_no_new_ones_waiting() {
    in_paused_time(async {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let service = Scripted {
            answer: |row: &Row, nth| {
                let is_failure = mixed(row, nth) % 10 < 3;
                (Duration::from_millis(5), code(if is_failure { 660_000_001 } else { 0 }))
            },
            sent: Arc::clone(&sent),
        };
        let (summary, _) = run_with(5000, 2000.0, Limits::default(), service).await;
        assert_eq!(summary.rows, summary.ok + summary.failed);
        let mut firsts: HashMap<u64, Instant> = HashMap::new();
        for (line, at) in sent.lock().unwrap().iter() {
            firsts.entry(*line).or_insert(*at);
        }
        let time = *firsts.values().max().unwrap() - *firsts.values().min().unwrap();
        let rate = 5000.0 / time.as_secs_f64();
        assert!(rate > 1000.0, "{rate} new rows per second");
    });
}

#[test]
fn the_summary_counts_refusals_beside_the_peak_and_the_cap_which_tell_whose_they_probably_were() {
    for one_in in [300, 10] {
        in_paused_time(async {
            let (summary, _, _) = run_all(600, Limits::default(), move |row, nth| {
                let is_refused = nth == 1 && line_of(row) % one_in == 5;
                (Duration::from_millis(30), code(if is_refused { 7 } else { 0 }))
            })
            .await;
            assert_eq!((summary.ok, summary.limited), (600, 600 / one_in));
            assert_eq!((summary.requests, summary.cap), (600 + summary.limited, 20));
            assert!(summary.peak_1s <= summary.cap, "{summary:?}");
        });
    }
}

#[test]
fn a_slow_service_does_not_slow_the_start_of_requests() {
    in_paused_time(async {
        let (summary, sent, _) = run_all(50, Limits::default(), |_, _| (2 * SECOND, code(0))).await;
        assert_eq!(summary.ok, 50);
        let took = sent[49].1 - sent[0].1;
        assert!(
            took < Duration::from_millis(2600),
            "50 starts at 20 per second took {took:?}"
        );
    });
}
