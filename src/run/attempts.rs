//! One row's way from the gate to its outcome.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::{Instant, sleep};

use super::health::{FirstFailure, Sign, sign_of};
use super::lane::{Lane, Slot};
use super::tries::{Next, Tries};
use crate::client::code::{self, Class};
use crate::client::verdict::Verdict;
use crate::client::{Attempt, Service};
use crate::event::{Event, Outcome, Record};
use crate::limiter::Pass;
use crate::rows::Row;
use crate::stop::Stop;

/// A clock so far off makes ZIM refuse every signature (ZEGO, "Accessing Server APIs": ten minutes).
const CLOCK_TOO_FAR_OFF: u64 = 10 * 60;

/// The right to send one request now, with the slot that the request occupies and what it leaves on.
pub(super) struct Granted<S: Service> {
    pass: Pass,
    slot: Slot,
    lease: S::Lease,
}

impl<S: Service> Granted<S> {
    /// First the slot and a connection, then the gate: what the gate grants must leave at once.
    async fn wait(lane: &Lane<S>) -> Granted<S> {
        let slot = lane.slot().await;
        let lease = lane.service.lease().await;
        let pass = lane.shared.limiter.ready().await;
        Granted { pass, slot, lease }
    }

    /// For a row's first request, which waits besides until there is no suspicion against all rows.
    pub async fn first(lane: &Lane<S>) -> Granted<S> {
        drop(lane.shared.suspicion.lock().await);
        Granted::wait(lane).await
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
async fn work_on<S: Service>(row: Row, mut granted: Granted<S>, lane: &Lane<S>) -> (Event, Option<Slot>) {
    let shared = &*lane.shared;
    let mut tries = Tries::new(shared.limits.max_attempts);
    let mut first_failure = FirstFailure::default();
    let mut suspicion = None;
    loop {
        let Granted { pass, slot, lease } = granted;
        let started = Instant::now();
        tries.sent += 1;
        let is_retry = tries.sent > 1;
        lane.tell(Event::Sent { at: started, is_retry }, None);
        let attempt = tokio::select! {
            biased;
            () = shared.stopper.asked_at_once() => return (Event::NotRun { was_retrying: false }, None),
            attempt = lane.service.attempt(&row, lease) => attempt,
        };
        lane.tell(answered(&attempt), None);
        let verdict = &attempt.verdict;
        trace(&row, &tries, &attempt);
        let for_free = note_health(lane, pass, started, verdict, &mut first_failure, tries.is_last());
        let (pause, is_suspect) = match tries.next(verdict, for_free) {
            Next::Settle(outcome) => {
                let record = record(row, outcome, tries.sent, attempt);
                return (Event::Settled(Box::new(record)), Some(slot));
            }
            Next::Stop => {
                let why = why_no_row_can_succeed(&attempt);
                shared.stopper.drain(Stop::Fatal { line: row.line, why });
                return (Event::NotRun { was_retrying: false }, None);
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
                () = shared.stopper.asked() => return (Event::NotRun { was_retrying: false }, None),
                guard = shared.suspicion.lock() => guard,
            });
        }
        lane.tell(Event::Retrying, None);
        granted = tokio::select! {
            biased;
            () = shared.stopper.asked() => return (Event::NotRun { was_retrying: true }, None),
            granted = async { sleep(pause).await; Granted::wait(lane).await } => granted,
        };
    }
}

/// Tells the limiter and the health what an attempt came to, and the world when an outage begins or ends. `true` if
/// the service is gone, so that the attempt does not count.
fn note_health<S>(
    lane: &Lane<S>,
    pass: Pass,
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
            if pass.is_probe {
                limiter.probe_failed(verdict.retry_after);
            }
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
        latency: attempt.latency,
        clock_ahead: attempt.clock_ahead,
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
        return format!(
            "{}; check the endpoint, or name the CA's certificate with --ca-cert",
            verdict.message
        );
    };
    let (meaning, advice) = code::find(code).map_or(("", ""), |known| (known.meaning, known.advice));
    let mut why = format!("ZIM rejected it: code {code}, {meaning} ('{}')", verdict.message);
    if !advice.is_empty() {
        why += &format!("; {advice}");
    }
    match attempt.clock_ahead {
        Some(seconds) if verdict.class == Class::Resign && seconds.unsigned_abs() > CLOCK_TOO_FAR_OFF => {
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
