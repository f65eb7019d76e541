//! Connections of any slowness, and the cap. The service opens a connection for each request, as a client does that has none
//! to spare, and only then passes the gate.

use zim_batch::limiter::Limiter;

use super::*;

/// Opens connections in as long as the function says, from the row's line and the time since the beginning.
struct Connecting<F> {
    opens_in: F,
    started_at: Instant,
    starts: Arc<Mutex<Vec<Instant>>>,
}

impl<F> Sealed for Connecting<F> {}

impl<F: Fn(u64, Duration) -> Duration + Send + Sync + 'static> Service for Connecting<F> {
    type Item = Row;

    async fn attempt(&self, row: &mut Row, gate: &impl Gate) -> Option<Attempt> {
        sleep((self.opens_in)(line_of(row), self.started_at.elapsed())).await;
        if tokio::time::timeout(4 * SECOND, gate.pass()).await.is_err() {
            return None;
        }
        let started_at = Instant::now();
        gate.started(started_at);
        self.starts.lock().unwrap().push(started_at);
        sleep(Duration::from_millis(30)).await;
        let latency = Duration::from_millis(30);
        Some(Attempt::new(code(0), Some(started_at), latency))
    }
}

/// The summary of a run of `rows` rows at `rate`, and when its requests started.
async fn starts<F>(rows: usize, rate: f64, opens_in: F) -> (Summary, Vec<Instant>)
where
    F: Fn(u64, Duration) -> Duration + Send + Sync + 'static,
{
    let starts = Arc::new(Mutex::new(Vec::new()));
    let service = Connecting {
        opens_in,
        started_at: Instant::now(),
        starts: Arc::clone(&starts),
    };
    let (summary, _) = run_with(rows, rate, Limits::default(), service).await;
    let starts = starts.lock().unwrap().clone();
    (summary, starts)
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn whatever_connecting_takes_no_second_has_more_starts_than_the_cap_and_the_audit_says_so() {
    let stalled_at_first = |_, since| (8 * SECOND).saturating_sub(since) + millis(50);
    let slow_each_time = |_, _| 4 * SECOND;
    let by_chance = |line: u64, _| millis(line.wrapping_mul(0x9e37_79b9) % 7919);
    let at_once_in_the_middle = |_, since: Duration| match since.as_secs() {
        10..16 => 16 * SECOND - since,
        _ => Duration::ZERO,
    };
    let ways: [fn(u64, Duration) -> Duration; 4] = [stalled_at_first, slow_each_time, by_chance, at_once_in_the_middle];
    for (nth, opens_in) in ways.into_iter().enumerate() {
        for rate in [20.0, 5.0, 150.0] {
            in_paused_time(async move {
                let (summary, starts) = starts(400, rate, opens_in).await;
                let peak = peak(&starts);
                assert!(
                    peak <= rate as usize,
                    "{peak} within a second, way {nth}, {rate} a second"
                );
                assert_eq!((summary.ok, summary.requests, summary.peak_1s), (400, 400, peak as u64));
            });
        }
    }
}

#[test]
fn slow_connections_cost_no_rate_once_they_are_open() {
    in_paused_time(async {
        let (_, starts) = starts(400, 20.0, |_, _| 2 * SECOND).await;
        // The reading thread lives in real time, so the first rows may come late.
        let rate = 299.0 / (starts[399] - starts[100]).as_secs_f64();
        assert!(rate > 19.8, "{rate}");
    });
}

#[test]
fn at_a_low_rate_a_connection_is_opened_only_shortly_before_its_request_may_start() {
    in_paused_time(async {
        let opened = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&opened);
        let (_, starts) = starts(5, 0.1, move |_, since| {
            seen.lock().unwrap().push(since);
            millis(300)
        })
        .await;
        let opened = opened.lock().unwrap();
        assert_eq!((opened.len(), starts.len()), (5, 5), "one connection for each request");
    });
}

#[test]
fn while_the_server_asks_to_wait_no_connection_is_opened_in_vain() {
    in_paused_time(async {
        let limiter = Limiter::new(Rate::default());
        let permit = limiter.acquire().await;
        for _ in 0..2 {
            limiter.limited(Instant::now(), Some(60 * SECOND));
        }
        let started_at = Instant::now();
        // The one with a connection open waits for as long as was asked for, and so does whoever would open the next.
        assert!(tokio::time::timeout(59 * SECOND, permit.start()).await.is_err());
        let next = limiter.acquire().await;
        assert!(started_at.elapsed() >= 60 * SECOND);
        next.start().await;
    });
}
