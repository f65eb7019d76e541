//! The arguments as typed. `settings.rs` turns them into settings; each command has a file of its name.

mod app;
mod batch;
mod check;
mod clear;
mod codes;
mod completions;
mod config;
mod derived;
mod error;
mod examples;
mod exit_status;
mod hints;
mod list;
pub mod logging;
mod lossy;
mod metrics;
mod origin;
pub mod process;
mod profile;
mod progress;
mod report;
mod rerun;
mod secret;
mod session;
mod settings;
mod shell;
mod signals;
mod simulate;
mod table;

use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_mangen::Man;
use zim_batch::report::IfExists;
use zim_batch::row::ConvType;
use zim_batch::rows::{Columns, Encoding, Only, Selection, Source, Types};

use completions::offering;
use error::Error;
pub use exit_status::ExitStatus;
use progress::{Style, Terminal};
pub use shell::{fail, fail_early, print, print_error, usage_error};

/// Clear the unread counts of ZIM conversations in bulk: paced, signed, retried, reported row by row, resumable
#[derive(Debug, Parser)]
#[command(name = "zim-batch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = examples::FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

/// The headings of the groups of flags, in the help.
const APP: &str = "App";
const PACE: &str = "Rate and limits";
const LOGS: &str = "Output on stderr";

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
enum Command {
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
    delimiter: Option<u8>,
    /// Encoding: a WHATWG label or a code page, such as gbk, cp936 or windows-1252 [default: UTF-8, or UTF-16 with a byte
    /// order mark]
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    #[arg(value_parser = offering(settings::parse_encoding, settings::COMMON_ENCODINGS))]
    encoding: Option<&'static Encoding>,
    /// If the input is an earlier report: take only what has these outcomes, separated by commas
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',')]
    #[arg(value_parser = offering(settings::parse_only, completions::outcomes()))]
    only: Option<Vec<settings::OnlyWord>>,
    /// Don't exit with status 3 because of invalid records
    #[arg(long)]
    ignore_invalid: bool,
}

impl DialectArgs {
    fn only(&self) -> Option<Only> {
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
    rows: PathBuf,
    #[command(flatten)]
    dialect: DialectArgs,
    /// Which columns to read, by header name or by number from 1: user=A,conv=B,type=C or user=2,conv=5,type=3
    #[arg(long, value_name = "MAP")]
    columns: Option<Columns>,
    /// Additional words for the types: single=0,room=2
    #[arg(long, value_name = "MAP")]
    types: Option<Types>,
    /// Send repeated rows (same user, conv and type) only once
    #[arg(long)]
    dedupe: bool,
}

impl RowsArgs {
    fn source(&self) -> Source {
        Source::from(self.rows.clone())
    }

    fn selection(&self) -> Selection {
        Selection {
            only: self.dialect.only(),
            dedupe: self.dedupe,
            ..Selection::default()
        }
    }
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also ask ZIM which users exist, 100 per request; the cheapest way to try credentials and endpoint
    #[arg(long)]
    online: bool,
    /// With --online: write the rows of users who do not exist to this CSV file
    #[arg(long, value_name = "FILE", requires = "online")]
    missing: Option<PathBuf>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    simulator: SimulatorArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Where the users are, and how to read them
#[derive(Debug, Clone, Args)]
pub struct UsersArgs {
    /// CSV file with a user in each record, such as a list of users, rows, or a report; - for standard input
    #[arg(value_name = "USERS")]
    users: PathBuf,
    #[command(flatten)]
    dialect: DialectArgs,
    /// Which column has the users, by header name or by number from 1: user=A or user=2 [default: the column with a usual
    /// name, else the first]
    #[arg(long, value_name = "MAP")]
    columns: Option<Columns>,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    users: UsersArgs,
    #[command(flatten)]
    output: ListOutputArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    simulator: SimulatorArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Which conversations are listed, and where
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
struct ListOutputArgs {
    /// Rows: a CSV file with one row per conversation, for clear; - for standard output [default: <USERS stem>.rows.csv
    /// beside the users]
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// List report: a CSV file with one record per user [default: <rows stem>.list.csv; none with --rows -]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// List only conversations updated since then: a duration back from now (24h, 7d) or a date (2026-11-25,
    /// 2026-11-25T03:00:00Z)
    #[arg(long, value_name = "WHEN", value_parser = settings::parse_since)]
    since: Option<settings::Since>,
    /// List only conversations of this type: peer or group
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true)]
    #[arg(value_parser = offering(str::parse::<ConvType>, ["peer", "group"]))]
    conv_type: Option<ConvType>,
    /// If USERS is an outside log: say of each of its rows whether the conversation is listed, missing, or beyond the
    /// newest 1000
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "conv_type"])]
    explain: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ClearArgs {
    #[command(flatten)]
    rows: RowsArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    simulator: SimulatorArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Where results are written
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
struct OutputArgs {
    /// Report: a CSV file with one record per row [default: <ROWS stem>.report.csv beside the rows]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Outside log: a CSV file with the rows outside the newest 1000 [default: <report stem>.outside.csv]
    #[arg(long, value_name = "FILE")]
    outside: Option<PathBuf>,
    /// Same as the check command: read everything, send nothing
    #[arg(long)]
    dry_run: bool,
    /// At the end, write a self-contained HTML page with charts; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// How a run continues an earlier one, and how it is followed
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
struct RunArgs {
    /// Resume where an earlier run with this report ended; start a new run if there is no report yet
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace existing results
    #[arg(long)]
    overwrite: bool,
    /// How to show progress on stderr [default: auto, or none with -q]
    #[arg(long, value_name = "STYLE")]
    progress: Option<ProgressStyle>,
    /// Write metrics to a Prometheus text file for node_exporter's textfile collector (FILE should end with .prom)
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    fn existing(&self) -> IfExists {
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
struct AppArgs {
    // Variables are read in app.rs, not by clap: an empty one counts as not set, one that is not UTF-8 is refused.
    /// Profile in the configuration file: provides what is neither given here nor in the environment; see zim-batch config
    /// --help [env: ZIM_PROFILE] [default: the profile named default, if there is one]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// AppId [env: ZIM_APP_ID]
    #[arg(long, value_name = "N")]
    app_id: Option<String>,
    /// File that contains the ServerSecret. Alternatively, set ZIM_SERVER_SECRET to the secret itself. This flag takes
    /// precedence over both variables [env: ZIM_SERVER_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// ZIM region nearest to this machine; can't be combined with ZIM_ENDPOINT
    #[arg(long, conflicts_with = "endpoint", ignore_case = true)]
    region: Option<Region>,
    /// Base URL, for a domain of your own [env: ZIM_ENDPOINT] [default: https://zim-api.zego.im]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Also trust the certificates in this PEM file
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Maximum requests in any one second, including retries; a fraction is an average (2.5: five in two seconds)
    /// [default: 20]
    #[arg(long, help_heading = PACE, value_name = "N", value_parser = settings::parse_rate)]
    rate: Option<f64>,
    /// Share the quota with runs on other machines too, through this Redis or Valkey: redis://, rediss:// or redis+unix://. Set
    /// the variable if the URL has a password: other users of the machine can read command lines [env: ZIM_QUOTA]
    #[arg(long, help_heading = PACE, value_name = "URL")]
    quota: Option<String>,
    /// Directory of the files through which runs on this machine share an app's quota; must be the same for all runs
    /// [env: ZIM_LOCK_DIR] [default: /tmp]
    #[arg(long, help_heading = PACE, value_name = "DIR", value_hint = ValueHint::DirPath)]
    lock_dir: Option<PathBuf>,
}

/// Whether requests go to a simulator instead of ZIM
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
struct SimulatorArgs {
    /// Use a private simulator: needs no credentials, sends nothing over the network
    #[arg(long, conflicts_with_all = ["endpoint", "region", "ca_cert", "quota"])]
    simulate: bool,
}

/// Retries and limits
#[derive(Debug, Args)]
#[command(next_help_heading = PACE)]
struct PaceArgs {
    /// Maximum requests in flight
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_in_flight: u32,
    /// Time limit for one attempt
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = settings::parse_duration)]
    timeout: Duration,
    /// Maximum attempts per row; for list, per page of a user
    #[arg(long, value_name = "N", default_value = "6", value_parser = settings::parse_attempts)]
    max_attempts: NonZeroU32,
    /// Stop after the service has been unreachable for this long [default: 30m; for check: 30s]
    #[arg(long, value_name = "DUR", value_parser = settings::parse_duration)]
    give_up_after: Option<Duration>,
    /// Stop after this many failed rows (for list: users)
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    max_failures: Option<NonZeroU64>,
    /// After this long, start no more rows and finish the requests in flight
    #[arg(long, value_name = "DUR", value_parser = settings::parse_duration)]
    max_duration: Option<Duration>,
    /// Send at most this many rows that are not done yet, then end normally
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    limit: Option<NonZeroU64>,
    /// Exit with status 75 instead of sharing the quota, if another run on this machine uses the same app
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Region {
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
enum ProgressStyle {
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
        Cli::try_parse().map_err(|mut error| {
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

    /// The logging options.
    pub fn logging(&self) -> &Logging {
        &self.logging
    }

    /// Refuses a log file that is also an input or an output: log lines would corrupt it.
    pub fn check_log_file(&self) -> Result<(), Error> {
        let Some(file) = &self.logging.log_file else {
            return Ok(());
        };
        let is_used = match &self.command {
            Command::Clear(args) => clear::uses(args, file),
            Command::List(args) => list::uses(args, file),
            Command::Check(args) => check::uses(args, file),
            Command::Report(args) => args.uses(file),
            Command::Simulate(args) => args.uses(file),
            Command::Config(args) => args.uses(file),
            Command::Codes { .. } | Command::Completions { .. } | Command::Man => false,
        };
        match is_used {
            true => Err(Error::Usage(format!(
                "--log-file {}: this command already uses the file for something else; name another one",
                file.display()
            ))),
            false => Ok(()),
        }
    }

    /// Runs the command.
    pub async fn run(self, terminal: Terminal) -> Result<ExitCode, Error> {
        match self.command {
            Command::Clear(args) => clear::clear(*args, &self.logging, terminal).await,
            Command::Check(args) => check::check(*args, &self.logging, terminal).await,
            Command::List(args) => list::list(*args, &self.logging, terminal).await,
            Command::Report(args) => report::report(&args),
            Command::Simulate(args) => simulate::simulate(*args).await,
            Command::Codes { codes, json } => codes::codes(&codes, json),
            Command::Config(args) => config::config(&args),
            Command::Completions { shell } => completions::completions(shell),
            Command::Man => {
                let mut page = Vec::new();
                man(&mut page).map_err(|error| Error::Unexpected(error.to_string()))?;
                print(&String::from_utf8_lossy(&page))
            }
        }
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

/// Writes one page: the program, then each command with its options and examples.
fn man(page: &mut Vec<u8>) -> io::Result<()> {
    let command = Cli::command().subcommand_value_name("command");
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let commands = || command.get_subcommands().filter(|sub| sub.get_name() != "help");
    writeln!(page, ".SH COMMANDS")?;
    for sub in commands() {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, ".TP\n\\fB{}\\fR\n{}", sub.get_name(), about.replace('-', "\\-"))?;
    }
    render_examples(&man, page)?;
    for sub in commands() {
        let name = format!("zim-batch {}", sub.get_name());
        let man = Man::new(sub.clone().bin_name(name.clone()));
        writeln!(page, ".SH {}", name.to_uppercase())?;
        man.render_description_section(page)?;
        man.render_synopsis_section(page)?;
        man.render_options_section(page)?;
        render_examples(&man, page)?;
    }
    man.render_version_section(page)
}

/// Writes the text at the end of a help, most of which are examples.
fn render_examples(man: &Man, page: &mut Vec<u8>) -> io::Result<()> {
    let mut section = Vec::new();
    man.render_extra_section(&mut section)?;
    let section = String::from_utf8_lossy(&section).replacen(".SH EXTRA", ".SH EXAMPLES", 1);
    page.write_all(section.as_bytes())
}
