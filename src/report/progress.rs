//! How far the run is: a bar on a terminal, a plain line now and then otherwise.
//!
//! The bar is drawn by indicatif, on a [`LossyWriter`], below the log lines that are written there too. Plain lines are
//! log events (of target [`TARGET`]), and few: a cron mail with hundreds of them helps nobody.

use std::collections::VecDeque;
use std::env;
use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use console::{Term, measure_text_width, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use tokio::time::Instant;

use super::lossy::LossyWriter;
use super::summary::{Stats, grouped};
use crate::event::Event;
use crate::row::Outcome;

/// The target of the log events that say how far the run is, at level INFO.
pub const TARGET: &str = "zim_batch::progress";

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

/// The time over which speed is measured. Time on hold does not count.
const WINDOW: Duration = Duration::from_secs(3 * 60);

/// Before so long, the rate that is aimed at says more about the time that is left than what was measured.
const MEASURED_FROM: Duration = Duration::from_secs(5);

/// With more time left than this, the end is given by the clock too.
const CLOCK_FROM: Duration = Duration::from_secs(60 * 60);

/// The columns of a terminal that does not tell.
const COLUMNS: u16 = 80;

/// The bar is not narrower than this.
const MIN_BAR: usize = 10;

/// The names, or their beginnings, of terminals that have a title.
const WITH_TITLE: [&str; 16] = [
    "alacritty",
    "contour",
    "foot",
    "ghostty",
    "gnome",
    "iterm",
    "kitty",
    "konsole",
    "putty",
    "rxvt",
    "screen",
    "st-",
    "tmux",
    "vte",
    "wezterm",
    "xterm",
];

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

/// Where the bar is drawn, and who may ask how far the run is. Clones are the same terminal.
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    output: Option<LossyWriter>,
    is_status_asked: Arc<AtomicBool>,
}

impl Terminal {
    /// One that shows no bar.
    pub fn new() -> Terminal {
        Terminal::default()
    }

    /// The terminal that stderr is, if it is one; `output` writes there.
    pub fn stderr(output: LossyWriter) -> Terminal {
        Terminal {
            output: Some(output),
            is_status_asked: Arc::default(),
        }
    }

    /// Makes the run say once, whatever the style, how far it is.
    pub fn ask_status(&self) {
        self.is_status_asked.store(true, Ordering::Release);
    }

    /// Waits until everything is on the terminal; see [`LossyWriter::drain`].
    pub fn drain(&self) {
        self.output.iter().for_each(LossyWriter::drain);
    }

    /// For a bar, the terminal has to move its cursor.
    fn with_bar(&self) -> Option<&LossyWriter> {
        let is_dumb = matches!(term().as_str(), "" | "dumb");
        self.output.as_ref().filter(|_| !is_dumb && io::stderr().is_terminal())
    }
}

fn term() -> String {
    env::var("TERM").unwrap_or_default().to_lowercase()
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

struct Bar {
    bar: ProgressBar,
    canvas: Canvas,
    output: LossyWriter,
    has_title: bool,
    title: Option<String>,
    template: &'static str,
}

struct Hold {
    why: String,
    since: SystemTime,
    started_at: Instant,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
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

    /// Takes note of a hold and of its end.
    pub(super) fn note(&mut self, event: &Event) {
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

    /// Shows the counts. `rate` is the requests a second that are aimed at; `next_probe` is when the service is tried
    /// again, if the run is on hold.
    pub(super) fn show(&mut self, tally: &Stats, rate: f64, next_probe: Option<Instant>) {
        let now = Instant::now();
        let rows = tally.done() - tally.already_done();
        self.speed.note(now, self.hold.is_some(), rows, tally.requests());
        let is_asked = self.terminal.is_status_asked.swap(false, Ordering::AcqRel);
        let is_due = matches!(self.display, Display::Plain) && now - self.started_at >= plain_due(self.plain_lines);
        if is_due {
            self.plain_lines += 1;
        }
        let left = self.time_left(tally, rate);
        if is_due || is_asked {
            self.log(tally, left, next_probe);
        }
        let parts = self.parts(tally, left, next_probe);
        if let Display::Bar(bar) = &mut self.display {
            bar.show(&parts, tally.done(), self.total, self.hold.is_some(), left);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&mut self) {
        if let Display::Bar(bar) = &mut self.display {
            bar.output.last_line(None);
            bar.set_title(None);
        }
        self.display = Display::None;
    }

    fn log(&self, tally: &Stats, left: Option<Duration>, next_probe: Option<Instant>) {
        let parts = self.parts(tally, left, next_probe);
        tracing::info!(
            target: TARGET,
            rows = self.total,
            done = tally.done(),
            ok = tally.outcome(Outcome::Ok),
            outside = tally.outcome(Outcome::Outside),
            failed = tally.outcome(Outcome::Failed),
            invalid = tally.outcome(Outcome::Invalid),
            retrying = tally.retrying(),
            rate = self.speed.requests().map(|rate| (rate * 10.0).round() / 10.0),
            seconds_left = left.map(|left| left.as_secs()),
            on_hold = self.hold.is_some(),
            "{}",
            joined(&parts)
        );
    }

    /// What there is to say, in order, with how much it matters.
    fn parts(&self, tally: &Stats, left: Option<Duration>, next_probe: Option<Instant>) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(hold) = &self.hold {
            let lasts = rough(hold.started_at.elapsed());
            parts.push(Part(9, "ON HOLD".into()));
            parts.push(Part(6, format!(" since {} ({lasts})", clock(hold.since))));
            parts.push(Part(8, format!(": {}", hold.why)));
            parts.push(Part(
                7,
                match next_probe.map(|at| at.saturating_duration_since(Instant::now())) {
                    Some(wait) if wait > Duration::ZERO => format!("next probe in {}", rough(wait)),
                    _ => "probing now".into(),
                },
            ));
        }
        let done = grouped(tally.done());
        parts.push(Part(
            9,
            match self.total {
                Some(total) => format!("{done}/{} rows", grouped(total)),
                None => format!("{done} rows"),
            },
        ));
        parts.push(Part(1, format!("ok {}", grouped(tally.outcome(Outcome::Ok)))));
        for (weight, name, count) in [
            (4, "outside", tally.outcome(Outcome::Outside)),
            (6, "failed", tally.outcome(Outcome::Failed)),
            (3, "invalid", tally.outcome(Outcome::Invalid)),
            (2, "retrying", tally.retrying()),
        ] {
            if count > 0 {
                parts.push(Part(weight, format!("{name} {}", grouped(count))));
            }
        }
        if self.hold.is_some() {
            return parts;
        }
        if let Some(trouble) = tally.trouble(Instant::now()) {
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
    fn time_left(&self, tally: &Stats, rate: f64) -> Option<Duration> {
        let left = self.total?.saturating_sub(tally.done());
        let speed = match self.speed.measured() < MEASURED_FROM {
            true => rate,
            false => self.speed.rows()?,
        };
        let seconds = Duration::try_from_secs_f64((left as f64 / speed).ceil()).ok()?;
        // Nobody plans for so long, and the calendar ends.
        (seconds < Duration::from_secs(10 * 365 * 24 * 60 * 60)).then_some(seconds)
    }
}

/// The title is the terminal's again, also after an error.
impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Bar {
    fn new(output: LossyWriter, total: Option<u64>) -> Bar {
        let canvas = Canvas::default();
        // It is asked to draw several times for each line that is shown.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(canvas.clone()), u8::MAX);
        let term = term();
        Bar {
            bar: ProgressBar::with_draw_target(total, target),
            canvas,
            output,
            has_title: WITH_TITLE.iter().any(|name| term.starts_with(name)) || term == "st",
            title: None,
            template: "",
        }
    }

    fn show(&mut self, parts: &[Part], done: u64, total: Option<u64>, is_held: bool, left: Option<Duration>) {
        let percent = total.map(|total| done * 100 / total.max(1));
        let (template, text) = layout(parts, usize::from(columns()), percent.is_some() && !is_held);
        if template != self.template {
            self.template = template;
            self.bar
                .set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        }
        self.bar.set_position(done);
        self.bar.set_message(text);
        self.bar.tick();
        self.output.last_line(Some(self.canvas.line().trim_end().to_owned()));
        let title = match (is_held, percent, left) {
            (true, ..) => "zim-batch: on hold".to_owned(),
            (_, Some(percent), Some(left)) => format!("zim-batch: {percent}%, {} left", rough(left)),
            (_, Some(percent), None) => format!("zim-batch: {percent}%"),
            (_, None, _) => format!("zim-batch: {} rows", grouped(done)),
        };
        self.set_title(Some(title));
    }

    fn set_title(&mut self, title: Option<String>) {
        if self.has_title && title != self.title {
            self.output.title(title.clone());
            self.title = title;
        }
    }
}

/// What indicatif draws on: one line, which is shown when it is complete.
#[derive(Debug, Clone, Default)]
struct Canvas(Arc<Mutex<String>>);

impl Canvas {
    fn line(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// It is always one line, so the cursor need not be moved up or down.
impl TermLike for Canvas {
    fn width(&self) -> u16 {
        columns()
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut line = self.line();
        match text.strip_prefix('\r') {
            Some(text) => text.clone_into(&mut line),
            None => line.push_str(text),
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.line().clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// One less than there are: a cursor behind the last column is on the next line already, on some terminals.
fn columns() -> u16 {
    let columns = Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| columns);
    match columns {
        0 => COLUMNS,
        columns => columns,
    }
    .saturating_sub(1)
    .max(1)
}

/// Something to say, and how much it matters where there is little room.
struct Part(u8, String);

/// What matters least is left out before the bar is.
const LESS_THAN_A_BAR: u8 = 2;

/// The template and the message that fit into so many columns.
fn layout(parts: &[Part], columns: usize, with_bar: bool) -> (&'static str, String) {
    /// `100% `, and a blank before it.
    const PERCENT: usize = 6;
    if !with_bar {
        return ("{spinner} {msg}", fitted(parts, columns.saturating_sub(2)));
    }
    let beside_bar = columns.saturating_sub(MIN_BAR + PERCENT);
    let matters = |part: &&Part| part.0 > LESS_THAN_A_BAR;
    if measure_text_width(&joined(parts.iter().filter(matters))) <= beside_bar {
        ("{wide_bar} {percent:>3}% {msg}", fitted(parts, beside_bar))
    } else {
        ("{percent:>3}% {msg}", fitted(parts, columns.saturating_sub(PERCENT)))
    }
}

/// As many of the parts as fit, the ones that matter most; cut if even one does not.
fn fitted(parts: &[Part], columns: usize) -> String {
    let mut kept: Vec<&Part> = parts.iter().collect();
    loop {
        let text = joined(kept.iter().copied());
        let least = kept.iter().map(|part| part.0).min();
        if measure_text_width(&text) <= columns || kept.len() < 2 {
            return truncate_str(&text, columns, "…").into_owned();
        }
        // The last of those that matter least. Two that matter most are rather cut than left out.
        let Some(index) = kept.iter().rposition(|part| Some(part.0) == least && part.0 < 8) else {
            return truncate_str(&text, columns, "…").into_owned();
        };
        kept.remove(index);
    }
}

/// With commas between them, but before one that begins with a blank or a colon.
fn joined<'a>(parts: impl IntoIterator<Item = &'a Part>) -> String {
    let mut text = String::new();
    for Part(_, part) in parts {
        if !text.is_empty() && !part.starts_with([' ', ':']) {
            text += ", ";
        }
        text += part;
    }
    text
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

/// How fast it went lately.
#[derive(Default)]
struct Speed {
    looked: Option<Instant>,
    now: Sample,
    /// About one a second, oldest first.
    samples: VecDeque<Sample>,
}

/// What was done after so much time that was not on hold.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    time: Duration,
    rows: u64,
    requests: u64,
}

impl Speed {
    fn note(&mut self, now: Instant, is_held: bool, rows: u64, requests: u64) {
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |looked| now - looked);
        if !is_held {
            self.now.time += passed;
        }
        (self.now.rows, self.now.requests) = (rows, requests);
        match self.samples.back() {
            Some(last) if self.now.time - last.time < Duration::from_secs(1) => {}
            _ => self.samples.push_back(self.now),
        }
        while self.measured() > WINDOW && self.samples.len() > 1 {
            self.samples.pop_front();
        }
    }

    /// The time that the speed is of.
    fn measured(&self) -> Duration {
        self.samples
            .front()
            .map_or(Duration::ZERO, |first| self.now.time - first.time)
    }

    /// Rows a second; `None` if there is nothing to tell it from.
    fn rows(&self) -> Option<f64> {
        self.per_second(|sample| sample.rows)
    }

    /// Requests a second, likewise.
    fn requests(&self) -> Option<f64> {
        self.per_second(|sample| sample.requests)
    }

    fn per_second(&self, count: impl Fn(&Sample) -> u64) -> Option<f64> {
        let counted = count(&self.now) - count(self.samples.front()?);
        let measured = self.measured();
        (measured >= Duration::from_secs(1) && counted > 0).then(|| counted as f64 / measured.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        vec![
            Part(9, "1,274/12,201 rows".into()),
            Part(1, "ok 1,180".into()),
            Part(6, "failed 12".into()),
            Part(8, "last error: connection refused (os error 111)".into()),
            Part(5, "19.9/s".into()),
            Part(7, "9m 20s left".into()),
        ]
    }

    #[test]
    fn what_does_not_fit_is_left_out_by_how_little_it_matters() {
        for columns in 1..250 {
            for with_bar in [true, false] {
                let (template, text) = layout(&parts(), columns, with_bar);
                let beside = match template {
                    "{spinner} {msg}" => 2,
                    "{percent:>3}% {msg}" => 5,
                    _ => MIN_BAR + 6,
                };
                assert!(
                    measure_text_width(&text) + beside <= columns.max(8),
                    "{columns}: {text}"
                );
            }
        }
        let at = |columns| fitted(&parts(), columns);
        assert!(
            at(200).contains("ok 1,180") && at(200).contains("19.9/s"),
            "{}",
            at(200)
        );
        assert_eq!(
            at(80),
            "1,274/12,201 rows, last error: connection refused (os error 111), 9m 20s left"
        );
        assert!(
            at(64).starts_with("1,274/12,201 rows, last error: connection refused"),
            "{}",
            at(64)
        );
        assert!(at(30).ends_with('…'), "{}", at(30));
    }

    fn tally() -> Stats {
        Stats::new([0; Outcome::ALL.len()])
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
            progress.show(&tally(), 20.0, None);
        }
        drop(guard);
        log.text()
    }

    #[tokio::test(start_paused = true)]
    async fn plain_lines_come_where_no_bar_can_be_drawn_and_few_of_them() {
        for (style, lines) in [(Style::Bar, 4), (Style::Auto, 4), (Style::Plain, 4), (Style::None, 0)] {
            let mut progress = Progress::new(style, Terminal::new(), Some(1201));
            let log = pass(&mut progress, 16 * 60).await;
            assert_eq!(log.lines().count(), lines, "{style:?}: {log}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_is_told_once_how_far_the_run_is_whatever_is_shown() {
        let terminal = Terminal::new();
        let mut progress = Progress::new(Style::None, terminal.clone(), Some(1201));
        terminal.ask_status();
        let log = pass(&mut progress, 2).await;
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("0/1,201 rows"), "{log}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_says_since_when_why_and_when_the_next_probe_comes() {
        let mut progress = Progress::new(Style::None, Terminal::new(), Some(1201));
        let why = "connection refused".to_owned();
        progress.note(&Event::Held { why });
        let next_probe = Instant::now() + Duration::from_secs(12);
        let held = joined(&progress.parts(&tally(), None, Some(next_probe)));
        assert!(held.starts_with("ON HOLD since "), "{held}");
        assert!(
            held.ends_with(": connection refused, next probe in 12s, 0/1,201 rows, ok 0"),
            "{held}"
        );
        progress.note(&Event::Released);
        let text = joined(&progress.parts(&tally(), Some(Duration::from_secs(2 * 3600)), None));
        assert!(text.starts_with("0/1,201 rows, ok 0, 2h left, until "), "{text}");
    }

    #[test]
    fn the_time_left_is_of_the_last_minutes_and_a_hold_does_not_count() {
        let mut speed = Speed::default();
        let mut now = Instant::now();
        let (mut rows, second) = (0, Duration::from_secs(1));
        for _ in 0..600 {
            now += second;
            rows += 20;
            speed.note(now, false, rows, rows);
        }
        // On hold for an hour, in which some rows are still answered.
        for _ in 0..3600 {
            now += second;
            speed.note(now, true, rows, rows);
        }
        assert!((speed.rows().unwrap() - 20.0).abs() < 0.2, "{:?}", speed.rows());
        for _ in 0..240 {
            now += second;
            rows += 5;
            speed.note(now, false, rows, 2 * rows);
        }
        assert!((speed.rows().unwrap() - 5.0).abs() < 0.1, "{:?}", speed.rows());
        assert!(speed.samples.len() < 200);
    }

    #[test]
    fn there_is_no_speed_where_nothing_was_measured() {
        let (mut speed, now) = (Speed::default(), Instant::now());
        assert_eq!(speed.requests(), None);
        speed.note(now, false, 0, 0);
        speed.note(now + Duration::from_millis(300), false, 5, 5);
        assert_eq!(speed.requests(), None);
    }
}
