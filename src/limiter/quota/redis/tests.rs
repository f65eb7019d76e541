mod steering;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;

use super::*;
use crate::limiter::quota::{LimitEntry, Pace};
use crate::limiter::schedule::{KEPT, Made, STRETCH, Schedule, Start};

#[test]
fn a_server_is_shown_without_user_and_password() {
    for (url, expected) in [
        ("redis://10.0.0.1", Some("redis://10.0.0.1")),
        ("rediss://user:s3cret@host:6380/2", Some("rediss://host:6380/2")),
        ("redis://:s3%63ret@host", Some("redis://host")),
        (
            "redis+unix:///run/redis.sock?pass=s3cret",
            Some("redis+unix:///run/redis.sock"),
        ),
        ("redis://u:/s3cret@host", None),
        ("redis://u:1/s3cret@host", None),
        ("redis://u:1?s3cret@host", None),
        ("redis://u:1#s3cret@host", None),
        ("redis+unix:/u:s3cret@host", None),
        ("http://host", None),
        ("host:6379", None),
        ("s3cret", None),
    ] {
        match (server::shown(url), expected) {
            (Ok(shown), Some(expected)) => assert_eq!(shown, expected),
            (Err(error), None) => assert!(!error.to_string().contains("s3"), "{error}"),
            (shown, _) => panic!("{url}: {shown:?}"),
        }
    }
}

fn location() -> QuotaLocation {
    QuotaLocation::new(12345, &"https://zim-api.zego.im".parse().unwrap())
}

async fn join(url: &str, exclusive: bool) -> Result<RedisQuota, QuotaError> {
    let presence = Presence::new("test", 20.0.try_into().unwrap());
    RedisQuota::join(url, None, &location(), presence, exclusive).await
}

fn request() -> Request {
    Request {
        pace: Pace { rate: 20.0, share: 1.0 },
        starts: 1,
        not_before: Instant::now(),
        previous: None,
    }
}

#[tokio::test]
async fn a_quota_that_can_t_be_reached_is_joined_and_shows_no_password() {
    let quota = join("redis://:s3cret@127.0.0.1:1", false).await.unwrap();
    assert!(!format!("{quota:?}").contains("s3cret"));
    let error = quota.reserve(request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "quota server redis://127.0.0.1:1: connection refused"
    );
    // It is not known whether another run is there.
    let error = join("redis://127.0.0.1:1", true).await.unwrap_err();
    assert!(matches!(error, QuotaError::Unreachable { .. }), "{error}");
}

/// A Redis, until this is dropped or this process ends, however that ends: then its standard input is closed.
struct Server {
    process: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// Starts a Redis with a socket in this directory; `None` if it is not installed.
fn server(directory: &Path) -> Option<Server> {
    let socket = directory.join("redis.sock");
    let settings = directory.join("redis.conf");
    std::fs::write(&settings, format!("port 0\nsave ''\nunixsocket {}\n", socket.display())).unwrap();
    let _alone = super::super::STARTING_A_PROCESS.blocking_lock();
    if Command::new("redis-server").arg("-v").output().is_err() {
        crate::passed_over::passed_over("redis-server is not installed");
        return None;
    }
    let process = Command::new("sh")
        .args(["-c", "redis-server \"$0\" & read -r end; kill $! && wait $!"])
        .arg(&settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = format!("redis+unix://{}", socket.display());
    let server = Server { process, url };
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "redis-server does not answer"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(server)
}

async fn connected(server: &Server) -> ::redis::aio::MultiplexedConnection {
    let client = ::redis::Client::open(server.url.as_str()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

#[test]
fn a_run_is_there_from_joining_to_leaving_and_one_that_is_to_be_alone_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let first = join(&server.url, true).await.unwrap();
        assert!(matches!(first.reserve(request()).await, Ok(Reserved::Slot(_))));
        let error = join(&server.url, true).await.unwrap_err();
        let named = format!("process {} on ", std::process::id());
        assert!(error.to_string().contains(&named), "{error}");
        let second = join(&server.url, false).await.unwrap();
        first.leave(None).await;
        assert!(matches!(join(&server.url, true).await, Err(QuotaError::Held { .. })));
        // Without leaving, too.
        drop(second);
        let alone = join(&server.url, true).await.unwrap();
        assert!(matches!(
            alone.reserve(request()).await,
            Ok(Reserved::Slot(_) | Reserved::NotBefore(_))
        ));
    });
}

#[test]
fn entries_that_were_not_renewed_or_are_from_the_future_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let mut connection = connected(&server).await;
        let (seconds, _): (u64, u64) = ::redis::cmd("TIME").query_async(&mut connection).await.unwrap();
        let entry = Presence::new("gone", 20.0.try_into().unwrap()).to_text();
        let ages = [-3600, -11, 11, 3600].map(|offset| (seconds as i64 + offset) * SECOND as i64);
        let texts = ages.map(|time| format!("{time} {entry}"));
        for (id, text) in texts
            .iter()
            .map(String::as_str)
            .chain(["", "x", "1e300 {}"])
            .enumerate()
        {
            ::redis::cmd("HSET")
                .arg("zim-batch-12345.runs")
                .arg(id)
                .arg(text)
                .exec_async(&mut connection)
                .await
                .unwrap();
        }
        drop(join(&server.url, true).await.unwrap());
    });
}

#[test]
fn a_server_that_has_lost_what_it_knew_reserves_nothing_for_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        assert!(matches!(quota.reserve(request()).await, Ok(Reserved::Slot(_))));
        let mut connection = connected(&server).await;
        ::redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
        let lost_at = Instant::now();
        let Ok(Reserved::NotBefore(at)) = quota.reserve(request()).await else {
            panic!()
        };
        assert!(at >= lost_at + Duration::from_secs(1));
        let Ok(Reserved::NotBefore(at)) = quota.reserve(request()).await else {
            panic!()
        };
        tokio::time::sleep_until(at).await;
        assert!(matches!(quota.reserve(request()).await, Ok(Reserved::Slot(_))));
    });
}

#[test]
fn a_run_leaves_when_its_entry_was_renewed_without_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        let mut connection = connected(&server).await;
        let mut client = ::redis::cmd("CLIENT");
        client
            .arg(&["PAUSE", "1500"])
            .exec_async(&mut connection)
            .await
            .unwrap();
        quota.renewing.abort();
        quota.run.renew().await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(1)).await;
        quota.leave(None).await;
        drop(join(&server.url, true).await.unwrap());
    });
}

#[test]
fn connections_that_are_closed_are_opened_anew_without_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        let mut connection = connected(&server).await;
        for _ in 0..3 {
            ::redis::cmd("CLIENT")
                .arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"])
                .exec_async(&mut connection)
                .await
                .unwrap();
            assert!(matches!(quota.reserve(request()).await, Ok(Reserved::Slot(_))));
        }
    });
}

/// A reservation by one of three runs, after so much time.
#[derive(Debug, Clone)]
struct Call {
    run: usize,
    after: u64,
    share: f64,
    /// The run's rate is lower from now on until the next call.
    is_slower: bool,
    ahead: u64,
    delay: u64,
    /// How many of the run's previous starts were made, and how late, if the run tells it.
    previous: Option<(u32, u64)>,
    /// What an operator sets before, and whether the run knows of it.
    limit: Option<f64>,
    is_known: bool,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let pace = (
        0_usize..3,
        prop_oneof![9 => 0_u64..120_000, 1 => 0..5_000_000_u64],
        0.5_f64..=1.0,
        any::<bool>(),
    );
    let wait = (prop_oneof![Just(0), 0_u64..25_000], prop_oneof![Just(0), 0_u64..50_000]);
    let previous = proptest::option::weighted(0.9, (0_u32..=10, prop_oneof![Just(0), 0_u64..20_000]));
    let limit = prop_oneof![20 => Just(None), 1 => prop_oneof![Just(0.0), Just(0.5), Just(0.001), Just(6.0), Just(7.3), Just(300.0)]
        .prop_map(Some)];
    let limit = (limit, proptest::bool::weighted(0.9));
    let call = (pace, wait, previous, limit).prop_map(
        |((run, after, share, is_slower), (ahead, delay), previous, (limit, is_known))| Call {
            run,
            after,
            share,
            is_slower,
            ahead,
            delay,
            previous,
            limit,
            is_known,
        },
    );
    proptest::collection::vec(call, 1..120)
}

/// Whatever runs reserve, and whatever the key has before, the script on a real server does the same as the schedule.
#[test]
fn the_script_has_the_same_rule_as_the_schedule() {
    const BEGIN: u64 = 1_700_000_000_000_000;
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    let runtime = runtime();
    let (quota, connection) = runtime.block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        (quota, connected(&server).await)
    });
    let run = &quota.run;
    let rates = prop_oneof![
        Just([20.0, 5.0, 7.5]),
        Just([0.5, 0.25, 0.001]),
        Just([2000.0, 20.0, 400.0])
    ];
    let before = prop_oneof![
        8 => Just(String::new()),
        1 => (0_u64..4_000_000).prop_map(|at| format!("hold {}\nend\n", BEGIN + at)),
        // Another run's start, as version 0.1.0 has written it.
        1 => Just(format!("{0} {0} 1 20 00d1e2f3\n", BEGIN - 30_000)),
        1 => (0_u64..4_000_000).prop_map(|at| format!("{0} {0} 1 20 a\n", BEGIN + at)),
        1 => Just(format!("{BEGIN} {BEGIN} 10001 20 a\n")),
        1 => prop_oneof![Just("0"), Just("-1"), Just("1e7"), Just("inf"), Just("abc")]
            .prop_map(|rate| format!("{BEGIN} {BEGIN} 1 {rate} a\n")),
    ];
    proptest!(ProptestConfig::with_cases(64), |(rates in rates, before in before, calls in calls())| {
        runtime.block_on(async {
            let mut connection = connection.clone();
            let (seconds, _): (u64, u64) = ::redis::cmd("TIME").query_async(&mut connection).await.unwrap();
            for id in 1..=3 {
                let _: () = ::redis::cmd("HSET").arg(&run.store.runs_key).arg(id).arg(format!("{seconds}000000 {{}}")).query_async(&mut connection).await.unwrap();
            }
            let _: () = ::redis::cmd("SET").arg(&run.store.starts_key).arg(&before).query_async(&mut connection).await.unwrap();
            let mut schedule = Schedule::parse(&format!("{}end\n", before.trim_end_matches("end\n"))).unwrap();
            run.store.set_limit(None, 0).await.unwrap();
            let (mut now, mut latest, mut limit) = (BEGIN, [None; 3], None);
            for Call { run: number, after, share, is_slower, ahead, delay, previous, limit: new_limit, is_known } in calls {
                now += after;
                if let Some(new_limit) = new_limit {
                    let rate = (new_limit > 0.0).then(|| new_limit.try_into().unwrap());
                    run.store.set_limit(Some(&LimitEntry::new(Limit::new(rate, None))), 60_000).await.unwrap();
                    limit = Some(new_limit);
                }
                let rate = if is_slower { rates[number] / 400.0 } else { rates[number] };
                let rate = limit.filter(|limit| is_known && *limit > 0.0).map_or(rate, |limit: f64| limit.min(rate));
                let (pace, count) = (Pace { rate, share }, (rate / 200.0).ceil() as u32);
                let previous = latest[number].zip(previous);
                let previous = previous.map(|(at, (made, late))| Made { at, count: made.min(count), late });
                let wanted = Wanted { run: number as u32 + 1, pace, count, ahead, delay, limit, previous };
                let mut script = run.reserving(wanted);
                let answer: StartsAnswer = script.arg(now).invoke_async(&mut connection).await.unwrap();
                let reserved = schedule.reserve(now, wanted);
                let runs = schedule.runs(now);
                let (is_reserved, at, until, its_runs, id, largest, its_limit, _) = answer;
                let expected = match reserved {
                    Ok(start) => (1, start.at - now, start.until - delay - now, runs, start.at.to_string()),
                    Err(at) => (0, at - now, 0, runs, String::new()),
                };
                prop_assert_eq!((is_reserved, at, until, its_runs, id), expected);
                prop_assert_eq!(its_limit.parse().ok(), limit);
                if limit.is_none() {
                    prop_assert_eq!(largest.parse(), Ok(schedule.largest_rate(rate)));
                }
                // Its time is another one than the server's, which would have it expire between two calls.
                let _: () = ::redis::cmd("PERSIST").arg(&run.store.starts_key).query_async(&mut connection).await.unwrap();
                let text: Option<String> = ::redis::cmd("GET").arg(&run.store.starts_key).query_async(&mut connection).await.unwrap();
                match &text {
                    Some(text) => prop_assert_eq!(Schedule::parse(text), Some(schedule.clone()), "{}", text),
                    // What is kept after a pause may hardly matter any more, and expires before it is read.
                    None => {
                        let matters = |start: &Start| start.until + KEPT.max((2.0 * (SECOND + STRETCH) as f64 / start.rate) as u64) > now + SECOND;
                        prop_assert!(reserved.is_err() && !schedule.starts().iter().any(matters), "{:?}", schedule);
                        schedule = Schedule::default();
                    }
                }
                latest[number] = reserved.ok().map(|start| start.at);
            }
            Ok(())
        })?;
    });
}
