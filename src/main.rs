//! `zim-batch`: parse, run, exit status. The work is in the library; what the commands do with it, under `cli/`.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::logging::{LogOutput, one_line};
use cli::{Cli, LogFormat};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && is_json_typed() => {
            let status = u8::try_from(error.exit_code()).unwrap_or(2);
            return fail(LogFormat::Json, &error.to_string(), status);
        }
        Err(error) => error.exit(),
    };
    let format = cli.logging().log_format;
    // Until it is dropped, everything on stderr is written there.
    let output = match cli.check_log_file().and_then(|()| LogOutput::start(cli.logging())) {
        Ok(output) => output,
        Err(error) => return fail(format, &error.to_string(), error.exit_status()),
    };
    // One thread: a request costs so little that waking another thread for it would cost more.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            cli::print_error(&format!("the runtime can't be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run(output.terminal()));
    // A thread may still wait for standard input; nothing waits for that thread.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        cli::print_error(&error.to_string());
        ExitCode::from(error.exit_status())
    })
}

/// Before anything can be logged.
fn fail(format: LogFormat, message: &str, status: u8) -> ExitCode {
    let line = match format {
        LogFormat::Text => format!("zim-batch: {message}\n"),
        LogFormat::Json => one_line(format, "ERROR", message),
    };
    // If even that fails there is nobody left to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
    ExitCode::from(status)
}

/// Whether logs are to be JSON, as far as can be told from arguments that are wrong.
fn is_json_typed() -> bool {
    let words: Vec<_> = std::env::args_os().collect();
    words.iter().any(|word| word == "--log-format=json")
        || words
            .windows(2)
            .any(|pair| pair[0] == "--log-format" && pair[1] == "json")
}
