//! What every run needs besides its rows: the app, its quota, and signals.

use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use zim_batch::Rate;
use zim_batch::client::{Client, ClientBuilder, Service};
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{MachineQuota, Place, QuotaError, RedisQuota};
use zim_batch::rows::Snapshot;
use zim_batch::run::summary::Summary;
use zim_batch::run::{Job, Limits};
use zim_batch::simulator::{self, World};
use zim_batch::stop::{StopHandle, StopReason};

use crate::cli::engine::batch::watch_rows;
use crate::cli::engine::process;
use crate::cli::engine::signals;
use crate::cli::errors::Error;
use crate::cli::errors::hints;
use crate::cli::output::progress::Terminal;
use crate::cli::settings::app::{self, App};
use crate::cli::settings::run::PaceSettings;
use crate::cli::settings::simulate::demonstration;

/// The quota that this run shares.
enum SharedQuota {
    /// With the runs on this machine.
    Machine(Arc<MachineQuota>),
    /// With runs on many machines.
    Redis(Arc<RedisQuota>),
}

/// What a run needs besides its rows: the app, and its quota.
pub struct Session {
    started_at: Instant,
    status_signal: signals::StatusSignal,
    /// What other runs with the same quota are told.
    pub name: String,
    /// Maximum requests in any second.
    pub rate: Rate,
    /// The app, unless it is simulated.
    app: Option<App>,
    /// Where to share the quota.
    place: Option<Place>,
    quota: Option<SharedQuota>,
    max_in_flight: NonZeroUsize,
}

impl Session {
    /// Call first: from here on, a signal is not lost.
    pub fn begin() -> Result<Session, Error> {
        let started_at = Instant::now();
        process::start_threads()?;
        signals::ignore_sigxfsz();
        Ok(Session {
            started_at,
            status_signal: signals::StatusSignal::listen(),
            name: String::new(),
            rate: Rate::default(),
            app: None,
            place: None,
            quota: None,
            max_in_flight: NonZeroUsize::MIN,
        })
    }

    /// Finds out where requests are sent, and with which quota: ZIM, or a simulator in this process.
    pub async fn connect(&mut self, app: Option<App>, pace: &PaceSettings) -> Result<ClientBuilder, Error> {
        self.rate = pace.rate.value;
        // With --simulate, this process also holds the server's end of each connection.
        let files_each = if app.is_none() { 2 } else { 1 };
        let client = match app {
            None => simulated(self.rate, pace.timeout).await?,
            Some(app) => self.join_app(app, pace)?,
        };
        self.max_in_flight = process::usable_in_flight(pace.limits.max_in_flight, files_each)?;
        Ok(client)
    }

    fn join_app(&mut self, app: App, pace: &PaceSettings) -> Result<ClientBuilder, Error> {
        let client = app.client(pace.timeout)?;
        self.place = Some(app.place(&client));
        self.app = Some(app);
        Ok(client)
    }

    /// Builds the client.
    pub fn build(&self, client: &ClientBuilder) -> Result<Client, Error> {
        match &self.app {
            Some(app) => app.build(client),
            None => Ok(client.clone().build()?),
        }
    }

    /// Logs where requests will be sent, and warns about risky settings.
    pub fn announce(&self, client: &ClientBuilder) {
        if let Some(app) = &self.app {
            app.announce(client);
        }
    }

    /// The bounds of the run.
    pub fn limits(&self, wanted: &Limits) -> Limits {
        Limits {
            max_in_flight: self.max_in_flight,
            ..wanted.clone()
        }
    }

    /// Joins the runs that share the quota; with --no-wait, fails if there are any. If that is not possible because of the
    /// files for it, the run continues without, with a warning.
    pub async fn join(&mut self, no_wait: bool) -> Result<(), Error> {
        let Some(place) = self.place.take() else { return Ok(()) };
        if let Some(app) = &self.app
            && let Some(quota) = app.join_quota(&place, no_wait).await?
        {
            self.quota = Some(SharedQuota::Redis(Arc::new(quota)));
            return Ok(());
        }
        let name = format!("zim-batch (process {}, {})", std::process::id(), self.name);
        match MachineQuota::join(place, &name, no_wait).await {
            Err(error @ QuotaError::Unusable { .. }) => tracing::warn!("{}", hints::quota_error(&error)),
            joined => self.quota = Some(SharedQuota::Machine(Arc::new(joined?))),
        }
        Ok(())
    }

    /// The limiter of the run.
    pub fn limiter(&self) -> Limiter {
        let rate = self.rate;
        match &self.quota {
            Some(SharedQuota::Machine(quota)) => Limiter::sharing(rate, Arc::clone(quota) as _),
            Some(SharedQuota::Redis(quota)) => Limiter::sharing(rate, Arc::clone(quota) as _),
            None => Limiter::new(rate),
        }
    }

    /// Runs to the end, or to the stop that comes first.
    pub async fn drive<S: Service>(
        self,
        job: Job<S>,
        limits: Limits,
        timeout: Duration,
        terminal: &Terminal,
        snapshot: Option<Snapshot>,
    ) -> Result<Summary, Error> {
        let stop = StopHandle::new();
        let draining = |stop: &StopReason| {
            tracing::warn!(
                "{stop}: starting no more rows, finishing the requests in flight (at most {}); a second signal stops immediately",
                humantime::format_duration(timeout)
            );
        };
        let mut signals = pin!(signals::watch(&stop, self.status_signal, draining, || terminal.request_status()));
        tracing::info!("the run begins: {}, at most {}/s", self.name, self.rate);
        let job = job.limits(limits).stop_handle(stop.clone()).started_at(self.started_at);
        let ended = tokio::select! {
            ended = job.run() => ended,
            () = &mut signals => unreachable!("it never completes"),
            () = watch_rows(snapshot, &stop) => unreachable!("it never completes"),
        };
        // Only this run's limiter has held it, and that is gone.
        if let Some(SharedQuota::Machine(quota)) = self.quota
            && let Some(quota) = Arc::into_inner(quota)
        {
            tokio::select! {
                biased;
                () = stop.aborting() => {}
                () = quota.leave() => {}
            }
        }
        Ok(ended?)
    }
}

/// A simulator in this process.
async fn simulated(rate: Rate, timeout: Duration) -> Result<ClientBuilder, Error> {
    let unexpected = |error: std::io::Error| Error::Unexpected(format!("the simulator could not be started: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(unexpected)?;
    let address = listener.local_addr().map_err(unexpected)?;
    let options = demonstration(rate);
    let client = app::simulated(options.app_id, options.server_secret.clone(), address, timeout);
    tokio::spawn(simulator::serve(
        listener,
        World::sample(),
        options,
        None,
        std::future::pending(),
    ));
    client
}
