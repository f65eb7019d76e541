//! The quota of runs on many machines, through Redis or Valkey.
//!
//! Each reservation is one call of a script, `starts.lua`: the rule of `schedule.rs` by the server's clock. The schedule is in
//! one key, named after the app, which expires. Version 0.1.0 writes and reads the same lines of starts, so runs of both
//! versions share the quota. A server that can't be reached makes the quota [unavailable](Unavailable): nothing is sent until
//! a reservation has succeeded, which is a write.
//!
//! # Active runs
//! Another key has an [entry](Presence) for each run (`runs.lua`), which the run renews every second from joining to leaving. A
//! run that does not find its own entry knows that the server has lost what it knew, because it was started anew, for instance.
//! Starts of the last second may be lost too, so the run lets a second pass.
//!
//! # What is guaranteed
//! The answer takes some time to come back, so a start may be later than the server counts by up to one round trip. Each
//! run therefore tells how long its round trips take, and its starts count for so much longer. So the cap holds for any delay
//! that does not grow from one reservation to the next by more than a few milliseconds, and costs throughput: with 20 ms to
//! the server, 2 % of the rate.

mod failure;
mod known_limit;
mod server;
mod server_clock;
mod steer;
mod store;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use ::redis::{RedisError, ScriptInvocation};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::error::QuotaError;
use super::limit::Limit;
use super::location::QuotaLocation;
use super::presence::{Activity, Presence};
use super::{BoxFuture, HigherRate, Previous, Quota, Request, Reserved, Slot, Unavailable};
use crate::limiter::schedule::{MARGIN, SECOND, Wanted};
use crate::text::milliseconds;
use failure::Failure;
use known_limit::KnownLimit;
use server::{Connect, Server, TIMEOUT};
use server_clock::ServerClock;
use store::{RunsAnswer, StartsAnswer, Store};

/// Round trips are assumed to take no longer than this, in microseconds.
const MAX_ROUND_TRIP: u64 = 200_000;

/// How often a run renews its entry.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How long an entry counts that is not renewed, in microseconds.
const PRESENT_FOR: u64 = 10 * SECOND;

/// No more entries of others are returned.
const MAX_ENTRIES: usize = 256;

/// The quota that runs on many machines share through a server.
pub struct RedisQuota {
    run: Arc<Run>,
    renewing: AbortHandle,
}

/// A run among those that share the quota.
struct Run {
    store: Store,
    /// Names the run for the server: hexadecimal digits.
    id: u32,
    presence: Mutex<Presence>,
    /// When the run joined, by the server's clock, in microseconds.
    joined_at: AtomicU64,
    /// The server has this run's entry, as far as is known, or may have it.
    is_present: AtomicBool,
    /// How many others were there at the latest renewal, and after this run joined.
    others: AtomicUsize,
    /// Whether the server could be used at the latest renewal, or why not.
    renewed: Mutex<Option<Result<(), Unavailable>>>,
    /// The server may have lost starts, so nothing starts before this time.
    not_before: Mutex<Option<Instant>>,
    /// How long an answer takes, in microseconds.
    round_trip: AtomicU64,
    higher_rate: HigherRate,
    /// The limit that an operator has set.
    limit: Mutex<KnownLimit>,
    /// How far this machine's clock is ahead of the server's, in milliseconds, once that is known.
    ahead: Mutex<Option<i64>>,
    server_clock: Mutex<ServerClock>,
}

impl fmt::Debug for RedisQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisQuota")
            .field("server", &self.run.store.server.shown)
            .field("key", &self.run.store.starts_key)
            .finish_non_exhaustive()
    }
}

impl RedisQuota {
    /// Joins the runs that share the quota of this app through the server at `url`: `redis://`, `rediss://` (TLS, trusting the
    /// system's root certificates and those in `ca_cert`, PEM) or `redis+unix://`. `presence` is the entry that the others see.
    /// `exclusive`: fail if another run is active. Otherwise a server that can't be reached is not an error; nothing is sent
    /// until it can. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`QuotaError::Url`]; [`QuotaError::Refused`] and [`QuotaError::Untrusted`] if the server can't be used and waiting does not
    /// help; and if the run is to be exclusive, [`QuotaError::Held`] and [`QuotaError::Unreachable`].
    pub async fn join(
        url: &str,
        ca_cert: Option<&[u8]>,
        location: &QuotaLocation,
        presence: Presence,
        exclusive: bool,
    ) -> Result<RedisQuota, QuotaError> {
        RedisQuota::join_through(Server::new(url, ca_cert)?, location, presence, exclusive).await
    }

    /// As [`RedisQuota::join`], through a server in this process: `connect` opens a connection. For this crate's own tests.
    #[doc(hidden)]
    pub async fn join_in_process<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        connect: impl Fn() -> BoxFuture<'static, io::Result<S>> + Send + Sync + 'static,
        location: &QuotaLocation,
        presence: Presence,
    ) -> Result<RedisQuota, QuotaError> {
        let connect: Connect = Box::new(move || {
            let opening = connect();
            Box::pin(async { Ok(Box::new(opening.await?) as Box<_>) })
        });
        RedisQuota::join_through(Server::in_process(connect), location, presence, false).await
    }

    async fn join_through(
        server: Server,
        location: &QuotaLocation,
        presence: Presence,
        exclusive: bool,
    ) -> Result<RedisQuota, QuotaError> {
        let run = Arc::new(Run::new(Store::new(server, location), presence));
        let joined = match run.join(exclusive).await {
            Ok(Some(by)) => return Err(QuotaError::Held { by: by.map(Box::new) }),
            // Whether starts could be reserved too is to be known before anything is sent.
            Ok(None) => run.check().await,
            Err(error) => Err(error),
        };
        let renewing = tokio::spawn(Arc::clone(&run).renew_all_the_time()).abort_handle();
        let quota = RedisQuota { run, renewing };
        let Err(error) = joined else { return Ok(quota) };
        let server = quota.run.store.server.shown.clone();
        let error = match (Failure::of(&error), exclusive) {
            (Failure::Passing(_), false) => return Ok(quota),
            (Failure::Passing(why), true) => QuotaError::Unreachable { server, why },
            (Failure::Lasting(why), _) => QuotaError::Refused { server, why },
            (Failure::Untrusted(why), _) => QuotaError::Untrusted { server, why },
        };
        quota.leave(None).await;
        Err(error)
    }

    /// The server that a URL names, without user and password.
    ///
    /// # Errors
    /// [`QuotaError::Url`].
    pub fn server(url: &str) -> Result<String, QuotaError> {
        server::shown(url)
    }
}

impl Run {
    fn new(store: Store, presence: Presence) -> Run {
        Run {
            store,
            id: fastrand::u32(1..),
            higher_rate: HigherRate::new(&presence),
            presence: Mutex::new(presence),
            joined_at: AtomicU64::new(0),
            is_present: AtomicBool::new(false),
            others: AtomicUsize::new(0),
            renewed: Mutex::new(None),
            not_before: Mutex::new(None),
            round_trip: AtomicU64::new(0),
            limit: Mutex::default(),
            ahead: Mutex::new(None),
            server_clock: Mutex::new(ServerClock::new()),
        }
    }

    /// Writes the entry. `Ok(Some(_))` if others are active and the run is to be exclusive: one of them, if it can be read.
    async fn join(&self, exclusive: bool) -> Result<Option<Option<Presence>>, RedisError> {
        let what = if exclusive { "join alone" } else { "join" };
        let (now, _, others, _, entries, ..) = self.call_runs(what).await?;
        if exclusive && others > 0 {
            return Ok(Some(entries.iter().find_map(|entry| Presence::parse_bytes(entry))));
        }
        self.joined_at.store(now, Ordering::Relaxed);
        self.is_present.store(true, Ordering::Relaxed);
        Ok(None)
    }

    /// Renews the entry, or writes it again.
    async fn renew(&self) -> Result<(), RedisError> {
        let renewed = self.call_runs("renew").await;
        let is_usable = renewed.as_ref().map(|_| ()).map_err(|error| self.unavailable(error));
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_usable);
        // A server that has not answered in time may have written the entry.
        let is_present = renewed.as_ref().map_or_else(RedisError::is_timeout, |_| true);
        self.is_present.store(is_present, Ordering::Relaxed);
        let (now, was_there, _, others, ..) = renewed?;
        self.others.store(others, Ordering::Relaxed);
        if !was_there {
            self.joined_at.store(now, Ordering::Relaxed);
            *self.not_before() = Some(Instant::now() + Duration::from_micros(SECOND + MARGIN));
        }
        Ok(())
    }

    async fn renew_all_the_time(self: Arc<Self>) {
        loop {
            sleep(RENEW_EVERY).await;
            // The next reservation tells what is wrong; in a pause, `is_usable` does.
            let _ = self.renew().await;
        }
    }

    async fn leave(&self) {
        if self.is_present.swap(false, Ordering::Relaxed) {
            // If that fails, the entry expires.
            let _ = self.call_runs("leave").await;
        }
    }

    /// Whether starts could be reserved.
    async fn check(&self) -> Result<(), RedisError> {
        let mut script = self.store.starts();
        script.arg(format!("{:x}", self.id)).arg("check");
        self.store.server.call::<StartsAnswer>(&script).await?;
        Ok(())
    }

    async fn reserve(&self, request: &Request) -> Result<Reserved, RedisError> {
        let lost_until = *self.not_before();
        if let Some(until) = lost_until.filter(|until| *until > Instant::now()) {
            return Ok(Reserved::NotBefore(until));
        }
        let wanted = request.wanted(self.id, self.round_trip.load(Ordering::Relaxed));
        let (answer, took) = self.store.server.call::<StartsAnswer>(&self.reserving(wanted)).await?;
        let now = Instant::now();
        self.note_round_trip(took);
        let (state, at, until, runs, id, largest, limit, text) = answer;
        if let Some(ahead) = *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without it, the end of the limit is not known. The next renewal tells both.
            self.limit().note(&limit, text, ahead);
        }
        let later = |micros| now + Duration::from_micros(micros);
        if state == 2 {
            self.renew().await?;
            return Ok(Reserved::NotBefore(later(SECOND + MARGIN)));
        }
        // A run that was killed has starts, and is no longer active.
        let runs = runs.min(self.others.load(Ordering::Relaxed) + 1);
        self.higher_rate.note(largest.parse().unwrap_or_default(), runs);
        if state == 0 {
            return Ok(Reserved::NotBefore(later(at)));
        }
        if let Some(until) = self.note_server_time(id.parse::<u64>().unwrap_or_default().saturating_sub(at), took) {
            // The start that is reserved counts until then, and is not made.
            return Ok(Reserved::NotBefore(until));
        }
        Ok(Reserved::Slot(Slot {
            id: id.parse().unwrap_or_default(),
            at: later(at),
            until: later(until),
            starts: request.starts,
            runs,
        }))
    }

    async fn call_runs(&self, what: &str) -> Result<RunsAnswer, RedisError> {
        let entry = self.presence.lock().unwrap_or_else(PoisonError::into_inner).to_text();
        let mut script = self.store.runs();
        script
            .arg(format!("{:x}", self.id))
            .arg(what)
            .arg(entry)
            .arg(self.joined_at.load(Ordering::Relaxed));
        let (answer, took) = self.store.server.call::<RunsAnswer>(&script).await?;
        let (now, .., limit, text) = &answer;
        self.note_server_time(*now, took);
        let ahead = ahead_of(*now);
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        self.limit().note(limit, text.clone(), ahead);
        Ok(answer)
    }

    /// Notes the server's time in an answer that took so long. If its clock was set forward, the starts of the last second seem
    /// to be older than they are: returns until when nothing starts.
    fn note_server_time(&self, now: u64, took: Duration) -> Option<Instant> {
        let mut clock = self.server_clock.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + Duration::from_micros(SECOND + MARGIN);
        clock.was_set_forward(now, took).then(|| {
            *self.not_before() = Some(until);
            until
        })
    }

    fn unavailable(&self, error: &RedisError) -> Unavailable {
        Unavailable(format!(
            "quota server {}: {}",
            self.store.server.shown,
            Failure::of(error)
        ))
    }

    fn reserving(&self, wanted: Wanted) -> ScriptInvocation<'_> {
        let made = wanted.previous.unwrap_or_default();
        let mut script = self.store.starts();
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

    /// Longer round trips count immediately, shorter ones gradually.
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

    fn not_before(&self) -> MutexGuard<'_, Option<Instant>> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> MutexGuard<'_, KnownLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Quota for RedisQuota {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move {
            let reserved = self.run.reserve(&request).await;
            reserved.map_err(|error| self.run.unavailable(&error))
        })
    }

    fn is_usable(&self) -> Option<Result<(), Unavailable>> {
        self.run.renewed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn limit(&self) -> Option<Limit> {
        self.run.limit().limit()
    }

    fn note(&self, activity: Activity) {
        let mut presence = self.run.presence.lock().unwrap_or_else(PoisonError::into_inner);
        presence.activity = activity;
    }

    fn leave(&self, _: Option<Previous>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.renewing.abort();
            self.run.leave().await;
        })
    }
}

/// How far this machine's clock is ahead of the server's, whose time was just `now`, in microseconds; in milliseconds.
fn ahead_of(now: u64) -> i64 {
    milliseconds(SystemTime::now()).saturating_sub(i64::try_from(now / 1000).unwrap_or(i64::MAX))
}

/// A run that ends without leaving removes its entry too.
impl Drop for RedisQuota {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.run.is_present.load(Ordering::Relaxed) {
            return;
        }
        let run = Arc::clone(&self.run);
        let leave = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let leaving = async {
                // The connection belongs to the runtime in which it was opened.
                run.store.server.disconnect().await;
                run.leave().await;
            };
            let _ = runtime.block_on(async { timeout(2 * TIMEOUT, leaving).await });
            Ok::<_, std::io::Error>(())
        };
        // On a separate thread, because this one may be a runtime's.
        let leaving = std::thread::Builder::new().spawn(leave);
        let _ = leaving.map(std::thread::JoinHandle::join);
    }
}

#[cfg(test)]
mod tests;
