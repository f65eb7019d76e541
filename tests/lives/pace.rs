//! Promises about when requests start, checked by the server's clock over all runs together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Entries;
use crate::job::Ended;
use crate::life::{Flags, What};
use crate::promises::Repeats;
use crate::stage::{Stage, name};
use crate::world::{Asked, RunId, Sent, TRANSIENT};

const SECOND: Duration = Duration::from_secs(1);

/// A run that has ended counts as long as the quota may know its starts.
const KNOWN_FOR: Duration = Duration::from_secs(4);

/// How long before its start a request may be reserved.
const RESERVED_FOR: Duration = Duration::from_millis(1100);

/// The shortest pause before another try.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Above this rate, a reservation is for several requests.
const MAX_RESERVATIONS: f64 = 200.0;

/// How late a start may be and keep its place.
const MAX_LATE: Duration = Duration::from_millis(11);

pub struct Runs {
    all: Vec<(RunId, Flags, Duration, Duration)>,
}

impl Runs {
    pub fn of(stage: &Stage) -> Runs {
        let of_job = |job: usize| -> Vec<(RunId, Flags, Duration, Duration)> {
            let run = |run: &Ended| (run.run, run.flags, run.began, run.ended);
            stage.job(job).runs.iter().map(run).collect()
        };
        Runs {
            all: (0..stage.jobs.len()).flat_map(of_job).collect(),
        }
    }

    /// The most that may start in a second that ends now, by the rates of the runs.
    fn rate_at(&self, stage: &Stage, now: Duration) -> Option<f64> {
        let counts =
            |(_, _, began, ended): &&(RunId, Flags, Duration, Duration)| *began <= now && now <= *ended + KNOWN_FOR;
        let all: Vec<&Flags> = self.all.iter().filter(counts).map(|(_, flags, ..)| flags).collect();
        match all[..] {
            // A run alone follows its timetable; with others, those know for a while of its rate before.
            [flags] => Some(
                flags
                    .timetable
                    .map_or(flags.rate, |entries| rate_then(stage, &entries, now)),
            ),
            _ => all.iter().map(|flags| flags.rate).reduce(f64::max),
        }
    }
}

/// Whether a run that has just begun could not know what was started in the last second: another program has removed what
/// the machine knew of it, and the runs that would have noticed may be dead.
fn cannot_know(stage: &Stage, runs: &Runs, start: &Sent) -> bool {
    let began = runs
        .all
        .iter()
        .find(|(run, ..)| *run == start.run)
        .map(|(_, _, began, _)| *began);
    let removed = stage.removed.lock().unwrap();
    let is_recent =
        |at: &Duration| *at <= start.at && start.at < *at + 2 * SECOND && began.is_some_and(|began| began > *at);
    removed.iter().any(is_recent)
}

/// Checks all requests of a life.
pub fn check(stage: &Stage) {
    let sent = stage.world().requests.clone();
    let (runs, repeats) = (Runs::of(stage), Repeats::of(stage));
    check_cap(stage, &sent, &runs);
    check_pauses(stage, &sent, &runs);
    check_quota(stage, &sent);
    check_files(stage);
    for (run, flags, ..) in &runs.all {
        let sent: Vec<&Sent> = sent.iter().filter(|sent| sent.run == *run).collect();
        check_own_rate(stage, *run, flags, &sent);
        check_retry_after(stage, *run, &sent, &repeats);
        check_pause(stage, *run, &sent, &repeats);
        check_waits(stage, *run, &sent);
        check_in_flight(stage, *run, flags, &sent);
    }
}

/// The most that operators allowed in the moment before this one, or in this one: after the machine has stood still, limits
/// begin and end at once. Through a Redis, a run may still start what it has reserved before a limit was set.
fn limit_before(stage: &Stage, now: Duration) -> Option<f64> {
    let limits = stage.limits.lock().unwrap();
    let since = match &stage.machine {
        Some(_) => now,
        None => now.saturating_sub(RESERVED_FOR + stage.redis.delay()),
    };
    let first = limits.iter().rposition(|(at, _)| *at < since);
    let allowed = limits[first.unwrap_or(0)..].iter().filter(|(at, _)| *at <= now);
    let mut allowed = allowed.map(|(_, limit)| limit.unwrap_or(f64::INFINITY));
    let none_yet = first.is_none().then_some(f64::INFINITY);
    let most = none_yet.into_iter().chain(&mut allowed).fold(0.0, f64::max);
    (most < f64::INFINITY).then_some(most)
}

/// How many starts of the last second the server may have lost without the runs' notice, because another program has changed
/// them or the server was restarted with older data: of each run the one that it has reserved, and where the next one was to
/// be.
fn may_have_lost(stage: &Stage, runs: &Runs, now: Duration) -> usize {
    let troubles = stage.troubles.lock().unwrap();
    let is_recent = |at: Duration| at <= now && now < at + 2 * SECOND + RESERVED_FOR;
    let are_lost = troubles
        .iter()
        .any(|(at, trouble, _)| is_recent(*at) && trouble.loses_starts(stage.redis.delay()));
    let recent = runs
        .all
        .iter()
        .filter(|(_, _, began, ended)| *began <= now && now < *ended + KNOWN_FOR);
    let starts = |flags: &Flags| (flags.rate / MAX_RESERVATIONS).ceil() as usize;
    let reserved: usize = recent.map(|(_, flags, ..)| starts(flags)).sum();
    if are_lost { reserved + 1 } else { 0 }
}

fn check_cap(stage: &Stage, sent: &[Sent], runs: &Runs) {
    let mut first = 0;
    for (nth, start) in sent.iter().enumerate() {
        while start.at - sent[first].at >= SECOND {
            first += 1;
        }
        let Some(rate) = runs
            .rate_at(stage, start.at)
            .filter(|_| !cannot_know(stage, runs, start) && !stage.clock.was_changed(start.at))
        else {
            continue;
        };
        let limit = limit_before(stage, start.at);
        let lost = may_have_lost(stage, runs, start.at);
        let cap = limit.map_or(rate, |limit| rate.min(limit)).ceil() as usize + lost;
        let count = nth + 1 - first;
        if count > cap {
            let how = format!("{count} in the second before {:?}, of at most {cap}", start.at);
            return stage.violated("never more than the cap in any second", how);
        }
        if lost > 0 {
            continue;
        }
        // Evenly spaced: a start may be a little late, and the next one not.
        let interval = SECOND.div_f64(rate).saturating_sub(MAX_LATE);
        let gap = nth.checked_sub(1).map(|before| start.at - sent[before].at);
        if gap.is_some_and(|gap| gap < interval) {
            let how = format!("{gap:?} before {:?}, at {rate} per second", start.at);
            return stage.violated("requests start evenly", how);
        }
        let within = sent[first..=nth]
            .iter()
            .filter(|sent| start.at - sent.at < SECOND / 10)
            .count();
        if within > cap / 10 + 3 {
            let how = format!(
                "{within} in the tenth of a second before {:?}, at {cap} per second",
                start.at
            );
            return stage.violated("requests start evenly", how);
        }
    }
}

/// Whatever happens to the quota, no run exceeds its own rate.
fn check_own_rate(stage: &Stage, run: RunId, flags: &Flags, sent: &[&Sent]) {
    let cap = flags.rate.ceil() as usize;
    let too_many = sent
        .windows(cap + 1)
        .find(|starts| starts[cap].at - starts[0].at < SECOND);
    if let Some(starts) = too_many {
        let how = format!(
            "{}: more than {cap} in the second before {:?}",
            name(run),
            starts[cap].at
        );
        stage.violated("no run exceeds its own rate", how);
    }
}

/// The rate of a timetable at a moment, or just before.
fn rate_then(stage: &Stage, entries: &Entries, now: Duration) -> f64 {
    let before = now.saturating_sub(Duration::from_millis(2));
    stage.clock.rate(entries, now).max(stage.clock.rate(entries, before))
}

fn check_pauses(stage: &Stage, sent: &[Sent], runs: &Runs) {
    for (run, flags, ..) in &runs.all {
        let Some(entries) = &flags.timetable else { continue };
        let mut of_run = sent.iter().filter(|sent| sent.run == *run);
        if let Some(sent) = of_run.find(|sent| rate_then(stage, entries, sent.at) == 0.0) {
            let how = format!("{} at {:?}, {entries:?}", name(*run), sent.at);
            stage.violated("nothing is sent in a pause", how);
        }
    }
    let is_paused = |sent: &&Sent| limit_before(stage, sent.at) == Some(0.0);
    if let Some(sent) = sent.iter().find(is_paused) {
        stage.violated(
            "nothing is sent in a pause",
            format!("{} at {:?}", name(sent.run), sent.at),
        );
    }
}

fn check_quota(stage: &Stage, sent: &[Sent]) {
    let away = stage.away.lock().unwrap();
    for (nth, (from, is_away)) in away.iter().enumerate() {
        let until = away[nth + 1..]
            .iter()
            .find(|(_, is_away)| !is_away)
            .map_or(Duration::MAX, |(at, _)| *at);
        // A start that was reserved before may be up to a second away.
        let from = *from + RESERVED_FOR + stage.redis.delay();
        let early = sent.iter().find(|sent| *is_away && sent.at > from && sent.at < until);
        if let Some(sent) = early {
            return stage.violated(
                "nothing is sent without the quota",
                format!("{} at {:?}", name(sent.run), sent.at),
            );
        }
    }
}

/// The last run that ends removes the files of a machine's quota, unless it is killed, or another program has them locked or
/// removes them. A limit stays.
fn check_files(stage: &Stage) {
    let Some(machine) = &stage.machine else { return };
    let is_disturbed = stage
        .life
        .events
        .iter()
        .any(|event| matches!(event.what, What::Quota(..)));
    let was_killed =
        (0..stage.jobs.len()).any(|job| stage.job(job).runs.last().is_some_and(|run| run.survivors.is_some()));
    let stays = |path: &&PathBuf| path.extension().is_some_and(|ending| ending != "limit");
    if let Some(left) = machine.files().iter().find(stays)
        && !is_disturbed
        && !was_killed
    {
        stage.violated("no presence outlives its run", left.display().to_string());
    }
}

fn check_retry_after(stage: &Stage, run: RunId, sent: &[&Sent], repeats: &Repeats) {
    for refused in sent {
        let Some((at, said)) = refused.answered else { continue };
        let Some(seconds) = said.retry_after else { continue };
        let until = at + Duration::from_secs(seconds);
        let is_early = |sent: &&&Sent| sent.at > at && sent.at < until && sent.asked == refused.asked;
        if let Some(early) = sent.iter().find(is_early)
            && repeats.is_unique(&refused.asked)
        {
            let how = format!(
                "{}: refused at {at:?} for {seconds} s, sent at {:?}",
                name(run),
                early.at
            );
            return stage.violated("Retry-After is kept", how);
        }
    }
}

/// What has failed is not tried again at once, unless on hold, which has pauses of its own.
fn check_pause(stage: &Stage, run: RunId, sent: &[&Sent], repeats: &Repeats) {
    let holds = stage.job(run.0).runs[run.1].told.holds.clone();
    let epoch = stage.epoch;
    let is_on_hold = |at: Duration| {
        let at = epoch + at;
        holds
            .iter()
            .any(|(from, until)| *from <= at && until.is_none_or(|until| at <= until))
    };
    let mut failed: HashMap<&Asked, Duration> = HashMap::new();
    for sent in sent.iter().filter(|sent| repeats.is_unique(&sent.asked)) {
        if let Some(at) = failed.remove(&sent.asked)
            && sent.at < at + FIRST_PAUSE
        {
            let how = format!("{}: failed at {at:?}, sent at {:?}", name(run), sent.at);
            return stage.violated("a row is tried again after a pause", how);
        }
        let answered = sent
            .answered
            .filter(|(_, said)| said.code.is_some_and(|code| TRANSIENT.contains(&code)));
        let answered = answered.filter(|(at, _)| !is_on_hold(*at));
        failed.extend(answered.map(|(at, _)| (&sent.asked, at)));
    }
}

/// When a request that started after such an answer is refused too, the whole run waits.
fn check_waits(stage: &Stage, run: RunId, sent: &[&Sent]) {
    let refusal = |sent: &&Sent| {
        let (at, said) = sent.answered.filter(|(_, said)| said.http == 429)?;
        Some((at, sent.at, at + Duration::from_secs(said.retry_after?)))
    };
    let mut refusals: Vec<_> = sent.iter().filter_map(refusal).collect();
    refusals.sort();
    let mut first: Option<(Duration, Duration)> = None;
    for (at, started_at, until) in refusals {
        match first {
            Some((asked_at, asked_until)) if at < asked_until => {
                let early = sent
                    .iter()
                    .find(|sent| sent.at > at && sent.at < until && started_at >= asked_at);
                if let Some(early) = early {
                    let how = format!(
                        "{}: it waits from {at:?} to {until:?}, sent at {:?}",
                        name(run),
                        early.at
                    );
                    return stage.violated("Retry-After is kept", how);
                }
            }
            _ => first = Some((at, until)),
        }
    }
}

fn check_in_flight(stage: &Stage, run: RunId, flags: &Flags, sent: &[&Sent]) {
    let mut ends: Vec<Duration> = Vec::new();
    for start in sent {
        ends.retain(|end| *end > start.at);
        if let Some((at, _)) = start.answered {
            ends.push(at);
        }
        if ends.len() > flags.max_in_flight {
            let how = format!("{}: {} at {:?}", name(run), ends.len(), start.at);
            return stage.violated("no more than --max-in-flight requests are open", how);
        }
    }
}
