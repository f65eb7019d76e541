//! `zim-batch clear`: the job.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use zim_batch::client::{App, Client, SetupError};
use zim_batch::error::Error;
use zim_batch::limiter::Limiter;
use zim_batch::quota::{Quota, Turn};
use zim_batch::report::progress::{Progress, Terminal};
use zim_batch::report::summary::Summary;
use zim_batch::report::{self, Existing, Files, Report};
use zim_batch::rows::{Format, Plan, Rows, Selection, Source};
use zim_batch::run::{self, Job};
use zim_batch::simulator::{self, World};
use zim_batch::stop::{Stop, Stopper};

use super::settings::{self, Output};
use super::shell::{command_line, print_error};
use super::{ClearArgs, Logging, check, print, signals};

pub async fn clear(args: ClearArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    if args.output.dry_run {
        let command = command_line(std::env::args_os(), &["--dry-run"], None);
        return check::check(&args.rows, args.pace.rate, args.output.json, Some(command));
    }
    let begun = Instant::now();
    signals::outlive_file_size_limit();
    let source = args.rows.source();
    let output = Output::new(&args.output, &source)?;
    if let Some(html) = &args.output.html {
        super::report::check_page(html, [&output.report, &output.outside, &args.rows.rows])?;
    }
    let app = app(&args).await?;
    let service = format!("the AppId was {}, the endpoint {}", app.app_id, app.endpoint);
    let quota = (!args.app.simulate).then(|| Quota::new(app.app_id, &app.endpoint));
    let services = clients(&app, args.pace.rate).map_err(|error| match (&args.app.ca_cert, error) {
        (Some(path), error @ SetupError::CaCert) => Error::Usage(format!("--ca-cert {}: {error}", path.display())),
        (_, error) => error.into(),
    })?;
    report::refuse_existing(&output.report, output.existing)?;
    if args.output.outside.is_some() {
        report::refuse_existing(&output.outside, output.existing)?;
    }

    let mut input = Input::new(source, settings::format(&args.rows), &args);
    // Nothing is written before the input is known to be readable, unless the report tells what is done already.
    input.open()?;
    if output.existing != Existing::Resume {
        input.count()?;
    }
    let holder = format!(
        "zim-batch (process {}, report {})",
        std::process::id(),
        output.report.display()
    );
    // With --no-wait before the report is begun, for a run that doesn't happen leaves nothing behind.
    let turn_now = match &quota {
        Some(quota) if args.pace.no_wait => Some(quota.take_turn_now(&holder)?),
        _ => None,
    };
    let mut files = Files::open(&output.report, &output.outside, output.existing)?;
    if output.existing == Existing::Resume {
        input.selection.done = files.take_done();
        input.count()?;
    }
    let (plan, total) = input.plan()?;
    // With nothing left to send there is nothing to wait for.
    let quota = quota.filter(|_| total.is_none_or(|rows| rows > plan.rows_done()));

    let progress = Progress::new(args.output.progress.into(), terminal, total);
    let stopper = Stopper::new();
    let draining = |stop: &Stop| {
        tracing::warn!(
            "{stop}: taking no more rows, finishing the requests in flight (at most {}); once more stops at once",
            humantime::format_duration(args.pace.timeout)
        );
    };
    let mut signals = pin!(signals::watch(&stopper, draining));
    let turn = tokio::select! {
        turn = take_turn(quota, turn_now, &holder) => turn?,
        () = until(begun, args.pace.max_duration) => {
            stopper.drain(Stop::MaxDuration(args.pace.max_duration.unwrap_or_default()));
            None
        }
        () = stopper.asked() => None,
        () = &mut signals => unreachable!("it watches for ever"),
    };
    let job = Job {
        plan,
        total,
        limiter: Limiter::new(args.pace.rate),
        services,
        report: Report::new(files, (output.report.clone(), output.outside.clone()), progress),
        limits: settings::limits(&args.pace),
        stopper: stopper.clone(),
        turn,
        begun,
    };
    let ended = tokio::select! {
        ended = run::run(job) => ended,
        () = &mut signals => unreachable!("it watches for ever"),
    };
    let summary = ended?;
    if let (Some(stop), Some(_)) = (stopper.reason(), &summary.stopped) {
        print_error(&format!("stopped: {stop}"));
        if matches!(
            stop,
            Stop::GaveUp { .. } | Stop::Fatal { .. } | Stop::AllRejected { .. }
        ) {
            print_error(&service);
        }
        // After input that is wrong the same command would only fail the same way.
        if !matches!(stop, Stop::InputFailed(_)) {
            let command = command_line(std::env::args_os(), &["--overwrite"], Some("--resume"));
            print_error(&format!("to go on where this run ended: {command}"));
        }
    }
    if let Some(html) = &args.output.html {
        super::report::write_page_after_run(&output.report, &args.rows.rows, summary.not_run, html);
    }
    tell(&summary, args.output.json, logging.quiet)
}

/// A client for each lane of the run.
fn clients(app: &App, rate: f64) -> Result<Vec<Client>, SetupError> {
    let lanes = run::lanes(rate, app.max_in_flight);
    let share = App {
        max_in_flight: app.max_in_flight.div_ceil(lanes),
        ..app.clone()
    };
    (0..lanes).map(|_| Client::new(share.clone())).collect()
}

/// Waits for the turn to use the app's quota, unless there is none to be shared or it is taken already.
async fn take_turn(quota: Option<Quota>, taken: Option<Turn>, holder: &str) -> Result<Option<Turn>, Error> {
    match (quota, taken) {
        (Some(quota), None) => quota.take_turn(holder).await.map(Some),
        (_, taken) => Ok(taken),
    }
}

/// Completes when `limit` has passed since `begun`; never without one.
async fn until(begun: Instant, limit: Option<Duration>) {
    match limit.and_then(|limit| begun.checked_add(limit)) {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn tell(summary: &Summary, json: bool, quiet: bool) -> Result<ExitCode, Error> {
    if json {
        let json = serde_json::to_string(summary).map_err(|error| Error::Unexpected(error.to_string()))?;
        print(&format!("{json}\n"))?;
    } else if !quiet || summary.exit != 0 {
        print(&format!("{summary}\n"))?;
    }
    if !summary.adds_up() {
        return Err(Error::Unexpected(
            "the counts don't add up to the rows, which is a defect of zim-batch; the report itself holds what was done"
                .into(),
        ));
    }
    Ok(ExitCode::from(summary.exit))
}

/// Where the requests go: ZIM, or a simulator of this process's own.
async fn app(args: &ClearArgs) -> Result<App, Error> {
    if !args.app.simulate {
        return settings::app(&args.app, &args.pace);
    }
    let unexpected = |error: std::io::Error| Error::Unexpected(format!("the simulator can't be started: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(unexpected)?;
    let address = listener.local_addr().map_err(unexpected)?;
    let options = super::simulate::demonstration(args.pace.rate);
    let app = settings::simulated_app(options.app_id, &options.server_secret, address, &args.pace);
    tokio::spawn(simulator::serve(
        listener,
        World::sample(),
        options,
        None,
        std::future::pending(),
    ));
    app
}

/// The rows and what is to be done about them.
struct Input {
    source: Source,
    format: Format,
    selection: Selection,
    /// Input that can be read only once, opened.
    stream: Option<Rows>,
    total: Option<u64>,
}

impl Input {
    fn new(source: Source, format: Format, args: &ClearArgs) -> Input {
        Input {
            source,
            format,
            selection: Selection {
                only: args.rows.only.clone(),
                dedupe: args.rows.dedupe,
                ..Selection::default()
            },
            stream: None,
            total: None,
        }
    }

    /// Looks whether the input can be opened and its columns told.
    fn open(&mut self) -> Result<(), Error> {
        let rows = Rows::open(&self.source, &self.format)?;
        self.stream = (!self.source.can_be_read_twice()).then_some(rows);
        Ok(())
    }

    /// The first pass, over a file: counts the rows, and compares them with the report's.
    fn count(&mut self) -> Result<(), Error> {
        if self.stream.is_none() {
            let selection = Arc::new(std::mem::take(&mut self.selection));
            let survey = Plan::open(&self.source, &self.format, Arc::clone(&selection))?.survey()?;
            self.total = Some(survey.rows);
            self.selection = Selection {
                repeated: Some(survey.repeated),
                ..Arc::unwrap_or_clone(selection)
            };
        }
        Ok(())
    }

    /// The second pass; the only one over standard input, which then has to be compared with the report on the way.
    fn plan(self) -> Result<(Plan, Option<u64>), Error> {
        let selection = Arc::new(self.selection);
        let plan = match self.stream {
            Some(rows) => Plan::new(rows, self.source.to_string(), selection)?.verify_first(),
            None => Plan::open(&self.source, &self.format, selection)?,
        };
        Ok((plan, self.total))
    }
}
