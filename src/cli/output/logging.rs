//! All output on stderr and in the log file: log lines, progress, and final messages. All of it is log events, so with
//! `--log-format json` every line is JSON. Separate threads write it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use zim_batch::files::OWNER_ONLY;
use zim_batch::text::visible;

use crate::cli::args::LogFormat;
use crate::cli::args::Logging;
use crate::cli::errors::Error;
use crate::cli::output::lossy::LossyWriter;
use crate::cli::output::progress::{self, Terminal};

/// The target of messages that are shown at any log level: errors, and the next command to run.
pub const MESSAGE: &str = "zim_batch::message";

/// Writes to stderr and the log file. When it is dropped, the remaining output is written, if someone reads it.
pub struct LogOutput {
    terminal: LossyWriter,
    log_file: Option<LossyWriter>,
}

impl Drop for LogOutput {
    fn drop(&mut self) {
        self.terminal.drain();
        self.log_file.iter().for_each(LossyWriter::drain);
    }
}

impl LogOutput {
    /// Logs only this program's events: those of other crates could contain a signed URL.
    pub fn start(logging: &Logging) -> Result<LogOutput, Error> {
        let no_thread = |error| crate::cli::engine::process::no_thread(&error);
        let format = logging.log_format;
        let unread = move |lines| {
            let why = format!("{lines} lines are missing here: nobody read the output");
            log_line(format, "WARN", &why)
        };
        let terminal = LossyWriter::start(io::stderr(), unread).map_err(no_thread)?;
        let log_file = match &logging.log_file {
            None => None,
            Some(path) => {
                let file = LogFile::open(path, terminal.clone(), format)?;
                let slow = move |lines| {
                    let why = format!("{lines} lines are missing here: the log file was too slow");
                    log_line(format, "WARN", &why)
                };
                Some(LossyWriter::start(file, slow).map_err(no_thread)?)
            }
        };
        let (to_terminal, to_file) = (terminal.clone(), log_file.clone());
        // Respects NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM, like clap.
        let with_colors = console::colors_enabled_stderr();
        tracing_subscriber::registry()
            .with(layer(logging, false, with_colors, move || to_terminal.clone()))
            .with(to_file.map(|file| layer(logging, true, false, move || file.clone())))
            .init();
        std::panic::set_hook(Box::new(|panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let message = text.unwrap_or("no message");
            let place = panic
                .location()
                .map(|place| format!(" ({}, line {})", place.file(), place.line()));
            crate::cli::output::shell::print_error(&format!(
                "a bug in zim-batch, please report it: {message}{}",
                place.unwrap_or_default()
            ));
        }));
        Ok(LogOutput { terminal, log_file })
    }

    /// The terminal that shows progress.
    pub fn terminal(&self) -> Terminal {
        Terminal::stderr(self.terminal.clone())
    }
}

fn layer<S, W>(logging: &Logging, is_file: bool, with_colors: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match (logging.quiet, logging.verbose) {
        // -q silences the terminal only.
        (true, _) if is_file => LevelFilter::INFO,
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::DEBUG,
    };
    // The endpoint is shown at any level except -q.
    let start = match logging.quiet {
        true => level,
        false => level.max(LevelFilter::INFO),
    };
    let shown = Targets::new()
        .with_target("zim_batch", level)
        .with_target("zim_batch::start", start)
        .with_target(MESSAGE, LevelFilter::INFO)
        .with_target(progress::TARGET, LevelFilter::INFO);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(with_colors);
    match logging.log_format {
        LogFormat::Text => {
            let lines = format::format().with_target(false).with_timer(Utc);
            layer.event_format(Text { lines, is_file }).with_filter(shown).boxed()
        }
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_timer(Utc)
            .with_filter(shown)
            .boxed(),
    }
}

/// The same time format as in the report.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", humantime::format_rfc3339_millis(SystemTime::now()))
    }
}

/// Plain-text lines.
struct Text {
    lines: format::Format<format::Full, Utc>,
    is_file: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let target = event.metadata().target();
        if target != MESSAGE && target != progress::TARGET {
            return self.lines.format_event(context, writer, event);
        }
        // The message repeats what the fields say.
        let mut message = Message(String::new());
        event.record(&mut message);
        if target == MESSAGE && !self.is_file {
            return writeln!(writer, "zim-batch: {}", message.0);
        }
        Utc.format_time(&mut writer)?;
        writeln!(writer, " {:>5} {}", event.metadata().level(), message.0)
    }
}

/// The message of an event, safe to show on a terminal.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = visible(&format!("{value:?}")).into_owned();
        }
    }
}

/// A line in the log format, for messages that can't be logged as events.
pub fn log_line(format: LogFormat, level: &str, message: &str) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    match format {
        LogFormat::Text => format!("{now} {level:>5} {message}\n"),
        LogFormat::Json => {
            let line = serde_json::json!({"timestamp": now, "level": level, "message": message});
            format!("{line}\n")
        }
    }
}

/// The log file. Lines that can't be written are lost, with one error message.
struct LogFile {
    file: File,
    path: PathBuf,
    terminal: LossyWriter,
    format: LogFormat,
    has_failed: bool,
    /// The last line is incomplete.
    is_torn: bool,
}

impl LogFile {
    fn open(path: &Path, terminal: LossyWriter, format: LogFormat) -> Result<LogFile, Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(OWNER_ONLY);
        // Opening a pipe that nobody reads must fail, not block.
        let file = options.custom_flags(libc::O_NONBLOCK).open(path);
        let file = file.map_err(|error| {
            Error::Usage(format!(
                "--log-file {}: the file can't be opened: {error}; name another one",
                path.display()
            ))
        })?;
        Ok(LogFile {
            file,
            path: path.to_owned(),
            terminal,
            format,
            has_failed: false,
            is_torn: false,
        })
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.file.write(bytes)
    }
}

/// Receives whole lines, unless the file accepts only a part of one.
impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                self.is_torn |= !bytes.is_empty();
                if !std::mem::replace(&mut self.has_failed, true) {
                    let why = format!(
                        "--log-file {}: log lines are lost, because the file can't be written: {error}; the run continues",
                        self.path.display()
                    );
                    self.terminal.lines(log_line(self.format, "ERROR", &why).as_bytes());
                }
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
