//! The pace against a server that counts strictly, behind a jittery way, with others on the quota.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zim_batch::Rate;
use zim_batch::limiter::Limiter;

use super::{SECOND, in_paused_time};

/// A server that takes 20 requests in any second and answers 30 ms after they arrive.
struct Strict {
    limiter: Arc<Limiter>,
    started_at: Instant,
    /// How much later than they left requests arrive: up to this, by chance.
    jitter: Duration,
    random: Mutex<fastrand::Rng>,
    /// What others send a second, and when the next of them arrives.
    others: Mutex<(f64, Instant)>,
    taken: Mutex<VecDeque<Instant>>,
    /// When requests were accepted or refused.
    seen: Mutex<Vec<(Instant, bool)>>,
}

impl Strict {
    fn new(jitter: Duration, seed: u64) -> Arc<Strict> {
        Arc::new(Strict {
            limiter: Arc::new(Limiter::new(Rate::default())),
            started_at: Instant::now(),
            jitter,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            others: Mutex::new((0.0, Instant::now())),
            taken: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// From now on others send so many requests a second; they are never refused.
    fn others_send(&self, rate: f64) {
        *self.others.lock().unwrap() = (rate, Instant::now());
    }

    fn admits(&self) -> bool {
        let now = Instant::now();
        let mut taken = self.taken.lock().unwrap();
        let (rate, next) = &mut *self.others.lock().unwrap();
        while *rate > 0.0 && *next <= now {
            taken.push_back(*next);
            *next += SECOND.div_f64(*rate);
        }
        while taken.front().is_some_and(|at| now - *at >= SECOND) {
            taken.pop_front();
        }
        let has_room = taken.len() < 20;
        if has_room {
            taken.push_back(now);
        }
        self.seen.lock().unwrap().push((now, has_room));
        has_room
    }

    /// Sends one new row after the other for so long, or so many of them; a refused one backs off and queues again.
    async fn send(self: &Arc<Self>, time: Duration, rows: usize) {
        let until = Instant::now() + time;
        for _ in 0..rows {
            if Instant::now() >= until {
                break;
            }
            let _ = self.limiter.ready().await;
            let server = Arc::clone(self);
            tokio::spawn(async move {
                loop {
                    let (started, chance) = (Instant::now(), server.random.lock().unwrap().f64());
                    sleep(server.jitter.mul_f64(chance)).await;
                    let has_room = server.admits();
                    sleep(Duration::from_millis(30)).await;
                    if has_room {
                        return server.limiter.accepted(started);
                    }
                    server.limiter.limited(started, None);
                    sleep(Duration::from_millis(500)).await;
                    let _ = server.limiter.ready().await;
                }
            });
        }
    }

    /// What was accepted a second, and the share that was refused, between two moments since the beginning.
    fn between(&self, from: f64, to: f64) -> (f64, f64) {
        let [after, before] = [from, to].map(|seconds| self.started_at + Duration::from_secs_f64(seconds));
        let seen = self.seen.lock().unwrap();
        let count = |wanted| {
            let is_meant = |(at, accepted): &&(Instant, bool)| after <= *at && *at < before && *accepted == wanted;
            seen.iter().filter(is_meant).count() as f64
        };
        let (accepted, refused) = (count(true), count(false));
        (accepted / (to - from), refused / (accepted + refused))
    }
}

#[test]
fn on_a_jittery_way_hardly_a_request_is_refused_and_the_rate_stays_near_the_cap() {
    for (rows, refused_up_to) in [(200, 0.0051), (400, 0.0026), (1200, 0.0018), (12_000, 0.0006)] {
        for seed in 0..5 {
            in_paused_time(async {
                let server = Strict::new(Duration::from_millis(20), seed);
                server.send(100_000 * SECOND, rows).await;
                let (rate, refused) = server.between(0.0, server.started_at.elapsed().as_secs_f64());
                assert!(
                    rate > 19.4 && refused <= refused_up_to,
                    "{rows} rows: {rate} a second, {refused} refused"
                );
            });
        }
    }
}

#[test]
fn a_run_settles_at_what_others_leave_and_comes_back_when_they_are_gone() {
    for (seed, phase) in [0.0, 0.21, 0.47, 0.73].into_iter().enumerate() {
        for jitter in [Duration::ZERO, Duration::from_millis(20)] {
            in_paused_time(async {
                let server = Strict::new(jitter, seed as u64);
                server.send(Duration::from_secs_f64(30.0 + phase), usize::MAX).await;
                server.others_send(10.0);
                server
                    .send(Duration::from_secs_f64(60.0 + 10.0 * phase), usize::MAX)
                    .await;
                let gone = server.started_at.elapsed().as_secs_f64();
                server.others_send(0.0);
                server.send(60 * SECOND, usize::MAX).await;

                let (rate, refused) = server.between(30.0 + phase, gone);
                assert!(
                    rate >= 9.3 && refused < 0.018,
                    "{jitter:?}: {rate} a second, {refused} refused"
                );
                let (settled, _) = server.between(33.0 + phase, 43.0 + phase);
                assert!(settled >= 9.3, "{jitter:?}: {settled} a second after three seconds");
                let (back, _) = server.between(gone + 20.0, gone + 25.0);
                assert!(back >= 19.0, "{jitter:?}: {back} a second 20 s after they have gone");
                let (back, refused) = server.between(gone + 25.0, gone + 55.0);
                assert!(
                    back >= 19.4 && refused < 0.003,
                    "{jitter:?}: {back} a second, {refused} refused"
                );
            });
        }
    }
}

#[test]
fn a_smaller_share_for_an_hour_costs_less_than_one_refusal_in_a_hundred() {
    in_paused_time(async {
        let server = Strict::new(Duration::ZERO, 0);
        server.others_send(10.0);
        server.send(3600 * SECOND, usize::MAX).await;
        let (rate, refused) = server.between(10.0, 3600.0);
        assert!(rate > 9.5 && refused < 0.01, "{rate} a second, {refused} refused");
    });
}
