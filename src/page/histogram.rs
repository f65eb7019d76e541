//! The distribution of the latencies of the last attempts.

use super::axis::{Axis, round_step};
use super::chart::Chart;
use super::labels::percent;
use super::scale::LOG_RATIO;
use crate::analysis::Analysis;
use crate::text::grouped;

/// The maximum number of bars, if they have equal width.
const BARS: u64 = 40;

/// Preferred numbers: ten steps of about equal ratio from a power of ten to the next (Renard's rounded series).
const PREFERRED: [f64; 10] = [1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0];

/// The histogram of latencies.
pub(super) fn histogram(analysis: &Analysis) -> Chart {
    let found = &analysis.latencies;
    let edges = edges(found.min(), found.max());
    let bars: Vec<u64> = edges
        .windows(2)
        .map(|edge| found.count_between(edge[0], edge[1] - 1))
        .collect();
    let most = bars.iter().enumerate().max_by_key(|(_, rows)| **rows);
    let caption = most.map_or_else(String::new, |(index, rows)| {
        format!(
            "Most often it was {}: {} of {}. Marked are the median and the 99th percentile.",
            between(edges[index], edges[index + 1]),
            grouped(*rows),
            grouped(found.len())
        )
    });
    let labels = edges
        .iter()
        .enumerate()
        .map(|(index, edge)| (index as f64, grouped(*edge)));
    let x = Axis::with_ticks(0.0..bars.len() as f64, labels).without_overlap();
    let top = bars.iter().copied().max().unwrap_or_default();
    let y = Axis::up_to(top as f64, true, |value| grouped(value as u64));
    let mut chart = Chart::new("How long the last attempts took", caption, x, y);
    (chart.x_name, chart.y_name) = ("latency (ms)".into(), "attempts".into());
    for (index, &rows) in bars.iter().enumerate().filter(|(_, rows)| **rows > 0) {
        let x = (index as f64, index as f64 + 1.0);
        chart.bar("latency", x, (0.0, rows as f64));
        let share = percent(rows as f64 / found.len().max(1) as f64);
        let latency = between(edges[index], edges[index + 1]);
        chart.tooltip(x, format!("{latency}: {} ({share})", grouped(rows)));
    }
    let place = |value: f64| {
        let index = edges
            .partition_point(|&edge| edge as f64 <= value)
            .clamp(1, edges.len() - 1);
        let (low, high) = (edges[index - 1] as f64, edges[index] as f64);
        (index - 1) as f64 + ((value - low) / (high - low)).clamp(0.0, 1.0)
    };
    let latency = analysis.latency_ms();
    let [median, p99] = [latency.p50, latency.p99].map(|value| place(value + 0.5));
    // Labels close to each other would overlap.
    if p99 - median > bars.len() as f64 * 0.13 {
        chart.rule(median, "50 %");
        chart.rule(p99, "99 %");
    } else {
        chart.rule(median, "");
        chart.rule(p99, "50 %, 99 %");
    }
    chart
}

/// The bounds of the bars, in milliseconds: of equal width, or of equal ratio if latencies differ much.
fn edges(lowest: u64, highest: u64) -> Vec<u64> {
    let range = highest - lowest + 1;
    if (highest.max(1) as f64) < lowest.max(1) as f64 * LOG_RATIO {
        let step = (round_step(range as f64 / (BARS - 2) as f64) as u64).max(1);
        let first = lowest / step * step;
        return (0..=(highest - first) / step + 1)
            .map(|number| first + number * step)
            .collect();
    }
    let mut edges = Vec::new();
    let mut power = 10_f64.powf((lowest.max(1) as f64).log10().floor());
    'all: loop {
        for factor in PREFERRED {
            let edge = (factor * power).round() as u64;
            if edges.last() != Some(&edge) {
                edges.push(edge);
            }
            if edge > highest {
                break 'all;
            }
        }
        power *= 10.0;
    }
    if lowest == 0 {
        edges.insert(0, 0);
    }
    // The first power of ten may be far below the lowest latency.
    let below = edges.partition_point(|&edge| edge <= lowest).saturating_sub(1);
    edges.split_off(below)
}

fn between(low: u64, high: u64) -> String {
    match high - low {
        1 => format!("{} ms", grouped(low)),
        _ => format!("{} to {} ms", grouped(low), grouped(high - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_of_the_histogram_cover_every_latency_and_are_few() {
        for (lowest, highest) in [
            (0, 0),
            (1, 1),
            (41, 43),
            (0, 10_000),
            (38, 60),
            (3, 3_600_000),
            (1000, 29_999),
        ] {
            let edges = edges(lowest, highest);
            assert!(
                edges[0] <= lowest && edges[edges.len() - 1] > highest,
                "{lowest} {highest} {edges:?}"
            );
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]), "{edges:?}");
            assert!(edges.len() <= 75, "{edges:?}");
        }
    }
}
