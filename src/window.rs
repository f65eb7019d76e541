//! The starts or answers of the last second, and the most there ever were: what the limiter measures, and the summary's
//! audit.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Starts within the last `span`. Its memory is bounded by what happens within one span, not by the length of the run.
#[derive(Debug, Clone)]
pub struct Window {
    span: Duration,
    starts: VecDeque<Instant>,
    peak: usize,
}

impl Window {
    /// A window over the last `span`: a start that is `span` ago is no longer in it.
    pub fn new(span: Duration) -> Window {
        Window {
            span,
            starts: VecDeque::new(),
            peak: 0,
        }
    }

    /// Adds a start. Starts come from several tasks, so one may be a little earlier than the last.
    pub fn push(&mut self, start: Instant) {
        let place = self
            .starts
            .iter()
            .rposition(|earlier| *earlier <= start)
            .map_or(0, |before| before + 1);
        self.starts.insert(place, start);
        let newest = *self.starts.back().expect("one was just added");
        while self.starts.front().is_some_and(|oldest| newest - *oldest >= self.span) {
            self.starts.pop_front();
        }
        self.peak = self.peak.max(self.starts.len());
    }

    /// How many there are within the span that ends now.
    pub fn count(&mut self, now: Instant) -> usize {
        while self
            .starts
            .front()
            .is_some_and(|oldest| now.saturating_duration_since(*oldest) >= self.span)
        {
            self.starts.pop_front();
        }
        self.starts.len()
    }

    /// The most starts there ever were within one span.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_fullest_second_and_a_start_one_second_ago_is_outside() {
        let zero = Instant::now();
        let mut window = Window::new(Duration::from_secs(1));
        for at in [0, 500, 999, 1000, 1001, 5000] {
            window.push(zero + Duration::from_millis(at));
        }
        assert_eq!(window.peak(), 4); // 500, 999, 1000, 1001
    }

    #[test]
    fn starts_out_of_order_are_counted_where_they_belong() {
        let zero = Instant::now();
        let mut window = Window::new(Duration::from_secs(1));
        for at in [100, 50, 1060, 1055] {
            window.push(zero + Duration::from_millis(at));
        }
        assert_eq!(window.peak(), 3); // 100, 1055, 1060
    }
}
