//! A chart as data, and its drawing: plotters draws the SVG, to which tooltips are added.

use std::fmt::Write as _;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;

/// A color of the charts. The page's style sheet defines its light and dark shades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ink {
    /// Its name in the style sheet.
    pub name: &'static str,
    rgb: RGBColor,
}

const fn ink(name: &'static str, rgb: (u8, u8, u8)) -> Ink {
    Ink {
        name,
        rgb: RGBColor(rgb.0, rgb.1, rgb.2),
    }
}

pub(super) const OK: Ink = ink("ok", (0x1a, 0x7f, 0x5a));
pub(super) const OUTSIDE: Ink = ink("outside", (0xd9, 0x8e, 0x04));
pub(super) const FAILED: Ink = ink("failed", (0xc6, 0x28, 0x28));
pub(super) const INVALID: Ink = ink("invalid", (0x7e, 0x57, 0xc2));
pub(super) const SKIPPED: Ink = ink("skipped", (0x8a, 0x93, 0x9c));
pub(super) const BLUE: Ink = ink("blue", (0x1f, 0x6f, 0xc4));
pub(super) const LIGHT_BLUE: Ink = ink("light-blue", (0x6f, 0xa8, 0xdc));
pub(super) const TEAL: Ink = ink("teal", (0x00, 0x83, 0x8f));
pub(super) const MAGENTA: Ink = ink("magenta", (0xad, 0x14, 0x57));
pub(super) const PAUSE: Ink = ink("pause", (0xe4, 0xe2, 0xdc));
const TEXT: Ink = ink("text", (0x4a, 0x4f, 0x55));
const GRID: Ink = ink("grid", (0xe6, 0xe8, 0xeb));
const AXIS: Ink = ink("axis", (0xb8, 0xbd, 0xc4));

const ALL: [Ink; 13] = [
    OK, OUTSIDE, FAILED, INVALID, SKIPPED, BLUE, LIGHT_BLUE, TEAL, MAGENTA, PAUSE, TEXT, GRID, AXIS,
];

/// CSS rules that replace these colors by those of the style sheet.
pub(super) fn style_rules() -> String {
    ALL.iter().fold(String::new(), |mut rules, ink| {
        let RGBColor(r, g, b) = ink.rgb;
        for attribute in ["fill", "stroke"] {
            // Writing to a String does not fail.
            let _ = writeln!(
                rules,
                "svg [{attribute}=\"#{r:02X}{g:02X}{b:02X}\"] {{ {attribute}: var(--{}) }}",
                ink.name
            );
        }
        rules
    })
}

/// An element of a chart. Its coordinates are values of the axes.
pub(super) enum Mark {
    /// A bar.
    Bar { x: (f64, f64), y: (f64, f64), ink: Ink },
    /// A vertical band over the whole height.
    Band { x: (f64, f64), label: String },
    /// A line through these points.
    Line { points: Vec<(f64, f64)>, ink: Ink },
    /// A vertical line over the whole height.
    Rule { x: f64, label: String },
}

/// The text that is shown when the pointer is between two values of the x axis.
pub(super) struct Tooltip {
    pub x: (f64, f64),
    pub text: String,
}

/// A chart.
pub(super) struct Plot {
    pub x: Axis,
    pub y: Axis,
    pub x_name: String,
    pub y_name: String,
    pub marks: Vec<Mark>,
    pub tooltips: Vec<Tooltip>,
}

/// A chart could not be drawn. It is drawn into memory, so only a bug can cause this.
pub(super) type DrawError = DrawingAreaErrorKind<std::io::Error>;

impl Plot {
    /// Draws it as an SVG element with this `class` and text alternative (`label`).
    pub fn draw(&self, (width, height): (u32, u32), class: &str, label: &str) -> Result<String, DrawError> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        let tooltips = self.draw_on(&area)?;
        area.present()?;
        drop(area);
        // The outer element is replaced, and default attributes are removed.
        let inside = svg.split_once('>').map_or("", |(_, inside)| inside);
        let inside = inside.trim_end().trim_end_matches("</svg>").trim();
        let inside = inside
            .replace(" opacity=\"1\"", "")
            .replace(" stroke=\"none\"", "")
            .replace(" font-family=\"sans-serif\"", "");
        Ok(format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{inside}\n{tooltips}</svg>",
            escaped(label)
        ))
    }

    /// Draws everything but the tooltips, which plotters doesn't support; returns them as SVG.
    fn draw_on(&self, area: &DrawingArea<SVGBackend, plotters::coord::Shift>) -> Result<String, DrawError> {
        let (width, _) = area.dim_in_pixel();
        let text = ("sans-serif", 15).into_font().color(&TEXT.rgb);
        let mut chart = ChartBuilder::on(area)
            .margin_top(12)
            .margin_right(22)
            .margin_left(2)
            .x_label_area_size(44)
            .y_label_area_size(if width > 600 { 68 } else { 58 })
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        let top = chart.as_coord_spec().y_spec().range().end;
        for mark in &self.marks {
            if let Mark::Band { x, .. } = mark {
                chart.draw_series([Rectangle::new([(x.0, 0.0), (x.1, top)], PAUSE.rgb.filled())])?;
            }
        }
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID.rgb)
            .light_line_style(TRANSPARENT)
            .axis_style(AXIS.rgb)
            .label_style(text.clone())
            .x_desc(&self.x_name)
            .y_desc(&self.y_name)
            .draw()?;
        for mark in &self.marks {
            match mark {
                Mark::Bar { x, y, ink } => {
                    chart.draw_series([Rectangle::new([(x.0, y.0), (x.1, y.1)], ink.rgb.filled())])?;
                }
                Mark::Line { points, ink } => {
                    let style = ink.rgb.stroke_width(2);
                    match points[..] {
                        [point] => {
                            chart.draw_series([Circle::new(point, 2, ink.rgb.filled())])?;
                        }
                        _ => {
                            chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
                        }
                    }
                }
                Mark::Band { x, label } => {
                    let [left, right] = [x.0, x.1].map(|x| chart.backend_coord(&(x, 0.0)).0);
                    // Without enough room, only the tooltip shows it.
                    if right - left >= label.chars().count() as i32 * 8 {
                        let style = text.clone().pos(Pos::new(HPos::Center, VPos::Top));
                        let middle = (left + right) / 2;
                        area.draw(&Text::new(label.clone(), (middle, 18), style))?;
                    }
                }
                Mark::Rule { x, label } => {
                    chart.draw_series([PathElement::new([(*x, 0.0), (*x, top)], TEXT.rgb)])?;
                    let (left, y) = chart.backend_coord(&(*x, top));
                    area.draw(&Text::new(label.clone(), (left + 4, y + 2), text.clone()))?;
                }
            }
        }
        let mut tooltips = String::new();
        for tooltip in &self.tooltips {
            let (left, y) = chart.backend_coord(&(tooltip.x.0, top));
            let (right, bottom) = chart.backend_coord(&(tooltip.x.1, 0.0));
            // Writing to a String does not fail.
            let _ = writeln!(
                tooltips,
                "<rect class=\"h\" x=\"{left}\" y=\"{y}\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                (right - left).max(1),
                bottom - y,
                escaped(&tooltip.text)
            );
        }
        Ok(tooltips)
    }
}

/// Escapes text for HTML, also within a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
        safe
    })
}
