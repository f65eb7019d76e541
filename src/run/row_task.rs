//! One row's way from the gate to its outcome: attempt → verdict → breaker and retry state → event.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::breaker::{Admission, FirstFailure, Signal, Transition};
use super::policy::clock_says;
use super::retry::{RetryDecision, RetryState};
use super::{Entry, InFlightPermit, Message, RowPermit, Shared};
use crate::client::verdict::{TransportError, Verdict};
use crate::client::{Attempt, Gate, Item, Service};
use crate::code::{self, Class};
use crate::event::Event;
use crate::row::{Numbered, Outcome, Record};
use crate::sealed::Sealed;
use crate::stop::StopReason;

/// A clock so far off makes ZIM refuse every signature (ZEGO, "Accessing Server APIs": ten minutes). In seconds.
const CLOCK_TOO_FAR_OFF: u64 = 10 * 60;

/// Stays with the row until it has an outcome, or a stop comes first.
pub(super) async fn run<S: Service>(item: Numbered<S::Item>, _place: RowPermit, entry: Entry, run: Arc<Shared<S>>) {
    let (event, in_flight) = settle(item, entry, &run).await;
    run.send(Message::Event(event, in_flight));
}

/// Returns the row's last event, and with an outcome the in-flight permit of its last request.
async fn settle<S: Service>(
    Numbered { line, mut item }: Numbered<S::Item>,
    mut entry: Entry,
    run: &Shared<S>,
) -> (Event, Option<InFlightPermit>) {
    const NOT_RUN: (Event, Option<InFlightPermit>) = (super::NOT_RUN, None);
    let new_state = || RetryState::new(run.limits.max_attempts.get());
    let (mut state, mut first_failure, mut alone) = (new_state(), FirstFailure::default(), None);
    // Of all its requests, each of which has tries of its own.
    let mut sent = 0;
    loop {
        let start = Start::new(run, &entry, state.sent > 0);
        let attempt = tokio::select! {
            biased;
            () = start.given_up() => return NOT_RUN,
            attempt = run.service.attempt(&mut item, &start) => attempt,
        };
        let Some(mut attempt) = attempt else {
            // The old place is given up first: it may be the only one.
            drop(entry);
            entry = tokio::select! {
                biased;
                () = run.stop.stopping() => return NOT_RUN,
                entry = run.enter(false) => entry,
            };
            continue;
        };
        let was_sent = u32::from(attempt.started_at.is_some());
        (state.sent, sent) = (state.sent + was_sent, sent + was_sent);
        run.breaker.reclassify(&mut attempt.verdict);
        run.tell(answered(&attempt));
        log(line, state.sent, &attempt.verdict);
        let counts = note(
            run,
            &entry.admission,
            &attempt,
            &mut first_failure,
            state.is_last_attempt(),
        );
        // The limiter's permit and the breaker's admission are released here; only the in-flight permit is kept.
        let Entry {
            in_flight,
            admission,
            permit,
        } = entry;
        drop((admission, permit));
        let (pause, is_to_be_alone) = match state.next(&attempt.verdict, counts, run.breaker.has_accepted_signature()) {
            RetryDecision::Done(Outcome::Ok) if attempt.has_more => {
                drop(in_flight);
                (state, first_failure, alone) = (new_state(), FirstFailure::default(), None);
                entry = tokio::select! {
                    biased;
                    () = run.stop.stopping() => return NOT_RUN,
                    entry = run.enter(false) => entry,
                };
                continue;
            }
            RetryDecision::Done(outcome) => {
                let record = record(line, item, outcome, sent, attempt);
                return (Event::Settled(Box::new(record)), Some(in_flight));
            }
            RetryDecision::Abort => {
                let why = why_no_row_can_succeed(&attempt);
                let unknown_ca = attempt.verdict.transport == Some(TransportError::Untrusted);
                run.stop.drain(StopReason::Fatal { line, unknown_ca, why });
                return NOT_RUN;
            }
            RetryDecision::Retry(pause) => (pause, false),
            RetryDecision::RetryAlone(pause) => (pause, true),
        };
        drop(in_flight);
        if !is_to_be_alone {
            alone = None;
        } else if alone.is_none() {
            alone = Some(tokio::select! {
                biased;
                () = run.stop.stopping() => return NOT_RUN,
                alone = run.breaker.try_alone() => alone,
            });
        }
        run.tell(Event::Retrying);
        entry = tokio::select! {
            biased;
            () = run.stop.stopping() => return (Event::NotRun { was_retrying: true }, None),
            entry = async { sleep(pause).await; run.enter(false).await } => entry,
        };
        run.tell(Event::Waited);
    }
}

/// The gate of one attempt: waits for breaker and limiter when the connection is open, and reports the start to the limiter
/// and the loop.
struct Start<'a, S: Service> {
    run: &'a Shared<S>,
    entry: &'a Entry,
    is_retry: bool,
    passage: Mutex<Passage>,
    changed: Notify,
}

/// How far an attempt has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passage {
    /// It has not passed, or its connection was closed, and another one had to be opened.
    Waiting,
    /// It was let through at this moment, and may start at any.
    Passed(Instant),
    Started,
}

impl<S: Service> Sealed for Start<'_, S> {}

impl<S: Service> Gate for Start<'_, S> {
    async fn pass(&self) {
        self.set(Passage::Waiting);
        let granted = loop {
            self.entry.admission.held().await;
            let granted = self.entry.permit.start().await;
            if self.entry.admission.holds() {
                break granted;
            }
        };
        self.set(Passage::Passed(granted));
    }

    fn started(&self, at: Instant) {
        if let Passage::Passed(granted) = std::mem::replace(&mut *self.passage(), Passage::Started) {
            self.entry.permit.started(granted, at);
        }
        let is_retry = self.is_retry;
        self.run.tell(Event::Sent { at, is_retry });
    }
}

impl<'a, S: Service> Start<'a, S> {
    fn new(run: &'a Shared<S>, entry: &'a Entry, is_retry: bool) -> Start<'a, S> {
        Start {
            run,
            entry,
            is_retry,
            passage: Mutex::new(Passage::Waiting),
            changed: Notify::new(),
        }
    }

    fn passage(&self) -> MutexGuard<'_, Passage> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, passage: Passage) {
        *self.passage() = passage;
        self.changed.notify_waiters();
    }

    /// Completes when the attempt is to be given up. One that has passed is finished, unless the run is aborted.
    async fn given_up(&self) {
        self.run.stop.stopping().await;
        let not_passed = async {
            loop {
                let changed = self.changed.notified();
                if *self.passage() == Passage::Waiting {
                    return;
                }
                changed.await;
            }
        };
        tokio::select! {
            () = self.run.stop.aborting() => {}
            () = not_passed => {}
        }
    }
}

/// Tells the limiter and the breaker what an attempt came to, and the world when an outage begins or ends. `true` if the
/// attempt counts against the row.
fn note<S: Service>(
    run: &Shared<S>,
    admission: &Admission,
    attempt: &Attempt,
    first_failure: &mut FirstFailure,
    is_last_attempt: bool,
) -> bool {
    let verdict = &attempt.verdict;
    match Signal::from(verdict) {
        Signal::Up => run.limiter.accepted(),
        Signal::Throttled => {
            let started_at = attempt.started_at.unwrap_or_else(Instant::now);
            run.limiter.limited(started_at, verdict.retry_after);
        }
        Signal::Down => {}
    }
    let (counts, transition) = run.breaker.record(admission, verdict, first_failure, is_last_attempt);
    match transition {
        Some(Transition::Opened) => {
            tracing::warn!(
                "on hold, because the service is unavailable: {}; sending a probe now and then, no row uses up attempts \
                 (giving up after {})",
                verdict.message,
                humantime::format_duration(run.limits.give_up_after)
            );
            let why = verdict.message.clone();
            run.tell(Event::Held { why });
        }
        Some(Transition::Closed) => {
            tracing::warn!("the service answers again: the run continues");
            run.tell(Event::Released);
        }
        None => {}
    }
    counts
}

fn answered(attempt: &Attempt) -> Event {
    Event::Answered {
        class: attempt.verdict.class,
        code: attempt.verdict.code,
        latency: attempt.started_at.map(|_| attempt.latency),
        clock_skew: attempt.clock_skew,
        trouble: (Signal::from(&attempt.verdict) == Signal::Down).then(|| attempt.verdict.message.clone()),
    }
}

fn record(line: u64, item: impl Item, outcome: Outcome, attempts: u32, attempt: Attempt) -> Record {
    let verdict = attempt.verdict;
    let key = item.key().map(str::to_owned);
    let mut record = Record {
        code: verdict.code,
        http: verdict.http,
        request_id: verdict.request_id,
        attempts,
        latency: Some(attempt.latency),
        ..Record::new(line, key, outcome, verdict.message)
    };
    item.complete(&mut record);
    record
}

fn log(line: u64, attempt: u32, verdict: &Verdict) {
    if matches!(verdict.class, Class::Ok | Class::Outside) {
        tracing::debug!(
            row = line,
            attempt,
            class = %verdict.class,
            request_id = verdict.request_id,
            "answered"
        );
    } else {
        tracing::info!(
            row = line,
            attempt,
            class = %verdict.class,
            code = verdict.code,
            http = verdict.http,
            "{}",
            verdict.message
        );
    }
}

/// What a fatal answer was, and what to do about it.
fn why_no_row_can_succeed(attempt: &Attempt) -> String {
    let verdict = &attempt.verdict;
    let Some(code) = verdict.code else {
        return verdict.message.clone();
    };
    let (meaning, advice) = code::find(code).map_or(("", ""), |known| (known.meaning, known.advice));
    let mut why = format!("ZIM rejected it: code {code}, {meaning} ('{}')", verdict.message);
    if !advice.is_empty() {
        why += &format!("; {advice}");
    }
    match attempt.clock_skew {
        Some(seconds) if verdict.class == Class::Signature && seconds.unsigned_abs() > CLOCK_TOO_FAR_OFF => {
            why += &format!("; {}: that is why, set the clock", clock_says(seconds));
        }
        _ => {}
    }
    why
}
