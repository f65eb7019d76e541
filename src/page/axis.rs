//! Axes with labels at round local times, and with long pauses shortened to a narrow band.

use std::ops::Range;

use jiff::tz::TimeZone;

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

/// About how many labels a time axis has.
const TIMES: i64 = 8;

/// The least width of an axis on a wide screen and on a phone, in pixels.
const WIDE: f64 = 620.0;
const NARROW: f64 = 310.0;

/// The width of a label's character, the space between two labels, and the space to the right of the axis, in pixels.
const CHARACTER: f64 = 7.5;
const GAP: f64 = 10.0;
const MARGIN: f64 = 14.0;

/// Maps values to positions from 0 to 1, linearly between its knots.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Values and their positions, both ascending.
    knots: Vec<(f64, f64)>,
    pub ticks: Vec<Tick>,
}

/// A labelled position on an axis.
#[derive(Debug, Clone)]
pub(super) struct Tick {
    /// From 0 to 1.
    pub at: f64,
    pub label: String,
    /// It stays where there is not room for all.
    is_preferred: bool,
    /// On a phone there is no room for it.
    pub is_minor: bool,
}

impl Tick {
    fn new(at: f64, label: String) -> Tick {
        Tick {
            at,
            label,
            is_preferred: false,
            is_minor: false,
        }
    }
}

impl Axis {
    fn new(knots: Vec<(f64, f64)>) -> Axis {
        Axis {
            knots,
            ticks: Vec::new(),
        }
    }

    /// From 0 to at least `top`, with a few round labels; only whole numbers if `is_whole`.
    pub fn up_to(top: f64, is_whole: bool, label: impl Fn(f64) -> String) -> Axis {
        let step = round_step(top / 4.5).max(if is_whole { 1.0 } else { 0.0 });
        let last = (top / step).ceil().max(1.0);
        let mut axis = Axis::new(vec![(0.0, 0.0), (last * step, 1.0)]);
        axis.ticks = (0..=last as u32)
            .map(f64::from)
            .map(|number| Tick::new(number / last, label(number * step)))
            .collect();
        axis
    }

    /// An axis over `range` with these labels.
    pub fn with_ticks(range: Range<f64>, labels: impl IntoIterator<Item = (f64, String)>) -> Axis {
        let mut axis = Axis::new(vec![(range.start, 0.0), (range.end, 1.0)]);
        let labels = labels.into_iter();
        axis.ticks = labels
            .map(|(value, label)| Tick::new(axis.place(value), label))
            .collect();
        axis
    }

    /// Only labels that don't overlap on a wide screen; those that would on a phone are minor.
    pub fn without_overlap(mut self) -> Axis {
        self.ticks = spaced(self.ticks, WIDE);
        let narrow: Vec<f64> = spaced(self.ticks.clone(), NARROW).iter().map(|tick| tick.at).collect();
        for tick in &mut self.ticks {
            tick.is_minor = !narrow.contains(&tick.at);
        }
        self
    }

    /// An axis of the records' times, in milliseconds since 1970.
    pub fn of_time(spans: &Spans, timeline: &Timeline) -> Axis {
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
        let last = knots.last().map_or(1.0, |(_, place)| *place);
        let mut axis = Axis::new(knots.into_iter().map(|(time, place)| (time, place / last)).collect());
        axis.ticks = axis.times(&segments);
        axis.without_overlap()
    }

    /// The position of the value, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let next = self.knots.partition_point(|(knot, _)| *knot <= value);
        let next = next.clamp(1, self.knots.len() - 1);
        let ((value_0, place_0), (value_1, place_1)) = (self.knots[next - 1], self.knots[next]);
        let place = place_0 + (value - value_0) / (value_1 - value_0) * (place_1 - place_0);
        place.clamp(0.0, 1.0)
    }

    /// Labels at round times. The first after a pause is preferred, because it is the most useful.
    fn times(&self, segments: &[(i64, i64)]) -> Vec<Tick> {
        let active: i64 = segments.iter().map(|(start, end)| end - start).sum();
        let step = TICK_INTERVALS
            .into_iter()
            .find(|step| active / (step * 1000) < TIMES)
            .unwrap_or(3650 * DAY);
        let mut times: Vec<(i64, bool)> = Vec::new();
        for &(start, end) in segments {
            let zoned = timestamp(start).to_zoned_datetime(TimeZone::system());
            let offset = i64::from(zoned.offset().seconds());
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
        let is_whole = times.iter().all(|(time, _)| time % 60_000 == 0);
        let clock = if is_whole { "%H:%M" } else { "%H:%M:%S" };
        let date = |time| formatted(time, "%e %b").trim_start().to_owned();
        let spans_days = date(segments[0].0) != date(segments[segments.len() - 1].1);
        let mut last_date = String::new();
        let tick = |(time, is_first): (i64, bool)| {
            let date = date(time);
            let is_new = std::mem::replace(&mut last_date, date.clone()) != date;
            let is_dated = spans_days && (is_first || is_new);
            let label = match (step >= DAY, is_dated) {
                (true, _) => date,
                (false, true) => format!("{date} {}", formatted(time, clock)),
                (false, false) => formatted(time, clock),
            };
            Tick {
                is_preferred: is_first || is_dated,
                ..Tick::new(self.place(time as f64), label)
            }
        };
        times.into_iter().map(tick).collect()
    }
}

/// Whether a label fits into this share of the axis, on a wide screen and on a phone.
pub(super) fn fits(label: &str, share: f64) -> (bool, bool) {
    let needed = label.chars().count() as f64 * CHARACTER;
    (needed <= share * WIDE, needed <= share * NARROW)
}

/// Those labels that don't overlap on an axis that is so many pixels wide.
fn spaced(ticks: Vec<Tick>, width: f64) -> Vec<Tick> {
    let half = |tick: &Tick| (tick.label.chars().count() as f64 * CHARACTER + GAP) / 2.0 / width;
    let mut kept: Vec<Tick> = Vec::new();
    for tick in ticks {
        if tick.at + half(&tick) > 1.0 + MARGIN / width {
            continue;
        }
        let overlaps = |last: &Tick| last.at + half(last) > tick.at - half(&tick);
        while tick.is_preferred && kept.last().is_some_and(|last| !last.is_preferred && overlaps(last)) {
            kept.pop();
        }
        if !kept.last().is_some_and(overlaps) {
            kept.push(tick);
        }
    }
    kept
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
        let axis = Axis::of_time(&spans, &timeline);
        let [first_end, second_start] = [599_000.0, night as f64].map(|time| axis.place(time));
        assert!(first_end > 0.4 && second_start < 0.6, "{first_end} {second_start}");
        assert!((2..=8).contains(&axis.ticks.len()), "{:?}", axis.ticks);
    }

    #[test]
    fn labels_are_round_and_reach_the_top() {
        let labels = |top, is_whole| {
            let axis = Axis::up_to(top, is_whole, |value| value.to_string());
            let labels: Vec<String> = axis.ticks.into_iter().map(|tick| tick.label).collect();
            labels.join(" ")
        };
        assert_eq!(labels(19.7, false), "0 5 10 15 20");
        assert_eq!(labels(1.0, true), "0 1");
        assert_eq!(labels(0.0, true), "0 1");
        assert_eq!(labels(1000.0, true), "0 500 1000");
    }

    #[test]
    fn labels_don_t_overlap_and_the_first_after_a_pause_is_kept() {
        let tick = |at: f64, is_preferred| Tick {
            is_preferred,
            ..Tick::new(at, "10:00".into())
        };
        let ticks = [0.0, 0.1, 0.2, 0.29, 0.3, 0.7, 0.99].map(|at| tick(at, at == 0.3));
        let axis = Axis {
            ticks: ticks.into(),
            ..Axis::new(vec![(0.0, 0.0), (1.0, 1.0)])
        };
        let ticks = axis.without_overlap().ticks;
        let at = |is_minor| {
            let ticks = ticks.iter().filter(|tick| tick.is_minor == is_minor);
            ticks.map(|tick| tick.at).collect::<Vec<_>>()
        };
        assert_eq!(at(false), [0.0, 0.3, 0.7]);
        assert_eq!(at(true), [0.1, 0.2]);
    }
}
