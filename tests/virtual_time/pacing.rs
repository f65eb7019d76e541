//! The limiter alone: the cap, the spacing, and what refusals do to them.

use proptest::prelude::*;
use tokio::time::advance;
use zim_batch::limiter::Limiter;

use super::*;

/// What one caller does at the gate, again and again.
#[derive(Debug, Clone)]
struct Caller {
    /// How long it stays away between two requests, in milliseconds.
    away: u64,
    requests: usize,
    /// The nth request is told that there are too many.
    limited: Option<usize>,
}

fn caller() -> impl Strategy<Value = Caller> {
    let away = prop_oneof![Just(0), 1..200u64, 200..5000u64];
    (away, 1..60usize, prop::option::of(0..60usize)).prop_map(|(away, requests, limited)| Caller {
        away,
        requests,
        limited,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_second_ever_holds_more_than_the_cap(
        rate in prop_oneof![Just(20.0), Just(1.0), Just(7.0), Just(150.0), Just(0.5)],
        callers in prop::collection::vec(caller(), 1..20),
        stalls in prop::collection::vec((0..20_000u64, 1..3000u64), 0..6),
    ) {
        let starts = in_paused_time(async move {
            let limiter = Arc::new(Limiter::new(per_second(rate)));
            let starts = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for caller in callers {
                let (limiter, starts) = (Arc::clone(&limiter), Arc::clone(&starts));
                tasks.push(tokio::spawn(async move {
                    for nth in 0..caller.requests {
                        let _ = limiter.ready().await;
                        let now = Instant::now();
                        starts.lock().unwrap().push(now);
                        sleep(Duration::from_millis(caller.away)).await;
                        if caller.limited == Some(nth) { limiter.limited(now, None) } else { limiter.accepted(now) };
                    }
                }));
            }
            // A stall: the process sleeps, and wakes to find that every timer is long due.
            tokio::spawn(async move {
                for (after, long) in stalls {
                    sleep(Duration::from_millis(after)).await;
                    advance(Duration::from_millis(long)).await;
                }
            });
            for task in tasks {
                task.await.unwrap();
            }
            Arc::try_unwrap(starts).unwrap().into_inner().unwrap()
        });
        let cap = f64::ceil(rate) as usize;
        prop_assert!(peak(&starts) <= cap, "{} within a second, {cap} allowed", peak(&starts));
    }
}

#[test]
fn twenty_a_second_are_at_least_19_9_and_evenly_spaced() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        let started_at = Instant::now();
        let mut last = None;
        for _ in 0..2000 {
            let _ = limiter.ready().await;
            let now = Instant::now();
            if let Some(last) = last.replace(now) {
                let gap = now - last;
                assert!((40..=61).contains(&gap.as_millis()), "{gap:?}");
            }
        }
        let rate = 1999.0 / started_at.elapsed().as_secs_f64();
        assert!((19.9..20.0).contains(&rate), "{rate}");
    });
}

#[test]
fn after_a_stall_nothing_is_made_up_for() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        for _ in 0..40 {
            let _ = limiter.ready().await;
        }
        advance(Duration::from_secs(600)).await;
        let started_at = Instant::now();
        for _ in 0..21 {
            let _ = limiter.ready().await;
        }
        assert!(started_at.elapsed() >= SECOND, "21 within {:?}", started_at.elapsed());
    });
}

#[test]
fn a_retry_after_that_a_later_request_gets_too_keeps_everybody_waiting() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        for (nth, least, most) in [(1, 0, 1), (2, 30, 31)] {
            let _ = limiter.ready().await;
            let started_at = Instant::now();
            limiter.limited(started_at, Some(Duration::from_secs(30)));
            let _ = limiter.ready().await;
            let waited = started_at.elapsed().as_secs();
            assert!((least..most).contains(&waited), "{waited} s after refusal {nth}");
        }
    });
}

#[test]
fn one_refusal_now_and_then_hardly_slows_a_long_run() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        let started_at = Instant::now();
        for nth in 0..20_000 {
            let _ = limiter.ready().await;
            match nth % 2000 {
                999 => limiter.limited(Instant::now(), None),
                _ => limiter.accepted(Instant::now()),
            };
        }
        let rate = 20_000.0 / started_at.elapsed().as_secs_f64();
        assert!(rate > 19.75, "{rate}");
    });
}

#[test]
fn after_a_refusal_the_very_next_start_waits_for_what_the_last_second_was_too_short() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        let mut starts = Vec::new();
        for _ in 0..60 {
            let _ = limiter.ready().await;
            starts.push(Instant::now());
            if starts.len() == 40 {
                limiter.limited(Instant::now(), None);
            }
        }
        for nth in 40..60 {
            let span = starts[nth] - starts[nth - 20];
            assert!(
                span >= Duration::from_millis(1024),
                "20 starts in {span:?} before number {nth}"
            );
        }
    });
}
