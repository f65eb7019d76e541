//! All output on stderr and in the log file: log lines, progress, and final messages. All of it is log events, so with
//! `--log-format json` every line is JSON. Separate threads write it.

mod log_file;

use std::fmt;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use zim_batch::text::{is_invisible, visible};

use crate::cli::args::{LogFormat, Logging};
use crate::cli::errors::Error;
use crate::cli::output::lossy::LossyWriter;
use crate::cli::output::progress::{self, Terminal};
use log_file::LogFile;

/// The target of messages that are shown at any log level: errors, and the next command to run.
pub const MESSAGE: &str = "zim_batch::message";

/// The target of messages about what a run does, which are shown at any log level except with `-q`.
pub const START: &str = "zim_batch::start";

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
    /// `name` is that of the job, or empty.
    pub fn start(logging: &Logging, name: &str) -> Result<LogOutput, Error> {
        let format = logging.log_format;
        let terminal = writer(io::stderr(), format, "nobody read the output")?;
        let log_file = match &logging.log_file {
            None => None,
            Some(path) => {
                let file = LogFile::open(path, terminal.clone(), format)?;
                Some(writer(file, format, "the log file was too slow")?)
            }
        };
        let (to_terminal, to_file) = (terminal.clone(), log_file.clone());
        // Respects NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM, like clap.
        let with_colors = console::colors_enabled_stderr();
        tracing_subscriber::registry()
            .with(layer(logging, name, false, with_colors, move || to_terminal.clone()))
            .with(to_file.map(|file| layer(logging, name, true, false, move || file.clone())))
            .init();
        std::panic::set_hook(Box::new(log_panic));
        Ok(LogOutput { terminal, log_file })
    }

    /// The terminal that shows progress.
    pub fn terminal(&self) -> Terminal {
        Terminal::stderr(self.terminal.clone())
    }
}

/// A writer that says in the output how many lines are missing, and `why`.
fn writer(sink: impl Write + Send + 'static, format: LogFormat, why: &'static str) -> Result<LossyWriter, Error> {
    let missing = move |lines| log_line(format, Level::WARN, &format!("{lines} lines are missing here: {why}"));
    LossyWriter::start(sink, missing).map_err(Error::no_thread)
}

fn log_panic(panic: &PanicHookInfo) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("no message");
    let location = panic
        .location()
        .map(|location| format!(" ({}, line {})", location.file(), location.line()));
    tracing::error!(
        target: MESSAGE,
        "a bug in zim-batch, please report it: {message}{}",
        location.unwrap_or_default()
    );
}

fn layer<S, W>(
    logging: &Logging,
    name: &str,
    is_file: bool,
    with_colors: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
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
    let start = if logging.quiet {
        level
    } else {
        level.max(LevelFilter::INFO)
    };
    let shown = Targets::new()
        .with_target("zim_batch", level)
        .with_target(START, start)
        .with_target("zim_batch::journal", start)
        .with_target(MESSAGE, LevelFilter::INFO)
        .with_target(progress::TARGET, LevelFilter::INFO);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(with_colors);
    match logging.log_format {
        LogFormat::Text => {
            let lines = format::format()
                .with_target(false)
                .with_timer(Utc)
                .with_ansi(with_colors);
            layer.event_format(Text { lines, is_file }).with_filter(shown).boxed()
        }
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_timer(Utc)
            .map_event_format(|lines| Json {
                lines,
                name: (!name.is_empty()).then(|| serde_json::json!(name).to_string()),
            })
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
            let mut line = String::new();
            self.lines.format_event(context, Writer::new(&mut line), event)?;
            // Control characters are escaped already, except for those that set colours.
            let is_shown = |c: char| c.is_control() || !is_invisible(c);
            return line.chars().try_for_each(|c| {
                if is_shown(c) {
                    writer.write_char(c)
                } else {
                    write!(writer, "{}", c.escape_unicode())
                }
            });
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

/// JSON lines.
struct Json {
    lines: format::Format<format::Json, Utc>,
    /// The name of the job, as JSON.
    name: Option<String>,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        let line = visible_json(&line);
        match &self.name {
            Some(name) => {
                let members = line.strip_prefix('{').ok_or(fmt::Error)?;
                write!(writer, "{{\"name\":{name},{members}")
            }
            None => writer.write_str(&line),
        }
    }
}

/// JSON with the same meaning, without characters that change how the text around them is shown.
fn visible_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || !is_invisible(c) {
            shown.push(c);
        } else {
            shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    shown
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
pub fn log_line(format: LogFormat, level: Level, message: &str) -> String {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    match format {
        LogFormat::Text => format!("{now} {level:>5} {}\n", visible(message)),
        LogFormat::Json => {
            let line = serde_json::json!({"timestamp": now, "level": level.as_str(), "message": message});
            visible_json(&format!("{line}\n"))
        }
    }
}
