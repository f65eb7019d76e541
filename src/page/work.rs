//! When rows were being processed, and how fast.

use super::runs::end;
use crate::analysis::Analysis;
use crate::text::duration;

/// So many records in a period, on average, that a period without any is a pause and no coincidence.
const DENSE: u64 = 10;

/// The times with records, without the pauses and the times between runs.
pub(super) fn at_work(analysis: &Analysis) -> Vec<(i64, i64)> {
    let mut idle: Vec<(i64, i64)> = analysis
        .runs
        .windows(2)
        .map(|runs| (end(&runs[0]), runs[1].begin.at))
        .collect();
    if is_dense(analysis) {
        let width = analysis.timeline.width();
        let periods: Vec<i64> = analysis.timeline.iter().map(|(start, _)| start).collect();
        idle.extend(periods.windows(2).map(|next| (next[0] + width, next[1])));
    }
    let mut work: Vec<(i64, i64)> = analysis.spans.iter().collect();
    for (from, to) in idle.into_iter().filter(|(from, to)| from < to) {
        let rest = |(start, end): (i64, i64)| [(start, end.min(from)), (start.max(to), end)];
        work = work
            .into_iter()
            .flat_map(rest)
            .filter(|(start, end)| start < end)
            .collect();
    }
    work
}

/// Whether short pauses can be told from times with few records.
fn is_dense(analysis: &Analysis) -> bool {
    let periods = analysis.timeline.iter().count() as u64;
    analysis.records() - analysis.untimed >= DENSE * periods.max(1)
}

/// Records per second of work; `None` if that was too short.
pub(super) fn rate(analysis: &Analysis) -> Option<f64> {
    let took: i64 = at_work(analysis).iter().map(|(from, to)| to - from).sum();
    // The time with records begins with the first record, so the duration of that one is not in it.
    let rows = (analysis.records() - analysis.untimed).saturating_sub(analysis.spans.iter().count() as u64);
    (took >= 1000).then(|| rows as f64 * 1000.0 / took as f64)
}

/// Which times the rate leaves out.
pub(super) fn left_out(analysis: &Analysis) -> String {
    let longest = analysis.min_pause();
    let longest = match is_dense(analysis) {
        // A longer pause has a whole period without a record.
        true => longest.min(2 * analysis.timeline.width()),
        false => longest,
    };
    let between = if analysis.runs.len() > 1 {
        "the times between runs and "
    } else {
        ""
    };
    format!("without {between}pauses of more than {}", duration(longest))
}
