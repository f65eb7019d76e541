//! The charts of a page.

use super::axis::Axis;
use super::figure::Figure;
use super::histogram::histogram;
use super::labels::{pause_label, percent, rate_label, time_label};
use super::plot::{BLUE, DrawError, FAILED, INVALID, Ink, MAGENTA, Mark, OK, OUTSIDE, Plot, SKIPPED, TEAL, Tooltip};
use super::scale::Scale;
use crate::analysis::{Analysis, Timeline};
use crate::journal::Kind;
use crate::row::Outcome;
use crate::text::{duration, formatted, grouped};

/// The maximum number of buckets on a phone.
const NARROW_BUCKETS: usize = 70;

/// All charts; none for a report without times.
pub(super) fn figures(analysis: &Analysis) -> Result<Vec<Figure>, DrawError> {
    let mut figures = Vec::new();
    if analysis.first.is_some() {
        let charts = Charts {
            analysis,
            wide: analysis.timeline.clone(),
            narrow: analysis.timeline.merged(NARROW_BUCKETS),
        };
        figures.push(charts.outcomes()?);
        figures.extend(charts.not_cleared()?);
        figures.push(charts.rate()?);
        if analysis.has_latency() {
            figures.push(charts.latency()?);
        }
    }
    if analysis.has_latency() {
        figures.push(histogram(analysis)?);
    }
    Ok(figures)
}

/// Charts over time.
struct Charts<'a> {
    analysis: &'a Analysis,
    wide: Timeline,
    narrow: Timeline,
}

const fn ink_of(outcome: Outcome) -> Ink {
    match outcome {
        Outcome::Ok => OK,
        Outcome::Outside => OUTSIDE,
        Outcome::Failed => FAILED,
        Outcome::Invalid => INVALID,
        Outcome::Skipped => SKIPPED,
    }
}

/// The stacking order, from worst to best.
const STACKED: [Outcome; 5] = [
    Outcome::Failed,
    Outcome::Invalid,
    Outcome::Outside,
    Outcome::Skipped,
    Outcome::Ok,
];

impl Charts<'_> {
    fn noun(&self) -> &'static str {
        self.analysis.kind.noun()
    }

    fn timeline(&self, is_wide: bool) -> &Timeline {
        if is_wide { &self.wide } else { &self.narrow }
    }

    /// A chart over time that has only the pauses yet.
    fn plot(&self, is_wide: bool, y: Axis, y_name: &str) -> Plot {
        let timeline = self.timeline(is_wide);
        let mut marks = Vec::new();
        let mut tooltips = Vec::new();
        for (from, to) in self.analysis.pauses() {
            let covered = (from.div_euclid(timeline.width()) + 1) * timeline.width();
            let next = to.div_euclid(timeline.width()) * timeline.width();
            if next > covered {
                let x = (covered as f64, next as f64);
                marks.push(Mark::Band {
                    x,
                    label: pause_label(to - from),
                });
                tooltips.push(Tooltip {
                    x,
                    text: format!(
                        "pause of {}: {} to {}",
                        duration(to - from),
                        time_label(from, 1000),
                        time_label(to, 1000)
                    ),
                });
            }
        }
        let first = self.analysis.first.unwrap_or_default();
        Plot {
            x: Axis::of_time(&self.analysis.spans, timeline, if is_wide { 9 } else { 4 }),
            y,
            x_name: format!("local time ({})", formatted(first, "UTC%:z")),
            y_name: y_name.to_owned(),
            marks,
            tooltips,
        }
    }

    /// Stacked bars of rows by outcome, in percent or in rows.
    fn stacked(&self, is_wide: bool, outcomes: &[Outcome], in_percent: bool) -> Plot {
        let timeline = self.timeline(is_wide);
        let height = |counts: &[u64; 5]| outcomes.iter().map(|&outcome| counts[outcome as usize]).sum::<u64>();
        let width = timeline.width();
        let mut plot = if in_percent {
            self.plot(
                is_wide,
                Axis::up_to(100.0, true, |value| format!("{value}%")),
                &format!("% of {}", self.noun()),
            )
        } else {
            let top = timeline.iter().map(|(_, bucket)| height(&bucket.counts)).max();
            let axis = Axis::up_to(top.unwrap_or_default() as f64, true, |value| grouped(value as u64));
            self.plot(is_wide, axis, &format!("{} in {}", self.noun(), duration(width)))
        };
        for (start, bucket) in timeline.iter() {
            let all = height(&bucket.counts);
            if all == 0 {
                continue;
            }
            let x = (start as f64, (start + width) as f64);
            let scale = if in_percent { 100.0 / all as f64 } else { 1.0 };
            let mut below = 0;
            let mut text = format!(
                "{}: {} {}",
                time_label(start, width),
                grouped(bucket.rows()),
                self.noun()
            );
            for &outcome in outcomes {
                let rows = bucket.counts[outcome as usize];
                if rows > 0 {
                    plot.marks.push(Mark::Bar {
                        x,
                        y: (below as f64 * scale, (below + rows) as f64 * scale),
                        ink: ink_of(outcome),
                    });
                    below += rows;
                    text += &format!(", {} {outcome}", grouped(rows));
                }
            }
            plot.tooltips.push(Tooltip { x, text });
        }
        plot
    }

    fn legend(&self, outcomes: &[Outcome]) -> Vec<(&'static str, &'static str)> {
        let mut legend: Vec<(&str, &str)> = outcomes
            .iter()
            .filter(|&&outcome| self.analysis.outcome(outcome) > 0)
            .map(|&outcome| (ink_of(outcome).name, outcome.as_str()))
            .collect();
        legend.extend(self.pause_legend());
        legend
    }

    fn pause_legend(&self) -> Option<(&'static str, &'static str)> {
        self.analysis
            .pauses()
            .next()
            .map(|_| ("pause", "pause (long ones are shortened)"))
    }

    fn outcomes(&self) -> Result<Figure, DrawError> {
        let rows = self.analysis.rows.max(1) as f64;
        let shares = Outcome::ALL
            .into_iter()
            .filter(|&outcome| self.analysis.outcome(outcome) > 0)
            .map(|outcome| format!("{outcome} {}", percent(self.analysis.outcome(outcome) as f64 / rows)));
        let caption = format!("Of all {}: {}.", self.noun(), shares.collect::<Vec<_>>().join(", "));
        Figure::new("Outcomes over time", caption, self.legend(&STACKED), |is_wide| {
            self.stacked(is_wide, &STACKED, true)
        })
    }

    fn not_cleared(&self) -> Result<Option<Figure>, DrawError> {
        let bad = &STACKED[..3];
        let of = |counts: &[u64; 5]| bad.iter().map(|&outcome| counts[outcome as usize]).sum::<u64>();
        let width = self.wide.width();
        let with_some = || self.wide.iter().filter(|(_, bucket)| of(&bucket.counts) > 0);
        let Some((peak, most)) = with_some().max_by_key(|(_, bucket)| of(&bucket.counts)) else {
            return Ok(None);
        };
        let first = with_some().next().map_or(peak, |(start, _)| start);
        let last = with_some().last().map_or(peak, |(start, _)| start);
        let caption = format!(
            "From {} to {}; most of them from {} on: {} in {}.",
            time_label(first, width),
            time_label(last + width, width),
            time_label(peak, width),
            grouped(of(&most.counts)),
            duration(width)
        );
        let title = match self.analysis.kind {
            Kind::Clear => "Rows that were not cleared",
            Kind::List => "Users that were not listed",
        };
        let figure = Figure::new(title, caption, self.legend(bad), |is_wide| {
            self.stacked(is_wide, bad, false)
        });
        figure.map(Some)
    }

    fn rate(&self) -> Result<Figure, DrawError> {
        let rates = |timeline: &Timeline| rates(self.analysis, timeline);
        let noun = self.noun();
        let highest = rates(&self.wide).into_iter().map(|(_, rate)| rate).fold(0.0, f64::max);
        let caption = match self.analysis.rate() {
            Some(rate) => format!(
                "On average {} {noun}/s without pauses of more than a minute, at most {} {noun}/s over {}.",
                rate_label(rate),
                rate_label(highest),
                duration(self.wide.width())
            ),
            None => "Too few records for a rate.".to_owned(),
        };
        let legend = self.pause_legend().into_iter().collect();
        let title = match self.analysis.kind {
            Kind::Clear => "Rows per second",
            Kind::List => "Users per second",
        };
        Figure::new(title, caption, legend, |is_wide| {
            let timeline = self.timeline(is_wide);
            let rates = rates(timeline);
            let top = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
            let mut plot = self.plot(
                is_wide,
                Axis::up_to(top, false, rate_label),
                &format!("{}/s", self.noun()),
            );
            for (start, rate) in rates {
                let x = (start as f64, (start + timeline.width()) as f64);
                plot.marks.push(Mark::Bar {
                    x,
                    y: (0.0, rate),
                    ink: BLUE,
                });
                plot.tooltips.push(Tooltip {
                    x,
                    text: format!(
                        "{}: {} {}/s",
                        time_label(start, timeline.width()),
                        rate_label(rate),
                        self.noun()
                    ),
                });
            }
            plot
        })
    }

    fn latency(&self) -> Result<Figure, DrawError> {
        const QUANTILES: [(f64, Ink, &str); 3] = [
            (0.99, MAGENTA, "99 %"),
            (0.9, TEAL, "90 %"),
            (0.5, BLUE, "half (median)"),
        ];
        let latency = self.analysis.latency_ms();
        let caption = format!(
            "Half of the last attempts took at most {} ms, 90 % at most {} ms, 99 % at most {} ms; the longest {} ms.",
            grouped(latency.p50 as u64),
            grouped(latency.p90 as u64),
            grouped(latency.p99 as u64),
            grouped(latency.max as u64)
        );
        let mut legend: Vec<(&str, &str)> = QUANTILES.iter().map(|(_, ink, name)| (ink.name, *name)).collect();
        legend.extend(self.pause_legend());
        Figure::new("Latency over time", caption, legend, |is_wide| {
            let timeline = self.timeline(is_wide);
            let width = timeline.width();
            let values: Vec<(i64, [f64; 3])> = timeline
                .iter()
                .filter(|(_, bucket)| !bucket.latency.is_empty())
                .map(|(start, bucket)| {
                    let quantile = |(q, ..): (f64, Ink, &str)| bucket.latency.value_at_quantile(q).max(1) as f64;
                    (start, QUANTILES.map(quantile))
                })
                .collect();
            let all = || values.iter().flat_map(|(_, values)| values.iter().copied());
            let scale = Scale::new(all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
            let mut plot = self.plot(is_wide, scale.axis(), "latency (ms)");
            for (index, (_, ink, _)) in QUANTILES.iter().enumerate() {
                let mut points: Vec<(f64, f64)> = Vec::new();
                let mut last = None;
                for (start, values) in &values {
                    // No line across times without a value.
                    if last.is_some_and(|last| *start > last + 2 * width) {
                        plot.marks.push(Mark::Line {
                            points: std::mem::take(&mut points),
                            ink: *ink,
                        });
                    }
                    last = Some(*start);
                    points.push((*start as f64 + width as f64 / 2.0, scale.place(values[index])));
                }
                plot.marks.push(Mark::Line { points, ink: *ink });
            }
            for (start, [p99, p90, p50]) in &values {
                plot.tooltips.push(Tooltip {
                    x: (*start as f64, (*start + width) as f64),
                    text: format!(
                        "{}: half within {} ms, 90 % {} ms, 99 % {} ms",
                        time_label(*start, width),
                        grouped(*p50 as u64),
                        grouped(*p90 as u64),
                        grouped(*p99 as u64)
                    ),
                });
            }
            plot
        })
    }
}

/// Rows per second in each bucket. If records cover only a small part of a bucket, such as the first or the last of a run,
/// its rate includes its neighbor.
fn rates(analysis: &Analysis, timeline: &Timeline) -> Vec<(i64, f64)> {
    let width = timeline.width();
    let covered = |start: i64| {
        let overlap = |(from, to): (i64, i64)| (to.min(start + width) - from.max(start)).max(0);
        analysis.spans.iter().map(overlap).sum::<i64>()
    };
    let buckets: Vec<(i64, u64, i64)> = timeline
        .iter()
        .map(|(start, bucket)| (start, bucket.rows(), covered(start)))
        .collect();
    let with_neighbor = |index: usize| {
        let (start, rows, covered) = buckets[index];
        let neighbor = [index.checked_sub(1), Some(index + 1)]
            .into_iter()
            .filter_map(|index| buckets.get(index?))
            .find(|(other, ..)| (other - start).abs() == width);
        match neighbor {
            Some((_, more, longer)) if covered < width / 4 => (start, rows + more, covered + longer),
            _ => (start, rows, covered),
        }
    };
    let rate = |(start, rows, covered): (i64, u64, i64)| (start, rows as f64 * 1000.0 / covered.max(1000) as f64);
    (0..buckets.len()).map(|index| rate(with_neighbor(index))).collect()
}
