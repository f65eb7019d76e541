//! What an operator sees and changes, without being a run.

use super::super::error::QuotaError;
use super::super::limit::Limit;
use super::super::limit_entry::LimitEntry;
use super::super::location::QuotaLocation;
use super::super::lock_file::LockFile;
use super::super::sharing::Sharing;
use super::join::unusable;
use super::limit_file::{self, Found};
use super::{MachineQuota, entry};

impl MachineQuota {
    /// The runs on this machine that share the quota, and their limit. Changes nothing.
    ///
    /// # Errors
    /// [`QuotaError::Unusable`] if this user can't see the files, or another process keeps one locked.
    pub async fn look(location: &QuotaLocation) -> Result<Sharing, QuotaError> {
        // A directory that this user can't read must not look like one without runs.
        LockFile::open_to_read(&location.runs).map_err(|source| unusable(&location.runs, source))?;
        let found = limit_file::read_patiently(&location.limit).await;
        let limit = match found.map_err(|source| unusable(&location.limit, source))? {
            Found::Entry(entry) => Ok(Some(entry)),
            Found::Damaged(damage) => Err(format!("{}: {damage}", location.limit.display())),
            Found::Nothing | Found::Locked => Ok(None),
        };
        Ok(Sharing::new(entry::others(location, None), limit))
    }

    /// Sets the limit of all runs on this machine that share the quota, and of those that come, or ends it. They follow with
    /// their next start. A limit without an end is kept for a day after it was last in force.
    ///
    /// # Errors
    /// [`QuotaError::Unusable`] if this user can't write to the file, or another process keeps it locked.
    pub async fn set_limit(location: &QuotaLocation, limit: Option<Limit>) -> Result<(), QuotaError> {
        let entry = limit.map(LimitEntry::new);
        let set = limit_file::set(&location.limit, entry.as_ref()).await;
        set.map_err(|source| unusable(&location.limit, source))
    }
}
