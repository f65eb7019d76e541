//! What an operator sees and changes.

use super::super::super::{STARTING_A_PROCESS, Sharing};
use super::*;

fn limit(rate: f64, until: Option<SystemTime>) -> Option<Limit> {
    Some(Limit::new((rate > 0.0).then(|| rate.try_into().unwrap()), until))
}

/// As a limiter: starts requests at the lower one of its own rate and the limit, until `until`.
async fn steered(quota: Arc<MachineQuota>, own: f64, until: Instant) -> Vec<Instant> {
    let mut starts = Vec::new();
    let rate = || match quota.limit() {
        Some(limit) => limit.rate.map_or(0.0, |rate| rate.per_second().min(own)),
        None => own,
    };
    let mut previous = None;
    while Instant::now() < until {
        let asked = rate();
        if asked == 0.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        }
        match quota.reserve(request(asked, previous.take())).await.unwrap() {
            Reserved::NotBefore(at) => tokio::time::sleep_until(at.min(Instant::now() + SECOND_LONG)).await,
            Reserved::Slot(slot) => {
                tokio::time::sleep_until(slot.at).await;
                let used = u32::from(rate() == asked);
                starts.extend((used == 1).then(Instant::now));
                let last = Instant::now();
                previous = Some(Previous { slot, used, last });
            }
        }
    }
    starts
}

const SECOND_LONG: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_limit_is_for_all_runs_from_now_on_and_ends_by_itself_or_by_hand() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let zero = Instant::now();
    let mut runs = tokio::task::JoinSet::new();
    let (place, end) = (location(directory.path()), zero + Duration::from_secs(30));
    let mut quotas = Vec::new();
    for own in [20.0, 20.0, 8.0] {
        let quota = Arc::new(joined(directory.path(), zero).await);
        quotas.push(Arc::clone(&quota));
        runs.spawn(steered(quota, own, end));
    }
    let ends = |seconds| (quotas[0].time)() + Duration::from_secs(seconds);
    for (at, set) in [
        (5.0, limit(6.0, None)),
        (10.0, limit(0.0, Some(ends(14)))),
        (20.0, limit(0.5, None)),
        (26.0, None),
    ] {
        tokio::time::sleep_until(zero + Duration::from_secs_f64(at)).await;
        MachineQuota::set_limit(&place, set).await.unwrap();
    }
    let all: Vec<Instant> = runs.join_all().await.into_iter().flatten().collect();
    let between = |from: f64, to: f64| {
        let (from, to) = (zero + Duration::from_secs_f64(from), zero + Duration::from_secs_f64(to));
        let starts: Vec<_> = all.iter().copied().filter(|start| (from..to).contains(start)).collect();
        (starts.len(), most_in_a_second(starts))
    };
    assert!(
        between(1.0, 5.0).0 >= 76 && between(0.0, 5.0).1 <= 20,
        "{:?}",
        between(1.0, 5.0)
    );
    assert!(between(5.0, 10.0).1 <= 6, "{:?}", between(5.0, 10.0));
    assert!(between(6.5, 10.0).0 >= 20, "{:?}", between(6.5, 10.0));
    assert_eq!(between(10.0, 14.0).0, 0);
    assert!(
        between(15.2, 20.0).0 >= 92 && between(14.0, 20.0).1 <= 20,
        "{:?}",
        between(15.2, 20.0)
    );
    assert!((1..=3).contains(&between(20.0, 26.0).0), "{:?}", between(20.0, 26.0));
    assert!(
        between(27.2, 30.0).0 >= 53 && between(26.0, 30.0).1 <= 20,
        "{:?}",
        between(27.2, 30.0)
    );
    for quota in quotas {
        quota.leave(None).await;
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_begins_after_the_last_one_has_ended_keeps_a_limit_that_was_set_about_then() {
    let _alone = STARTING_A_PROCESS.lock().await;
    // Before the last run ends, between the two, and soon after the second has begun.
    for set_at in [1900_u64, 2025, 2200] {
        let directory = tempfile::tempdir().unwrap();
        let (place, zero) = (location(directory.path()), Instant::now());
        let setting = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(set_at)).await;
            MachineQuota::set_limit(&place, limit(3.0, None)).await.unwrap();
            Instant::now()
        });
        let mut all = Vec::new();
        for end in [2, 6] {
            let quota = Arc::new(joined(directory.path(), zero).await);
            all.extend(steered(Arc::clone(&quota), 20.0, zero + end * SECOND_LONG).await);
            quota.leave(None).await;
        }
        let set = setting.await.unwrap();
        // A limit is for the starts already made too.
        let after: Vec<Instant> = all.iter().copied().filter(|start| *start > set).collect();
        for start in &after {
            let second = all
                .iter()
                .filter(|other| **other <= *start && **other + SECOND_LONG > *start);
            assert!(second.count() <= 3, "{:?} after the limit at {set_at}", *start - set);
        }
        assert!((8..=13).contains(&after.len()), "{} at {set_at}", after.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_before_its_first_start_leaves_what_others_have_just_started() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let zero = Instant::now();
    let (first, second) = (
        joined(directory.path(), zero).await,
        joined(directory.path(), zero).await,
    );
    let starts = steered(Arc::new(first), 5.0, zero + SECOND_LONG).await;
    drop(second);
    let next = joined(directory.path(), zero).await;
    let Ok(Reserved::Slot(slot)) = next.reserve(request(5.0, None)).await else {
        panic!()
    };
    assert!(
        slot.at >= starts[starts.len() - 1] + Duration::from_millis(200),
        "{slot:?}"
    );
}

#[tokio::test]
async fn who_shares_the_quota_is_seen_without_being_a_run_and_the_limit_outlives_the_runs() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let place = location(directory.path());
    assert_eq!(MachineQuota::look(&place).await.unwrap(), Sharing::default());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let join = |name: &'static str, exclusive| MachineQuota::join(place.clone(), entry(name), exclusive);
    let (first, second) = (join("first", true).await.unwrap(), join("second", false).await.unwrap());
    MachineQuota::set_limit(&place, limit(5.0, None)).await.unwrap();
    let seen = MachineQuota::look(&place).await.unwrap();
    let mut names: Vec<_> = seen.runs.iter().map(|run| run.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!((names, seen.unreadable), (vec!["first", "second"], 0));
    assert_eq!(seen.limit.map(|entry| entry.limit), limit(5.0, None));
    assert_eq!(first.limit(), limit(5.0, None));
    assert!(matches!(
        first.reserve(request(20.0, None)).await,
        Ok(Reserved::NotBefore(_))
    ));
    first.leave(None).await;
    second.leave(None).await;
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert_eq!(left, std::slice::from_ref(&place.limit));

    // Another run finds it, until nobody has used it for a day.
    let third = join("third", true).await.unwrap();
    assert_eq!(third.limit(), limit(5.0, None));
    let aged = |hours: u64| {
        let file = std::fs::File::options().write(true).open(&place.limit).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600))
            .unwrap();
    };
    aged(23);
    third.note(Activity::default());
    third.state().looked_at = None;
    third.note(Activity::default());
    let used = std::fs::metadata(&place.limit).unwrap().modified().unwrap();
    assert!(used.elapsed().unwrap() < Duration::from_secs(60), "{used:?}");
    aged(25);
    assert_eq!((third.limit(), place.limit.exists()), (None, false));
}

#[tokio::test]
async fn a_damaged_limit_is_ignored_and_another_file_in_its_place_stays_as_it_is() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let place = location(directory.path());
    let quota = MachineQuota::join(place.clone(), entry("a"), false).await.unwrap();
    for text in ["x", "{\"limit\":-1}", "\0\0\0", "[[[[", &"[".repeat(60_000)] {
        std::fs::write(&place.limit, text).unwrap();
        assert_eq!(quota.limit(), None);
        assert!(matches!(
            quota.reserve(request(20.0, None)).await,
            Ok(Reserved::Slot(_) | Reserved::NotBefore(_))
        ));
        let seen = MachineQuota::look(&place).await.unwrap();
        assert_eq!(seen.limit, None);
        let why = seen.limit_unreadable.unwrap();
        assert!(why.contains("is no limit); set it again"), "{why}");
    }
    MachineQuota::set_limit(&place, limit(0.0, None)).await.unwrap();
    assert_eq!(quota.limit(), limit(0.0, None));

    std::fs::remove_file(&place.limit).unwrap();
    let precious = directory.path().join("precious");
    std::fs::write(&precious, "{\"limit\":1}").unwrap();
    std::os::unix::fs::symlink(&precious, &place.limit).unwrap();
    assert_eq!(quota.limit(), None);
    let why = MachineQuota::look(&place).await.unwrap().limit_unreadable.unwrap();
    assert!(
        why.contains("symbolic link") && why.contains("); remove the file"),
        "{why}"
    );
    let error = MachineQuota::set_limit(&place, limit(3.0, None)).await.unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "{\"limit\":1}");
}

#[tokio::test]
async fn a_limit_whose_file_has_another_name_too_is_in_force_and_kept() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let place = location(directory.path());
    let quota = MachineQuota::join(place.clone(), entry("a"), false).await.unwrap();
    MachineQuota::set_limit(&place, limit(5.0, None)).await.unwrap();
    let other = directory.path().join("other");
    std::fs::hard_link(&place.limit, &other).unwrap();
    let aged = SystemTime::now() - Duration::from_secs(23 * 3600);
    let file = std::fs::File::options().write(true).open(&other).unwrap();
    file.set_modified(aged).unwrap();
    assert_eq!(quota.limit(), limit(5.0, None));
    let seen = MachineQuota::look(&place).await.unwrap();
    assert_eq!(seen.limit.map(|entry| entry.limit), limit(5.0, None));
    quota.note(Activity::default());
    let used = std::fs::metadata(&place.limit).unwrap().modified().unwrap();
    assert!(used.elapsed().unwrap() < Duration::from_secs(60), "{used:?}");
    // A limit that is set is in a file of its own, and what had its name stays as it is.
    let text = std::fs::read_to_string(&other).unwrap();
    MachineQuota::set_limit(&place, limit(7.0, None)).await.unwrap();
    assert_eq!(
        (quota.limit(), std::fs::read_to_string(&other).unwrap()),
        (limit(7.0, None), text)
    );
}

#[tokio::test(start_paused = true)]
async fn a_limit_whose_file_another_process_keeps_locked_is_not_known_so_nothing_starts() {
    let _alone = STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (place, quota) = (
        location(directory.path()),
        joined(directory.path(), Instant::now()).await,
    );
    MachineQuota::set_limit(&place, limit(5.0, None)).await.unwrap();
    let stuck = LockFile::open(&place.limit).unwrap();
    assert!(stuck.try_lock().unwrap());
    let error = quota.reserve(request(20.0, None)).await.unwrap_err();
    let says = format!("{}: another process has locked", place.limit.display());
    assert!(error.to_string().contains(&says), "{error}");
    assert!(MachineQuota::look(&place).await.is_err());
    assert!(MachineQuota::set_limit(&place, None).await.is_err());
    stuck.unlock();
    assert!(quota.reserve(request(5.0, None)).await.is_ok());
}
