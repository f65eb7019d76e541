//! What reports say of rows, compared with what the world knows.

use std::collections::HashMap;
use std::time::Duration;

use crate::life::{Life, Limiter, What};
use crate::promises::Repeats;
use crate::report::Row;
use crate::stage::Stage;
use crate::world::{Asked, Fate, Key, RunId, Said, World};

/// What the report says of each row is what the world knows.
pub fn check(stage: &Stage, job: usize, records: &[Row]) {
    let (world, repeats) = (stage.world(), Repeats::of(stage));
    let mut answers: HashMap<&Key, Vec<Option<Said>>> = HashMap::new();
    for sent in world.requests.iter().filter(|sent| sent.run.0 == job) {
        if let Asked::Clear(key) = &sent.asked {
            answers
                .entry(key)
                .or_default()
                .push(sent.answered.map(|(_, said)| said));
        }
    }
    let is_calm = is_calm(&stage.life);
    let fewest = stage
        .job(job)
        .runs
        .iter()
        .map(|run| run.flags.max_attempts)
        .min()
        .unwrap_or(0);
    let most = stage
        .job(job)
        .runs
        .iter()
        .map(|run| run.flags.max_attempts)
        .max()
        .unwrap_or(0)
        .into();
    let stands_still = stage
        .life
        .events
        .iter()
        .any(|event| matches!(event.what, What::Stall(_)));
    let mut failed_in_trouble = 0;
    for record in records {
        let (fate, said) = (
            world.fate(&record.key),
            answers.get(&record.key).cloned().unwrap_or_default(),
        );
        let was_said = said
            .iter()
            .flatten()
            .any(|said| said.code == record.code && Some(said.http) == record.http);
        let is_true = match record.outcome.as_str() {
            "ok" => world.cleared.contains(&record.key) && was_said && record.code == Some(0),
            "outside" => fate == Fate::Outside && was_said,
            "failed" if record.http.is_none() => {
                said.contains(&None) || record.message == "connection refused" || record.message.contains("timed out")
            }
            "failed" => was_said && record.code != Some(0),
            _ => said.is_empty() || !repeats.is_unique(&Asked::Clear(record.key.clone())),
        };
        let latencies = || {
            let asked = Asked::Clear(record.key.clone());
            let sent = world
                .requests
                .iter()
                .filter(move |sent| sent.run.0 == job && sent.asked == asked);
            sent.filter_map(|sent| Some((sent.answered?.0 - sent.at).as_millis() as i64))
        };
        let said_latency = record.latency_ms.parse::<i64>().ok();
        if !stands_still
            && record.code.is_some()
            && !latencies().any(|latency| said_latency.is_some_and(|said| (said - latency).abs() <= 2))
        {
            let how = format!("job {job}: {record:?}, but {:?} ms", latencies().collect::<Vec<_>>());
            stage.violated("what is recorded is what happened", how);
        }
        if !is_true {
            let how = format!("job {job}: {record:?}, but {fate:?}, and {said:?} was answered");
            stage.violated("what is recorded is what happened", how);
        }
        failed_in_trouble += usize::from(fate == Fate::Ok && record.outcome == "failed");
        let must_be_ok = match fate {
            Fate::Ok => true,
            Fate::Flaky(_, fails) => fails < fewest,
            _ => false,
        };
        if is_calm && must_be_ok && record.outcome == "failed" {
            stage.violated(
                "a row that can be cleared is cleared",
                format!("job {job}: {record:?}, {fate:?}"),
            );
        }
        let is_refusal =
            matches!(record.code, Some(7 | 660_300_005)) || (record.code.is_none() && record.http == Some(429));
        if record.outcome == "failed" && is_refusal {
            stage.violated("a refused request uses up no attempt", format!("job {job}: {record:?}"));
        }
        let counted = || record.attempts.saturating_sub(probes(stage, &world, job, &record.key));
        if is_calm && matches!(fate, Fate::Transient(_)) && record.attempts > most && counted() > most {
            let how = format!("job {job}: {record:?}");
            stage.violated("a row is tried as often as --max-attempts says", how);
        }
        // A refused connection is a try without a request.
        let is_sure = is_calm && matches!(fate, Fate::Transient(_)) && record.outcome == "failed";
        if is_sure && (said.len() as u32) < fewest {
            stage.violated(
                "a row is tried as often as --max-attempts says",
                format!("job {job}: {record:?}"),
            );
        }
    }
    drop(world);
    let runs = stage.job(job).runs.len();
    let is_trouble = |what: &What| matches!(what, What::Trouble(..) | What::Stall(_));
    let troubles = stage.life.events.iter().filter(|event| is_trouble(&event.what)).count();
    if !is_rough(&stage.life) && failed_in_trouble > FAIL_UNTIL_HOLD * (runs + troubles) {
        let how = format!("job {job}: {failed_in_trouble} rows that can be cleared failed in {troubles} troubles");
        stage.violated("an outage uses up no attempts", how);
    }
}

/// How many requests of a row were answered while a run of the job was on hold: they don't count against the row.
fn probes(stage: &Stage, world: &World, job: usize, key: &Key) -> u64 {
    let state = stage.job(job);
    let is_on_hold = |run: RunId, at: Duration| {
        let at = world.epoch() + at;
        let mut holds = state.runs.get(run.1).into_iter().flat_map(|run| &run.told.holds);
        holds.any(|(from, until)| *from <= at && until.is_none_or(|until| at <= until))
    };
    let asked = Asked::Clear(key.clone());
    let sent = world
        .requests
        .iter()
        .filter(|sent| sent.run.0 == job && sent.asked == asked);
    sent.filter(|sent| sent.answered.is_some_and(|(at, _)| is_on_hold(sent.run, at)))
        .count() as u64
}

/// How many rows may fail in each trouble, and in each run, until the run is on hold.
const FAIL_UNTIL_HOLD: usize = 12;

/// Whether requests are slow enough to time out, or refused.
fn is_rough(life: &Life) -> bool {
    let is_slow = life.world.connect_ms + life.world.latency_ms + life.world.jitter_ms >= 1900;
    is_slow || !matches!(life.world.limiter, Limiter::None)
}

/// Whether nothing but the fates of rows makes requests fail.
fn is_calm(life: &Life) -> bool {
    let is_trouble = |what: &What| matches!(what, What::Trouble(..) | What::Stall(_));
    !is_rough(life) && !life.events.iter().any(|event| is_trouble(&event.what))
}
