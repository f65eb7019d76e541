//! Moments within a span of time: the starts that the limiter bounds, the answers that its adaptive rate measures, and the
//! summary's audit of the run's own pace.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The moments of the last `span`, in order. Memory is bounded by what happens within one span, not by the length of
/// the run.
#[derive(Debug, Clone)]
pub struct Window {
    span: Duration,
    /// So many of the newest stay, however old they are.
    kept: usize,
    /// Oldest first.
    moments: VecDeque<Instant>,
    peak: usize,
}

impl Window {
    /// A window over the last `span`.
    pub fn new(span: Duration) -> Window {
        Window::keeping(0, span)
    }

    /// The same, but the newest `kept` moments stay however old they are.
    pub(crate) fn keeping(kept: usize, span: Duration) -> Window {
        Window {
            span,
            kept,
            moments: VecDeque::new(),
            peak: 0,
        }
    }

    /// Changes the span.
    pub(crate) fn set_span(&mut self, span: Duration) {
        self.span = span;
    }

    /// Adds a moment, which may be a little earlier than the last: they come from several tasks.
    pub fn insert(&mut self, moment: Instant) {
        let before = self.moments.iter().rposition(|earlier| *earlier <= moment);
        self.moments.insert(before.map_or(0, |before| before + 1), moment);
        let newest = *self.moments.back().expect("one was just added");
        self.forget_before(newest);
        self.peak = self.peak.max(self.moments.len());
    }

    /// Moves a moment that is in the window.
    pub(crate) fn move_to(&mut self, from: Instant, to: Instant) {
        if let Some(index) = self.moments.iter().rposition(|moment| *moment == from) {
            self.moments.remove(index);
            self.insert(to);
        }
    }

    /// How many moments are within the span that ends `now`.
    pub fn count(&mut self, now: Instant) -> usize {
        self.forget_before(now);
        self.moments.len()
    }

    /// The most moments there ever were within one span.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// The `nth` newest moment, from 1, if there are as many.
    pub(crate) fn newest(&self, nth: usize) -> Option<Instant> {
        let index = self.moments.len().checked_sub(nth)?;
        self.moments.get(index).copied()
    }

    fn forget_before(&mut self, now: Instant) {
        let is_over = |oldest: &Instant| now.saturating_duration_since(*oldest) >= self.span;
        while self.moments.len() > self.kept && self.moments.front().is_some_and(is_over) {
            self.moments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn window_of(window: Window, millis: &[u64]) -> (Window, Instant) {
        let (zero, mut window) = (Instant::now(), window);
        for at in millis {
            window.insert(zero + Duration::from_millis(*at));
        }
        (window, zero)
    }

    #[test]
    fn the_peak_is_the_fullest_second_and_a_start_one_second_ago_is_outside() {
        let (window, _) = window_of(Window::new(SECOND), &[0, 500, 999, 1000, 1001, 5000]);
        assert_eq!(window.peak(), 4); // 500, 999, 1000, 1001
    }

    #[test]
    fn moments_out_of_order_are_counted_where_they_belong() {
        let (window, _) = window_of(Window::new(SECOND), &[100, 50, 1060, 1055]);
        assert_eq!(window.peak(), 3); // 100, 1055, 1060
    }

    #[test]
    fn the_newest_are_kept_however_old_they_are_and_can_be_moved() {
        let (mut window, zero) = window_of(Window::keeping(2, SECOND), &[0, 100, 5000]);
        assert_eq!(window.newest(2), Some(zero + Duration::from_millis(100)));
        assert_eq!(window.newest(3), None, "it is neither new nor within the span");
        window.move_to(zero + Duration::from_millis(5000), zero + 6 * SECOND);
        assert_eq!(window.newest(1), Some(zero + 6 * SECOND));
    }
}
