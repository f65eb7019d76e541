//! One row's way from the gate to its outcome.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::health::{FirstFailure, Sign, sign_of};
use super::lane::{Lane, Slot};
use super::tries::{Next, Tries};
use crate::client::verdict::Verdict;
use crate::client::{Attempt, Gate, Service};
use crate::code::{self, Class};
use crate::event::Event;
use crate::limiter::Permit;
use crate::row::Row;
use crate::row::{Outcome, Record};
use crate::stop::StopReason;

/// A clock so far off makes ZIM refuse every signature (ZEGO, "Accessing Server APIs": ten minutes).
const CLOCK_TOO_FAR_OFF: u64 = 10 * 60;

/// The right to try one request, with the slot that the request occupies.
pub(super) struct Granted {
    permit: Permit,
    slot: Slot,
}

impl Granted {
    async fn wait<S>(lane: &Lane<S>) -> Granted {
        let slot = lane.slot().await;
        let permit = lane.shared.limiter.acquire().await;
        Granted { permit, slot }
    }

    /// For a row's first request, which waits besides until there is no suspicion against all rows.
    pub async fn first<S>(lane: &Lane<S>) -> Granted {
        drop(lane.shared.suspicion.lock().await);
        Granted::wait(lane).await
    }
}

/// What an attempt passes when its connection is open: the limiter; and everybody learns that it has started.
struct Start<'a, S> {
    lane: &'a Lane<S>,
    permit: &'a Permit,
    is_retry: bool,
    /// When the limiter has let it through.
    granted: Mutex<Option<Instant>>,
    has_passed: watch::Sender<bool>,
}

impl<S: Send + Sync> Gate for Start<'_, S> {
    async fn pass(&self) {
        // If it has passed before, its connection was closed, and another one had to be opened.
        self.has_passed.send_replace(false);
        let granted = self.permit.start().await;
        *self.granted() = Some(granted);
        // From now on the request may leave at any moment.
        self.has_passed.send_replace(true);
    }

    fn started(&self, at: Instant) {
        let is_retry = self.is_retry;
        if let Some(granted) = self.granted().take() {
            self.permit.started(granted, at);
        }
        self.lane.tell(Event::Sent { at, is_retry }, None);
    }
}

impl<S> Start<'_, S> {
    fn granted(&self) -> MutexGuard<'_, Option<Instant>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the attempt is to be given up: what has passed is finished, unless the stop is at once.
    async fn given_up(&self) {
        let stop = &self.lane.shared.stop;
        let not_passed = async {
            stop.asked().await;
            // The sender is here.
            let _ = self.has_passed.subscribe().wait_for(|has_passed| !has_passed).await;
        };
        tokio::select! {
            () = stop.asked_at_once() => {}
            () = not_passed => {}
        }
    }
}

/// One of the workers: takes a row, stays with it until it has its outcome, and takes the next.
pub(super) async fn work<S: Service>(lane: Arc<Lane<S>>) {
    while let Some((row, granted)) = lane.next_row().await {
        let (end, slot) = work_on(row, granted, &lane).await;
        lane.tell(end, slot);
    }
}

/// Stays with the row until it has an outcome, or a stop comes first; gives the row's last event, and with an outcome the
/// slot of its last request.
async fn work_on<S: Service>(row: Row, mut granted: Granted, lane: &Lane<S>) -> (Event, Option<Slot>) {
    const NOT_RUN: (Event, Option<Slot>) = (Event::NotRun { was_retrying: false }, None);
    let shared = &*lane.shared;
    let mut tries = Tries::new(shared.limits.max_attempts);
    let mut first_failure = FirstFailure::default();
    let mut suspicion = None;
    loop {
        let Granted { permit, slot } = granted;
        let start = Start {
            lane,
            permit: &permit,
            is_retry: tries.sent > 0,
            granted: Mutex::default(),
            has_passed: watch::Sender::new(false),
        };
        let attempt = tokio::select! {
            biased;
            () = start.given_up() => return NOT_RUN,
            attempt = lane.service.attempt(&row, &start) => attempt,
        };
        let Some(mut attempt) = attempt else {
            drop(permit);
            let permit = tokio::select! {
                biased;
                () = shared.stop.asked() => return NOT_RUN,
                permit = shared.limiter.acquire() => permit,
            };
            granted = Granted { permit, slot };
            continue;
        };
        tries.sent += u32::from(attempt.started_at.is_some());
        shared.health().allow_for_answers_so_far(&mut attempt.verdict);
        lane.tell(answered(&attempt), None);
        let verdict = &attempt.verdict;
        trace(&row, &tries, &attempt);
        let started_at = attempt.started_at.unwrap_or_else(Instant::now);
        let for_free = note_health(lane, &permit, started_at, verdict, &mut first_failure, tries.is_last());
        drop(permit);
        let (pause, is_suspect) = match tries.next(verdict, for_free, shared.health().has_been_let_in()) {
            Next::Settle(outcome) => {
                let record = record(row, outcome, tries.sent, attempt);
                return (Event::Settled(Box::new(record)), Some(slot));
            }
            Next::StopReason => {
                let why = why_no_row_can_succeed(&attempt);
                shared.stop.drain(StopReason::Fatal { line: row.line, why });
                return NOT_RUN;
            }
            Next::Again(pause) => (pause, false),
            Next::Suspect(pause) => (pause, true),
        };
        drop(slot);
        if !is_suspect {
            suspicion = None;
        } else if suspicion.is_none() {
            suspicion = Some(tokio::select! {
                biased;
                () = shared.stop.asked() => return NOT_RUN,
                guard = shared.suspicion.lock() => guard,
            });
        }
        lane.tell(Event::Retrying, None);
        granted = tokio::select! {
            biased;
            () = shared.stop.asked() => return (Event::NotRun { was_retrying: true }, None),
            granted = async { sleep(pause).await; Granted::wait(lane).await } => granted,
        };
        lane.tell(Event::Waited, None);
    }
}

/// Tells the limiter and the health what an attempt came to, and the world when an outage begins or ends. `true` if
/// the service is gone, so that the attempt does not count.
fn note_health<S>(
    lane: &Lane<S>,
    permit: &Permit,
    started: Instant,
    verdict: &Verdict,
    first_failure: &mut FirstFailure,
    is_last_try: bool,
) -> bool {
    let shared = &*lane.shared;
    let sign = sign_of(verdict);
    let is_outage = {
        let mut health = shared.health();
        health.note(verdict, first_failure, Instant::now()) || (is_last_try && health.excuses(verdict, *first_failure))
    };
    let limiter = &shared.limiter;
    let is_back = match sign {
        Sign::Answers => limiter.accepted(),
        Sign::Limits => limiter.limited(started, verdict.retry_after),
        Sign::Fails => {
            limiter.probe_failed(permit, verdict.retry_after);
            false
        }
    };
    if is_back {
        tracing::warn!("the service answers again: going on");
        lane.tell(Event::Released, None);
    }
    if sign != Sign::Fails {
        return false;
    }
    if is_outage && limiter.hold(verdict.retry_after) {
        tracing::warn!(
            "on hold, because the service can't be reached: {}; sending a probe now and then, no row uses up attempts \
             (giving up after {})",
            verdict.message,
            humantime::format_duration(shared.limits.give_up_after)
        );
        let why = verdict.message.clone();
        lane.tell(Event::Held { why }, None);
    }
    let for_free = limiter.is_held();
    if for_free {
        // It was not for the row: if the service goes again, this row's next failure is a first one.
        *first_failure = FirstFailure::default();
    }
    for_free
}

fn answered(attempt: &Attempt) -> Event {
    Event::Answered {
        class: attempt.verdict.class,
        code: attempt.verdict.code,
        latency: attempt.started_at.map(|_| attempt.latency),
        clock_skew: attempt.clock_skew,
        trouble: (sign_of(&attempt.verdict) == Sign::Fails).then(|| attempt.verdict.message.clone()),
    }
}

fn record(row: Row, outcome: Outcome, attempts: u32, attempt: Attempt) -> Record {
    Record {
        line: row.line,
        user: row.user,
        conv: row.conv,
        conv_type: row.conv_type.as_str().into(),
        outcome,
        code: attempt.verdict.code,
        http: attempt.verdict.http,
        message: attempt.verdict.message,
        request_id: attempt.verdict.request_id,
        attempts,
        latency: Some(attempt.latency),
        finished_at: SystemTime::now(),
    }
}

fn trace(row: &Row, tries: &Tries, attempt: &Attempt) {
    let verdict = &attempt.verdict;
    if matches!(verdict.class, Class::Ok | Class::Outside) {
        tracing::debug!(
            row = row.line,
            attempt = tries.sent,
            class = %verdict.class,
            request_id = verdict.request_id,
            "answered"
        );
    } else {
        tracing::info!(
            row = row.line,
            attempt = tries.sent,
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

/// How far this machine's clock is off.
pub(super) fn clock_says(seconds_ahead: i64) -> String {
    let amount = humantime::format_duration(std::time::Duration::from_secs(seconds_ahead.unsigned_abs()));
    let way = if seconds_ahead < 0 { "behind" } else { "ahead of" };
    format!("this machine's clock is {amount} {way} the server's")
}
