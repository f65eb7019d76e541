//! The app's quota, which a run shares with the other runs of the app.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use secrecy::ExposeSecret;
use zim_batch::client::Client;
use zim_batch::limiter::Limiter;
use zim_batch::limiter::quota::{Limit, MachineQuota, Presence, Quota, QuotaError, QuotaLocation, RedisQuota, Sharing};
use zim_batch::text::one_line;

use crate::cli::engine::client;
use crate::cli::errors::{Error, hints};
use crate::cli::settings::app::App;
use crate::cli::settings::origin::{Origin, Sourced};
use crate::cli::settings::run::RunSettings;

/// The limiter of a run. It joins the runs that share the quota; with `--no-wait`, that fails if there are any. A simulated
/// run shares nothing. `report` is the run's, for the others.
pub async fn join(settings: &RunSettings, zim: &Client, report: Option<&Path>) -> Result<Limiter, Error> {
    let timetable = &settings.pace.rate.value;
    let quota = match &settings.app {
        Some(app) => {
            let presence = Presence::new(&settings.labels.name, timetable.highest());
            let presence = match report {
                Some(report) => presence.report(report),
                None => presence,
            };
            join_others(app, zim, presence, settings.pace.no_wait).await?
        }
        None => None,
    };
    Ok(Limiter::by_timetable(timetable.clone(), quota))
}

/// Through a server, if one is set, or on this machine. If that is not possible because of the files for it, the run
/// continues without, with an error.
async fn join_others(
    app: &App,
    zim: &Client,
    presence: Presence,
    exclusive: bool,
) -> Result<Option<Arc<dyn Quota>>, Error> {
    let location = location(app, zim.app_id());
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
            Err(error @ (QuotaError::Refused { .. } | QuotaError::Untrusted { .. })) => {
                Err(refused(&error, &url.origin))
            }
            Err(error) => Err(error.into()),
        };
    }
    match MachineQuota::join(location, presence, exclusive).await {
        Ok(quota) => Ok(Some(Arc::new(quota))),
        Err(QuotaError::Unusable { path, why }) if is_group_directory(&app.lock_dir) => {
            Err(Error::Usage(unusable_group_directory(&path, &why)))
        }
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::error!("{}", hints::quota_error(&error));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn refused(error: &QuotaError, origin: &Origin) -> Error {
    Error::Usage(format!("{}; its URL is from {origin}", hints::quota_error(error)))
}

/// Who shares the quota of an app at present.
pub async fn look(app: &App, app_id: u32) -> Result<Sharing, Error> {
    let location = location(app, app_id);
    let looked = match &app.quota {
        Some(url) => {
            let ca_cert = client::ca_cert(app)?;
            RedisQuota::look(url.value.expose_secret(), ca_cert.as_deref(), &location).await
        }
        None => MachineQuota::look(&location).await,
    };
    looked.map_err(|error| not_steered(error, app, "it is not known who shares the quota"))
}

/// Sets the limit of all runs of an app, or ends it.
pub async fn set_limit(app: &App, app_id: u32, limit: Option<Limit>) -> Result<(), Error> {
    let location = location(app, app_id);
    let set = match &app.quota {
        Some(url) => {
            let ca_cert = client::ca_cert(app)?;
            RedisQuota::set_limit(url.value.expose_secret(), ca_cert.as_deref(), &location, limit).await
        }
        None => MachineQuota::set_limit(&location, limit).await,
    };
    set.map_err(|error| not_steered(error, app, "it is not known whether the limit was changed"))
}

fn location(app: &App, app_id: u32) -> QuotaLocation {
    QuotaLocation::new(app_id, &app.endpoint.value).in_directory(&app.lock_dir.value)
}

/// Why it can't be seen or changed who shares the quota.
fn not_steered(error: QuotaError, app: &App, so: &str) -> Error {
    match (error, &app.quota) {
        (error @ (QuotaError::Refused { .. } | QuotaError::Untrusted { .. }), Some(url)) => {
            refused(&error, &url.origin)
        }
        (QuotaError::Unreachable { server, why }, _) => Error::Unexpected(format!(
            "quota server {server}: {why}; so {so}; try again when it can be reached"
        )),
        (QuotaError::Unusable { path, why }, _) if is_group_directory(&app.lock_dir) => {
            Error::Usage(unusable_group_directory(&path, &why))
        }
        (QuotaError::Unusable { path, why }, _) if why.kind() == io::ErrorKind::InvalidData => Error::Usage(format!(
            "{}: can't be used ({why}), but runs on this machine share the quota through it. Remove it, as its owner or as root, \
             and try again",
            path.display()
        )),
        (QuotaError::Unusable { path, why }, _) => Error::Usage(format!(
            "{}: can't be used ({why}), but runs on this machine share the quota through it. Use the directory of the runs \
             (--lock-dir or ZIM_LOCK_DIR), as a user who can write to it",
            path.display()
        )),
        (error, _) => error.into(),
    }
}

/// Whether this is the directory that is made for a group, and no setting chose it: a user who can't use it must be told.
fn is_group_directory(directory: &Sourced<PathBuf>) -> bool {
    directory.origin == Origin::Default && directory.value == Path::new(QuotaLocation::GROUP_DIRECTORY)
}

/// Why the directory of the group can't be used, and what this user, or whoever runs this container, can do about it.
fn unusable_group_directory(file: &Path, why: &io::Error) -> String {
    let directory = QuotaLocation::GROUP_DIRECTORY;
    let remedy = match why.kind() {
        io::ErrorKind::PermissionDenied => {
            let group = group_of(Path::new(directory));
            format!("Add this user to its group, {group} (sudo usermod -aG {group} USER, then log in again)")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("In a container, mount a volume at {directory} that all runs of the app on this machine share")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free some space there".to_owned(),
        _ => "Remove the cause".to_owned(),
    };
    format!(
        "{}: can't be used ({why}), but runs on this machine share the quota through files in {directory}. {remedy}, or choose \
         another directory for all runs with --lock-dir or ZIM_LOCK_DIR",
        file.display()
    )
}

/// The name of the group that a directory belongs to, or its number if it has none.
fn group_of(directory: &Path) -> String {
    let gid = fs::metadata(directory)
        .map(|metadata| metadata.gid())
        .unwrap_or_default();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let group = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid.to_string()).then_some(name)
    });
    group.map_or_else(|| gid.to_string(), |name| one_line(name).into_owned())
}
