//! Who shares a quota, as a table on stdout.

use std::fmt;

use zim_batch::limiter::quota::{Presence, Sharing};
use zim_batch::text::{local, milliseconds, one_line};

/// The heads of the columns. Those of numbers are aligned to the right.
const HEADS: [&str; 7] = ["host", "process", "job", "per second", "at most", "since", "report"];
const NUMBERS: [usize; 3] = [1, 3, 4];

/// Who shares the quota of an app, through a server or through files in a directory.
pub struct Table {
    pub app_id: u32,
    pub server: Option<String>,
    pub directory: Option<String>,
    pub sharing: Sharing,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sharing, directory) = (&self.sharing, self.directory.as_deref().unwrap_or_default());
        match &self.server {
            Some(server) => writeln!(f, "app            {}, shared through {}", self.app_id, one_line(server))?,
            None => writeln!(
                f,
                "app            {}, shared on this machine through {}",
                self.app_id,
                one_line(directory)
            )?,
        }
        self.fmt_limit(f)?;
        match sharing.runs.len() + sharing.unreadable {
            0 => writeln!(f, "runs           none; runs of version 0.1.0 are not seen")?,
            runs => writeln!(
                f,
                "runs           {runs}, together {:.1} requests per second in the last ten seconds",
                sharing.recent_rate()
            )?,
        }
        if sharing.unreadable > 0 {
            writeln!(f, "not readable   the entries of {} of them", sharing.unreadable)?;
        }
        self.fmt_runs(f)
    }
}

impl Table {
    fn fmt_limit(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.sharing.limit_unreadable {
            return writeln!(f, "limit          not known: {}", one_line(why));
        }
        let Some(entry) = &self.sharing.limit else {
            return writeln!(f, "limit          none; each run has its own --rate");
        };
        match entry.limit.rate {
            Some(rate) => write!(f, "limit          {rate} requests in any second, of all runs together")?,
            None => write!(
                f,
                "limit          0: all runs are paused, and so are those that start later"
            )?,
        }
        match entry.limit.until {
            Some(until) => writeln!(f, ", until {}", local(milliseconds(until)))?,
            None => writeln!(f, ", until --limit off, or until no run has used it for a day")?,
        }
        let by = if entry.by.is_empty() { "?" } else { &entry.by };
        writeln!(f, "{:15}set by {by} at {}", "", local(milliseconds(entry.set_at)))
    }

    fn fmt_runs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = &self.sharing.runs;
        if runs.is_empty() {
            return Ok(());
        }
        let lines: Vec<[String; 7]> = std::iter::once(HEADS.map(str::to_owned))
            .chain(runs.iter().map(cells))
            .collect();
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| console::measure_text_width(&line[column]))
                .max()
        };
        let widths: Vec<usize> = (0..HEADS.len())
            .map(|column| width(column).unwrap_or_default())
            .collect();
        writeln!(f)?;
        for line in &lines {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let alignment = if NUMBERS.contains(&column) {
                    console::Alignment::Right
                } else {
                    console::Alignment::Left
                };
                text += &console::pad_str(cell, widths[column], alignment, None);
                text += "  ";
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn cells(run: &Presence) -> [String; 7] {
    let recent_rate = run.activity.recent_rate;
    [
        run.host.clone(),
        run.process.to_string(),
        run.name.clone(),
        if run.activity.on_hold {
            "on hold".to_owned()
        } else {
            format!("{recent_rate:.1}")
        },
        match run.rate_now() {
            0.0 => "0 (paused)".to_owned(),
            rate => rate.to_string(),
        },
        local(run.since),
        run.report.clone().unwrap_or_default(),
    ]
}
