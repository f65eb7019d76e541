//! `zim-batch simulate`: a simulator for any program. Also the simulator's options for `clear --simulate`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use zim_batch::files::{OWNER_ONLY, same_file};
use zim_batch::simulator::{self, Options, Outage, OutageKind, World, WorldError};
use zim_batch::stop::StopHandle;
use zim_batch::text::shell_word;

use crate::cli::engine::signals;
use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::shell::print;
use crate::cli::output::shell::print_note;
use crate::cli::settings::secret;

const WORLD: &str = "App and conversations";
const TIMING: &str = "Limit and timing";
const FAULTS: &str = "Faults";

/// The service to simulate
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Port on 127.0.0.1; 0 chooses a free one
    #[arg(long, value_name = "N", default_value = "0")]
    port: u16,
    /// Users and conversations: a CSV file with the columns user, conv, type, and optionally unread and last_active
    /// (milliseconds since 1970). Without last_active, the rows of each user are ordered newest first [default: a
    /// built-in sample, in which every other user exists too, except for those whose ID begins with "nobody"]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    conversations: Option<PathBuf>,
    /// Append the events that clients would receive (conversationChanged) to this file, as JSON lines; - for stdout
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// AppId of the only app that exists
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "12345")]
    app_id: u32,
    /// File that contains the app's secret [default: the secret of ZEGO's documented example]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Maximum requests in any one second, of all Actions together; 0 means no limit
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "20")]
    cap: u32,
    /// Number of each user's newest conversations that are reachable
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "1000")]
    newest: usize,
    /// Time until a request is answered
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "30ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Maximum random time added to the latency
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Maximum random delay before a request counts against the cap
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = humantime::parse_duration)]
    arrival_jitter: Duration,
    /// Other traffic of the same app, in requests per second
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "0", value_parser = parse_competing)]
    competing: f64,
    /// Share of requests answered with a "try again later" code, and of users that QueryUserInfos can't look up, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    error_rate: f64,
    /// Share of requests within the cap that are answered "too many requests", 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    limited_rate: f64,
    /// Share of requests whose connection is reset, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    reset_rate: f64,
    /// An outage: AFTER/LASTS, or AFTER/LASTS/EVERY to repeat it, for example 30s/15s
    #[arg(long, help_heading = FAULTS, value_name = "WHEN", value_parser = parse_outage)]
    outage: Option<Outage>,
    /// How requests fail during an outage
    #[arg(long, help_heading = FAULTS, value_name = "KIND", default_value = "unavailable")]
    outage_kind: OutageKindArg,
    /// Answer requests over the cap with HTTP 429 and this Retry-After
    #[arg(long, help_heading = TIMING, value_name = "DUR", value_parser = humantime::parse_duration)]
    retry_after: Option<Duration>,
    /// Seconds that the simulator's clock is ahead of this machine's clock
    #[arg(long, help_heading = FAULTS, value_name = "SECONDS", default_value = "0", allow_negative_numbers = true)]
    clock_offset: i64,
    /// Seed of the random numbers; the same seed gives the same faults
    #[arg(long, help_heading = FAULTS, value_name = "N", default_value = "0")]
    seed: u64,
}

impl SimulateArgs {
    /// Whether these arguments name this file.
    pub fn uses(&self, file: &Path) -> bool {
        let files = [&self.conversations, &self.events, &self.secret_file];
        files.into_iter().flatten().any(|path| same_file(path, file))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutageKindArg {
    /// HTTP 503
    Unavailable,
    /// The connection is reset
    Reset,
}

/// The simulator of `clear --simulate`: healthy, with an occasional retry, and a cap that fits `rate`.
pub fn demonstration(rate: f64) -> Options {
    Options {
        cap: (rate.ceil() as u32).max(20),
        error_rate: 0.01,
        jitter: Duration::from_millis(20),
        seed: 3,
        ..Options::default()
    }
}

pub async fn simulate(args: SimulateArgs) -> Result<ExitCode, Error> {
    let world = match &args.conversations {
        None => World::sample(),
        Some(path) => File::open(path)
            .map_err(WorldError::Read)
            .and_then(World::from_csv)
            .map_err(|error| Error::Usage(format!("{} (--conversations): {error}", path.display())))?,
    };
    let events = args.events.as_deref().map(open_events).transpose()?;
    let options = options(&args)?;
    let no_port = |error| {
        let port = args.port;
        Error::Usage(format!(
            "can't listen on 127.0.0.1:{port} (--port): {error}; choose another port, or 0 for a free one"
        ))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .await
        .map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    let contents = format!(
        "{} users, {} conversations{}",
        world.users(),
        world.conversations(),
        if world.is_open() {
            "; any other user exists too, unless its ID begins with `nobody`"
        } else {
            ""
        }
    );
    let (secret, other) = match &args.secret_file {
        Some(path) => (
            format!("ZIM_SERVER_SECRET_FILE={}", shell_word(path)),
            "ZIM_SERVER_SECRET",
        ),
        // Not secret: it is printed in ZEGO's documentation.
        None => (
            format!("ZIM_SERVER_SECRET={}", options.server_secret.expose_secret()),
            "ZIM_SERVER_SECRET_FILE",
        ),
    };
    print_note(&format!(
        "simulating ZIM at http://{address}/ ({contents}). To use it from another terminal:\n  \
         export ZIM_ENDPOINT=http://{address} ZIM_APP_ID={}\n  export {secret}\n  unset {other}\nPress Ctrl-C to stop.",
        options.app_id,
    ));
    let stop = StopHandle::new();
    let stats = tokio::select! {
        stats = simulator::serve(listener, world, options, events, stop.stopping()) => stats,
        () = signals::watch(&stop, signals::StatusSignal::none(), |_| (), || ()) => unreachable!("it never completes"),
    };
    let stats = stats.map_err(|error| Error::Unexpected(format!("the simulator failed: {error}")))?;
    let json = serde_json::to_string(&stats).map_err(|error| Error::Unexpected(error.to_string()))?;
    match args.events {
        // Only events are written to stdout.
        Some(path) if path == Path::new("-") => print_note(&json),
        _ => match signals::unless_signaled(move || print(&format!("{json}\n"))).await {
            Ok(printed) => _ = printed?,
            Err(signal) => return Ok(ExitStatus::Signal(signal).into()),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &SimulateArgs) -> Result<Options, Error> {
    let documented = Options::default();
    let server_secret = match &args.secret_file {
        Some(path) => secret::from_file(path, "--secret-file")?.into(),
        None => documented.server_secret,
    };
    Ok(Options {
        app_id: args.app_id,
        server_secret,
        cap: args.cap,
        newest: args.newest,
        latency: args.latency,
        jitter: args.jitter,
        arrival_jitter: args.arrival_jitter,
        competing: args.competing,
        error_rate: args.error_rate,
        limited_rate: args.limited_rate,
        reset_rate: args.reset_rate,
        outage: args.outage.map(|outage| Outage {
            kind: match args.outage_kind {
                OutageKindArg::Unavailable => OutageKind::Unavailable,
                OutageKindArg::Reset => OutageKind::Reset,
            },
            ..outage
        }),
        retry_after: args.retry_after,
        clock_offset: args.clock_offset,
        seed: args.seed,
    })
}

fn open_events(path: &Path) -> Result<Box<dyn Write + Send>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    match OpenOptions::new().create(true).append(true).mode(OWNER_ONLY).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Error::Usage(format!(
            "{} (--events): can't be written: {error}; choose a file that this user can write",
            path.display()
        ))),
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it must be a number from 0 to 1".into()),
    }
}

fn parse_competing(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("it must be a number from 0 to 10000".into()),
    }
}

/// Parses `AFTER/LASTS[/EVERY]`.
fn parse_outage(text: &str) -> Result<Outage, String> {
    let times: Vec<Duration> = text
        .split('/')
        .map(|time| humantime::parse_duration(time).map_err(|error| format!("'{time}': {error}")))
        .collect::<Result<_, _>>()?;
    let (after, lasts, every) = match times[..] {
        [after, lasts] => (after, lasts, None),
        [after, lasts, every] if every > lasts => (after, lasts, Some(every)),
        [_, _, _] => return Err("EVERY must be longer than LASTS".into()),
        _ => return Err("expected AFTER/LASTS or AFTER/LASTS/EVERY, for example 30s/15s".into()),
    };
    Ok(Outage {
        after,
        lasts,
        every,
        kind: OutageKind::Unavailable,
    })
}
