//! Axes with labels at round local times, and with long pauses shortened to a narrow band.

use std::ops::Range;

use jiff::tz::TimeZone;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::analysis::{Spans, Timeline};
use crate::text::{formatted, timestamp};

/// The possible intervals between time labels, in seconds.
const TICK_INTERVALS: [i64; 24] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    2 * 3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    90 * DAY,
    365 * DAY,
];

const DAY: i64 = 86_400;

/// A pause of at least this many buckets is shortened.
const MIN_CUT: i64 = 4;

/// The maximum share of the axis for all shortened pauses together, and for one.
const CUTS: (f64, f64) = (0.25, 0.05);

/// Maps values to positions, linearly between its knots.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Values and their positions, both ascending.
    knots: Vec<(f64, f64)>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `top`, with a few round labels; only whole numbers if `is_whole`.
    pub fn up_to(top: f64, is_whole: bool, label: impl Fn(f64) -> String) -> Axis {
        let step = round_step(top / 4.5).max(if is_whole { 1.0 } else { 0.0 });
        let last = (top / step).ceil().max(1.0);
        Axis {
            knots: vec![(0.0, 0.0), (last * step, last * step)],
            ticks: (0..=last as u32)
                .map(|number| f64::from(number) * step)
                .map(|value| (value, label(value)))
                .collect(),
        }
    }

    /// An axis over `range` with these labels.
    pub fn with_ticks(range: Range<f64>, ticks: Vec<(f64, String)>) -> Axis {
        Axis {
            knots: vec![(range.start, range.start), (range.end, range.end)],
            ticks,
        }
    }

    /// An axis of the records' times, in milliseconds since 1970, with at most about `labels` labels.
    pub fn of_time(spans: &Spans, timeline: &Timeline, labels: usize) -> Axis {
        let segments = segments(spans, timeline.width());
        let active: i64 = segments.iter().map(|(start, end)| end - start).sum();
        let cuts = segments.len().saturating_sub(1);
        let cut = active as f64 * (CUTS.0 / cuts.max(1) as f64).min(CUTS.1);
        let mut knots = Vec::new();
        let mut place = 0.0;
        for (start, end) in &segments {
            knots.push((*start as f64, place));
            place += (end - start) as f64;
            knots.push((*end as f64, place));
            place += cut;
        }
        let mut axis = Axis {
            knots,
            ticks: Vec::new(),
        };
        axis.ticks = axis.times(&segments, labels.max(2));
        axis
    }

    /// The position of the value, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let next = self.knots.partition_point(|(knot, _)| *knot <= value);
        let next = next.clamp(1, self.knots.len() - 1);
        let ((value_0, place_0), (value_1, place_1)) = (self.knots[next - 1], self.knots[next]);
        let place = place_0 + (value - value_0) / (value_1 - value_0) * (place_1 - place_0);
        let (first, last) = (self.knots[0].1, self.knots[self.knots.len() - 1].1);
        ((place - first) / (last - first)).clamp(0.0, 1.0)
    }

    /// Labels at round times, at a sufficient distance from each other.
    fn times(&self, segments: &[(i64, i64)], labels: usize) -> Vec<(f64, String)> {
        let active: i64 = segments.iter().map(|(start, end)| end - start).sum();
        let step = TICK_INTERVALS
            .iter()
            .copied()
            .find(|step| active / (step * 1000) < labels as i64)
            .unwrap_or(3650 * DAY);
        // The first label of each segment is kept, because the time after a pause is the most useful.
        let mut times: Vec<(i64, bool)> = Vec::new();
        for &(start, end) in segments {
            let offset = i64::from(
                timestamp(start)
                    .to_zoned_datetime(TimeZone::system())
                    .offset()
                    .seconds(),
            );
            let local = start.div_euclid(1000) + offset;
            let first = (local.div_euclid(step) * step - offset) * 1000;
            let within = (0..)
                .map(|number| first + number * step * 1000)
                .skip_while(|&time| time < start)
                .take_while(|&time| time <= end);
            times.extend(within.enumerate().map(|(index, time)| (time, index == 0)));
        }
        if times.is_empty() {
            times.extend(segments.iter().map(|(start, _)| (*start, true)));
        }
        let far_enough = 0.9 / labels as f64;
        let date = |time| formatted(time, "%e %b");
        let spans_days = date(segments[0].0) != date(segments[segments.len() - 1].1);
        let clock = if times.iter().all(|(time, _)| time % 60_000 == 0) {
            "%H:%M"
        } else {
            "%H:%M:%S"
        };
        let mut kept: Vec<(i64, bool, f64)> = Vec::new();
        for (time, is_first) in times {
            let place = self.place(time as f64);
            while is_first && kept.last().is_some_and(|last| !last.1 && place - last.2 < far_enough) {
                kept.pop();
            }
            if kept.last().is_none_or(|last| place - last.2 >= far_enough) && place < 1.0 - far_enough / 3.0 {
                kept.push((time, is_first, place));
            }
        }
        let mut ticks: Vec<(f64, String)> = Vec::new();
        let (mut free_from, mut last_date) = (0.0, String::new());
        for (time, _, place) in kept {
            let date = date(time);
            let label = match (step >= DAY, spans_days && date != last_date) {
                (true, _) => date.clone(),
                (false, true) => format!("{date} {}", formatted(time, clock)),
                (false, false) => formatted(time, clock),
            };
            if place < free_from {
                continue;
            }
            free_from = place + far_enough * if label.len() > 8 { 1.3 } else { 1.0 };
            last_date = date;
            ticks.push((time as f64, label.trim_start().to_owned()));
        }
        ticks
    }
}

/// The times that the buckets cover, as segments; the pauses between them are shortened.
fn segments(spans: &Spans, width: i64) -> Vec<(i64, i64)> {
    let mut segments: Vec<(i64, i64)> = Vec::new();
    for (start, end) in spans.iter() {
        let start = start.div_euclid(width) * width;
        let end = (end.div_euclid(width) + 1) * width;
        match segments.last_mut() {
            Some(last) if start - last.1 < MIN_CUT * width => last.1 = last.1.max(end),
            _ => segments.push((start, end)),
        }
    }
    if segments.is_empty() {
        segments.push((0, 1));
    }
    segments
}

/// The smallest 1, 2 or 5 times a power of ten that is at least `step`.
pub(super) fn round_step(step: f64) -> f64 {
    if !step.is_finite() || step <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(step.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|round| *round >= step * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        limit.0 + (self.place(*value) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(value, _)| *value).collect()
    }

    fn range(&self) -> Range<f64> {
        self.knots[0].0..self.knots[self.knots.len() - 1].0
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let found = self.ticks.iter().find(|(tick, _)| tick == value);
        found.map(|(_, label)| label.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Outcome;

    #[test]
    fn a_pause_of_nine_hours_takes_a_narrow_band_between_two_runs_of_ten_minutes() {
        let (mut spans, mut timeline) = (Spans::default(), Timeline::default());
        let night = 9 * 3_600_000;
        for second in 0..600 {
            for start in [0, night] {
                spans.insert(start + second * 1000);
                timeline.insert(start + second * 1000, Outcome::Ok, None);
            }
        }
        let axis = Axis::of_time(&spans, &timeline, 8);
        let [first_end, second_start] = [599_000.0, night as f64].map(|time| axis.place(time));
        assert!(first_end > 0.4 && second_start < 0.6, "{first_end} {second_start}");
        assert!((2..=8).contains(&axis.ticks.len()), "{:?}", axis.ticks);
    }

    #[test]
    fn labels_are_round_and_reach_the_top() {
        let labels = |top, is_whole| {
            let axis = Axis::up_to(top, is_whole, |value| value.to_string());
            axis.ticks
                .into_iter()
                .map(|(_, label)| label)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(labels(19.7, false), "0 5 10 15 20");
        assert_eq!(labels(1.0, true), "0 1");
        assert_eq!(labels(0.0, true), "0 1");
        assert_eq!(labels(1000.0, true), "0 500 1000");
    }
}
