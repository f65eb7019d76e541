//! What an operator sees and changes, without being a run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::redis::RedisError;

use super::super::error::QuotaError;
use super::super::limit::Limit;
use super::super::limit_entry::{KEPT_FOR, LimitEntry};
use super::super::location::QuotaLocation;
use super::super::presence::Presence;
use super::super::sharing::Sharing;
use super::failure::Failure;
use super::known_limit::{KnownLimit, shifted};
use super::server::Server;
use super::store::{RunsAnswer, Store};
use super::{RedisQuota, ahead_of};

impl RedisQuota {
    /// The runs that share the quota of this app through the server, and their limit. Changes nothing. The server is used as
    /// [`RedisQuota::join`] does.
    ///
    /// # Errors
    /// [`QuotaError::Url`]; [`QuotaError::Refused`], [`QuotaError::Untrusted`] and [`QuotaError::Unreachable`] if the server
    /// can't be used.
    pub async fn look(url: &str, ca_cert: Option<&[u8]>, location: &QuotaLocation) -> Result<Sharing, QuotaError> {
        let store = Store::new(Server::new(url, ca_cert)?, location);
        let looked = look(&store).await;
        let (now, _, others, _, entries, limit, text) = looked.map_err(|error| unusable(&store, &error))?;
        let mut known = KnownLimit::default();
        known.note(&limit, text, ahead_of(now));
        let mut runs: Vec<_> = entries.iter().map(|entry| Presence::parse_bytes(entry)).collect();
        // More than can be shown.
        runs.resize(others.max(runs.len()), None);
        Ok(Sharing::new(runs, known.into_entry(&store.limit_key)))
    }

    /// Sets the limit of all runs that share the quota through the server, and of those that come, or ends it. They follow
    /// within a second. A limit without an end is kept for a day after it was last in force, one with an end by the server's
    /// clock.
    ///
    /// # Errors
    /// As [`RedisQuota::look`].
    pub async fn set_limit(
        url: &str,
        ca_cert: Option<&[u8]>,
        location: &QuotaLocation,
        limit: Option<Limit>,
    ) -> Result<(), QuotaError> {
        let store = Store::new(Server::new(url, ca_cert)?, location);
        set(&store, limit).await.map_err(|error| unusable(&store, &error))
    }
}

async fn look(store: &Store) -> Result<RunsAnswer, RedisError> {
    let mut script = store.runs();
    script.arg("0").arg("look").arg("").arg(0);
    Ok(store.server.call(&script).await?.0)
}

async fn set(store: &Store, limit: Option<Limit>) -> Result<(), RedisError> {
    let Some(limit) = limit else {
        return store.set_limit(None, 0).await;
    };
    let Some(until) = limit.until else {
        return store.set_limit(Some(&LimitEntry::new(limit)), millis(KEPT_FOR)).await;
    };
    let ahead = ahead_of(look(store).await?.0);
    let lasts = until.duration_since(SystemTime::now()).unwrap_or_default();
    let entry = LimitEntry::new(Limit::new(limit.rate, Some(shifted(until, -ahead).max(UNIX_EPOCH))));
    store.set_limit(Some(&entry), millis(lasts)).await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unusable(store: &Store, error: &RedisError) -> QuotaError {
    let server = store.server.shown.clone();
    match Failure::of(error) {
        Failure::Passing(why) => QuotaError::Unreachable { server, why },
        Failure::Lasting(why) => QuotaError::Refused { server, why },
        Failure::Untrusted(why) => QuotaError::Untrusted { server, why },
    }
}
