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
    let cli = Cli::parse();
    let terminal = Terminal::new();
    start_logging(cli.logging(), &terminal);
    // One thread: a request costs so little that waking another thread for it would cost more.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            cli::print_error(&format!("the runtime can't be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(cli.run(terminal));
    // A thread may still wait for standard input; nothing waits for that thread.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        cli::print_error(&error.to_string());
        ExitCode::from(error.exit_status())
    })
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
    let ours = Targets::new().with_target("zim_batch", level);
    tracing_subscriber::registry().with(layer.with_filter(ours)).init();
}
