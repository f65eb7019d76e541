//! How runs share the quota, through files or through a Redis.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use zim_batch::Rate;
use zim_batch::limiter::quota::{Presence, Quota, QuotaError, RedisQuota};

use crate::job::Ended;
use crate::life::{Event, Flags, Limiter, What};
use crate::log::Line;
use crate::quota::location;
use crate::redis::{Redis, Trouble};
use crate::said;
use crate::stage::{Stage, name};
use crate::world::RunId;

const SECOND: Duration = Duration::from_secs(1);

/// How long it takes at most until a run is on hold when the quota is away, and until it continues when it is back.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often it is looked who is there.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long after a kill a run may seem to be there; and how long a trouble may have an effect on that.
const GONE_AFTER: Duration = Duration::from_secs(12);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(25);

/// A run joins the others.
pub async fn join(stage: &Stage, run: RunId, flags: &Flags) {
    let (name, rate) = (name(run), flags.rate.try_into().unwrap());
    let quota: Arc<dyn Quota> = match &stage.machine {
        Some(machine) => Arc::new(machine.join(&name, rate).await.unwrap()),
        None => Arc::new(join_redis(stage, run, &name, rate).await),
    };
    stage.job(run.0).quota = Some(quota);
}

async fn join_redis(stage: &Stage, run: RunId, name: &str, rate: Rate) -> RedisQuota {
    loop {
        let (redis, world) = (Arc::clone(&stage.redis), Arc::clone(&stage.world));
        let connect = move || {
            // Nothing comes from a process that was killed.
            let is_dead = world.lock().unwrap().dead.contains(&run);
            let opening = Redis::connect(Arc::clone(&redis), is_dead);
            Box::pin(opening) as _
        };
        let began = stage.now();
        let joined = RedisQuota::join_in_process(connect, &location(), Presence::new(name, rate)).await;
        let took = stage.now() - began;
        if took > PATIENCE + stalls(stage) {
            stage.violated("a run joins within seconds", format!("{}: {took:?}", name));
        }
        match joined {
            Ok(quota) => return quota,
            // The program ends before anything begins, and whoever has started it does so again.
            Err(QuotaError::Refused { why, .. }) if was_refused(stage, began) => {
                stage.tell(format!("{} can't begin: {why}", name));
                sleep(Duration::from_secs(10)).await;
            }
            Err(error) => panic!("{name} can't join: {error}"),
        }
    }
}

/// Whether the server has had a fault since then that lasts.
fn was_refused(stage: &Stage, since: Duration) -> bool {
    let troubles = stage.troubles.lock().unwrap();
    let is_recent = |(at, trouble, _): &(Duration, Trouble, bool)| *at >= since && trouble.is_lasting();
    stage.redis.is_lasting() || troubles.iter().any(is_recent)
}

/// Looks every few seconds who is there.
pub async fn watch(stage: Arc<Stage>) {
    // The runs that had joined and had no entry.
    let mut missing: Vec<String> = Vec::new();
    loop {
        sleep(LOOK_EVERY).await;
        let (present, running) = (stage.redis.present(), running(&stage));
        let disturbed = last_trouble(&stage).map(|at| stage.now() - at);
        if stage.redis.is_out() || disturbed.is_some_and(|since| since < FORGOTTEN_AFTER) {
            missing.clear();
            continue;
        }
        if let Some(gone) = present.iter().find(|run| has_ended(&stage, run)) {
            stage.violated("no presence outlives its run", format!("{gone} at {:?}", stage.now()));
        }
        // A run that leaves may just have removed it.
        let still = missing
            .iter()
            .find(|run| running.contains(run) && !present.contains(run));
        if let Some(run) = still {
            stage.violated("a run is present while it lives", format!("{run} at {:?}", stage.now()));
        }
        missing = running.into_iter().filter(|run| !present.contains(run)).collect();
    }
}

/// The runs that have joined, and have neither left nor been killed.
fn running(stage: &Stage) -> Vec<String> {
    let process = |job: usize| stage.job(job).process.clone();
    let processes = (0..stage.jobs.len()).filter_map(process);
    let living = processes.filter(|process| process.survivors().is_none());
    living.map(|process| name(process.run)).collect()
}

/// Whether a run has left, or was killed so long ago that its entry does not count any more.
fn has_ended(stage: &Stage, run: &str) -> bool {
    (0..stage.jobs.len()).any(|job| {
        let job = stage.job(job);
        let mut ended = job.runs.iter().filter(|ended| name(ended.run) == run);
        ended.any(|ended| match ended.survivors {
            None => true,
            Some(_) => stage.now() > ended.ended + GONE_AFTER,
        })
    })
}

/// When something last happened that may keep entries from being renewed or removed.
fn last_trouble(stage: &Stage) -> Option<Duration> {
    let now = stage.now();
    let stands_still = |event: &Event| {
        let at = Duration::from_millis(event.at);
        (matches!(event.what, What::Stall(_)) && at <= now).then_some(at + stalls(stage))
    };
    let stalls = stage.life.events.iter().filter_map(stands_still);
    let troubles = stage.troubles.lock().unwrap();
    let troubles = troubles.last().map(|(at, ..)| *at);
    stalls.chain(troubles).max().map(|at| at.min(now))
}

/// A time in which a run was on hold.
struct Hold {
    from: Duration,
    until: Duration,
}

fn holds(stage: &Stage, run: &Ended, [begins, ends]: [&str; 2]) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    let mut is_on_hold = false;
    for Line { at, text, .. } in stage.log.lines().iter().filter(|line| line.run == Some(run.run)) {
        if text.starts_with(begins) && !is_on_hold {
            is_on_hold = true;
            holds.push(Hold {
                from: *at,
                until: run.ended,
            });
        } else if text.starts_with(ends)
            && is_on_hold
            && let Some(hold) = holds.last_mut()
        {
            (is_on_hold, hold.until) = (false, *at);
        }
    }
    holds
}

/// Checks what runs do while the quota can't be used.
pub fn check(stage: &Stage) {
    if stage.machine.is_some() {
        return;
    }
    for job in 0..stage.jobs.len() {
        let runs = stage.job(job).runs.clone();
        for run in &runs {
            let holds = holds(stage, run, [said::QUOTA_AWAY, said::QUOTA_BACK]);
            holds.iter().for_each(|hold| check_hold(stage, run, hold));
            check_outages(stage, run, &holds);
        }
    }
}

/// A hold begins because the quota is away, and ends soon after it is back, or the run gives up.
fn check_hold(stage: &Stage, run: &Ended, hold: &Hold) {
    let is_in_doubt = |at: Duration| at + PATIENCE >= hold.from && at <= hold.from;
    let away = outages(stage);
    let troubles = stage.troubles.lock().unwrap().clone();
    let has_reason = away
        .iter()
        .any(|(from, until)| *from <= hold.from && hold.from <= *until + PATIENCE)
        || troubles.iter().any(|(at, ..)| is_in_doubt(*at));
    if !has_reason {
        let how = format!("{}: on hold at {:?}", name(run.run), hold.from);
        stage.violated("a run is on hold only while the quota is away", how);
    }
    let late = stalls(stage);
    let is_away = away
        .iter()
        .any(|(from, until)| *from <= hold.until && hold.until <= *until);
    let back = away
        .iter()
        .map(|(_, until)| *until)
        .filter(|until| *until <= hold.until)
        .max();
    let back = back.unwrap_or_default().max(hold.from);
    if !is_away && hold.until > back + PATIENCE + late && !is_busy_otherwise(stage, run, back, hold.until) {
        let how = format!("{}: back at {back:?}, on hold until {:?}", name(run.run), hold.until);
        stage.violated("a hold ends when the quota is back", how);
    }
    // After the machine has slept, what was away gets a minute to come back.
    let has_slept = !stage.clock.slept(hold.from, hold.until).is_zero();
    let to_come_back = Duration::from_secs(if has_slept { 60 } else { 0 });
    let most = Duration::from_secs(run.flags.give_up_after_s) + to_come_back + PATIENCE + late;
    let lasted = hold.until - hold.from;
    if lasted > most + Duration::from_millis(run.flags.timeout_ms) && !is_limited(stage, hold.from, hold.until) {
        let how = format!("{}: on hold for {lasted:?}, {:?}", name(run.run), run.flags);
        stage.violated("a run does not go on beyond --give-up-after", how);
    }
}

/// A run that is busy when the quota goes away is soon on hold.
fn check_outages(stage: &Stage, run: &Ended, holds: &[Hold]) {
    for (from, until) in outages(stage) {
        if until < from + PATIENCE
            || run.ended < from + PATIENCE
            || is_busy_otherwise(stage, run, from.saturating_sub(PATIENCE), from + PATIENCE)
        {
            continue;
        }
        let world = stage.world();
        let sent = || {
            world
                .requests
                .iter()
                .filter(|sent| sent.run == run.run)
                .map(|sent| sent.at)
        };
        let is_busy = sent()
            .filter(|at| *at + Duration::from_secs(1) >= from && *at < from)
            .count()
            >= 2;
        // Rows were left.
        let has_more = sent().filter(|at| *at > until).count() >= 5;
        let is_held = holds
            .iter()
            .any(|hold| hold.from <= from + PATIENCE && hold.until >= from);
        drop(world);
        if is_busy && has_more && !is_held {
            let how = format!("{}: away at {from:?}, not on hold", name(run.run));
            stage.violated("a run is on hold while the quota is away", how);
        }
    }
}

/// When the quota was away.
pub fn outages(stage: &Stage) -> Vec<(Duration, Duration)> {
    let mut outages: Vec<(Duration, Duration)> = Vec::new();
    let mut since = None;
    for (at, is_away) in stage.away.lock().unwrap().iter() {
        match since {
            None if *is_away => since = Some(*at),
            Some(from) if !*is_away => {
                outages.push((from, *at));
                since = None;
            }
            _ => {}
        }
    }
    outages.extend(since.map(|from| (from, Duration::MAX / 2)));
    outages
}

/// Whether something else than the quota may keep runs from starting requests.
fn is_busy_otherwise(stage: &Stage, run: &Ended, from: Duration, until: Duration) -> bool {
    let life = &stage.life;
    let is_trouble = |event: &Event| match event.what {
        What::Trouble(_, lasts) | What::Stall(lasts) => {
            let at = Duration::from_millis(event.at);
            at < until && at + Duration::from_millis(lasts) + 60 * SECOND > from
        }
        What::Stop(..) => true,
        _ => false,
    };
    // The run slows down, or waits.
    let is_refused = life.world.fates.page > 0 || !matches!(life.world.limiter, Limiter::None);
    let service = holds(stage, run, [said::SERVICE_AWAY, said::SERVICE_BACK]);
    let is_on_hold = service.iter().any(|hold| hold.from <= until && hold.until >= from);
    is_refused || is_on_hold || is_limited(stage, from, until) || life.events.iter().any(is_trouble)
}

fn is_limited(stage: &Stage, from: Duration, until: Duration) -> bool {
    let limits = stage.limits.lock().unwrap();
    let ends = limits.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX / 2]);
    limits
        .iter()
        .zip(ends)
        .any(|((at, limit), end)| limit.is_some() && *at < until && end + 2 * SECOND > from)
}

fn stalls(stage: &Stage) -> Duration {
    let stalls = stage.life.events.iter().map(|event| match event.what {
        // A run has more time after it has slept.
        What::Stall(lasts) | What::Sleep(lasts) => 2 * Duration::from_millis(lasts),
        _ => Duration::ZERO,
    });
    stalls.sum()
}
