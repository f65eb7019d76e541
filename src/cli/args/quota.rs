//! The arguments of `zim-batch quota`.

use std::time::Duration;

use clap::Args;

use super::app::QuotaAppArgs;
use super::values::{self, offering};
use super::{PACE, time};

#[derive(Debug, Args)]
pub struct QuotaArgs {
    /// Limit all runs of the app together to N requests in any second, from now on, and those that start later: 0 pauses them,
    /// off ends the limit. It never makes a run faster than its own --rate
    #[arg(long, value_name = "N|off", help_heading = PACE, allow_negative_numbers = true)]
    #[arg(hide_possible_values = true, value_parser = offering(values::limit, ["off"]))]
    pub limit: Option<LimitWord>,
    /// End the limit by itself after this long. Without it, it is kept until it is ended, or until no run has used it for a day
    #[arg(long = "for", value_name = "DUR", help_heading = PACE, value_parser = time::limit_duration, requires = "limit")]
    #[arg(allow_negative_numbers = true)]
    pub lasts: Option<Duration>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub app: QuotaAppArgs,
}

/// The value of `--limit`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LimitWord {
    Off,
    Pause,
    Rate(zim_batch::Rate),
}
