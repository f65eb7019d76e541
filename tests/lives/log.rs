//! What the library logs in a life: every line at every level, with its run, its time, and what it says.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::stage::name;
use crate::world::RunId;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since the life began.
    pub at: Duration,
    /// `None`: it was not logged in the span of a run.
    pub run: Option<RunId>,
    pub level: Level,
    /// The message, and then the fields.
    pub text: String,
}

/// Collects what is logged.
#[derive(Debug, Clone, Default)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    began: Option<Instant>,
    lines: Vec<Line>,
}

impl Log {
    /// The life begins now.
    pub fn begin(&self) {
        self.inner.lock().unwrap().began = Some(Instant::now());
    }

    /// The span of a run: what is logged in it belongs to the run.
    pub fn span((job, nth): RunId) -> Span {
        tracing::info_span!("run", job, nth)
    }

    pub fn lines(&self) -> Vec<Line> {
        self.inner.lock().unwrap().lines.clone()
    }
}

/// What is logged at INFO and above.
impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { at, run, level, text } in self.lines().iter().filter(|line| line.level <= Level::INFO) {
            let run = run.map_or_else(|| "no run".to_owned(), name);
            writeln!(f, "{:>12.3} s  {run}: {level} {text}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        if let (Some(span), Some(run)) = (context.span(id), text.job.zip(text.nth)) {
            span.extensions_mut().insert(run);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let spans = context.event_scope(event).into_iter().flatten();
        let run = spans
            .filter_map(|span| span.extensions().get::<RunId>().copied())
            .next();
        let inner = &mut *self.inner.lock().unwrap();
        // A thread that reads rows is outside of the runtime and knows no simulated time.
        let at = match inner.began {
            Some(began) if Handle::try_current().is_ok() => began.elapsed(),
            _ => inner.lines.last().map_or(Duration::ZERO, |line| line.at),
        };
        inner.lines.push(Line {
            at,
            run,
            level: *event.metadata().level(),
            text: text.message + &text.fields,
        });
    }
}

/// The text of a line, or the fields of a span.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    job: Option<usize>,
    nth: Option<usize>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "job" => self.job = usize::try_from(value).ok(),
            "nth" => self.nth = usize::try_from(value).ok(),
            name => _ = write!(self.fields, " {name}={value}"),
        }
    }
}
