//! The charts of a page.

use super::axis::Axis;
use super::chart::{Chart, Key};
use super::histogram::histogram;
use super::labels::{pause_label, percent, rate_label, time_label};
use super::runs::ended_before;
use super::scale::Scale;
use crate::analysis::{Analysis, Timeline};
use crate::journal::Kind;
use crate::row::{Counts, Outcome};
use crate::text::{duration, formatted, grouped};

/// All charts. Over time only if there are times to compare.
pub(super) fn charts(analysis: &Analysis) -> Vec<Chart> {
    let mut charts = Vec::new();
    if analysis.timeline.iter().nth(1).is_some() {
        charts.extend(outcomes(analysis));
        charts.extend(not_cleared(analysis));
        charts.push(rate(analysis));
        let mut buckets = analysis.timeline.iter();
        let has_latency = buckets.any(|(_, bucket)| !bucket.latency.is_empty());
        charts.extend(has_latency.then(|| latency(analysis)));
    }
    charts.extend(analysis.has_latency().then(|| histogram(analysis)));
    charts
}

/// The stacking order, from worst to best.
const STACKED: [Outcome; 5] = [
    Outcome::Failed,
    Outcome::Invalid,
    Outcome::Outside,
    Outcome::Skipped,
    Outcome::Ok,
];

/// A chart over time that has only the pauses yet. A `key` of the legend is an ink and its name.
fn over_time(
    analysis: &Analysis,
    title: &'static str,
    caption: String,
    y: Axis,
    keys: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> Chart {
    let timeline = &analysis.timeline;
    let x = Axis::of_time(&analysis.spans, timeline);
    let mut chart = Chart::new(title, caption, x, y);
    let first = analysis.first.unwrap_or_default();
    chart.x_name = format!("local time ({})", formatted(first, "UTC%:z"));
    chart.legend = keys.into_iter().map(|(ink, name)| Key { ink, name }).collect();
    if analysis.pauses().next().is_some() {
        let name = "pause (long ones are shortened)";
        chart.legend.push(Key { ink: "pause", name });
    }
    for (from, to) in analysis.pauses() {
        let covered = (from.div_euclid(timeline.width()) + 1) * timeline.width();
        let next = to.div_euclid(timeline.width()) * timeline.width();
        if next > covered {
            let x = (covered as f64, next as f64);
            chart.band(x, pause_label(to - from));
            let mut text = format!(
                "pause of {}: {} to {}",
                duration(to - from),
                time_label(from, 1000),
                time_label(to, 1000)
            );
            if let Some(why) = ended_before(analysis, from, to) {
                text += &format!("; {why}");
            }
            chart.tooltip(x, text);
        }
    }
    chart
}

/// The inks and names of those outcomes that occur.
fn keys(analysis: &Analysis, outcomes: &[Outcome]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let found = outcomes.iter().filter(|&&outcome| analysis.outcome(outcome) > 0);
    found.map(|outcome| (outcome.as_str(), outcome.as_str()))
}

/// The number of rows with one of these outcomes.
fn rows_of(counts: &Counts, outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|&outcome| counts[outcome]).sum()
}

/// Stacks bars for these outcomes. Their height is `scale` of all rows of these outcomes, for each row.
fn stack(chart: &mut Chart, analysis: &Analysis, outcomes: &[Outcome], scale: impl Fn(u64) -> f64) {
    let width = analysis.timeline.width();
    for (start, bucket) in analysis.timeline.iter() {
        let all = rows_of(&bucket.counts, outcomes);
        if all == 0 {
            continue;
        }
        let x = (start as f64, (start + width) as f64);
        let scale = scale(all);
        let mut below = 0;
        let (time, noun) = (time_label(start, width), analysis.kind.noun());
        let mut text = format!("{time}: {} {noun}", grouped(bucket.rows()));
        for &outcome in outcomes {
            let rows = bucket.counts[outcome];
            if rows > 0 {
                let y = (below as f64 * scale, (below + rows) as f64 * scale);
                chart.bar(outcome.as_str(), x, y);
                below += rows;
                text += &format!(", {} {outcome}", grouped(rows));
            }
        }
        chart.tooltip(x, text);
    }
}

/// What the charts over time show, if it is more than what counts.
fn of_all_records(analysis: &Analysis) -> String {
    match analysis.superseded {
        0 => String::new(),
        more => format!(
            "The chart is of all records, with {} that another report has a later record for. ",
            grouped(more)
        ),
    }
}

/// None if there is nothing to compare.
fn outcomes(analysis: &Analysis) -> Option<Chart> {
    let (noun, rows) = (analysis.kind.noun(), analysis.rows.max(1) as f64);
    let found = Outcome::ALL
        .into_iter()
        .filter(|&outcome| analysis.outcome(outcome) > 0);
    let shares: Vec<String> = found
        .map(|outcome| format!("{outcome} {}", percent(analysis.outcome(outcome) as f64 / rows)))
        .collect();
    let caption = of_all_records(analysis) + &format!("Of all {noun}: {}.", shares.join(", "));
    let y = Axis::up_to(100.0, true, |value| format!("{value}%"));
    let mut chart = over_time(analysis, "Outcomes over time", caption, y, keys(analysis, &STACKED));
    chart.y_name = format!("% of {noun}");
    stack(&mut chart, analysis, &STACKED, |all| 100.0 / all as f64);
    (shares.len() > 1).then_some(chart)
}

fn not_cleared(analysis: &Analysis) -> Option<Chart> {
    let outcomes = &STACKED[..3];
    let width = analysis.timeline.width();
    let found: Vec<(i64, u64)> = analysis
        .timeline
        .iter()
        .map(|(start, bucket)| (start, rows_of(&bucket.counts, outcomes)))
        .filter(|(_, rows)| *rows > 0)
        .collect();
    let (first, _) = *found.first()?;
    let (last, _) = *found.last()?;
    let &(peak, most) = found.iter().max_by_key(|(_, rows)| *rows)?;
    let caption = format!(
        "From {} to {}; most of them from {} on: {} in {}.",
        time_label(first, width),
        time_label(last + width, width),
        time_label(peak, width),
        grouped(most),
        duration(width)
    );
    let title = match (analysis.kind, analysis.superseded) {
        (Kind::Clear, 0) => "Rows that were not cleared",
        (Kind::List, 0) => "Users that were not listed",
        (Kind::Clear, _) => "Rows that were not cleared, of all records",
        (Kind::List, _) => "Users that were not listed, of all records",
    };
    let caption = of_all_records(analysis) + &caption;
    let y = Axis::up_to(most as f64, true, |value| grouped(value as u64));
    let mut chart = over_time(analysis, title, caption, y, keys(analysis, outcomes));
    chart.y_name = format!("{} in {}", analysis.kind.noun(), duration(width));
    stack(&mut chart, analysis, outcomes, |_| 1.0);
    Some(chart)
}

fn rate(analysis: &Analysis) -> Chart {
    let (noun, width) = (analysis.kind.noun(), analysis.timeline.width());
    let rates = rates(analysis, &analysis.timeline);
    let highest = rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let caption = match analysis.rate() {
        Some(rate) => format!(
            "On average {} {noun}/s, {}; at most {} {noun}/s over {}.",
            rate_label(rate),
            analysis.rate_leaves_out(),
            rate_label(highest),
            duration(width)
        ),
        None => "Too few records for a rate.".to_owned(),
    };
    let title = match analysis.kind {
        Kind::Clear => "Rows per second",
        Kind::List => "Users per second",
    };
    let mut chart = over_time(analysis, title, caption, Axis::up_to(highest, false, rate_label), []);
    chart.y_name = format!("{noun}/s");
    for (start, rate) in rates {
        let x = (start as f64, (start + width) as f64);
        chart.bar("rate", x, (0.0, rate));
        let text = format!("{}: {} {noun}/s", time_label(start, width), rate_label(rate));
        chart.tooltip(x, text);
    }
    chart
}

fn latency(analysis: &Analysis) -> Chart {
    const QUANTILES: [(f64, &str, &str); 3] = [
        (0.99, "p99", "99 %"),
        (0.9, "p90", "90 %"),
        (0.5, "p50", "half (median)"),
    ];
    let latency = analysis.latency_ms();
    let [p50, p90, p99, max] =
        [latency.p50, latency.p90, latency.p99, latency.max].map(|latency| grouped(latency as u64));
    let caption = format!(
        "Half of the last attempts took at most {p50} ms, 90 % at most {p90} ms, 99 % at most {p99} ms; the longest \
         {max} ms."
    );
    let width = analysis.timeline.width();
    let values: Vec<(i64, [f64; 3])> = analysis
        .timeline
        .iter()
        .filter(|(_, bucket)| !bucket.latency.is_empty())
        .map(|(start, bucket)| {
            let quantile = |(q, ..): (f64, _, _)| bucket.latency.value_at_quantile(q).max(1) as f64;
            (start, QUANTILES.map(quantile))
        })
        .collect();
    let all = || values.iter().flat_map(|(_, values)| values.iter().copied());
    let scale = Scale::new(all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let keys = QUANTILES.map(|(_, ink, name)| (ink, name));
    let mut chart = over_time(analysis, "Latency over time", caption, scale.axis(), keys);
    chart.y_name = "latency (ms)".to_owned();
    // No line across times without a value.
    for values in values.chunk_by(|(start, _), (next, _)| *next <= start + 2 * width) {
        for (index, (_, ink, _)) in QUANTILES.iter().enumerate() {
            let value = |values: &[f64; 3]| scale.place(values[index]);
            let points: Vec<(f64, f64)> = match values {
                [(start, values)] => [*start, start + width].map(|time| (time as f64, value(values))).into(),
                _ => values
                    .iter()
                    .map(|(start, values)| (*start as f64 + width as f64 / 2.0, value(values)))
                    .collect(),
            };
            chart.line(ink, &points);
        }
    }
    for (start, values) in values {
        let [p99, p90, p50] = values.map(|latency| grouped(latency as u64));
        let text = format!(
            "{}: half within {p50} ms, 90 % {p90} ms, 99 % {p99} ms",
            time_label(start, width)
        );
        chart.tooltip((start as f64, (start + width) as f64), text);
    }
    chart
}

/// Rows per second in each bucket. If records cover only a small part of a bucket, such as the first or the last of a run,
/// its rate includes its neighbor.
fn rates(analysis: &Analysis, timeline: &Timeline) -> Vec<(i64, f64)> {
    let (width, work) = (timeline.width(), analysis.at_work());
    let covered = |start: i64| {
        let overlap = |(from, to): &(i64, i64)| (to.min(&(start + width)) - from.max(&start)).max(0);
        work.iter().map(overlap).sum::<i64>()
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
