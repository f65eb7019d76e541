//! What a run says when it ends: its counts, and why it stopped.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use zim_batch::{StopReason, Summary};

use crate::exits;
use crate::input::Expected;
use crate::job::Ended;
use crate::life::{FeedKind, What};
use crate::look::codes;
use crate::promises::{Files, Repeats};
use crate::report::Row;
use crate::stage::{Stage, name};
use crate::stopping;
use crate::world::{Asked, Said, Sent};

const SECOND: Duration = Duration::from_secs(1);

/// The longest time between two probes, `Retry-After` not counted.
const MAX_PROBE: Duration = Duration::from_secs(30);

pub fn check(stage: &Stage, ended: &Ended, summary: &Summary, files: &Files, lines: &[Expected]) {
    let sent: Vec<Sent> = stage
        .world()
        .requests
        .iter()
        .filter(|sent| sent.run == ended.run)
        .cloned()
        .collect();
    let before: HashSet<u64> = ended.before.iter().map(|record| record.line).collect();
    let new: Vec<&Row> = files
        .records
        .iter()
        .filter(|record| !before.contains(&record.line))
        .collect();
    let is_kept = |old: &Row| old.outcome == "invalid" || files.records.contains(old);
    if !ended.before.iter().all(is_kept) {
        stage.violated("a record is never changed or lost", name(ended.run));
    }
    counts(stage, ended, summary, &new, files);
    exits::check(stage, ended, summary, files);
    if !ended.disk_failed {
        requests(stage, ended, summary, &sent, &new);
    }
    // Users that can't be listed count as failed rows do.
    let failed_users = files.users.iter().filter(|record| record.outcome == "failed").count() as u64;
    stops(stage, ended, summary, &sent, &new, failed_users);
    let is_users = stage.life.jobs[ended.run.0].clears_users();
    if summary.stopped.is_none() && ended.flags.limit.is_none() {
        let lines = &lines[..ended.lines.min(lines.len())];
        let has = |records: &[Row], line: u64| records.iter().any(|record| record.line == line);
        let done = if is_users { &files.users } else { &files.records };
        if let Some(left) = lines.iter().find(|line| !has(done, line.line)) {
            let how = format!(
                "{}: it says complete, and line {} has no record",
                name(ended.run),
                left.line
            );
            stage.violated("every stop has its reason", how);
        }
    }
}

fn counts(stage: &Stage, ended: &Ended, summary: &Summary, new: &[&Row], files: &Files) {
    let promise = "counts add up";
    let is_users = stage.life.jobs[ended.run.0].clears_users();
    let count = |outcome: &str| new.iter().filter(|record| record.outcome == outcome).count() as u64;
    let said = [
        ("ok", summary.ok),
        ("outside", summary.outside),
        ("failed", summary.failed),
        ("invalid", summary.invalid),
        ("skipped", summary.skipped),
    ];
    for (outcome, said) in said {
        if said != count(outcome) {
            let how = format!(
                "{}: {said} {outcome}, and {} were recorded",
                name(ended.run),
                count(outcome)
            );
            stage.violated(promise, how);
        }
    }
    let rows = if is_users { files.rows.len() } else { ended.lines } as u64;
    // What was not read of a source is not counted.
    let may_be_read = summary.stopped.is_none() || ended.fed.is_none();
    let is_all = ended.flags.limit.is_none() && !is_users && may_be_read;
    let has_read_all = is_all || (is_users && summary.stopped.is_none() && ended.flags.limit.is_none());
    if !summary.is_consistent() || (has_read_all && summary.rows != rows) {
        stage.violated(
            promise,
            format!(
                "{}: {} rows, and there are {rows}: {summary:?}",
                name(ended.run),
                summary.rows
            ),
        );
    }
    let earlier = ended.before.len() as u64;
    let is_less = ended.fed.is_some() && summary.stopped.is_some() && summary.already_done < earlier;
    if summary.already_done != earlier && !is_less {
        stage.violated(
            promise,
            format!(
                "{}: {} already done, not {earlier}",
                name(ended.run),
                summary.already_done
            ),
        );
    }
    if let Some(limit) = ended.flags.limit
        && summary.ok + summary.outside + summary.failed > limit
    {
        stage.violated("--limit is kept", format!("{}: {summary:?}", name(ended.run)));
    }
    let listed = summary.conversations.filter(|_| summary.users.is_none());
    let expected: u64 = new.iter().map(|record| record.conversations).sum();
    if listed.is_some_and(|listed| listed != expected) && !ended.disk_failed {
        let how = format!("{}: {listed:?} conversations, not {expected}", name(ended.run));
        stage.violated(promise, how);
    }
    let Some(users) = &summary.users else { return };
    // A disk that failed may have rows of a user without a record, which resuming takes out.
    let of = |outcome: &str| files.users.iter().filter(|record| record.outcome == outcome).count() as u64;
    let said = [
        users.ok,
        users.failed,
        users.invalid,
        users.skipped,
        users.total - users.not_run,
    ];
    let found = ["ok", "failed", "invalid", "skipped"].map(of);
    if said[..4] != found
        || said[4] != files.users.len() as u64
        || (!ended.disk_failed && users.conversations != files.rows.len() as u64)
    {
        stage.violated(
            promise,
            format!("{}: {users:?}, and {found:?} were recorded", name(ended.run)),
        );
    }
}

fn requests(stage: &Stage, ended: &Ended, summary: &Summary, sent: &[Sent], new: &[&Row]) {
    let promise = "requests are counted";
    let said = |sent: &Sent| sent.answered.map(|(_, said)| said);
    let limited = sent.iter().filter_map(said).filter(is_limited).count() as u64;
    let expected_codes = codes(sent.iter().filter_map(said).filter_map(|said| said.code));
    let mut starts: Vec<Duration> = sent.iter().map(|sent| sent.at).collect();
    starts.sort();
    let within = |first: usize| {
        starts[first..]
            .iter()
            .take_while(|at| **at - starts[first] < SECOND)
            .count()
    };
    let peak = (0..starts.len()).map(within).max().unwrap_or(0) as u64;
    rate(stage, ended, summary, &starts);
    let expected = (sent.len() as u64, limited, peak, ended.told.sent);
    let found = (summary.requests, summary.limited, summary.peak_1s, summary.requests);
    if expected != found || summary.codes != expected_codes {
        let how = format!(
            "{}: {found:?}, not {expected:?}; codes {:?}, not {expected_codes:?}",
            name(ended.run),
            summary.codes
        );
        stage.violated(promise, how);
    }
    if stage.life.jobs[ended.run.0].users.is_some() {
        return;
    }
    let repeats = Repeats::of(stage);
    let tried: HashSet<&Asked> = sent.iter().map(|sent| &sent.asked).collect();
    let are_unique = tried.iter().all(|asked| repeats.is_unique(asked));
    if are_unique && summary.retries != (sent.len() - tried.len()) as u64 {
        let how = format!(
            "{}: {} retries, not {}",
            name(ended.run),
            summary.retries,
            sent.len() - tried.len()
        );
        stage.violated(promise, how);
    }
    for record in new {
        let asked = Asked::Clear(record.key.clone());
        let times = sent.iter().filter(|sent| sent.asked == asked).count() as u64;
        if record.attempts != times && repeats.is_unique(&asked) && record.outcome != "invalid" {
            stage.violated(promise, format!("{}: sent {times} times: {record:?}", name(ended.run)));
        }
    }
}

/// How long the run lasted, and how fast it was.
fn rate(stage: &Stage, ended: &Ended, summary: &Summary, starts: &[Duration]) {
    let lasted = (ended.ended - ended.began).as_secs_f64();
    let sending = starts.last().map_or(0.0, |last| (*last - starts[0]).as_secs_f64());
    // Between the first and the last, or, in a short run, from its start to its end.
    let time = if sending < 5.0 { lasted } else { sending };
    let rate = starts.len().saturating_sub(1) as f64 / time.max(0.001);
    let is_near = |said: f64, is: f64| (said - is).abs() <= 0.02 + is * 0.01;
    let is_short = time < 0.1 || (sending - 5.0).abs() < 0.1;
    if !is_near(summary.elapsed_s, lasted) || !(is_short || is_near(summary.rate, rate)) {
        let how = format!(
            "{}: {} per second in {} s, not {rate} in {lasted}",
            name(ended.run),
            summary.rate,
            summary.elapsed_s
        );
        stage.violated("requests are counted", how);
    }
}

pub fn is_limited(said: &Said) -> bool {
    matches!(said.code, Some(7 | 660_300_005)) || (said.code.is_none() && said.http == 429)
}

/// Whether this is an answer of a service that works.
pub fn is_up(said: Said) -> bool {
    match said.code {
        Some(code) => !matches!(code, 1 | 105_001 | 660_000_001 | 660_800_053 | 7 | 660_300_005),
        None => false,
    }
}

fn stops(stage: &Stage, ended: &Ended, summary: &Summary, sent: &[Sent], new: &[&Row], failed_users: u64) {
    let lasted = ended.ended - ended.began;
    let one_attempt = Duration::from_millis(ended.flags.timeout_ms) + 8 * SECOND;
    let stalls: u64 = stage
        .life
        .events
        .iter()
        .map(|event| if let What::Stall(lasts) = event.what { lasts } else { 0 })
        .sum();
    let slack = one_attempt + 5 * SECOND + Duration::from_millis(stalls);
    let failed = new.iter().filter(|record| record.outcome == "failed").count() as u64 + failed_users;
    let is_answered = |codes: &[i64]| {
        let said = |sent: &Sent| sent.answered.and_then(|(_, said)| said.code);
        sent.iter().filter_map(said).any(|code| codes.contains(&code))
    };
    let slept = stage.clock.slept(ended.began, ended.ended);
    let has_reason = match &summary.stopped {
        None => true,
        Some(by @ (StopReason::Cancelled | StopReason::Signal(_))) => {
            ended.stopped.as_ref().is_some_and(|stopped| stopped.by == *by)
        }
        Some(StopReason::MaxDuration(most)) => {
            ended.flags.max_duration_s == Some(most.as_secs()) && lasted + slept >= *most && lasted <= *most + slack
        }
        Some(StopReason::GaveUp { after, .. }) => had_failed_for(ended, sent, one_attempt) + slept >= *after,
        // When the files of a machine's quota are removed again within a minute, nothing starts for a minute.
        Some(StopReason::NoQuota { after, .. }) => {
            let was_removed_again = stage.removed.lock().unwrap().len() > 1;
            was_removed_again || away_for(stage, ended, one_attempt) + slept >= *after - SECOND
        }
        Some(StopReason::Until(at)) => ended.until == Some(*at) && until_at(stage, ended).is_some(),
        Some(StopReason::MaxFailures { rows, users }) => {
            ended.flags.max_failures.is_some_and(|most| rows + users >= most) && failed >= rows + users
        }
        Some(StopReason::AllRejected { rows, .. }) => *rows >= 20 && failed >= *rows,
        Some(StopReason::Fatal { .. }) => is_answered(&[3, 100_000_005, 100_000_011]),
        Some(StopReason::ReportFailed(_)) => ended.disk_failed,
        Some(StopReason::InputFailed(cause)) => ended.fed.as_ref().is_some_and(|fed| fed.is_why(&cause.to_string())),
        Some(_) => false,
    };
    must_stop(stage, ended, summary, slack);
    stopping::check(stage, ended, summary, sent, new);
    source(stage, ended, summary, new);
    if !has_reason {
        let how = format!(
            "{}: {:?} after {lasted:?}, {:?}",
            name(ended.run),
            summary.stopped,
            ended.flags
        );
        stage.violated("every stop has its reason", how);
    }
    let is_quota_disturbed = stage
        .life
        .events
        .iter()
        .any(|event| matches!(event.what, What::Quota(..) | What::Redis(..)));
    if ended.told.failed_on_hold > 0 && !is_quota_disturbed {
        let how = format!("{}: {} rows failed on hold", name(ended.run), ended.told.failed_on_hold);
        stage.violated("an outage uses up no attempts", how);
    }
    if ended.told.was_starved && !is_quota_disturbed {
        stage.violated("a limit is no outage", name(ended.run));
    }
    if ended.disk_failed && !matches!(summary.stopped, Some(StopReason::ReportFailed(_))) {
        let how = format!(
            "{}: its disk failed, and it says {:?}",
            name(ended.run),
            summary.stopped
        );
        stage.violated("a disk that fails stops the run", how);
    }
    // Pauses don't count, nor what the server asks to wait for.
    let by_timetable = ended
        .flags
        .timetable
        .is_some_and(|entries| entries.iter().any(|(_, rate)| *rate == 0.0));
    let has_pause = by_timetable || stage.limits.lock().unwrap().iter().any(|(_, limit)| limit.is_some());
    let most = Duration::from_secs(ended.flags.give_up_after_s) + MAX_PROBE + slack + 20 * SECOND;
    // After the machine has woken, what was unreachable has a minute.
    let most = if slept.is_zero() { most } else { most + 60 * SECOND };
    let failing = failing_for(stage, ended, sent);
    if !has_pause && failing > most {
        let how = format!(
            "{}: nothing was accepted for {failing:?}, {:?}",
            name(ended.run),
            ended.flags
        );
        stage.violated("a run does not go on beyond --give-up-after", how);
    }
}

/// A source that breaks off ends the run when the rows before have their outcomes, and nothing is read far ahead of its turn.
fn source(stage: &Stage, ended: &Ended, summary: &Summary, new: &[&Row]) {
    let Some(fed) = &ended.fed else { return };
    let is_limited = ended.flags.limit.is_some_and(|limit| limit <= new.len() as u64);
    if fed.breaks && summary.stopped.is_none() && !is_limited {
        let how = format!("{}: {fed:?}, and it says complete", name(ended.run));
        stage.violated("what has to stop a run stops it", how);
    }
    let is_by_source = matches!(summary.stopped, Some(StopReason::InputFailed(_)));
    if is_by_source && fed.kind.is_of_program() && summary.not_run > 0 {
        let how = format!("{}: {} rows before it are not run", name(ended.run), summary.not_run);
        stage.violated("rows before an error of the source have their outcomes", how);
    }
    let ahead = match fed.kind {
        FeedKind::Stream => 1,
        _ => 64,
    };
    let most = ahead + ended.flags.max_in_flight as u64;
    // Rows that could not be sent when it was their turn: nothing could be reached, or their connections waited too long.
    let was_refused = stage.world().refused.iter().any(|(run, _)| *run == ended.run);
    if ended.told.most_ahead > most && !was_refused && ended.told.held == 0 {
        let how = format!(
            "{}: {} rows were taken before their turn",
            name(ended.run),
            ended.told.most_ahead
        );
        stage.violated("at most 64 rows are taken before their turn", how);
    }
}

/// When the clock first showed the time at which a run was to end, if it did.
fn until_at(stage: &Stage, ended: &Ended) -> Option<Duration> {
    let until = ended.until?.duration_since(UNIX_EPOCH).ok()?;
    let until = u64::try_from(until.as_millis()).ok()?;
    stage.clock.first_at(until, ended.began, ended.ended)
}

/// What has to stop a run stops it.
fn must_stop(stage: &Stage, ended: &Ended, summary: &Summary, slack: Duration) {
    let lasted = ended.ended - ended.began;
    // A limit that is reached with the last row stops nothing.
    let users_left = summary.users.as_ref().is_some_and(|users| users.not_run > 0);
    let are_left = summary.not_run > 0 || users_left;
    let by_failures = are_left && ended.flags.max_failures.is_some_and(|most| ended.told.failed >= most);
    let is_late = |at: Duration, most: Duration| ended.ended > at + most;
    let is_too_long = ended.flags.max_duration_s.is_some_and(|most| {
        let due = stage.clock.passed_at(ended.began, Duration::from_secs(most));
        is_late(due, slack)
    });
    let until_late = until_at(stage, ended).is_some_and(|at| is_late(at, slack));
    let (stopped_late, aborted_late) = match &ended.stopped {
        Some(stopped) => (
            is_late(stopped.at, slack),
            stopped.aborted_at.is_some_and(|at| {
                is_late(
                    at,
                    slack.saturating_sub(Duration::from_millis(ended.flags.timeout_ms) + 8 * SECOND),
                )
            }),
        ),
        None => (false, false),
    };
    if (by_failures && summary.stopped.is_none()) || is_too_long || until_late || stopped_late || aborted_late {
        let how = format!(
            "{}: {:?} after {lasted:?}, {} failed, {:?}, {:?}",
            name(ended.run),
            summary.stopped,
            ended.told.failed,
            ended.stopped,
            ended.flags
        );
        stage.violated("what has to stop a run stops it", how);
    }
}

/// How long everything had failed when the run ended, counted from the first failure.
fn failing_for(stage: &Stage, ended: &Ended, sent: &[Sent]) -> Duration {
    let answers = || sent.iter().filter_map(|sent| sent.answered);
    let last_up = answers()
        .filter(|(_, said)| is_up(*said))
        .map(|(at, _)| at)
        .max()
        .unwrap_or(ended.began);
    let world = stage.world();
    let refused = world
        .refused
        .iter()
        .filter(|(run, _)| *run == ended.run)
        .map(|(_, at)| *at);
    let tried = sent.iter().map(|sent| sent.at).chain(refused);
    let first = tried.filter(|at| *at > last_up).min();
    first.map_or(Duration::ZERO, |first| ended.ended - first)
}

/// How long no answer of a working service had come when the run stopped: then it waited for what was in flight.
fn had_failed_for(ended: &Ended, sent: &[Sent], in_flight_for: Duration) -> Duration {
    let answers = sent.iter().filter_map(|sent| sent.answered);
    let mut ups: Vec<Duration> = answers.filter(|(_, said)| is_up(*said)).map(|(at, _)| at).collect();
    ups.extend([ended.began, ended.ended]);
    ups.sort();
    let gaps = ups.windows(2).filter(|gap| gap[1] + in_flight_for >= ended.ended);
    gaps.map(|gap| gap[1] - gap[0]).max().unwrap_or_default()
}

/// How long the quota had been away when the run stopped: then it waited for what was in flight.
fn away_for(stage: &Stage, ended: &Ended, in_flight_for: Duration) -> Duration {
    let (mut since, mut longest) = (None, Duration::ZERO);
    for (from, until) in crate::sharing::outages(stage) {
        if from > ended.ended {
            break;
        }
        // A Redis that was there for a moment may not have been reached.
        let is_again = |(_, before): &(Duration, Duration)| stage.machine.is_none() && from < *before + 3 * SECOND;
        let from = since.filter(is_again).map_or(from, |(first, _)| first);
        since = Some((from, until));
        let until = until.min(ended.ended);
        if until + in_flight_for + SECOND >= ended.ended {
            longest = longest.max(until - from);
        }
    }
    longest
}
