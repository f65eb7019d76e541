//! Whole lives by seed: jobs, their kills and resumes, the quota that they share, their operators and the world, in
//! simulated time; every promise is checked after each. `docs/lives.md` says how to use it, and what it finds.
//!
//! `ZIM_LIFE=SEED cargo test --test lives` lives one life and tells it; `ZIM_LIVES=N` lives N fresh ones.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod after;
mod clock;
mod disk;
#[path = "../../src/cli/errors/exit_status.rs"]
mod exit_status;
mod exits;
mod feed;
mod input;
mod job;
mod life;
mod limits;
mod list;
mod log;
mod look;
mod outages;
mod pace;
mod promises;
mod quiet;
mod quota;
mod redis;
mod report;
mod run_end;
mod said;
mod secrets;
mod shares;
mod sharing;
mod shrink;
mod stage;
mod stopping;
mod topics;
mod truth;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use life::Life;
use stage::{Lived, live};

/// How many fresh lives are lived by default.
const LIVES: u64 = 40;

/// Seeds of lives that have failed, one a line, with what they found.
const FAILED: &str = include_str!("failed_seeds.txt");

#[test]
fn every_promise_is_kept_in_whole_lives() {
    if let Some(seed) = number("ZIM_LIFE") {
        return one(seed);
    }
    let mut sum = Sum::default();
    let failed = if std::env::var_os("ZIM_NO_FAILED").is_some() {
        ""
    } else {
        FAILED
    };
    let seeds = failed.lines().filter_map(|line| line.split_whitespace().next());
    for seed in seeds.filter(|seed| !seed.starts_with('#')) {
        sum.add(seed.parse().unwrap());
    }
    let lives = number("ZIM_LIVES");
    let first = number("ZIM_FIRST_LIFE").unwrap_or_else(|| {
        if lives.is_none() {
            return 1; // Nobody's change is to fail by chance.
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() % 1_000_000_000 * 1000
    });
    for seed in first..first + lives.unwrap_or(LIVES) {
        sum.add(seed);
    }
    say(&sum.to_string());
}

#[test]
fn the_same_seed_is_the_same_life() {
    let _alone = alone();
    for seed in number("ZIM_FIRST_LIFE").map_or(0..8, |first| first..first + 100) {
        let life = Life::of(seed);
        let [one, other] = [live(&life).trace, live(&life).trace];
        let different = one
            .lines()
            .zip(other.lines())
            .enumerate()
            .find(|(_, (one, other))| one != other);
        assert_eq!(different, None, "seed {seed}");
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}

/// Lives one life, and tells it.
fn one(seed: u64) {
    let _alone = alone();
    let life = Life::of(seed);
    let lived = live(&life);
    if std::env::var_os("ZIM_SHOW_REQUESTS").is_some() {
        say(&lived.trace);
    }
    if std::env::var_os("ZIM_SHOW_LOG").is_some() {
        say(&lived.log);
    }
    tell(&life, &lived);
    assert!(lived.violations.is_empty());
}

#[derive(Default)]
struct Sum {
    lives: u64,
    simulated: Duration,
    kills: u64,
    runs: u64,
    requests: u64,
    took: Duration,
}

impl Sum {
    fn add(&mut self, seed: u64) {
        self.live(&Life::of(seed));
    }

    fn live(&mut self, life: &Life) {
        let _alone = alone();
        let (seed, began) = (life.seed, Instant::now());
        let lived = live(life);
        if std::env::var_os("ZIM_SHOW_LIVES").is_some() {
            say(&format!(
                "seed {seed}: {:?}, {} runs, {} requests, {:?} simulated",
                began.elapsed(),
                lived.runs,
                lived.requests,
                lived.simulated
            ));
        }
        self.took += began.elapsed();
        self.lives += 1;
        self.simulated += lived.simulated;
        self.kills += lived.kills;
        self.runs += lived.runs;
        self.requests += lived.requests;
        let Some(violation) = lived.violations.first() else {
            return;
        };
        if std::env::var_os("ZIM_GO_ON").is_some() {
            return say(&format!("seed {seed}: {}: {}", violation.promise, violation.how));
        }
        say(&format!(
            "seed {seed}: {}: {}\nmaking it smaller …",
            violation.promise, violation.how
        ));
        let small = if std::env::var_os("ZIM_NO_SHRINK").is_some() {
            life.clone()
        } else {
            shrink::shrink(life, violation)
        };
        tell(&small, &live(&small));
        say(&format!(
            "{self}, violations 1\nrepeat it: ZIM_LIFE={seed} cargo test --test lives every_promise -- --nocapture"
        ));
        panic!(
            "seed {seed}, life {}: {}: {}",
            self.lives, violation.promise, violation.how
        );
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let Sum {
            lives,
            kills,
            runs,
            requests,
            ..
        } = self;
        write!(
            f,
            "lives {lives}, simulated {hours:.1} h, runs {runs}, kills {kills}, requests {requests}, violations 0, in {:.1} s",
            self.took.as_secs_f64()
        )
    }
}

/// The story of a life: what it has, and what happened.
fn tell(life: &Life, lived: &Lived) {
    say(&format!("the life of seed {}: {:?}", life.seed, life.world));
    for (nth, job) in life.jobs.iter().enumerate() {
        let users = job.users.as_ref().map(|_| "users").unwrap_or("rows");
        say(&format!(
            "job {nth}: {} {users}, {:?}, begins at {} ms, rests {} ms",
            job.input.len(),
            job.dialect,
            job.begins,
            job.rest
        ));
        if job.input.len() <= 6 {
            say(&format!("  {:?}", job.input));
        }
    }
    for (at, what) in &lived.story {
        say(&format!("{:>12.3} s  {what}", at.as_secs_f64()));
    }
    for violation in &lived.violations {
        say(&format!("VIOLATED: {}: {}", violation.promise, violation.how));
    }
}

/// One life at a time: a full disk is a limit of the process.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[expect(clippy::print_stderr, reason = "what a test says")]
fn say(text: &str) {
    eprintln!("{text}");
}
