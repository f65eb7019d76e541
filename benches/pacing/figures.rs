//! The figures of one simulated run, and of many.

use super::world::{Others, World};

/// The figures of a run.
#[derive(Default)]
pub struct Figures {
    pub accepted: f64,
    pub refused: f64,
    /// Rows that have used up their tries.
    pub failed: f64,
    /// Seconds until the last request arrived.
    pub elapsed: f64,
    /// Accepted and refused, during the other traffic.
    pub accepted_beside: f64,
    pub refused_beside: f64,
    /// Seconds until five seconds follow with 93 % of the remaining quota and at most one refusal.
    pub settled: f64,
    /// Seconds after the other traffic ends until two seconds follow with 95 % and 99 % of the rate.
    pub back_95: f64,
    pub back_99: f64,
}

impl Figures {
    pub fn of(world: &World) -> Figures {
        let seen = &world.seen;
        let count = |from: f64, to: f64, wanted: bool| {
            let place = |at: f64| seen.partition_point(|(seen, _)| seen.as_secs_f64() < at);
            let within = &seen[place(from)..place(to).max(place(from))];
            within.iter().filter(|(_, accepted)| *accepted == wanted).count() as f64
        };
        let share_refused = |from, to| {
            let (accepted, refused) = (count(from, to, true), count(from, to, false));
            100.0 * refused / (accepted + refused).max(1.0)
        };
        let end = seen.last().map_or(0.0, |(at, _)| at.as_secs_f64());
        let first_such = |from: f64, to: f64, is_such: &dyn Fn(f64) -> bool| {
            let steps = ((to - from) / 0.1).max(0.0) as u32;
            let found = (0..steps)
                .map(|step| f64::from(step) * 0.1)
                .find(|at| is_such(from + at));
            found.unwrap_or(f64::INFINITY)
        };
        let mut figures = Figures {
            accepted: (count(0.0, end + 1.0, true) - 1.0) / end,
            refused: share_refused(0.0, end + 1.0),
            failed: f64::from(world.failed),
            elapsed: end,
            ..Figures::default()
        };
        if world.scenario.present.is_some() {
            let (from, to) = (world.present.0.as_secs_f64(), world.present.1.as_secs_f64());
            let rate = world.scenario.rate;
            let left = match world.scenario.others {
                Others::LowerCap(share) => share * rate,
                Others::Even(share) | Others::Poisson(share) | Others::Bursts(share) => (1.0 - share) * rate,
                Others::None => rate,
            };
            let back_at = |share: f64| first_such(to, end - 2.0, &|at| count(at, at + 2.0, true) >= 2.0 * rate * share);
            figures.accepted_beside = count(from, to, true) / (to - from);
            figures.refused_beside = share_refused(from, to);
            figures.settled = match world.scenario.others {
                // Their traffic differs in each second.
                Others::Poisson(_) => f64::INFINITY,
                _ => first_such(from, to - 5.0, &|at| {
                    count(at, at + 5.0, true) >= (5.0 * 0.93 * left).floor() && count(at, at + 5.0, false) <= 1.0
                }),
            };
            (figures.back_95, figures.back_99) = (back_at(0.95), back_at(0.99));
        }
        figures
    }
}

/// The mean and the 95th percentile: `-` if most runs have none.
pub fn mean_and_p95(runs: &[Figures], figure: fn(&Figures) -> f64) -> (String, String) {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let show = |value: f64| {
        if !value.is_finite() {
            "-".to_owned()
        } else if value >= 1000.0 {
            format!("{value:.0}")
        } else {
            format!("{value:.2}")
        }
    };
    let mean = if 2 * finite.len() > values.len() {
        finite.iter().sum::<f64>() / finite.len() as f64
    } else {
        f64::INFINITY
    };
    let p95 = values[(values.len() * 95).div_ceil(100) - 1];
    (show(mean), show(p95))
}
