//! What `clear` and `list` have in common: an input, a journal, and the same end.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zim_batch::client::Service;
use zim_batch::journal::{IfExists, Journal, RunBegin};
use zim_batch::reasons::Reason;
use zim_batch::row::Row;
use zim_batch::rows::{Plan, Snapshot};
use zim_batch::run::Job;
use zim_batch::run::summary::Summary;
use zim_batch::stop::StopReason;
use zim_batch::text::{grouped, milliseconds, visible};

use crate::cli::args::Given;
use crate::cli::engine::input::{self, Input};
use crate::cli::engine::run::{Ended, Joined};
use crate::cli::engine::run_log::{self, LoggedRun};
use crate::cli::engine::signals;
use crate::cli::engine::since::ALL;
use crate::cli::errors::{Error, ExitStatus, hints};
use crate::cli::output::metrics::Metrics;
use crate::cli::output::print::{print, print_error, print_note, print_resume, to_json};
use crate::cli::output::run_page::RunPage;
use crate::cli::output::table::pace;
use crate::cli::output::work::Work;
use crate::cli::output::{empty_input, next};
use crate::cli::settings::input::InputSettings;

/// A run that processes an input and writes a journal.
pub struct Batch {
    /// What the input has: `rows` or `users`.
    pub items: &'static str,
    pub input: InputSettings,
    /// Maximum items to send; where what is listed is cleared, maximum rows.
    pub limit: Option<u64>,
    /// The flags that choose what is listed of a user; empty if no user is listed.
    pub listing: String,
    /// The file of the journal; `None` for a list without one.
    pub report: Option<PathBuf>,
    pub existing: IfExists,
    /// The page of the report, if there is to be one.
    pub page: Option<RunPage>,
    /// The summary goes to stderr, because stdout has the rows.
    pub is_stdout_taken: bool,
}

impl Batch {
    /// What the run does, for the log.
    pub fn name(&self) -> String {
        match &self.report {
            Some(report) => format!("report {}", report.display()),
            None => format!("{} from {}", self.items, self.input.source),
        }
    }

    /// Opens the input of which `journal` has the records.
    pub fn open_input<'a>(&'a self, journal: Option<&'a Path>) -> Result<Input<'a>, Error> {
        input::print_typing_hint(&self.input.source, self.items);
        let resumed = journal.filter(|_| self.existing == IfExists::Resume);
        Input::open(&self.input, resumed)
    }

    /// Processes the input: see [`Batch::run_job`].
    pub async fn run<S>(
        &self,
        run: Joined,
        service: S,
        plan: Plan,
        journal: impl Journal + 'static,
    ) -> Result<Ended, Error>
    where
        S: Service<Item: From<Row>>,
    {
        let work = Work {
            rows: plan.total(),
            selected: plan.selected(),
            users: None,
            rows_done: plan.rows_done(),
            is_resumed: journal.is_resumed(),
            input: plan.snapshot().cloned(),
        };
        let job = Job::planned(service, plan).report(journal);
        self.run_job(run, job, work).await
    }

    /// Runs a job to the end, or to the stop that comes first. Says on stderr how it ended.
    pub async fn run_job<S: Service>(&self, run: Joined, job: Job<S>, work: Work) -> Result<Ended, Error> {
        let given = run.settings().given.clone();
        let metrics = self.start_metrics(&run, &work)?;
        let logged = self.log_begin(&run, &work);
        let mut job = job.observer(run.progress(&work, self.items)).observer(logged.clone());
        if let Some(metrics) = metrics {
            job = job.observer(metrics);
        }
        if let Some(page) = &self.page {
            job = job.observer(page.writer());
        }
        let snapshot = work.input;
        let work = run.attach(job).run();
        let mut ended = run.drive(work, snapshot.clone()).await.inspect_err(|error| {
            logged.end_by(error, has_begun(error));
            if has_begun(error) {
                print_how_to_resume(&given);
                self.page.iter().for_each(|page| page.write_last(None));
            }
        })?;
        ended.summary.input = Some(self.input.source.path().display().to_string());
        self.print_rows_left_out(&ended, snapshot);
        self.print_end(&ended);
        Ok(ended)
    }

    fn log_begin(&self, run: &Joined, work: &Work) -> LoggedRun {
        let settings = run.settings();
        let begin = RunBegin {
            total: work.selected,
            already_done: work.rows_done,
            lists: work.users.is_some(),
            users: work.users.flatten(),
            listing: self.listing.clone(),
            limit: self.limit,
            rate: settings.pace.rate.value.to_string(),
            ends_at: run.ends().map(|ends| milliseconds(ends.at)),
            ..run_log::begin(&run.client(), settings.is_simulated(), &self.input, &settings.given)
        };
        LoggedRun::begin(self.report.as_deref(), &self.input, &begin, work.is_resumed)
    }

    fn start_metrics(&self, run: &Joined, work: &Work) -> Result<Option<Metrics>, Error> {
        let settings = run.settings();
        let rate = settings.pace.rate.value.highest();
        let metrics = settings
            .metrics
            .as_ref()
            .map(|file| Metrics::start(file, work, rate, self.input.ignore_invalid));
        metrics.transpose()
    }

    /// Notes what is not part of this run.
    fn print_rows_left_out(&self, ended: &Ended, snapshot: Option<Snapshot>) {
        let items = self.items;
        let (summary, settings) = (&ended.summary, &ended.settings);
        let taken = summary.ok + summary.outside + summary.failed;
        let items = if summary.users.is_some() { "rows" } else { items };
        let (sent, send) = match summary.conversations {
            Some(_) => ("listed", "list"),
            None => ("sent", "send"),
        };
        if self.limit == Some(taken) && !settings.quiet {
            let left = match &summary.users {
                None => format!("the counts don't include any {items} after them"),
                Some(users) => {
                    let unsent = users.conversations.saturating_sub(summary.rows - summary.not_run);
                    format!(
                        "still without a record: {} of the rows listed so far, and {} of the users",
                        grouped(unsent),
                        grouped(users.not_run)
                    )
                }
            };
            print_note(&format!("{items} {sent}: {taken}, the maximum set by --limit; {left}"));
            if self.report.is_some() {
                print_note(&format!("to {send} the rest: {}", next::without_limit(&settings.given)));
                print_what_to_provide(&settings.given);
            }
        }
        if let Some(snapshot) = snapshot
            && snapshot.check_unchanged().is_ok()
            && snapshot.has_grown()
        {
            tracing::warn!(
                "{}: {items} were added after the run started; they are not part of this run. To {send} them, use --resume",
                self.input.source
            );
        }
    }

    fn print_end(&self, ended: &Ended) {
        let (summary, given) = (&ended.summary, &ended.settings.given);
        tracing::info!(
            exit = self.exit_status(summary).code(),
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
        ended.print_stop_reason();
        match &summary.stopped {
            None if self.is_empty(summary) => print_note(&empty_input::of_run(&self.input, given)),
            None => self.print_nothing_to_do(ended),
            // If the input is wrong, the same command would fail in the same way.
            Some(StopReason::InputFailed(_)) => {}
            // All that was sent has failed.
            Some(StopReason::AllRejected { .. }) => print_note(&format!(
                "to start again, after correcting what is wrong: {}",
                next::overwrite(given)
            )),
            Some(_) if self.report.is_some() => print_how_to_resume(given),
            Some(_) => {}
        }
        self.print_not_in_sample(ended);
    }

    /// Says that the simulator's sample has no conversation of any of the users that were listed.
    fn print_not_in_sample(&self, ended: &Ended) {
        let Ended { summary, settings, .. } = ended;
        let (listed, conversations) = match (&summary.users, summary.conversations) {
            (Some(users), _) => (users.ok, users.conversations),
            (None, Some(conversations)) => (summary.ok, conversations),
            (None, None) => return,
        };
        let lists_all = self.listing == ALL && summary.is_complete() && summary.already_done == 0;
        if settings.is_simulated() && !settings.quiet && lists_all && listed > 0 && conversations == 0 {
            print_note(
                "none of these users has conversations in the simulator's sample; try examples/users.csv, or your own \
                 conversations with zim-batch simulate --conversations FILE",
            );
        }
    }

    /// Whether the input has nothing that was to be done.
    fn is_empty(&self, summary: &Summary) -> bool {
        summary.users.as_ref().map_or(summary.rows, |users| users.total) == 0
    }

    /// Says that a report is complete that was to be resumed, and why the exit status is nevertheless not 0.
    fn print_nothing_to_do(&self, ended: &Ended) {
        let (summary, items) = (&ended.summary, self.items);
        let exit = self.exit_status(summary);
        if !summary.had_nothing_to_do() || (ended.settings.quiet && exit == ExitStatus::Success) {
            return;
        }
        let items = if summary.users.is_some() { "rows" } else { items };
        let (done, of) = match &summary.users {
            Some(users) if summary.rows == 0 => (users.total, "users"),
            _ => (summary.rows, items),
        };
        let mut text = format!("nothing is left to do: all {} {of} have a record", grouped(done));
        if exit != ExitStatus::Success {
            let mut bad = not_done(summary.all_failed, summary.all_invalid, &summary.reasons, items);
            if let Some(users) = &summary.users {
                bad.extend(not_done(users.failed, users.invalid, &users.reasons, "users"));
            }
            text += &format!(". The exit status is still {}: {}", exit.code(), bad.join(", "));
        }
        if self.listing.contains("--since ") {
            text += ". Nothing was listed: to list again, use --overwrite, or every night --since last --resume";
        }
        print_note(&text);
    }

    fn exit_status(&self, summary: &Summary) -> ExitStatus {
        ExitStatus::of_run(summary, self.input.ignore_invalid)
    }

    /// Prints the summary: `table`, or JSON. Before, `conclude` does what is left to do; it returns `false`, with the error
    /// printed, if something could not be written.
    pub async fn finish(
        &self,
        ended: Ended,
        table: String,
        conclude: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<ExitCode, Error> {
        let Ended {
            summary,
            settings,
            terminal,
            ..
        } = ended;
        let exit = self.exit_status(&summary);
        let text = if settings.json {
            Some(json(&summary, exit)?)
        } else if settings.quiet && exit == ExitStatus::Success {
            None
        } else {
            let table = visible(table.trim_end()).into_owned();
            Some(match settings.exit_ok.note(exit) {
                Some(note) => format!("{table}\n\n{note}"),
                None => table,
            })
        };
        // Messages on stderr come before the table. If nobody reads the output, a signal still ends the program.
        let is_stdout_taken = self.is_stdout_taken;
        let page = self.page.clone().map(|page| (page, summary.clone()));
        let finished = signals::unless_signaled(move || {
            let is_written = conclude();
            // If that fails, the exit status remains that of the run.
            page.iter().for_each(|(page, summary)| page.write_last(Some(summary)));
            terminal.drain();
            match text {
                Some(text) if is_stdout_taken => print_note(&format!("summary:\n{text}")),
                Some(text) => _ = print(&format!("{text}\n"))?,
                None => {}
            }
            Ok(is_written)
        });
        let is_written = match finished.await {
            Ok(is_written) => is_written?,
            Err(signal) => return Ok(settings.exit_ok.code(ExitStatus::Signal(signal))),
        };
        if !summary.is_consistent() {
            // Not an `Err`: the summary must remain the only object on stdout.
            print_error(
                "the counts don't add up to the number of rows: a bug in zim-batch, please report it. The report is not affected",
            );
            return Ok(ExitStatus::Unexpected.into());
        }
        if !is_written && summary.stopped.is_none() {
            return Ok(settings.exit_ok.code(ExitStatus::Report));
        }
        Ok(settings.exit_ok.code(exit))
    }
}

/// What is said of rows or users that failed or are invalid.
fn not_done(failed: u64, invalid: u64, reasons: &[Reason], items: &str) -> Vec<String> {
    let retryable = reasons.iter().filter(|reason| reason.retryable);
    let retryable = retryable.map(|reason| reason.rows).sum::<u64>().min(failed);
    let numbers = [
        (failed - retryable, "failed and can't succeed unchanged"),
        (retryable, "failed and may succeed if sent again"),
        (invalid, "invalid"),
    ];
    let numbers = numbers.iter().filter(|(number, _)| *number > 0);
    let text = |(number, what): &(u64, &str)| {
        let items = if *number == 1 {
            items.trim_end_matches('s')
        } else {
            items
        };
        format!("{} {items} {what}", grouped(*number))
    };
    numbers.map(text).collect()
}

/// Whether a run ended by this error after it had begun, without a summary: its report can be resumed.
fn has_begun(error: &Error) -> bool {
    matches!(error, Error::Library(zim_batch::Error::Bug(_)))
}

/// Prints the command that resumes this run, and what it needs besides.
fn print_how_to_resume(given: &Given) {
    print_resume(&next::resume(given));
    print_what_to_provide(given);
}

/// Prints what this command needs besides, if it is run again.
fn print_what_to_provide(given: &Given) {
    next::to_provide_again(given).iter().for_each(|note| print_note(note));
}

/// The summary, as the only JSON object on stdout.
fn json(summary: &Summary, exit: ExitStatus) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Json<'a> {
        #[serde(flatten)]
        summary: &'a Summary,
        /// Why the run stopped before its last row; `null` if it didn't.
        stopped: Option<String>,
        exit: u8,
    }
    to_json(&Json {
        summary,
        stopped: hints::stopped(summary),
        exit: exit.code(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_a_bug_ended_can_be_resumed_and_one_that_never_started_is_not() {
        use zim_batch::Error as LibraryError;
        assert!(has_begun(&LibraryError::Bug("a task failed".into()).into()));
        let no_thread = LibraryError::Thread(std::io::ErrorKind::WouldBlock.into());
        assert!(!has_begun(&no_thread.into()));
        assert!(!has_begun(&Error::Unexpected(
            "the runtime could not be started".into()
        )));
    }
}
