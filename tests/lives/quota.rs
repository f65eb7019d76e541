//! The program's own quota of a machine, by the simulated clock.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use zim_batch::Rate;
use zim_batch::limiter::quota::{Limit, MachineQuota, Presence, QuotaError, QuotaLocation};

use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// Where runs share the program's own quota.
pub struct Machine {
    location: QuotaLocation,
    directory: PathBuf,
    /// The file with the starts, locked as another program would.
    locked: Mutex<Option<File>>,
    epoch: Instant,
    clock: Arc<Clock>,
}

/// Where the runs of the app meet.
pub fn location() -> QuotaLocation {
    QuotaLocation::new(crate::world::APP_ID, &"https://zim-api.zego.im".parse().unwrap())
}

impl Machine {
    pub fn new(directory: &Path, clock: &Arc<Clock>) -> Machine {
        Machine {
            location: location().in_directory(directory),
            directory: directory.to_owned(),
            locked: Mutex::default(),
            epoch: Instant::now(),
            clock: Arc::clone(clock),
        }
    }

    pub async fn join(&self, name: &str, rate: Rate) -> Result<MachineQuota, QuotaError> {
        let (location, epoch, clock) = (self.location.clone(), self.epoch, Arc::clone(&self.clock));
        // The machine was started an hour before.
        let clock = move || 3600 * SECOND + epoch.elapsed() + clock.slept_until_now();
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
