//! The settings of the app that are in force: flags take precedence over the environment, and the environment over the
//! profile.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zim_batch::text::one_line;

use crate::cli::args::app::{APP_ID, CA_CERT, LOCK_DIR, QUOTA, SECRET_FILE};
use crate::cli::args::given::may_hold_secret;
use crate::cli::errors::Error;
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

    /// A variable that was set for another app would silently replace half of a profile, or its app.
    pub fn warn_about_mixture(&self, app_id: &Sourced<u32>, secret: &Sourced<SecretString>) {
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

    /// What the profile in force has to do with the AppId, for a message.
    pub fn origin_in_words(&self) -> String {
        match (&self.profile, self.app_id.as_ref().map(|app_id| &app_id.origin)) {
            (None, _) => String::new(),
            (Some(profile), Some(origin @ (Origin::Flag(_) | Origin::Variable(_)))) => format!(
                " (AppId from {origin}, other settings from profile {})",
                one_line(&profile.name)
            ),
            (Some(profile), _) => format!(" (profile {})", one_line(&profile.name)),
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
