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
//! # A file that is removed or changed
//! A run notices at its next reservation, and adds its own last starts again. Whoever finds no starts while other runs are there
//! lets a second pass first. If the file can't be used any longer while other runs are there, nothing is sent.

use std::collections::VecDeque;
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
use super::lock_file::LockFile;
use super::place::Place;
use super::schedule::{Schedule, Start};
use super::{Pace, Previous, Quota, Reserved, Reserving, Slot, Unavailable};
use crate::text::one_line;

/// The first pause before the file is tried again while another run uses it, and the longest.
const INITIAL_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A run that has used the file for so long is not at work: it was suspended, or is another program.
const LOCKED_TOO_LONG: Duration = Duration::from_secs(2);

/// How long to try to join the other runs.
const JOIN_FOR: Duration = Duration::from_secs(3);

/// Own starts that are added to a new file, in microseconds back, and how long whoever creates one waits.
const SECOND: u64 = 1_010_000;

/// The maximum length of a run's name that is written or shown, in characters.
const MAX_NAME: usize = 300;

/// The quota that all runs of one app on this machine share.
pub struct MachineQuota {
    place: Place,
    run: u32,
    clock: Clock,
    /// Names the start of the machine.
    boot: String,
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
    starts: Option<LockFile>,
    has_used_file: bool,
    /// Own starts of the last second, for a new file.
    recent: VecDeque<Start>,
    has_warned: bool,
}

impl fmt::Debug for MachineQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineQuota")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl MachineQuota {
    /// Joins the runs that share the quota. `name` describes this run to others. `is_alone`: fail if there are others.
    ///
    /// # Errors
    /// [`QuotaError::Held`] if this run is to be alone and is not, [`QuotaError::Unusable`] if no file can be locked.
    pub async fn join(place: Place, name: &str, is_alone: bool) -> Result<MachineQuota, QuotaError> {
        MachineQuota::join_with(place, name, is_alone, Box::new(since_boot)).await
    }

    async fn join_with(place: Place, name: &str, is_alone: bool, clock: Clock) -> Result<MachineQuota, QuotaError> {
        let unusable = |source| QuotaError::Unusable {
            path: place.runs.clone(),
            source,
        };
        let tries_from = Instant::now();
        let (presence, has_others) = loop {
            let presence = LockFile::open(&place.runs).map_err(unusable)?;
            let has_others = !presence.try_lock().map_err(unusable)?;
            if has_others && is_alone {
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
        if let Err(source) = begin_file(&place.starts, &boot, has_others) {
            if presence.try_lock().unwrap_or(false) {
                presence.remove();
            }
            return Err(self::unusable(&place.starts, source));
        }
        Ok(MachineQuota {
            run: fastrand::u32(1..),
            boot,
            clock,
            state: Mutex::new(State {
                presence,
                has_joined_others: has_others,
                starts: None,
                has_used_file: false,
                recent: VecDeque::new(),
                has_warned: false,
            }),
            place,
        })
    }

    /// Leaves the other runs. The last one waits until the next start would be free, at most a second, and removes the files.
    pub async fn leave(self) {
        if self.is_last() {
            // Until the files are removed, no other run can join.
            sleep(self.until_next_start()).await;
            self.remove_files();
        }
    }

    /// Whether no other run is there. If so, none can join from now on.
    fn is_last(&self) -> bool {
        self.state().presence.try_lock().unwrap_or(false)
    }

    /// How long it takes until the next start would be free, at most about a second.
    fn until_next_start(&self) -> Duration {
        let now = now(&self.clock);
        let starts = LockFile::open(&self.place.starts).ok();
        let schedule = starts.and_then(|starts| schedule_in(&starts, &self.boot));
        let schedule = schedule.unwrap_or_default().without_nonsense(now);
        let next = schedule
            .last()
            .map(|last| last.until + (SECOND as f64 / last.rate.max(1.0)) as u64);
        Duration::from_micros(next.unwrap_or(now).saturating_sub(now))
    }

    fn remove_files(&self) {
        if let Ok(starts) = LockFile::open(&self.place.starts)
            && starts.try_lock().unwrap_or(false)
        {
            starts.remove();
        }
        self.state().presence.remove();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if another run is just using the file.
    fn try_reserve(&self, pace: Pace, previous: Option<Previous>) -> Result<Option<Reserved>, Unavailable> {
        let state = &mut *self.state();
        let error = match self.reserve_in_file(state, pace, previous) {
            Ok(reserved) => return Ok(reserved),
            Err(error) => unusable(&self.place.starts, error),
        };
        state.starts = None;
        let is_alone = state.presence.try_lock().unwrap_or(true);
        // Shared again. If others are there, they don't see this run for a moment, which is harmless.
        let _ = state.presence.try_lock_shared();
        if !is_alone {
            return Err(Unavailable(error.to_string()));
        }
        if !std::mem::replace(&mut state.has_warned, true) {
            tracing::warn!("{error}");
        }
        // Where no file can be made, nobody can be met: only the own starts count.
        let mut schedule = Schedule::default();
        state.recent.iter().for_each(|start| schedule.insert(*start));
        Ok(Some(self.reserve_in(&mut schedule, state, pace, previous)))
    }

    fn reserve_in_file(
        &self,
        state: &mut State,
        pace: Pace,
        previous: Option<Previous>,
    ) -> io::Result<Option<Reserved>> {
        let file = loop {
            let file = match state.starts.take() {
                Some(file) => file,
                None => LockFile::open(&self.place.starts)?,
            };
            if !file.try_lock()? {
                state.starts = Some(file);
                return Ok(None);
            }
            // It was removed, or the last run has just removed it.
            if file.is_in_place() {
                break file;
            }
        };
        let schedule = schedule_in(&file, &self.boot);
        let is_lost = schedule.is_none() && (state.has_used_file || state.has_joined_others);
        let mut schedule = schedule.unwrap_or_default().without_nonsense(now(&self.clock));
        // The file may be another one than before: own starts that it does not have are added.
        for start in &state.recent {
            if schedule.remove(self.run, start.at).is_none() && !is_lost && state.has_used_file {
                self.warn_of_loss(state.has_warned);
                state.has_warned = true;
            }
            schedule.insert(*start);
        }
        if is_lost {
            self.warn_of_loss(state.has_warned);
            state.has_warned = true;
            // Others may not have added their last starts yet.
            schedule.hold_until(now(&self.clock) + SECOND);
        }
        let reserved = self.reserve_in(&mut schedule, state, pace, previous);
        file.write(&format!("{}\n{schedule}", self.boot))?;
        file.unlock();
        (state.starts, state.has_used_file) = (Some(file), true);
        Ok(Some(reserved))
    }

    fn warn_of_loss(&self, has_warned: bool) {
        if !has_warned {
            tracing::warn!(
                "{}: this file, through which runs share the quota, was removed, replaced or changed during the run; it is \
                 written again",
                self.place.starts.display()
            );
        }
    }

    fn reserve_in(
        &self,
        schedule: &mut Schedule,
        state: &mut State,
        pace: Pace,
        previous: Option<Previous>,
    ) -> Reserved {
        let clocks = Clocks::read(&self.clock);
        if let Some(previous) = previous {
            match previous {
                Previous::Unused(slot) => {
                    schedule.remove(self.run, slot.id);
                    state.recent.retain(|start| start.at != slot.id);
                }
                Previous::Started(slot, started_at) => {
                    let started_at = clocks.time_of(started_at);
                    schedule.note_started(self.run, slot.id, started_at);
                    if let Some(start) = state.recent.iter_mut().find(|start| start.at == slot.id) {
                        start.until = start.until.max(started_at);
                    }
                }
            }
        }
        match schedule.reserve(self.run, clocks.now, pace) {
            Err(at) => Reserved::NotBefore(clocks.instant_of(at)),
            Ok(start) => {
                state.recent.retain(|start| start.until + SECOND > clocks.now);
                state.recent.push_back(start);
                Reserved::Slot(Slot {
                    id: start.at,
                    at: clocks.instant_of(start.at),
                    starts: start.count,
                    until: clocks.instant_of(start.until),
                    runs: schedule.runs(),
                })
            }
        }
    }
}

/// A run that ends before its first start leaves no files either.
impl Drop for MachineQuota {
    fn drop(&mut self) {
        let has_started = !self.state().recent.is_empty();
        if !has_started && self.is_last() {
            self.remove_files();
        }
    }
}

impl Quota for MachineQuota {
    fn reserve<'a>(&'a self, pace: Pace, previous: Option<Previous>) -> Reserving<'a> {
        Box::pin(async move {
            let (tries_from, mut pause) = (Instant::now(), INITIAL_PAUSE);
            loop {
                if let Some(reserved) = self.try_reserve(pace, previous)? {
                    return Ok(reserved);
                }
                if tries_from.elapsed() > LOCKED_TOO_LONG {
                    return Err(Unavailable(format!(
                        "{}: another process has locked this file, through which runs share the quota, for more than {} s",
                        self.place.starts.display(),
                        LOCKED_TOO_LONG.as_secs()
                    )));
                }
                sleep(pause).await;
                pause = MAX_PAUSE.min(pause * 2);
            }
        })
    }
}

/// What the file has; `None` if it is not whole, or from before the machine was started.
fn schedule_in(file: &LockFile, boot: &str) -> Option<Schedule> {
    let text = file.read();
    let (of_boot, starts) = text.split_once('\n')?;
    (of_boot == boot).then(|| Schedule::parse(starts))?
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

fn unusable(path: &Path, source: io::Error) -> QuotaError {
    QuotaError::Unusable {
        path: path.to_owned(),
        source,
    }
}

/// One moment on the shared clock and on this process's.
struct Clocks {
    now: u64,
    instant: Instant,
}

impl Clocks {
    fn read(clock: &Clock) -> Clocks {
        let read = || {
            let (before, now) = (Instant::now(), now(clock));
            (before.elapsed(), Clocks { now, instant: before })
        };
        // Unless this thread was interrupted between the two.
        let mut reads = std::iter::repeat_with(read).take(3);
        let is_exact = |(took, _): &(Duration, Clocks)| *took < Duration::from_micros(100);
        reads.find(is_exact).unwrap_or_else(read).1
    }

    fn instant_of(&self, time: u64) -> Instant {
        match time.checked_sub(self.now) {
            Some(later) => self.instant + Duration::from_micros(later),
            None => {
                let earlier = Duration::from_micros(self.now - time);
                self.instant.checked_sub(earlier).unwrap_or(self.instant)
            }
        }
    }

    fn time_of(&self, instant: Instant) -> u64 {
        let earlier = micros(self.instant.saturating_duration_since(instant));
        let later = micros(instant.saturating_duration_since(self.instant));
        (self.now + later).saturating_sub(earlier)
    }
}

fn now(clock: &Clock) -> u64 {
    micros(clock())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
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

    use super::*;

    const APP: u32 = 12345;

    fn place(directory: &Path) -> Place {
        let endpoint = "https://zim-api.zego.im".parse().unwrap();
        Place::new(APP, &endpoint).in_directory(directory)
    }

    /// A quota whose clock is Tokio's, which is paused.
    async fn joined(directory: &Path, zero: Instant) -> MachineQuota {
        let clock = Box::new(move || zero.elapsed() + Duration::from_secs(1000));
        MachineQuota::join_with(place(directory), "test", false, clock)
            .await
            .unwrap()
    }

    fn pace(rate: f64) -> Pace {
        Pace { rate, share: 1.0 }
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
            match quota.reserve(pace(rate), previous.take()).await.unwrap() {
                Reserved::NotBefore(at) => tokio::time::sleep_until(at).await,
                Reserved::Slot(slot) => {
                    tokio::time::sleep_until(slot.at + late).await;
                    starts.push(Instant::now());
                    previous = Some(Previous::Started(slot, Instant::now()));
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
                std::fs::remove_file(place(directory.path()).starts).unwrap();
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
        slot(killed.reserve(pace(20.0), None).await.unwrap());
        drop(killed);
        let next = slot(other.reserve(pace(20.0), None).await.unwrap());
        assert_eq!((next.at - zero).as_millis(), 50);
        let given_up = Previous::Unused(next);
        let again = slot(other.reserve(pace(20.0), Some(given_up)).await.unwrap());
        assert_eq!((again.at, again.runs), (next.at, 2));
        other.leave().await;
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_locked_for_long_makes_the_quota_unavailable() {
        let _alone = super::super::STARTING_A_PROCESS.lock().await;
        let directory = tempfile::tempdir().unwrap();
        let quota = joined(directory.path(), Instant::now()).await;
        let stuck = LockFile::open(&place(directory.path()).starts).unwrap();
        assert!(stuck.try_lock().unwrap());
        let error = quota.reserve(pace(20.0), None).await.unwrap_err();
        assert!(error.to_string().contains("another process has locked"), "{error}");
        stuck.unlock();
        assert!(quota.reserve(pace(20.0), None).await.is_ok());
    }

    #[tokio::test]
    async fn a_run_that_is_to_be_alone_sees_another_and_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let join = |name: &'static str, is_alone| MachineQuota::join(place(directory.path()), name, is_alone);
        let first = join("the first\u{1b}[2J", true).await.unwrap();
        let error = join("the second", true).await.unwrap_err();
        assert_eq!(error.to_string(), "the first\\u{1b}[2J uses the same app's quota");
        let third = join("the third", false).await.unwrap();
        first.leave().await;
        assert!(join("the fourth", true).await.is_err());
        third.leave().await;
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
            std::fs::write(place(directory.path()).starts, text).unwrap();
            let quota = MachineQuota::join(place(directory.path()), "test", false)
                .await
                .unwrap();
            let Reserved::Slot(slot) = quota.reserve(pace(20.0), None).await.unwrap() else {
                panic!()
            };
            assert_eq!(slot.runs, 1);
        });
    }
}
