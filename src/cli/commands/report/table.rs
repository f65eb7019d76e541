//! The summary of a report, as a table on stdout.

use std::fmt::{self, Write as _};

use zim_batch::analysis::Reason;
use zim_batch::code;
use zim_batch::journal::Kind;
use zim_batch::row::Outcome;
use zim_batch::text::{duration, grouped, local, table_cell};

use super::Found;
use crate::cli::output::next;

/// The maximum number of users, pauses and lines in the table; JSON has more.
const SHOWN: usize = 10;

/// The width of the table, in characters.
const WIDTH: usize = 80;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        writeln!(f, "report         {}", table_cell(&self.place))?;
        if analysis.simulated {
            writeln!(f, "simulated      sent to the simulator, not to ZIM")?;
        }
        if analysis.is_torn {
            writeln!(f, "torn           the last record is incomplete and not counted")?;
        }
        if let Some(progress) = &self.progress {
            write!(
                f,
                "running        process {}: {:.1} rows/s in the last minute",
                progress.process, progress.rate
            )?;
            match (progress.rows_left, progress.until) {
                (Some(left), Some(until)) => {
                    write!(
                        f,
                        "\n               {} rows left, until about {}",
                        grouped(left),
                        local(until)
                    )?;
                }
                (Some(left), None) => write!(f, "\n               {} rows left", grouped(left))?,
                (None, _) => {}
            }
            writeln!(f)?;
        }
        self.fmt_counts(f)?;
        self.fmt_times(f)?;
        self.fmt_codes(f)?;
        self.fmt_reasons(f)?;
        self.fmt_users(f)?;
        let when = if self.progress.is_some() {
            ", after the run has ended"
        } else {
            ""
        };
        let next = next::as_text(&self.next, when);
        if !next.is_empty() {
            writeln!(f, "{next}")?;
        }
        Ok(())
    }
}

impl Found {
    fn fmt_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        writeln!(f, "{:<15}{:>12}", analysis.kind.noun(), grouped(analysis.rows))?;
        let mut line = |name: &str, number: u64, note: &str| match number {
            0 => Ok(()),
            number => writeln!(
                f,
                "{}",
                format!("  {name:<13}{:>12}  {note}", grouped(number)).trim_end()
            ),
        };
        line("ok", analysis.outcome(Outcome::Ok), "")?;
        line(
            "outside",
            analysis.outcome(Outcome::Outside),
            "out of reach, not cleared",
        )?;
        line("failed", analysis.outcome(Outcome::Failed), "")?;
        line("invalid", analysis.outcome(Outcome::Invalid), "not sent")?;
        line("skipped", analysis.outcome(Outcome::Skipped), "repeated, not sent")?;
        if self.progress.is_none() {
            line("not run", self.not_run.unwrap_or_default(), "no record yet")?;
        }
        if analysis.kind == Kind::List {
            writeln!(f, "conversations  {:>12}", grouped(analysis.conversations))?;
        }
        let retries = match analysis.retries {
            0 => String::new(),
            more if analysis.kind == Kind::List => format!("  {} of them for further pages, or retries", grouped(more)),
            retries => format!("  {} of them retries", grouped(retries)),
        };
        writeln!(f, "requests       {:>12}{retries}", grouped(analysis.requests))?;
        if analysis.has_latency() {
            let latency = analysis.latency_ms();
            writeln!(
                f,
                "latency        {:>9} ms  median; 90 % {} ms, 99 % {} ms, longest {} ms",
                grouped(latency.p50 as u64),
                grouped(latency.p90 as u64),
                grouped(latency.p99 as u64),
                grouped(latency.max as u64)
            )?;
        }
        Ok(())
    }

    fn fmt_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        let (Some(first), Some(last)) = (analysis.first, analysis.last) else {
            return Ok(());
        };
        writeln!(f, "first          {}", local(first))?;
        write!(f, "last           {}", local(last))?;
        if last >= first + 1000 {
            write!(f, "  after {}", duration(last - first))?;
        }
        writeln!(f)?;
        if let Some(rate) = analysis.rate() {
            writeln!(
                f,
                "rate           {rate:>12.2}  rows/s, without pauses of more than a minute"
            )?;
        }
        if analysis.untimed > 0 {
            writeln!(f, "without time   {:>12}", grouped(analysis.untimed))?;
        }
        let mut pauses: Vec<(i64, i64)> = analysis.pauses().collect();
        if pauses.is_empty() {
            return Ok(());
        }
        let total: i64 = pauses.iter().map(|(from, to)| to - from).sum();
        writeln!(
            f,
            "pauses         {:>12}  of more than {}, {} in total",
            grouped(pauses.len() as u64),
            duration(analysis.min_pause()),
            duration(total)
        )?;
        let count = pauses.len();
        if count > SHOWN {
            pauses.sort_by_key(|(from, to)| from - to);
            pauses.truncate(SHOWN);
            pauses.sort_unstable();
            writeln!(f, "  the longest:")?;
        }
        for (from, to) in pauses {
            writeln!(f, "  {} to {}  {}", local(from), local(to), duration(to - from))?;
        }
        Ok(())
    }

    fn fmt_codes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        if analysis.codes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\ncode                 rows  meaning")?;
        let mut codes: Vec<(&i64, &u64)> = analysis.codes.iter().collect();
        codes.sort_by_key(|&(code, rows)| (std::cmp::Reverse(*rows), *code));
        for (code, rows) in codes {
            let known = code::find(*code);
            let mut text = String::new();
            wrap(
                &mut text,
                27,
                known.map_or("not in ZEGO's published lists", |known| known.meaning),
            );
            if let Some(advice) = known.map(|known| known.advice).filter(|advice| !advice.is_empty()) {
                text.push('\n');
                text.push_str(&" ".repeat(27));
                wrap(&mut text, 27, &format!("→ {advice}"));
            }
            writeln!(f, "{code:<13}{:>12}  {text}", grouped(*rows))?;
        }
        if analysis.other_codes > 0 {
            writeln!(f, "{:<13}{:>12}", "others", grouped(analysis.other_codes))?;
        }
        Ok(())
    }

    fn fmt_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = &self.analysis.reasons;
        if reasons.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nnot cleared          rows  why, and on which lines of the input")?;
        for reason in reasons {
            let mut text = String::new();
            let why = match reason.code {
                Some(code) => format!("code {code}: {}", table_cell(&reason.message)),
                None => table_cell(&reason.message).into_owned(),
            };
            wrap(&mut text, 27, &why);
            text.push('\n');
            text.push_str(&" ".repeat(27));
            // Invalid rows must be found and corrected in the input; failed rows are sent again by a command.
            let most = match reason.outcome {
                Outcome::Invalid => usize::MAX,
                _ => SHOWN,
            };
            wrap(&mut text, 27, &lines(reason, most));
            writeln!(f, "{:<13}{:>12}  {text}", reason.outcome, grouped(reason.rows))?;
        }
        Ok(())
    }

    fn fmt_users(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        if analysis.users.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n      failed     outside  user")?;
        for user in analysis.users.iter().take(SHOWN) {
            writeln!(
                f,
                "{:>12}{:>12}  {}",
                grouped(user.failed),
                grouped(user.outside),
                table_cell(&user.user)
            )?;
        }
        if analysis.users.len() > SHOWN {
            writeln!(f, "  and more users with fewer such rows (see --json)")?;
        }
        if analysis.users_missed > 0 {
            writeln!(
                f,
                "  the counts are approximate: each user may have up to {} more",
                grouped(analysis.users_missed)
            )?;
        }
        Ok(())
    }
}

/// The lines of the input, at most `most` of them.
fn lines(reason: &Reason, most: usize) -> String {
    let shown: Vec<String> = reason.lines.iter().take(most).map(u64::to_string).collect();
    let more = reason.rows - shown.len() as u64;
    let mut text = format!("line{} {}", if reason.rows == 1 { "" } else { "s" }, shown.join(", "));
    if more > 0 {
        let _ = write!(text, " and {} more", grouped(more));
    }
    text
}

/// Appends `words` to `text`; all lines after the first are indented.
fn wrap(text: &mut String, indent: usize, words: &str) {
    let mut column = indent;
    for (index, word) in words.split(' ').enumerate() {
        let len = word.chars().count();
        if index > 0 {
            if column + 1 + len > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text.push_str(word);
        column += len;
    }
}
