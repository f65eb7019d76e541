//! The client of a run, built from the settings of the app.

use std::path::Path;
use std::time::Duration;

use zim_batch::client::{BuildError, Client};
use zim_batch::endpoint::is_loopback;
use zim_batch::{Rate, Timetable};

use crate::cli::errors::Error;
use crate::cli::errors::redact::shown_path;
use crate::cli::output::logging::START;
use crate::cli::settings::app::{self, App};
use crate::cli::settings::origin::{Origin, Sourced};
use crate::cli::settings::secret;

/// Reads the secret and the certificates, and builds the client.
pub fn build(app: &App, timeout: Duration) -> Result<Client, Error> {
    let secret = secret::find(app.secret_file.as_ref())?;
    let no_secret = secret.is_none();
    let (Some(app_id), Some(secret)) = (&app.app_id, secret) else {
        let app_id = app.app_id.is_none().then_some("ZIM_APP_ID (or --app-id)");
        let secret =
            no_secret.then_some("ZIM_SERVER_SECRET_FILE (or --secret-file; the secret itself: ZIM_SERVER_SECRET)");
        let missing: Vec<&str> = app_id.into_iter().chain(secret).collect();
        return Err(Error::Usage(format!(
            "the app's credentials are missing: set {}, or choose a profile that has them (--profile); AppId and \
             ServerSecret are in the ZEGO console. To try it without credentials, use --simulate",
            missing.join(" and ")
        )));
    };
    app.warn_about_mixture(app_id, &secret);
    let mut client = Client::builder(app_id.value, secret.value)
        .endpoint(app.endpoint.value.clone())
        .timeout(timeout);
    if let Some(pem) = ca_cert(app)? {
        client = client.ca_cert(pem);
    }
    client.build().map_err(|error| match (&app.ca_cert, error) {
        (Some(file), BuildError::CaCert) => no_certificate(&file.value, &file.origin),
        (_, error) => error.into(),
    })
}

/// The certificates that are trusted besides the system's, PEM.
pub fn ca_cert(app: &App) -> Result<Option<Vec<u8>>, Error> {
    let file = app.ca_cert.as_ref();
    file.map(|file| read_ca_cert(&file.value, &file.origin)).transpose()
}

/// Checks that a client can trust the certificates in this file.
pub fn check_ca_cert(path: &Path, origin: &Origin) -> Result<(), Error> {
    // Nothing is sent, so any app will do.
    let client = Client::builder(0, "").ca_cert(read_ca_cert(path, origin)?);
    match client.build() {
        Err(BuildError::CaCert) => Err(no_certificate(path, origin)),
        _ => Ok(()),
    }
}

fn read_ca_cert(path: &Path, origin: &Origin) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Usage(format!("{} ({origin}): can't be read: {error}", shown_path(path))))
}

fn no_certificate(path: &Path, origin: &Origin) -> Error {
    Error::Usage(format!("{} ({origin}): {}", path.display(), BuildError::CaCert))
}

/// Logs where requests go, and warns about risky settings.
pub fn announce(client: &Client, app: &App, rate: &Sourced<Timetable>) {
    let (app_id, endpoint) = (client.app_id(), client.endpoint_url());
    tracing::info!(
        target: START,
        "requests go to {endpoint} for app {app_id}{}",
        app.origin_in_words()
    );
    let (limit, highest, origin) = (Rate::default(), rate.value.highest(), &rate.origin);
    if highest > limit && !is_loopback(endpoint) {
        tracing::warn!(
            "a rate of {highest} ({origin}): ZEGO's default limit is {limit} requests per second; a higher rate works only if \
             ZEGO has raised the limit of app {app_id}"
        );
    }
    if let Some(file) = &app.secret_file {
        secret::warn_if_others_can_read(&file.value, "the secret");
    }
    if let Some(profile) = &app.profile {
        app::warn_if_others_can_read_password(profile);
    }
}
