//! Which charts a page has, and what is on them.

mod histogram;

use super::super::analysis::{Analysis, Kind, Timeline};
use super::super::show::{duration, formatted, grouped};
use super::axis::Axis;
use super::plot::{BLUE, DrawError, FAILED, INVALID, Ink, MAGENTA, Mark, OK, OUTSIDE, Plot, Reading, SKIPPED, TEAL};
use crate::row::Outcome;

/// The sizes of a chart: on a wide screen or paper, and on a phone.
const WIDE: (u32, u32) = (1040, 250);
const NARROW: (u32, u32) = (380, 230);

/// As many buckets as a phone can show.
const NARROW_BUCKETS: usize = 70;

/// From this ratio of the longest latency to the shortest on, an axis is logarithmic.
const LOG_FROM: f64 = 30.0;

/// A chart with its title, both sizes and what it says in words.
pub(super) struct Figure {
    pub title: &'static str,
    /// What the chart shows, in a sentence: its text alternative.
    pub caption: String,
    pub legend: Vec<(&'static str, &'static str)>,
    pub wide: String,
    pub narrow: String,
}

impl Figure {
    fn new(
        title: &'static str,
        caption: String,
        legend: Vec<(&'static str, &'static str)>,
        plot: impl Fn(bool) -> Plot,
    ) -> Result<Figure, DrawError> {
        let label = format!("{title}. {caption}");
        Ok(Figure {
            title,
            caption,
            legend,
            wide: plot(true).draw(WIDE, "wide", &label)?,
            narrow: plot(false).draw(NARROW, "narrow", &label)?,
        })
    }
}

/// All of them; none for a report without times.
pub(super) fn figures(analysis: &Analysis) -> Result<Vec<Figure>, DrawError> {
    let mut figures = Vec::new();
    if analysis.first.is_some() {
        let charts = Charts {
            analysis,
            wide: analysis.timeline.clone(),
            narrow: analysis.timeline.merged(NARROW_BUCKETS),
        };
        figures.push(charts.outcomes()?);
        figures.extend(charts.not_ok()?);
        figures.push(charts.rate()?);
        if analysis.has_latency() {
            figures.push(charts.latency()?);
        }
    }
    if analysis.has_latency() {
        figures.push(histogram::histogram(analysis)?);
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

/// From the worst to the best, as they are stacked.
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

    /// A chart over time with its pauses, still without anything else.
    fn plot(&self, is_wide: bool, y: Axis, y_name: &str) -> Plot {
        let timeline = self.timeline(is_wide);
        let mut marks = Vec::new();
        let mut readings = Vec::new();
        for (from, to) in self.analysis.pauses() {
            let covered = (from.div_euclid(timeline.width()) + 1) * timeline.width();
            let next = to.div_euclid(timeline.width()) * timeline.width();
            if next > covered {
                let x = (covered as f64, next as f64);
                marks.push(Mark::Band {
                    x,
                    label: short(to - from),
                });
                readings.push(Reading {
                    x,
                    text: format!(
                        "pause of {}: {} to {}",
                        duration(to - from),
                        moment(from, 1000),
                        moment(to, 1000)
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
            readings,
        }
    }

    /// Bars of rows by outcome, one above the other; in percent, or in rows.
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
            let mut text = format!("{}: {} {}", moment(start, width), grouped(bucket.rows()), self.noun());
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
            plot.readings.push(Reading { x, text });
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
            .map(|_| ("pause", "pause (long ones are cut)"))
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

    fn not_ok(&self) -> Result<Option<Figure>, DrawError> {
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
            moment(first, width),
            moment(last + width, width),
            moment(peak, width),
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
                "On average {} {noun}/s without the pauses, at most {} {noun}/s over {}.",
                number(rate),
                number(highest),
                duration(self.wide.width())
            ),
            None => "Too few records to tell a rate.".to_owned(),
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
            let mut plot = self.plot(is_wide, Axis::up_to(top, false, number), &format!("{}/s", self.noun()));
            for (start, rate) in rates {
                let x = (start as f64, (start + timeline.width()) as f64);
                plot.marks.push(Mark::Bar {
                    x,
                    y: (0.0, rate),
                    ink: BLUE,
                });
                plot.readings.push(Reading {
                    x,
                    text: format!(
                        "{}: {} {}/s",
                        moment(start, timeline.width()),
                        number(rate),
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
                    // A line over times without a value would say what nobody knows.
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
                plot.readings.push(Reading {
                    x: (*start as f64, (*start + width) as f64),
                    text: format!(
                        "{}: half within {} ms, 90 % {} ms, 99 % {} ms",
                        moment(*start, width),
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

/// Rows per second in each bucket. Where a bucket is hardly covered by records, as the first and the last of a run may
/// be, its rate is that of it and its neighbor.
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

/// An axis of latencies: logarithmic where they differ much.
struct Scale {
    lowest: f64,
    highest: f64,
    is_log: bool,
}

impl Scale {
    fn new(lowest: f64, highest: f64) -> Scale {
        Scale {
            lowest,
            highest,
            is_log: highest > lowest * LOG_FROM,
        }
    }

    /// Where a value is on the axis.
    fn place(&self, value: f64) -> f64 {
        if self.is_log {
            (value / self.first_power()).log10().max(0.0)
        } else {
            value
        }
    }

    /// The power of ten at or below the lowest value.
    fn first_power(&self) -> f64 {
        10_f64.powf(self.lowest.log10().floor())
    }

    fn axis(&self) -> Axis {
        if !self.is_log {
            return Axis::up_to(self.highest, true, |value| grouped(value as u64));
        }
        let top = self.place(self.highest).ceil();
        let power = |exponent: u32| self.first_power() * 10_f64.powi(exponent as i32);
        let ticks = (0..=top as u32).map(|exponent| (f64::from(exponent), grouped(power(exponent) as u64)));
        Axis::with_ticks(0.0..top, ticks.collect())
    }
}

/// A time, as exactly as a bucket of this width needs it.
fn moment(time: i64, width: i64) -> String {
    let clock = if width % 60_000 == 0 {
        "%e %b %H:%M"
    } else {
        "%e %b %H:%M:%S"
    };
    formatted(time, clock).trim_start().to_owned()
}

/// A pause in a narrow band.
fn short(milliseconds: i64) -> String {
    let rounded = |unit: i64| grouped(((milliseconds + unit / 2) / unit).cast_unsigned());
    match milliseconds / 1000 {
        0..120 => rounded(1000) + "s",
        120..7200 => rounded(60_000) + "m",
        7200..172_800 => rounded(3_600_000) + "h",
        _ => rounded(86_400_000) + "d",
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        100.0 => "100 %".into(),
        more if more > 99.99 => "over 99.99 %".into(),
        less if less < 0.01 => "under 0.01 %".into(),
        percent => format!("{percent:.2} %"),
    }
}

/// A rate, with as many digits as it needs.
fn number(value: f64) -> String {
    match value {
        100.0.. => grouped(value.round() as u64),
        _ => {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}
