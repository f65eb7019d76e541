//! The arguments as typed. `settings` turns them into settings.

pub mod examples;
pub mod given;

use std::ffi::OsString;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use zim_batch::journal::IfExists;
use zim_batch::row::ConvType;
use zim_batch::rows::{Columns, Encoding, Only, Selection, Source, Types};

use crate::cli::commands::completions::{self, offering};
use crate::cli::commands::{codes, config, report, simulate};
use crate::cli::output::progress::Style;
use crate::cli::settings;
pub use given::Given;

/// Clear the unread counts of ZIM conversations in bulk: paced, signed, retried, reported row by row, resumable
#[derive(Debug, Parser)]
#[command(name = "zim-batch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = examples::FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub logging: Logging,
    /// What was given, for commands to run next.
    #[arg(skip)]
    pub given: Given,
}

/// The headings of the groups of flags, in the help.
pub const APP: &str = "App";
pub const RESULTS: &str = "Results";
pub const PACE: &str = "Rate and limits";
pub const LOGS: &str = "Output on stderr";

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

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clear the unread count of every row's conversation
    #[command(after_help = examples::CLEAR)]
    Clear(Box<ClearArgs>),
    /// List the conversations of users as rows for clear
    #[command(after_help = examples::LIST)]
    List(Box<ListArgs>),
    /// Read and validate all rows, clear nothing
    #[command(after_help = examples::CHECK)]
    Check(Box<CheckArgs>),
    /// Summarize the report of a run, finished or still running
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Run a local ZIM server that enforces the documented rules, until stopped
    #[command(after_help = examples::SIMULATE)]
    Simulate(Box<simulate::SimulateArgs>),
    /// Explain ZIM's return codes, offline
    #[command(after_help = examples::CODES)]
    Codes {
        /// The codes to explain; without any, list all
        #[arg(allow_negative_numbers = true, hide_possible_values = true)]
        #[arg(value_parser = offering(codes::parse, completions::codes()))]
        codes: Vec<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show which settings are in force, and where each comes from
    #[command(after_help = config::EXAMPLES)]
    Config(Box<config::ConfigArgs>),
    /// Print the completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "Examples:\n  zim-batch man | man -l -")]
    Man,
}

/// How to read the input
#[derive(Debug, Clone, Args)]
pub struct DialectArgs {
    /// Delimiter, if it can't be detected from the header line: one character, or 'tab'
    #[arg(long, value_name = "CHAR", value_parser = settings::parse_delimiter)]
    pub delimiter: Option<u8>,
    /// Encoding: a WHATWG label or a code page, such as gbk, cp936 or windows-1252 [default: UTF-8, or UTF-16 with a byte
    /// order mark]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    #[arg(value_parser = offering(settings::parse_encoding, settings::COMMON_ENCODINGS))]
    pub encoding: Option<&'static Encoding>,
    /// If the input is an earlier report: take only what has these outcomes, separated by commas
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    #[arg(value_parser = offering(settings::parse_only, completions::outcomes()))]
    pub only: Option<Vec<settings::OnlyWord>>,
    /// Don't exit with status 3 because of invalid records
    #[arg(long)]
    pub ignore_invalid: bool,
}

impl DialectArgs {
    pub fn only(&self) -> Option<Only> {
        let words = self.only.as_ref()?;
        let outcomes: Option<Vec<_>> = words.iter().map(|word| word.0).collect();
        Some(outcomes.map_or(Only::All, Only::Outcomes))
    }
}

/// Where the rows are, and how to read them
#[derive(Debug, Clone, Args)]
pub struct RowsArgs {
    /// CSV file with a user, a conversation and a type (0 or peer, 2 or group) in each row; - for standard input
    #[arg(value_name = "ROWS")]
    pub rows: PathBuf,
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Which columns to read, by header name or by number from 1: user=A,conv=B,type=C or user=2,conv=5,type=3
    #[arg(long, value_name = "MAP")]
    pub columns: Option<Columns>,
    /// Additional words for the types: single=0,room=2
    #[arg(long, value_name = "MAP")]
    pub types: Option<Types>,
    /// Send repeated rows (same user, conv and type) only once
    #[arg(long)]
    pub dedupe: bool,
}

impl RowsArgs {
    pub fn source(&self) -> Source {
        Source::from(self.rows.clone())
    }

    pub fn selection(&self) -> Selection {
        Selection {
            only: self.dialect.only(),
            dedupe: self.dedupe,
            ..Selection::default()
        }
    }
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub rows: RowsArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Also ask ZIM which users exist, 100 per request; the cheapest way to try credentials and endpoint
    #[arg(long)]
    pub online: bool,
    /// With --online: write the rows of users who do not exist to this CSV file
    #[arg(long, value_name = "FILE", requires = "online")]
    pub missing: Option<PathBuf>,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub simulator: SimulatorArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
}

/// Where the users are, and how to read them
#[derive(Debug, Clone, Args)]
pub struct UsersArgs {
    /// CSV file with a user in each record, such as a list of users, rows, or a report; - for standard input
    #[arg(value_name = "USERS")]
    pub users: PathBuf,
    #[command(flatten)]
    pub dialect: DialectArgs,
    /// Which column has the users, by header name or by number from 1: user=A or user=2 [default: the column with a usual
    /// name, else the first]
    #[arg(long, value_name = "MAP")]
    pub columns: Option<Columns>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub users: UsersArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub simulator: SimulatorArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
}

/// Which conversations are listed, and where
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
    /// List only conversations updated since then: a duration back from now (24h, 7d) or a date (2026-11-25,
    /// 2026-11-25T03:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = settings::parse_since)]
    pub since: Option<settings::Since>,
    /// List only conversations of this type: peer or group
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true)]
    #[arg(value_parser = offering(str::parse::<ConvType>, ["peer", "group"]))]
    pub conv_type: Option<ConvType>,
    /// If USERS is an outside log: say of each of its rows whether the conversation is listed, missing, or beyond the
    /// newest 1000
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "conv_type"])]
    pub explain: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ClearArgs {
    #[command(flatten)]
    pub rows: RowsArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub simulator: SimulatorArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
}

/// Where results are written
#[derive(Debug, Args)]
#[command(next_help_heading = RESULTS)]
pub struct OutputArgs {
    /// Report: a CSV file with one record per row [default: <ROWS stem>.report.csv beside the rows]
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Outside log: a CSV file with the rows outside the newest 1000 [default: <report stem>.outside.csv]
    #[arg(long, value_name = "FILE")]
    pub outside: Option<PathBuf>,
    /// Same as the check command: read everything, send nothing
    #[arg(long)]
    pub dry_run: bool,
    /// At the end, write a self-contained HTML page with charts; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

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
    /// Print the summary as one JSON object
    #[arg(long)]
    pub json: bool,
}

impl RunArgs {
    pub fn existing(&self) -> IfExists {
        match (self.resume, self.overwrite) {
            (true, _) => IfExists::Resume,
            (_, true) => IfExists::Overwrite,
            _ => IfExists::Refuse,
        }
    }
}

/// The app, where its requests are sent, and how many per second
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
pub struct AppArgs {
    // Variables are read in app.rs, not by clap: an empty one counts as not set, one that is not UTF-8 is refused.
    /// Profile in the configuration file: provides what is neither given here nor in the environment; see zim-batch config
    /// --help [env: ZIM_PROFILE] [default: the profile named default, if there is one]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// AppId [env: ZIM_APP_ID]
    #[arg(long, value_name = "N")]
    pub app_id: Option<String>,
    /// File that contains the ServerSecret. Alternatively, set ZIM_SERVER_SECRET to the secret itself. This flag takes
    /// precedence over both variables [env: ZIM_SERVER_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// ZIM region nearest to this machine; can't be combined with ZIM_ENDPOINT
    #[arg(long, conflicts_with = "endpoint", ignore_case = true)]
    pub region: Option<Region>,
    /// Base URL, for a domain of your own [env: ZIM_ENDPOINT] [default: https://zim-api.zego.im]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Also trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Maximum requests in any one second, including retries; a fraction is an average (2.5: five in two seconds)
    /// [default: 20]
    #[arg(long, help_heading = PACE, value_name = "N", value_parser = settings::parse_rate)]
    pub rate: Option<f64>,
    /// Share the quota with runs on other machines too, through this Redis or Valkey: redis://, rediss:// or redis+unix://. Set
    /// the variable if the URL has a password: other users of the machine can read command lines [env: ZIM_QUOTA]
    // Hidden: a command that is shown must not have it if it may have a password in it.
    #[arg(long, help_heading = PACE, value_name = "URL", hide_env_values = true)]
    pub quota: Option<String>,
    /// Directory of the files through which runs on this machine share an app's quota; must be the same for all runs
    /// [env: ZIM_LOCK_DIR] [default: /tmp]
    #[arg(long, help_heading = PACE, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub lock_dir: Option<PathBuf>,
}

/// Whether requests go to a simulator instead of ZIM
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
pub struct SimulatorArgs {
    /// Use a private simulator: needs no credentials, sends nothing over the network
    #[arg(long, conflicts_with_all = ["endpoint", "region", "ca_cert", "quota"])]
    pub simulate: bool,
}

/// Retries and limits
#[derive(Debug, Args)]
#[command(next_help_heading = PACE)]
pub struct PaceArgs {
    /// Maximum requests in flight
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_in_flight: u32,
    /// Time limit for one attempt
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = settings::parse_duration)]
    pub timeout: Duration,
    /// Maximum attempts per row; for list, per page of a user
    #[arg(long, value_name = "N", default_value = "6", value_parser = settings::parse_attempts)]
    pub max_attempts: NonZeroU32,
    /// Stop after the service has been unreachable for this long [default: 30m; for check: 30s]
    #[arg(long, value_name = "DUR", value_parser = settings::parse_duration)]
    pub give_up_after: Option<Duration>,
    /// Stop after this many failed rows (for list: users)
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    pub max_failures: Option<NonZeroU64>,
    /// After this long, start no more rows and finish the requests in flight
    #[arg(long, value_name = "DUR", value_parser = settings::parse_duration)]
    pub max_duration: Option<Duration>,
    /// Send at most this many rows that are not done yet, then end normally
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    pub limit: Option<NonZeroU64>,
    /// Exit with status 75 instead of sharing the quota, if another run on this machine uses the same app
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Region {
    /// Shanghai
    Sha,
    /// Hong Kong
    Hkg,
    /// Frankfurt
    Fra,
    /// California
    Lax,
    /// Mumbai
    Bom,
    /// Singapore
    Sgp,
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

impl From<ProgressStyle> for Style {
    fn from(style: ProgressStyle) -> Style {
        match style {
            ProgressStyle::Auto => Style::Auto,
            ProgressStyle::Bar => Style::Bar,
            ProgressStyle::Plain => Style::Plain,
            ProgressStyle::None => Style::None,
        }
    }
}

impl Cli {
    /// The arguments of this process.
    pub fn typed() -> Result<Cli, clap::Error> {
        Cli::from_words(std::env::args_os()).map_err(|mut error| {
            if let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg)
                && let Some(command) = command_after(flag)
            {
                let tip = format!("write it after the command: zim-batch {command} {flag} …");
                error.remove(ContextKind::SuggestedArg);
                error.remove(ContextKind::Usage);
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
            }
            error
        })
    }

    /// Parses a command line, which begins with the program.
    pub fn from_words(words: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Cli, clap::Error> {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut command = Cli::command();
        let matches = command.try_get_matches_from_mut(&words)?;
        let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let program = words.into_iter().next().unwrap_or_default();
        cli.given = Given::new(program, &command, &matches);
        Ok(cli)
    }
}

/// The typed command that takes a flag, if the flag is typed before the command.
fn command_after(flag: &str) -> Option<String> {
    let typed: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into())
        .collect();
    let program = Cli::command();
    let (index, command) = typed
        .iter()
        .enumerate()
        .find_map(|(index, word)| Some((index, program.find_subcommand(word)?)))?;
    let takes_it = |arg: &clap::Arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long));
    let is_before = typed[..index].iter().any(|word| word.split('=').next() == Some(flag));
    (is_before && command.get_arguments().any(takes_it)).then(|| command.get_name().to_owned())
}
