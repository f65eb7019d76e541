//! Cuts a life that fails down to the fewest things that still fail in the same way.

use crate::life::Life;
use crate::stage::{Violation, live};

/// How many lives are lived at most to make one smaller.
const MAX_LIVES: usize = 400;

/// A smaller life that breaks the same promise, and how it does.
pub fn shrink(life: &Life, violation: &Violation) -> Life {
    let mut best = life.clone();
    let mut lived = 0;
    let mut fails = |smaller: &Life| {
        lived += 1;
        lived <= MAX_LIVES
            && live(smaller)
                .violations
                .iter()
                .any(|found| found.promise == violation.promise)
    };
    loop {
        let before = size(&best);
        for job in (0..best.jobs.len()).rev() {
            let smaller = without_job(&best, job);
            if best.jobs.len() > 1 && fails(&smaller) {
                best = smaller;
            }
        }
        for job in 0..best.jobs.len() {
            best = fewer(
                best,
                &mut fails,
                |life| life.jobs[job].input.len(),
                move |life, from, to| {
                    life.jobs[job].input.drain(from..to);
                },
            );
            best = fewer(
                best,
                &mut fails,
                |life| life.jobs[job].runs.len(),
                move |life, from, to| {
                    life.jobs[job].runs.drain(from..to);
                },
            );
        }
        best = fewer(
            best,
            &mut fails,
            |life| life.events.len(),
            |life, from, to| {
                life.events.drain(from..to);
            },
        );
        for simpler in simpler(&best) {
            if fails(&simpler) {
                best = simpler;
            }
        }
        if size(&best) == before {
            return best;
        }
    }
}

fn size(life: &Life) -> usize {
    let jobs: usize = life.jobs.iter().map(|job| job.input.len() + job.runs.len()).sum();
    jobs + life.events.len() + life.jobs.len()
}

/// Takes a job out, and what happens to it.
fn without_job(life: &Life, job: usize) -> Life {
    let mut life = life.clone();
    life.jobs.remove(job);
    life.events.retain_mut(|event| match event.what.job() {
        Some(of) if *of == job => false,
        of => {
            of.into_iter().for_each(|of| *of -= usize::from(*of > job));
            true
        }
    });
    life
}

/// Takes out halves, quarters and so on of a list, as long as the life fails.
fn fewer(
    mut best: Life,
    fails: &mut impl FnMut(&Life) -> bool,
    len: impl Fn(&Life) -> usize,
    remove: impl Fn(&mut Life, usize, usize),
) -> Life {
    let mut portion = len(&best);
    while portion > 0 {
        let mut from = 0;
        while from < len(&best) {
            let mut smaller = best.clone();
            remove(&mut smaller, from, (from + portion).min(len(&best)));
            if fails(&smaller) {
                best = smaller;
            } else {
                from += portion;
            }
        }
        portion /= 2;
    }
    best
}

/// The same life in a simpler world.
fn simpler(life: &Life) -> Vec<Life> {
    let mut simpler = Vec::new();
    let mut add = |change: &dyn Fn(&mut Life)| {
        let mut life = life.clone();
        change(&mut life);
        simpler.push(life);
    };
    add(&|life| life.world.limiter = crate::life::Limiter::None);
    add(&|life| (life.world.connect_ms, life.world.latency_ms, life.world.jitter_ms) = (0, 30, 0));
    add(&|life| (life.world.skew, life.world.echoes) = (0, false));
    let fate: [fn(&mut crate::life::Fates) -> &mut u64; 6] = [
        |fates| &mut fates.outside,
        |fates| &mut fates.rejected,
        |fates| &mut fates.flaky,
        |fates| &mut fates.transient,
        |fates| &mut fates.unknown,
        |fates| &mut fates.page,
    ];
    for fate in fate {
        add(&|life| *fate(&mut life.world.fates) = 0);
    }
    simpler
}
