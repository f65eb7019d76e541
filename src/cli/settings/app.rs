//! The settings of the app that are in force: flags take precedence over the environment, and the environment over the
//! profile.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zim_batch::Rate;
use zim_batch::client::{BuildError, Client, ClientBuilder};
use zim_batch::endpoint::is_loopback;
use zim_batch::limiter::quota::{QuotaError, QuotaLocation, RedisQuota};
use zim_batch::text::one_line;

use crate::cli::args::app::{APP_ID, CA_CERT, LOCK_DIR, QUOTA, SECRET_FILE};
use crate::cli::args::given::may_hold_secret;
use crate::cli::errors::Error;
use crate::cli::errors::redact::shown_path;
use crate::cli::settings::origin::{Origin, Sourced};
use crate::cli::settings::profile::Profile;
use crate::cli::settings::secret;
use crate::cli::settings::sources::Sources;

/// The settings of the app.
#[derive(Debug)]
pub struct App {
    pub app_id: Option<Sourced<u32>>,
    pub secret_file: Option<Sourced<PathBuf>>,
    pub endpoint: Sourced<Url>,
    pub ca_cert: Option<Sourced<PathBuf>>,
    pub quota: Option<Sourced<SecretString>>,
    pub lock_dir: Sourced<PathBuf>,
    pub profile: Option<Profile>,
}

impl App {
    pub fn new(sources: Sources) -> Result<App, Error> {
        Ok(App {
            app_id: sources.get(&APP_ID)?,
            secret_file: sources.get(&SECRET_FILE)?,
            endpoint: sources.endpoint()?,
            ca_cert: sources.get(&CA_CERT)?,
            quota: sources.get(&QUOTA)?,
            lock_dir: sources.get(&LOCK_DIR)?.expect("it has a default"),
            profile: sources.profile?,
        })
    }

    /// What the client is built from.
    pub fn client(&self, timeout: Duration) -> Result<ClientBuilder, Error> {
        let secret = secret::find(self.secret_file.as_ref())?;
        let (Some(app_id), Some(secret)) = (&self.app_id, secret) else {
            return Err(Error::Usage(
                "the app's credentials are missing: set ZIM_APP_ID (or --app-id) and ZIM_SERVER_SECRET, or \
                 ZIM_SERVER_SECRET_FILE (or --secret-file), or choose a profile with both (--profile); both are in the \
                 ZEGO console. To try it without credentials, use --simulate"
                    .into(),
            ));
        };
        self.warn_about_mixture(app_id, &secret);
        let mut client = Client::builder(app_id.value, secret.value).timeout(timeout);
        if let Some(file) = &self.ca_cert {
            client = client.ca_cert(read(&file.value, &file.origin)?);
        }
        Ok(client.endpoint(self.endpoint.value.clone()))
    }

    /// A variable that was set for another app would silently replace half of a profile, or its app.
    fn warn_about_mixture(&self, app_id: &Sourced<u32>, secret: &Sourced<SecretString>) {
        let is_mixed = matches!(
            (&app_id.origin, &secret.origin),
            (Origin::Profile { .. }, Origin::Variable(_)) | (Origin::Variable(_), Origin::Profile { .. })
        );
        if is_mixed {
            tracing::warn!(
                "the AppId and the secret come from different places: {} and {}; variables take precedence over a profile",
                app_id.origin,
                secret.origin
            );
        } else if let (Origin::Variable(variable), Some(profile)) = (&app_id.origin, &self.profile)
            && let Origin::Flag(flag) = profile.chosen_by
            && profile.get(&APP_ID).is_some_and(|other| other.value != app_id.value)
        {
            tracing::warn!(
                "the AppId is {}, from {variable}, and not that of the profile of {flag}: variables take precedence over a \
                 profile; to use the profile's, unset {variable}",
                app_id.value
            );
        }
    }

    /// Builds the client.
    pub fn build(&self, client: &ClientBuilder) -> Result<Client, Error> {
        client.clone().build().map_err(|error| match (&self.ca_cert, error) {
            (Some(file), BuildError::CaCert) => no_certificate(&file.value, &file.origin),
            (_, error) => error.into(),
        })
    }

    /// Logs where requests will be sent, and warns about risky settings.
    pub fn announce(&self, client: &ClientBuilder, rate: &Sourced<Rate>) {
        // This target is shown unless -q is given: see `logging::layer`.
        tracing::info!(
            target: "zim_batch::start",
            "requests go to {} for app {}{}",
            client.endpoint_url(),
            client.app_id(),
            self.origin_of_app()
        );
        let (limit, Sourced { value: rate, origin }) = (Rate::default(), rate);
        if *rate > limit && !is_loopback(client.endpoint_url()) {
            tracing::warn!(
                "a rate of {rate} ({origin}): ZEGO's default limit is {limit} requests per second; a higher rate \
                 works only if ZEGO has raised the limit of app {}",
                client.app_id()
            );
        }
        if let Some(file) = &self.secret_file {
            secret::warn_if_others_can_read(&file.value, "the secret");
        }
        if let Some(profile) = &self.profile {
            warn_if_others_can_read_password(profile);
        }
    }

    /// What the profile in force has to do with the AppId.
    fn origin_of_app(&self) -> String {
        match (&self.profile, self.app_id.as_ref().map(|app_id| &app_id.origin)) {
            (None, _) => String::new(),
            (Some(profile), Some(origin @ (Origin::Flag(_) | Origin::Variable(_)))) => format!(
                " (AppId from {origin}, other settings from profile {})",
                one_line(&profile.name)
            ),
            (Some(profile), _) => format!(" (profile {})", one_line(&profile.name)),
        }
    }

    /// Where all runs of the app on this machine share its quota.
    pub fn quota_location(&self, client: &ClientBuilder) -> QuotaLocation {
        QuotaLocation::new(client.app_id(), client.endpoint_url()).in_directory(&self.lock_dir.value)
    }

    /// Joins the runs that share the quota through a server, if there is one.
    pub async fn join_quota(&self, location: &QuotaLocation, exclusive: bool) -> Result<Option<RedisQuota>, Error> {
        let Some(url) = &self.quota else { return Ok(None) };
        match RedisQuota::join(url.value.expose_secret(), location, exclusive).await {
            Ok(quota) => Ok(Some(quota)),
            Err(error @ QuotaError::Refused { .. }) => Err(Error::Usage(format!(
                "{error}; correct them in the URL ({})",
                url.origin
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

/// The configuration file needs no protection, unless there is a password in it.
pub fn warn_if_others_can_read_password(profile: &Profile) {
    if let Some(quota) = profile.get(&QUOTA)
        && let Origin::Profile { file, .. } = &quota.origin
        && may_hold_secret(quota.value.expose_secret().as_ref())
    {
        secret::warn_if_others_can_read(file, "the password of the quota");
    }
}

/// Checks that a client can trust the certificates in this file.
pub fn check_ca_cert(path: &Path, origin: &Origin) -> Result<(), Error> {
    // Nothing is sent, so any app will do.
    let client = Client::builder(0, "").ca_cert(read(path, origin)?);
    match client.build() {
        Err(BuildError::CaCert) => Err(no_certificate(path, origin)),
        _ => Ok(()),
    }
}

fn no_certificate(path: &Path, origin: &Origin) -> Error {
    Error::Usage(format!("{} ({origin}): {}", path.display(), BuildError::CaCert))
}

fn read(path: &Path, origin: &Origin) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Usage(format!("{} ({origin}): can't be read: {error}", shown_path(path))))
}
