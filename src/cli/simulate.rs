//! `zim-batch simulate`: ZIM on loopback, to point any program at; and the simulator that `--simulate` runs against.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::net::TcpListener;
use zim_batch::simulator::{self, Options, Outage, OutageKind, World};
use zim_batch::stop::StopHandle;

use super::error::Error;
use super::shell::print_note;
use super::{ExitStatus, print, secret, settings, signals};

const WORLD: &str = "World";
const TIMING: &str = "Limit and timing";
const FAULTS: &str = "Faults";

/// The service to simulate
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "N", default_value = "0")]
    port: u16,
    /// The world's users and conversations: a CSV with user, conv, type, and perhaps unread and last_active;
    /// a user's rows are newest first, unless last_active says otherwise [default: a built-in sample]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    conversations: Option<PathBuf>,
    /// Write what clients would be told (conversationChanged) as JSON lines to this file; - is stdout
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The app that exists
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "12345")]
    app_id: u32,
    /// A file with the app's secret [default: that of ZEGO's documented example]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Requests let through in any second; 0 is no cap
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "20")]
    cap: u32,
    /// How many of a user's newest conversations are reachable
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "1000")]
    newest: usize,
    /// How long an answer takes
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "30ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// An answer takes up to this much longer, by chance
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// A request is on its way up to this long, by chance, before it is counted
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = humantime::parse_duration)]
    arrival_jitter: Duration,
    /// Other traffic of the same app, in requests a second
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "0", value_parser = parse_competing)]
    competing: f64,
    /// The share of requests answered with a "try again later" code, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    error_rate: f64,
    /// The share of requests answered "too many" although they are not, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    limited_rate: f64,
    /// The share of requests whose connection is reset, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    reset_rate: f64,
    /// An outage: AFTER/LASTS, or AFTER/LASTS/EVERY to have it come again, say 30s/15s
    #[arg(long, help_heading = FAULTS, value_name = "WHEN", value_parser = parse_outage)]
    outage: Option<Outage>,
    /// What requests meet in an outage
    #[arg(long, help_heading = FAULTS, value_name = "KIND", default_value = "unavailable")]
    outage_kind: Kind,
    /// Turn requests over the cap away with HTTP 429 and this Retry-After
    #[arg(long, help_heading = TIMING, value_name = "DUR", value_parser = humantime::parse_duration)]
    retry_after: Option<Duration>,
    /// How many seconds the service's clock is ahead of this machine's
    #[arg(long, help_heading = FAULTS, value_name = "SECONDS", default_value = "0", allow_negative_numbers = true)]
    clock_offset: i64,
    /// Where all chance begins: the same seed, the same faults
    #[arg(long, help_heading = FAULTS, value_name = "N", default_value = "0")]
    seed: u64,
}

impl SimulateArgs {
    /// Whether this file is read or written.
    pub fn uses(&self, file: &Path) -> bool {
        let files = [&self.conversations, &self.events, &self.secret_file];
        files.into_iter().flatten().any(|path| settings::same_file(path, file))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// HTTP 503
    Unavailable,
    /// The connection is reset
    Reset,
}

/// The service of `clear --simulate`: mostly well, with a retry now and then, and a cap like the one that is asked for.
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
            .map_err(|error| error.to_string())
            .and_then(|file| World::from_csv(io::BufReader::new(file)).map_err(|error| error.to_string()))
            .map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?,
    };
    let events = args.events.as_deref().map(open_events).transpose()?;
    let options = options(&args)?;
    let no_port = |error| Error::Usage(format!("127.0.0.1:{}: can't be listened at: {error}", args.port));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port))
        .await
        .map_err(no_port)?;
    let address = listener.local_addr().map_err(no_port)?;
    let inhabitants = format!(
        "{} users, {} conversations{}",
        world.users(),
        world.conversations(),
        if world.is_open() {
            ", and everybody else is welcome"
        } else {
            ""
        }
    );
    print_note(&format!(
        "simulating ZIM at http://{address}/ ({inhabitants}). To use it from another terminal:\n  \
         export ZIM_ENDPOINT=http://{address} ZIM_APP_ID={}\n  export {}\nCtrl-C ends it.",
        options.app_id,
        match &args.secret_file {
            Some(path) => format!("ZIM_SERVER_SECRET_FILE={}", path.display()),
            None => format!("ZIM_SERVER_SECRET={}", options.server_secret),
        }
    ));
    let stop = StopHandle::new();
    let tally = tokio::select! {
        tally = simulator::serve(listener, world, options, events, stop.asked()) => tally,
        () = signals::watch(&stop, signals::StatusAsked::none(), |_| (), || ()) => unreachable!("it watches for ever"),
    };
    let tally = tally.map_err(|error| Error::Unexpected(format!("the simulator failed: {error}")))?;
    let json = serde_json::to_string(&tally).map_err(|error| Error::Unexpected(error.to_string()))?;
    match args.events {
        // Stdout is for the events alone.
        Some(path) if path == Path::new("-") => print_note(&json),
        _ => match signals::unless_ended(move || print(&format!("{json}\n"))).await {
            Ok(printed) => _ = printed?,
            Err(signal) => return Ok(ExitStatus::Signal(signal).into()),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn options(args: &SimulateArgs) -> Result<Options, Error> {
    let documented = Options::default();
    let server_secret = match &args.secret_file {
        Some(path) => secret::from_file(path)?,
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
                Kind::Unavailable => OutageKind::Unavailable,
                Kind::Reset => OutageKind::Reset,
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
    match OpenOptions::new().create(true).append(true).open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Error::Usage(format!("{}: can't be written: {error}", path.display()))),
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

/// `AFTER/LASTS[/EVERY]`.
fn parse_outage(text: &str) -> Result<Outage, String> {
    let times: Vec<Duration> = text
        .split('/')
        .map(|time| humantime::parse_duration(time).map_err(|error| format!("'{time}': {error}")))
        .collect::<Result<_, _>>()?;
    let (after, lasts, every) = match times[..] {
        [after, lasts] => (after, lasts, None),
        [after, lasts, every] if every > lasts => (after, lasts, Some(every)),
        [_, _, _] => return Err("it must come again later than it ends".into()),
        _ => return Err("write it as AFTER/LASTS or AFTER/LASTS/EVERY, say 30s/15s".into()),
    };
    Ok(Outage {
        after,
        lasts,
        every,
        kind: OutageKind::Unavailable,
    })
}
