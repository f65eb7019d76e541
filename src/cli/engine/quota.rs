//! The app's quota, which a run shares with the other runs of the app.

use std::sync::Arc;

use zim_batch::Rate;
use zim_batch::client::ClientBuilder;
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{MachineQuota, QuotaError};
use zim_batch::stop::StopHandle;

use crate::cli::errors::{Error, hints};
use crate::cli::settings::run::RunSettings;

/// The limiter of a run, and what it is shared through.
pub struct SharedQuota {
    limiter: Limiter,
    machine: Option<Arc<MachineQuota>>,
}

impl SharedQuota {
    /// Joins the other runs, through a server or on this machine; with `--no-wait`, fails if there are any. If that is not
    /// possible because of the files for it, the run continues without, with a warning. A simulated run shares nothing.
    pub async fn join(settings: &RunSettings, target: &ClientBuilder, name: &str) -> Result<SharedQuota, Error> {
        let rate = settings.pace.rate.value;
        let exclusive = settings.pace.no_wait;
        let Some(app) = &settings.app else {
            return Ok(SharedQuota::alone(rate));
        };
        let place = app.place(target);
        if let Some(quota) = app.join_quota(&place, exclusive).await? {
            return Ok(SharedQuota {
                limiter: Limiter::sharing(rate, Arc::new(quota)),
                machine: None,
            });
        }
        let name = format!("zim-batch (process {}, {name})", std::process::id());
        match MachineQuota::join(place, &name, exclusive).await {
            Ok(quota) => {
                let quota = Arc::new(quota);
                Ok(SharedQuota {
                    limiter: Limiter::sharing(rate, Arc::clone(&quota) as _),
                    machine: Some(quota),
                })
            }
            Err(error @ QuotaError::Unusable { .. }) => {
                tracing::warn!("{}", hints::quota_error(&error));
                Ok(SharedQuota::alone(rate))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn alone(rate: Rate) -> SharedQuota {
        SharedQuota {
            limiter: Limiter::new(rate),
            machine: None,
        }
    }

    /// The limiter of the run. All of its jobs share it.
    pub fn limiter(&self) -> Limiter {
        self.limiter.clone()
    }

    /// Leaves the other runs. The jobs, which hold the limiter, have ended.
    pub async fn leave(self, stop: &StopHandle) {
        drop(self.limiter);
        if let Some(quota) = self.machine.and_then(Arc::into_inner) {
            tokio::select! {
                biased;
                () = stop.aborting() => {}
                () = quota.leave() => {}
            }
        }
    }
}
