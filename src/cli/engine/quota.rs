//! The app's quota, which a run shares with the other runs of the app.

use std::sync::Arc;

use secrecy::ExposeSecret;
use zim_batch::client::Client;
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{MachineQuota, Quota, QuotaError, QuotaLocation, RedisQuota};

use crate::cli::errors::{Error, hints};
use crate::cli::settings::app::App;
use crate::cli::settings::run::RunSettings;

/// The limiter of a run. It joins the runs that share the quota; with `--no-wait`, that fails if there are any. A simulated
/// run shares nothing.
pub async fn join(settings: &RunSettings, client: &Client, name: &str) -> Result<Limiter, Error> {
    let rate = settings.pace.rate.value;
    let quota = match &settings.app {
        Some(app) => join_others(app, client, name, settings.pace.no_wait).await?,
        None => None,
    };
    Ok(match quota {
        Some(quota) => Limiter::sharing(rate, quota),
        None => Limiter::new(rate),
    })
}

/// Through a server, if one is set, or on this machine. If that is not possible because of the files for it, the run
/// continues without, with a warning.
async fn join_others(app: &App, client: &Client, name: &str, exclusive: bool) -> Result<Option<Arc<dyn Quota>>, Error> {
    let location = QuotaLocation::new(client.app_id(), client.endpoint_url()).in_directory(&app.lock_dir.value);
    if let Some(url) = &app.quota {
        return match RedisQuota::join(url.value.expose_secret(), &location, exclusive).await {
            Ok(quota) => Ok(Some(Arc::new(quota))),
            Err(error @ QuotaError::Refused { .. }) => Err(Error::Usage(format!(
                "{error}; correct them in the URL ({})",
                url.origin
            ))),
            Err(error) => Err(error.into()),
        };
    }
    let name = format!("zim-batch (process {}, {name})", std::process::id());
    match MachineQuota::join(location, &name, exclusive).await {
        Ok(quota) => Ok(Some(Arc::new(quota))),
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::warn!("{}", hints::quota_error(&error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
