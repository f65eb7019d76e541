//! Moments within a span of time: the answers that the adaptive rate measures, and the summary's audit of the run's own pace.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The moments of the last `span`, in order. Memory is bounded by what happens within one span, not by the length of
/// the run.
#[derive(Debug, Clone)]
pub struct Window {
    span: Duration,
    /// Oldest first.
    moments: VecDeque<Instant>,
    peak: usize,
}

impl Window {
    /// A window over the last `span`.
    pub fn new(span: Duration) -> Window {
        Window {
            span,
            moments: VecDeque::new(),
            peak: 0,
        }
    }

    /// Adds a moment, which may be a little earlier than the last: they come from several tasks.
    pub fn insert(&mut self, moment: Instant) {
        let before = self.moments.iter().rposition(|earlier| *earlier <= moment);
        self.moments.insert(before.map_or(0, |before| before + 1), moment);
        let newest = *self.moments.back().expect("one was just added");
        self.forget_before(newest);
        self.peak = self.peak.max(self.moments.len());
    }

    /// How many moments are within the span that ends `now`.
    pub fn count(&mut self, now: Instant) -> usize {
        self.forget_before(now);
        self.moments.len()
    }

    /// Forgets the moments.
    pub fn clear(&mut self) {
        self.moments.clear();
    }

    /// The most moments there ever were within one span.
    pub fn peak(&self) -> usize {
        self.peak
    }

    fn forget_before(&mut self, now: Instant) {
        let is_over = |oldest: &Instant| now.saturating_duration_since(*oldest) >= self.span;
        while self.moments.front().is_some_and(is_over) {
            self.moments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn window_of(millis: &[u64]) -> Window {
        let (zero, mut window) = (Instant::now(), Window::new(SECOND));
        for at in millis {
            window.insert(zero + Duration::from_millis(*at));
        }
        window
    }

    #[test]
    fn the_peak_is_the_fullest_second_and_a_start_one_second_ago_is_outside() {
        let window = window_of(&[0, 500, 999, 1000, 1001, 5000]);
        assert_eq!(window.peak(), 4); // 500, 999, 1000, 1001
    }

    #[test]
    fn moments_out_of_order_are_counted_where_they_belong() {
        let window = window_of(&[100, 50, 1060, 1055]);
        assert_eq!(window.peak(), 3); // 100, 1055, 1060
    }
}
