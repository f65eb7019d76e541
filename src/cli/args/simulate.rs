//! The arguments of `zim-batch simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use zim_batch::simulator::{Outage, OutageKind};

use super::time::duration_or_zero;

const WORLD: &str = "App and conversations";
const TIMING: &str = "Limit and timing";
const FAULTS: &str = "Faults";

/// The service to simulate
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// Port on 127.0.0.1; 0 chooses a free one
    #[arg(long, value_name = "N", default_value = "0")]
    pub port: u16,
    /// Users and conversations: a CSV file with the columns user, conv, type, and optionally unread and last_active
    /// (milliseconds since 1970). Without last_active, the rows of each user are ordered newest first [default: a
    /// built-in sample, in which every other user exists too, except for those whose ID begins with "nobody"]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    pub conversations: Option<PathBuf>,
    /// Append the events that clients would receive (conversationChanged) to this file, as JSON lines; - for stdout
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// AppId of the only app that exists
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "12345")]
    pub app_id: u32,
    /// File that contains the app's secret [default: the secret of ZEGO's documented example]
    #[arg(long, help_heading = WORLD, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Maximum requests in any one second, of all Actions together; 0 means no limit
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "20")]
    pub cap: u32,
    /// Number of each user's newest conversations that are reachable
    #[arg(long, help_heading = WORLD, value_name = "N", default_value = "1000")]
    pub newest: usize,
    /// Time until a request is answered
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "30ms", value_parser = duration_or_zero)]
    pub latency: Duration,
    /// Maximum random time added to the latency
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = duration_or_zero)]
    pub jitter: Duration,
    /// Maximum random delay before a request counts against the cap
    #[arg(long, help_heading = TIMING, value_name = "DUR", default_value = "0ms", value_parser = duration_or_zero)]
    pub arrival_jitter: Duration,
    /// Other traffic of the same app, in requests per second
    #[arg(long, help_heading = TIMING, value_name = "N", default_value = "0", value_parser = parse_competing)]
    pub competing: f64,
    /// Share of requests answered with a "try again later" code, and of users that QueryUserInfos can't look up, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub error_rate: f64,
    /// Share of requests within the cap that are answered "too many requests", 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub limited_rate: f64,
    /// Share of requests whose connection is reset, 0 to 1
    #[arg(long, help_heading = FAULTS, value_name = "SHARE", default_value = "0", value_parser = parse_share)]
    pub reset_rate: f64,
    /// An outage: AFTER/LASTS, or AFTER/LASTS/EVERY to repeat it, for example 30s/15s
    #[arg(long, help_heading = FAULTS, value_name = "WHEN", value_parser = parse_outage)]
    pub outage: Option<Outage>,
    /// How requests fail during an outage
    #[arg(long, help_heading = FAULTS, value_name = "KIND", default_value = "unavailable")]
    pub outage_kind: OutageKindArg,
    /// Answer requests over the cap with HTTP 429 and this Retry-After
    #[arg(long, help_heading = TIMING, value_name = "DUR", value_parser = duration_or_zero)]
    pub retry_after: Option<Duration>,
    /// Seconds that the simulator's clock is ahead of this machine's clock
    #[arg(long, help_heading = FAULTS, value_name = "SECONDS", default_value = "0", allow_negative_numbers = true)]
    pub clock_offset: i64,
    /// Seed of the random numbers; the same seed gives the same faults
    #[arg(long, help_heading = FAULTS, value_name = "N", default_value = "0")]
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutageKindArg {
    /// HTTP 503
    Unavailable,
    /// The connection is reset
    Reset,
}

impl From<OutageKindArg> for OutageKind {
    fn from(kind: OutageKindArg) -> OutageKind {
        match kind {
            OutageKindArg::Unavailable => OutageKind::Unavailable,
            OutageKindArg::Reset => OutageKind::Reset,
        }
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
        .map(|time| duration_or_zero(time).map_err(|error| format!("'{time}': {error}")))
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
