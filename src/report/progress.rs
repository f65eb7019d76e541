//! How far the run is: a bar on a terminal, a plain line now and then otherwise; always on stderr.
//!
//! The bar is drawn by indicatif. A bar draws nothing where there is no terminal, so the plain lines are our own, and
//! few: a cron mail with hundreds of them helps nobody.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use super::summary::{Tally, grouped};
use crate::event::{Event, Outcome};

/// When plain lines are due, counted from the start; afterwards every [`PLAIN_EVERY`].
const PLAIN_AT: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
];

/// How often plain lines come in a long run.
const PLAIN_EVERY: Duration = Duration::from_secs(60 * 60);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// A bar if stderr is a terminal, plain lines otherwise.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// A plain line now and then.
    Plain,
    /// Nothing.
    None,
}

/// The terminal, shared by the bar and the log lines so that these don't tear the bar.
#[derive(Debug, Clone)]
pub struct Terminal {
    bar: ProgressBar,
}

impl Terminal {
    /// No bar yet.
    pub fn new() -> Terminal {
        Terminal {
            bar: ProgressBar::hidden(),
        }
    }
}

impl Default for Terminal {
    fn default() -> Terminal {
        Terminal::new()
    }
}

/// Writes to stderr, above the bar if there is one.
impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bar.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Shows how far the run is.
pub struct Progress {
    style: Style,
    terminal: Terminal,
    begun: Instant,
    /// How many rows there are, if that is known.
    total: Option<u64>,
    plain_lines: u32,
    held: Option<String>,
}

impl Progress {
    /// `total` is how many rows there are, if that is known: `None` for standard input.
    pub fn new(style: Style, terminal: Terminal, total: Option<u64>) -> Progress {
        let style = match style {
            Style::Auto if io::stderr().is_terminal() => Style::Bar,
            Style::Auto => Style::Plain,
            chosen => chosen,
        };
        if style == Style::Bar {
            let bar = &terminal.bar;
            bar.set_style(bar_style(total, false));
            bar.set_length(total.unwrap_or_default());
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        }
        Progress {
            style,
            terminal,
            begun: Instant::now(),
            total,
            plain_lines: 0,
            held: None,
        }
    }

    /// Takes note of a hold and of its end.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Held { why } => self.held = Some(why.clone()),
            Event::Released => self.held = None,
            _ => return,
        }
        if self.style == Style::Bar {
            self.terminal.bar.set_style(bar_style(self.total, self.held.is_some()));
        }
    }

    /// Shows the counts; `rate` is the requests a second that are aimed at.
    pub(super) fn show(&mut self, tally: &Tally, rate: f64) {
        match self.style {
            Style::Bar => {
                self.terminal.bar.set_message(self.text(tally, rate));
                self.terminal.bar.set_position(tally.done());
                self.terminal.bar.tick();
            }
            Style::Plain if self.begun.elapsed() >= plain_due(self.plain_lines) => {
                self.plain_lines += 1;
                let line = format!("{}\n", self.text(tally, rate));
                // Nobody to read it is no reason to stop.
                let _ = self.terminal.write_all(line.as_bytes());
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&mut self) {
        if self.style == Style::Bar {
            self.terminal.bar.finish_and_clear();
        }
    }

    fn text(&self, tally: &Tally, rate: f64) -> String {
        let elapsed = self.begun.elapsed().as_secs_f64();
        let mut text = match self.total {
            Some(total) => format!("{}/{} rows", grouped(tally.done()), grouped(total)),
            None => format!("{} rows", grouped(tally.done())),
        };
        text += &format!(", ok {}", grouped(tally.outcome(Outcome::Ok)));
        for (name, count) in [
            ("outside", tally.outcome(Outcome::Outside)),
            ("failed", tally.outcome(Outcome::Failed)),
            ("invalid", tally.outcome(Outcome::Invalid)),
            ("retrying", tally.retrying()),
        ] {
            if count > 0 {
                text += &format!(", {name} {}", grouped(count));
            }
        }
        if let Some(why) = &self.held {
            text = format!("ON HOLD: {why}; {text}");
        } else {
            text += &format!(", {:.1}/s", tally.requests() as f64 / elapsed.max(0.001));
            if let Some(left) = self.time_left(tally, rate) {
                text += &format!(", {left} left");
            }
        }
        text
    }

    /// The rows that are left, at the rate that is aimed at.
    fn time_left(&self, tally: &Tally, rate: f64) -> Option<humantime::FormattedDuration> {
        let left = self.total?.saturating_sub(tally.done()) as f64;
        let done = (tally.done() - tally.already_done()).max(1) as f64;
        // Retries draw on the rate too: count what a row has cost so far.
        let cost = (tally.requests() as f64 / done).clamp(1.0, 10.0);
        let elapsed = self.begun.elapsed().as_secs_f64();
        let speed = match elapsed {
            ..5.0 => rate,
            _ => rate.min(tally.requests() as f64 / elapsed),
        };
        let seconds = Duration::try_from_secs_f64((left * cost / speed).ceil()).ok()?;
        let coarse = match seconds.as_secs() {
            0..600 => seconds,
            more => Duration::from_secs(more.div_ceil(60) * 60),
        };
        Some(humantime::format_duration(coarse))
    }
}

/// A bar where the end is known; on hold, what matters is the text.
fn bar_style(total: Option<u64>, is_held: bool) -> ProgressStyle {
    let template = match total {
        Some(_) if !is_held => "{wide_bar} {percent:>3}% {msg}",
        _ => "{spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

fn plain_due(lines: u32) -> Duration {
    match PLAIN_AT.get(lines as usize) {
        Some(due) => *due,
        None => PLAIN_EVERY * (lines + 1 - PLAIN_AT.len() as u32),
    }
}
