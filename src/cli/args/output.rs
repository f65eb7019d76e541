//! The files of results.

use std::path::PathBuf;

use clap::Args;
use zim_batch::row::ConvType;

use super::RESULTS;
use super::time::{self, Since};
use super::values::offering;

/// Where results are written
#[derive(Debug, Args)]
#[command(next_help_heading = RESULTS)]
pub struct OutputArgs {
    /// Report: a CSV file with one record per row [default: <ROWS stem>.report.csv beside the rows]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// With --users: the rows that were listed, a CSV file with one row per conversation [default: <report stem>.rows.csv;
    /// the list report is <report stem>.list.csv]
    #[arg(id = "rows_file", long = "rows", value_name = "FILE")]
    pub rows_file: Option<PathBuf>,
    /// Outside log: a CSV file with the rows outside the newest 1000 [default: <report stem>.outside.csv]
    #[arg(long, value_name = "FILE")]
    pub outside: Option<PathBuf>,
    /// Same as the check command: read everything, send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write a self-contained HTML page with charts: about once a minute while the run is under way, when the page reloads
    /// itself, and at the end; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Which conversations are listed
#[derive(Debug, Clone, Args)]
pub struct ListingArgs {
    /// List only conversations updated since then: a duration back from now (24h, 7d), a date or a time
    /// (2026-11-25, 2026-11-25T03:00:00; local, unless a zone is given: 2026-11-25T03:00:00Z), or last: since the last run
    /// of this list report that left nothing to do again; with --resume, an unfinished run is resumed, and after a finished
    /// one a new run begins
    #[arg(long, value_name = "WHEN", value_parser = time::since)]
    pub since: Option<Since>,
    /// Process only conversations of this type: peer or group
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true)]
    #[arg(value_parser = offering(str::parse::<ConvType>, ["peer", "group"]))]
    pub conv_type: Option<ConvType>,
}

/// Where the conversations of a list are written
#[derive(Debug, Args)]
#[command(next_help_heading = RESULTS)]
pub struct ListOutputArgs {
    /// Rows: a CSV file with one row per conversation, for clear; - for standard output [default: <USERS stem>.rows.csv
    /// beside the users]
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// List report: a CSV file with one record per user [default: <rows stem>.list.csv; none with --rows -]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// If USERS is an outside log: say of each of its rows whether the conversation is listed, missing, or beyond the
    /// newest 1000
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "conv_type"])]
    pub explain: Option<PathBuf>,
    /// Write a self-contained HTML page with charts of the list report: about once a minute while the run is under way, when
    /// the page reloads itself, and at the end; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}
