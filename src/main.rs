//! `zim-batch`: parse, run, exit status. The work is in the library; what the commands do with it, under `cli/`.

mod cli;

use std::process::ExitCode;

use cli::logging::LogOutput;
use cli::{Cli, Settings};

fn main() -> ExitCode {
    match cli::completions::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return cli::usage_error(&error),
    }
    cli::process::prepare();
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_error(&error),
    };
    let logging = cli.logging.clone();
    let settings = Settings::new(cli);
    // Until it is dropped, everything on stderr is written there.
    let started = settings.and_then(|(call, settings)| {
        let output = LogOutput::start(&logging, &call.labels.name)?;
        Ok((call, settings, output))
    });
    let (call, settings, output) = match started {
        Ok(started) => started,
        Err(error) => return cli::fail_early(logging.log_format, &error),
    };
    let ended = settings.and_then(|settings| cli::process::block_on(cli::run(settings, output.terminal())));
    ended.unwrap_or_else(|error| cli::fail(&error, call.metrics().as_ref(), &call.exit_ok))
}
