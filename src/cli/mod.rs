//! The program: its commands, and what they have in common.

mod args;
mod commands;
mod engine;
mod errors;
mod output;
mod settings;

use std::process::ExitCode;

pub use args::Cli;
use args::{Command, Logging};
use commands::{check, clear, codes, completions, config, list, man, report, simulate};
pub use engine::process;
use errors::Error;
pub use errors::ExitStatus;
pub use output::logging;
use output::progress::Terminal;
pub use output::shell::{fail, fail_early, usage_error};

impl Cli {
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
            Command::Clear(args) => clear::clear(*args, &self.given, &self.logging, terminal).await,
            Command::Check(args) => check::check(*args, &self.given, &self.logging, terminal).await,
            Command::List(args) => list::list(*args, &self.given, &self.logging, terminal).await,
            Command::Report(args) => report::report(&args),
            Command::Simulate(args) => simulate::simulate(*args).await,
            Command::Codes { codes, json } => codes::codes(&codes, json),
            Command::Config(args) => config::config(&args),
            Command::Completions { shell } => completions::completions(shell),
            Command::Man => man::man(),
        }
    }
}
