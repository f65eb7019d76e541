//! The arguments as typed. `settings` turns them into settings.

pub mod app;
pub mod examples;
pub mod given;
pub mod logging;
pub mod output;
pub mod pace;
pub mod quota;
pub mod report;
pub mod rows;
pub mod run;
pub mod setting;
pub mod simulate;
pub mod time;
pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::errors::redact;
pub use app::{AppArgs, SimulatorArgs};
pub use given::Given;
pub use logging::{LogFormat, Logging};
pub use output::{ListOutputArgs, ListingArgs, OutputArgs};
pub use pace::PaceArgs;
pub use quota::QuotaArgs;
pub use report::ReportArgs;
pub use rows::{ClearInputArgs, DialectArgs, RowFormatArgs, RowsArgs, RowsOrUsers, UsersArgs};
pub use run::{ProgressStyle, RunArgs};
pub use simulate::SimulateArgs;
use values::offering;

/// The headings of the groups of flags, in the help.
pub const APP: &str = "App";
pub const PACE: &str = "Rate and limits";
pub const RESULTS: &str = "Results";
pub const LOGS: &str = "Output on stderr";

/// Clear the unread counts of ZIM conversations in bulk: paced, signed, retried, reported row by row, resumable
#[derive(Debug, Parser)]
#[command(name = "zim-batch", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = format!("{}\n\n{}", examples::FIRST_STEPS, examples::EXIT_STATUS))]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub logging: Logging,
    /// What was given, for commands to run next.
    #[arg(skip)]
    pub given: Given,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Clear unread counts: of rows, or of all conversations of users
    #[command(after_help = examples::CLEAR)]
    Clear(Box<ClearArgs>),
    /// List the conversations of users as rows for clear
    #[command(after_help = examples::LIST)]
    List(Box<ListArgs>),
    /// Read and validate all rows, or users; clear nothing
    #[command(after_help = examples::CHECK)]
    Check(Box<CheckArgs>),
    /// Summarize the report of a run, finished or still running
    #[command(after_help = examples::REPORT)]
    Report(Box<ReportArgs>),
    /// Run a local ZIM server that enforces the documented rules, until stopped
    #[command(after_help = examples::SIMULATE)]
    Simulate(Box<SimulateArgs>),
    /// Show who shares an app's quota, and change how fast they may go while they run
    #[command(after_help = examples::QUOTA)]
    Quota(Box<QuotaArgs>),
    /// Explain ZIM's return codes, offline
    #[command(after_help = examples::CODES)]
    Codes {
        /// The codes to explain; without any, list all
        #[arg(allow_negative_numbers = true, hide_possible_values = true)]
        #[arg(value_parser = offering(values::code, values::codes()))]
        codes: Vec<i64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show effective settings and their sources
    #[command(after_help = examples::CONFIG)]
    Config(Box<ConfigArgs>),
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

#[derive(Debug, Args)]
pub struct ClearArgs {
    #[command(flatten)]
    pub input: ClearInputArgs,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub listing: ListingArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub simulator: SimulatorArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub users: UsersArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
    #[command(flatten)]
    pub listing: ListingArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub app: AppArgs,
    #[command(flatten)]
    pub simulator: SimulatorArgs,
    #[command(flatten)]
    pub pace: PaceArgs,
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

#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub app: AppArgs,
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
            without_secret(error)
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

/// The error without what may be the secret, typed where something else belongs.
fn without_secret(error: clap::Error) -> clap::Error {
    let is_secret = |text: &String| redact::may_be_secret(text) || redact::refuse_secret(text).is_err();
    let has_secret = |value: &ContextValue| match value {
        ContextValue::String(text) => is_secret(text),
        ContextValue::Strings(texts) => texts.iter().any(is_secret),
        _ => false,
    };
    if !error.context().any(|(_, value)| has_secret(value)) {
        return error;
    }
    // Another error: the reason why a value is invalid may show a part of it.
    let mut shown = clap::Error::new(error.kind()).with_cmd(&Cli::command());
    for (kind, value) in error.context() {
        let value = match value {
            value if has_secret(value) => ContextValue::String(redact::NOT_SHOWN.into()),
            value => value.clone(),
        };
        shown.insert(kind, value);
    }
    shown
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
