//! The share of each run. First come, first served, and one reservation at a time for each run: so between two starts of a run,
//! as far apart as its own rate says, each other one starts one request at most. Runs with the same rate get equal parts of it.

use std::time::Duration;

use fastrand::Rng;

use crate::job::Ended;
use crate::life::{Event, Fates, Flags, JobPlan, Life, Limiter, Line, What};
use crate::stage::{Stage, name};

/// Runs begin and end one after the other: it takes a moment until the shares are even.
const SETTLES: Duration = Duration::from_secs(2);

/// A shorter time says nothing about shares.
const LONG_ENOUGH: Duration = Duration::from_secs(8);

/// Each run gets at least this much of its part: a slower one reserves up to 40 ms before its start, and others wait for that.
const AT_LEAST: f64 = 0.75;

/// Turns a life into one of two to four runs that are busy, in a calm world.
pub fn make_busy(life: &mut Life) {
    let (seed, rng) = (life.seed, &mut Rng::with_seed(!life.seed));
    life.has_machine_quota = seed % 3 == 0;
    life.events.clear();
    if rng.bool() {
        // A limit that ends while they are busy.
        let limit = What::Limit([2.0, 5.0][rng.usize(0..2)], rng.u64(2000..6000));
        let at = rng.u64(3000..8000);
        life.events.push(Event { at, what: limit });
    }
    life.world.limiter = Limiter::None;
    life.world.fates = Fates {
        outside: life.world.fates.outside,
        rejected: 0,
        alike: false,
        flaky: 0,
        transient: 0,
        unknown: 0,
        page: 0,
    };
    (life.world.connect_ms, life.world.latency_ms, life.world.jitter_ms) = (rng.u64(0..10), 30, 20);
    let template = life.jobs[0].clone();
    let runs = rng.u64(2..=4);
    let job = |nth: u64| {
        let rate = [20.0, 20.0, 5.0, 12.0, 30.0, 50.0][rng.usize(0..6)];
        let rows = (rate * (15.0 + rng.f64() * 10.0)) as usize;
        let row = |row: usize| Line::Item([format!("u{nth}"), format!("c{row}"), "0".to_owned()]);
        JobPlan {
            begins: rng.u64(0..3000),
            input: (0..rows).map(row).collect(),
            users: None,
            listing: None,
            feed: None,
            runs: vec![Flags { rate, ..Flags::LAST }],
            ..template.clone()
        }
    };
    life.jobs = (0..runs).map(job).collect();
}

/// Checks the shares in a life in which runs have nothing to wait for but each other.
pub fn check(stage: &Stage) {
    let Life {
        world, jobs, events, ..
    } = &stage.life;
    let fates = world.fates;
    let has_failures = fates.rejected + fates.flaky + fates.transient + fates.unknown + fates.page > 0;
    let is_slow = world.connect_ms + world.latency_ms + world.jitter_ms > 100;
    if has_failures
        || is_slow
        || !events.iter().all(|event| matches!(event.what, What::Limit(..)))
        || !matches!(world.limiter, Limiter::None)
    {
        return;
    }
    let all: Vec<Ended> = (0..jobs.len()).flat_map(|job| stage.job(job).runs.clone()).collect();
    let mut changes: Vec<Duration> = all.iter().flat_map(|run| [run.began, run.ended]).collect();
    let limits = stage.limits.lock().unwrap().clone();
    changes.extend(limits.iter().map(|(at, _)| *at));
    changes.sort();
    let is_limited = |now: Duration| {
        let last = limits.iter().rfind(|(at, _)| *at <= now);
        last.is_some_and(|(_, limit)| limit.is_some())
    };
    for between in changes.windows(2).filter(|between| !is_limited(between[0])) {
        let (from, until) = (between[0] + SETTLES, between[1].saturating_sub(SETTLES));
        let runs: Vec<&Ended> = all
            .iter()
            .filter(|run| run.began <= between[0] && run.ended >= between[1])
            .collect();
        let are_busy = runs.iter().all(|run| is_busy(stage, run));
        if until >= from + LONG_ENOUGH && runs.len() > 1 && are_busy {
            check_between(stage, &runs, from, until);
        }
    }
}

fn is_busy(stage: &Stage, run: &Ended) -> bool {
    let plan = &stage.life.jobs[run.run.0];
    let are_rows = plan.users.is_none() && plan.listing.is_none() && plan.feed.is_none();
    are_rows && run.flags.max_in_flight >= 64
}

fn check_between(stage: &Stage, runs: &[&Ended], from: Duration, until: Duration) {
    let seconds = (until - from).as_secs_f64();
    let round_trip = if stage.machine.is_some() {
        0.0
    } else {
        stage.redis.delay().as_secs_f64()
    };
    let rate = runs.iter().map(|run| run.flags.rate).fold(0.0, f64::max);
    // A start counts for as much longer as an answer takes.
    let each = (1.02 + round_trip) / rate;
    let others = (runs.len() - 1) as f64;
    let world = stage.world();
    for run in runs {
        let share = 1.0 / (1.02 / run.flags.rate + round_trip + others * each);
        let sent = world
            .requests
            .iter()
            .filter(|sent| sent.run == run.run && sent.at >= from && sent.at < until);
        let rate = sent.count() as f64 / seconds;
        if rate < AT_LEAST * share {
            let how = format!(
                "{}: {rate:.2} per second of {share:.2}, from {from:?} to {until:?}",
                name(run.run)
            );
            stage.violated("each run gets its share", how);
            return;
        }
    }
}
