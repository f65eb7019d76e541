//! What a run says in its log: what begins and what ends is said once, and nothing is said that is not so.

use std::time::Duration;

use tracing::Level;

use crate::job::Ended;
use crate::life::What;
use crate::log::Line;
use crate::outages;
use crate::redis::Trouble;
use crate::run_end::{is_limited, is_up};
use crate::stage::{Stage, name};
use crate::world::{Said, Sent};

const SECOND: Duration = Duration::from_secs(1);

/// Rows that fail, without an answer to any in between, before the run is on hold.
const MANY: usize = 10;

/// A run that was killed may be taken for one that is there so long.
const GONE_AFTER: Duration = Duration::from_secs(4);

/// A clock that is further off is said, in seconds.
const CLOCK_OFF: u64 = 60;

/// The service is unavailable, and answers again.
pub const SERVICE_AWAY: &str = "on hold, because the service is unavailable: ";
pub const SERVICE_BACK: &str = "the service answers again: the run continues";

/// The quota that runs share can't be used, and can be again.
pub const QUOTA_AWAY: &str = "on hold, because the quota that runs share can't be used: ";
pub const QUOTA_BACK: &str = "the quota that runs share can be used again: the run continues";

/// How the warnings of the library begin, or what they have, that this test knows.
const KNOWN: [&str; 13] = [
    SERVICE_AWAY,
    SERVICE_BACK,
    QUOTA_AWAY,
    QUOTA_BACK,
    "many requests within a second were answered HTTP 503 or 403, while others are accepted",
    "rate limited, although at most ",
    "the server refuses requests and asks to wait ",
    "this machine's clock is ",
    "another run of this app has a rate of ",
    "this file, through which runs share the quota, was removed, replaced or changed during the run",
    "a torn last record of ",
    "the server accepts requests at the full rate again: the run is no longer slowed down",
    "the limit by 'zim-batch quota' on the quota server can't be read, so there is none",
];

/// Rows of users without a record are taken out, or are missing after a power cut.
const ROWS_MISSING: &str = "rows of the last users of ";

/// A sleep of the machine.
const SLEPT: &str = "the machine slept for ";

/// A row with a line end in an ID.
const LINE_END: &str = "an ID of this row has a line end in it";

/// Checks the log of all runs.
pub fn check(stage: &Stage) {
    let lines = stage.log.lines();
    for job in 0..stage.jobs.len() {
        let runs = stage.job(job).runs.clone();
        for (nth, run) in runs.iter().enumerate() {
            outages::check(stage, run);
            let sent: Vec<Sent> = stage
                .world()
                .requests
                .iter()
                .filter(|sent| sent.run == run.run)
                .cloned()
                .collect();
            let lines: Vec<&Line> = lines.iter().filter(|line| line.run == Some(run.run)).collect();
            let told = Told {
                stage,
                run,
                sent,
                lines,
            };
            told.holds();
            told.service();
            told.limits();
            told.clock();
            told.others(runs[..nth].last());
        }
    }
}

/// What a run has said, and what is known of it.
struct Told<'a> {
    stage: &'a Stage,
    run: &'a Ended,
    sent: Vec<Sent>,
    lines: Vec<&'a Line>,
}

impl Told<'_> {
    fn is_false(&self, line: &Line) {
        let how = format!("{}: at {:?} {:?}", name(self.run.run), line.at, line.text);
        self.stage.violated("a log says nothing false", how);
    }

    fn is_said_again(&self, line: &Line) {
        let how = format!("{}: at {:?} {:?}", name(self.run.run), line.at, line.text);
        self.stage.violated("what begins and ends is said once", how);
    }

    fn lines_with<'a>(&'a self, text: &'static str) -> impl Iterator<Item = &'a Line> {
        let lines = self.lines.iter().copied();
        lines.filter(move |line| line.level <= Level::INFO && line.text.contains(text))
    }

    /// Each hold begins and ends once; what observers are told is said.
    fn holds(&self) {
        let mut counts = [0, 0];
        for [begin, end] in [[KNOWN[0], KNOWN[1]], [KNOWN[2], KNOWN[3]]] {
            let mut is_on_hold = false;
            for line in &self.lines {
                let (begins, ends) = (line.text.contains(begin), line.text.contains(end));
                if (begins && is_on_hold) || (ends && !is_on_hold) {
                    self.is_said_again(line);
                }
                is_on_hold = (is_on_hold || begins) && !ends;
                counts[0] += u64::from(begins);
                counts[1] += u64::from(ends);
            }
        }
        let told = [self.run.told.held, self.run.told.released];
        if self.run.survivors.is_none() && !self.run.disk_failed && counts != told {
            let how = format!("{}: {counts:?} in the log, {told:?} to observers", name(self.run.run));
            self.stage.violated("what begins and ends is said once", how);
        }
    }

    /// A hold begins after many rows have failed, or one that could not reach the service, and ends with an answer.
    fn service(&self) {
        for line in self.lines_with(KNOWN[0]) {
            let answers = || self.sent.iter().filter_map(|sent| sent.answered);
            let ups = answers().filter(|(at, said)| *at < line.at && is_up(*said));
            let since = ups.map(|(at, _)| at).max().unwrap_or(self.run.began);
            let may_fail_for = Duration::from_millis(self.run.flags.timeout_ms) + SECOND;
            let has_failed = |sent: &&Sent| match sent.answered {
                Some((at, said)) if at <= line.at => at >= since && !is_up(said),
                _ => sent.at <= line.at && sent.at + may_fail_for >= since,
            };
            let failed = self.sent.iter().filter(has_failed).count();
            let is_unanswered = |sent: &&Sent| has_failed(sent) && sent.answered.is_none_or(|(at, _)| at > line.at);
            let unanswered = self.sent.iter().filter(is_unanswered).count();
            let refused = self.stage.world().refused.clone();
            let refused = refused
                .iter()
                .filter(|(run, at)| *run == self.run.run && *at >= since && *at <= line.at);
            if failed < MANY && unanswered + refused.count() == 0 {
                self.is_false(line);
            }
        }
        for line in self.lines_with(KNOWN[1]) {
            if !self.has_answer_at(line, |said| is_up(said) || is_limited(&said)) {
                self.is_false(line);
            }
        }
        if !self.has_event(|what| matches!(what, What::Quota(..) | What::Redis(..))) {
            self.lines_with(KNOWN[2]).for_each(|line| self.is_false(line));
        }
    }

    /// What is said of a rate limit comes with a refusal.
    fn limits(&self) {
        for line in self.lines_with(KNOWN[4]) {
            let unclear = self.sent.iter().filter_map(|sent| sent.answered);
            let unclear = unclear.filter(|(at, said)| *at <= line.at && matches!(said.http, 503 | 403));
            if unclear.count() < 5 || !self.has_answer_at(line, is_up) {
                self.is_false(line);
            }
        }
        for line in self.lines_with(KNOWN[5]) {
            let refused = self.sent.iter().filter_map(|sent| sent.answered);
            let refused = refused.filter(|(at, said)| *at + SECOND >= line.at && *at <= line.at && is_limited(said));
            if refused.count() == 0 || !self.has_answer_at(line, |said| is_limited(&said)) {
                self.is_false(line);
            }
        }
        let mut is_slow = false;
        for line in &self.lines {
            let begins = line.text.contains(KNOWN[4]) || line.text.contains(KNOWN[5]);
            let ends = line.text.contains(KNOWN[11]);
            if (begins && is_slow) || (ends && !is_slow) {
                self.is_said_again(line);
            }
            is_slow = (is_slow || begins) && !ends;
        }
        let mut said_at = None;
        for line in self.lines_with(KNOWN[6]) {
            let seconds = |said: Said| {
                said.retry_after
                    .is_some_and(|wait| line.text.contains(&asked_to_wait(wait)))
            };
            if !self.has_answer_at(line, |said| is_limited(&said) && seconds(said)) {
                self.is_false(line);
            }
            let is_soon = said_at
                .replace(line.at)
                .is_some_and(|before| line.at - before < 60 * SECOND);
            if is_soon {
                self.is_said_again(line);
            }
        }
    }

    /// A clock that is far off is said, and no other.
    fn clock(&self) {
        let is_off = self.stage.life.world.skew.unsigned_abs() > CLOCK_OFF;
        let said = self.lines_with(KNOWN[7]).next();
        if let Some(line) = said.filter(|_| !is_off) {
            self.is_false(line);
        }
        let is_answered = self.sent.iter().any(|sent| sent.answered.is_some());
        if is_off && is_answered && said.is_none() && self.run.survivors.is_none() && !self.run.disk_failed {
            let how = format!("{}: {} s are not said", name(self.run.run), self.stage.life.world.skew);
            self.stage.violated("a clock that is off is said", how);
        }
    }

    /// The other warnings; what this test does not know is false.
    fn others(&self, earlier: Option<&Ended>) {
        let was_cut_short = earlier.is_some_and(|run| run.survivors.is_some() || run.disk_failed);
        for line in self.lines.iter().filter(|line| line.level <= Level::WARN) {
            let has = |text: &str| line.text.contains(text);
            let is_so = if has(KNOWN[8]) {
                self.has_faster_run(line)
            } else if has(KNOWN[9]) {
                self.has_event(|what| matches!(what, What::Quota(..)))
            } else if has(KNOWN[10]) || has(ROWS_MISSING) {
                was_cut_short
            } else if has(KNOWN[12]) {
                self.has_event(|what| matches!(what, What::Redis(Trouble::Nonsense(..) | Trouble::OtherType(_), _)))
            } else if has(SLEPT) {
                self.has_event(|what| matches!(what, What::Sleep(_)))
            } else if has(LINE_END) {
                self.stage.life.has_line_ends()
            } else {
                KNOWN.iter().any(|known| has(known))
            };
            if !is_so {
                self.is_false(line);
            }
        }
    }

    /// Whether another run with the rate that is named was there a moment ago. An operator's limit may have made it lower.
    fn has_faster_run(&self, line: &Line) -> bool {
        let words = line.text.split(KNOWN[8]).nth(1);
        let rate = words.and_then(|text| text.split(' ').next()?.parse().ok());
        let is_meant = |run: &Ended| {
            let was_there = run.began <= line.at && line.at <= run.ended + GONE_AFTER;
            run.run != self.run.run && was_there && rate.is_some_and(|rate: f64| run.flags.rate >= rate)
        };
        let is_under_way = |job: usize| self.stage.job(job).runs.iter().any(is_meant);
        (0..self.stage.jobs.len()).any(is_under_way)
    }

    /// Whether such an answer has come when this was said: nothing takes time between the two.
    fn has_answer_at(&self, line: &Line, is_meant: impl Fn(Said) -> bool) -> bool {
        let stalls = self.stage.life.events.iter().map(|event| match event.what {
            What::Stall(lasts) => Duration::from_millis(lasts),
            _ => Duration::ZERO,
        });
        let late: Duration = stalls.sum();
        let answers = self.sent.iter().filter_map(|sent| sent.answered);
        let mut then = answers.filter(|(at, _)| *at <= line.at && *at + late >= line.at);
        then.any(|(_, said)| is_meant(said))
    }

    fn has_event(&self, is_meant: impl Fn(&What) -> bool) -> bool {
        self.stage.life.events.iter().any(|event| is_meant(&event.what))
    }
}

fn asked_to_wait(seconds: u64) -> String {
    format!("asks to wait {seconds}s (Retry-After)")
}
