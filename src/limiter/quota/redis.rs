//! The quota of runs on many machines, through Redis or Valkey.
//!
//! Each reservation is one call of a script, which is the law of `schedule.rs` by the server's clock. The starts are in one key,
//! named after the app, which expires. A server that can't be reached makes the quota [unavailable](Unavailable): nothing is
//! sent until it is back.
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
use ::redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, Script};
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::{Position, Url};

use super::error::QuotaError;
use super::place::Place;
use super::schedule::{KEPT, MARGIN, MAX_AHEAD, MAX_RESERVATIONS, MIN_SHARE, PORTION_LASTS, SECOND, STRETCH};
use super::{Pace, Previous, Quota, Reserved, Reserving, Slot, Unavailable};

/// How long to wait for the server: for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Round trips are assumed to take no longer than this, in microseconds.
const MAX_ROUND_TRIP: u64 = 200_000;

/// `KEYS[1]`: the starts, a line for each. `ARGV`: the run, its rate, its share, its round trip in microseconds, its previous
/// start or an empty text, whether only to look, for tests the time, and how late the previous start was in microseconds, or -1
/// if it was not used. Returns when the start is, from now on, or when
/// to try again; until when; how many starts; how many runs; and the start's name.
const SCRIPT: &str = r"
local run, rate, share, trip, previous = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local late = tonumber(ARGV[8])
local now = tonumber(ARGV[7])
if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000000 + time[2]
end

local starts, seen, runs = {}, {}, 0
for at, till, count, of_rate, who in string.gmatch(redis.call('GET', KEYS[1]) or '', '(%d+) (%d+) (%d+) (%S+) (%x+)\n') do
    local is_previous = who == run and at == previous
    if is_previous then till = tonumber(till) + math.max(0, late) end
    if not (is_previous and late < 0) then
        starts[#starts + 1] = { at = tonumber(at), till = tonumber(till), count = tonumber(count), rate = tonumber(of_rate), run = who }
    end
end
local kept = {}
for index, start in ipairs(starts) do
    local lasts = KEPT
    if index == #starts then lasts = math.max(KEPT, math.floor(1.1 * SECOND / start.rate)) end
    if start.till + lasts > now then
        kept[#kept + 1] = start
        if not seen[start.run] then seen[start.run] = true; runs = runs + 1 end
    end
end
if ARGV[6] == 'look' then
    if seen[run] then runs = runs - 1 end
    return { 0, 0, 0, runs, '' }
end

local all = rate
for _, start in ipairs(kept) do all = math.max(all, start.rate) end
share = math.min(1, math.max(MIN_SHARE, share))
local count = math.max(1, math.ceil(rate / MAX_RESERVATIONS))
local interval = (SECOND + STRETCH) / (all * share)
local at = now
for _, start in ipairs(kept) do at = math.max(at, start.at + math.floor(interval * start.count)) end
local room, span = math.ceil(all) - count, math.floor((SECOND + MARGIN) / share)
local within, sum = {}, 0
for _, start in ipairs(kept) do
    if start.till + span > at then
        within[#within + 1] = start
        sum = sum + start.count
    end
end
table.sort(within, function(one, other) return one.till < other.till end)
for _, oldest in ipairs(within) do
    if sum <= room then break end
    sum = sum - oldest.count
    at = math.max(at, oldest.till + span)
end

local reserves = at <= now + MAX_AHEAD
local lasts = trip
if count > 1 then lasts = trip + math.floor(interval * count) + PORTION_LASTS end
if reserves then
    if not seen[run] then runs = runs + 1 end
    kept[#kept + 1] = { at = at, till = at + lasts, count = count, rate = rate, run = run }
    table.sort(kept, function(one, other) return one.at < other.at end)
end
local text, last = '', kept[#kept]
for _, start in ipairs(kept) do
    text = text .. string.format('%.0f %.0f %d %.17g %s\n', start.at, start.till, start.count, start.rate, start.run)
end
if last then
    local expires = math.max(KEPT, 1.1 * SECOND / last.rate) + last.till - now
    redis.call('SET', KEYS[1], text, 'PX', math.ceil(expires / 1000))
end
if not reserves then return { -1, at - now, 0, runs, '' } end
return { at - now, at + lasts - trip - now, count, runs, string.format('%.0f', at) }
";

/// The quota that runs on many machines share through a server.
pub struct RedisQuota {
    client: Client,
    /// The server, without user and password.
    server: String,
    key: String,
    run: String,
    script: Script,
    connection: Mutex<Option<MultiplexedConnection>>,
    /// How long an answer takes, in microseconds.
    round_trip: AtomicU64,
    /// A call has failed, so the server may have lost the starts of the last second.
    has_failed: AtomicBool,
}

impl fmt::Debug for RedisQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQuota")
            .field("server", &self.server)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// What the script returns.
type Answer = (i64, i64, u32, usize, String);

impl RedisQuota {
    /// Joins the runs that share the quota of this app through the server at `url`: `redis://`, `rediss://` (TLS, with the
    /// system's root certificates) or `redis+unix://`. `is_alone`: fail if another run has sent something in the last seconds.
    /// A server that can't be reached is not an error; nothing is sent until it can.
    ///
    /// # Errors
    /// [`QuotaError::Url`], [`QuotaError::Refused`] if the server refuses the user or the password, and [`QuotaError::Held`].
    pub async fn join(url: &str, place: &Place, is_alone: bool) -> Result<RedisQuota, QuotaError> {
        let server = shown(url)?;
        let client = Client::open(url).map_err(|_| QuotaError::Url("it is not the URL of a Redis server"))?;
        let constants = format!(
            "local SECOND, MARGIN, STRETCH, KEPT, MAX_AHEAD, PORTION_LASTS, MIN_SHARE, MAX_RESERVATIONS = \
             {SECOND}, {MARGIN}, {STRETCH}, {KEPT}, {MAX_AHEAD}, {PORTION_LASTS}, {MIN_SHARE}, {MAX_RESERVATIONS:?}\n"
        );
        let quota = RedisQuota {
            client,
            server,
            key: format!("{}.starts", place.name),
            run: format!("{:016x}", fastrand::u64(1..)),
            script: Script::new(&(constants + SCRIPT)),
            connection: Mutex::new(None),
            round_trip: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
        };
        let pace = Pace { rate: 1.0, share: 1.0 };
        match quota.call(pace, None, "look").await {
            Ok((.., others, _)) if is_alone && others > 0 => Err(QuotaError::Held {
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

    /// `previous`: the previous start, and how late it was in microseconds, or -1 if it was not used.
    async fn call(&self, pace: Pace, previous: Option<(u64, i64)>, what: &str) -> Result<Answer, RedisError> {
        let mut connection = self.connection.lock().await;
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let sent_at = Instant::now();
        let answer = self
            .script
            .key(&self.key)
            .arg(&self.run)
            .arg(pace.rate)
            .arg(pace.share)
            .arg(self.round_trip.load(Ordering::Relaxed))
            .arg(previous.map(|(id, _)| id.to_string()).unwrap_or_default())
            .arg(what)
            .arg("")
            .arg(previous.map_or(0, |(_, late)| late))
            .invoke_async(&mut open)
            .await?;
        self.note_round_trip(sent_at.elapsed());
        // After an error, the next call opens another connection.
        *connection = Some(open);
        Ok(answer)
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
    fn reserve<'a>(&'a self, pace: Pace, previous: Option<Previous>) -> Reserving<'a> {
        Box::pin(async move {
            let previous = previous.map(|previous| match previous {
                Previous::Unused(slot) => (slot.id, -1),
                Previous::Started(slot, at) => (slot.id, at.saturating_duration_since(slot.at).as_micros() as i64),
            });
            let has_failed = self.has_failed.load(Ordering::Relaxed);
            let answer = self
                .call(pace, previous, if has_failed { "look" } else { "reserve" })
                .await;
            let now = Instant::now();
            self.has_failed.store(answer.is_err(), Ordering::Relaxed);
            let (at, until, starts, runs, id) = answer.map_err(|error| self.unavailable(&error))?;
            if has_failed {
                return Ok(Reserved::NotBefore(now + Duration::from_micros(SECOND + MARGIN)));
            }
            let later = |micros: i64| now + Duration::from_micros(micros.try_into().unwrap_or(0));
            Ok(match at {
                -1 => Reserved::NotBefore(later(until)),
                _ => Reserved::Slot(Slot {
                    id: id.parse().unwrap_or_default(),
                    at: later(at),
                    starts,
                    until: later(until),
                    runs,
                }),
            })
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
    use super::super::schedule::Schedule;
    use super::*;

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

    #[tokio::test]
    async fn a_quota_that_can_t_be_reached_is_joined_and_shows_no_password() {
        let place = Place::new(12345, &"https://zim-api.zego.im".parse().unwrap());
        let quota = RedisQuota::join("redis://:s3cret@127.0.0.1:1", &place, false)
            .await
            .unwrap();
        assert!(!format!("{quota:?}").contains("s3cret"));
        let error = quota.reserve(Pace { rate: 20.0, share: 1.0 }, None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "quota server redis://127.0.0.1:1: connection refused"
        );
    }

    /// The script on a real server, if there is one, against `schedule.rs`: any calls at any times have the same result.
    #[tokio::test]
    async fn the_script_is_the_law_of_the_schedule() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("redis.sock");
        let settings = directory.path().join("redis.conf");
        std::fs::write(&settings, format!("port 0\nsave ''\nunixsocket {}\n", socket.display())).unwrap();
        let server = {
            let _alone = super::super::STARTING_A_PROCESS.lock().await;
            std::process::Command::new("redis-server")
                .arg(&settings)
                .stdout(std::process::Stdio::null())
                .spawn()
        };
        let Ok(mut server) = server else {
            let requires_all =
                std::env::var_os(concat!("ZIM", "_TEST_REQUIRE_ALL")).is_some_and(|value| !value.is_empty());
            assert!(!requires_all, "there is no redis-server");
            return;
        };
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let place = Place::new(12345, &"https://zim-api.zego.im".parse().unwrap());
        let quota = RedisQuota::join(&format!("redis+unix://{}", socket.display()), &place, false)
            .await
            .unwrap();
        let mut connection = quota.connect().await.unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for rates in [&[20.0, 5.0, 7.5][..], &[0.5, 0.25], &[2000.0, 20.0]] {
            let (mut schedule, mut now) = (Schedule::default(), 1_700_000_000_000_000);
            ::redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
            let mut last = None;
            for _ in 0..300 {
                now += random.u64(0..120_000);
                let run = random.usize(0..rates.len());
                let pace = Pace {
                    rate: rates[run],
                    share: 0.4 + random.f64() * 0.6,
                };
                let unused = last
                    .take()
                    .filter(|(by, _)| *by == run && random.bool())
                    .map(|(_, id)| id);
                let late = random.i64(-1..3).max(-1) * if random.bool() { 1 } else { 3000 };
                let late = late.max(-1);
                if let Some(id) = unused {
                    match late {
                        -1 => _ = schedule.remove(run as u32, id),
                        late => schedule.note_started(run as u32, id, id + late as u64),
                    }
                }
                let answer: Answer = quota
                    .script
                    .key(&quota.key)
                    .arg(format!("{run:x}"))
                    .arg(pace.rate)
                    .arg(pace.share)
                    .arg(0)
                    .arg(unused.map(|id| id.to_string()).unwrap_or_default())
                    .arg("reserve")
                    .arg(now.to_string())
                    .arg(late)
                    .invoke_async(&mut connection)
                    .await
                    .unwrap();
                match schedule.reserve(run as u32, now, pace) {
                    Ok(start) => {
                        let expected = (
                            start.at - now,
                            start.until - now,
                            start.count,
                            schedule.runs(),
                            start.at.to_string(),
                        );
                        let (at, until, count, runs, id) = answer;
                        assert_eq!((at as u64, until as u64, count, runs, id), expected);
                        last = Some((run, start.at));
                    }
                    Err(at) => assert_eq!((answer.0, answer.1 as u64), (-1, at - now)),
                }
            }
        }
        server.kill().unwrap();
        server.wait().unwrap();
    }
}
