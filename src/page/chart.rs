//! A chart as the template draws it: shapes and labels with their positions.
//!
//! The drawing has no size of its own. Texts and bands stand at percentages; paths are in units of a thousandth of the width
//! and of the height, and are stretched. So one drawing fits every screen, and its text is as large as the page's.

use std::fmt::{self, Write as _};

use super::axis::{Axis, Tick, fits};

/// A chart.
pub(super) struct Chart {
    pub title: &'static str,
    /// What the chart shows, in a sentence. With the title it is the text alternative.
    pub caption: String,
    pub legend: Vec<Key>,
    pub x_name: String,
    pub y_name: String,
    x: Axis,
    y: Axis,
    /// Bars, joined to one shape for each ink.
    pub bars: Vec<Shape>,
    pub lines: Vec<Shape>,
    pub bands: Vec<Band>,
    pub rules: Vec<Label>,
    pub tooltips: Vec<Tooltip>,
}

/// An entry of the legend.
pub(super) struct Key {
    /// Its color: a class of the style sheet.
    pub ink: &'static str,
    pub name: &'static str,
}

/// A path.
pub(super) struct Shape {
    /// Its color: a class of the style sheet.
    pub ink: &'static str,
    pub path: String,
}

/// A vertical band over the whole height.
pub(super) struct Band {
    pub x: Percent,
    pub width: Percent,
    /// In the middle. If there is not room for it, only the tooltip shows it.
    pub label: Option<Label>,
}

/// A text at a position of an axis.
pub(super) struct Label {
    pub at: Percent,
    pub text: String,
    /// On a phone there is no room for it.
    pub is_minor: bool,
}

/// What is shown when the pointer is within these values of the x axis.
pub(super) struct Tooltip {
    pub x: Percent,
    pub width: Percent,
    pub text: String,
}

impl Label {
    /// To its right there is no room for a text.
    pub fn is_at_the_end(&self) -> bool {
        self.at.0 > 0.9
    }
}

/// A share of the width or height.
#[derive(Clone, Copy)]
pub(super) struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 10_000.0).round() / 100.0)
    }
}

impl Chart {
    /// A chart without content.
    pub fn new(title: &'static str, caption: String, x: Axis, y: Axis) -> Chart {
        Chart {
            title,
            caption,
            legend: Vec::new(),
            x_name: String::new(),
            y_name: String::new(),
            x,
            y,
            bars: Vec::new(),
            lines: Vec::new(),
            bands: Vec::new(),
            rules: Vec::new(),
            tooltips: Vec::new(),
        }
    }

    /// The labels of the x axis.
    pub fn x_labels(&self) -> impl Iterator<Item = Label> {
        self.x.ticks.iter().map(|tick| label(tick, tick.at))
    }

    /// The labels of the y axis, at their distance from the top.
    pub fn y_labels(&self) -> impl Iterator<Item = Label> {
        self.y.ticks.iter().map(|tick| label(tick, 1.0 - tick.at))
    }

    /// Draws a bar between these values of both axes.
    pub fn bar(&mut self, ink: &'static str, x: (f64, f64), y: (f64, f64)) {
        let (left, right) = (self.x_unit(x.0), self.x_unit(x.1));
        let (bottom, top) = (self.y_unit(y.0), self.y_unit(y.1));
        let index = self.bars.iter().position(|shape| shape.ink == ink).unwrap_or_else(|| {
            self.bars.push(Shape {
                ink,
                path: String::new(),
            });
            self.bars.len() - 1
        });
        // Writing to a String does not fail.
        let _ = write!(self.bars[index].path, "M{left} {bottom}V{top}H{right}V{bottom}z");
    }

    /// Draws a line through these points.
    pub fn line(&mut self, ink: &'static str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { "M" } else { "L" };
            let _ = write!(path, "{command}{} {}", self.x_unit(*x), self.y_unit(*y));
        }
        self.lines.push(Shape { ink, path });
    }

    /// Draws a band between these values of the x axis.
    pub fn band(&mut self, x: (f64, f64), text: String) {
        let (start, width) = self.range(x);
        let (fits, fits_on_phone) = fits(&text, width);
        let label = fits.then(|| Label {
            at: Percent(start + width / 2.0),
            text,
            is_minor: !fits_on_phone,
        });
        self.bands.push(Band {
            x: Percent(start),
            width: Percent(width),
            label,
        });
    }

    /// Draws a vertical line with a label.
    pub fn rule(&mut self, x: f64, text: &str) {
        self.rules.push(Label {
            at: Percent(self.x.place(x)),
            text: text.to_owned(),
            is_minor: false,
        });
    }

    /// Shows a text between these values of the x axis.
    pub fn tooltip(&mut self, x: (f64, f64), text: String) {
        let (start, width) = self.range(x);
        self.tooltips.push(Tooltip {
            x: Percent(start),
            width: Percent(width),
            text,
        });
    }

    /// Start and width of this range of the x axis.
    fn range(&self, x: (f64, f64)) -> (f64, f64) {
        let start = self.x.place(x.0);
        (start, self.x.place(x.1) - start)
    }

    fn x_unit(&self, value: f64) -> f64 {
        thousandths(self.x.place(value))
    }

    /// SVG counts from the top.
    fn y_unit(&self, value: f64) -> f64 {
        thousandths(1.0 - self.y.place(value))
    }
}

fn label(tick: &Tick, at: f64) -> Label {
    Label {
        at: Percent(at),
        text: tick.label.clone(),
        is_minor: tick.is_minor,
    }
}

/// With one digit after the point: less than can be seen.
fn thousandths(share: f64) -> f64 {
    (share * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_in_thousandths_from_the_top_left() {
        let axis = |top: f64| Axis::with_ticks(0.0..top, []);
        let mut chart = Chart::new("", String::new(), axis(10.0), axis(3.0));
        chart.bar("ok", (0.0, 1.0), (0.0, 3.0));
        chart.bar("failed", (1.0, 2.0), (1.0, 2.0));
        chart.bar("ok", (1.0, 2.0), (0.0, 1.0));
        chart.line("p50", &[(0.0, 0.0), (5.0, 1.0), (20.0, 9.0)]);
        let paths = |shapes: &[Shape]| {
            let path = |shape: &Shape| format!("{} {}", shape.ink, shape.path);
            shapes.iter().map(path).collect::<Vec<_>>()
        };
        assert_eq!(
            paths(&chart.bars),
            [
                "ok M0 1000V0H100V1000zM100 1000V666.7H200V1000z",
                "failed M100 666.7V333.3H200V666.7z"
            ]
        );
        assert_eq!(paths(&chart.lines), ["p50 M0 1000L500 666.7L1000 0"]);
        chart.tooltip((2.5, 5.0), String::new());
        let Tooltip { x, width, .. } = chart.tooltips[0];
        assert_eq!(format!("{x} {width}"), "25% 25%");
    }
}
