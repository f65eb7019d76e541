//! Log lines: how many, in which format, and where.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::LOGS;

/// How much is written to stderr, and in which format
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = LOGS)]
pub struct Logging {
    /// Print errors only, and no summary table when all rows succeeded
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more: -v the start, the end and every answer that is not a success; -vv every answer
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Format of log lines
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Also append the log lines, with timestamps, to this file
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text
    Text,
    /// One JSON object per line
    Json,
}
