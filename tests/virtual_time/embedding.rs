//! Runs of rows from memory, as embedding programs start them.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::net::TcpListener;
use tracing::{Instrument, Subscriber, info_span};
use tracing_subscriber::layer::{self, Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::registry::LookupSpan;
use zim_batch::Client;
use zim_batch::event::Event;
use zim_batch::row::ConvType;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::stop::{StopHandle, StopReason};

use super::*;

fn rows(lines: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Row> + Send + 'static {
    lines.map(|line| Row::new(format!("u{line}"), "#team", ConvType::Group).unwrap())
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
        let changed = rows(1..=2).map(|row| Row::new("u7", row.conv(), row.conv_type()).unwrap());
        let summary = Job::new(ok(), changed).report(report).run().await.unwrap();
        assert!(
            matches!(summary.stopped, Some(StopReason::InputFailed(_))),
            "{summary:?}"
        );
        assert_eq!(outcomes(&path).len(), 5);
    });
}

/// The first three rows, and then an error, as a database has them that goes away.
fn rows_then_error() -> impl Iterator<Item = io::Result<Row>> + Send + 'static {
    let gone = Err(io::Error::other("the database has gone away"));
    rows(1..=3).map(Ok).chain([gone]).chain(rows(5..=9).map(Ok))
}

/// A stream of what an iterator returns, ready at every other poll.
struct Ready<I> {
    items: I,
    is_ready: bool,
}

impl<I: Iterator + Unpin> Stream for Ready<I> {
    type Item = I::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<I::Item>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.items.next())
    }
}

fn stream<I: Iterator>(items: I) -> Pin<Box<Ready<I>>> {
    Box::pin(Ready { items, is_ready: false })
}

/// Answers every row's first attempt with "busy".
fn busy_at_first() -> impl Service<Item = Row> {
    Scripted {
        answer: |_: &Row, nth| (Duration::from_millis(30), code(if nth == 1 { 660_000_001 } else { 0 })),
        sent: Arc::default(),
    }
}

/// Records of each event whether it is in a span of this name, by the event's target.
struct InSpan {
    name: &'static str,
    seen: Sender<(bool, String)>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for InSpan {
    fn on_event(&self, event: &tracing::Event<'_>, context: layer::Context<'_, S>) {
        let mut spans = context.event_scope(event).into_iter().flatten();
        let is_in_span = spans.any(|span| span.name() == self.name);
        // Other tests of this binary are not in this subscriber's scope, but threads of this one may outlive the receiver.
        let _ = self.seen.send((is_in_span, event.metadata().target().to_owned()));
    }
}

#[test]
fn what_a_job_logs_is_in_the_span_in_which_it_was_run() {
    let job = || {
        let taken = rows(1..=40).inspect(|row| tracing::info!(target: "iterator", "{}", row.user()));
        Job::new(busy_at_first(), taken).on_event(|event| tracing::info!(target: "observer", "{event:?}"))
    };
    type Run = Pin<Box<dyn Future<Output = Result<Summary, zim_batch::Error>> + Send>>;
    let instrumented = |job: Job<_>| -> Run { Box::pin(job.run().instrument(info_span!("night"))) };
    let called_in_span = |job: Job<_>| -> Run { Box::pin(info_span!("night").in_scope(|| job.run())) };
    for run in [&instrumented as &dyn Fn(_) -> Run, &called_in_span] {
        let (seen, events) = channel();
        let _default = tracing::subscriber::set_default(registry().with(InSpan { name: "night", seen }));
        in_paused_time(async {
            assert!(tokio::spawn(run(job())).await.unwrap().unwrap().is_success());
        });
        let events: Vec<_> = events.try_iter().collect();
        for target in ["iterator", "observer", "zim_batch::run::row_task"] {
            assert!(events.iter().any(|(_, seen)| seen == target), "{target}");
        }
        let outside: Vec<_> = events.iter().filter(|(is_in_span, _)| !is_in_span).collect();
        assert!(outside.is_empty(), "{outside:?}");
    }
}

fn why_input_failed(summary: &Summary) -> String {
    let Some(StopReason::InputFailed(cause)) = &summary.stopped else {
        panic!("{summary:?}")
    };
    cause.to_string()
}

#[test]
fn the_first_error_of_an_iterator_or_a_stream_ends_the_run_after_the_rows_before_it() {
    in_paused_time(async {
        for job in [
            Job::try_new(busy_at_first(), rows_then_error()),
            Job::from_stream(
                busy_at_first(),
                stream(rows_then_error().collect::<Vec<_>>().into_iter()),
            ),
        ] {
            let summary = job.run().await.unwrap();
            assert_eq!((summary.ok, summary.retries, summary.rows), (3, 3, 3), "{summary:?}");
            assert_eq!(why_input_failed(&summary), "the database has gone away");
            let source = summary.stopped.as_ref().and_then(|stopped| stopped.source());
            assert!(source.is_some_and(|source| source.is::<io::Error>()), "{source:?}");
        }
    });
}

#[test]
fn an_iterator_or_a_stream_that_panics_is_said_to_be_the_callers() {
    in_paused_time(async {
        let panics = || {
            rows(1..=4).map(|row| {
                assert_ne!(row.user(), "u4", "no such table");
                io::Result::Ok(row)
            })
        };
        for job in [
            Job::try_new(busy_at_first(), panics()),
            Job::from_stream(busy_at_first(), stream(panics())),
        ] {
            let summary = job.run().await.unwrap();
            assert_eq!((summary.ok, summary.rows), (3, 3), "{summary:?}");
            let why = why_input_failed(&summary);
            assert!(
                why.contains("the source of the rows panicked") && why.contains("no such table"),
                "{why}"
            );
        }
    });
}

#[test]
fn all_rows_of_a_stream_are_sent_in_order() {
    in_paused_time(async {
        let (seen, records) = std::sync::mpsc::channel();
        let job = Job::from_stream(ok(), stream(rows(1..=30).map(io::Result::Ok)));
        let job = job.on_record(move |record| seen.send((record.line, record.user.clone())).unwrap());
        let summary = job.run().await.unwrap();
        assert_eq!((summary.ok, summary.is_success()), (30, true));
        let expected: Vec<_> = (1..=30).map(|line| (line, format!("u{line}"))).collect();
        assert_eq!(records.iter().collect::<Vec<_>>(), expected);
    });
}

#[test]
fn rows_taken_from_an_iterator_are_at_most_64_ahead_and_each_is_counted() {
    for stop_after in [1, 7, 40] {
        in_paused_time(async {
            let taken = Arc::new(AtomicUsize::new(0));
            let counter = Arc::clone(&taken);
            let endless = (1..).map(move |line: u64| {
                counter.fetch_add(1, Ordering::SeqCst);
                Row::new(format!("u{line}"), "#team", ConvType::Group).unwrap()
            });
            let stop = StopHandle::new();
            let (mut left, stopping, seen) = (stop_after, stop.clone(), Arc::clone(&taken));
            let job = Job::new(ok(), endless).stop_handle(stop).on_event(move |event| {
                if let Event::Sent { .. } = event {
                    left -= 1;
                    // One row waits for its start; its request is not among those that were sent.
                    assert!(seen.load(Ordering::SeqCst) <= stop_after - left + 64);
                    if left == 0 {
                        stopping.cancel();
                    }
                }
            });
            let summary = job.run().await.unwrap();
            assert!(
                summary.is_consistent() && summary.ok >= stop_after as u64,
                "{summary:?}"
            );
            assert_eq!(summary.rows, taken.load(Ordering::SeqCst) as u64, "{summary:?}");
            assert_eq!(summary.stopped, Some(StopReason::Cancelled));
        });
    }
}

#[test]
fn a_row_taken_from_a_stream_is_at_most_one_ahead_and_is_counted() {
    in_paused_time(async {
        let taken = Arc::new(AtomicUsize::new(0));
        let (counter, seen) = (Arc::clone(&taken), Arc::clone(&taken));
        let endless = rows(1..=u64::MAX).inspect(move |_| _ = counter.fetch_add(1, Ordering::SeqCst));
        let (stop, mut sent) = (StopHandle::new(), 0);
        let stopping = stop.clone();
        let job = Job::from_stream(ok(), stream(endless.map(io::Result::Ok))).stop_handle(stop);
        let job = job.on_event(move |event| {
            if let Event::Sent { .. } = event {
                sent += 1;
                assert!(seen.load(Ordering::SeqCst) <= sent + 1);
                if sent == 10 {
                    stopping.cancel();
                }
            }
        });
        let summary = job.run().await.unwrap();
        assert!(summary.is_consistent() && summary.ok >= 10, "{summary:?}");
        assert_eq!(summary.rows, taken.load(Ordering::SeqCst) as u64, "{summary:?}");
    });
}

#[test]
fn a_client_and_the_simulator_are_on_the_paused_clock_too() {
    in_paused_time(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Options::default();
        let client = Client::builder(app.app_id, app.server_secret.clone()).endpoint(endpoint);
        tokio::spawn(serve(listener, World::sample(), app, None, std::future::pending()));
        let rows = (1..=400).map(|number| Row::new("archivist", format!("c{number:04}"), ConvType::Peer));
        let job = Job::from_stream(client.build().unwrap(), stream(rows));
        let summary = job.run().await.unwrap();
        assert_eq!(
            (summary.ok, summary.requests, summary.limited),
            (400, 400, 0),
            "{summary:?}"
        );
        assert!((19.5..21.0).contains(&summary.elapsed_s), "{summary:?}");
    });
}
