//! The bar: one line, as wide as the terminal, and the terminal's title.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use console::{Term, measure_text_width};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use zim_batch::text::grouped;

use super::parts::{Part, fitted, joined};
use super::{rounded, terminal};
use crate::cli::output::lossy::LossyWriter;

/// The width to assume if the terminal does not report it.
const COLUMNS: u16 = 80;

/// The minimum width of the bar.
const MIN_BAR: usize = 10;

/// Prefixes of `TERM` for terminals that have a title.
const WITH_TITLE: [&str; 16] = [
    "alacritty",
    "contour",
    "foot",
    "ghostty",
    "gnome",
    "iterm",
    "kitty",
    "konsole",
    "putty",
    "rxvt",
    "screen",
    "st-",
    "tmux",
    "vte",
    "wezterm",
    "xterm",
];

/// A progress bar on the last line of the terminal.
pub struct Bar {
    bar: ProgressBar,
    canvas: Canvas,
    output: LossyWriter,
    has_title: bool,
    title: Option<String>,
    template: &'static str,
    /// What is counted: `rows` or `users`.
    items: &'static str,
}

impl Bar {
    pub fn new(output: LossyWriter, total: Option<u64>, items: &'static str) -> Bar {
        let canvas = Canvas::default();
        // The high rate is harmless: only completed lines reach the terminal.
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(canvas.clone()), u8::MAX);
        let term = terminal::term();
        Bar {
            bar: ProgressBar::with_draw_target(total, target),
            canvas,
            output,
            has_title: WITH_TITLE.iter().any(|name| term.starts_with(name)) || term == "st",
            title: None,
            template: "",
            items,
        }
    }

    /// Shows these parts, and in the title how far the run is, or `waits`: why it does nothing.
    pub fn show(&mut self, parts: &[Part], done: u64, waits: Option<&str>, left: Option<Duration>) {
        let percent = self.bar.length().map(|total| done * 100 / total.max(1));
        let (template, text) = layout(parts, usize::from(columns()), percent.is_some() && waits.is_none());
        if template != self.template {
            self.template = template;
            self.bar
                .set_style(ProgressStyle::with_template(template).expect("the template is well-formed"));
        }
        self.bar.set_position(done);
        self.bar.set_message(text);
        self.bar.tick();
        self.output.last_line(Some(self.canvas.line().trim_end().to_owned()));
        let title = match (waits, percent, left) {
            (Some(waits), ..) => format!("zim-batch: {waits}"),
            (_, Some(percent), Some(left)) => format!("zim-batch: {percent}%, {} left", rounded(left)),
            (_, Some(percent), None) => format!("zim-batch: {percent}%"),
            (_, None, _) => format!("zim-batch: {} {}", grouped(done), self.items),
        };
        self.set_title(Some(title));
    }

    /// Removes the bar and restores the terminal's title.
    pub fn end(&mut self) {
        self.output.last_line(None);
        self.set_title(None);
    }

    fn set_title(&mut self, title: Option<String>) {
        if self.has_title && title != self.title {
            self.output.title(title.clone());
            self.title = title;
        }
    }
}

/// The target that indicatif draws on: one line, shown when it is complete.
#[derive(Debug, Clone, Default)]
struct Canvas(Arc<Mutex<String>>);

impl Canvas {
    fn line(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is only one line, so the cursor never moves up or down.
impl TermLike for Canvas {
    fn width(&self) -> u16 {
        columns()
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut line = self.line();
        match text.strip_prefix('\r') {
            Some(text) => text.clone_into(&mut line),
            None => line.push_str(text),
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.line().clear();
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal's width minus one: on some terminals, a cursor after the last column is already on the next line.
fn columns() -> u16 {
    let columns = Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| columns);
    match columns {
        0 => COLUMNS,
        columns => columns,
    }
    .saturating_sub(1)
    .max(1)
}

/// Parts up to this weight are omitted before the bar is.
const LESS_THAN_A_BAR: u8 = 2;

/// The template and the message that fit in `columns`.
fn layout(parts: &[Part], columns: usize, with_bar: bool) -> (&'static str, String) {
    /// The width of ` 100% `.
    const PERCENT: usize = 6;
    if !with_bar {
        return ("{spinner} {msg}", fitted(parts, columns.saturating_sub(2)));
    }
    let beside_bar = columns.saturating_sub(MIN_BAR + PERCENT);
    let matters = |part: &&Part| part.weight > LESS_THAN_A_BAR;
    if measure_text_width(&joined(parts.iter().filter(matters))) <= beside_bar {
        ("{wide_bar} {percent:>3}% {msg}", fitted(parts, beside_bar))
    } else {
        ("{percent:>3}% {msg}", fitted(parts, columns.saturating_sub(PERCENT)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        vec![
            Part::new(9, "1,274/12,201 rows"),
            Part::new(1, "ok 1,180"),
            Part::new(6, "failed 12"),
            Part::new(8, "last error: connection refused (os error 111)"),
            Part::new(5, "19.9/s"),
            Part::new(7, "9m 20s left"),
        ]
    }

    #[test]
    fn the_least_important_parts_are_omitted_first() {
        for columns in 1..250 {
            for with_bar in [true, false] {
                let (template, text) = layout(&parts(), columns, with_bar);
                let beside = match template {
                    "{spinner} {msg}" => 2,
                    "{percent:>3}% {msg}" => 5,
                    _ => MIN_BAR + 6,
                };
                assert!(
                    measure_text_width(&text) + beside <= columns.max(8),
                    "{columns}: {text}"
                );
            }
        }
        let at = |columns| fitted(&parts(), columns);
        assert!(
            at(200).contains("ok 1,180") && at(200).contains("19.9/s"),
            "{}",
            at(200)
        );
        assert_eq!(
            at(80),
            "1,274/12,201 rows, last error: connection refused (os error 111), 9m 20s left"
        );
        assert!(
            at(64).starts_with("1,274/12,201 rows, last error: connection refused"),
            "{}",
            at(64)
        );
        assert!(at(30).ends_with('…'), "{}", at(30));
    }
}
