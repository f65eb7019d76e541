//! What a stop leaves: nothing starts after it, every row that was taken counts, and first rows that are all rejected are a
//! reason.

use std::collections::HashSet;
use std::time::Duration;

use zim_batch::{StopReason, Summary};

use crate::job::Ended;
use crate::life::{FeedKind, What};
use crate::report::Row;
use crate::stage::{Stage, name};
use crate::world::Sent;

/// So many users must be rejected with the same answer.
const REJECTED_USERS: usize = 20;

/// How late a time limit may be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(1);

pub fn check(stage: &Stage, ended: &Ended, summary: &Summary, sent: &[Sent], new: &[&Row]) {
    nothing_starts(stage, ended, sent);
    taken_rows(stage, ended, summary);
    if stage.life.jobs[ended.run.0].users.is_none() {
        rejected_alike(stage, ended, summary, new);
    }
}

/// No request starts when the run was stopped from outside, or has lasted as long as it may.
fn nothing_starts(stage: &Stage, ended: &Ended, sent: &[Sent]) {
    let is_stall = |what: &What| matches!(what, What::Stall(_));
    let has_stall = stage.life.events.iter().any(|event| is_stall(&event.what));
    let most = ended.flags.max_duration_s.filter(|_| !has_stall);
    let due = most.map(|most| stage.clock.passed_at(ended.began, Duration::from_secs(most)) + NOTICED_WITHIN);
    let stopped = ended.stopped.as_ref().map(|stopped| stopped.at);
    let Some(at) = stopped.into_iter().chain(due).min() else {
        return;
    };
    if let Some(late) = sent.iter().find(|sent| sent.at > at) {
        let how = format!("{}: stopped at {at:?}, sent at {:?}", name(ended.run), late.at);
        stage.violated("nothing starts after a stop", how);
    }
}

/// The rows that were taken from a program's source are in the summary, with or without an outcome. One may come too late:
/// a stop does not wait for what an iterator has not returned.
fn taken_rows(stage: &Stage, ended: &Ended, summary: &Summary) {
    let Some(fed) = ended.fed.as_ref().filter(|fed| fed.kind.is_of_program()) else {
        return;
    };
    // What it has returned in the end may be an error.
    let taken = fed
        .taken
        .load(std::sync::atomic::Ordering::Relaxed)
        .min(fed.rows as u64);
    let late = u64::from(fed.kind != FeedKind::Stream);
    if !ended.disk_failed && !(summary.rows..=summary.rows + late).contains(&taken) {
        let how = format!("{}: {taken} taken, {} counted", name(ended.run), summary.rows);
        stage.violated("every row that was taken is counted", how);
    }
}

/// When the first rows are all rejected alike, the run stops; not when they are those of a few users.
fn rejected_alike(stage: &Stage, ended: &Ended, summary: &Summary, new: &[&Row]) {
    let tried: Vec<&Row> = new
        .iter()
        .copied()
        .filter(|record| !matches!(record.outcome.as_str(), "invalid" | "skipped"))
        .collect();
    let is_alike =
        |record: &&&Row| record.outcome == "failed" && (record.code, record.http) == (tried[0].code, tried[0].http);
    let alike = tried.iter().take_while(is_alike);
    let mut users = HashSet::new();
    let due = alike.clone().position(|record| {
        users.insert(&record.key[0]);
        users.len() == REJECTED_USERS
    });
    let is_so = matches!(summary.stopped, Some(StopReason::AllRejected { .. }));
    let is_first = ended.before.is_empty();
    // Those that are in flight by then have their outcomes too.
    let must_stop = is_first && due.is_some_and(|due| tried.len() > due + 1 + ended.flags.max_in_flight);
    if (is_so && !(is_first && due.is_some())) || (must_stop && summary.stopped.is_none()) {
        let how = format!(
            "{}: {} of {} rows, {} users, {:?}",
            name(ended.run),
            alike.count(),
            tried.len(),
            users.len(),
            summary.stopped
        );
        stage.violated("first rows that are all rejected alike stop a run", how);
    }
}
