//! The scale of latencies.

use super::axis::Axis;
use crate::text::grouped;

/// The ratio of the longest latency to the shortest above which the axis is logarithmic.
pub(super) const LOG_RATIO: f64 = 30.0;

/// Maps latencies to an axis, which is logarithmic if they differ much.
pub(super) struct Scale {
    lowest: f64,
    highest: f64,
    is_log: bool,
}

impl Scale {
    pub fn new(lowest: f64, highest: f64) -> Scale {
        Scale {
            lowest,
            highest,
            is_log: highest > lowest * LOG_RATIO,
        }
    }

    /// The position of a value on the axis.
    pub fn place(&self, value: f64) -> f64 {
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

    pub fn axis(&self) -> Axis {
        if !self.is_log {
            return Axis::up_to(self.highest, true, |value| grouped(value as u64));
        }
        let top = self.place(self.highest).ceil();
        let power = |exponent: u32| self.first_power() * 10_f64.powi(exponent as i32);
        let ticks = (0..=top as u32).map(|exponent| (f64::from(exponent), grouped(power(exponent) as u64)));
        Axis::with_ticks(0.0..top, ticks)
    }
}
