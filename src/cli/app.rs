//! The settings of the app that are in force: flags take precedence over the environment, and the environment over the
//! profile.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zim_batch::client::{BuildError, Client, ClientBuilder};
use zim_batch::limiter::quota::{Place, QuotaError, RedisQuota};

use super::error::Error;
use super::origin::{Origin, Sourced};
use super::profile::{self, Profile};
use super::settings::{self, text_variable, variable};
use super::{AppArgs, secret, shell};

/// ZEGO's default limit per app, in requests per second. Also the default rate.
const DEFAULT_LIMIT: f64 = 20.0;

/// The settings of the app.
#[derive(Debug)]
pub struct App {
    pub app_id: Option<Sourced<u32>>,
    pub secret_file: Option<Sourced<PathBuf>>,
    pub endpoint: Sourced<Url>,
    pub ca_cert: Option<Sourced<PathBuf>>,
    pub rate: Sourced<f64>,
    /// The URL of the server through which runs on many machines share the quota.
    pub quota: Option<Sourced<SecretString>>,
    /// The directory of the files through which runs on this machine share it, if it is not the default one.
    pub lock_dir: Option<Sourced<PathBuf>>,
    pub profile: Option<Profile>,
}

/// The rate of a run.
pub fn rate(args: &AppArgs, profile: Option<&Profile>) -> Sourced<f64> {
    let typed = args.rate.map(|rate| Sourced::flag("--rate", rate));
    let rate = typed.or_else(|| profile?.rate.clone());
    rate.unwrap_or(Sourced::default(DEFAULT_LIMIT))
}

/// The files that settings come from.
pub fn files(args: &AppArgs) -> Vec<PathBuf> {
    // Errors in a profile are reported later.
    let profile = profile::read(args).ok().flatten();
    let of_profile = profile.map(|profile| [profile.secret_file, profile.ca_cert]);
    let of_profile = of_profile.into_iter().flatten().flatten().map(|file| file.value);
    let others = [
        args.secret_file.clone(),
        args.ca_cert.clone(),
        variable("ZIM_SERVER_SECRET_FILE").map(PathBuf::from),
        profile::path(),
    ];
    of_profile.chain(others.into_iter().flatten()).collect()
}

/// Refuses files that settings come from: an output would overwrite them, and a message about an input would show them.
pub fn check_files<'a>(args: &AppArgs, used: impl IntoIterator<Item = &'a Path>) -> Result<(), Error> {
    let files = files(args);
    let is_setting = |used: &Path| files.iter().any(|file| settings::same_file(file, used));
    match used.into_iter().find(|used| is_setting(used)) {
        Some(used) => Err(Error::Usage(format!(
            "{}: this file contains the secret or other settings; it can't be an input or an output; name another file",
            secret::place(used)
        ))),
        None => Ok(()),
    }
}

impl App {
    pub fn new(args: &AppArgs, profile: Option<Profile>) -> Result<App, Error> {
        let of_profile = profile.as_ref();
        let path = |flag, typed: &Option<PathBuf>| typed.clone().map(|path| Sourced::flag(flag, path));
        let path_variable = |name| variable(name).map(|path| Sourced::variable(name, PathBuf::from(path)));
        let secret_file = path("--secret-file", &args.secret_file).or_else(|| path_variable("ZIM_SERVER_SECRET_FILE"));
        let quota = text("--quota", &args.quota, "ZIM_QUOTA")?.map(|quota| quota.map(SecretString::from));
        Ok(App {
            app_id: app_id(args)?.or_else(|| of_profile?.app_id.clone()),
            secret_file: secret_file.or_else(|| of_profile?.secret_file.clone()),
            endpoint: endpoint(args, of_profile)?,
            ca_cert: path("--ca-cert", &args.ca_cert).or_else(|| of_profile?.ca_cert.clone()),
            rate: rate(args, of_profile),
            quota: quota.or_else(|| of_profile?.quota.clone()),
            lock_dir: path("--lock-dir", &args.lock_dir).or_else(|| path_variable("ZIM_LOCK_DIR")),
            profile,
        })
    }

    /// The secret, from a file or from the environment.
    pub fn secret(&self) -> Result<Option<Sourced<SecretString>>, Error> {
        Ok(self.secret_text()?.map(|secret| secret.map(SecretString::from)))
    }

    fn secret_text(&self) -> Result<Option<Sourced<String>>, Error> {
        let Some(file) = &self.secret_file else {
            return secret_in_variable();
        };
        if matches!(file.origin, Origin::Profile { .. })
            && let Some(secret) = secret_in_variable()?
        {
            return Ok(Some(secret));
        }
        let secret = file.clone().try_map(|path, origin| secret::from_file(&path, origin))?;
        let differs = |other: Option<Sourced<String>>| other.is_some_and(|other| other.value != secret.value);
        match file.origin {
            // The flag takes precedence, but the user may not know that the variable is set.
            Origin::Flag(_) if secret_in_variable().is_ok_and(differs) => tracing::warn!(
                "ZIM_SERVER_SECRET is not used: it contains a different secret than the file of --secret-file"
            ),
            Origin::Variable(_) if differs(secret_in_variable()?) => {
                return Err(Error::Usage(
                    "ZIM_SERVER_SECRET and ZIM_SERVER_SECRET_FILE are both set, to different secrets; unset one of them"
                        .into(),
                ));
            }
            _ => {}
        }
        Ok(Some(secret))
    }

    /// What the client is built from.
    pub fn client(&self, timeout: Duration) -> Result<ClientBuilder, Error> {
        let secret = self.secret()?;
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
            client = client.ca_cert(read(file)?);
        }
        Ok(client.endpoint(self.endpoint.value.clone()))
    }

    /// A variable that was set for another app would silently replace half of a profile.
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
        }
    }

    /// Builds the client.
    pub fn build(&self, client: &ClientBuilder) -> Result<Client, Error> {
        client.clone().build().map_err(|error| match (&self.ca_cert, error) {
            (Some(file), error @ BuildError::CaCert) => {
                Error::Usage(format!("{} ({}): {error}", file.value.display(), file.origin))
            }
            (_, error) => error.into(),
        })
    }

    /// Logs where requests will be sent, and warns about risky settings.
    pub fn announce(&self, client: &ClientBuilder) {
        let profile = self
            .profile
            .as_ref()
            .map(|profile| format!(" (profile {})", profile.name));
        // This target is shown unless -q is given: see `logging::layer`.
        tracing::info!(
            target: "zim_batch::start",
            "requests go to {} for app {}{}",
            client.endpoint_url(),
            client.app_id(),
            profile.unwrap_or_default()
        );
        let Sourced { value: rate, origin } = &self.rate;
        if *rate > DEFAULT_LIMIT && !settings::is_loopback(client.endpoint_url()) {
            tracing::warn!(
                "a rate of {rate} ({origin}): ZEGO's default limit is {DEFAULT_LIMIT} requests per second; a higher rate \
                 works only if ZEGO has raised the limit of app {}",
                client.app_id()
            );
        }
        if let Some(file) = &self.secret_file {
            secret::warn_if_others_can_read(&file.value, "the secret");
        }
        self.warn_if_others_can_read_password();
    }

    /// The configuration file needs no protection, unless there is a password in it.
    pub fn warn_if_others_can_read_password(&self) {
        let quota = self.profile.as_ref().and_then(|profile| profile.quota.as_ref());
        if let Some(quota) = quota
            && let Origin::Profile { file, .. } = &quota.origin
            && shell::has_secret(quota.value.expose_secret().as_ref())
        {
            secret::warn_if_others_can_read(file, "the password of the quota");
        }
    }

    /// Where all runs of the app on this machine share its quota.
    pub fn place(&self, client: &ClientBuilder) -> Result<Place, Error> {
        let place = Place::new(client.app_id(), client.endpoint_url());
        match &self.lock_dir {
            None => Ok(place),
            Some(directory) if directory.value.is_dir() => Ok(place.in_directory(&directory.value)),
            Some(directory) => Err(Error::Usage(format!(
                "{} ({}): there is no such directory; create it, or name another one",
                secret::shown(&directory.value),
                directory.origin
            ))),
        }
    }

    /// Joins the runs that share the quota through a server, if there is one.
    pub async fn join_quota(&self, place: &Place, is_alone: bool) -> Result<Option<RedisQuota>, Error> {
        let Some(url) = &self.quota else { return Ok(None) };
        match RedisQuota::join(url.value.expose_secret(), place, is_alone).await {
            Ok(quota) => Ok(Some(quota)),
            Err(error @ QuotaError::Url(_)) => Err(Error::Usage(format!("{error} ({})", url.origin))),
            Err(error @ QuotaError::Refused { .. }) => Err(Error::Usage(format!(
                "{error}; correct them in the URL ({})",
                url.origin
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

fn secret_in_variable() -> Result<Option<Sourced<String>>, Error> {
    const NAME: &str = "ZIM_SERVER_SECRET";
    let value = variable(NAME).map(|value| secret::from_variable(NAME, value.as_bytes()));
    Ok(value.transpose()?.map(|secret| Sourced::variable(NAME, secret)))
}

/// The simulator's app, at `address`.
pub fn simulated(
    app_id: u32,
    server_secret: SecretString,
    address: SocketAddr,
    timeout: Duration,
) -> Result<ClientBuilder, Error> {
    let endpoint = format!("http://{address}/");
    let endpoint = endpoint
        .parse()
        .map_err(|error| Error::Unexpected(format!("{endpoint}: {error}")))?;
    let client = Client::builder(app_id, server_secret);
    Ok(client.endpoint(endpoint).timeout(timeout))
}

/// The text of a flag, or else of a variable.
fn text(flag: &'static str, typed: &Option<String>, name: &'static str) -> Result<Option<Sourced<String>>, Error> {
    match typed {
        Some(text) => Ok(Some(Sourced::flag(flag, text.clone()))),
        None => Ok(text_variable(name)?.map(|text| Sourced::variable(name, text))),
    }
}

/// The AppId that is typed or in the environment. Parsed here, not by clap: clap's error would show the value, which may be
/// the secret by mistake.
fn app_id(args: &AppArgs) -> Result<Option<Sourced<u32>>, Error> {
    let given = text("--app-id", &args.app_id, "ZIM_APP_ID")?.filter(|given| !given.value.trim().is_empty());
    let parse = |text: String, origin: &Origin| {
        settings::parse_app_id(&text).map_err(|why| Error::Usage(format!("{origin}: {why}")))
    };
    given.map(|given| given.try_map(parse)).transpose()
}

/// The endpoint, which a region sets too.
fn endpoint(args: &AppArgs, profile: Option<&Profile>) -> Result<Sourced<Url>, Error> {
    let given = text("--endpoint", &args.endpoint, "ZIM_ENDPOINT")?;
    match (args.region, given) {
        (Some(_), Some(_)) => Err(Error::Usage(
            "--region and ZIM_ENDPOINT both set the endpoint; leave out --region, or unset ZIM_ENDPOINT".into(),
        )),
        (Some(region), None) => Ok(Sourced::flag("--region", region.endpoint())),
        (None, Some(given)) => given.try_map(|text, origin| {
            settings::parse_endpoint(&text).map_err(|why| Error::Usage(format!("{origin}: {why}")))
        }),
        (None, None) => {
            let of_profile = profile.and_then(|profile| profile.endpoint.clone());
            Ok(of_profile.unwrap_or_else(|| Sourced::default(settings::default_endpoint())))
        }
    }
}

fn read(file: &Sourced<PathBuf>) -> Result<Vec<u8>, Error> {
    let Sourced { value: path, origin } = file;
    std::fs::read(path)
        .map_err(|error| Error::Usage(format!("{} ({origin}): can't be read: {error}", secret::shown(path))))
}
