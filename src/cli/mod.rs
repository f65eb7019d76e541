//! The program: its commands, and what they have in common.

mod args;
mod commands;
mod engine;
mod errors;
mod output;
mod settings;

use std::process::ExitCode;

pub use args::Cli;
pub use commands::completions;
use commands::{check, clear, clear_users, codes, config, list, man, quota, report, simulate};
pub use engine::process;
use engine::signals;
use errors::Error;
pub use output::logging;
pub use output::print::{fail, fail_early, usage_error};
use output::progress::Terminal;
pub use settings::Settings;

/// Runs the command.
pub async fn run(settings: Settings, terminal: Terminal) -> Result<ExitCode, Error> {
    signals::outlive();
    match settings {
        Settings::Clear(settings) => clear::clear(*settings, terminal).await,
        Settings::ClearUsers(settings) => clear_users::clear_users(*settings, terminal).await,
        Settings::Check(settings) => check::check(*settings, terminal).await,
        Settings::List(settings) => list::list(*settings, terminal).await,
        Settings::Report(settings) => report::report(&settings).await,
        Settings::Simulate(settings) => simulate::simulate(*settings).await,
        Settings::Quota(settings) => quota::quota(*settings).await,
        Settings::Codes { codes, json } => codes::codes(&codes, json),
        Settings::Config(settings) => config::config(*settings),
        Settings::Completions { shell } => completions::completions(shell),
        Settings::Man => man::man(),
    }
}
