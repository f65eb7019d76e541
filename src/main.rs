//! `zim-batch`: parse, run, exit status. The work is in the library; what the commands do with it, under `cli/`.

mod cli;

use std::process::ExitCode;

use cli::logging::LogOutput;
use cli::{Cli, ExitStatus};

fn main() -> ExitCode {
    cli::process::prepare();
    let cli = match Cli::typed() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_error(&error),
    };
    // Until it is dropped, everything on stderr is written there.
    let output = match cli.check_log_file().and_then(|()| LogOutput::start(cli.logging())) {
        Ok(output) => output,
        Err(error) => return cli::fail_early(cli.logging().log_format, ExitStatus::from(&error), &error.to_string()),
    };
    let ended = cli::process::runtime().and_then(|runtime| {
        let ended = runtime.block_on(cli.run(output.terminal()));
        // A thread may still wait for standard input; nothing waits for that thread.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| cli::fail(ExitStatus::from(&error), &error.to_string()))
}
