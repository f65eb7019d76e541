//! The app's quota, which a run shares with the other runs of the app.

use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;
use zim_batch::client::Client;
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{MachineQuota, Presence, Quota, QuotaError, QuotaLocation, RedisQuota};

use crate::cli::engine::client;
use crate::cli::errors::{Error, hints};
use crate::cli::settings::app::App;
use crate::cli::settings::run::RunSettings;

/// The limiter of a run. It joins the runs that share the quota; with `--no-wait`, that fails if there are any. A simulated
/// run shares nothing. `report` is the run's, for the others.
pub async fn join(settings: &RunSettings, zim: &Client, report: Option<&Path>) -> Result<Limiter, Error> {
    let rate = settings.pace.rate.value;
    let quota = match &settings.app {
        Some(app) => {
            let presence = Presence::new(&settings.labels.name, rate);
            let presence = match report {
                Some(report) => presence.report(report),
                None => presence,
            };
            join_others(app, zim, presence, settings.pace.no_wait).await?
        }
        None => None,
    };
    Ok(match quota {
        Some(quota) => Limiter::sharing(rate, quota),
        None => Limiter::new(rate),
    })
}

/// Through a server, if one is set, or on this machine. If that is not possible because of the files for it, the run
/// continues without, with an error.
async fn join_others(
    app: &App,
    zim: &Client,
    presence: Presence,
    exclusive: bool,
) -> Result<Option<Arc<dyn Quota>>, Error> {
    let location = QuotaLocation::new(zim.app_id(), zim.endpoint_url()).in_directory(&app.lock_dir.value);
    if let Some(url) = &app.quota {
        let ca_cert = client::ca_cert(app)?;
        let joined = RedisQuota::join(
            url.value.expose_secret(),
            ca_cert.as_deref(),
            &location,
            presence,
            exclusive,
        );
        return match joined.await {
            Ok(quota) => Ok(Some(Arc::new(quota))),
            Err(error @ (QuotaError::Refused { .. } | QuotaError::Untrusted { .. })) => Err(Error::Usage(format!(
                "{}; its URL is from {}",
                hints::quota_error(&error),
                url.origin
            ))),
            Err(error) => Err(error.into()),
        };
    }
    match MachineQuota::join(location, presence, exclusive).await {
        Ok(quota) => Ok(Some(Arc::new(quota))),
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::error!("{}", hints::quota_error(&error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
