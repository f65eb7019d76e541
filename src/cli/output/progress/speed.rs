//! The recent speed of a run, from which the time left is estimated.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The time over which speed is measured. Time on hold does not count.
const WINDOW: Duration = Duration::from_secs(3 * 60);

/// The speed of the last minutes.
#[derive(Default)]
pub struct Speed {
    updated_at: Option<Instant>,
    now: Sample,
    /// About one per second, oldest first.
    samples: VecDeque<Sample>,
}

/// The counts after `time`, which excludes time on hold.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    time: Duration,
    rows: u64,
    requests: u64,
}

impl Speed {
    /// Adds a sample with the current counts.
    pub fn note(&mut self, now: Instant, is_held: bool, rows: u64, requests: u64) {
        let passed = self
            .updated_at
            .replace(now)
            .map_or(Duration::ZERO, |updated_at| now - updated_at);
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

    /// The time over which the speed was measured.
    pub fn measured(&self) -> Duration {
        self.samples
            .front()
            .map_or(Duration::ZERO, |first| self.now.time - first.time)
    }

    /// Rows per second; `None` if the measured time is too short.
    pub fn rows(&self) -> Option<f64> {
        self.per_second(|sample| sample.rows)
    }

    /// Requests per second; `None` if the measured time is too short.
    pub fn requests(&self) -> Option<f64> {
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

    #[test]
    fn speed_is_measured_over_the_last_minutes_without_holds() {
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
    fn there_is_no_speed_before_anything_was_measured() {
        let (mut speed, now) = (Speed::default(), Instant::now());
        assert_eq!(speed.requests(), None);
        speed.note(now, false, 0, 0);
        speed.note(now + Duration::from_millis(300), false, 5, 5);
        assert_eq!(speed.requests(), None);
    }
}
