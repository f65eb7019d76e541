//! The arguments of `zim-batch report`.

use std::path::PathBuf;

use clap::Args;
use zim_batch::rows::{Columns, Encoding, Types};

use super::values::{self, OnlyWord, offering};
use crate::cli::errors::redact::parse_without_secret;

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Report of a run or of a list, or outside log; - for standard input. Several are read as one: a conversation that stands
    /// in several of them counts by its latest record
    #[arg(value_name = "REPORT", required = true)]
    pub reports: Vec<PathBuf>,
    /// Rows of the run, to count how many have no record yet if the log of runs does not say it
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// Delimiter of the rows, if it can't be detected from the header line: one character, or 'tab'
    #[arg(long, value_name = "CHAR", value_parser = values::delimiter, requires = "rows")]
    pub delimiter: Option<u8>,
    /// Encoding of the rows: a WHATWG label or a code page
    #[arg(long, value_name = "NAME", hide_possible_values = true, requires = "rows")]
    #[arg(value_parser = offering(values::encoding, values::COMMON_ENCODINGS))]
    pub encoding: Option<&'static Encoding>,
    /// Which columns of the rows to read, by header name or by number from 1: user=A,conv=B,type=C
    #[arg(long, value_name = "MAP", requires = "rows", value_parser = parse_without_secret::<Columns>)]
    pub columns: Option<Columns>,
    /// Additional words for the types of the rows: single=0,room=2
    #[arg(long, value_name = "MAP", requires = "rows", value_parser = parse_without_secret::<Types>)]
    pub types: Option<Types>,
    /// With --csv: only records with these outcomes, separated by commas
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', requires = "csv")]
    #[arg(value_parser = offering(values::only, values::outcomes()))]
    pub only: Option<Vec<OnlyWord>>,
    /// Write the records to a CSV file, all columns as they are; with --rows, the rows' own other columns stand behind them
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write a self-contained HTML page with charts; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
