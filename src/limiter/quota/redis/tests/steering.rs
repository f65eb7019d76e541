//! What an operator sees and changes.

use super::*;
use crate::limiter::quota::Sharing;

async fn steer(url: &str, limit: Option<Limit>) -> Result<(), QuotaError> {
    RedisQuota::set_limit(url, None, &location(), limit).await
}

fn sharing(server: &Server) -> impl Future<Output = Result<Sharing, QuotaError>> {
    let url = server.url.clone();
    async move { RedisQuota::look(&url, None, &location()).await }
}

#[test]
fn who_shares_the_quota_is_seen_without_being_a_run_and_a_limit_is_for_all_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    let set = |limit| steer(&server.url, limit);
    runtime().block_on(async {
        assert_eq!(sharing(&server).await.unwrap(), Sharing::default());
        let mut connection = connected(&server).await;
        let keys: Vec<String> = ::redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap();
        assert!(keys.is_empty(), "{keys:?}");

        let (first, second) = (
            join(&server.url, true).await.unwrap(),
            join(&server.url, false).await.unwrap(),
        );
        second.note(Activity {
            recent_rate: 6.5,
            on_hold: true,
            rate_now: None,
        });
        second.run.renew().await.unwrap();
        let seen = sharing(&server).await.unwrap();
        assert_eq!((seen.runs.len(), seen.unreadable, seen.recent_rate()), (2, 0, 6.5));
        assert!(seen.runs.iter().any(|run| run.activity.on_hold));
        // To have looked is not to be there.
        assert_eq!(sharing(&server).await.unwrap().runs.len(), 2);

        // The next reservation of the one tells it the limit, and the next renewal the other.
        let limit = Limit::new(Some(5.0.try_into().unwrap()), None);
        set(Some(limit)).await.unwrap();
        assert!(matches!(first.reserve(request()).await, Ok(Reserved::NotBefore(_))));
        assert_eq!((first.limit(), second.limit()), (Some(limit), None));
        second.run.renew().await.unwrap();
        assert_eq!(second.limit(), Some(limit));
        let entry = sharing(&server).await.unwrap().limit.unwrap();
        assert_eq!((entry.limit, entry.by), (limit, LimitEntry::new(limit).by));
        set(None).await.unwrap();
        assert!(matches!(first.reserve(request()).await, Ok(Reserved::Slot(_))));
        assert_eq!((first.limit(), sharing(&server).await.unwrap().limit), (None, None));
    });
}

#[test]
fn a_limit_ends_by_the_server_and_one_without_an_end_is_kept_for_a_day_after_it_was_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    let set = |limit| steer(&server.url, limit);
    runtime().block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        let mut connection = connected(&server).await;
        let mut expires = async |command: &str, more: &[u64]| -> i64 {
            ::redis::cmd(command)
                .arg(&quota.run.store.limit_key)
                .arg(more)
                .query_async(&mut connection)
                .await
                .unwrap()
        };
        const DAY: i64 = 24 * 60 * 60 * 1000;
        set(Some(Limit::new(None, None))).await.unwrap();
        expires("PEXPIRE", &[5000]).await;
        quota.run.renew().await.unwrap();
        assert!((DAY - 1000..=DAY).contains(&expires("PTTL", &[]).await));

        let until = SystemTime::now() + Duration::from_millis(1500);
        set(Some(Limit::new(None, Some(until)))).await.unwrap();
        quota.run.renew().await.unwrap();
        assert!((1..=1500).contains(&expires("PTTL", &[]).await));
        // Times are rounded to milliseconds, on their way to the server and back.
        let ends = quota.limit().and_then(|limit| limit.until).unwrap();
        let off = ends.duration_since(until).unwrap_or_else(|earlier| earlier.duration());
        assert!(off < Duration::from_millis(100), "{off:?}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        // The run renews its entry every second, and so has noticed.
        assert_eq!(quota.limit(), None);
    });
}

#[test]
fn what_is_no_limit_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let quota = join(&server.url, false).await.unwrap();
        let mut connection = connected(&server).await;
        let key = &quota.run.store.limit_key;
        let deep = "[".repeat(4000);
        let huge = "x".repeat(2 * 1024 * 1024);
        for text in [
            &b"x"[..],
            b"5",
            b"null",
            b"{}",
            b"{\"limit\":-1}",
            b"{\"limit\":nan}",
            b"{\"limit\":1e99}",
            b"\x7f\0\xff",
            deep.as_bytes(),
            huge.as_bytes(),
            b"",
        ] {
            ::redis::cmd("SET")
                .arg(key)
                .arg(text)
                .exec_async(&mut connection)
                .await
                .unwrap();
            let reserved = quota.reserve(request()).await;
            assert!(reserved.is_ok(), "{reserved:?}");
            let seen = sharing(&server).await.unwrap();
            assert_eq!((quota.limit(), seen.limit), (None, None));
            let why = seen.limit_unreadable.unwrap();
            assert!(why.contains("(DEL zim-batch-12345.limit)"), "{why}");
        }
        // What is not UTF-8 is no reason to stand still.
        let odd = &b"{\"limit\":5,\"by\":\"\xff\"}"[..];
        ::redis::cmd("SET")
            .arg(key)
            .arg(odd)
            .exec_async(&mut connection)
            .await
            .unwrap();
        assert!(quota.reserve(request()).await.is_ok());
        assert_eq!(
            quota.limit().and_then(|limit| limit.rate),
            Some(5.0.try_into().unwrap())
        );
        let (seconds, _): (u64, u64) = ::redis::cmd("TIME").query_async(&mut connection).await.unwrap();
        let entry = [format!("{seconds}000000 ").as_bytes(), b"{\xff}"].concat();
        ::redis::cmd("HSET")
            .arg(&quota.run.store.runs_key)
            .arg("e")
            .arg(entry)
            .exec_async(&mut connection)
            .await
            .unwrap();
        ::redis::cmd("HSET")
            .arg(&quota.run.store.runs_key)
            .arg(&["f", "garbage", "g", ""])
            .exec_async(&mut connection)
            .await
            .unwrap();
        let seen = sharing(&server).await.unwrap();
        assert_eq!((seen.runs.len(), seen.unreadable), (1, 3));
        // A run removes what is no entry.
        quota.run.renew().await.unwrap();
        assert_eq!(sharing(&server).await.unwrap().unreadable, 1);
        assert!(matches!(join(&server.url, true).await, Err(QuotaError::Held { .. })));
        ::redis::cmd("DEL").arg(key).exec_async(&mut connection).await.unwrap();
        ::redis::cmd("HSET")
            .arg(key)
            .arg(&["a", "b"])
            .exec_async(&mut connection)
            .await
            .unwrap();
        assert!(quota.reserve(request()).await.is_ok());
        assert!(sharing(&server).await.unwrap().limit_unreadable.is_some());
        let limit = Limit::new(None, None);
        RedisQuota::set_limit(&server.url, None, &location(), Some(limit))
            .await
            .unwrap();
        assert_eq!(sharing(&server).await.unwrap().limit.unwrap().limit, limit);
    });
}

#[test]
fn a_key_of_another_type_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let Some(server) = server(directory.path()) else { return };
    runtime().block_on(async {
        let mut connection = connected(&server).await;
        let quota = join(&server.url, false).await.unwrap();
        for key in [&quota.run.store.starts_key, &quota.run.store.runs_key] {
            let mut call = async |command: &str, value: Option<&str>| {
                let mut command = ::redis::cmd(command);
                command.arg(key).arg(value).exec_async(&mut connection).await.unwrap();
            };
            call("DEL", None).await;
            call("LPUSH", Some("x")).await;
            let says = format!("the key {key} has something else in it; remove it (DEL {key})");
            let joined = join(&server.url, false).await.map(drop).unwrap_err();
            let mut errors = vec![joined];
            if key.ends_with(".runs") {
                errors.push(sharing(&server).await.unwrap_err());
            }
            for error in errors {
                assert!(matches!(error, QuotaError::Refused { .. }), "{error}");
                assert!(error.to_string().ends_with(&says), "{error}");
            }
            let error = quota.reserve(request()).await.unwrap_err();
            assert!(error.to_string().ends_with(&says), "{error}");
            call("DEL", None).await;
        }
    });
}

#[tokio::test]
async fn a_server_that_can_t_be_reached_tells_nothing_and_shows_no_password() {
    let url = "redis://:s3cret@127.0.0.1:1";
    let looked = RedisQuota::look(url, None, &location()).await.unwrap_err();
    let set = RedisQuota::set_limit(url, None, &location(), None).await.unwrap_err();
    for error in [looked, set] {
        assert!(matches!(error, QuotaError::Unreachable { .. }), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
