mod steering;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::Pace;
use super::*;

const APP: u32 = 12345;

fn location(directory: &Path) -> QuotaLocation {
    let endpoint = "https://zim-api.zego.im".parse().unwrap();
    QuotaLocation::new(APP, &endpoint).in_directory(directory)
}

/// A quota whose clock is Tokio's, which is paused.
async fn joined(directory: &Path, zero: Instant) -> MachineQuota {
    let (clock, begun_at) = (
        move || zero.elapsed() + Duration::from_secs(1000),
        SystemTime::now() - zero.elapsed(),
    );
    let clocks = (
        Box::new(clock) as Clock,
        Box::new(move || begun_at + zero.elapsed()) as TimeOfDay,
    );
    MachineQuota::join_with(location(directory), entry("test"), false, clocks, boot_id())
        .await
        .unwrap()
}

fn entry(name: &str) -> Presence {
    Presence::new(name, 20.0.try_into().unwrap())
}

fn request(rate: f64, previous: Option<Previous>) -> Request {
    Request {
        pace: Pace { rate, share: 1.0 },
        starts: 1,
        not_before: Instant::now(),
        previous,
    }
}

fn most_in_a_second(mut starts: Vec<Instant>) -> usize {
    starts.sort();
    let within = |first: &Instant| {
        let end = *first + Duration::from_secs(1);
        starts.iter().filter(|start| *start >= first && **start < end).count()
    };
    starts.iter().map(within).max().unwrap_or(0)
}

/// Starts requests until `until`, each `late` after its slot; returns when.
async fn run(quota: Arc<MachineQuota>, rate: f64, late: Duration, until: Instant) -> Vec<Instant> {
    let (mut starts, mut previous) = (Vec::new(), None);
    while Instant::now() < until {
        match quota.reserve(request(rate, previous.take())).await.unwrap() {
            Reserved::NotBefore(at) => tokio::time::sleep_until(at).await,
            Reserved::Slot(slot) => {
                tokio::time::sleep_until(slot.at + late).await;
                starts.push(Instant::now());
                previous = Some(Previous {
                    slot,
                    used: 1,
                    last: Instant::now(),
                });
            }
        }
    }
    starts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn runs_on_one_machine_never_exceed_the_largest_rate_together_and_get_equal_shares(
        rates in proptest::collection::vec(prop_oneof![Just(20.0), Just(6.0)], 1..5),
        late in 0_u64..3,
        removed_after in 0_u64..4000,
    ) {
        let _alone = super::super::STARTING_A_PROCESS.blocking_lock();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let zero = Instant::now();
            let until = zero + Duration::from_secs(6);
            let mut runs = tokio::task::JoinSet::new();
            for (index, rate) in rates.iter().copied().enumerate() {
                let quota = Arc::new(joined(directory.path(), zero).await);
                runs.spawn(async move { (index, run(quota, rate, Duration::from_millis(late), until).await) });
            }
            tokio::time::sleep(Duration::from_millis(removed_after)).await;
            std::fs::remove_file(location(directory.path()).starts).unwrap();
            let starts = runs.join_all().await;
            let all: Vec<Instant> = starts.iter().flat_map(|(_, starts)| starts.clone()).collect();
            let largest = rates.iter().copied().fold(0.0, f64::max);
            let most = most_in_a_second(all.clone());
            assert!(most <= largest as usize, "{most} of {largest}");
            // The whole rate, less the second after the file was removed.
            assert!(all.len() as f64 > largest * 4.4, "{} starts", all.len());
            let (least, most) = starts.iter().map(|(_, starts)| starts.len()).fold((9999, 0), |(least, most), len| {
                (least.min(len), most.max(len))
            });
            assert!(most - least <= 4, "{least} and {most}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_run_costs_one_start_and_the_last_run_removes_the_files() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let zero = Instant::now();
    let (killed, other) = (
        joined(directory.path(), zero).await,
        joined(directory.path(), zero).await,
    );
    let slot = |reserved| match reserved {
        Reserved::Slot(slot) => slot,
        Reserved::NotBefore(at) => panic!("not before {at:?}"),
    };
    slot(killed.reserve(request(20.0, None)).await.unwrap());
    drop(killed);
    let next = slot(other.reserve(request(20.0, None)).await.unwrap());
    assert_eq!((next.at - zero).as_millis(), 50);
    let given_up = Previous {
        slot: next,
        used: 0,
        last: next.at,
    };
    let again = slot(other.reserve(request(20.0, Some(given_up))).await.unwrap());
    assert_eq!((again.at, again.runs), (next.at, 1));
    other.leave(None).await;
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_locked_for_long_makes_the_quota_unavailable() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let quota = joined(directory.path(), Instant::now()).await;
    let stuck = LockFile::open(&location(directory.path()).starts).unwrap();
    assert!(stuck.try_lock().unwrap());
    let error = quota.reserve(request(20.0, None)).await.unwrap_err();
    assert!(error.to_string().contains("another process has locked"), "{error}");
    stuck.unlock();
    assert!(quota.reserve(request(20.0, None)).await.is_ok());
}

#[tokio::test]
async fn an_exclusive_run_sees_another_and_names_it() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let join = |name: &'static str, exclusive| MachineQuota::join(location(directory.path()), entry(name), exclusive);
    let first = join("the first\u{1b}[2J", true).await.unwrap();
    let error = join("the second", true).await.unwrap_err();
    let named = format!("process {} on ", std::process::id());
    for says in [&named, "(job \"the first\\u{1b}[2J\")", " uses the same app's quota"] {
        assert!(error.to_string().contains(says), "{error}");
    }
    let third = join("the third", false).await.unwrap();
    first.leave(None).await;
    assert!(join("the fourth", true).await.is_err());
    third.leave(None).await;
    assert!(join("the fourth", true).await.is_ok());
}

/// The names of the other runs, as a run sees them that is not there itself.
fn present(directory: &Path) -> Vec<String> {
    let others = entry::others(&location(directory), None);
    others.into_iter().flatten().map(|presence| presence.name).collect()
}

#[tokio::test(start_paused = true)]
async fn each_run_has_an_entry_that_says_what_it_is_doing_and_is_gone_at_its_end() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let join = |name: &'static str| MachineQuota::join(location(directory.path()), entry(name), false);
    let (first, second) = (join("first").await.unwrap(), join("second").await.unwrap());
    assert_eq!(present(directory.path()), ["first", "second"]);
    tokio::time::advance(LOOK_EVERY).await;
    let activity = Activity {
        recent_rate: 6.5,
        on_hold: true,
        rate_now: Some(0.0),
    };
    second.note(activity);
    let seen = entry::others(&location(directory.path()), first.state().entry.as_ref());
    let [Some(seen)] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((seen.activity, seen.rate), (activity, 20.0));
    first.leave(None).await;
    assert_eq!(present(directory.path()), ["second"]);

    // Somebody removes the files: they are written again.
    for file in std::fs::read_dir(directory.path()).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(present(directory.path()).is_empty());
    tokio::time::advance(LOOK_EVERY).await;
    second.note(activity);
    assert_eq!(present(directory.path()), ["second"]);
    assert!(matches!(
        MachineQuota::join(location(directory.path()), entry("third"), true).await,
        Err(QuotaError::Held { by: Some(_) })
    ));
    drop(second);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_no_longer_there_is_neither_named_nor_counted() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let zero = Instant::now();
    let killed = joined(directory.path(), zero).await;
    let Reserved::Slot(_) = killed.reserve(request(21.0, None)).await.unwrap() else {
        panic!()
    };
    // The kernel releases its locks, and its files stay.
    let files = location(directory.path());
    let (starts, own) = (files.starts.clone(), files.entries().next().unwrap());
    let [starts_text, own_text] = [&starts, &own].map(|path| std::fs::read_to_string(path).unwrap());
    drop(killed);
    std::fs::write(&starts, starts_text).unwrap();
    std::fs::write(&own, own_text).unwrap();

    let next = joined(directory.path(), zero).await;
    assert_eq!(present(directory.path()).len(), 1);
    match next.reserve(request(20.0, None)).await.unwrap() {
        Reserved::Slot(slot) => assert_eq!((slot.runs, slot.at - zero), (1, Duration::from_micros(47_833))),
        Reserved::NotBefore(at) => panic!("{at:?}"),
    }
    assert!(!next.higher_rate.is_said.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_higher_rate_is_said_of_a_run_that_is_there() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let (other, own) = (
        joined(directory.path(), Instant::now()).await,
        joined(directory.path(), Instant::now()).await,
    );
    other.reserve(request(300.0, None)).await.unwrap();
    own.reserve(request(20.0, None)).await.unwrap();
    assert!(own.higher_rate.is_said.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_run_on_another_machine_with_the_same_files_is_not_joined() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let join = |boot: &str| {
        let clock = Box::new(|| Duration::from_secs(1000)) as Clock;
        let clocks = (clock, Box::new(SystemTime::now) as TimeOfDay);
        MachineQuota::join_with(
            location(directory.path()),
            entry("test"),
            false,
            clocks,
            boot.to_owned(),
        )
    };
    let first = join("one").await.unwrap();
    let error = join("other").await.unwrap_err();
    assert!(matches!(error, QuotaError::OtherMachine { .. }), "{error}");
    assert!(join("one").await.is_ok());
    first.leave(None).await;
    assert!(join("other").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_lost_again_and_again_makes_the_quota_unavailable_for_a_minute() {
    let _alone = super::super::STARTING_A_PROCESS.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let quota = joined(directory.path(), Instant::now()).await;
    let starts = location(directory.path()).starts;
    let reserve = || quota.reserve(request(20.0, None));
    assert!(matches!(reserve().await, Ok(Reserved::Slot(_))));
    std::fs::write(&starts, "").unwrap();
    let Ok(Reserved::NotBefore(at)) = reserve().await else {
        panic!()
    };
    tokio::time::sleep_until(at).await;
    assert!(matches!(reserve().await, Ok(Reserved::Slot(_))));
    std::fs::write(&starts, "").unwrap();
    let error = reserve().await.unwrap_err();
    assert!(error.to_string().contains("again and again"), "{error}");
    tokio::time::sleep(LOST_AGAIN - Duration::from_secs(1)).await;
    assert!(reserve().await.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(matches!(reserve().await, Ok(Reserved::Slot(_))));
}

#[test]
fn starts_from_before_the_machine_was_started_do_not_count() {
    let text = "another start\nhold 5\n1 1 1 20 a\nend\n";
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        std::fs::write(location(directory.path()).starts, text).unwrap();
        let quota = MachineQuota::join(location(directory.path()), entry("test"), false)
            .await
            .unwrap();
        let Reserved::Slot(slot) = quota.reserve(request(20.0, None)).await.unwrap() else {
            panic!()
        };
        assert_eq!(slot.runs, 1);
    });
}
