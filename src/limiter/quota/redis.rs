//! The quota of runs on many machines, through Redis or Valkey.
//!
//! Each reservation is one call of a script, `redis.lua`: the rule of `schedule.rs` by the server's clock. The schedule is in
//! one key, named after the app, which expires. Version 0.1.0 writes and reads the same lines of starts, so runs of both
//! versions share the quota. A server that can't be reached makes the quota [unavailable](Unavailable): nothing is sent until
//! it is back.
//!
//! # What is guaranteed
//! The answer takes some time to come back, so a start may be later than the server counts by up to one round trip. Each
//! run therefore tells how long its round trips take, and its starts count for so much longer. So the cap holds for any delay
//! that does not grow from one reservation to the next by more than a few milliseconds, and costs throughput: with 20 ms to
//! the server, 2 % of the rate.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, ScriptInvocation};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::{Position, Url};

use super::error::QuotaError;
use super::location::QuotaLocation;
use super::{BoxFuture, HigherRate, Quota, Request, Reserved, Slot, Unavailable};
use crate::limiter::rate::MAX as MAX_RATE;
use crate::limiter::schedule::{KEPT, LATENESS, MARGIN, MAX_AHEAD, MAX_COUNT, SECOND, STRETCH, Wanted};

/// How long to wait for the server: for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Round trips are assumed to take no longer than this, in microseconds.
const MAX_ROUND_TRIP: u64 = 200_000;

/// The scheduling rule as a script, without its constants.
const SCRIPT: &str = include_str!("redis.lua");

/// The quota that runs on many machines share through a server.
pub struct RedisQuota {
    client: Client,
    /// The server, without user and password.
    server: String,
    key: String,
    run: u32,
    script: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// How long an answer takes, in microseconds.
    round_trip: AtomicU64,
    /// A call has failed, so the server may have lost the starts of the last second.
    has_failed: AtomicBool,
    higher_rate: HigherRate,
}

impl fmt::Debug for RedisQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQuota")
            .field("server", &self.server)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What the script returns; see there.
type Answer = (bool, u64, u64, usize, String, String);

impl RedisQuota {
    /// Joins the runs that share the quota of this app through the server at `url`: `redis://`, `rediss://` (TLS, with the
    /// system's root certificates) or `redis+unix://`. `exclusive`: fail if another run has sent something in the last seconds.
    /// A server that can't be reached is not an error; nothing is sent until it can.
    ///
    /// # Errors
    /// [`QuotaError::Url`], [`QuotaError::Refused`] if the server refuses the user or the password, and [`QuotaError::Held`].
    pub async fn join(url: &str, location: &QuotaLocation, exclusive: bool) -> Result<RedisQuota, QuotaError> {
        let server = shown(url)?;
        let client = Client::open(url).map_err(|_| QuotaError::Url("it is not the URL of a Redis server"))?;
        let constants = format!(
            "local SECOND, MARGIN, STRETCH, LATENESS, KEPT, MAX_AHEAD, MAX_COUNT, MAX_RATE = \
             {SECOND}, {MARGIN}, {STRETCH}, {LATENESS}, {KEPT}, {MAX_AHEAD}, {MAX_COUNT}, {MAX_RATE}\n"
        );
        let quota = RedisQuota {
            client,
            server,
            key: format!("{}.starts", location.name),
            run: fastrand::u32(1..),
            script: Script::new(&(constants + SCRIPT)),
            connection: Mutex::new(None),
            round_trip: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            higher_rate: HigherRate::default(),
        };
        match quota.call(None).await {
            Ok((.., others, _, _)) if exclusive && others > 0 => Err(QuotaError::Held {
                by: "another run".into(),
            }),
            Ok(_) => Ok(quota),
            Err(error) => match refusal(&error) {
                Some(why) => Err(QuotaError::Refused {
                    server: quota.server,
                    why,
                }),
                None => Ok(quota),
            },
        }
    }

    /// The server that a URL names, without user and password.
    ///
    /// # Errors
    /// [`QuotaError::Url`].
    pub fn server(url: &str) -> Result<String, QuotaError> {
        shown(url)
    }

    /// Calls the script to reserve starts, or only to look.
    async fn call(&self, wanted: Option<Wanted>) -> Result<Answer, RedisError> {
        let mut connection = self.connection.lock().await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let sent_at = Instant::now();
        let answer = self.script(wanted).invoke_async(&mut open).await?;
        self.note_round_trip(sent_at.elapsed());
        // After an error, the next call opens another connection.
        *connection = Some(open);
        Ok(answer)
    }

    fn script(&self, wanted: Option<Wanted>) -> ScriptInvocation<'_> {
        let mut script = self.script.key(&self.key);
        let Some(wanted) = wanted else {
            script.arg(format!("{:x}", self.run)).arg("look");
            return script;
        };
        let made = wanted.previous.unwrap_or_default();
        script
            .arg(format!("{:x}", wanted.run))
            .arg("reserve")
            .arg(wanted.pace.rate)
            .arg(wanted.pace.share)
            .arg(wanted.count)
            .arg(wanted.ahead)
            .arg(wanted.delay)
            .arg(made.at)
            .arg(made.count)
            .arg(made.late);
        script
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        // A server that asks for a password answers a longer call with a protocol error.
        ::redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Longer round trips count immediately, shorter ones by and by.
    fn note_round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(MAX_ROUND_TRIP);
        let known = self.round_trip.load(Ordering::Relaxed);
        let noted = if took > known {
            took
        } else {
            known - (known - took) / 16
        };
        self.round_trip.store(noted, Ordering::Relaxed);
    }

    fn unavailable(&self, error: &RedisError) -> Unavailable {
        let why = match refusal(error) {
            Some(why) => format!("it refuses the user or the password ({why})"),
            None if error.is_timeout() => format!("no answer within {} s", TIMEOUT.as_secs()),
            None if error.is_connection_refusal() => "connection refused".into(),
            None if error.kind() == ErrorKind::Parse => "its answer is not Redis's: is it another server?".into(),
            None => match std::error::Error::source(error) {
                Some(cause) => cause.to_string(),
                None => error.code().unwrap_or("it can't be reached").to_owned(),
            },
        };
        Unavailable(format!("quota server {}: {why}", self.server))
    }
}

impl Quota for RedisQuota {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move {
            let wanted = request.wanted(self.run, self.round_trip.load(Ordering::Relaxed));
            let has_failed = self.has_failed.load(Ordering::Relaxed);
            let answer = self.call((!has_failed).then_some(wanted)).await;
            let now = Instant::now();
            self.has_failed.store(answer.is_err(), Ordering::Relaxed);
            let (is_reserved, at, until, runs, id, largest) = answer.map_err(|error| self.unavailable(&error))?;
            let later = |micros| now + Duration::from_micros(micros);
            if has_failed {
                return Ok(Reserved::NotBefore(later(SECOND + MARGIN)));
            }
            let own = request.pace.rate;
            self.higher_rate.note(largest.parse().unwrap_or(own), own);
            if !is_reserved {
                return Ok(Reserved::NotBefore(later(at)));
            }
            Ok(Reserved::Slot(Slot {
                id: id.parse().unwrap_or_default(),
                at: later(at),
                until: later(until),
                starts: request.starts,
                runs,
            }))
        })
    }
}

/// The server's code, if it refuses the user or the password.
fn refusal(error: &RedisError) -> Option<String> {
    let code = error.code().unwrap_or_default();
    let is_refused =
        error.kind() == ErrorKind::AuthenticationFailed || ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED"].contains(&code);
    let code = if code.is_empty() { "authentication failed" } else { code };
    is_refused.then(|| code.to_owned())
}

/// The server in a URL, without user and password, and whether the URL can be used.
fn shown(url: &str) -> Result<String, QuotaError> {
    let url = Url::parse(url).map_err(|_| QuotaError::Url("it is not a URL"))?;
    // Such a password would end the URL's host early, and the rest of it would be shown.
    let rest = match url.scheme() {
        "redis+unix" => url.path(),
        _ => &url[Position::BeforePath..],
    };
    if rest.contains('@') {
        return Err(QuotaError::Url(
            "there is an '@' after the host: in a password, write / as %2F, ? as %3F, # as %23 and @ as %40",
        ));
    }
    match url.scheme() {
        "redis" | "rediss" if url.host_str().is_none_or(str::is_empty) => Err(QuotaError::Url("it has no host")),
        scheme @ ("redis" | "rediss") => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Ok(format!(
                "{scheme}://{}{port}{}",
                url.host_str().unwrap_or_default(),
                url.path()
            ))
        }
        "redis+unix" => Ok(format!("redis+unix://{}", url.path())),
        _ => Err(QuotaError::Url("its scheme is not one of these")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::limiter::quota::Pace;
    use crate::limiter::schedule::{Made, Schedule};

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
            match (shown(url), expected) {
                (Ok(shown), Some(expected)) => assert_eq!(shown, expected),
                (Err(error), None) => assert!(!error.to_string().contains("s3"), "{error}"),
                (shown, _) => panic!("{url}: {shown:?}"),
            }
        }
    }

    fn location() -> QuotaLocation {
        QuotaLocation::new(12345, &"https://zim-api.zego.im".parse().unwrap())
    }

    #[tokio::test]
    async fn a_quota_that_can_t_be_reached_is_joined_and_shows_no_password() {
        let quota = RedisQuota::join("redis://:s3cret@127.0.0.1:1", &location(), false)
            .await
            .unwrap();
        assert!(!format!("{quota:?}").contains("s3cret"));
        let request = Request {
            pace: Pace { rate: 20.0, share: 1.0 },
            starts: 1,
            not_before: Instant::now(),
            previous: None,
        };
        let error = quota.reserve(request).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "quota server redis://127.0.0.1:1: connection refused"
        );
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
        while !socket.exists() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "redis-server does not answer"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(server)
    }

    /// A reservation by one of three runs, after so much time.
    #[derive(Debug, Clone)]
    struct Call {
        run: usize,
        after: u64,
        share: f64,
        ahead: u64,
        delay: u64,
        /// How many of the run's previous starts were made, and how late, if the run tells it.
        previous: Option<(u32, u64)>,
    }

    fn calls() -> impl Strategy<Value = Vec<Call>> {
        let pace = (
            0_usize..3,
            prop_oneof![9 => 0_u64..120_000, 1 => 0..5_000_000_u64],
            0.5_f64..=1.0,
        );
        let wait = (prop_oneof![Just(0), 0_u64..25_000], prop_oneof![Just(0), 0_u64..50_000]);
        let previous = proptest::option::weighted(0.9, (0_u32..=10, prop_oneof![Just(0), 0_u64..20_000]));
        let call = (pace, wait, previous).prop_map(|((run, after, share), (ahead, delay), previous)| Call {
            run,
            after,
            share,
            ahead,
            delay,
            previous,
        });
        proptest::collection::vec(call, 1..120)
    }

    /// Whatever runs reserve, and whatever the key has before, the script on a real server does the same as the schedule.
    #[test]
    fn the_script_has_the_same_rule_as_the_schedule() {
        const BEGIN: u64 = 1_700_000_000_000_000;
        let directory = tempfile::tempdir().unwrap();
        let Some(server) = server(directory.path()) else { return };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (quota, connection) = runtime.block_on(async {
            let quota = RedisQuota::join(&server.url, &location(), false).await.unwrap();
            let connection = quota.connect().await.unwrap();
            (quota, connection)
        });
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
                let _: () = ::redis::cmd("SET").arg(&quota.key).arg(&before).query_async(&mut connection).await.unwrap();
                let mut schedule = Schedule::parse(&format!("{}end\n", before.trim_end_matches("end\n"))).unwrap();
                let (mut now, mut latest) = (BEGIN, [None; 3]);
                for Call { run, after, share, ahead, delay, previous } in calls {
                    now += after;
                    let (pace, count) = (Pace { rate: rates[run], share }, (rates[run] / 200.0_f64).ceil() as u32);
                    let previous = latest[run].zip(previous);
                    let previous = previous.map(|(at, (made, late))| Made { at, count: made.min(count), late });
                    let wanted = Wanted { run: run as u32 + 1, pace, count, ahead, delay, previous };
                    let mut script = quota.script(Some(wanted));
                    let answer: Answer = script.arg(now).invoke_async(&mut connection).await.unwrap();
                    let reserved = schedule.reserve(now, wanted);
                    let runs = schedule.runs(now);
                    let (is_reserved, at, until, its_runs, id, largest) = answer;
                    let expected = match reserved {
                        Ok(start) => (true, start.at - now, start.until - delay - now, runs, start.at.to_string()),
                        Err(at) => (false, at - now, 0, runs, String::new()),
                    };
                    prop_assert_eq!((is_reserved, at, until, its_runs, id), expected);
                    prop_assert_eq!(largest.parse(), Ok(schedule.largest_rate(rates[run])));
                    let text: String = ::redis::cmd("GET").arg(&quota.key).query_async(&mut connection).await.unwrap();
                    prop_assert_eq!(Schedule::parse(&text), Some(schedule.clone()), "{}", text);
                    latest[run] = reserved.ok().map(|start| start.at);
                }
                Ok(())
            })?;
        });
    }
}
