//! How a run continues an earlier one, and how it is followed.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{RESULTS, values};

/// How a run continues an earlier one, and how it is followed
#[derive(Debug, Args)]
#[command(next_help_heading = RESULTS)]
pub struct RunArgs {
    /// Resume where an earlier run with this report ended; start a new run if there is no report yet
    #[arg(long, conflicts_with = "overwrite")]
    pub resume: bool,
    /// Replace existing results
    #[arg(long)]
    pub overwrite: bool,
    /// How to show progress on stderr [default: auto, or none with -q]
    #[arg(long, value_name = "STYLE")]
    pub progress: Option<ProgressStyle>,
    /// Write metrics to a Prometheus text file for node_exporter's textfile collector (FILE should end with .prom)
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// What this job is called in metrics and logs, and for the runs that share its quota [default: <report stem>]
    #[arg(long, value_name = "NAME", value_parser = values::job_name)]
    pub name: Option<String>,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressStyle {
    /// A bar on a terminal, otherwise an occasional line
    Auto,
    /// A bar
    Bar,
    /// An occasional line
    Plain,
    /// Nothing
    None,
}
