//! Counts over time in bounded memory: if there are too many buckets, they are merged pairwise.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::values::MAX_LATENCY;
use crate::row::{Counts, Outcome};

/// The maximum number of buckets. Only buckets with records exist, so pauses don't reduce the resolution.
const MAX_BUCKETS: usize = 240;

/// The records that ended within one period.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    /// Records by outcome.
    pub counts: Counts,
    /// Latencies in milliseconds, with two significant digits.
    pub latency: Histogram<u32>,
}

impl Bucket {
    fn new() -> Bucket {
        Bucket {
            counts: Counts::default(),
            latency: Histogram::new_with_bounds(1, MAX_LATENCY, 2).expect("the bounds are in order"),
        }
    }

    /// All records.
    pub fn rows(&self) -> u64 {
        self.counts.total()
    }

    fn add(&mut self, other: &Bucket) {
        self.counts += other.counts;
        self.latency
            .add(&other.latency)
            .expect("all buckets have the same bounds");
    }
}

/// Buckets of equal width, by their index since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    /// Milliseconds.
    width: i64,
    buckets: BTreeMap<i64, Bucket>,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline {
            width: 1000,
            buckets: BTreeMap::new(),
        }
    }
}

impl Timeline {
    /// Adds a record; `time` and `latency` are in milliseconds.
    pub fn insert(&mut self, time: i64, outcome: Outcome, latency: Option<u64>) {
        let bucket = self
            .buckets
            .entry(time.div_euclid(self.width))
            .or_insert_with(Bucket::new);
        bucket.counts[outcome] += 1;
        if let Some(latency) = latency {
            bucket.latency.saturating_record(latency);
        }
        if self.buckets.len() > MAX_BUCKETS {
            *self = self.merged(MAX_BUCKETS);
        }
    }

    /// A copy with at most `max` buckets.
    pub fn merged(&self, max: usize) -> Timeline {
        let mut merged = self.clone();
        while merged.buckets.len() > max.max(1) {
            let finer = std::mem::take(&mut merged.buckets);
            merged.width *= 2;
            for (number, bucket) in finer {
                merged
                    .buckets
                    .entry(number.div_euclid(2))
                    .and_modify(|coarser| coarser.add(&bucket))
                    .or_insert(bucket);
            }
        }
        merged
    }

    /// The width of a bucket, in milliseconds.
    pub fn width(&self) -> i64 {
        self.width
    }

    /// The buckets with records, each with its start time.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Bucket)> {
        self.buckets
            .iter()
            .map(|(number, bucket)| (number * self.width, bucket))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn merging_loses_no_record_and_keeps_each_in_its_time(
            times in prop::collection::vec(0_i64..40_000_000, 1..2000),
        ) {
            let mut timeline = Timeline::default();
            for &time in &times {
                timeline.insert(time, Outcome::Ok, Some(40));
            }
            prop_assert!(timeline.buckets.len() <= MAX_BUCKETS);
            for (start, bucket) in timeline.iter() {
                let within = |time: &&i64| (start..start + timeline.width()).contains(*time);
                prop_assert_eq!(bucket.rows(), times.iter().filter(within).count() as u64);
                prop_assert_eq!(bucket.rows(), bucket.latency.len());
            }
            let rows: u64 = timeline.iter().map(|(_, bucket)| bucket.rows()).sum();
            prop_assert_eq!(rows, times.len() as u64);
        }
    }
}
