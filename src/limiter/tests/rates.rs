//! Rates that change while the limiter works: an operator's limit, and a timetable.

use std::time::SystemTime;

use super::*;

/// When requests start with a limit of so many requests per second from `from` to `to`; 0 is a pause.
async fn starts_with_a_limit(own: f64, limit: f64, from: Duration, to: Duration) -> (Instant, Vec<Instant>) {
    let (quota, zero) = (Arc::new(Scripted::default()), Instant::now());
    let limiter = Limiter::sharing(rate(own), Arc::clone(&quota) as _);
    tokio::spawn(async move {
        tokio::time::sleep(from).await;
        *quota.limit.lock().unwrap() = Some(Limit::new(Rate::try_from(limit).ok(), None));
        tokio::time::sleep(to - from).await;
        *quota.limit.lock().unwrap() = None;
    });
    let mut starts = Vec::new();
    while zero.elapsed() < to + 5 * SECOND {
        let _ = limiter.ready().await;
        starts.push(Instant::now());
        assert_eq!(limiter.unavailable(), None);
    }
    (zero, starts)
}

#[tokio::test(start_paused = true)]
async fn a_lower_limit_holds_for_the_second_before_it_too_and_its_end_causes_no_burst() {
    for (own, limit) in [(20.0, 5.0), (20.0, 1.0), (7.0, 0.5), (1000.0, 3.0), (20_000.0, 5.0)] {
        let (from, to) = (millis(3210), millis(13_210));
        let (zero, starts) = starts_with_a_limit(own, limit, from, to).await;
        let [from, to] = [zero + from, zero + to];
        let cap = limit.ceil() as usize;
        for (index, at) in starts.iter().enumerate().filter(|(_, at)| **at > from && **at < to) {
            let second = starts[..=index].iter().filter(|start| **start + WINDOW > *at);
            assert!(second.count() <= cap, "{own}, {limit}: {:?}", *at - zero);
        }
        let within = |from, to| starts.iter().filter(|at| (from..to).contains(*at)).count() as f64;
        let limited = within(from + SECOND, to) / 9.0;
        assert!((limited - limit).abs() <= 0.3, "{own}, {limit}: {limited}/s");
        let after = within(to + SECOND, to + 5 * SECOND) / 4.0;
        assert!(after > own * 0.96 && after <= own + 1.0, "{own}, {limit}: {after}/s");
        let is_full = |some: &[Instant]| some[some.len() - 1] - some[0] >= WINDOW;
        assert!(starts.windows(own as usize + 1).all(is_full), "{own}, {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_in_a_pause_and_its_end_is_taken_up_within_a_second() {
    let (from, to) = (millis(3210), millis(3210) + 8 * 3600 * SECOND);
    let (zero, starts) = starts_with_a_limit(20.0, 0.0, from, to).await;
    let before = starts.iter().take_while(|at| **at < zero + from).count();
    let waited = starts[before] - (zero + to);
    assert!(before >= 63 && waited <= 2 * SECOND, "{before}, {waited:?}");
    assert!(starts.windows(21).all(|some| some[20] - some[0] >= WINDOW));
}

#[tokio::test(start_paused = true)]
async fn what_is_in_force_is_the_lower_of_the_own_rate_and_the_limit() {
    let (limiter, quota) = sharing([]);
    let in_force = |limit: Option<f64>| {
        *quota.limit.lock().unwrap() = limit.map(|limit| Limit::new(Rate::try_from(limit).ok(), None));
        (limiter.rate_limit().rate().map(Rate::per_second), limiter.rate())
    };
    assert_eq!(in_force(Some(50.0)), (Some(20.0), 20.0));
    assert_eq!(in_force(Some(20.0)), (Some(20.0), 20.0));
    assert_eq!(limiter.rate_limit(), RateLimit::Own(Rate::default()));
    assert_eq!(in_force(Some(2.5)), (Some(2.5), 2.5));
    assert_eq!(in_force(Some(0.0)), (None, 0.0));
    assert!(limiter.rate_limit().is_pause());
    assert_eq!(in_force(None), (Some(20.0), 20.0));
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_from_refusals_is_a_number_of_requests_per_second() {
    let (limiter, quota) = sharing([]);
    let limit_to = |limit: f64| *quota.limit.lock().unwrap() = Some(Limit::new(Some(rate(limit)), None));
    let now = Instant::now();
    (0..12).for_each(|_| limiter.accepted(now));
    tokio::time::advance(millis(950)).await;
    (0..2).for_each(|_| limiter.limited(Instant::now(), None));
    let learned = limiter.rate();
    assert!((11.0..13.0).contains(&learned), "{learned}");
    limit_to(15.0);
    assert!((limiter.rate() - learned).abs() < 0.01, "{}", limiter.rate());
    limit_to(5.0);
    assert_eq!(limiter.rate(), 5.0);
}

/// A wall clock that goes with Tokio's, and can be set.
#[derive(Clone)]
struct Wall {
    began: Instant,
    /// What the clock shows when Tokio's began.
    shows: Arc<Mutex<jiff::ZonedDateTime>>,
}

impl Wall {
    /// `at` is a local time with its zone.
    fn new(at: &str) -> Wall {
        Wall {
            began: Instant::now(),
            shows: Arc::new(Mutex::new(at.parse().unwrap())),
        }
    }

    fn now(&self) -> jiff::ZonedDateTime {
        self.shows.lock().unwrap().checked_add(self.began.elapsed()).unwrap()
    }

    fn step(&self, seconds: i64) {
        let mut shows = self.shows.lock().unwrap();
        *shows = shows.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
    }

    fn limiter(&self, timetable: &str) -> Limiter {
        let wall = self.clone();
        Limiter::by_clock(timetable.parse().unwrap(), None, Box::new(move || wall.now()))
    }
}

/// How many requests start in each minute from a local time on: the minute on the wall clock, and the number, if it is another
/// one than in the minute before.
async fn started_by_minute(timetable: &str, from: &str, minutes: usize) -> Vec<(String, usize)> {
    let wall = Wall::new(from);
    let limiter = wall.limiter(timetable);
    let mut starts = vec![0; minutes];
    let mut all = Vec::new();
    let end = wall.began + 60 * minutes as u32 * SECOND;
    while tokio::time::timeout_at(end, limiter.ready()).await.is_ok() {
        starts[(wall.began.elapsed().as_secs() / 60) as usize] += 1;
        all.push(Instant::now());
    }
    let cap = limiter.cap();
    assert!(all.windows(cap + 1).all(|some| some[cap] - some[0] >= WINDOW));
    // To a whole number of requests per second, and 1 for fewer than one.
    let rate = |starts: usize| starts.div_ceil(60);
    let mut changes: Vec<(String, usize)> = Vec::new();
    for (minute, starts) in starts.into_iter().enumerate() {
        if changes.last().is_none_or(|(_, before)| *before != rate(starts)) {
            let at = wall
                .shows
                .lock()
                .unwrap()
                .checked_add(60 * minute as u32 * SECOND)
                .unwrap();
            changes.push((at.strftime("%d %H:%M").to_string(), rate(starts)));
        }
    }
    changes
}

fn by_minute(changes: &[(&str, usize)]) -> Vec<(String, usize)> {
    changes.iter().map(|(at, rate)| ((*at).to_owned(), *rate)).collect()
}

#[tokio::test(start_paused = true)]
async fn the_rate_follows_the_timetable_over_midnight_and_through_a_pause() {
    let changes = started_by_minute("23:30=0,00:10=1,01:00=2", "2026-12-01T23:00:00[Asia/Shanghai]", 150).await;
    assert_eq!(
        changes,
        by_minute(&[("01 23:00", 2), ("01 23:30", 0), ("02 00:10", 1), ("02 01:00", 2)])
    );
}

#[tokio::test(start_paused = true)]
async fn the_rate_follows_the_wall_clock_when_clocks_are_changed() {
    let table = "01:00=2,02:30=3,04:00=1";
    let spring = started_by_minute(table, "2026-03-29T00:30:00[Europe/Berlin]", 180).await;
    assert_eq!(
        spring,
        by_minute(&[("29 00:30", 1), ("29 01:00", 2), ("29 03:00", 3), ("29 04:00", 1)])
    );
    let autumn = started_by_minute(table, "2026-10-25T00:30:00[Europe/Berlin]", 300).await;
    let expected = [
        ("25 00:30", 1),
        ("25 01:00", 2),
        ("25 02:30", 3),
        ("25 02:00", 2),
        ("25 02:30", 3),
        ("25 04:00", 1),
    ];
    assert_eq!(autumn, by_minute(&expected));
    let spring = started_by_minute(table, "2026-03-08T00:30:00[America/New_York]", 180).await;
    assert_eq!(
        spring,
        by_minute(&[("08 00:30", 1), ("08 01:00", 2), ("08 03:00", 3), ("08 04:00", 1)])
    );
    let autumn = started_by_minute("01:30=3,03:00=1", "2026-11-01T00:30:00[America/New_York]", 240).await;
    let expected = [
        ("01 00:30", 1),
        ("01 01:30", 3),
        ("01 01:00", 1),
        ("01 01:30", 3),
        ("01 03:00", 1),
    ];
    assert_eq!(autumn, by_minute(&expected));
}

#[tokio::test(start_paused = true)]
async fn the_rate_follows_the_system_clock_when_it_is_set() {
    let wall = Wall::new("2026-12-01T21:00:00[Europe/Berlin]");
    let limiter = wall.limiter("08:00=0,22:00=20");
    let waits = |seconds: u32| tokio::time::timeout(seconds * SECOND, limiter.ready());
    assert!(waits(60).await.is_err());
    assert!(limiter.rate_limit().is_pause());
    wall.step(3600);
    assert!(waits(2).await.is_ok());
    assert_eq!(limiter.rate_limit().rate(), Some(Rate::default()));
    wall.step(-3600);
    assert!(waits(60).await.is_err());
    let RateLimit::Timetable { rate: None, until } = limiter.rate_limit() else {
        panic!()
    };
    let ends = jiff::Timestamp::try_from(until).unwrap().to_string();
    assert_eq!(ends, "2026-12-01T21:00:00Z");
    // By a day: nothing has changed.
    wall.step(24 * 3600);
    assert!(waits(60).await.is_err());
    let RateLimit::Timetable { until, .. } = limiter.rate_limit() else {
        panic!()
    };
    assert_eq!(
        jiff::Timestamp::try_from(until).unwrap().to_string(),
        "2026-12-02T21:00:00Z"
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_pauses_the_one_that_lasts_longer_is_said() {
    let until = |text: &str| SystemTime::try_from(text.parse::<jiff::Timestamp>().unwrap()).unwrap();
    let at_22 = until("2026-12-01T21:00:00Z");
    let own = RateLimit::Timetable {
        rate: None,
        until: at_22,
    };
    for (limit, is_own) in [
        (None, false),
        (Some("2026-12-01T20:00:00Z"), true),
        (Some("2026-12-01T22:00:00Z"), false),
    ] {
        let limit = Limit::new(None, limit.map(until));
        let expected = if is_own { own } else { RateLimit::Quota(limit) };
        assert_eq!(RateLimit::lower(own, Some(limit)), expected);
    }
    let slower = Limit::new(Some(rate(0.001)), None);
    assert_eq!(RateLimit::lower(own, Some(slower)), own);
}

#[tokio::test(start_paused = true)]
async fn others_are_told_the_rate_of_a_timetable_at_present() {
    let (_, quota) = full_for(Duration::ZERO);
    let wall = Wall::new("2026-12-01T21:59:59[Asia/Shanghai]");
    let limiter = {
        let (quota, wall) = (Arc::clone(&quota), wall.clone());
        let timetable = "08:00=0,22:00=7".parse().unwrap();
        Limiter::by_clock(timetable, Some(quota), Box::new(move || wall.now()))
    };
    let told = |limiter: &Limiter| {
        limiter.note_activity(false);
        quota.noted.lock().unwrap().unwrap().rate_now
    };
    assert_eq!(told(&limiter), Some(0.0));
    tokio::time::sleep(SECOND).await;
    assert_eq!(told(&limiter), Some(7.0));
    assert_eq!(told(&Limiter::sharing(rate(7.0), Arc::clone(&quota) as _)), None);
}

#[tokio::test(start_paused = true)]
async fn runs_with_one_timetable_keep_its_lower_rate_together_from_the_change_on() {
    for (runs, one_way) in [(2, 0), (3, 0), (3, 10)] {
        let wall = Wall::new("2026-12-01T21:59:56.7[Asia/Shanghai]");
        let (schedule, zero) = (Arc::default(), wall.began);
        let clocks = Clocks {
            time: 1_000_000_000,
            instant: zero,
        };
        let mut tasks = tokio::task::JoinSet::new();
        for run in 1..=runs {
            let quota = Distant {
                schedule: Arc::clone(&schedule),
                clocks,
                run,
                one_way: millis(one_way),
            };
            let clock = wall.clone();
            let timetable = "08:00=20,22:00=5".parse().unwrap();
            let limiter = Limiter::by_clock(timetable, Some(Arc::new(quota)), Box::new(move || clock.now()));
            tasks.spawn(async move {
                let mut starts = Vec::new();
                while zero.elapsed() < 30 * SECOND {
                    let _ = limiter.ready().await;
                    starts.push(Instant::now());
                }
                starts
            });
        }
        let mut starts = tasks.join_all().await.concat();
        starts.sort();
        let change = zero + millis(3300);
        let before = starts.partition_point(|at| *at < change);
        assert!(before >= 60, "{runs} runs: {before} before the change");
        let after = &starts[before..];
        let is_within_cap = |some: &[Instant]| some[5] - some[0] >= SECOND;
        assert!(after.windows(6).all(is_within_cap), "{runs} runs, {one_way} ms");
        assert!(after.len() >= 120, "{runs} runs: {} after the change", after.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_can_t_be_used_in_a_pause_by_its_limit_is_a_hold_until_it_can() {
    let (limiter, quota) = sharing([]);
    let look = |is_usable: Option<Result<(), &str>>| {
        *quota.is_usable.lock().unwrap() = is_usable.map(|is_usable| is_usable.map_err(|why| Unavailable(why.into())));
        (limiter.is_cut_off_in_pause(limiter.rate_limit()), limiter.unavailable())
    };
    let zero = Instant::now();
    // Without a pause, reservations tell.
    assert_eq!(look(Some(Err("gone"))), (false, None));
    *quota.limit.lock().unwrap() = Some(Limit::new(None, None));
    assert_eq!(look(Some(Ok(()))), (false, None));
    assert_eq!(look(Some(Err("gone"))), (true, Some((zero, "gone".into()))));
    tokio::time::sleep(SECOND).await;
    assert_eq!(look(Some(Err("slow"))), (true, Some((zero, "slow".into()))));
    assert_eq!(limiter.unavailable_at(), Some(zero + SECOND));
    // What is not known changes nothing.
    assert_eq!(look(None), (false, Some((zero, "slow".into()))));
    assert_eq!(look(Some(Ok(()))), (false, None));
}
