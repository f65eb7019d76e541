//! How far the run is: a bar on a terminal, otherwise a plain line now and then.
//!
//! The bar is drawn by indicatif, on a [`LossyWriter`](super::lossy::LossyWriter), below the log lines that are written
//! there too. Plain lines are log events (of target [`TARGET`]), and few: a cron mail with hundreds of them helps nobody.

mod bar;
mod parts;
mod speed;
mod terminal;

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use tokio::time::Instant;
use zim_batch::event::Event;
use zim_batch::report::show::grouped;
use zim_batch::report::stats::Stats;
use zim_batch::report::summary::Summary;
use zim_batch::row::Outcome;
use zim_batch::run::{Observer, Status};

use bar::Bar;
use parts::{Part, joined};
use speed::Speed;
pub use terminal::Terminal;

/// The target of the log events that say how far the run is, at level INFO.
pub const TARGET: &str = "zim_batch::progress";

/// When the first plain lines are due, counted from the start; later ones follow every [`PLAIN_EVERY`].
const PLAIN_AT: [Duration; 5] = [
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(30 * 60),
];

/// The interval between plain lines in a long run.
const PLAIN_EVERY: Duration = Duration::from_secs(60 * 60);

/// Until this much time was measured, the time left is estimated from the target rate instead of the measured speed.
const MEASURED_FROM: Duration = Duration::from_secs(5);

/// With more time left than this, the expected end is shown as a time of day too.
const CLOCK_FROM: Duration = Duration::from_secs(60 * 60);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// A bar if stderr is a terminal that can show one, plain lines otherwise.
    #[default]
    Auto,
    /// The same.
    Bar,
    /// A plain line now and then.
    Plain,
    /// Nothing.
    None,
}

/// Shows how far the run is.
pub struct Progress {
    terminal: Terminal,
    display: Display,
    started_at: Instant,
    /// How many rows there are, if that is known.
    total: Option<u64>,
    plain_lines: u32,
    hold: Option<Hold>,
    speed: Speed,
}

enum Display {
    Bar(Bar),
    Plain,
    None,
}

struct Hold {
    why: String,
    since: SystemTime,
    started_at: Instant,
}

impl Progress {
    /// `total` is how many rows there are, if that is known: `None` for standard input.
    pub fn new(style: Style, terminal: Terminal, total: Option<u64>) -> Progress {
        let display = match (style, terminal.with_bar()) {
            (Style::None, _) => Display::None,
            (Style::Auto | Style::Bar, Some(output)) => Display::Bar(Bar::new(output.clone(), total)),
            (Style::Auto | Style::Bar | Style::Plain, _) => Display::Plain,
        };
        Progress {
            terminal,
            display,
            started_at: Instant::now(),
            total,
            plain_lines: 0,
            hold: None,
            speed: Speed::default(),
        }
    }

    fn close(&mut self) {
        if let Display::Bar(bar) = &mut self.display {
            bar.end();
        }
        self.display = Display::None;
    }

    fn log(&self, stats: &Stats, left: Option<Duration>, parts: &[Part]) {
        tracing::info!(
            target: TARGET,
            rows = self.total,
            done = stats.done(),
            ok = stats.outcome(Outcome::Ok),
            outside = stats.outcome(Outcome::Outside),
            failed = stats.outcome(Outcome::Failed),
            invalid = stats.outcome(Outcome::Invalid),
            retrying = stats.retrying(),
            rate = self.speed.requests().map(|rate| (rate * 10.0).round() / 10.0),
            seconds_left = left.map(|left| left.as_secs()),
            on_hold = self.hold.is_some(),
            "{}",
            joined(parts)
        );
    }

    /// What there is to say, in order, with how much it matters.
    fn parts(&self, status: &Status<'_>, left: Option<Duration>) -> Vec<Part> {
        let stats = status.stats;
        let mut parts = Vec::new();
        if let Some(hold) = &self.hold {
            let lasts = rough(hold.started_at.elapsed());
            parts.push(Part(9, "ON HOLD".into()));
            parts.push(Part(6, format!(" since {} ({lasts})", clock(hold.since))));
            parts.push(Part(8, format!(": {}", hold.why)));
            parts.push(Part(
                7,
                match status.next_probe.map(|at| at.saturating_duration_since(Instant::now())) {
                    Some(wait) if wait > Duration::ZERO => format!("next probe in {}", rough(wait)),
                    _ => "probing now".into(),
                },
            ));
        }
        let done = grouped(stats.done());
        parts.push(Part(
            9,
            match self.total {
                Some(total) => format!("{done}/{} rows", grouped(total)),
                None => format!("{done} rows"),
            },
        ));
        parts.push(Part(1, format!("ok {}", grouped(stats.outcome(Outcome::Ok)))));
        for (weight, name, count) in [
            (4, "outside", stats.outcome(Outcome::Outside)),
            (6, "failed", stats.outcome(Outcome::Failed)),
            (3, "invalid", stats.outcome(Outcome::Invalid)),
            (2, "retrying", stats.retrying()),
        ] {
            if count > 0 {
                parts.push(Part(weight, format!("{name} {}", grouped(count))));
            }
        }
        if self.hold.is_some() {
            return parts;
        }
        if let Some(trouble) = stats.trouble(Instant::now()) {
            parts.push(Part(8, format!("last error: {trouble}")));
        }
        if let Some(rate) = self.speed.requests() {
            parts.push(Part(5, format!("{rate:.1}/s")));
        }
        if let Some(left) = left {
            parts.push(Part(7, format!("{} left", rough(left))));
            if left > CLOCK_FROM {
                parts.push(Part(5, format!("until {}", clock(SystemTime::now() + left))));
            }
        }
        parts
    }

    /// The rows that are left, at the speed of the last minutes.
    fn time_left(&self, status: &Status<'_>) -> Option<Duration> {
        let left = self.total?.saturating_sub(status.stats.done());
        let speed = match self.speed.measured() < MEASURED_FROM {
            true => status.rate,
            false => self.speed.rows()?,
        };
        let seconds = Duration::try_from_secs_f64((left as f64 / speed).ceil()).ok()?;
        // Nobody plans for so long, and the calendar ends.
        (seconds < Duration::from_secs(10 * 365 * 24 * 60 * 60)).then_some(seconds)
    }
}

impl Observer for Progress {
    /// A hold begins or ends.
    fn event(&mut self, event: &Event) {
        match event {
            Event::Held { why } => {
                self.hold = Some(Hold {
                    why: why.clone(),
                    since: SystemTime::now(),
                    started_at: Instant::now(),
                });
            }
            Event::Released => self.hold = None,
            _ => {}
        }
    }

    /// Draws the bar anew, and writes a plain line if one is due.
    fn tick(&mut self, status: &Status<'_>) {
        let (now, stats) = (Instant::now(), status.stats);
        let rows = stats.done() - stats.already_done();
        self.speed.note(now, self.hold.is_some(), rows, stats.requests());
        let is_asked = self.terminal.take_status_asked();
        let is_due = matches!(self.display, Display::Plain) && now - self.started_at >= plain_due(self.plain_lines);
        if is_due {
            self.plain_lines += 1;
        }
        let left = self.time_left(status);
        let parts = self.parts(status, left);
        if is_due || is_asked {
            self.log(stats, left, &parts);
        }
        if let Display::Bar(bar) = &mut self.display {
            bar.show(&parts, stats.done(), self.total, self.hold.is_some(), left);
        }
    }

    /// Takes the bar away.
    fn end(&mut self, _: &Summary) {
        self.close();
    }
}

/// The title is the terminal's again, also after an error.
impl Drop for Progress {
    fn drop(&mut self) {
        self.close();
    }
}

/// To the second below ten minutes, to the minute above.
fn rough(time: Duration) -> humantime::FormattedDuration {
    let seconds = time.as_secs_f64().ceil() as u64;
    humantime::format_duration(Duration::from_secs(match seconds {
        0..600 => seconds,
        more => more.div_ceil(60) * 60,
    }))
}

/// The local time, with the day if it is another one than today.
fn clock(at: SystemTime) -> String {
    let local = |time: SystemTime| -> Option<ZonedDateTime> {
        let time = Timestamp::try_from(time).ok()?;
        Some(time.to_zoned_datetime(TimeZone::system()))
    };
    let (Some(now), Some(at)) = (local(SystemTime::now()), local(at)) else {
        return "?".into();
    };
    let format = if at.date() == now.date() {
        "%H:%M"
    } else {
        "%a %d %b %H:%M"
    };
    at.strftime(format).to_string()
}

fn plain_due(lines: u32) -> Duration {
    match PLAIN_AT.get(lines as usize) {
        Some(due) => *due,
        None => PLAIN_EVERY * (lines + 1 - PLAIN_AT.len() as u32),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    fn status(stats: &Stats, next_probe: Option<Instant>) -> Status<'_> {
        Status {
            stats,
            rate: 20.0,
            next_probe,
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// What this thread logs, until the guard is dropped.
    fn capture() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        (log, tracing::subscriber::set_default(subscriber.finish()))
    }

    /// Shows it once a second, for so long.
    async fn pass(progress: &mut Progress, seconds: u64) -> String {
        let (log, guard) = capture();
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            progress.tick(&status(&Stats::default(), None));
        }
        drop(guard);
        log.text()
    }

    #[tokio::test(start_paused = true)]
    async fn plain_lines_come_where_no_bar_can_be_drawn_and_few_of_them() {
        for (style, lines) in [(Style::Bar, 4), (Style::Auto, 4), (Style::Plain, 4), (Style::None, 0)] {
            let mut progress = Progress::new(style, Terminal::default(), Some(1201));
            let log = pass(&mut progress, 16 * 60).await;
            assert_eq!(log.lines().count(), lines, "{style:?}: {log}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_is_told_once_how_far_the_run_is_whatever_is_shown() {
        let terminal = Terminal::default();
        let mut progress = Progress::new(Style::None, terminal.clone(), Some(1201));
        terminal.ask_status();
        let log = pass(&mut progress, 2).await;
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("0/1,201 rows"), "{log}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_says_since_when_why_and_when_the_next_probe_comes() {
        let mut progress = Progress::new(Style::None, Terminal::default(), Some(1201));
        let why = "connection refused".to_owned();
        progress.event(&Event::Held { why });
        let next_probe = Instant::now() + Duration::from_secs(12);
        let stats = Stats::default();
        let held = joined(&progress.parts(&status(&stats, Some(next_probe)), None));
        assert!(held.starts_with("ON HOLD since "), "{held}");
        assert!(
            held.ends_with(": connection refused, next probe in 12s, 0/1,201 rows, ok 0"),
            "{held}"
        );
        progress.event(&Event::Released);
        let text = joined(&progress.parts(&status(&stats, None), Some(Duration::from_secs(2 * 3600))));
        assert!(text.starts_with("0/1,201 rows, ok 0, 2h left, until "), "{text}");
    }
}
