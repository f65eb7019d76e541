use std::collections::VecDeque;

use super::quota::{Activity, BoxFuture, Limit, Previous, Request, Slot, Unavailable};
use super::schedule::{Clocks, MARGIN, Schedule, micros};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// No more starts than the rate are in a window of this length.
const WINDOW: Duration = SECOND.saturating_add(Duration::from_micros(MARGIN));

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn rate(per_second: f64) -> Rate {
    per_second.try_into().unwrap()
}

/// When the next request may start, from now on.
async fn next_start(limiter: &Limiter) -> Duration {
    let asked_at = Instant::now();
    let _ = limiter.ready().await;
    asked_at.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_made_late_keeps_the_one_a_second_later_waiting() {
    let zero = Instant::now();
    let limiter = Limiter::new(rate(1.0));
    let permit = limiter.ready().await;
    permit.started(zero, zero + SECOND / 2);
    assert_eq!(next_start(&limiter).await, millis(1504));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_delays_a_request_that_waits_already() {
    let limiter = Limiter::new(rate(2.0));
    let started_at = Instant::now();
    for _ in 0..2 {
        let _ = limiter.ready().await;
    }
    let waiting = limiter.clone();
    let third = tokio::spawn(async move {
        let _ = waiting.ready().await;
        started_at.elapsed()
    });
    tokio::time::sleep(SECOND / 4).await;
    limiter.limited(started_at, None);
    assert!(limiter.rate() < 2.0);
    let at_least = WINDOW.div_f64(limiter.rate() / 2.0);
    let third = third.await.unwrap();
    assert!(
        third >= at_least && third < at_least + millis(5),
        "{third:?}, {at_least:?}"
    );
}

/// A quota that gives these answers, and keeps what it was asked.
#[derive(Debug, Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<Reserved, Unavailable>>>,
    requests: Mutex<Vec<Request>>,
    last: Mutex<Option<Option<Previous>>>,
    limit: Mutex<Option<Limit>>,
    is_usable: Mutex<Option<Result<(), Unavailable>>>,
}

impl Quota for Scripted {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        self.requests.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front();
        Box::pin(async move { answer.unwrap_or_else(|| Ok(Reserved::Slot(request.granted()))) })
    }

    fn limit(&self) -> Option<Limit> {
        *self.limit.lock().unwrap()
    }

    fn is_usable(&self) -> Option<Result<(), Unavailable>> {
        self.is_usable.lock().unwrap().clone()
    }

    fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
        *self.last.lock().unwrap() = Some(last);
        Box::pin(async {})
    }
}

fn sharing(answers: impl IntoIterator<Item = Result<Reserved, Unavailable>>) -> (Limiter, Arc<Scripted>) {
    let quota = Arc::new(Scripted {
        answers: Mutex::new(answers.into_iter().collect()),
        ..Scripted::default()
    });
    (Limiter::sharing(Rate::default(), Arc::clone(&quota) as _), quota)
}

fn slot(at: Instant, starts: u32) -> Slot {
    Slot {
        id: 7,
        at,
        until: at + millis(10),
        starts,
        runs: 3,
    }
}

#[tokio::test(start_paused = true)]
async fn what_became_of_a_slot_is_told_with_the_next_reservation_and_at_the_end() {
    let zero = Instant::now();
    let (limiter, quota) = sharing([Ok(Reserved::Slot(slot(zero + millis(5), 1)))]);
    let permit = limiter.ready().await;
    permit.started(Instant::now(), zero + millis(8));
    let _ = limiter.ready().await;
    let requests = quota.requests.lock().unwrap().clone();
    assert_eq!(requests[0].previous, None);
    let previous = requests[1].previous.unwrap();
    assert_eq!(
        (previous.slot.id, previous.used, previous.last),
        (7, 1, zero + millis(8))
    );
    assert_eq!((limiter.runs(), requests.len()), (3, 2));
    limiter.leave().await;
    let last = quota.last.lock().unwrap().unwrap().unwrap();
    assert_eq!((last.slot.id, last.used, last.last), (0, 1, Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_left_to_the_next_request_by_one_that_gives_up_and_given_back_when_it_is_too_late() {
    let zero = Instant::now();
    let (limiter, quota) = sharing([Ok(Reserved::Slot(slot(zero + millis(500), 1)))]);
    let permit = limiter.acquire().await;
    assert!(tokio::time::timeout(millis(100), permit.start()).await.is_err());
    assert!(tokio::time::timeout(millis(100), permit.start()).await.is_err());
    assert_eq!(quota.requests.lock().unwrap().len(), 1);
    tokio::time::sleep(millis(400)).await;
    permit.start().await;
    let previous = quota.requests.lock().unwrap()[1].previous.unwrap();
    assert_eq!((previous.slot.id, previous.used), (7, 0));
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_available_again_only_when_it_has_reserved_something() {
    let zero = Instant::now();
    let (limiter, _) = sharing([
        Err(Unavailable("first".into())),
        Ok(Reserved::NotBefore(zero + SECOND)),
        Err(Unavailable("second".into())),
    ]);
    let permit = limiter.acquire().await;
    for (time, why) in [(100, "first"), (900, "first"), (1100, "second")] {
        let until = zero + millis(time);
        assert!(tokio::time::timeout_at(until, permit.start()).await.is_err());
        assert_eq!(limiter.unavailable(), Some((zero, why.into())));
    }
    permit.start().await;
    assert_eq!((limiter.unavailable(), zero.elapsed()), (None, millis(1250)));
}

#[tokio::test(start_paused = true)]
async fn a_run_keeps_its_own_pace_whatever_the_quota_grants() {
    let zero = Instant::now();
    let (limiter, _) = sharing((0..30).map(|_| Ok(Reserved::Slot(slot(zero, 1)))));
    for _ in 0..21 {
        let _ = limiter.ready().await;
    }
    assert!(zero.elapsed() >= WINDOW, "{:?}", zero.elapsed());
}

/// A schedule that answers after a while, as through a network.
#[derive(Debug)]
struct Distant {
    schedule: Arc<Mutex<Schedule>>,
    clocks: Clocks,
    run: u32,
    one_way: Duration,
}

impl Quota for Distant {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move {
            let delay = micros(2 * self.one_way);
            let wanted = request.wanted(self.run, delay);
            tokio::time::sleep(self.one_way).await;
            let now = self.clocks.time_of(Instant::now());
            let (reserved, runs) = {
                let mut schedule = self.schedule.lock().unwrap();
                (schedule.reserve(now, wanted), schedule.runs(now))
            };
            tokio::time::sleep(self.one_way).await;
            let later = |time: u64| Instant::now() + Duration::from_micros(time - now);
            Ok(match reserved {
                Err(at) => Reserved::NotBefore(later(at)),
                Ok(start) => Reserved::Slot(Slot {
                    id: start.at,
                    at: later(start.at),
                    until: later(start.until - delay),
                    starts: start.count,
                    runs,
                }),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_not_lost_when_the_request_that_waits_for_it_gives_up() {
    let zero = Instant::now();
    let clocks = Clocks { time: 0, instant: zero };
    let quota = Distant {
        schedule: Arc::default(),
        clocks,
        run: 1,
        one_way: millis(60),
    };
    let limiter = Limiter::sharing(rate(20.0), Arc::new(quota));
    let permit = limiter.acquire().await;
    // Such a request gives up because its connection is too old; the next one does soon, too.
    while tokio::time::timeout(millis(50), permit.start()).await.is_err() {
        assert!(zero.elapsed() < SECOND, "nothing starts");
    }
}

/// When requests of runs at these rates start within a minute, so far from the schedule that they share.
async fn sharing_from_afar(rates: &[f64], one_way: Duration) -> Vec<Vec<Instant>> {
    let (schedule, zero) = (Arc::default(), Instant::now());
    let clocks = Clocks {
        time: 1_000_000_000,
        instant: zero,
    };
    let mut runs = tokio::task::JoinSet::new();
    for (run, per_second) in (1..).zip(rates) {
        let quota = Distant {
            schedule: Arc::clone(&schedule),
            clocks,
            run,
            one_way,
        };
        let limiter = Limiter::sharing(rate(*per_second), Arc::new(quota));
        runs.spawn(async move {
            let mut starts = Vec::new();
            while zero.elapsed() < 60 * SECOND {
                let _ = limiter.ready().await;
                starts.push(Instant::now());
            }
            (run, starts)
        });
    }
    let mut starts = runs.join_all().await;
    starts.sort();
    starts.into_iter().map(|(_, starts)| starts).collect()
}

#[tokio::test(start_paused = true)]
async fn runs_use_the_whole_quota_in_equal_shares_however_far_it_is() {
    for (runs, one_way, at_least) in [
        (1, 0, 19.9),
        (1, 1, 19.8),
        (1, 20, 19.0),
        (3, 0, 19.9),
        (3, 1, 19.8),
        (3, 10, 19.5),
        (3, 40, 18.4),
    ] {
        let starts = sharing_from_afar(&vec![20.0; runs], millis(one_way)).await;
        let (least, most) = starts
            .iter()
            .map(Vec::len)
            .fold((usize::MAX, 0), |(least, most), count| {
                (least.min(count), most.max(count))
            });
        assert!(most - least <= 1, "{runs} runs, {one_way} ms: {least} to {most} starts");
        let mut all = starts.concat();
        all.sort();
        let rate = (all.len() - 1) as f64 / (all[all.len() - 1] - all[0]).as_secs_f64();
        assert!(rate >= at_least, "{runs} runs, {one_way} ms: {rate} per second");
        assert!(
            all.windows(21).all(|some| some[20] - some[0] >= WINDOW),
            "{runs} runs, {one_way} ms"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn slow_runs_keep_no_places_that_faster_ones_could_use() {
    let starts = sharing_from_afar(&[5.0, 20.0], Duration::ZERO).await;
    let [slow, fast] = [starts[0].len(), starts[1].len()];
    assert!(slow >= 290 && slow + fast >= 1190, "{slow} and {fast}");
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_comes_too_early_for_a_run_is_asked_for_again_only_when_it_may_start() {
    let zero = Instant::now();
    let early = |_| Ok(Reserved::Slot(slot(zero + millis(20), 1)));
    let (limiter, quota) = sharing((0..2).map(early));
    for _ in 0..2 {
        let _ = limiter.ready().await;
    }
    let asked = quota.requests.lock().unwrap().len();
    assert_eq!((asked, zero.elapsed()), (3, millis(71)));
}

/// A quota that has no free start for this long, and then as many as are asked for.
#[derive(Debug)]
struct Full {
    until: Instant,
    limit: Option<Limit>,
    noted: Mutex<Option<Activity>>,
}

impl Quota for Full {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move {
            Ok(match Instant::now() < self.until {
                true => Reserved::NotBefore(Instant::now() + SECOND),
                false => Reserved::Slot(request.granted()),
            })
        })
    }

    fn limit(&self) -> Option<Limit> {
        self.limit
    }

    fn note(&self, activity: Activity) {
        *self.noted.lock().unwrap() = Some(activity);
    }
}

fn full_for(duration: Duration) -> (Limiter, Arc<Full>) {
    full_with(duration, None)
}

fn full_with(duration: Duration, limit: Option<Limit>) -> (Limiter, Arc<Full>) {
    let full = Arc::new(Full {
        until: Instant::now() + duration,
        limit,
        noted: Mutex::default(),
    });
    (Limiter::sharing(Rate::default(), Arc::clone(&full) as _), full)
}

#[tokio::test(start_paused = true)]
async fn a_quota_without_a_free_start_for_many_seconds_is_a_hold_since_the_first_of_them() {
    let zero = Instant::now();
    let (limiter, _) = full_for(30 * SECOND);
    let permit = limiter.acquire().await;
    assert!(tokio::time::timeout(10 * SECOND, permit.start()).await.is_err());
    assert_eq!(limiter.unavailable(), None);
    assert!(tokio::time::timeout(2 * SECOND, permit.start()).await.is_err());
    let (since, why) = limiter.unavailable().unwrap();
    assert_eq!(since, zero);
    assert!(why.contains("no start has been free for 11 s"), "{why}");
    permit.start().await;
    assert_eq!((limiter.unavailable(), zero.elapsed()), (None, 30 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn others_are_told_the_rate_of_the_last_ten_seconds_and_whether_the_run_is_on_hold() {
    let (limiter, quota) = full_for(Duration::ZERO);
    for _ in 0..100 {
        let _ = limiter.ready().await;
    }
    let noted = |on_hold| {
        limiter.note_activity(on_hold);
        quota.noted.lock().unwrap().unwrap()
    };
    let busy = noted(false);
    assert!((19.0..=20.0).contains(&busy.recent_rate) && !busy.on_hold, "{busy:?}");
    tokio::time::sleep(5 * SECOND).await;
    let waiting = noted(true);
    assert!(
        (9.0..=11.2).contains(&waiting.recent_rate) && waiting.on_hold,
        "{waiting:?}"
    );
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(noted(false).recent_rate, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_is_no_hold_while_a_limit_is_in_force() {
    let limit = Limit::new(Some(rate(5.0)), None);
    let (limiter, _) = full_with(30 * SECOND, Some(limit));
    let zero = Instant::now();
    let permit = limiter.acquire().await;
    assert!(tokio::time::timeout(29 * SECOND, permit.start()).await.is_err());
    assert_eq!(limiter.unavailable(), None);
    permit.start().await;
    assert_eq!(zero.elapsed(), 30 * SECOND);
}

mod rates;
