//! When records were being written, and how fast.

use super::model::Analysis;
use crate::text::duration;

/// So many records in a period, on average, that a period without any is a pause and no coincidence.
const DENSE: u64 = 10;

impl Analysis {
    /// The times with records, without the pauses and the times between runs.
    pub(crate) fn at_work(&self) -> Vec<(i64, i64)> {
        let between_runs = self.runs.windows(2).map(|runs| (runs[0].end_at(), runs[1].begin.at));
        let mut idle: Vec<(i64, i64)> = between_runs.collect();
        if self.is_dense() {
            let width = self.timeline.width();
            let periods: Vec<i64> = self.timeline.iter().map(|(start, _)| start).collect();
            idle.extend(periods.windows(2).map(|next| (next[0] + width, next[1])));
        }
        let mut work: Vec<(i64, i64)> = self.spans.iter().collect();
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
    fn is_dense(&self) -> bool {
        let periods = self.timeline.iter().count() as u64;
        self.records() - self.untimed >= DENSE * periods.max(1)
    }

    /// Records per second of work, without the times that [`Analysis::rate_leaves_out`] tells; `None` if there are none, or
    /// if the time was shorter than a second.
    pub fn rate(&self) -> Option<f64> {
        let took: i64 = self.at_work().iter().map(|(from, to)| to - from).sum();
        // The time with records begins with the first record, so the duration of that one is not in it.
        let rows = (self.records() - self.untimed).saturating_sub(self.spans.iter().count() as u64);
        (took >= 1000 && rows > 0).then(|| rows as f64 * 1000.0 / took as f64)
    }

    /// Which times the rate leaves out: `without the times between runs and pauses of more than 2s`.
    pub fn rate_leaves_out(&self) -> String {
        let longest = self.min_pause();
        let longest = match self.is_dense() {
            // A longer pause has a whole period without a record.
            true => longest.min(2 * self.timeline.width()),
            false => longest,
        };
        let between = if self.runs.len() > 1 {
            "the times between runs and "
        } else {
            ""
        };
        format!("without {between}pauses of more than {}", duration(longest))
    }
}
