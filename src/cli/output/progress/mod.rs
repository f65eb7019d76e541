//! Progress of a run: a bar on a terminal, otherwise an occasional plain line.
//!
//! indicatif draws the bar on a [`LossyWriter`](crate::cli::output::lossy::LossyWriter), below the log lines. Plain lines are log events
//! with target [`TARGET`]. They are few, because a cron mail with hundreds of them helps nobody.

mod bar;
mod parts;
mod speed;
mod terminal;

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use zim_batch::Rate;
use zim_batch::event::Event;
use zim_batch::limiter::RateLimit;
use zim_batch::row::Outcome;
use zim_batch::run::stats::{Stats, Users};
use zim_batch::run::summary::Summary;
use zim_batch::run::{Observer, Status};
use zim_batch::text::{clock, ends_at, grouped, short_clock};

use crate::cli::args::ProgressStyle;
use crate::cli::errors::hints::restriction;
use bar::Bar;
use parts::{Part, joined};
use speed::Speed;
pub use terminal::Terminal;

/// The target of the log events that report progress, at level INFO.
pub const TARGET: &str = "zim_batch::progress";

/// When the first plain lines are due, from the start of the run; later ones follow every [`PLAIN_INTERVAL`].
const PLAIN_AT: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(2 * 60)];

/// The interval between plain lines. Some supervisors end a job that prints nothing for ten minutes.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The interval between plain lines in a pause, because all of them say the same.
const PLAIN_INTERVAL_PAUSED: Duration = Duration::from_secs(60 * 60);

/// Before this much time was measured, the time left is estimated from the target rate instead of the measured speed.
const MEASURED_FROM: Duration = Duration::from_secs(5);

/// With more time left than this, the expected time of day of the end is shown too.
const CLOCK_FROM: Duration = Duration::from_secs(60 * 60);

/// Shows the progress of a run.
pub struct Progress {
    terminal: Terminal,
    display: Display,
    started_at: Instant,
    /// The number of rows, if known.
    total: Option<u64>,
    /// What they are: `rows` or `users`.
    items: &'static str,
    /// Where what is listed is cleared: the number of users, if known.
    users: Option<Option<u64>>,
    /// When the next plain line is due.
    plain_due: Instant,
    hold: Option<Hold>,
    /// The rate in force; `None` is a pause.
    rate_in_force: Option<Rate>,
    /// The speed since that is in force.
    speed: Speed,
    ends: Option<Ends>,
    /// How much of the rate in force is used, in what is counted per request that may start.
    efficiency: Option<f64>,
}

/// When a time limit ends the run, if nothing ends it before.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub at: SystemTime,
    /// The flag of the limit.
    pub flag: &'static str,
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

impl Hold {
    /// Since when, why, and when the service is tried again.
    fn parts(&self, next_probe: Option<Instant>) -> [Part; 4] {
        let lasts = rounded(self.started_at.elapsed());
        let probe = match next_probe.map(|at| at.saturating_duration_since(Instant::now())) {
            Some(wait) if wait > Duration::ZERO => format!("next probe in {}", rounded(wait)),
            _ => "probing now".to_owned(),
        };
        [
            Part::new(9, "ON HOLD"),
            Part::new(6, format!(" since {} ({lasts})", clock(self.since)))
                .or(format!(" since {} ({lasts})", short_clock(self.since))),
            Part::new(8, format!(": {}", self.why)),
            Part::new(7, probe),
        ]
    }
}

impl Progress {
    /// `total` is the number of rows; `None` for standard input. `items` is what they are: `rows` or `users`.
    pub fn new(style: ProgressStyle, terminal: Terminal, total: Option<u64>, items: &'static str) -> Progress {
        Progress::showing(style, terminal, total, items, None)
    }

    /// Of a run that lists users and clears what is listed. `users` is their number, if it is known.
    pub fn of_users(style: ProgressStyle, terminal: Terminal, users: Option<u64>) -> Progress {
        Progress::showing(style, terminal, users, "users", Some(users))
    }

    fn showing(
        style: ProgressStyle,
        terminal: Terminal,
        total: Option<u64>,
        items: &'static str,
        users: Option<Option<u64>>,
    ) -> Progress {
        let display = match (style, terminal.with_bar()) {
            (ProgressStyle::None, _) => Display::None,
            (ProgressStyle::Auto | ProgressStyle::Bar, Some(output)) => {
                Display::Bar(Bar::new(output.clone(), total, items))
            }
            (ProgressStyle::Auto | ProgressStyle::Bar | ProgressStyle::Plain, _) => Display::Plain,
        };
        let now = Instant::now();
        Progress {
            terminal,
            display,
            started_at: now,
            total,
            items: if users.is_some() { "rows" } else { items },
            users,
            plain_due: now + PLAIN_AT[0],
            hold: None,
            rate_in_force: None,
            speed: Speed::default(),
            ends: None,
            efficiency: None,
        }
    }

    /// With a time limit.
    #[must_use]
    pub fn ending(mut self, ends: Option<Ends>) -> Progress {
        self.ends = ends;
        self
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
            users = self.users.flatten(),
            users_done = stats.users().map(Users::done),
            rows = self.total(stats),
            done = stats.done(),
            ok = stats.outcome(Outcome::Ok),
            outside = stats.outcome(Outcome::Outside),
            failed = stats.outcome(Outcome::Failed),
            invalid = stats.outcome(Outcome::Invalid),
            retrying = stats.retrying(),
            rate = self.speed.requests().map(|rate| (rate * 10.0).round() / 10.0),
            seconds_left = left.map(|left| left.as_secs()),
            on_hold = self.hold.is_some(),
            paused = self.rate_in_force.is_none(),
            "{}",
            joined(parts)
        );
    }

    /// The parts of a progress line, in order.
    fn parts(&self, status: &Status<'_>, left: Option<Duration>) -> Vec<Part> {
        let stats = status.stats;
        let mut parts = Vec::new();
        if let Some(hold) = &self.hold {
            parts.extend(hold.parts(status.next_probe));
        }
        if let Some(text) = restriction(status.limit) {
            let weight = if status.limit.is_pause() { 9 } else { 7 };
            parts.push(Part::new(weight, text).or(short_restriction(status.limit)));
        }
        if let Some(users) = stats.users() {
            parts.push(Part::new(9, of_all(users.done(), self.users.flatten(), "users")));
        }
        parts.push(Part::new(9, of_all(stats.done(), self.total(stats), self.items)));
        parts.push(Part::new(1, format!("ok {}", grouped(stats.outcome(Outcome::Ok)))));
        for (weight, name, count) in [
            (4, "outside", stats.outcome(Outcome::Outside)),
            (6, "failed", stats.outcome(Outcome::Failed)),
            (3, "invalid", stats.outcome(Outcome::Invalid)),
            (2, "retrying", stats.retrying()),
            (4, "conversations", stats.conversations()),
        ] {
            if count > 0 {
                parts.push(Part::new(weight, format!("{name} {}", grouped(count))));
            }
        }
        if self.hold.is_some() {
            return parts;
        }
        if let Some(trouble) = stats.trouble(Instant::now()) {
            parts.push(Part::new(8, format!("last error: {trouble}")));
        }
        if let Some(rate) = self.speed.requests() {
            parts.push(Part::new(5, format!("{rate:.1}/s")));
        }
        if let Some(early_end) = left.and_then(|left| self.early_end(status, left)) {
            parts.extend(early_end);
        } else if let Some(left) = left {
            parts.push(Part::new(7, format!("{} left", rounded(left))));
            if left > CLOCK_FROM {
                let until = SystemTime::now() + left;
                parts.push(Part::new(5, format!("until {}", clock(until))).or(format!("until {}", short_clock(until))));
            }
        }
        parts
    }

    /// What a time limit does to a run that would take longer.
    fn early_end(&self, status: &Status<'_>, left: Duration) -> Option<Vec<Part>> {
        let Ends { at, flag } = self.ends?;
        let time = at.duration_since(SystemTime::now()).unwrap_or_default();
        if left <= time {
            return None;
        }
        let ends = Part::new(7, format!("ends at {} ({flag})", ends_at(at)));
        let mut parts = vec![ends.or(format!("ends at {}", short_clock(at)))];
        if status.stats.users().is_none() {
            let rows = self.total?.saturating_sub(status.stats.done());
            let done = status.limiter.requests_in(time) * self.efficiency.unwrap_or(1.0);
            let rows = grouped(rows.saturating_sub(done as u64));
            parts.push(Part::new(5, format!(" with about {rows} {} left", self.items)));
        }
        Some(parts)
    }

    /// The number of rows, if it is known; where rows are listed, those that were listed so far.
    fn total(&self, stats: &Stats) -> Option<u64> {
        stats.users().map(Users::rows).or(self.total)
    }

    /// The estimated time for what remains, from the speed of the last minutes, and the rates that will be in force.
    fn time_left(&mut self, status: &Status<'_>) -> Option<Duration> {
        let stats = status.stats;
        let left = match stats.users() {
            Some(users) => stats.requests_left(self.users.flatten()?.saturating_sub(users.done()))?,
            None => self.total?.saturating_sub(stats.done()) as f64,
        };
        if let Some(rate) = status.limit.rate().map(Rate::per_second) {
            let measured = if stats.users().is_some() {
                self.speed.requests()
            } else {
                self.speed.rows()
            };
            self.efficiency = match (self.speed.measured() < MEASURED_FROM, self.efficiency) {
                (true, Some(known)) => Some(known),
                (true, None) => Some(status.rate / rate),
                (false, _) => Some(measured? / rate),
            };
        }
        let seconds = status.limiter.time_for(left / self.efficiency.unwrap_or(1.0))?;
        Some(Duration::from_secs_f64(seconds.as_secs_f64().ceil()))
    }

    /// The speed at another rate says nothing about this one.
    fn note_rate(&mut self, now: Instant, status: &Status<'_>) {
        let rate = status.limit.rate();
        if std::mem::replace(&mut self.rate_in_force, rate) == rate {
            return;
        }
        self.speed = Speed::default();
        if rate.is_some() {
            self.plain_due = self.started_at + next_plain(now - self.started_at);
        }
    }
}

impl Observer for Progress {
    /// Notes when a hold begins or ends.
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

    /// Redraws the bar, and writes a plain line if one is due or was requested.
    fn tick(&mut self, status: &Status<'_>) {
        let (now, stats) = (Instant::now(), status.stats);
        let rows = stats.done() - stats.already_done();
        self.note_rate(now, status);
        let waits = self.hold.is_some() || status.limit.is_pause();
        self.speed.note(now, waits, rows, stats.requests());
        let is_requested = self.terminal.take_status_request();
        let is_due = matches!(self.display, Display::Plain) && now >= self.plain_due;
        if is_due {
            self.plain_due = match self.rate_in_force {
                Some(_) => self.started_at + next_plain(now - self.started_at),
                None => now + PLAIN_INTERVAL_PAUSED,
            };
        }
        let left = self.time_left(status);
        let parts = self.parts(status, left);
        if is_due || is_requested {
            self.log(stats, left, &parts);
        }
        if let Display::Bar(bar) = &mut self.display {
            let done = stats.users().map_or(stats.done(), Users::done);
            let waits = match &self.hold {
                Some(_) => Some("on hold"),
                None => status.limit.is_pause().then_some("paused"),
            };
            bar.show(&parts, done, waits, left);
        }
    }

    /// Removes the bar.
    fn end(&mut self, _: &Summary) {
        self.close();
    }
}

/// Restores the terminal's title, even after an error.
impl Drop for Progress {
    fn drop(&mut self) {
        self.close();
    }
}

/// A restriction in fewer words: `limited to 5/s until 14:00`, `paused`.
fn short_restriction(limit: RateLimit) -> String {
    let what = match limit.rate() {
        Some(rate) => format!("limited to {rate}/s"),
        None => "paused".to_owned(),
    };
    match limit.until() {
        Some(until) => format!("{what} until {}", short_clock(until)),
        None => what,
    }
}

/// `12/100 rows`, or `12 rows` if their number is not known.
fn of_all(done: u64, all: Option<u64>, items: &str) -> String {
    match all {
        Some(all) => format!("{}/{} {items}", grouped(done), grouped(all)),
        None => format!("{} {items}", grouped(done)),
    }
}

/// Rounds up: to seconds below ten minutes, to minutes above.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    let seconds = time.as_secs_f64().ceil() as u64;
    humantime::format_duration(Duration::from_secs(match seconds {
        0..600 => seconds,
        more => more.div_ceil(60) * 60,
    }))
}

/// When the plain line after this one is due, from the start of the run.
fn next_plain(elapsed: Duration) -> Duration {
    let early = PLAIN_AT.into_iter().find(|due| *due > elapsed);
    early.unwrap_or_else(|| PLAIN_INTERVAL * (elapsed.div_duration_f64(PLAIN_INTERVAL) as u32 + 1))
}

#[cfg(test)]
mod tests;
