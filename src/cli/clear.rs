//! `zim-batch clear`: prepares a run, runs it, and reports how it ended.

mod input;

use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use zim_batch::client::{BuildError, ClientBuilder};
use zim_batch::quota::{Quota, QuotaError, Turn};
use zim_batch::report::summary::Summary;
use zim_batch::report::{self, IfExists, Report};
use zim_batch::rows::{Done, Selection, Source};
use zim_batch::run::Job;
use zim_batch::simulator::{self, World};
use zim_batch::stop::{StopHandle, StopReason};

use super::error::Error;
use super::metrics::Metrics;
use super::progress::{Progress, Style, Terminal};
use super::settings::{self, Output};
use super::shell::{
    command_line, escape_controls, fail, inputs_to_provide_again, print_error, print_note, print_resume,
};
use super::table::{Table, pace};
use super::{ClearArgs, ExitStatus, Logging, ProgressStyle, check, hints, print, process, rerun, signals};
use input::{Input, Planned, watch_rows};

pub async fn clear(args: ClearArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    let metrics = args.output.metrics.clone().filter(|_| !args.output.dry_run);
    let metrics = metrics.filter(|_| check_metrics(&args, logging).is_ok());
    let ended = run(args, logging, terminal).await;
    let Err(error) = ended else { return ended };
    let exit = ExitStatus::from(&error);
    // A run that could not start counts as failed, unless another run is active.
    if let Some(metrics) = metrics.filter(|_| exit != ExitStatus::Held) {
        Metrics::ended_early(&metrics, exit.code());
    }
    if !ended_in_midrun(&error) {
        return Err(error);
    }
    let exit = fail(exit, &error.to_string());
    print_how_to_resume();
    Ok(exit)
}

/// Whether a run ended by this error after it had started, without a summary: its report can be resumed.
fn ended_in_midrun(error: &Error) -> bool {
    matches!(error, Error::Library(zim_batch::error::Error::Bug(_)))
}

/// Prints the command that resumes this run.
fn print_how_to_resume() {
    print_resume(&command_line(std::env::args_os(), &["--overwrite"], Some("--resume")));
    if let Some(note) = inputs_to_provide_again(std::env::args_os()) {
        print_note(&note);
    }
}

async fn run(args: ClearArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    if args.output.dry_run {
        let command = command_line(std::env::args_os(), &["--dry-run"], None);
        return check::check(
            &args.rows,
            args.pace.rate,
            args.pace.limit.map(NonZeroU64::get),
            args.output.json,
            Some(command),
        );
    }
    let started_at = Instant::now();
    process::start_threads()?;
    signals::ignore_sigxfsz();
    let status_signal = signals::StatusSignal::listen();
    let source = args.rows.source();
    let output = Output::new(&args.output, &source)?;
    check_metrics(&args, logging)?;
    if let Some(html) = &args.output.html {
        super::report::check_page(html, [&output.report, &output.outside, &args.rows.rows])?;
    }
    let app = app(&args).await?;
    let service = format!("the AppId was {}, the endpoint {}", app.app_id(), app.endpoint_url());
    let quota = match args.app.simulate {
        true => None,
        false => Some(settings::quota(&app, &args.pace)?),
    };
    // With --simulate, this process also holds the server's end of each connection.
    let files_each = if args.app.simulate { 2 } else { 1 };
    let max_in_flight = process::usable_in_flight(args.pace.max_in_flight, files_each)?;
    let client = app.clone().build().map_err(|error| match (&args.app.ca_cert, error) {
        (Some(path), error @ BuildError::CaCert) => Error::Usage(format!("--ca-cert {}: {error}", path.display())),
        (_, error) => error.into(),
    })?;
    report::check_paths(&output.report, &output.outside, output.existing)?;

    args.rows.say_if_typed();
    let selection = Selection {
        limit: args.pace.limit.map(NonZeroU64::get),
        ..args.rows.selection()
    };
    let mut input = Input::new(source, settings::format(&args.rows), selection);
    // Nothing is written before the input is known to be readable, unless a report says what is already done.
    input.open()?;
    let has_report = output.existing == IfExists::Resume && output.report.metadata().is_ok_and(|file| file.len() > 0);
    let planned = match has_report {
        true => None,
        false => Some(input.plan(Done::default())?),
    };
    let holder = format!(
        "zim-batch (process {}, report {})",
        std::process::id(),
        output.report.display()
    );
    // With --no-wait, before the report is created: a run that does not happen must leave nothing behind.
    let turn_now = match &quota {
        Some(quota) if args.pace.no_wait => usable(quota.take_turn_now(&holder))?,
        _ => None,
    };
    let mut report = Report::open(&output.report, &output.outside, output.existing, args.app.simulate)?;
    let done = report.take_done();
    let Planned { plan, total, snapshot } = match planned {
        Some(planned) if done.is_empty() => planned,
        Some(_) => {
            return Err(Error::Held(format!(
                "{}: another run has just created this report; wait for it to end, or choose another report (--report FILE)",
                output.report.display()
            )));
        }
        None => input.plan(done)?,
    };
    report.forget(plan.stale())?;
    if !args.app.simulate {
        settings::announce(&app, &args.app, args.pace.rate);
    }
    // If nothing is left to send, there is no reason to wait. With --no-wait, the turn was taken above.
    let quota = quota.filter(|_| !args.pace.no_wait && total.is_none_or(|rows| rows > plan.rows_done()));

    let metrics = args.output.metrics.as_deref();
    let metrics =
        metrics.map(|path| Metrics::start(path, total, plan.rows_done(), args.pace.rate, args.rows.ignore_invalid));
    let metrics = metrics.transpose()?;
    let style = style(args.output.progress, logging.quiet);
    let stop = StopHandle::new();
    let draining = |stop: &StopReason| {
        tracing::warn!(
            "{stop}: starting no more rows, finishing the requests in flight (at most {}); a second signal stops immediately",
            humantime::format_duration(args.pace.timeout)
        );
    };
    let has_started = Cell::new(false);
    let tell_status = || match has_started.get() {
        true => terminal.request_status(),
        false => print_note("0 rows so far: waiting for another run that uses the app's quota"),
    };
    let mut signals = pin!(signals::watch(&stop, status_signal, draining, tell_status));
    let turn = tokio::select! {
        turn = take_turn(quota, turn_now, &holder) => turn?,
        () = until(started_at, args.pace.max_duration) => {
            stop.drain(StopReason::MaxDuration(args.pace.max_duration.unwrap_or_default()));
            None
        }
        () = until(Instant::now(), Some(args.pace.give_up_after)) => {
            stop.drain(StopReason::NoTurn(args.pace.give_up_after));
            None
        }
        () = stop.stopping() => None,
        () = &mut signals => unreachable!("it never completes"),
    };
    has_started.set(true);
    tracing::info!(
        rows = total,
        already_done = plan.rows_done(),
        report = %output.report.display(),
        "the run begins: {service}, at most {}/s",
        args.pace.rate
    );
    let mut job = Job::planned(client, plan, total)
        .rate(args.pace.rate)
        .report(report)
        .observer(Progress::new(style, terminal.clone(), total))
        .limits(settings::limits(&args.pace, max_in_flight))
        .stop_handle(stop.clone())
        .turn(turn)
        .started_at(started_at);
    if let Some(metrics) = metrics {
        job = job.observer(metrics);
    }
    let ended = tokio::select! {
        ended = job.run() => ended,
        () = &mut signals => unreachable!("it never completes"),
        () = watch_rows(snapshot.clone(), &stop) => unreachable!("it never completes"),
    };
    let summary = ended?;
    let exit = ExitStatus::of_run(&summary, args.rows.ignore_invalid);
    tracing::info!(
        exit = exit.code(),
        ok = summary.ok,
        outside = summary.outside,
        failed = summary.failed,
        invalid = summary.invalid,
        skipped = summary.skipped,
        not_run = summary.not_run,
        requests = summary.requests,
        "the run ends {}",
        pace(&summary)
    );
    let taken = summary.ok + summary.outside + summary.failed;
    if args.pace.limit.map(NonZeroU64::get) == Some(taken) && !logging.quiet {
        print_note(&format!(
            "rows sent: {taken}, the maximum set by --limit; the counts don't include any rows after them. To send the next \
             rows, use --resume"
        ));
    }
    if let Some(snapshot) = snapshot
        && snapshot.check_unchanged().is_ok()
        && snapshot.has_grown()
    {
        tracing::warn!(
            "{}: rows were added after the run started; they are not part of this run. To send them, use --resume",
            args.rows.rows.display()
        );
    }
    if let Some(stop) = &summary.stopped {
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
            print_error(&service);
        }
        // If the input is wrong, the same command would fail in the same way.
        if !matches!(stop, StopReason::InputFailed(_)) {
            print_how_to_resume();
        }
    }
    let page = args.output.html.clone().map(|html| {
        let (report, rows, not_run) = (output.report.clone(), args.rows.rows.clone(), summary.not_run);
        move || super::report::write_page_after_run(&report, &rows, not_run, &html)
    });
    let text = result(&summary, exit, &output, args.output.json, logging.quiet)?;
    // Messages on stderr come before the table. If nobody reads the output, a signal still ends the program.
    let shown = terminal.clone();
    let printed = signals::unless_signaled(move || {
        if let Some(write_page) = page {
            write_page();
        }
        shown.drain();
        print(&text)
    });
    match printed.await {
        Ok(printed) => printed?,
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

/// Refuses a metrics file that is also used for something else.
fn check_metrics(args: &ClearArgs, logging: &Logging) -> Result<(), Error> {
    let Some(path) = &args.output.metrics else {
        return Ok(());
    };
    let is_log = logging
        .log_file
        .as_ref()
        .is_some_and(|log| settings::same_file(path, log));
    if is_log || uses(args, path) {
        return Err(Error::Usage(format!(
            "--metrics {}: this command already uses the file for something else; name another one",
            path.display()
        )));
    }
    Metrics::check_target(path)
}

/// With `-q`, progress is shown only if `--progress` was given.
fn style(typed: Option<ProgressStyle>, quiet: bool) -> Style {
    match typed {
        Some(style) => style.into(),
        None if quiet => Style::None,
        None => Style::Auto,
    }
}

/// Whether a run would write to this file or read from it.
pub fn uses(args: &ClearArgs, file: &Path) -> bool {
    let source = args.rows.source();
    // Errors in the output paths are reported later.
    let output = Output::new(&args.output, &source).ok();
    let written = output.iter().flat_map(|output| [&output.report, &output.outside]);
    let read = match &source {
        Source::File(path) => Some(path),
        Source::Stdin => None,
    };
    let others = [&args.app.secret_file, &args.app.ca_cert, &args.output.html]
        .into_iter()
        .flatten();
    written
        .chain(read)
        .chain(others)
        .any(|path| settings::same_file(path, file))
}

/// Waits for the turn to use the app's quota, unless there is no shared quota or the turn was already taken.
async fn take_turn(quota: Option<Quota>, taken: Option<Turn>, holder: &str) -> Result<Option<Turn>, Error> {
    let Some(quota) = quota else { return Ok(taken) };
    let waits_for = |other: &str| {
        tracing::warn!("waiting for {other}, which uses the same app's quota (to exit instead, use --no-wait)");
    };
    usable(quota.take_turn(holder, waits_for).await)
}

/// If the lock file can't be used, the run continues without it, with a warning.
fn usable(turn: Result<Turn, QuotaError>) -> Result<Option<Turn>, Error> {
    match turn {
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::warn!("{}", hints::quota_error(&error));
            Ok(None)
        }
        turn => Ok(Some(turn?)),
    }
}

/// Completes when `limit` has passed since `started_at`; never if there is no limit.
async fn until(started_at: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| started_at.checked_add(limit)) {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The text for stdout.
fn result(summary: &Summary, exit: ExitStatus, output: &Output, json: bool, quiet: bool) -> Result<String, Error> {
    if json {
        let json = Json {
            summary,
            stopped: summary.stopped.as_ref().map(hints::stop_reason),
            exit: exit.code(),
        };
        let json = serde_json::to_string(&json).map_err(|error| Error::Unexpected(error.to_string()))?;
        Ok(format!("{json}\n"))
    } else if quiet && exit == ExitStatus::Success {
        Ok(String::new())
    } else {
        let next = rerun::next_commands(summary, output, std::env::args_os());
        Ok(escape_controls(&format!("{}{next}\n", Table(summary))).into_owned())
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

/// Where the requests are sent: ZIM, or a simulator in this process.
async fn app(args: &ClearArgs) -> Result<ClientBuilder, Error> {
    if !args.app.simulate {
        return settings::app(&args.app, &args.pace);
    }
    let unexpected = |error: std::io::Error| Error::Unexpected(format!("the simulator could not be started: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(unexpected)?;
    let address = listener.local_addr().map_err(unexpected)?;
    let options = super::simulate::demonstration(args.pace.rate);
    let app = settings::simulated_app(options.app_id, options.server_secret.clone(), address, &args.pace);
    tokio::spawn(simulator::serve(
        listener,
        World::sample(),
        options,
        None,
        std::future::pending(),
    ));
    app
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

    #[test]
    fn quiet_shows_no_progress_unless_it_was_asked_for() {
        assert_eq!(style(None, true), Style::None);
        assert_eq!(style(None, false), Style::Auto);
        assert_eq!(style(Some(ProgressStyle::Plain), true), Style::Plain);
    }
}
