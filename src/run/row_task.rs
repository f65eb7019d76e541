//! One row's way from the gate to its outcome: attempt → verdict → breaker and retry state → event.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::attempt_gate::AttemptGate;
use super::breaker::{Admission, Alone, FirstFailure, Signal, Transition};
use super::policy::clock_says;
use super::retry::{RetryDecision, RetryState};
use super::{Entry, InFlightPermit, Message, RowPermit, Shared};
use crate::client::verdict::{TransportError, Verdict};
use crate::client::{Attempt, Item, Service};
use crate::code::{self, Class};
use crate::event::Event;
use crate::row::{Numbered, Outcome, Record};
use crate::stop::StopReason;

/// A clock so far off makes ZIM refuse every signature (ZEGO, "Accessing Server APIs": ten minutes). In seconds.
const CLOCK_TOO_FAR_OFF: u64 = 10 * 60;

/// Stays with the row until it has an outcome, or a stop comes first; then sends its last event, and with an outcome the
/// in-flight permit of its last request.
pub(super) async fn run<S: Service>(item: Numbered<S::Item>, _place: RowPermit, entry: Entry, run: Arc<Shared<S>>) {
    let task = RowTask {
        tries: Tries::new(&run),
        run: &run,
        line: item.line,
        item: item.item,
        sent: 0,
    };
    let (event, in_flight) = match task.settle(entry).await {
        Ok((record, in_flight)) => (Event::Settled(Box::new(record)), Some(in_flight)),
        Err(Stopped { was_retrying }) => (Event::NotRun { was_retrying }, None),
    };
    run.send(Message::Event(event, in_flight));
}

/// A row under way.
struct RowTask<'a, S: Service> {
    run: &'a Shared<S>,
    line: u64,
    item: S::Item,
    /// Requests sent for the row.
    sent: u32,
    /// The tries of the present request. A clear has one request, a list one for each page.
    tries: Tries,
}

/// What there is to know of the tries of one request.
struct Tries {
    state: RetryState,
    first_failure: FirstFailure,
    /// An attempt has failed.
    has_failed: bool,
    /// Keeps new rows waiting while this one is tried alone.
    alone: Option<Alone>,
}

/// The run stops, and the row has no outcome.
struct Stopped {
    /// It was waiting for another attempt.
    was_retrying: bool,
}

/// An attempt that was made.
struct Attempted {
    attempt: Attempt,
    /// It counts against the row.
    counts: bool,
    in_flight: InFlightPermit,
}

impl Tries {
    fn new<S: Service>(run: &Shared<S>) -> Tries {
        Tries {
            state: RetryState::new(run.limits.max_attempts.get()),
            first_failure: FirstFailure::default(),
            has_failed: false,
            alone: None,
        }
    }
}

impl<S: Service> RowTask<'_, S> {
    /// Makes attempts until the row has its outcome.
    async fn settle(mut self, mut entry: Entry) -> Result<(Record, InFlightPermit), Stopped> {
        loop {
            let Attempted {
                attempt,
                counts,
                in_flight,
            } = self.attempt(entry).await?;
            let was_accepted = self.run.breaker.has_accepted_signature();
            entry = match self.tries.state.next(&attempt.verdict, counts, was_accepted) {
                RetryDecision::Done(Outcome::Ok) if attempt.has_more => {
                    drop(in_flight);
                    self.tries = Tries::new(self.run);
                    self.enter().await?
                }
                RetryDecision::Done(outcome) => return Ok((self.record(outcome, attempt), in_flight)),
                RetryDecision::Abort => return Err(self.abort(&attempt)),
                RetryDecision::Retry(pause) => {
                    drop(in_flight);
                    self.tries.alone = None;
                    self.enter_after(pause).await?
                }
                RetryDecision::RetryAlone(pause) => {
                    drop(in_flight);
                    self.be_alone().await?;
                    self.enter_after(pause).await?
                }
            };
        }
    }

    /// Makes one attempt, and tells the loop, the limiter and the breaker about it. Gives up all of `entry` but the in-flight
    /// permit.
    async fn attempt(&mut self, mut entry: Entry) -> Result<Attempted, Stopped> {
        let mut attempt = loop {
            match self.try_entry(&entry).await? {
                Some(attempt) => break attempt,
                // The connection may have been closed during the wait, so the row has to enter again. The old place is given
                // up first: it may be the only one.
                None => {
                    drop(entry);
                    entry = self.enter().await?;
                }
            }
        };
        let was_sent = u32::from(attempt.started_at.is_some());
        self.tries.state.sent += was_sent;
        self.sent += was_sent;
        self.run.breaker.reclassify(&mut attempt.verdict);
        self.run.tell(answered(&attempt));
        log(self.line, self.tries.state.sent, &attempt.verdict);
        let counts = self.tell_breaker(&entry.admission, &attempt.verdict);
        self.tell_limiter(&attempt, counts);
        Ok(Attempted {
            attempt,
            counts,
            in_flight: entry.in_flight,
        })
    }

    /// Makes one attempt; `None` if nothing was sent, because the connection had waited too long at the gate.
    async fn try_entry(&mut self, entry: &Entry) -> Result<Option<Attempt>, Stopped> {
        let gate = AttemptGate::new(self.run, entry, self.tries.state.sent > 0);
        tokio::select! {
            biased;
            () = gate.given_up() => Err(Stopped { was_retrying: false }),
            attempt = self.run.service.attempt(&mut self.item, &gate) => Ok(attempt),
        }
    }

    /// Enters for the row's next request.
    async fn enter(&self) -> Result<Entry, Stopped> {
        self.unless_stopped(self.run.enter(self.tries.has_failed)).await
    }

    /// Enters for another try of the same request, after a pause.
    async fn enter_after(&mut self, pause: Duration) -> Result<Entry, Stopped> {
        self.tries.has_failed = true;
        self.run.tell(Event::Retrying);
        let entered = self.unless_stopped(async {
            sleep(pause).await;
            self.run.enter(true).await
        });
        let entry = entered.await.map_err(|_| Stopped { was_retrying: true })?;
        self.run.tell(Event::Waited);
        Ok(entry)
    }

    /// Waits until no other row is tried alone; from then on, this one is.
    async fn be_alone(&mut self) -> Result<(), Stopped> {
        if self.tries.alone.is_none() {
            let alone = self.unless_stopped(self.run.breaker.try_alone()).await?;
            self.tries.alone = Some(alone);
        }
        Ok(())
    }

    async fn unless_stopped<T>(&self, awaited: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.run.stop.stopping() => Err(Stopped { was_retrying: false }),
            ready = awaited => Ok(ready),
        }
    }

    /// Stops the run, because no row can succeed.
    fn abort(&self, attempt: &Attempt) -> Stopped {
        self.run.stop.drain(StopReason::Fatal {
            line: self.line,
            unknown_ca: attempt.verdict.transport == Some(TransportError::Untrusted),
            why: why_no_row_can_succeed(attempt),
        });
        Stopped { was_retrying: false }
    }

    /// `counts`: the service is not known to be unavailable.
    fn tell_limiter(&self, attempt: &Attempt, counts: bool) {
        let limiter = &self.run.limiter;
        let started_at = attempt.started_at.unwrap_or_else(Instant::now);
        match Signal::from(&attempt.verdict) {
            Signal::Up => limiter.accepted(started_at),
            Signal::Throttled => limiter.limited(started_at, attempt.verdict.retry_after),
            Signal::Down if counts && attempt.verdict.may_be_limit() => limiter.unclear(started_at),
            Signal::Down => {}
        }
    }

    /// Tells the breaker, and the observers when an outage begins or ends. Returns whether the attempt counts against the row.
    fn tell_breaker(&mut self, admission: &Admission, verdict: &Verdict) -> bool {
        let run = self.run;
        let Tries {
            state, first_failure, ..
        } = &mut self.tries;
        let (counts, transition) = run
            .breaker
            .record(admission, verdict, first_failure, state.is_last_attempt());
        match transition {
            Some(Transition::Opened) => {
                run.limiter.outage();
                tracing::warn!(
                    "on hold, because the service is unavailable: {}; probing until it answers, which uses up no attempts \
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

    fn record(self, outcome: Outcome, attempt: Attempt) -> Record {
        let verdict = attempt.verdict;
        let key = self.item.key().map(str::to_owned);
        let mut record = Record {
            code: verdict.code,
            http: verdict.http,
            request_id: verdict.request_id,
            attempts: self.sent,
            latency: Some(attempt.latency),
            subject: self.item.subject(),
            ..Record::new(self.line, key, outcome, verdict.message)
        };
        self.item.complete(&mut record);
        record
    }
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
