//! `zim-batch clear`: the job.

use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;
use zim_batch::client::{App, Client};
use zim_batch::error::Error;
use zim_batch::limiter::Limiter;
use zim_batch::report::progress::{Progress, Terminal};
use zim_batch::report::summary::Summary;
use zim_batch::report::{self, Existing, Files, Report};
use zim_batch::rows::{Format, Plan, Rows, Selection, Source};
use zim_batch::run::{self, Job};
use zim_batch::simulator::{self, World};
use zim_batch::stop::{Stop, Stopper};

use super::settings::{self, Output};
use super::shell::{print_error, resume_command};
use super::{ClearArgs, Logging, check, print, signals};

pub async fn clear(args: ClearArgs, logging: &Logging, terminal: Terminal) -> Result<ExitCode, Error> {
    if args.output.dry_run {
        return check::check(&args.rows, args.pace.rate, args.output.json);
    }
    let source = args.rows.source();
    let output = Output::new(&args.output, &source)?;
    let app = app(&args).await?;
    let client = Client::new(app)?;
    report::refuse_existing(&output.report, output.existing)?;

    let mut input = Input::new(source, settings::format(&args.rows), &args);
    // Nothing is written before the input is known to be readable, unless the report tells what is done already.
    if output.existing != Existing::Resume {
        input.count()?;
    } else if input.source.can_be_read_twice() {
        Rows::open(&input.source, &input.format)?;
    }
    let mut files = Files::open(&output.report, &output.outside, output.existing)?;
    if output.existing == Existing::Resume {
        input.selection.done = files.take_done();
        input.count()?;
    }
    let (plan, total) = input.plan()?;

    let progress = Progress::new(args.output.progress.into(), terminal, total);
    let stopper = Stopper::new();
    let job = Job {
        plan,
        total,
        limiter: Limiter::new(args.pace.rate),
        service: client,
        report: Report::new(files, (output.report.clone(), output.outside.clone()), progress),
        limits: settings::limits(&args.pace),
        stopper: stopper.clone(),
    };
    let draining = |stop: &Stop| {
        tracing::warn!(
            "{stop}: taking no more rows, finishing the requests in flight (at most {}); once more stops at once",
            humantime::format_duration(args.pace.timeout)
        );
    };
    let ended = tokio::select! {
        ended = run::run(job) => ended,
        () = signals::watch(&stopper, draining) => unreachable!("it watches for ever"),
    };
    if stopper.is_asked() {
        print_error(&format!(
            "to go on where this run ended: {}",
            resume_command(std::env::args_os())
        ));
    }
    tell(&ended?, args.output.json, logging.quiet)
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
            total: None,
        }
    }

    /// The first pass, over a file: counts the rows, and compares them with the report's.
    fn count(&mut self) -> Result<(), Error> {
        if self.source.can_be_read_twice() {
            let selection = Arc::new(std::mem::take(&mut self.selection));
            let mut rows = 0;
            for step in Plan::open(&self.source, &self.format, Arc::clone(&selection))? {
                step?;
                rows += 1;
            }
            self.total = Some(rows);
            self.selection = Arc::try_unwrap(selection).unwrap_or_else(|shared| (*shared).clone());
        }
        Ok(())
    }

    /// The second pass; the only one over standard input, which then has to be compared with the report on the way.
    fn plan(self) -> Result<(Plan, Option<u64>), Error> {
        let plan = Plan::open(&self.source, &self.format, Arc::new(self.selection))?;
        let plan = match self.total {
            Some(_) => plan,
            None => plan.verify_first(),
        };
        Ok((plan, self.total))
    }
}
