//! The quota of all runs of an app on one machine.
//!
//! A small file has the starts of the last seconds. For each reservation a run locks it, reads it, adds its own start and
//! unlocks it: some microseconds. Every run also locks another file until it ends, so that the last one can remove both.
//! And each run has a file for its [entry](Presence), locked too, so that others see which runs are active.
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
//! active waits a second first. If that happens again within a minute, or if the file becomes unusable while other runs are
//! active, nothing is sent for a while.
//!
//! # The limit of an operator
//! A file of its own has it (`limit_file.rs`). It is read for each start and each reservation.
//!
//! # Other machines
//! A volume that several machines share is not for this: each machine has its own clock. A run that finds the file of another
//! machine, while a run has it locked, does not join.

mod clock;
mod entry;
mod join;
mod limit_file;
mod steer;

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::error::QuotaError;
use super::limit::Limit;
use super::location::QuotaLocation;
use super::lock_file::LockFile;
use super::presence::{Activity, Presence};
use super::{BoxFuture, HigherRate, Previous, Quota, Request, Reserved, Slot, Unavailable};
use crate::limiter::Rate;
use crate::limiter::schedule::{Clocks, MARGIN, SECOND, Schedule, Start, Wanted, micros};
use clock::{Clock, TimeOfDay, boot_id, read_clocks, since_boot};
use entry::Entry;
use join::{begin_file, check_writable, join_lock, unusable};
use limit_file::KnownLimit;

/// The first pause before the file is tried again while another run uses it, and the longest.
const INITIAL_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A run that has used the file for so long is not at work: it was suspended, or is another program.
const LOCKED_TOO_LONG: Duration = Duration::from_secs(2);

/// How often the run's entry is written, and those of others are checked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When the file was lost twice within this time, nothing starts for as long: another program keeps changing it.
const LOST_AGAIN: Duration = Duration::from_secs(60);

/// The quota that all runs of one app on this machine share.
pub struct MachineQuota {
    location: QuotaLocation,
    run: u32,
    clock: Clock,
    /// The time of day, by which a limit ends.
    time: TimeOfDay,
    /// Names the start of the machine.
    boot: String,
    higher_rate: HigherRate,
    state: Mutex<State>,
}

struct State {
    /// The file that every run locks, shared.
    lock: LockFile,
    /// The entry of this run.
    entry: Option<Entry>,
    activity: Activity,
    /// How many other runs are active, and when that was checked.
    others: usize,
    looked_at: Option<Instant>,
    /// Other runs were active when this run joined.
    has_joined_others: bool,
    /// The file with the starts, once it was used.
    file: Option<LockFile>,
    has_used_file: bool,
    /// The starts of this run, for a new file.
    own: Schedule,
    /// When the starts of others were last found to be lost.
    lost_at: Option<Instant>,
    /// They were lost twice, so nothing starts before this time.
    held_until: Option<Instant>,
    has_warned: bool,
    /// The limit that an operator has set.
    limit: KnownLimit,
}

impl fmt::Debug for MachineQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineQuota")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

impl MachineQuota {
    /// Joins the runs that share the quota. `presence` is the entry that they see. `exclusive`: fail if there are others.
    ///
    /// # Errors
    /// [`QuotaError::Held`] if there are others although the run is to be exclusive, [`QuotaError::OtherMachine`] if a run on
    /// another machine uses the same file, [`QuotaError::Unusable`] if no file can be locked.
    pub async fn join(
        location: QuotaLocation,
        presence: Presence,
        exclusive: bool,
    ) -> Result<MachineQuota, QuotaError> {
        let clocks = (Box::new(since_boot) as Clock, Box::new(SystemTime::now) as TimeOfDay);
        MachineQuota::join_with(location, presence, exclusive, clocks, boot_id()).await
    }

    /// As [`MachineQuota::join`], by another clock for the time since the machine was started. For this crate's own tests.
    #[doc(hidden)]
    pub async fn join_by_clock(
        location: QuotaLocation,
        presence: Presence,
        clock: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Result<MachineQuota, QuotaError> {
        let clocks = (Box::new(clock) as Clock, Box::new(SystemTime::now) as TimeOfDay);
        MachineQuota::join_with(location, presence, false, clocks, boot_id()).await
    }

    async fn join_with(
        location: QuotaLocation,
        presence: Presence,
        exclusive: bool,
        (clock, time): (Clock, TimeOfDay),
        boot: String,
    ) -> Result<MachineQuota, QuotaError> {
        let (lock, has_joined_others) = join_lock(&location, exclusive).await?;
        // A file that can't be used is to be known before anything is sent.
        let begun = begin_file(&location, &boot, has_joined_others, micros(clock())).await;
        if let Err(error) = begun {
            if lock.try_lock().unwrap_or(false) {
                lock.remove();
            }
            return Err(error);
        }
        Ok(MachineQuota {
            run: fastrand::u32(1..),
            boot,
            clock,
            time,
            higher_rate: HigherRate::new(&presence),
            state: Mutex::new(State {
                lock,
                entry: Entry::create(&location, presence),
                activity: Activity::default(),
                others: 0,
                looked_at: None,
                has_joined_others,
                file: None,
                has_used_file: false,
                own: Schedule::default(),
                lost_at: None,
                held_until: None,
                has_warned: false,
                limit: KnownLimit::default(),
            }),
            location,
        })
    }

    /// Once per second: writes the run's entry, and counts those of others. An entry that was removed is written again.
    fn refresh(&self, state: &mut State) {
        if state.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        state.looked_at = Some(Instant::now());
        if !state.lock.is_in_place()
            && let Ok(lock) = LockFile::open(&self.location.runs)
            && lock.try_lock_shared().unwrap_or(false)
        {
            state.lock = lock;
        }
        if let Some(entry) = &mut state.entry {
            // If that fails, the others see what the run was doing before.
            let _ = entry.renew(state.activity);
            if !entry.is_in_place() {
                let presence = entry.presence().clone();
                state.entry = Entry::create(&self.location, presence);
            }
        }
        state.others = entry::others(&self.location, state.entry.as_ref()).len();
        state.limit.renew(&self.location.limit);
    }

    /// Whether no other run is active. If so, none can join from now on.
    fn is_last(&self) -> bool {
        let lock = &self.state().lock;
        lock.try_lock().unwrap_or(false) && lock.is_in_place()
    }

    /// How long it takes until the starts can be forgotten, at most about a second.
    fn until_forgotten(&self) -> Duration {
        let now = micros((self.clock)());
        let file = LockFile::open(&self.location.starts).ok();
        let schedule = file.and_then(|file| schedule_in(&file, &self.boot)).unwrap_or_default();
        Duration::from_micros(schedule.until_forgotten().saturating_sub(now).min(SECOND + MARGIN))
    }

    fn remove_files(&self) {
        if let Ok(starts) = LockFile::open(&self.location.starts)
            && starts.try_lock().unwrap_or(false)
        {
            starts.remove();
        }
        let state = &mut *self.state();
        state.entry = None;
        state.lock.remove();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts of this run or of others are no longer in the file.
    fn note_loss(&self, state: &mut State) {
        let now = Instant::now();
        let is_repeated = state
            .lost_at
            .replace(now)
            .is_some_and(|before| now - before < LOST_AGAIN);
        if is_repeated {
            state.held_until = Some(now + LOST_AGAIN);
        } else if !std::mem::replace(&mut state.has_warned, true) {
            tracing::warn!(
                "{}: this file, through which runs share the quota, was removed, replaced or changed during the run; it is \
                 written again",
                self.location.starts.display()
            );
        }
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
        let mut schedule = found.unwrap_or_else(|| Schedule::begun_at(clocks.time));
        // The file may be another one than before: own starts that it does not have are added.
        state.own.forget(clocks.time, 0);
        let is_missing = |start: &&Start| schedule.get(self.run, start.at).is_none();
        let missing: Vec<Start> = state.own.starts().iter().filter(is_missing).copied().collect();
        if is_lost || !missing.is_empty() {
            self.note_loss(state);
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
                return check_writable(&file).map(|()| Some(file));
            }
        }
    }

    /// `None` if another run is just using the file.
    fn try_reserve(&self, request: &Request) -> Result<Option<Reserved>, Unavailable> {
        let state = &mut *self.state();
        self.refresh(state);
        self.check_held(state)?;
        state.limit.look(&self.location.limit, (self.time)());
        if state.limit.is_locked {
            return Ok(None);
        }
        if let Some(previous) = request.previous {
            state.own.settle(self.run, previous.made(), 0);
        }
        let (others, limit) = (state.others, state.limit.limit);
        let reserve = |schedule: &mut Schedule, clocks| self.reserve_in(schedule, clocks, request, others, limit);
        let reserved = match self.try_change(state, reserve) {
            Ok(None) => return Ok(None),
            Ok(Some(reserved)) => reserved,
            Err(source) => {
                self.without_file(state, unusable(&self.location.starts, source))?;
                reserve(&mut state.own.clone(), read_clocks(&self.clock))
            }
        };
        self.check_held(state)?;
        Ok(Some(match reserved {
            Ok((start, slot)) => {
                state.own.insert(start);
                Reserved::Slot(slot)
            }
            Err(at) => Reserved::NotBefore(at),
        }))
    }

    /// Nothing starts for a while after the file was lost twice.
    fn check_held(&self, state: &State) -> Result<(), Unavailable> {
        if state.held_until.is_none_or(|until| until <= Instant::now()) {
            return Ok(());
        }
        Err(Unavailable(format!(
            "{}: this file, through which runs share the quota, is removed, replaced or changed again and again, by another \
             program or on another machine",
            self.location.starts.display()
        )))
    }

    fn reserve_in(
        &self,
        schedule: &mut Schedule,
        clocks: Clocks,
        request: &Request,
        others: usize,
        limit: Option<Limit>,
    ) -> Result<(Start, Slot), Instant> {
        let wanted = Wanted {
            limit: limit.map(|limit| limit.rate.map_or(0.0, Rate::per_second)),
            ..request.wanted(self.run, 0)
        };
        let reserved = schedule.reserve(clocks.time, wanted);
        // A run that was killed has starts, and is no longer active.
        let runs = schedule.runs(clocks.time).min(others + 1);
        self.higher_rate.note(schedule.largest_rate(request.pace.rate), runs);
        match reserved {
            Err(at) => Err(clocks.instant_of(at)),
            Ok(start) => {
                let slot = Slot {
                    id: start.at,
                    at: clocks.instant_of(start.at),
                    until: clocks.instant_of(start.until),
                    starts: start.count,
                    runs,
                };
                Ok((start, slot))
            }
        }
    }

    /// The file has become unusable. Without others, only this run's starts count; with others, nothing may start.
    fn without_file(&self, state: &mut State, error: QuotaError) -> Result<(), Unavailable> {
        state.file = None;
        let is_last = state.lock.try_lock().unwrap_or(true);
        // Shared again. If others are active, they don't see this run for a moment, which is harmless.
        let _ = state.lock.try_lock_shared();
        if !is_last {
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
                let file = if self.state().limit.is_locked {
                    &self.location.limit
                } else {
                    &self.location.starts
                };
                return Err(Unavailable(format!(
                    "{}: another process has locked this file, through which runs share the quota, for more than {} s",
                    file.display(),
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

    fn limit(&self) -> Option<Limit> {
        let state = &mut *self.state();
        state.limit.look(&self.location.limit, (self.time)());
        state.limit.limit
    }

    fn note(&self, activity: Activity) {
        let state = &mut *self.state();
        state.activity = activity;
        self.refresh(state);
    }

    /// The last run waits until the starts can be forgotten, at most a second, and removes the files.
    fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(last) = last {
                // If the file can't be used, the others count the slot for a little longer.
                let _ = self.retry(|| self.try_settle(last)).await;
            }
            self.state().entry = None;
            if self.is_last() {
                // Until the files are removed, no other run can join.
                sleep(self.until_forgotten()).await;
                self.remove_files();
            }
        })
    }
}

/// A run that ends before its first start leaves no files either, unless others have just made starts.
impl Drop for MachineQuota {
    fn drop(&mut self) {
        let has_started = !self.state().own.starts().is_empty();
        if !has_started && self.is_last() && self.until_forgotten().is_zero() {
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

#[cfg(test)]
mod tests;
