//! `zim-batch clear`: the job.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until};
use zim_batch::client::{BuildError, ClientBuilder};
use zim_batch::quota::{Quota, QuotaError, Turn};
use zim_batch::report::summary::Summary;
use zim_batch::report::{self, IfExists, Report};
use zim_batch::rows::Done;
use zim_batch::rows::{Format, Plan, Rows, Selection, Snapshot, Source};
use zim_batch::run::Job;
use zim_batch::simulator::{self, World};
use zim_batch::stop::{StopHandle, StopReason};

use super::error::Error;
use super::metrics::Metrics;
use super::progress::{Progress, Style, Terminal};
use super::settings::{self, Output};
use super::shell::{command_line, given_anew, print_error, print_note, print_resume, without_controls};
use super::table::{Table, pace};
use super::{ClearArgs, ExitStatus, Logging, ProgressStyle, again, check, hints, print, process, signals};

pub async fn clear(args: ClearArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    let metrics = args.output.metrics.clone().filter(|_| !args.output.dry_run);
    let metrics = metrics.filter(|_| check_metrics(&args, logging).is_ok());
    let ended = run(args, logging, terminal).await;
    if let (Err(error), Some(metrics)) = (&ended, metrics)
        && ExitStatus::from(error) != ExitStatus::Held
    {
        // A run that is never begun is one that has ended badly, unless another one is under way.
        Metrics::ended_early(&metrics, ExitStatus::from(error).code());
    }
    ended
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
    let status_asked = signals::StatusAsked::listen();
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
    // A simulated server's end of each connection is open here too.
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
    // Nothing is written before the input is known to be readable, unless the report tells what is done already.
    input.open()?;
    let is_begun = output.existing == IfExists::Resume && output.report.metadata().is_ok_and(|file| file.len() > 0);
    let planned = match is_begun {
        true => None,
        false => Some(input.plan(Done::default())?),
    };
    let holder = format!(
        "zim-batch (process {}, report {})",
        std::process::id(),
        output.report.display()
    );
    // With --no-wait before the report is begun, for a run that doesn't happen leaves nothing behind.
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
                "{}: another run has begun this report just now",
                output.report.display()
            )));
        }
        None => input.plan(done)?,
    };
    report.forget(plan.stale())?;
    if !args.app.simulate {
        settings::announce(&app, &args.app, args.pace.rate);
    }
    // With nothing left to send there is nothing to wait for. With --no-wait all was done that can be.
    let quota = quota.filter(|_| !args.pace.no_wait && total.is_none_or(|rows| rows > plan.rows_done()));

    let metrics = args.output.metrics.as_deref();
    let metrics =
        metrics.map(|path| Metrics::start(path, total, plan.rows_done(), args.pace.rate, args.rows.ignore_invalid));
    let metrics = metrics.transpose()?;
    let style = style(args.output.progress, logging.quiet);
    let stop = StopHandle::new();
    let draining = |stop: &StopReason| {
        tracing::warn!(
            "{stop}: taking no more rows, finishing the requests in flight (at most {}); once more stops at once",
            humantime::format_duration(args.pace.timeout)
        );
    };
    let has_begun = Cell::new(false);
    let tell_status = || match has_begun.get() {
        true => terminal.ask_status(),
        false => print_note("0 rows so far: waiting until the app's quota can be used"),
    };
    let mut signals = pin!(signals::watch(&stop, status_asked, draining, tell_status));
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
        () = stop.asked() => None,
        () = &mut signals => unreachable!("it watches for ever"),
    };
    has_begun.set(true);
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
        () = &mut signals => unreachable!("it watches for ever"),
        () = watch_rows(snapshot.clone(), &stop) => unreachable!("it watches for ever"),
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
            "rows sent: {taken}, as many as --limit allows; rows behind them, if there are any, are not in the counts, and \
             --resume goes on with them"
        ));
    }
    if let Some(snapshot) = snapshot
        && snapshot.check_unchanged().is_ok()
        && snapshot.has_grown()
    {
        tracing::warn!(
            "{}: rows were added since the rows were counted; they are not in this run, --resume takes them",
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
        // After input that is wrong the same command would only fail the same way.
        if !matches!(stop, StopReason::InputFailed(_)) {
            print_resume(&command_line(std::env::args_os(), &["--overwrite"], Some("--resume")));
            if let Some(streams) = given_anew(std::env::args_os()) {
                print_note(&streams);
            }
        }
    }
    let page = args.output.html.clone().map(|html| {
        let (report, rows, not_run) = (output.report.clone(), args.rows.rows.clone(), summary.not_run);
        move || super::report::write_page_after_run(&report, &rows, not_run, &html)
    });
    let text = result(&summary, exit, &output, args.output.json, logging.quiet)?;
    // What was said on stderr stands above the table. If nobody reads, a signal ends the program.
    let shown = terminal.clone();
    let printed = signals::unless_ended(move || {
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
        // Not an `Err`: the one object on stdout is the summary.
        print_error(
            "the counts don't add up to the rows, which is a bug in zim-batch; the report itself holds what was done",
        );
        return Ok(ExitStatus::Unexpected.into());
    }
    Ok(exit.into())
}

/// The file of the metrics is one of its own.
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
            "--metrics {}: this file is needed for something else; name another one",
            path.display()
        )));
    }
    Metrics::check_target(path)
}

/// Nothing is shown with `-q`, unless it was asked for.
fn style(typed: Option<ProgressStyle>, quiet: bool) -> Style {
    match typed {
        Some(style) => style.into(),
        None if quiet => Style::None,
        None => Style::Auto,
    }
}

/// Whether a run would write to this file, or read its rows from it.
pub fn uses(args: &ClearArgs, file: &Path) -> bool {
    let source = args.rows.source();
    // What is wrong with them is said later.
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

/// Waits for the turn to use the app's quota, unless there is none to be shared or it is taken already.
async fn take_turn(quota: Option<Quota>, taken: Option<Turn>, holder: &str) -> Result<Option<Turn>, Error> {
    let Some(quota) = quota else { return Ok(taken) };
    let waits_for = |other: &str| {
        tracing::warn!("waiting for {other}, which uses the same app's quota (--no-wait to give up instead)");
    };
    usable(quota.take_turn(holder, waits_for).await)
}

/// Where runs can't meet, this one goes on alone.
fn usable(turn: Result<Turn, QuotaError>) -> Result<Option<Turn>, Error> {
    match turn {
        Err(error @ QuotaError::Unusable { .. }) => {
            tracing::warn!("{}", hints::quota_error(&error));
            Ok(None)
        }
        turn => Ok(Some(turn?)),
    }
}

/// Completes when `limit` has passed since `started_at`; never without one.
async fn until(started_at: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| started_at.checked_add(limit)) {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// What stdout is to say.
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
        let next = again::what_next(summary, output, std::env::args_os());
        Ok(without_controls(&format!("{}{next}\n", Table(summary))).into_owned())
    }
}

/// The summary as the one JSON object on stdout.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// Why the run stopped before its last row; `null` if it did not.
    stopped: Option<String>,
    exit: u8,
}

/// Where the requests go: ZIM, or a simulator of this process's own.
async fn app(args: &ClearArgs) -> Result<ClientBuilder, Error> {
    if !args.app.simulate {
        return settings::app(&args.app, &args.pace);
    }
    let unexpected = |error: std::io::Error| Error::Unexpected(format!("the simulator can't be started: {error}"));
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

/// How often the file of rows is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Stops the run if the file of rows is changed, also when its rows have been read ahead; watches for ever.
async fn watch_rows(snapshot: Option<Snapshot>, stop: &StopHandle) {
    let Some(snapshot) = snapshot else {
        return std::future::pending().await;
    };
    loop {
        let started_at = Instant::now();
        let looking = snapshot.clone();
        // An error is a runtime that shuts down.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || looking.check_unchanged()).await {
            stop.drain(StopReason::InputFailed(error.into()));
            return std::future::pending().await;
        }
        // A large file that grows all the time is read again and again, but not all the time.
        sleep(LOOK_EVERY.max(started_at.elapsed() * 20)).await;
    }
}

/// The rows and what is to be done about them.
struct Input {
    source: Source,
    format: Format,
    selection: Selection,
    /// Input that can be read only once, opened.
    stream: Option<Rows>,
}

/// What is known before the first row is sent.
struct Planned {
    plan: Plan,
    /// How many rows there are; `None` for a stream.
    total: Option<u64>,
    /// What the file was when its rows were counted; `None` for a stream.
    snapshot: Option<Snapshot>,
}

impl Input {
    fn new(source: Source, format: Format, selection: Selection) -> Input {
        Input {
            source,
            format,
            selection,
            stream: None,
        }
    }

    /// Looks whether the input can be opened and its columns told.
    fn open(&mut self) -> Result<(), Error> {
        let rows = Rows::open(&self.source, &self.format)?;
        self.stream = (!self.source.can_be_read_twice()).then_some(rows);
        Ok(())
    }

    /// A file is read once to count its rows and to compare them with those that are done, and a second time while they
    /// are sent; a stream is read while they are sent, and compared before the first one is.
    fn plan(&mut self, done: Done) -> Result<Planned, Error> {
        let mut selection = std::mem::take(&mut self.selection);
        selection.done = done;
        if let Some(rows) = self.stream.take() {
            let plan = Plan::new(rows, self.source.to_string(), Arc::new(selection))?.verify_first()?;
            return Ok(Planned {
                plan,
                total: None,
                snapshot: None,
            });
        }
        let selection = Arc::new(selection);
        let survey = Plan::open(&self.source, &self.format, Arc::clone(&selection))?.survey()?;
        let mut selection = Arc::unwrap_or_clone(selection);
        selection.done.remove(&survey.stale);
        selection.repeated = Some(survey.repeated.clone());
        Ok(Planned {
            plan: Plan::open_again(&survey, &self.source, &self.format, Arc::new(selection))?,
            total: Some(survey.rows),
            snapshot: survey.snapshot,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_shows_no_progress_unless_it_was_asked_for() {
        assert_eq!(style(None, true), Style::None);
        assert_eq!(style(None, false), Style::Auto);
        assert_eq!(style(Some(ProgressStyle::Plain), true), Style::Plain);
    }
}
