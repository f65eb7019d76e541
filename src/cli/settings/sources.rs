//! Where the settings of the app come from. A flag takes precedence over the environment, the environment over the profile,
//! and the profile over the default.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use serde_json::Value;
use url::Url;
use zim_batch::Timetable;
use zim_batch::text::one_line;

use crate::cli::args::AppArgs;
use crate::cli::args::app::{ENDPOINT, EXIT_OK, PROFILE, RATE, REGION, SETTINGS, UNTIL};
use crate::cli::args::setting::{About, AnySetting, Kind, Setting};
use crate::cli::args::time::Until;
use crate::cli::errors::Error;
use crate::cli::errors::exit_ok::ExitOk;
use crate::cli::errors::redact::shown;
use crate::cli::settings::origin::{Origin, Sourced, Wrong, variable};
use crate::cli::settings::profile::{self, Profile};

/// The flags, the environment, and the profile in force or why it can't be read.
#[derive(Debug)]
pub struct Sources {
    flags: AppArgs,
    pub profile: Result<Option<Profile>, Error>,
    /// The files that settings come from, also those that take no precedence.
    pub files: Vec<PathBuf>,
    pub is_simulated: bool,
}

impl Sources {
    pub fn new(flags: AppArgs, is_simulated: bool) -> Sources {
        let mut sources = Sources {
            flags,
            profile: Ok(None),
            files: Vec::new(),
            is_simulated,
        };
        let chosen = sources.get(&PROFILE).map_err(Error::from);
        sources.profile = chosen.and_then(|chosen| profile::read(chosen.as_ref()));
        let files = SETTINGS.iter().filter(|setting| setting.about().kind == Kind::File);
        let named = files.flat_map(|file| sources.texts(file.about()));
        sources.files = named.map(|file| file.value.into()).chain(profile::path()).collect();
        if is_simulated && !sources.has_flag(&PROFILE.about) {
            // A simulated run uses only a profile that a flag chooses.
            sources.profile = Ok(None);
        }
        sources
    }

    /// The profile in force, if it can be read.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }

    /// Whether a flag sets it.
    pub fn has_flag(&self, about: &About) -> bool {
        self.flags.get(about).is_some()
    }

    /// The value of a setting, or its default.
    pub fn get<T>(&self, setting: &Setting<T>) -> Result<Option<Sourced<T>>, Wrong> {
        self.find(&setting.about, setting.parse, || {
            setting.default.map(|default| default())
        })
    }

    /// The value of a setting as it is shown, or its default.
    pub fn show(&self, setting: &dyn AnySetting) -> Result<Option<Sourced<Value>>, Wrong> {
        self.find(setting.about(), |text| setting.show(text), || setting.show_default())
    }

    fn find<T>(
        &self,
        about: &About,
        parse: impl FnOnce(&OsStr) -> Result<T, String>,
        default: impl FnOnce() -> Option<T>,
    ) -> Result<Option<Sourced<T>>, Wrong> {
        let parse = |text: OsString, origin: &Origin| parse(&text).map_err(|why| format!("{origin}: {why}"));
        match self.texts(about).next() {
            Some(text) => text.try_map(parse).map(Some),
            None => Ok(default().map(Sourced::default)),
        }
    }

    /// The rate, perhaps by the time of day.
    pub fn rate(&self) -> Result<Sourced<Timetable>, Wrong> {
        let rate = self.get(&RATE)?.expect("it has a default");
        let is_local = rate.value.constant().is_none();
        rate.try_map(|rate, origin| {
            if is_local {
                in_local_zone(rate, origin)
            } else {
                Ok(rate)
            }
        })
    }

    /// When a run that begins now ends by the clock.
    pub fn until(&self) -> Result<Option<Sourced<Timestamp>>, Wrong> {
        let now = ZonedDateTime::now();
        let from_now = |until: Until, origin: &Origin| {
            let until = match until {
                Until::Clock(_) | Until::Local(_) => in_local_zone(until, origin)?,
                Until::At(_) => until,
            };
            until.after(&now).map_err(|why| format!("{origin}: {why}"))
        };
        self.get(&UNTIL)?.map(|until| until.try_map(from_now)).transpose()
    }

    /// The exit statuses that are reported as 0.
    pub fn exit_ok(&self) -> Result<ExitOk, Wrong> {
        Ok(self.get(&EXIT_OK)?.map(|statuses| statuses.value).unwrap_or_default())
    }

    /// The endpoint, which a region sets too.
    pub fn endpoint(&self) -> Result<Sourced<Url>, Wrong> {
        let region = self.get(&REGION)?.map(|region| region.map(|region| region.endpoint()));
        let endpoint = self.get(&ENDPOINT)?.expect("it has a default");
        match (region, &endpoint.origin) {
            (
                Some(Sourced {
                    origin: Origin::Flag(flag),
                    ..
                }),
                Origin::Variable(variable),
            ) => {
                let why = format!("{flag} and {variable} both set the endpoint; leave out {flag}, or unset {variable}");
                Err(Wrong::flag(flag, why))
            }
            (Some(region), Origin::Profile { .. } | Origin::Default) => Ok(region),
            _ => Ok(endpoint),
        }
    }

    /// The texts of a setting, by precedence.
    fn texts(&self, about: &About) -> impl Iterator<Item = Sourced<OsString>> {
        let flag = self
            .flags
            .get(about)
            .map(|text| Sourced::flag(about.flag, text.to_owned()));
        let variable = about
            .variable
            .and_then(|name| Some(Sourced::variable(name, variable(name)?)));
        let profile = self.profile().and_then(|profile| profile.text(about));
        [flag, variable, profile].into_iter().flatten()
    }
}

/// A value that means local times, if the local time zone is known. Otherwise they would be taken for UTC. A system without any
/// time zone has UTC.
fn in_local_zone<T>(value: T, origin: &Origin) -> Result<T, String> {
    const LOCAL: &str = "/etc/localtime";
    if TimeZone::try_system().is_ok_and(|zone| !zone.is_unknown()) {
        return Ok(value);
    }
    let (zone, other) = match variable("TZ") {
        Some(name) => {
            let name = one_line(shown(&name.to_string_lossy())).into_owned();
            (
                format!("the time zone of TZ, '{name}', is not known here"),
                "write TZ as a rule, like CST-8",
            )
        }
        None if Path::new(LOCAL).symlink_metadata().is_ok() => {
            (format!("the time zone in {LOCAL} can't be read"), "set TZ")
        }
        None => return Ok(value),
    };
    Err(format!(
        "{origin}: local times need a time zone, and {zone}; install the time zone database (tzdata), or {other}"
    ))
}
