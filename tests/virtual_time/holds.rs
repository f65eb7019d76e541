//! When a run goes on hold, which requests find out whether the service is back, and when.

use std::num::NonZeroUsize;

use tokio::time::timeout;
use zim_batch::event::Event;
use zim_batch::stop::StopReason;

use super::*;

/// Answers as the function says, by row and by the time since the beginning.
fn service<F>(answer: F) -> Scripted<impl Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static>
where
    F: Fn(&Row, Duration) -> Verdict + Send + Sync + 'static,
{
    let started_at = Instant::now();
    Scripted {
        answer: move |row: &Row, _| (Duration::from_millis(30), answer(row, started_at.elapsed())),
        sent: Arc::default(),
    }
}

fn unavailable() -> Verdict {
    judge(503, b"", None)
}

#[test]
fn the_first_probe_comes_soon_however_low_the_rate() {
    for rate in [1.0, 2.0, 20.0] {
        in_paused_time(async {
            let service = service(|_, since| match since.as_secs() {
                3..200 => unavailable(),
                _ => code(0),
            });
            let times = Arc::new(Mutex::new((None, None)));
            let seen = Arc::clone(&times);
            let observed = move |job: Job<_>, _: &Path| {
                job.on_event(move |event| {
                    let (held, probe) = &mut *seen.lock().unwrap();
                    match event {
                        Event::Held { .. } => *held = held.or(Some(Instant::now())),
                        Event::Sent { at, .. } if held.is_some() => *probe = probe.or(Some(*at)),
                        _ => {}
                    }
                })
            };
            let (summary, _) = run_observed(100, rate, Limits::default(), service, observed).await;
            assert!(summary.is_complete(), "{summary:?}");
            let (held, probe) = *times.lock().unwrap();
            let pause = probe.unwrap() - held.unwrap();
            // A second, and the spacing of the rate twice.
            let most = SECOND + SECOND.mul_f64(2.0 / rate) + Duration::from_millis(100);
            assert!(pause <= most, "{pause:?} at {rate} per second");
        });
    }
}

#[test]
fn rows_that_fail_for_ever_keep_no_others_from_being_sent() {
    in_paused_time(async {
        let service = service(|row, _| code(if line_of(row) <= 41 { 660_000_001 } else { 0 }));
        let limits = Limits {
            max_in_flight: NonZeroUsize::MIN,
            ..Limits::default()
        };
        let (summary, outcomes) = run_with(200, 20.0, limits, service).await;
        assert_eq!((summary.ok, summary.failed), (160, 40), "{summary:?}");
        assert_eq!(outcomes[&2], "failed");
    });
}

/// A service whose connections take a while to open, and then wait at the gate for some seconds, as the client's do.
struct SlowToConnect<F>(Scripted<F>);

impl<F> Sealed for SlowToConnect<F> {}

impl<F: Fn(&Row, usize) -> (Duration, Verdict) + Send + Sync + 'static> Service for SlowToConnect<F> {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        sleep(Duration::from_millis(900)).await;
        timeout(4 * SECOND, gate.pass()).await.ok()?;
        Some(self.0.exchange(row, gate).await)
    }
}

#[test]
fn rows_that_were_connecting_when_the_hold_began_are_probes_too() {
    in_paused_time(async {
        let service = service(|row, _| code(if line_of(row) <= 11 { 660_000_001 } else { 0 }));
        let sent = Arc::clone(&service.sent);
        // All rows are connecting or have failed when the tenth of them fails.
        let (summary, _) = run_with(25, 20.0, Limits::default(), SlowToConnect(service)).await;
        assert_eq!((summary.ok, summary.failed), (15, 10), "{summary:?}");
        let lines: Vec<u64> = sent.lock().unwrap().iter().map(|(line, _)| *line).collect();
        assert!(
            lines[..13].contains(&12),
            "the third probe is by a row that has not failed: {lines:?}"
        );
    });
}

#[test]
fn nine_rows_that_are_all_busy_for_ever_fail_and_ten_are_an_outage() {
    for rows in [9, 10] {
        in_paused_time(async {
            let (summary, _, outcomes) = run_all(rows, Limits::default(), |_, _| {
                (Duration::from_millis(30), code(660_000_001))
            })
            .await;
            let has_given_up = matches!(summary.stopped, Some(StopReason::GaveUp { .. }));
            assert_eq!(
                (has_given_up, outcomes.len()),
                if rows == 9 { (false, 9) } else { (true, 0) }
            );
        });
    }
}

#[test]
fn while_nothing_is_answered_each_probe_is_by_another_row() {
    for slow in [false, true] {
        in_paused_time(async {
            let service = service(|_, _| code(660_000_001));
            let sent = Arc::clone(&service.sent);
            let limits = Limits {
                give_up_after: Duration::from_secs(1800),
                ..Limits::default()
            };
            match slow {
                true => run_with(20, 20.0, limits, SlowToConnect(service)).await,
                false => run_with(20, 20.0, limits, service).await,
            };
            let lines: Vec<u64> = sent.lock().unwrap().iter().map(|(line, _)| *line).collect();
            assert!(
                (60..90).contains(&lines.len()),
                "a single probe now and then: {}",
                lines.len()
            );
            // New rows first, then each one in its turn.
            let probes = &lines[lines.len() - 40..];
            for round in probes.windows(20) {
                let distinct: std::collections::HashSet<_> = round.iter().collect();
                assert_eq!(distinct.len(), 20, "{lines:?}");
            }
        });
    }
}

/// Rows that all come at once; the next one doesn't come before the sender is gone.
struct Burst {
    rows: std::io::Cursor<Vec<u8>>,
    next: std::sync::mpsc::Receiver<()>,
}

impl std::io::Read for Burst {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.rows.read(buffer)? {
            0 => Ok(self.next.recv().map_or(0, |()| 0)),
            read => Ok(read),
        }
    }
}

#[test]
fn all_rows_of_a_burst_are_sent_before_the_next_row_comes() {
    in_paused_time(async {
        let directory = tempfile::tempdir().unwrap();
        let mut csv = b"user,conv,type\n".to_vec();
        (0..60).for_each(|row| csv.extend(format!("u{row},c{row},0\n").bytes()));
        let (sender, next) = std::sync::mpsc::channel::<()>();
        let burst = Burst {
            rows: std::io::Cursor::new(csv),
            next,
        };
        let rows = Rows::from_reader(Box::new(burst), "rows", &Format::default()).unwrap();
        let plan = Input::from(rows).plan(&Selection::default(), Done::default()).unwrap();
        let limits = Limits {
            max_duration: Some(Duration::from_secs(3600)),
            ..Limits::default()
        };
        let (mut left, mut sender) = (60, Some(sender));
        let job = job(service(|_, _| code(0)), plan, 20.0, &directory.path().join("out.csv"))
            .limits(limits)
            .on_record(move |_| {
                left -= 1;
                if left == 0 {
                    drop(sender.take());
                }
            });
        let summary = job.run().await.unwrap();
        assert_eq!((summary.ok, summary.stopped), (60, None));
    });
}
