//! What is sent while the service is unreachable: when ten rows have failed for the first time, without an answer to any in
//! between, single probes follow, one at a time and ever more rarely, until the service answers.

use std::collections::HashSet;
use std::time::Duration;

use crate::job::Ended;
use crate::life::What;
use crate::run_end::{is_limited, is_up};
use crate::stage::{Stage, name};
use crate::world::{Asked, Sent};

const SECOND: Duration = Duration::from_secs(1);

/// So many rows that fail for the first time are an outage.
const MANY: usize = 10;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Failed,
    /// It was answered, and be it that there were too many.
    Answered,
}

/// Checks the requests of a run.
pub fn check(stage: &Stage, run: &Ended) {
    if stage
        .life
        .events
        .iter()
        .any(|event| matches!(event.what, What::Stall(_)))
    {
        return; // A start may be late then.
    }
    let world = stage.world();
    let sent: Vec<Sent> = world
        .requests
        .iter()
        .filter(|sent| sent.run == run.run)
        .cloned()
        .collect();
    let refused = world.refused.iter().filter(|(of, _)| *of == run.run);
    let mut tries: Vec<Duration> = refused
        .map(|(_, at)| *at)
        .chain(sent.iter().map(|sent| sent.at))
        .collect();
    tries.sort_unstable();
    drop(world);
    // What has no answer has failed at the latest when it timed out.
    let may_take = Duration::from_millis(run.flags.timeout_ms) + SECOND;
    let end = |sent: &Sent| match sent.answered {
        Some((at, said)) if is_up(said) || is_limited(&said) => (at, End::Answered),
        Some((at, _)) => (at, End::Failed),
        None => (sent.at + may_take, End::Failed),
    };
    let mut ends: Vec<((Duration, End), &Sent)> = sent.iter().map(|sent| (end(sent), sent)).collect();
    ends.sort_by_key(|(end, _)| *end);
    let (mut failed_before, mut failing): (HashSet<&Asked>, usize) = (HashSet::new(), 0);
    let mut answered_at = Duration::ZERO;
    for (nth, ((at, end), sent)) in ends.iter().enumerate() {
        match end {
            End::Answered => (failing, answered_at) = (0, *at),
            // When it has failed is not known for each, so only those count that were sent since the answer.
            End::Failed => {
                let is_first = failed_before.insert(&sent.asked);
                failing += usize::from(is_first && sent.at >= answered_at);
            }
        }
        if *end == End::Failed && failing >= MANY {
            let mut later = ends[nth + 1..].iter();
            let until = later.find(|((_, end), _)| *end == End::Answered);
            let until = until.map_or(run.ended, |((at, _), _)| *at);
            probes(stage, run, &tries, (*at, until));
            failing = 0;
        }
    }
}

/// Between these moments only probes are sent.
fn probes(stage: &Stage, run: &Ended, tries: &[Duration], (from, until): (Duration, Duration)) {
    let from = from + Duration::from_millis(5);
    let probes = tries.iter().filter(|at| **at > from && **at < until).count();
    // The pauses are 1, 2, 4 … 30 seconds.
    let (mut most, mut pause, mut at) = (1, SECOND, from + SECOND);
    while at < until {
        most += 1;
        pause = (pause * 2).min(30 * SECOND);
        at += pause;
    }
    if probes > most {
        let how = format!("{}: {probes} from {from:?} until {until:?}, not {most}", name(run.run));
        stage.violated("an outage is probed now and then", how);
    }
}
