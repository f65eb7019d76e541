//! The settings of the app that are in force: flags take precedence over the environment, and the environment over the
//! profile.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;
use zim_batch::Rate;
use zim_batch::client::{BuildError, Client, ClientBuilder};
use zim_batch::endpoint::is_loopback;
use zim_batch::limiter::quota::{Place, QuotaError, RedisQuota};
use zim_batch::text::one_line;

use crate::cli::args::AppArgs;
use crate::cli::args::given::may_hold_secret;
use crate::cli::errors::Error;
use crate::cli::settings::origin::{Origin, Sourced, Wrong};
use crate::cli::settings::profile::{self, Profile};
use crate::cli::settings::secret;
use crate::cli::settings::{self, text_variable, variable};

/// The settings of the app.
#[derive(Debug)]
pub struct App {
    pub app_id: Option<Sourced<u32>>,
    pub secret_file: Option<Sourced<PathBuf>>,
    pub endpoint: Sourced<Url>,
    pub ca_cert: Option<Sourced<PathBuf>>,
    pub rate: Sourced<Rate>,
    /// The URL of the server through which runs on many machines share the quota.
    pub quota: Option<Sourced<SecretString>>,
    /// The directory of the files through which runs on this machine share it, if it is not the default one.
    pub lock_dir: Option<Sourced<PathBuf>>,
    pub profile: Option<Profile>,
}

/// The rate of a run.
pub fn rate(args: &AppArgs, profile: Option<&Profile>) -> Sourced<Rate> {
    let typed = args.rate.map(|rate| Sourced::flag("--rate", rate));
    let rate = typed.or_else(|| profile?.rate.clone());
    rate.unwrap_or(Sourced::default(Rate::default()))
}

/// The files that settings come from.
pub fn files(args: &AppArgs) -> Vec<PathBuf> {
    // Errors in a profile are reported later.
    let profile = profile::read(args, false).ok().flatten();
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

impl App {
    pub fn new(args: &AppArgs, profile: Option<Profile>) -> Result<App, Error> {
        let of_profile = profile.as_ref();
        Ok(App {
            app_id: app_id(args, of_profile)?,
            secret_file: secret_file(args, of_profile),
            endpoint: endpoint(args, of_profile)?,
            ca_cert: ca_cert(args, of_profile),
            rate: rate(args, of_profile),
            quota: quota(args, of_profile)?,
            lock_dir: lock_dir(args)?,
            profile,
        })
    }

    /// What the client is built from.
    pub fn client(&self, timeout: Duration) -> Result<ClientBuilder, Error> {
        let secret = secret(self.secret_file.as_ref())?;
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
            && profile.app_id.as_ref().is_some_and(|other| other.value != app_id.value)
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
    pub fn announce(&self, client: &ClientBuilder) {
        // This target is shown unless -q is given: see `logging::layer`.
        tracing::info!(
            target: "zim_batch::start",
            "requests go to {} for app {}{}",
            client.endpoint_url(),
            client.app_id(),
            self.origin_of_app()
        );
        let (limit, Sourced { value: rate, origin }) = (Rate::default(), &self.rate);
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
    pub fn place(&self, client: &ClientBuilder) -> Place {
        let place = Place::new(client.app_id(), client.endpoint_url());
        match &self.lock_dir {
            None => place,
            Some(directory) => place.in_directory(&directory.value),
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

/// The configuration file needs no protection, unless there is a password in it.
pub fn warn_if_others_can_read_password(profile: &Profile) {
    if let Some(quota) = &profile.quota
        && let Origin::Profile { file, .. } = &quota.origin
        && may_hold_secret(quota.value.expose_secret().as_ref())
    {
        secret::warn_if_others_can_read(file, "the password of the quota");
    }
}

/// The secret, from a file or from the environment.
pub fn secret(file: Option<&Sourced<PathBuf>>) -> Result<Option<Sourced<SecretString>>, Wrong> {
    Ok(secret_text(file)?.map(|secret| secret.map(SecretString::from)))
}

fn secret_text(file: Option<&Sourced<PathBuf>>) -> Result<Option<Sourced<String>>, Wrong> {
    let Some(file) = file else {
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
        Origin::Flag(_) if secret_in_variable().is_ok_and(differs) => {
            tracing::warn!(
                "ZIM_SERVER_SECRET is not used: it contains a different secret than the file of --secret-file"
            );
        }
        Origin::Variable(name) if differs(secret_in_variable()?) => {
            let why =
                "ZIM_SERVER_SECRET and ZIM_SERVER_SECRET_FILE are both set, to different secrets; unset one of them";
            return Err(Wrong::variable(name, why.into()));
        }
        _ => {}
    }
    Ok(Some(secret))
}

fn secret_in_variable() -> Result<Option<Sourced<String>>, Wrong> {
    const NAME: &str = "ZIM_SERVER_SECRET";
    let value = variable(NAME).map(|value| Sourced::variable(NAME, value));
    let parse = |value: OsString, _: &Origin| secret::from_variable(NAME, value.as_bytes());
    value.map(|value| value.try_map(parse)).transpose()
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
fn text(flag: &'static str, typed: &Option<String>, name: &'static str) -> Result<Option<Sourced<String>>, Wrong> {
    match typed {
        Some(text) => Ok(Some(Sourced::flag(flag, text.clone()))),
        None => {
            let text = text_variable(name).map_err(|why| Wrong::variable(name, why.to_string()))?;
            Ok(text.map(|text| Sourced::variable(name, text)))
        }
    }
}

/// The path of a flag, or else of a variable.
fn path(flag: &'static str, typed: &Option<PathBuf>, name: Option<&'static str>) -> Option<Sourced<PathBuf>> {
    let typed = typed.clone().map(|path| Sourced::flag(flag, path));
    typed.or_else(|| Some(Sourced::variable(name?, PathBuf::from(variable(name?)?))))
}

/// The AppId. Parsed here, not by clap: clap's error would show the value, which may be the secret by mistake.
pub fn app_id(args: &AppArgs, profile: Option<&Profile>) -> Result<Option<Sourced<u32>>, Wrong> {
    let parse = |text: String, origin: &Origin| settings::parse_app_id(&text).map_err(|why| format!("{origin}: {why}"));
    match text("--app-id", &args.app_id, "ZIM_APP_ID")? {
        Some(given) => given.try_map(parse).map(Some),
        None => Ok(profile.and_then(|profile| profile.app_id.clone())),
    }
}

/// The file with the secret.
pub fn secret_file(args: &AppArgs, profile: Option<&Profile>) -> Option<Sourced<PathBuf>> {
    let given = path("--secret-file", &args.secret_file, Some("ZIM_SERVER_SECRET_FILE"));
    given.or_else(|| profile?.secret_file.clone())
}

/// The file with more certificates to trust.
pub fn ca_cert(args: &AppArgs, profile: Option<&Profile>) -> Option<Sourced<PathBuf>> {
    path("--ca-cert", &args.ca_cert, None).or_else(|| profile?.ca_cert.clone())
}

/// The URL of the server through which runs on many machines share the quota.
pub fn quota(args: &AppArgs, profile: Option<&Profile>) -> Result<Option<Sourced<SecretString>>, Wrong> {
    let given = text("--quota", &args.quota, "ZIM_QUOTA")?.map(|quota| quota.map(SecretString::from));
    Ok(given.or_else(|| profile?.quota.clone()))
}

/// The directory of the files through which runs on this machine share the quota.
pub fn lock_dir(args: &AppArgs) -> Result<Option<Sourced<PathBuf>>, Wrong> {
    let check = |directory: PathBuf, origin: &Origin| match directory.is_dir() {
        true => Ok(directory),
        false => Err(format!(
            "{} ({origin}): there is no such directory; create it, or name another one",
            secret::shown(&directory)
        )),
    };
    let given = path("--lock-dir", &args.lock_dir, Some("ZIM_LOCK_DIR"));
    given.map(|directory| directory.try_map(check)).transpose()
}

/// The endpoint, which a region sets too.
pub fn endpoint(args: &AppArgs, profile: Option<&Profile>) -> Result<Sourced<Url>, Wrong> {
    let given = text("--endpoint", &args.endpoint, "ZIM_ENDPOINT")?;
    match (args.region, given) {
        (Some(_), Some(_)) => {
            let why = "--region and ZIM_ENDPOINT both set the endpoint; leave out --region, or unset ZIM_ENDPOINT";
            Err(Wrong::flag("--region", why.into()))
        }
        (Some(region), None) => Ok(Sourced::flag("--region", region.endpoint())),
        (None, Some(given)) => {
            given.try_map(|text, origin| settings::parse_endpoint(&text).map_err(|why| format!("{origin}: {why}")))
        }
        (None, None) => {
            let of_profile = profile.and_then(|profile| profile.endpoint.clone());
            Ok(of_profile.unwrap_or_else(|| Sourced::default(settings::default_endpoint())))
        }
    }
}

fn read(path: &Path, origin: &Origin) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Usage(format!("{} ({origin}): can't be read: {error}", secret::shown(path))))
}
