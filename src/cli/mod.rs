//! Arguments as typed. What they come to is in `settings.rs`; what they do, in the file named like the command.

mod again;
mod check;
mod clear;
mod codes;
mod error;
mod exit_status;
mod hints;
pub mod logging;
mod lossy;
mod metrics;
pub mod process;
mod progress;
mod report;
mod secret;
mod settings;
mod shell;
mod signals;
mod simulate;
mod table;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::num::{NonZeroU32, NonZeroU64};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use zim_batch::rows::{Columns, Encoding, Only, Selection, Source, Types};

use error::Error;
pub use exit_status::ExitStatus;
use progress::{Style, Terminal};
pub use shell::{fail, fail_early, print, print_error, usage_error};

/// Clear the unread counts of ZIM conversations in bulk: paced, signed, retried, reported row by row, resumable
#[derive(Debug, Parser)]
#[command(name = "zim-batch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 all rows answered; 3 some failed or invalid; 2 usage; 4 input; 5 stopped by a \
                        policy; 6 ZIM rejects the app or the signature; 7 --max-duration; 74 report can't be written; \
                        75 another run; 130, 143 stopped by a signal; 1 unexpected.\n\nBegin with: zim-batch clear --help"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

/// The headings of the groups of flags, in the help.
const APP: &str = "App";
const PACE: &str = "Pace and limits";
const LOGS: &str = "What is said on stderr";

/// How much is said on stderr, and how
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = LOGS)]
pub struct Logging {
    /// Say nothing but errors, and print no table when all is well
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more: -v begin, end and every answer that is not a success, -vv every answer
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Append the log lines to this file too, with times
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clear the unread count of every row's conversation
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear(Box<ClearArgs>),
    /// Read and validate all rows, send nothing
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show what a report says, of a run that ended or is under way
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Serve a local ZIM endpoint that keeps the documented rules, until stopped
    #[command(after_help = SIMULATE_EXAMPLES)]
    Simulate(Box<simulate::SimulateArgs>),
    /// Explain ZIM's return codes, offline
    #[command(after_help = "Examples:\n  zim-batch codes\n  zim-batch codes 660800002 7")]
    Codes {
        /// The codes to explain; all of them if none is given
        #[arg(allow_negative_numbers = true)]
        codes: Vec<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a shell's completion script
    #[command(after_help = "Examples:\n  zim-batch completions bash \\\n    \
                      > ~/.local/share/bash-completion/completions/zim-batch")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    #[command(after_help = "Examples:\n  zim-batch man | man -l -")]
    Man,
}

const CLEAR_EXAMPLES: &str = "\
Examples:

Try it, against a private simulator and without credentials:
  zim-batch clear rows.csv --report out.csv --simulate

The job:
  export ZIM_APP_ID=1234567890 ZIM_SERVER_SECRET_FILE=secret
  zim-batch clear rows.csv --report out.csv --region fra

Every night: resumes where the last night ended, says nothing if all is well:
  zim-batch clear rows.csv --report out.csv --resume --max-duration 5h -q

The failed rows again:
  zim-batch clear out.csv --only failed --report retry.csv

The rows outside the newest 1000, after ZEGO has raised the limit:
  zim-batch clear out.outside.csv --report second.csv

The secret is read from a file or from the environment (ZIM_SERVER_SECRET). No flag takes it, because other users of the \
machine can read command lines.

Ctrl-C stops after the requests in flight, a second Ctrl-C immediately. SIGUSR1 prints how far the run is.";

const CHECK_EXAMPLES: &str = "\
Examples:
  zim-batch check rows.csv
  zim-batch check rows.csv --json
  zim-batch check export.txt --delimiter '|' \\
    --columns user=uid,conv=peer,type=kind";

const SIMULATE_EXAMPLES: &str = "\
Examples:

Serve, and print what clients would be told:
  zim-batch simulate --port 8080 --events -

Use it, from another terminal:
  export ZIM_ENDPOINT=http://127.0.0.1:8080 ZIM_APP_ID=12345
  export ZIM_SERVER_SECRET=9193cc662a4c0ec135ec71fb57194b38
  zim-batch clear rows.csv --report out.csv

A world of your own, with errors and an outage:
  zim-batch simulate --conversations world.csv --error-rate 0.02 \\
    --outage 30s/15s";

/// Where the rows are and how to read them
#[derive(Debug, Clone, Args)]
pub struct RowsArgs {
    /// A CSV with a user, a conversation and a type (0 or peer, 2 or group); - is standard input
    #[arg(value_name = "ROWS")]
    rows: PathBuf,
    /// The delimiter, if the header line does not show it: one character, or 'tab'
    #[arg(long, value_name = "CHAR", value_parser = settings::parse_delimiter)]
    delimiter: Option<u8>,
    /// The encoding, by its WHATWG label or code page, say gbk, cp936 or windows-1252 [default: UTF-8, or UTF-16 with a
    /// byte order mark]
    #[arg(long, value_name = "NAME", value_parser = settings::parse_encoding)]
    encoding: Option<&'static Encoding>,
    /// The columns, by header name or by number from 1: user=A,conv=B,type=C or user=2,conv=5,type=3
    #[arg(long, value_name = "MAP")]
    columns: Option<Columns>,
    /// More words for the types: single=0,room=2
    #[arg(long, value_name = "MAP")]
    types: Option<Types>,
    /// Only the rows of an earlier report with these outcomes, say failed or outside,failed; all takes all of them
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = settings::parse_only)]
    only: Option<Vec<settings::OnlyWord>>,
    /// Send a repeated (user, conv, type) once
    #[arg(long)]
    dedupe: bool,
    /// Invalid rows don't make the exit status 3
    #[arg(long)]
    ignore_invalid: bool,
}

impl RowsArgs {
    fn source(&self) -> Source {
        Source::from(self.rows.clone())
    }

    fn only(&self) -> Option<Only> {
        let words = self.only.as_ref()?;
        let outcomes: Option<Vec<_>> = words.iter().map(|word| word.0).collect();
        Some(outcomes.map_or(Only::All, Only::Outcomes))
    }

    fn selection(&self) -> Selection {
        Selection {
            only: self.only(),
            dedupe: self.dedupe,
            ..Selection::default()
        }
    }

    /// Says that rows are waited for, where somebody may think that the program hangs.
    fn say_if_typed(&self) {
        let is_typed = match self.source() {
            Source::Stdin => io::stdin().is_terminal(),
            // Nothing else may be opened just to look: a pipe's writer would lose its reader.
            Source::File(path) => {
                path.metadata()
                    .is_ok_and(|metadata| metadata.file_type().is_char_device())
                    && File::open(path).is_ok_and(|file| file.is_terminal())
            }
        };
        if is_typed {
            print_error("reading rows from the terminal; Ctrl-D on an empty line ends them");
        }
    }
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    rows: RowsArgs,
    /// The rate to reckon the time with, in requests a second
    #[arg(long, value_name = "N", default_value = "20", value_parser = settings::parse_rate)]
    rate: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ClearArgs {
    #[command(flatten)]
    rows: RowsArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Where results go
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
struct OutputArgs {
    /// The report, a CSV with a record for each row [default: <ROWS stem>.report.csv beside the rows]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The log of the rows outside the newest 1000 [default: <report stem>.outside.csv]
    #[arg(long, value_name = "FILE")]
    outside: Option<PathBuf>,
    /// Resume where an earlier run with this report ended; a first run if there is no report yet
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace an existing report
    #[arg(long)]
    overwrite: bool,
    /// The same as check: read everything, send nothing
    #[arg(long)]
    dry_run: bool,
    /// How progress is shown, on stderr [default: auto, or none with -q]
    #[arg(long, value_name = "STYLE")]
    progress: Option<ProgressStyle>,
    /// Keep a Prometheus text file, for node_exporter's textfile collector (FILE should end with .prom)
    #[arg(long, value_name = "FILE")]
    metrics: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    /// At the end, write the report as one self-contained page with charts, for a browser; replaces an earlier page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// The app and where its requests go
#[derive(Debug, Args)]
#[command(next_help_heading = APP)]
struct AppArgs {
    // Variables are read in settings.rs, not by clap: an empty one is not set, and one that is not text is refused.
    /// The AppId [env: ZIM_APP_ID]
    #[arg(long, value_name = "N")]
    app_id: Option<String>,
    /// A file with the ServerSecret; or set ZIM_SERVER_SECRET to the secret itself. The flag takes precedence over both
    /// variables [env: ZIM_SERVER_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The ZIM region nearest to this machine; not together with ZIM_ENDPOINT
    #[arg(long, conflicts_with = "endpoint")]
    region: Option<Region>,
    /// The base URL, for a domain of your own [env: ZIM_ENDPOINT] [default: https://zim-api.zego.im]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Run against a private simulator: no credentials, nothing leaves the machine
    #[arg(long, conflicts_with_all = ["endpoint", "region", "ca_cert"])]
    simulate: bool,
}

/// How fast, how often, how long
#[derive(Debug, Args)]
#[command(next_help_heading = PACE)]
struct PaceArgs {
    /// Maximum requests in any one second, including retries; a fraction is kept on average (2.5: five in two seconds)
    #[arg(long, value_name = "N", default_value = "20", value_parser = settings::parse_rate)]
    rate: f64,
    /// Requests open at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_in_flight: u32,
    /// The time for one attempt
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = settings::parse_duration)]
    timeout: Duration,
    /// Tries for each row
    #[arg(long, value_name = "N", default_value = "6", value_parser = settings::parse_attempts)]
    max_attempts: NonZeroU32,
    /// Stop when the service has been unreachable this long
    #[arg(long, value_name = "DUR", default_value = "30m", value_parser = settings::parse_duration)]
    give_up_after: Duration,
    /// Stop after so many failed rows
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    max_failures: Option<NonZeroU64>,
    /// Stop taking rows after this long, finish those in flight
    #[arg(long, value_name = "DUR", value_parser = settings::parse_duration)]
    max_duration: Option<Duration>,
    /// Send at most so many rows that are not done yet, then end as after the last row
    #[arg(long, value_name = "N", value_parser = settings::parse_rows)]
    limit: Option<NonZeroU64>,
    /// Don't wait for another run on this machine that uses the same app's quota
    #[arg(long)]
    no_wait: bool,
    /// The directory of the lock file by which runs on this machine share an app's quota; the same for all of them
    /// [env: ZIM_LOCK_DIR] [default: /tmp]
    #[arg(long, value_name = "DIR")]
    lock_dir: Option<PathBuf>,
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
    /// A bar on a terminal, else a line now and then
    Auto,
    /// A bar
    Bar,
    /// A line now and then
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
    /// How much is to be said, and how.
    pub fn logging(&self) -> &Logging {
        &self.logging
    }

    /// Logs among the records, or among the rows, would spoil them.
    pub fn check_log_file(&self) -> Result<(), Error> {
        let Some(file) = &self.logging.log_file else {
            return Ok(());
        };
        let is_used = match &self.command {
            Command::Clear(args) => clear::uses(args, file),
            Command::Check(args) => settings::same_file(&args.rows.rows, file),
            Command::Report(args) => args.uses(file),
            Command::Simulate(args) => args.uses(file),
            Command::Codes { .. } | Command::Completions { .. } | Command::Man => false,
        };
        match is_used {
            true => Err(Error::Usage(format!(
                "--log-file {}: this file is needed for something else; name another one",
                file.display()
            ))),
            false => Ok(()),
        }
    }

    /// Does what was asked for.
    pub async fn run(self, terminal: Terminal) -> Result<ExitCode, Error> {
        match self.command {
            Command::Clear(args) => clear::clear(*args, &self.logging, terminal).await,
            Command::Check(args) => check::check(&args.rows, args.rate, None, args.json, None),
            Command::Report(args) => report::report(&args),
            Command::Simulate(args) => simulate::simulate(*args).await,
            Command::Codes { codes, json } => codes::codes(&codes, json),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "zim-batch", &mut script);
                // clap_complete 4.6 names its bash states in two ways when the program's name has a hyphen, so that no
                // option would ever be completed.
                print(&String::from_utf8_lossy(&script).replace("zim__subcmd__batch__", "zim__batch__"))
            }
            Command::Man => {
                let mut page = Vec::new();
                man(&mut page).map_err(|error| Error::Unexpected(error.to_string()))?;
                print(&String::from_utf8_lossy(&page))
            }
        }
    }
}

/// One page: the program, then each command with its options and examples.
fn man(page: &mut Vec<u8>) -> io::Result<()> {
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(page)?;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("zim-batch {}", sub.get_name());
        let man = clap_mangen::Man::new(sub.clone().bin_name(name.clone()));
        page.extend_from_slice(format!(".SH {}\n", name.to_uppercase()).as_bytes());
        man.render_description_section(page)?;
        man.render_synopsis_section(page)?;
        man.render_options_section(page)?;
        man.render_extra_section(page)?;
    }
    Ok(())
}
