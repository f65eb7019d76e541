//! `zim-batch`: parse, run, exit status. The work is in the library; what the commands do with it, under `cli/`.

mod cli;

use std::process::ExitCode;

use cli::logging::LogOutput;
use cli::{Cli, ExitStatus, Settings};

fn main() -> ExitCode {
    cli::process::prepare();
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_error(&error),
    };
    let logging = cli.logging.clone();
    let settings = Settings::new(cli);
    // Until it is dropped, everything on stderr is written there.
    let started = settings.and_then(|settings| Ok((settings, LogOutput::start(&logging)?)));
    let ((files, settings), output) = match started {
        Ok(started) => started,
        Err(error) => return cli::fail_early(logging.log_format, ExitStatus::from(&error), &error.to_string()),
    };
    let settings = settings.inspect_err(|error| {
        cli::record_early_end(files.of_flag(cli::METRICS), ExitStatus::from(error));
    });
    let ended = settings.and_then(|settings| {
        let runtime = cli::process::runtime()?;
        let ended = runtime.block_on(cli::run(settings, output.terminal()));
        // A thread may still wait for standard input; nothing waits for that thread.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| cli::fail(ExitStatus::from(&error), &error.to_string()))
}
