//! The quota of all runs of an app on one machine.
//!
//! A small file has the starts of the last seconds. For each reservation a run locks it, reads it, adds its own start and
//! unlocks it: some microseconds. Another file is locked by every run as long as it lasts, so that the last one can remove
//! both, and a run that does not want to share can see the others.
//!
//! # Clock
//! The time since the machine was started, which all processes and containers of a machine share and which nobody sets. The
//! file names the start of the machine, so that a file that has survived it is not read.
//!
//! # Format
//! A line that names the start of the machine, then the [`Schedule`] as text. Version 0.1.0 writes and reads the same, so runs of
//! both versions share the quota.
//!
//! # A file that is removed or changed
//! A run notices at its next reservation, and adds its own last starts again. A run that finds no starts while other runs are
//! there lets a second pass first. If the file can't be used any longer while other runs are there, nothing is sent.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep};

use super::error::QuotaError;
use super::location::QuotaLocation;
use super::lock_file::LockFile;
use super::{BoxFuture, HigherRate, Previous, Quota, Request, Reserved, Slot, Unavailable};
use crate::limiter::schedule::{Clocks, MARGIN, SECOND, Schedule, Start, micros};
use crate::text::one_line;

/// The first pause before the file is tried again while another run uses it, and the longest.
const INITIAL_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A run that has used the file for so long is not at work: it was suspended, or is another program.
const LOCKED_TOO_LONG: Duration = Duration::from_secs(2);

/// How long to try to join the other runs.
const JOIN_FOR: Duration = Duration::from_secs(3);

/// The maximum length of a run's name that is written or shown, in characters.
const MAX_NAME: usize = 300;

/// The quota that all runs of one app on this machine share.
pub struct MachineQuota {
    location: QuotaLocation,
    run: u32,
    clock: Clock,
    /// Names the start of the machine.
    boot: String,
    higher_rate: HigherRate,
    state: Mutex<State>,
}

/// The time since the machine was started.
type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

struct State {
    /// The file that every run locks, shared.
    presence: LockFile,
    /// Others were here when this run joined.
    has_joined_others: bool,
    /// The file with the starts, once it was used.
    file: Option<LockFile>,
    has_used_file: bool,
    /// The starts of this run, for a new file.
    own: Schedule,
    has_warned: bool,
}

impl fmt::Debug for MachineQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineQuota")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl MachineQuota {
    /// Joins the runs that share the quota. `name` describes this run to others. `exclusive`: fail if there are others.
    ///
    /// # Errors
    /// [`QuotaError::Held`] if there are others although the run is to be exclusive, [`QuotaError::Unusable`] if no file can be
    /// locked.
    pub async fn join(location: QuotaLocation, name: &str, exclusive: bool) -> Result<MachineQuota, QuotaError> {
        MachineQuota::join_with(location, name, exclusive, Box::new(since_boot)).await
    }

    async fn join_with(
        location: QuotaLocation,
        name: &str,
        exclusive: bool,
        clock: Clock,
    ) -> Result<MachineQuota, QuotaError> {
        let unusable = |source| unusable(&location.runs, source);
        let tries_from = Instant::now();
        let (presence, has_others) = loop {
            let presence = LockFile::open(&location.runs).map_err(unusable)?;
            let has_others = !presence.try_lock().map_err(unusable)?;
            if has_others && exclusive {
                let text = presence.read();
                let by = present(&text).next().map(|(_, name)| cleaned(name));
                let by = by.filter(|name| !name.is_empty());
                return Err(QuotaError::Held {
                    by: by.unwrap_or_else(|| "another run".into()),
                });
            }
            if presence.try_lock_shared().map_err(unusable)? && presence.is_in_place() {
                break (presence, has_others);
            }
            if tries_from.elapsed() > JOIN_FOR {
                return Err(unusable(io::Error::other("another program has locked it")));
            }
            sleep(MAX_PAUSE).await;
        };
        let mut names: String = present(&presence.read()).map(|(line, _)| format!("{line}\n")).collect();
        names += &format!("{} {}\n", std::process::id(), cleaned(name));
        // Best effort: another user's file may be read-only.
        let _ = presence.write(&names);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let boot = boot.trim_end().to_owned();
        // A file that can't be used is to be known before anything is sent.
        if let Err(source) = begin_file(&location.starts, &boot, has_others) {
            if presence.try_lock().unwrap_or(false) {
                presence.remove();
            }
            return Err(self::unusable(&location.starts, source));
        }
        Ok(MachineQuota {
            run: fastrand::u32(1..),
            boot,
            clock,
            higher_rate: HigherRate::default(),
            state: Mutex::new(State {
                presence,
                has_joined_others: has_others,
                file: None,
                has_used_file: false,
                own: Schedule::default(),
                has_warned: false,
            }),
            location,
        })
    }

    /// Whether no other run is there. If so, none can join from now on.
    fn is_last(&self) -> bool {
        let presence = &self.state().presence;
        presence.try_lock().unwrap_or(false) && presence.is_in_place()
    }

    /// How long it takes until the next start would be free, at most about a second.
    fn until_next_start(&self) -> Duration {
        let now = micros((self.clock)());
        let file = LockFile::open(&self.location.starts).ok();
        let schedule = file.and_then(|file| schedule_in(&file, &self.boot)).unwrap_or_default();
        let last = schedule.starts().last();
        let next = last.map_or(now, |last| {
            last.until + ((SECOND + MARGIN) as f64 / last.rate.max(1.0)) as u64
        });
        Duration::from_micros(next.saturating_sub(now).min(SECOND + MARGIN))
    }

    fn remove_files(&self) {
        if let Ok(starts) = LockFile::open(&self.location.starts)
            && starts.try_lock().unwrap_or(false)
        {
            starts.remove();
        }
        self.state().presence.remove();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the schedule in the file. `None` if another run is just using it.
    fn try_change<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&mut Schedule, Clocks) -> T,
    ) -> io::Result<Option<T>> {
        let Some(file) = self.try_lock(state)? else {
            return Ok(None);
        };
        let clocks = read_clocks(&self.clock);
        let found = schedule_in(&file, &self.boot);
        let is_lost = found.is_none() && (state.has_used_file || state.has_joined_others);
        let mut schedule = found.unwrap_or_default();
        // The file may be another one than before: own starts that it does not have are added.
        state.own.forget(clocks.time, 0);
        let is_missing = |start: &&Start| schedule.get(self.run, start.at).is_none();
        let missing: Vec<Start> = state.own.starts().iter().filter(is_missing).copied().collect();
        if (is_lost || !missing.is_empty()) && !std::mem::replace(&mut state.has_warned, true) {
            tracing::warn!(
                "{}: this file, through which runs share the quota, was removed, replaced or changed during the run; it is \
                 written again",
                self.location.starts.display()
            );
        }
        missing.into_iter().for_each(|start| schedule.insert(start));
        if is_lost {
            // Others may not have added their last starts yet.
            schedule.pause_until(clocks.time + SECOND + MARGIN);
        }
        let changed = change(&mut schedule, clocks);
        file.write(&format!("{}\n{schedule}", self.boot))?;
        file.unlock();
        (state.file, state.has_used_file) = (Some(file), true);
        Ok(Some(changed))
    }

    /// Locks the file with the starts. `None` if another run is just using it.
    fn try_lock(&self, state: &mut State) -> io::Result<Option<LockFile>> {
        loop {
            let file = match state.file.take() {
                Some(file) => file,
                None => LockFile::open(&self.location.starts)?,
            };
            if !file.try_lock()? {
                state.file = Some(file);
                return Ok(None);
            }
            // It was removed, or the last run has just removed it.
            if file.is_in_place() {
                return Ok(Some(file));
            }
        }
    }

    /// `None` if another run is just using the file.
    fn try_reserve(&self, request: &Request) -> Result<Option<Reserved>, Unavailable> {
        let state = &mut *self.state();
        if let Some(previous) = request.previous {
            state.own.settle(self.run, previous.made(), 0);
        }
        let reserve = |schedule: &mut Schedule, clocks| self.reserve_in(schedule, clocks, request);
        let reserved = match self.try_change(state, reserve) {
            Ok(None) => return Ok(None),
            Ok(Some(reserved)) => reserved,
            Err(source) => {
                self.without_file(state, unusable(&self.location.starts, source))?;
                reserve(&mut state.own.clone(), read_clocks(&self.clock))
            }
        };
        Ok(Some(match reserved {
            Ok((start, slot)) => {
                state.own.insert(start);
                Reserved::Slot(slot)
            }
            Err(at) => Reserved::NotBefore(at),
        }))
    }

    fn reserve_in(&self, schedule: &mut Schedule, clocks: Clocks, request: &Request) -> Result<(Start, Slot), Instant> {
        let reserved = schedule.reserve(clocks.time, request.wanted(self.run, 0));
        self.higher_rate
            .note(schedule.largest_rate(request.pace.rate), request.pace.rate);
        match reserved {
            Err(at) => Err(clocks.instant_of(at)),
            Ok(start) => {
                let slot = Slot {
                    id: start.at,
                    at: clocks.instant_of(start.at),
                    until: clocks.instant_of(start.until),
                    starts: start.count,
                    runs: schedule.runs(clocks.time),
                };
                Ok((start, slot))
            }
        }
    }

    /// The file can't be used any longer. Without others, the own starts are all that count; with others, nothing may start.
    fn without_file(&self, state: &mut State, error: QuotaError) -> Result<(), Unavailable> {
        state.file = None;
        let is_alone = state.presence.try_lock().unwrap_or(true);
        // Shared again. If others are there, they don't see this run for a moment, which is harmless.
        let _ = state.presence.try_lock_shared();
        if !is_alone {
            return Err(Unavailable(error.to_string()));
        }
        if !std::mem::replace(&mut state.has_warned, true) {
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// `None` if another run is just using the file.
    fn try_settle(&self, last: Previous) -> Result<Option<()>, Unavailable> {
        let settle = |schedule: &mut Schedule, _| schedule.settle(self.run, last.made(), 0);
        let settled = self.try_change(&mut self.state(), settle);
        settled.map_err(|error| Unavailable(error.to_string()))
    }

    /// Repeats an attempt as long as another run is just using the file.
    async fn retry<T>(&self, mut attempt: impl FnMut() -> Result<Option<T>, Unavailable>) -> Result<T, Unavailable> {
        let (tries_from, mut pause) = (Instant::now(), INITIAL_PAUSE);
        loop {
            if let Some(result) = attempt()? {
                return Ok(result);
            }
            if tries_from.elapsed() > LOCKED_TOO_LONG {
                return Err(Unavailable(format!(
                    "{}: another process has locked this file, through which runs share the quota, for more than {} s",
                    self.location.starts.display(),
                    LOCKED_TOO_LONG.as_secs()
                )));
            }
            sleep(pause).await;
            pause = MAX_PAUSE.min(pause * 2);
        }
    }
}

impl Quota for MachineQuota {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move { self.retry(|| self.try_reserve(&request)).await })
    }

    /// The last run waits until the next start would be free, at most a second, and removes the files.
    fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(last) = last {
                // If the file can't be used, the others count the slot for a little longer.
                let _ = self.retry(|| self.try_settle(last)).await;
            }
            if self.is_last() {
                // Until the files are removed, no other run can join.
                sleep(self.until_next_start()).await;
                self.remove_files();
            }
        })
    }
}

/// A run that ends before its first start leaves no files either.
impl Drop for MachineQuota {
    fn drop(&mut self) {
        let has_started = !self.state().own.starts().is_empty();
        if !has_started && self.is_last() {
            self.remove_files();
        }
    }
}

/// What the file has; `None` if it is not whole, or from before the machine was started.
fn schedule_in(file: &LockFile, boot: &str) -> Option<Schedule> {
    let text = file.read();
    let (of_boot, schedule) = text.split_once('\n')?;
    (of_boot == boot).then(|| Schedule::parse(schedule))?
}

/// Opens the file with the starts, and begins it if this run is the first. If it is not, a file without text has replaced
/// another one.
fn begin_file(path: &Path, boot: &str, has_others: bool) -> io::Result<()> {
    let file = LockFile::open(path)?;
    if !has_others && file.try_lock()? && file.read().is_empty() {
        file.write(&format!("{boot}\n{}", Schedule::default()))?;
    }
    Ok(())
}

/// The lines of the runs that are still there, each with its name. Runs that were killed, or never started, left theirs.
fn present(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (process, name) = line.split_once(' ')?;
        let process = process.parse::<u32>().ok()?.try_into().ok()?;
        let process = Pid::from_raw(process)?;
        let is_there = !matches!(test_kill_process(process), Err(Errno::SRCH));
        is_there.then_some((line, name))
    })
}

fn unusable(path: &Path, why: io::Error) -> QuotaError {
    QuotaError::Unusable {
        path: path.to_owned(),
        why,
    }
}

/// One moment on the shared clock and on this process's.
fn read_clocks(clock: &Clock) -> Clocks {
    let read = || {
        let (instant, time) = (Instant::now(), micros(clock()));
        (instant.elapsed(), Clocks { time, instant })
    };
    // Unless this thread was interrupted between the two.
    let mut reads = std::iter::repeat_with(read).take(3);
    let is_exact = |(took, _): &(Duration, Clocks)| *took < Duration::from_micros(100);
    reads.find(is_exact).unwrap_or_else(read).1
}

/// The time since the machine was started, including the time in which it slept, where the system can tell.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// Makes untrusted text safe to show on a terminal: one short line of visible characters.
fn cleaned(text: &str) -> String {
    let short: String = text.trim().chars().take(MAX_NAME).collect();
    one_line(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        let clock = Box::new(move || zero.elapsed() + Duration::from_secs(1000));
        MachineQuota::join_with(location(directory), "test", false, clock)
            .await
            .unwrap()
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
        assert_eq!((again.at, again.runs), (next.at, 2));
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
        let directory = tempfile::tempdir().unwrap();
        let join = |name: &'static str, exclusive| MachineQuota::join(location(directory.path()), name, exclusive);
        let first = join("the first\u{1b}[2J", true).await.unwrap();
        let error = join("the second", true).await.unwrap_err();
        assert_eq!(error.to_string(), "the first\\u{1b}[2J uses the same app's quota");
        let third = join("the third", false).await.unwrap();
        first.leave(None).await;
        assert!(join("the fourth", true).await.is_err());
        third.leave(None).await;
        assert!(join("the fourth", true).await.is_ok());
    }

    #[test]
    fn a_run_that_is_no_longer_there_is_not_named() {
        let here = std::process::id();
        // No process has the highest number that there can be.
        let text = format!("2147483647 killed\n{here} a run\nnonsense\n-1 x\n0 x\n");
        let names: Vec<&str> = present(&text).map(|(_, name)| name).collect();
        assert_eq!(names, ["a run"]);
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
            let quota = MachineQuota::join(location(directory.path()), "test", false)
                .await
                .unwrap();
            let Reserved::Slot(slot) = quota.reserve(request(20.0, None)).await.unwrap() else {
                panic!()
            };
            assert_eq!(slot.runs, 1);
        });
    }
}
