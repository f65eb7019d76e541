//! `zim-batch`: parse, run, exit status. The work is in the library; what the commands do with it, under `cli/`.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};
use zim_batch::report::progress::Terminal;

use cli::{Cli, LogFormat, Logging};

fn main() -> ExitCode {
    cli::process::prepare();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_error(&error),
    };
    let terminal = Terminal::new();
    start_logging(cli.logging(), &terminal);
    let ended = cli::process::runtime().and_then(|runtime| {
        let ended = runtime.block_on(cli.run(terminal));
        // A thread may still wait for standard input; nothing waits for that thread.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| cli::fail(error.exit_status(), &error.to_string()))
}

/// Logs of this program alone, on stderr, above the bar. Other crates' logs could hold a signed URL.
fn start_logging(logging: &Logging, terminal: &Terminal) {
    let level = match (logging.quiet, logging.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    let terminal = terminal.clone();
    let layer = fmt::layer()
        .with_writer(move || terminal.clone())
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let layer = match logging.log_format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    // Where requests go is said always, unless nothing is.
    let start = match logging.quiet {
        true => level,
        false => level.max(LevelFilter::INFO),
    };
    let ours = Targets::new()
        .with_target("zim_batch", level)
        .with_target("zim_batch::start", start);
    tracing_subscriber::registry().with(layer.with_filter(ours)).init();
}
