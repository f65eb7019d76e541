//! Times with records, and the pauses between them.
//!
//! Records are written almost in the order of their times, and clocks can jump. So a pause is not the time between
//! consecutive records in the file, but between neighbors in time: times that are at most [`Spans::min_pause`]
//! apart are merged into spans, in whatever order they come, and what is left between the spans are the pauses.

use std::collections::BTreeMap;

/// A pause is a time without records that is longer than this, in milliseconds.
const MIN_PAUSE: i64 = 60_000;

/// The maximum number of spans. If there are more, the shortest pauses no longer count.
const MAX_SPANS: usize = 20_000;

/// Spans of time with records, in milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Spans {
    /// First time → last time.
    spans: BTreeMap<i64, i64>,
    /// The span of the last record.
    latest: (i64, i64),
    min_pause: i64,
}

impl Default for Spans {
    fn default() -> Spans {
        Spans {
            spans: BTreeMap::new(),
            latest: (i64::MAX, i64::MIN),
            min_pause: MIN_PAUSE,
        }
    }
}

impl Spans {
    pub fn insert(&mut self, time: i64) {
        if self.latest.0 <= time && time <= self.latest.1 {
            return;
        }
        let (mut start, mut end) = (time, time);
        if let Some((&before, &last)) = self.spans.range(..=time).next_back()
            && time - last <= self.min_pause
        {
            (start, end) = (before, last.max(time));
        }
        if let Some((&after, &last)) = self.spans.range(time + 1..).next()
            && after - end <= self.min_pause
        {
            self.spans.remove(&after);
            end = last;
        }
        self.spans.insert(start, end);
        self.latest = (start, end);
        while self.spans.len() > MAX_SPANS {
            self.min_pause *= 2;
            self.merge();
        }
    }

    /// Adds the spans of other records.
    pub fn extend(&mut self, other: &Spans) {
        self.min_pause = self.min_pause.max(other.min_pause);
        for (start, end) in other.iter() {
            let known = self.spans.entry(start).or_insert(end);
            *known = (*known).max(end);
        }
        self.merge();
        while self.spans.len() > MAX_SPANS {
            self.min_pause *= 2;
            self.merge();
        }
    }

    /// Merges spans with less than a pause between them.
    fn merge(&mut self) {
        let mut merged: BTreeMap<i64, i64> = BTreeMap::new();
        for (&start, &end) in &self.spans {
            match merged.last_entry() {
                Some(mut before) if start - before.get() <= self.min_pause => {
                    let last = before.get_mut();
                    *last = (*last).max(end);
                }
                _ => {
                    merged.insert(start, end);
                }
            }
        }
        self.spans = merged;
        self.latest = (i64::MAX, i64::MIN);
    }

    /// The spans, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (i64, i64)> + '_ {
        self.spans.iter().map(|(&start, &end)| (start, end))
    }

    /// The pauses between them, in order: from the last record before to the first record after.
    pub fn pauses(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let ends = self.spans.values().copied();
        ends.zip(self.spans.keys().copied().skip(1))
    }

    /// The minimum duration of a pause, in milliseconds; more than a minute only if there were too many pauses.
    pub fn min_pause(&self) -> i64 {
        self.min_pause
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_are_the_gaps_between_neighbors_in_time_whatever_the_order(
            times in prop::collection::vec(0_i64..2_000_000, 1..80),
            split in 0..4_usize,
        ) {
            let mut spans = Spans::default();
            for &time in &times {
                spans.insert(time);
            }
            let mut sorted = times;
            sorted.sort_unstable();
            let gaps: Vec<(i64, i64)> = sorted
                .windows(2)
                .map(|pair| (pair[0], pair[1]))
                .filter(|(from, to)| to - from > MIN_PAUSE)
                .collect();
            prop_assert_eq!(spans.pauses().collect::<Vec<_>>(), gaps.clone());
            let mut halves = [Spans::default(), Spans::default()];
            for (index, &time) in sorted.iter().enumerate() {
                halves[index * split % 2].insert(time);
            }
            let [mut one, other] = halves;
            one.extend(&other);
            prop_assert_eq!(one.pauses().collect::<Vec<_>>(), gaps);
        }
    }

    #[test]
    fn the_shortest_pauses_are_dropped_when_there_are_too_many() {
        let mut spans = Spans::default();
        for number in 0..=MAX_SPANS as i64 {
            spans.insert(number * 100_000 + if number >= 10 { 9_000_000 } else { 0 });
        }
        assert_eq!(spans.min_pause(), 2 * MIN_PAUSE);
        assert_eq!(spans.pauses().collect::<Vec<_>>(), [(900_000, 10_000_000)]);
    }
}
