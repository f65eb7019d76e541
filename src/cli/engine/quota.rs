//! The app's quota, which a run shares with the other runs of the app.

use std::sync::Arc;

use zim_batch::client::ClientBuilder;
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{MachineQuota, QuotaError};

use crate::cli::errors::{Error, hints};
use crate::cli::settings::run::RunSettings;

/// Joins the runs that share the quota, through a server or on this machine; with `--no-wait`, fails if there are any. If
/// that is not possible because of the files for it, the run continues without, with a warning. A simulated run shares nothing.
pub async fn join(settings: &RunSettings, target: &ClientBuilder, name: &str) -> Result<Limiter, Error> {
    let rate = settings.pace.rate.value;
    let exclusive = settings.pace.no_wait;
    let Some(app) = &settings.app else {
        return Ok(Limiter::new(rate));
    };
    let location = app.quota_location(target);
    if let Some(quota) = app.join_quota(&location, exclusive).await? {
        return Ok(Limiter::sharing(rate, Arc::new(quota)));
    }
    let name = format!("zim-batch (process {}, {name})", std::process::id());
    match MachineQuota::join(location, &name, exclusive).await {
        Ok(quota) => Ok(Limiter::sharing(rate, Arc::new(quota))),
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::warn!("{}", hints::quota_error(&error));
            Ok(Limiter::new(rate))
        }
        Err(error) => Err(error.into()),
    }
}
