//! Where the settings of the app come from: flags, environment and profile.

use std::path::PathBuf;

use crate::cli::args::AppArgs;
use crate::cli::errors::Error;
use crate::cli::settings::app;
use crate::cli::settings::profile::{self, Profile};

/// The flags, and the profile in force or why it can't be read.
#[derive(Debug)]
pub struct Sources {
    pub flags: AppArgs,
    pub is_simulated: bool,
    pub profile: Result<Option<Profile>, Error>,
}

impl Sources {
    pub fn new(flags: AppArgs, is_simulated: bool) -> Sources {
        Sources {
            profile: profile::read(&flags, is_simulated),
            flags,
            is_simulated,
        }
    }

    /// The profile in force, if it can be read.
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref().ok()?.as_ref()
    }

    /// The files that settings come from.
    pub fn files(&self) -> Vec<PathBuf> {
        app::files(&self.flags)
    }
}
