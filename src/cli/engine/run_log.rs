//! What a run writes to the log of runs. A log that can't be written costs a warning, never the run.

use std::path::Path;

use zim_batch::client::Client;
use zim_batch::event::Event;
use zim_batch::journal::{RunBegin, RunLog};
use zim_batch::run::Observer;
use zim_batch::run::summary::Summary;
use zim_batch::stop::StopReason;

use crate::cli::args::Given;
use crate::cli::errors::{Error, ExitStatus, hints};
use crate::cli::output::next;
use crate::cli::settings::input::InputSettings;

/// The log of a run. As an observer, it writes the end of the run while the report is still locked: so a reader that finds
/// the report unlocked finds the end too.
#[derive(Debug, Clone)]
pub struct LoggedRun {
    /// `None` if there is no log.
    log: Option<RunLog>,
    /// This run has created it.
    is_new: bool,
    /// Invalid rows still count as success.
    ignore_invalid: bool,
}

impl LoggedRun {
    /// Writes the beginning of a run to the log beside `file`. `keep_earlier`: after those of earlier runs.
    pub fn begin(file: Option<&Path>, input: &InputSettings, begin: &RunBegin, keep_earlier: bool) -> LoggedRun {
        let path = file
            .filter(|file| !file.exists() || file.is_file())
            .map(RunLog::path_of);
        let log = path.and_then(|path| {
            let log = RunLog::begin(path.clone(), begin, keep_earlier);
            log.inspect_err(|error| warn(&path, error)).ok()
        });
        LoggedRun {
            log,
            is_new: !keep_earlier,
            ignore_invalid: input.ignore_invalid,
        }
    }

    /// Writes the end of the run. A run that has not begun leaves no new log.
    pub fn end(&self, exit: ExitStatus, summary: &Summary) {
        if !summary.has_begun() && self.is_new {
            return self.remove();
        }
        self.write_end(exit, hints::stopped(summary).as_deref(), Some(summary));
    }

    /// Writes the end of a run without a summary: an error ended it, perhaps before it had begun.
    pub fn end_by(&self, error: &Error, has_begun: bool) {
        if !has_begun && self.is_new {
            return self.remove();
        }
        self.write_end(error.into(), Some(&error.to_string()), None);
    }

    fn remove(&self) {
        self.log.iter().for_each(RunLog::remove);
    }

    fn write_end(&self, exit: ExitStatus, stopped: Option<&str>, summary: Option<&Summary>) {
        let reason = summary.and_then(|summary| summary.stopped.as_ref());
        let all_rejected = matches!(reason, Some(StopReason::AllRejected { .. }));
        if let Some(log) = &self.log
            && let Err(error) = log.end(exit.code(), stopped, all_rejected, summary)
        {
            warn(log.path(), &error);
        }
    }
}

impl Observer for LoggedRun {
    fn event(&mut self, _: &Event) {}

    fn end(&mut self, summary: &Summary) {
        LoggedRun::end(self, ExitStatus::of_run(summary, self.ignore_invalid), summary);
    }
}

/// The beginning of a run, now, with what is the same for all commands.
pub fn begin(client: &Client, is_simulated: bool, input: &InputSettings, given: &Given) -> RunBegin {
    let selects = |id: &str| match id {
        "only" => true,
        // A list has a type for what it lists, not for its users.
        "conv_type" => input.selection.conv_type.is_some(),
        _ => false,
    };
    let selecting: Vec<_> = given
        .arguments()
        .filter(|argument| selects(&argument.id))
        .flat_map(|argument| &argument.words)
        .collect();
    RunBegin {
        command: next::again(given),
        resume: next::without_limit(given),
        start_again: next::overwrite(given),
        flags: next::line(next::app_and_rate(given)),
        app_id: Some(client.app_id()),
        endpoint: client.endpoint_url().to_string(),
        simulated: is_simulated,
        input: input.source.path().display().to_string(),
        selected: (!selecting.is_empty()).then(|| next::line(selecting)),
        ..RunBegin::now()
    }
}

fn warn(path: &Path, error: &std::io::Error) {
    tracing::warn!(
        "{}: the log of runs can't be written: {error}. The run continues; 'zim-batch report' will not know of it",
        path.display()
    );
}
