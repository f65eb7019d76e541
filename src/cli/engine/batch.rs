//! What `clear`, `list` and `check --online` have in common: a run is prepared, runs, and says how it ended.

mod input;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zim_batch::client::{Client, Service};
use zim_batch::journal::{IfExists, Journal, ReportError};
use zim_batch::row::Row;
use zim_batch::rows::{Done, Input, Plan, Snapshot, Source};
use zim_batch::run::Job;
use zim_batch::run::summary::Summary;
use zim_batch::stop::StopReason;
use zim_batch::text::visible;

use crate::cli::args::Given;
use crate::cli::engine::session::Session;
use crate::cli::engine::signals;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::errors::hints;
use crate::cli::output::metrics::Metrics;
use crate::cli::output::next;
use crate::cli::output::progress::{Progress, Terminal};
use crate::cli::output::shell::{fail, print, print_error, print_note, print_resume};
use crate::cli::output::table::pace;
use crate::cli::settings::input::InputSettings;
use crate::cli::settings::run::RunSettings;
pub use input::watch_rows;

/// A run of `clear` or `list`.
pub struct Batch {
    pub input: InputSettings,
    /// The report; `None` for a list without one.
    pub report: Option<PathBuf>,
    pub existing: IfExists,
    pub run: RunSettings,
    pub terminal: Terminal,
    /// What the input has: `rows` or `users`.
    pub items: &'static str,
    /// The table goes to stderr, because stdout has the rows.
    pub is_stdout_taken: bool,
}

/// How `clear` and `list` differ after their arguments.
pub trait Command {
    type Service: Service<Item: From<Row>>;
    type Journal: Journal + 'static;

    /// Checks the paths of its files, before anything is read.
    fn check_paths(&self) -> Result<(), ReportError>;

    fn service(&self, client: Client) -> Self::Service;

    fn open(&self) -> Result<Self::Journal, ReportError>;

    /// Does what is left to do after the run. Returns `false`, with the error said, if something could not be written.
    fn conclude(&self, summary: &Summary) -> bool {
        let _ = summary;
        true
    }

    /// The summary for people, with the commands to run next.
    fn table(&self, summary: &Summary) -> String;
}

/// Runs a command. A run that could not start, or was ended by a bug, says so in the metrics too.
pub async fn run(batch: Batch, command: impl Command + Clone + Send + 'static) -> Result<ExitCode, Error> {
    let (metrics, given) = (batch.run.metrics.clone(), batch.run.given.clone());
    let ended = batch.run(command).await;
    let Err(error) = ended else { return ended };
    let exit = ExitStatus::from(&error);
    record_early_end(metrics.as_deref(), exit);
    if !ended_in_midrun(&error) {
        return Err(error);
    }
    let exit = fail(exit, &error.to_string());
    print_how_to_resume(&given);
    Ok(exit)
}

/// A run that could not start counts as failed in its metrics, unless another run is active.
pub fn record_early_end(metrics: Option<&Path>, exit: ExitStatus) {
    if let Some(metrics) = metrics
        && exit != ExitStatus::Held
    {
        Metrics::ended_early(metrics, exit.code());
    }
}

/// Whether a run ended by this error after it had started, without a summary: its report can be resumed.
fn ended_in_midrun(error: &Error) -> bool {
    matches!(error, Error::Library(zim_batch::error::Error::Bug(_)))
}

/// Prints the command that resumes this run, and what it needs besides.
fn print_how_to_resume(given: &Given) {
    print_resume(&next::resume(given));
    next::to_provide_again(given).iter().for_each(|note| print_note(note));
}

/// The input before the report is opened.
enum Prepared {
    /// The report will say which rows are done.
    Opened(Input),
    /// No row is done.
    Planned(Box<Plan>),
}

impl Batch {
    async fn run(mut self, command: impl Command + Clone + Send + 'static) -> Result<ExitCode, Error> {
        let mut session = Session::begin()?;
        if let Some(metrics) = &self.run.metrics {
            Metrics::check_target(metrics)?;
        }
        let app = session.connect(self.run.app.take(), &self.run.pace).await?;
        let client = session.build(&app)?;
        command.check_paths()?;

        say_if_typed(&self.input.source, self.items);
        // Nothing is written before the input is known to be readable, unless a report says what is already done.
        let input = Input::open(&self.input.source, &self.input.format)?;
        let report = self.report.as_deref();
        let is_resumed = |report: &Path| report.metadata().is_ok_and(|file| file.len() > 0);
        let input = if self.existing == IfExists::Resume && report.is_some_and(is_resumed) {
            Prepared::Opened(input)
        } else {
            Prepared::Planned(Box::new(input.plan(&self.input.selection, Done::default())?))
        };
        session.name = match report {
            Some(report) => format!("report {}", report.display()),
            None => format!("{} from {}", self.items, self.input.source),
        };
        // Before the report is created: a run that does not happen must leave nothing behind.
        session.join(self.run.pace.no_wait).await?;
        let mut journal = command.open()?;
        let done = journal.take_done();
        let plan = match input {
            Prepared::Planned(plan) if done.is_empty() => *plan,
            Prepared::Planned(_) => {
                return Err(Error::Held(format!(
                    "{}: another run has just created this report; wait for it to end, or choose another report (--report FILE)",
                    report.unwrap_or_else(|| Path::new("the report")).display()
                )));
            }
            Prepared::Opened(input) => input.plan(&self.input.selection, done)?,
        };
        let (total, snapshot) = (plan.total(), plan.snapshot().cloned());
        journal.forget(plan.stale())?;
        session.announce(&app);
        let already_done = plan.rows_done();
        let metrics = self.run.metrics.as_deref();
        let metrics =
            metrics.map(|path| Metrics::start(path, total, already_done, session.rate, self.input.ignore_invalid));
        let metrics = metrics.transpose()?;
        let mut job = Job::planned(command.service(client), plan)
            .limiter(session.limiter())
            .report(journal)
            .observer(Progress::new(
                self.run.progress,
                self.terminal.clone(),
                total,
                self.items,
            ));
        if let Some(metrics) = metrics {
            job = job.observer(metrics);
        }
        let service = format!("the AppId was {}, the endpoint {}", app.app_id(), app.endpoint_url());
        let limits = session.limits(&self.run.pace.limits);
        let summary = session
            .drive(job, limits, self.run.pace.timeout, &self.terminal, snapshot.clone())
            .await?;
        self.say_what_was_left_out(&summary, snapshot);
        self.end(&summary, &service, command).await
    }

    /// Notes what is not part of this run.
    fn say_what_was_left_out(&self, summary: &Summary, snapshot: Option<Snapshot>) {
        let items = self.items;
        let taken = summary.ok + summary.outside + summary.failed;
        if self.input.selection.limit == Some(taken) && !self.run.quiet {
            print_note(&format!(
                "{items} sent: {taken}, the maximum set by --limit; the counts don't include any {items} after them"
            ));
            if self.report.is_some() {
                print_note(&format!("to send the next {items}: {}", next::resume(&self.run.given)));
            }
        }
        if let Some(snapshot) = snapshot
            && snapshot.check_unchanged().is_ok()
            && snapshot.has_grown()
        {
            tracing::warn!(
                "{}: {items} were added after the run started; they are not part of this run. To send them, use --resume",
                self.input.source
            );
        }
    }

    /// Says how the run ended. `service` names the app and the endpoint.
    async fn end(
        &self,
        summary: &Summary,
        service: &str,
        command: impl Command + Clone + Send + 'static,
    ) -> Result<ExitCode, Error> {
        let exit = ExitStatus::of_run(summary, self.input.ignore_invalid);
        tracing::info!(
            exit = exit.code(),
            ok = summary.ok,
            outside = summary.outside,
            failed = summary.failed,
            invalid = summary.invalid,
            skipped = summary.skipped,
            not_run = summary.not_run,
            requests = summary.requests,
            runs = summary.runs,
            "the run ends {}",
            pace(summary)
        );
        if let Some(stop) = &summary.stopped {
            say_why_it_stopped(summary, stop, service);
            // If the input is wrong, the same command would fail in the same way.
            if !matches!(stop, StopReason::InputFailed(_)) && self.report.is_some() {
                print_how_to_resume(&self.run.given);
            }
            if matches!(stop, StopReason::AllRejected { .. }) {
                print_note(&format!(
                    "to start again, after correcting what is wrong: {}",
                    next::overwrite(&self.run.given)
                ));
            }
        }
        let text = self.result(summary, exit, &command)?;
        // Messages on stderr come before the table. If nobody reads the output, a signal still ends the program.
        let (shown, concluded, is_stdout_taken) = (self.terminal.clone(), summary.clone(), self.is_stdout_taken);
        let printed = signals::unless_signaled(move || {
            let is_written = command.conclude(&concluded);
            shown.drain();
            match is_stdout_taken {
                true if text.is_empty() => {}
                true => print_note(&format!("summary:\n{}", text.trim_end())),
                false => _ = print(&text)?,
            }
            Ok::<bool, Error>(is_written)
        });
        let exit = match printed.await {
            Ok(is_written) => match is_written? {
                false if summary.stopped.is_none() => ExitStatus::Report,
                _ => exit,
            },
            Err(signal) => return Ok(ExitStatus::Signal(signal).into()),
        };
        if !summary.is_consistent() {
            // Not an `Err`: the summary must remain the only object on stdout.
            print_error(
                "the counts don't add up to the number of rows: a bug in zim-batch, please report it. The report is not affected",
            );
            return Ok(ExitStatus::Unexpected.into());
        }
        Ok(exit.into())
    }

    /// The summary as text.
    fn result(&self, summary: &Summary, exit: ExitStatus, command: &impl Command) -> Result<String, Error> {
        if self.run.json {
            let json = Json {
                summary,
                stopped: summary.stopped.as_ref().map(hints::stop_reason),
                exit: exit.code(),
            };
            let json = serde_json::to_string(&json).map_err(|error| Error::Unexpected(error.to_string()))?;
            Ok(format!("{json}\n"))
        } else if self.run.quiet && exit == ExitStatus::Success {
            Ok(String::new())
        } else {
            Ok(visible(&format!("{}\n", command.table(summary))).into_owned())
        }
    }
}

/// Says why a run stopped. `service` names the app and the endpoint.
pub fn say_why_it_stopped(summary: &Summary, stop: &StopReason, service: &str) {
    print_error(&format!("stopped: {}", hints::stop_reason(stop)));
    if let (Some(error), StopReason::Signal(_) | StopReason::MaxDuration(_)) = (&summary.last_error, stop) {
        print_error(&format!("the service did not answer: {error}"));
    }
    if matches!(
        stop,
        StopReason::GaveUp { .. }
            | StopReason::Fatal { .. }
            | StopReason::Untrusted { .. }
            | StopReason::AllRejected { .. }
    ) {
        print_error(service);
    }
}

/// Tells a user at a terminal that the program waits for rows; otherwise it would seem to hang.
pub fn say_if_typed(source: &Source, items: &str) {
    if input::is_typed(source) {
        print_error(&format!(
            "reading {items} from the terminal; press Ctrl-D on an empty line to finish"
        ));
    }
}

/// The summary, as the only JSON object on stdout.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// Why the run stopped before its last row; `null` if it didn't.
    stopped: Option<String>,
    exit: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_a_bug_ended_can_be_resumed_and_one_that_never_started_is_not() {
        use zim_batch::error::Error as LibraryError;
        assert!(ended_in_midrun(&LibraryError::Bug("a task failed".into()).into()));
        let no_thread = LibraryError::Thread(std::io::ErrorKind::WouldBlock.into());
        assert!(!ended_in_midrun(&no_thread.into()));
        assert!(!ended_in_midrun(&Error::Unexpected(
            "the runtime could not be started".into()
        )));
    }
}
