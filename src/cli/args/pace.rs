//! Retries and limits.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use humantime::format_duration;
use zim_batch::client::DEFAULT_TIMEOUT;
use zim_batch::run::Limits;

use super::{PACE, time, values};

/// Retries and limits
#[derive(Debug, Args)]
#[command(next_help_heading = PACE)]
pub struct PaceArgs {
    /// Maximum requests in flight
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_in_flight, value_parser = values::in_flight)]
    pub max_in_flight: NonZeroUsize,
    /// Time limit for one attempt
    #[arg(long, value_name = "DUR", default_value = format_duration(DEFAULT_TIMEOUT).to_string(), value_parser = time::duration)]
    pub timeout: Duration,
    /// Maximum attempts per row; for list, per page of a user
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_attempts, value_parser = values::attempts)]
    pub max_attempts: NonZeroU32,
    /// Stop after the service has been unreachable for this long [default: 30m; for check: 30s]
    #[arg(long, value_name = "DUR", value_parser = time::duration)]
    pub give_up_after: Option<Duration>,
    /// Stop after this many failed rows (for list: users)
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_failures: Option<NonZeroU64>,
    /// After this long, start no more rows and finish the requests in flight
    #[arg(long, value_name = "DUR", value_parser = time::duration)]
    pub max_duration: Option<Duration>,
    /// Send at most this many rows that are not done yet, then end normally
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub limit: Option<NonZeroU64>,
    /// Exit with status 75 instead of sharing the quota with another run of the app
    #[arg(long)]
    pub no_wait: bool,
}
