//! A chart for the page, drawn in two sizes.

use super::plot::{DrawError, Plot};

/// The sizes of a chart: for a wide screen or paper, and for a phone.
const WIDE: (u32, u32) = (1040, 250);
const NARROW: (u32, u32) = (380, 230);

/// A chart in both sizes, with its title, caption and legend.
pub(super) struct Figure {
    pub title: &'static str,
    /// The text alternative: what the chart shows, in a sentence.
    pub caption: String,
    pub legend: Vec<(&'static str, &'static str)>,
    pub wide: String,
    pub narrow: String,
}

impl Figure {
    pub fn new(
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
