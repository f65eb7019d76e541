//! What every run has, of `clear`, `list` and `check --online`.

use std::num::NonZeroU64;
use std::time::Duration;

use zim_batch::Timetable;
use zim_batch::run::Limits;

use crate::cli::args::{Given, PaceArgs, ProgressStyle, RunArgs};
use crate::cli::errors::Error;
use crate::cli::errors::exit_ok::ExitOk;
use crate::cli::settings::app::App;
use crate::cli::settings::call::Call;
use crate::cli::settings::labels::{Labels, METRICS, MetricsFile};
use crate::cli::settings::origin::Sourced;
use crate::cli::settings::sources::Sources;

/// What every run has.
#[derive(Debug)]
pub struct RunSettings {
    /// The app; `None` if it is simulated.
    pub app: Option<App>,
    pub pace: PaceSettings,
    pub progress: ProgressStyle,
    /// What the job is called.
    pub labels: Labels,
    pub metrics: Option<MetricsFile>,
    /// Print the summary as JSON.
    pub json: bool,
    /// Print errors only.
    pub quiet: bool,
    /// The exit statuses that are reported as 0.
    pub exit_ok: ExitOk,
    /// The command line, for commands to run next.
    pub given: Given,
}

/// Rate, retries and limits.
#[derive(Debug)]
pub struct PaceSettings {
    /// Maximum requests in any second, perhaps by the time of day.
    pub rate: Sourced<Timetable>,
    /// For one attempt.
    pub timeout: Duration,
    /// The bounds of the run. The process may allow fewer requests in flight.
    pub limits: Limits,
    /// Fail if another run uses the same quota, instead of sharing it.
    pub no_wait: bool,
}

impl RunSettings {
    /// Whether requests go to a simulator.
    pub fn is_simulated(&self) -> bool {
        self.app.is_none()
    }

    /// Of `clear` and `list`.
    pub fn new(run: RunArgs, pace: PaceArgs, sources: Sources, call: &mut Call) -> Result<RunSettings, Error> {
        call.files.add_of_flag(METRICS, run.metrics.as_deref())?;
        let pace = PaceSettings::new(pace, &sources, Limits::default())?;
        let exit_ok = call.exit_ok(&sources)?;
        let app = app(sources, &mut call.labels)?;
        Ok(RunSettings {
            app,
            pace,
            progress: progress(run.progress, call.logging.quiet),
            labels: call.labels.clone(),
            metrics: call.metrics(),
            json: run.json,
            quiet: call.logging.quiet,
            exit_ok,
            given: call.given.clone(),
        })
    }

    /// Of `check --online`.
    pub fn of_check(pace: PaceArgs, json: bool, sources: Sources, call: &mut Call) -> Result<RunSettings, Error> {
        let defaults = Limits {
            // It is to say soon that the service can't be reached.
            give_up_after: Duration::from_secs(30),
            // The first answer shows whether credentials, clock and endpoint are right.
            max_rejected_alike: NonZeroU64::MIN,
            ..Limits::default()
        };
        let pace = PaceSettings::new(pace, &sources, defaults)?;
        let exit_ok = call.exit_ok(&sources)?;
        let app = app(sources, &mut call.labels)?;
        Ok(RunSettings {
            app,
            pace,
            progress: progress(None, call.logging.quiet),
            labels: call.labels.clone(),
            metrics: None,
            json,
            quiet: call.logging.quiet,
            exit_ok,
            given: call.given.clone(),
        })
    }
}

/// The app, unless it is simulated.
fn app(sources: Sources, labels: &mut Labels) -> Result<Option<App>, Error> {
    if sources.is_simulated {
        labels.app_id = "simulated".into();
        return sources.profile.map(|_| None);
    }
    let app = App::new(sources)?;
    labels.app_id = app
        .app_id
        .as_ref()
        .map_or_else(String::new, |app_id| app_id.value.to_string());
    Ok(Some(app))
}

/// With `-q`, progress is shown only if `--progress` was given.
fn progress(typed: Option<ProgressStyle>, quiet: bool) -> ProgressStyle {
    match typed {
        Some(style) => style,
        None if quiet => ProgressStyle::None,
        None => ProgressStyle::Auto,
    }
}

impl PaceSettings {
    fn new(args: PaceArgs, sources: &Sources, defaults: Limits) -> Result<PaceSettings, Error> {
        let until = sources.until()?;
        Ok(PaceSettings {
            rate: sources.rate()?,
            timeout: args.timeout,
            limits: Limits {
                max_in_flight: args.max_in_flight,
                max_attempts: args.max_attempts,
                give_up_after: args.give_up_after.unwrap_or(defaults.give_up_after),
                max_failures: args.max_failures,
                max_duration: args.max_duration,
                until: until.and_then(|until| until.value.try_into().ok()),
                ..defaults
            },
            no_wait: args.no_wait,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_shows_no_progress_unless_it_was_asked_for() {
        assert_eq!(progress(None, true), ProgressStyle::None);
        assert_eq!(progress(None, false), ProgressStyle::Auto);
        assert_eq!(progress(Some(ProgressStyle::Plain), true), ProgressStyle::Plain);
    }
}
