//! Output: results on stdout, errors on stderr.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use tracing::Level;
use zim_batch::text::visible;

use crate::cli::args::LogFormat;
use crate::cli::errors::Error;
use crate::cli::errors::exit_ok::ExitOk;
use crate::cli::errors::exit_status::ExitStatus;
use crate::cli::output::logging::{MESSAGE, log_line};
use crate::cli::output::metrics::Metrics;
use crate::cli::settings::labels::MetricsFile;

/// Prints a result on stdout. A reader that stops early, like `head`, is not an error.
pub fn print(text: &str) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Unexpected(format!("stdout can't be written: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// A result as one line of JSON.
pub fn to_json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Unexpected(error.to_string()))
}

/// Prints an error on stderr, at any log level.
pub fn print_error(text: &str) {
    tracing::error!(target: MESSAGE, "{}", visible(text));
}

/// Prints a note on stderr, at any log level.
pub fn print_note(text: &str) {
    tracing::info!(target: MESSAGE, "{}", visible(text));
}

/// Prints on stderr the command that resumes this run.
pub fn print_resume(command: &str) {
    tracing::info!(target: MESSAGE, resume = command, "to resume this run: {command}");
}

/// Prints on stderr why there is no result, and with `--json` also on stdout. A run that could not start, or was ended by a
/// bug, counts as failed in its `metrics`, unless another run is active. Returns the exit status.
pub fn fail(error: &Error, metrics: Option<&MetricsFile>, exit_ok: &ExitOk) -> ExitCode {
    let (exit, why) = (ExitStatus::from(error), error.to_string());
    if let Some(metrics) = metrics
        && exit != ExitStatus::Held
    {
        Metrics::ended_early(metrics, exit.code());
    }
    print_error(&why);
    exit_ok.note(exit).iter().for_each(|note| print_note(note));
    print_error_object(exit.code(), &why);
    exit_ok.code(exit)
}

/// Prints the help, the version, or what is wrong with the arguments.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    // An error of stderr can't be reported anywhere.
    let text = error.to_string();
    let _ = if error.use_stderr() && is_json_log_typed() {
        io::stderr().write_all(log_line(LogFormat::Json, Level::ERROR, &text).as_bytes())
    } else if let Cow::Owned(shown) = visible(&text) {
        io::stderr().write_all(shown.as_bytes())
    } else {
        error.print()
    };
    let exit = u8::try_from(error.exit_code()).unwrap_or(ExitStatus::Usage.code());
    if error.use_stderr() {
        let why = text.split("\n\nUsage:").next().unwrap_or_default();
        let why = why.split("\n\nFor more information").next().unwrap_or_default().trim();
        print_error_object(exit, why.strip_prefix("error: ").unwrap_or(why));
    }
    ExitCode::from(exit)
}

/// Like [`fail`], before logging has started.
pub fn fail_early(format: LogFormat, error: &Error) -> ExitCode {
    let (exit, why) = (ExitStatus::from(error), error.to_string());
    let line = match format {
        LogFormat::Text => format!("zim-batch: {}\n", visible(&why)),
        LogFormat::Json => log_line(format, Level::ERROR, &why),
    };
    // An error of stderr can't be reported anywhere.
    let _ = io::stderr().write_all(line.as_bytes());
    print_error_object(exit.code(), &why);
    exit.into()
}

/// Whether `--log-format json` is given, in arguments that can't be parsed.
fn is_json_log_typed() -> bool {
    let words: Vec<_> = std::env::args_os().collect();
    let is_pair = |pair: &[OsString]| pair[0] == "--log-format" && pair[1] == "json";
    words.iter().any(|word| word == "--log-format=json") || words.windows(2).any(is_pair)
}

/// With `--json`, prints one JSON object with `exit` and `error` instead of a result.
fn print_error_object(exit: u8, why: &str) {
    let mut options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if options.any(|argument| argument == "--json") {
        let object = serde_json::json!({"exit": exit, "error": why});
        // The error is already on stderr.
        let _ = print(&format!("{object}\n"));
    }
}
