//! What observers of a run are told, and when.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zim_batch::event::Event;
use zim_batch::run::summary::Summary;
use zim_batch::run::{Job, Limits, Observer, Status};

use super::{Scripted, code, in_paused_time, line_of, run_observed};

/// Sends on what it is told; of a record, whether it is in the report already.
struct Witness {
    report: PathBuf,
    told: Sender<Told>,
}

#[derive(Debug, PartialEq)]
enum Told {
    Sent,
    Retrying,
    Record { line: u64, is_written: bool },
    Tick { requests: u64 },
    End { ok: u64 },
}

impl Observer for Witness {
    fn event(&mut self, event: &Event) {
        let told = match event {
            Event::Sent { .. } => Told::Sent,
            Event::Retrying => Told::Retrying,
            Event::Settled(record) => Told::Record {
                line: record.line,
                is_written: super::outcomes(&self.report).contains_key(&record.line),
            },
            _ => return,
        };
        self.told.send(told).unwrap();
    }

    fn tick(&mut self, status: &Status<'_>) {
        let requests = status.stats.requests();
        self.told.send(Told::Tick { requests }).unwrap();
    }

    fn end(&mut self, summary: &Summary) {
        self.told.send(Told::End { ok: summary.ok }).unwrap();
    }
}

#[test]
fn an_observer_is_told_of_each_record_once_it_is_written_and_last_of_the_end() {
    in_paused_time(async {
        let service = Scripted {
            answer: |row: &_, nth| {
                (
                    Duration::from_millis(30),
                    code(if is_refused(row, nth) { 7 } else { 0 }),
                )
            },
            sent: Arc::default(),
        };
        let (told, all) = channel();
        let observed = move |job: Job<_>, report: &Path| {
            let report = report.to_owned();
            job.observer(Witness { report, told })
        };
        let (summary, _) = run_observed(100, 20.0, Limits::default(), service, observed).await;
        assert_eq!((summary.ok, summary.retries), (100, 1));
        let all: Vec<Told> = all.iter().collect();
        assert_eq!(all.last(), Some(&Told::End { ok: 100 }));
        let count = |told: Told| all.iter().filter(|one| **one == told).count();
        assert_eq!((count(Told::Sent), count(Told::Retrying)), (101, 1));
        for line in 2..102 {
            assert_eq!(count(Told::Record { line, is_written: true }), 1, "line {line}");
        }
        // A status counts what was told before it.
        let mut sent = 0;
        for told in &all {
            match told {
                Told::Sent => sent += 1,
                Told::Tick { requests } => assert_eq!(*requests, sent),
                _ => {}
            }
        }
        assert!(all.iter().any(|told| matches!(told, Told::Tick { requests: 20.. })));
    });
}

fn is_refused(row: &zim_batch::row::Row, nth: usize) -> bool {
    line_of(row) == 5 && nth == 1
}

#[test]
fn a_closure_is_an_observer_and_all_of_them_are_told() {
    in_paused_time(async {
        let service = Scripted {
            answer: |_: &_, _| (Duration::from_millis(30), code(0)),
            sent: Arc::default(),
        };
        let counts: [Arc<Mutex<HashSet<u64>>>; 2] = Default::default();
        let [events, records] = counts.clone();
        let observed = move |job: Job<_>, _: &Path| {
            job.on_event(move |event| {
                if let Event::Settled(record) = event {
                    events.lock().unwrap().insert(record.line);
                }
            })
            .on_record(move |record| {
                records.lock().unwrap().insert(record.line);
            })
        };
        run_observed(10, 20.0, Limits::default(), service, observed).await;
        for told in counts {
            assert_eq!(told.lock().unwrap().len(), 10);
        }
    });
}
