//! The quota that runs share: the program's own of a machine, by the simulated clock, or one that is written
//! independently of it, with the starts of all runs in one list.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use zim_batch::Rate;
use zim_batch::limiter::quota::{BoxFuture, Limit, MachineQuota, Presence, Previous, Quota, QuotaError};
use zim_batch::limiter::quota::{QuotaLocation, Request, Reserved, Slot, Unavailable};

use crate::life::QuotaState;
use crate::world::RunId;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct Shared {
    starts: Vec<Start>,
    next_id: u64,
    /// Those that joined and have not left, with their rates.
    joined: Vec<(RunId, f64)>,
    limit: Option<f64>,
    is_away: bool,
    not_before: Option<Instant>,
}

struct Start {
    id: u64,
    run: RunId,
    count: u32,
    rate: f64,
    at: Instant,
    /// When the last of them was made, or may be made.
    until: Instant,
}

/// The quota, for one run.
pub struct RunQuota {
    shared: Arc<Mutex<Shared>>,
    run: RunId,
}

impl Shared {
    pub fn set_limit(&mut self, limit: Option<f64>) {
        self.limit = limit;
    }

    pub fn limit(&self) -> Option<Limit> {
        let rate = |limit: f64| if limit > 0.0 { Rate::try_from(limit).ok() } else { None };
        self.limit.map(|limit| Limit::new(rate(limit), None))
    }

    pub fn is_away(&self) -> bool {
        self.is_away
    }

    pub fn begin(&mut self, state: QuotaState) {
        match state {
            QuotaState::Away | QuotaState::ReadOnly => self.is_away = true,
            QuotaState::Restarted => {
                self.starts.clear();
                self.not_before = Some(Instant::now() + SECOND + Duration::from_millis(20));
            }
        }
    }

    pub fn end_trouble(&mut self) {
        self.is_away = false;
    }

    /// The run is killed.
    pub fn forget(&mut self, run: RunId) {
        self.joined.retain(|(joined, _)| *joined != run);
    }

    fn settle(&mut self, run: RunId, previous: Previous) {
        let is_meant = |start: &Start| (start.run, start.id) == (run, previous.slot.id);
        let Some(index) = self.starts.iter().position(is_meant) else {
            return;
        };
        if previous.used == 0 {
            self.starts.remove(index);
        } else {
            (self.starts[index].count, self.starts[index].until) = (previous.used, previous.last);
        }
    }

    fn reserve(&mut self, run: RunId, request: &Request) -> Result<Reserved, Unavailable> {
        if self.is_away {
            return Err(Unavailable("the quota server is away".into()));
        }
        let now = Instant::now();
        if let Some(previous) = request.previous {
            self.settle(run, previous);
        }
        self.starts.retain(|start| start.until + 3 * SECOND > now);
        if self.limit.is_some_and(|limit| limit < request.pace.rate) {
            return Ok(Reserved::NotBefore(now + Duration::from_millis(10)));
        }
        let rates = self
            .joined
            .iter()
            .map(|(_, rate)| *rate)
            .chain(self.starts.iter().map(|start| start.rate));
        let largest = rates.fold(request.pace.rate, f64::max);
        let rate = self.limit.map_or(largest, |limit| largest.min(limit));
        let each = SECOND.mul_f64(1.0045 / (rate * request.pace.share));
        let window = SECOND.mul_f64(1.0035 / request.pace.share);
        let mut at = request.not_before.max(now).max(self.not_before.unwrap_or(now));
        let cap = rate.ceil() as u32;
        let room = cap.saturating_sub(request.starts);
        // Evenly spaced, and the newest starts that leave no room must be out of the window.
        at = self
            .starts
            .iter()
            .map(|start| start.at + each * start.count.min(cap))
            .fold(at, Instant::max);
        let mut newest: Vec<&Start> = self.starts.iter().collect();
        newest.sort_by_key(|start| std::cmp::Reverse(start.until));
        let mut counted = 0;
        for start in newest {
            counted += start.count;
            if counted > room {
                at = at.max(start.until + window);
                break;
            }
        }
        if at > now + SECOND {
            return Ok(Reserved::NotBefore(at));
        }
        self.next_id += 1;
        let until = at + each * (request.starts - 1) + Duration::from_millis(10);
        let start = Start {
            id: self.next_id,
            run,
            count: request.starts,
            rate: request.pace.rate,
            at,
            until,
        };
        self.starts.push(start);
        Ok(Reserved::Slot(Slot {
            id: self.next_id,
            at,
            until,
            starts: request.starts,
            runs: self.joined.len().max(1),
        }))
    }
}

impl RunQuota {
    pub fn join(shared: &Arc<Mutex<Shared>>, run: RunId, rate: f64) -> RunQuota {
        shared.lock().unwrap().joined.push((run, rate));
        RunQuota {
            shared: Arc::clone(shared),
            run,
        }
    }
}

impl fmt::Debug for RunQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunQuota {:?}", self.run)
    }
}

impl Quota for RunQuota {
    fn reserve(&self, request: Request) -> BoxFuture<'_, Result<Reserved, Unavailable>> {
        Box::pin(async move { self.shared.lock().unwrap().reserve(self.run, &request) })
    }

    fn limit(&self) -> Option<Limit> {
        self.shared.lock().unwrap().limit()
    }

    fn leave(&self, last: Option<Previous>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut shared = self.shared.lock().unwrap();
            if let Some(last) = last {
                shared.settle(self.run, last);
            }
            shared.forget(self.run);
        })
    }
}

/// Where runs share the program's own quota.
pub struct Machine {
    location: QuotaLocation,
    directory: PathBuf,
    /// The file with the starts, locked as another program would.
    locked: Mutex<Option<File>>,
    epoch: Instant,
}

impl Machine {
    pub fn new(directory: &Path) -> Machine {
        let endpoint = "https://zim-api.zego.im".parse().unwrap();
        Machine {
            location: QuotaLocation::new(crate::world::APP_ID, &endpoint).in_directory(directory),
            directory: directory.to_owned(),
            locked: Mutex::default(),
            epoch: Instant::now(),
        }
    }

    pub async fn join(&self, name: &str, rate: Rate) -> Result<MachineQuota, QuotaError> {
        let (location, epoch) = (self.location.clone(), self.epoch);
        // The machine was started an hour before.
        let clock = move || 3600 * SECOND + epoch.elapsed();
        MachineQuota::join_by_clock(location, Presence::new(name, rate), clock).await
    }

    pub async fn set_limit(&self, limit: Option<f64>) {
        let limit = limit.map(|limit| Limit::new(Rate::try_from(limit).ok(), None));
        MachineQuota::set_limit(&self.location, limit).await.unwrap();
    }

    /// The file with the starts, if there is one.
    fn starts(&self) -> Option<PathBuf> {
        self.files()
            .into_iter()
            .find(|path| path.extension().is_some_and(|ending| ending == "starts"))
    }

    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).unwrap().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    /// Another program keeps the file locked, so that nobody can use the quota. Returns whether there is one.
    pub fn lock(&self) -> bool {
        let mut locked = self.locked.lock().unwrap();
        if locked.is_none()
            && let Some(starts) = self.starts()
        {
            let file = File::open(starts).unwrap();
            *locked = file.try_lock().is_ok().then_some(file);
        }
        locked.is_some()
    }

    pub fn unlock(&self) {
        *self.locked.lock().unwrap() = None;
    }

    /// Somebody removes the file while runs use it.
    pub fn remove_starts(&self) {
        if self.locked.lock().unwrap().is_none()
            && let Some(starts) = self.starts()
        {
            fs::remove_file(starts).unwrap();
        }
    }
}
