//! A part of the program that panics ends the run with a reason and a report that can be resumed.

use std::io::{self, Read};

use zim_batch::error::Error;
use zim_batch::event::Event;
use zim_batch::stop::StopReason;

use super::*;

/// Panics at one row, answers the others.
struct PanicsAt(u64);

impl Sealed for PanicsAt {}

impl Service for PanicsAt {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        gate.pass().await;
        let started_at = Instant::now();
        gate.started(started_at);
        sleep(Duration::from_millis(30)).await;
        assert_ne!(line_of(row), self.0, "a row's task panics");
        let latency = Duration::from_millis(30);
        Some(Attempt::new(code(0), Some(started_at), latency))
    }
}

#[test]
fn a_row_whose_task_panics_stops_the_run_and_has_no_record() {
    in_paused_time(async {
        let (summary, outcomes) = run_with(100, 20.0, Limits::default(), PanicsAt(11)).await;
        let Some(StopReason::Bug(stopped)) = &summary.stopped else {
            panic!("{:?}", summary.stopped)
        };
        assert!(
            stopped.contains("a row's task panics") && stopped.contains("bug"),
            "{stopped}"
        );
        assert!(summary.is_consistent() && summary.not_run > 80, "{summary:?}");
        assert_eq!(outcomes.len() as u64, summary.ok);
        assert!(!outcomes.contains_key(&11));
    });
}

/// Rows whose source panics after the first ones.
struct PanicsLater(io::Cursor<Vec<u8>>);

impl Read for PanicsLater {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => panic!("the reader panics"),
            read => Ok(read),
        }
    }
}

#[test]
fn a_reader_that_panics_stops_the_run_and_what_it_has_read_before_is_recorded() {
    in_paused_time(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut csv = b"user,conv,type\n".to_vec();
        (0..10_000).for_each(|row| csv.extend(format!("u{row},c{row},0\n").bytes()));
        let rows = Rows::from_reader(Box::new(PanicsLater(io::Cursor::new(csv))), "rows", &Format::default()).unwrap();
        let plan = Input::from(rows).plan(&Selection::default(), Done::default()).unwrap();
        let job = job(PanicsAt(0), plan, 2000.0, &path("out.csv"));
        let summary = job.run().await.unwrap();
        let Some(StopReason::Bug(stopped)) = &summary.stopped else {
            panic!("{:?}", summary.stopped)
        };
        assert!(stopped.contains("the reader panics"), "{stopped}");
        assert!(summary.is_consistent() && summary.ok > 0, "{summary:?}");
        assert_eq!(outcomes(&path("out.csv")).len() as u64, summary.ok);
    });
}

#[test]
fn an_observer_that_panics_ends_the_run_with_an_error_and_a_report_that_can_be_resumed() {
    in_paused_time(async {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let rows = Rows::from_reader(
            Box::new(&b"user,conv,type\nu1,c1,0\nu2,c2,0\nu3,c3,0\n"[..]),
            "rows",
            &Format::default(),
        )
        .unwrap();
        let plan = Input::from(rows).plan(&Selection::default(), Done::default()).unwrap();
        let panics = |event: &Event| {
            if let Event::Settled(record) = event {
                assert_ne!(record.line, 3, "the recorder panics");
            }
        };
        let job = job(PanicsAt(0), plan, 20.0, &path("out.csv")).on_event(panics);
        let error = job.run().await.unwrap_err();
        assert!(
            matches!(&error, Error::Bug(says) if says.contains("the recorder panics")),
            "{error}"
        );
        assert!(outcomes(&path("out.csv")).len() >= 2, "what was written stays");
    });
}
