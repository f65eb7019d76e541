//! The lines and parts of progress, in paused time.

use std::io;
use std::sync::{Arc, Mutex};

use std::sync::LazyLock;

use zim_batch::Limiter;
use zim_batch::limiter::quota::Limit;

use super::*;

static LIMITER: LazyLock<Limiter> = LazyLock::new(|| Limiter::new(Rate::default()));

fn status(stats: &Stats, next_probe: Option<Instant>) -> Status<'_> {
    Status {
        stats,
        rate: 20.0,
        limit: RateLimit::Own(Rate::default()),
        limiter: &LIMITER,
        next_probe,
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// Captures what this thread logs, until the guard is dropped.
fn capture() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    (log, tracing::subscriber::set_default(subscriber.finish()))
}

/// Ticks once per second, for this many seconds.
async fn pass(progress: &mut Progress, seconds: u64) -> String {
    let (log, guard) = capture();
    for _ in 0..seconds {
        tokio::time::advance(Duration::from_secs(1)).await;
        progress.tick(&status(&Stats::default(), None));
    }
    drop(guard);
    log.text()
}

#[tokio::test(start_paused = true)]
async fn without_a_bar_there_are_a_few_plain_lines() {
    for (style, lines) in [
        (ProgressStyle::Bar, 5),
        (ProgressStyle::Auto, 5),
        (ProgressStyle::Plain, 5),
        (ProgressStyle::None, 0),
    ] {
        let mut progress = Progress::new(style, Terminal::default(), Some(1201), "rows");
        let log = pass(&mut progress, 16 * 60).await;
        assert_eq!(log.lines().count(), lines, "{style:?}: {log}");
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_a_plain_line_at_least_every_five_minutes() {
    let mut progress = Progress::new(ProgressStyle::Plain, Terminal::default(), None, "rows");
    for _ in 0..24 {
        assert_ne!(pass(&mut progress, 5 * 60).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_pause_there_is_a_line_an_hour_and_afterwards_one_every_five_minutes() {
    let mut progress = Progress::new(ProgressStyle::Plain, Terminal::default(), Some(1201), "rows");
    pass(&mut progress, 60).await;
    let stats = Stats::default();
    let until = SystemTime::now() + Duration::from_secs(8 * 3600);
    let paused = Status {
        limit: RateLimit::Timetable { rate: None, until },
        ..status(&stats, None)
    };
    let (log, guard) = capture();
    for _ in 0..8 * 3600 {
        tokio::time::advance(Duration::from_secs(1)).await;
        progress.tick(&paused);
    }
    drop(guard);
    let (log, says) = (
        log.text(),
        format!("paused until {} (--rate), 0/1,201 rows", clock(until)),
    );
    assert_eq!(log.matches(&says).count(), 8, "{log}");
    let log = pass(&mut progress, 30 * 60).await;
    assert_eq!(
        (log.lines().count(), log.matches("paused until").count()),
        (6, 0),
        "{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_that_ends_the_run_before_its_last_row_is_shown_with_what_will_be_left() {
    let shown_at = |seconds: u64| {
        let at = SystemTime::now() + Duration::from_secs(seconds);
        let progress = Progress::new(ProgressStyle::None, Terminal::default(), Some(1000), "rows");
        let mut progress = progress.ending(Some(Ends { at, flag: "--until" }));
        let stats = Stats::default();
        let left = progress.time_left(&status(&stats, None));
        (ends_at(at), progress.parts(&status(&stats, None), left))
    };
    let shown_parts = |seconds| shown_at(seconds).1;
    let shown = |seconds| {
        let (at, parts) = shown_at(seconds);
        (at, joined(&parts))
    };
    let (at, text) = shown(20);
    assert!(
        text.starts_with(&format!("0/1,000 rows, ok 0, ends at {at} (--until) with about 60"))
            && text.ends_with(" rows left"),
        "{text}"
    );
    assert_eq!(shown(60).1, "0/1,000 rows, ok 0, 50s left");
    // On a narrow terminal, the end is kept for longer than what will be left.
    let at_60 = parts::fitted(&shown_parts(20), 60);
    assert!(
        at_60.contains(", ends at ") && at_60.ends_with(" rows left") && !at_60.contains("(--until)"),
        "{at_60}"
    );
    let at_40 = parts::fitted(&shown_parts(20), 40);
    assert!(at_40.contains(", ends at ") && !at_40.contains("with about"), "{at_40}");
}

#[tokio::test(start_paused = true)]
async fn at_eighty_columns_a_limited_run_keeps_rate_time_left_and_the_end_of_the_limit() {
    let until = SystemTime::now() + Duration::from_secs(60);
    let limit = |rate: Option<f64>| Limit::new(rate.map(|rate| rate.try_into().unwrap()), Some(until));
    let (stats, at) = (Stats::default(), short_clock(until));
    let shown = |limit, ends| {
        let progress = Progress::new(ProgressStyle::None, Terminal::default(), Some(837), "rows");
        let mut progress = progress.ending(ends);
        for (second, requests) in [(0, 0), (10, 50)] {
            let at = Instant::now() + Duration::from_secs(second);
            progress.speed.note(at, false, requests, requests);
        }
        let limited = Status {
            limit: RateLimit::Quota(limit),
            ..status(&stats, None)
        };
        // What is left of 80 columns beside the share.
        parts::fitted(&progress.parts(&limited, Some(Duration::from_secs(165))), 73)
    };
    assert_eq!(
        shown(limit(Some(5.0)), None),
        format!("limited to 5/s until {at}, 0/837 rows, ok 0, 5.0/s, 2m 45s left")
    );
    assert_eq!(
        shown(limit(None), None),
        format!("paused until {at}, 0/837 rows, ok 0, 5.0/s, 2m 45s left")
    );
    let at = SystemTime::now() + Duration::from_secs(20);
    let ends = shown(
        limit(Some(5.0)),
        Some(Ends {
            at,
            flag: "--max-duration",
        }),
    );
    assert!(
        ends.ends_with(&format!("0/837 rows, 5.0/s, ends at {}", short_clock(at))),
        "{ends}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_status_request_is_answered_once_in_any_style() {
    let terminal = Terminal::default();
    let mut progress = Progress::new(ProgressStyle::None, terminal.clone(), Some(1201), "rows");
    terminal.request_status();
    let log = pass(&mut progress, 2).await;
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("0/1,201 rows"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_shows_its_start_its_reason_and_the_next_probe() {
    let mut progress = Progress::new(ProgressStyle::None, Terminal::default(), Some(1201), "rows");
    let why = "connection refused".to_owned();
    progress.event(&Event::Held { why });
    let next_probe = Instant::now() + Duration::from_secs(12);
    let stats = Stats::default();
    let held = joined(&progress.parts(&status(&stats, Some(next_probe)), None));
    assert!(held.starts_with("ON HOLD since "), "{held}");
    assert!(
        held.ends_with(": connection refused, next probe in 12s, 0/1,201 rows, ok 0"),
        "{held}"
    );
    progress.event(&Event::Released);
    let text = joined(&progress.parts(&status(&stats, None), Some(Duration::from_secs(2 * 3600))));
    assert!(text.starts_with("0/1,201 rows, ok 0, 2h left, until "), "{text}");
}
