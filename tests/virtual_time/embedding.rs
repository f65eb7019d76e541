//! Runs of rows from memory, as embedding programs start them.

use zim_batch::row::ConvType;
use zim_batch::stop::StopReason;

use super::*;

fn rows(lines: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Row> + Send + 'static {
    lines.map(|line| Row {
        line,
        user: format!("u{line}"),
        conv: "#team".into(),
        conv_type: ConvType::Group,
    })
}

fn ok() -> impl Service<Item = Row> {
    Scripted {
        answer: |_: &Row, _| (Duration::from_millis(30), code(0)),
        sent: Arc::default(),
    }
}

#[test]
fn without_a_report_every_row_is_sent_and_counted() {
    in_paused_time(async {
        let summary = Job::new(ok(), rows(1..=30)).run().await.unwrap();
        assert_eq!((summary.ok, summary.rows, summary.is_success()), (30, 30, true));
        assert!(summary.peak_1s <= 20 && summary.report.is_none());
    });
}

#[test]
fn rows_that_the_report_has_already_are_not_sent_again() {
    in_paused_time(async {
        let directory = tempfile::tempdir().unwrap();
        let [path, outside] = ["out.csv", "outside.csv"].map(|name| directory.path().join(name));
        for (last, sent) in [(3, 3), (3, 0), (5, 2)] {
            let report = Report::open(&path, &outside, IfExists::Resume, false).unwrap();
            let summary = Job::new(ok(), rows(1..=last)).report(report).run().await.unwrap();
            assert_eq!((summary.ok, summary.already_done), (sent, last - sent), "{summary:?}");
        }
        let report = Report::open(&path, &outside, IfExists::Resume, false).unwrap();
        let changed = rows(1..=2).map(|row| Row {
            user: "another".into(),
            ..row
        });
        let summary = Job::new(ok(), changed).report(report).run().await.unwrap();
        assert!(
            matches!(summary.stopped, Some(StopReason::InputFailed(_))),
            "{summary:?}"
        );
        assert_eq!(outcomes(&path).len(), 5);
    });
}
