//! What belongs to every command, while its settings are built.

use crate::cli::args::{AppArgs, Given, Logging};
use crate::cli::errors::Error;
use crate::cli::errors::exit_ok::ExitOk;
use crate::cli::settings::files::Files;
use crate::cli::settings::labels::{Labels, METRICS, MetricsFile};
use crate::cli::settings::sources::Sources;

/// What belongs to every command.
pub struct Call {
    pub given: Given,
    pub logging: Logging,
    pub files: Files,
    pub labels: Labels,
    /// The exit statuses that are reported as 0, once they are known.
    pub exit_ok: ExitOk,
}

impl Call {
    /// Where the settings of the app come from.
    pub fn sources(&mut self, flags: AppArgs, is_simulated: bool) -> Sources {
        let sources = Sources::new(flags, is_simulated);
        self.files.add_settings(&sources.files);
        sources
    }

    /// The exit statuses that are reported as 0, also if this command fails.
    pub fn exit_ok(&mut self, sources: &Sources) -> Result<ExitOk, Error> {
        self.exit_ok = sources.exit_ok()?;
        Ok(self.exit_ok.clone())
    }

    /// Where metrics are written, with the labels that are known.
    pub fn metrics(&self) -> Option<MetricsFile> {
        Some(MetricsFile {
            path: self.files.of_flag(METRICS)?.to_owned(),
            labels: self.labels.clone(),
        })
    }
}
