//! A run with a server, a network and possibly other traffic, in paused time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zim_batch::limiter::Limiter;

const SECOND: Duration = Duration::from_secs(1);

/// The tries of a row, as by default.
const MAX_ATTEMPTS: u32 = 6;

/// The conditions of one run.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    pub rate: f64,
    /// The number of rows, and how long new ones are started.
    pub rows: usize,
    pub time: Duration,
    pub seeds: u64,
    /// The time from sending a request to its arrival.
    pub way: Way,
    /// The time from arrival to answer, in milliseconds.
    pub answer: Range<u64>,
    pub server: Server,
    pub others: Others,
    /// The time span of the other traffic, in seconds; varies slightly by seed.
    pub present: Option<(f64, f64)>,
    /// Repeated refusals without a reason, after this many seconds.
    pub spurious: Option<Range<f64>>,
    /// The share of requests that is refused at random, at any rate.
    pub at_random: f64,
    pub refusal: Refusal,
}

/// What the server answers to a request that it refuses.
#[derive(Clone, Copy)]
pub enum Refusal {
    /// "Too many requests".
    Limited,
    /// The same, and asks to wait this many seconds (`Retry-After`).
    RetryAfter(u64),
    /// HTTP 503, as in an outage: it uses up one of the row's tries.
    Unavailable,
}

#[derive(Clone, Copy)]
pub enum Way {
    Even,
    /// Uniform, from zero to this many milliseconds.
    Uniform(u64),
    /// Exponential, with this mean in milliseconds.
    Exponential(f64),
}

#[derive(Clone, Copy)]
pub enum Server {
    /// In any one second; refused requests don't count.
    Strict,
    /// In any one second; refused requests count too.
    StrictCountingAll,
    /// In each second of the clock.
    Fixed,
    /// A token bucket that holds one second's quota.
    Bucket,
    /// Accepted requests are as far apart as the cap says: nginx's `limit_req` without a burst.
    Spaced,
}

/// Other traffic, as a share of the rate; it is never refused.
#[derive(Clone, Copy)]
pub enum Others {
    None,
    Even(f64),
    Poisson(f64),
    /// Five at a time.
    Bursts(f64),
    /// No other traffic, but the server's cap is this much lower.
    LowerCap(f64),
}

/// The server's side of a run, and what it saw.
pub struct World {
    pub scenario: Scenario,
    random: fastrand::Rng,
    taken: VecDeque<Duration>,
    tokens: (f64, Duration),
    pub present: (Duration, Duration),
    next_of_others: Duration,
    next_spurious: Duration,
    /// When requests arrived, and whether they were accepted.
    pub seen: Vec<(Duration, bool)>,
    /// The target rate over time.
    pub aimed: Vec<(Duration, f64)>,
    /// Rows that have used up their tries.
    pub failed: u32,
}

impl World {
    fn new(scenario: &Scenario, seed: u64) -> World {
        let mut random = fastrand::Rng::with_seed(seed);
        let (from, to) = scenario.present.unwrap_or_default();
        let from = Duration::from_secs_f64(from + random.f64());
        let to = Duration::from_secs_f64(to + 15.0 * random.f64());
        let mut world = World {
            scenario: scenario.clone(),
            random,
            taken: VecDeque::new(),
            tokens: (scenario.rate.ceil(), Duration::ZERO),
            present: (from, to),
            next_of_others: from,
            next_spurious: Duration::MAX,
            seen: Vec::new(),
            aimed: Vec::new(),
            failed: 0,
        };
        world.plan_spurious(Duration::ZERO);
        world
    }

    fn plan_spurious(&mut self, now: Duration) {
        if let Some(range) = &self.scenario.spurious {
            let after = range.start + (range.end - range.start) * self.random.f64();
            self.next_spurious = now + Duration::from_secs_f64(after);
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.f64()).ln()
    }

    fn way(&mut self) -> Duration {
        match self.scenario.way {
            Way::Even => Duration::ZERO,
            Way::Uniform(most) => Duration::from_millis(self.random.u64(0..=most)),
            Way::Exponential(mean) => Duration::from_secs_f64(self.exponential(mean) / 1000.0),
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(self.scenario.answer.clone()))
    }

    fn are_present(&self, now: Duration) -> bool {
        self.present.0 <= now && now < self.present.1
    }

    fn note_others(&mut self, now: Duration) {
        let (share, at_once) = match self.scenario.others {
            Others::None | Others::LowerCap(_) => return,
            Others::Even(share) | Others::Poisson(share) => (share, 1),
            Others::Bursts(share) => (share, 5),
        };
        let gap = f64::from(at_once) / (share * self.scenario.rate);
        while self.next_of_others <= now && self.are_present(self.next_of_others) {
            self.taken.extend((0..at_once).map(|_| self.next_of_others));
            let gap = match self.scenario.others {
                Others::Poisson(_) => self.exponential(gap),
                _ => gap,
            };
            self.next_of_others += Duration::from_secs_f64(gap);
        }
    }

    /// Whether the server accepts the request that arrives now.
    fn admit(&mut self, now: Duration) -> bool {
        self.note_others(now);
        let full = self.scenario.rate.ceil() as usize;
        let cap = match self.scenario.others {
            Others::LowerCap(share) if self.are_present(now) => (full as f64 * share) as usize,
            _ => full,
        };
        let is_in_sight = |at: Duration| match self.scenario.server {
            Server::Fixed => at.as_secs() == now.as_secs(),
            _ => at + SECOND > now,
        };
        while self.taken.front().is_some_and(|at| !is_in_sight(*at)) {
            self.taken.pop_front();
        }
        let has_room = match self.scenario.server {
            Server::Bucket => {
                let (tokens, since) = self.tokens;
                let tokens = (tokens + (now - since).as_secs_f64() * cap as f64).min(cap as f64);
                let has_room = tokens >= 1.0;
                self.tokens = (tokens - f64::from(u8::from(has_room)), now);
                has_room
            }
            Server::Spaced => {
                let gap = Duration::from_secs_f64(1.0 / cap as f64);
                self.taken.back().is_none_or(|latest| now >= *latest + gap)
            }
            _ => self.taken.len() < cap,
        };
        let accepted = has_room && now < self.next_spurious && self.random.f64() >= self.scenario.at_random;
        if now >= self.next_spurious {
            self.plan_spurious(now);
        }
        if accepted || matches!(self.scenario.server, Server::StrictCountingAll) {
            self.taken.push_back(now);
        }
        self.seen.push((now, accepted));
        accepted
    }
}

/// Runs the scenario once.
pub fn simulate(scenario: &Scenario, seed: u64) -> World {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let world = Arc::new(Mutex::new(World::new(scenario, seed)));
    runtime.block_on(async {
        let limiter = Arc::new(Limiter::new(scenario.rate.try_into().expect("a rate")));
        let started_at = Instant::now();
        let mut rows = tokio::task::JoinSet::new();
        for _ in 0..scenario.rows {
            let _ = limiter.ready().await;
            if started_at.elapsed() >= scenario.time {
                break;
            }
            let now = (started_at.elapsed(), limiter.rate());
            world.lock().expect("no panic").aimed.push(now);
            rows.spawn(row(Arc::clone(&limiter), Arc::clone(&world), started_at));
            while rows.try_join_next().is_some() {}
        }
        rows.join_all().await;
    });
    drop(runtime);
    Arc::into_inner(world)
        .expect("all rows have ended")
        .into_inner()
        .expect("no panic")
}

/// A row, from its first start to an accepted request, or to its last try.
async fn row(limiter: Arc<Limiter>, world: Arc<Mutex<World>>, started_at: Instant) {
    let in_world = || world.lock().expect("no panic");
    let mut tries = 0;
    loop {
        let started = Instant::now();
        let way = in_world().way();
        if !way.is_zero() {
            sleep(way).await;
        }
        let (accepted, latency, refusal) = {
            let mut world = in_world();
            (
                world.admit(started_at.elapsed()),
                world.latency(),
                world.scenario.refusal,
            )
        };
        sleep(latency).await;
        if accepted {
            limiter.accepted(started);
            return;
        }
        let pause = in_world().random.f64() / 2.0 + 0.5;
        let pause = match refusal {
            Refusal::Limited => {
                limiter.limited(started, None);
                Duration::from_secs_f64(pause)
            }
            Refusal::RetryAfter(seconds) => {
                let wait = Duration::from_secs(seconds);
                limiter.limited(started, Some(wait));
                wait.max(Duration::from_secs_f64(pause))
            }
            Refusal::Unavailable => {
                limiter.unclear(started);
                tries += 1;
                if tries == MAX_ATTEMPTS {
                    in_world().failed += 1;
                    return;
                }
                Duration::from_secs_f64(pause * f64::from(1 << (tries - 1)))
            }
        };
        sleep(pause).await;
        let _ = limiter.ready().await;
    }
}
