//! The summary of a run, as a table on stdout.

use std::fmt;
use std::time::Duration;

use zim_batch::code;
use zim_batch::run::summary::{Failure, Summary};
use zim_batch::text::{grouped, one_line};

use crate::cli::errors::hints;

/// Up to this share of `limited` answers, jitter alone may be the cause: requests were sent evenly, but arrived closer
/// together.
const JITTER_UP_TO: f64 = 0.05;

/// Shows a summary as a table.
pub struct Table<'a>(pub &'a Summary);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        if summary.simulated {
            writeln!(
                f,
                "simulated      by --simulate: nothing was sent to ZIM, and nothing was cleared"
            )?;
        }
        writeln!(f, "rows           {:>12}", grouped(summary.rows))?;
        writeln!(f, "  ok           {:>12}", grouped(summary.ok))?;
        line(f, "outside", summary.outside, "out of reach; see the outside log")?;
        outcomes(
            f,
            summary,
            "repeated rows, not sent",
            "not in the report; to send them, use --resume",
        )?;
        requests(f, summary, "row")?;
        writeln!(f, "report         {}", path(&summary.report))?;
        write!(f, "outside log    {}", path(&summary.outside_log))?;
        ending(f, summary)
    }
}

/// Shows the summary of a list as a table.
pub struct ListTable<'a>(pub &'a Summary);

impl fmt::Display for ListTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        if summary.simulated {
            writeln!(f, "simulated      by --simulate: nothing was sent to ZIM")?;
        }
        writeln!(f, "users          {:>12}", grouped(summary.rows))?;
        writeln!(f, "  ok           {:>12}", grouped(summary.ok))?;
        let not_run = match summary.report {
            Some(_) => "not in the list report; to list them, use --resume",
            None => "not listed",
        };
        outcomes(f, summary, "repeated users, not sent", not_run)?;
        let conversations = grouped(summary.conversations.unwrap_or_default());
        writeln!(f, "conversations  {conversations:>12}  rows written")?;
        requests(f, summary, "page")?;
        match summary.rows_file.as_deref() {
            Some("-") | None => writeln!(f, "rows           standard output")?,
            Some(_) => writeln!(f, "rows           {}", path(&summary.rows_file))?,
        }
        write!(f, "list report    {}", path(&summary.report))?;
        ending(f, summary)
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, number: u64, note: &str) -> fmt::Result {
    match number {
        0 => Ok(()),
        number => writeln!(f, "  {name:<13}{:>12}  {note}", grouped(number)),
    }
}

fn path(path: &Option<String>) -> String {
    one_line(path.as_deref().unwrap_or("none")).into_owned()
}

/// The outcomes other than `ok` and `outside`.
fn outcomes(f: &mut fmt::Formatter<'_>, summary: &Summary, skipped: &str, not_run: &str) -> fmt::Result {
    line(f, "failed", summary.failed, "see the report's message column")?;
    for (failure, rows) in &summary.failures {
        match failure {
            Failure::Code(code) => line(f, &format!("  {code}"), *rows, &meaning(*code))?,
            Failure::Cause(cause) => line(f, "  no code", *rows, &shortened(cause))?,
        }
    }
    line(
        f,
        "invalid",
        summary.invalid,
        "not sent; see the report's message column",
    )?;
    line(f, "skipped", summary.skipped, skipped)?;
    let earlier = match summary.already_failed {
        0 => "by an earlier run".to_owned(),
        bad => format!("by an earlier run; {} of them failed or invalid", grouped(bad)),
    };
    line(f, "already done", summary.already_done, &earlier)?;
    line(f, "not run", summary.not_run, not_run)
}

/// The requests, and their answers. `item` is what each first request is for.
fn requests(f: &mut fmt::Formatter<'_>, summary: &Summary, item: &str) -> fmt::Result {
    writeln!(f, "requests       {:>12}  {}", grouped(summary.requests), pace(summary))?;
    if summary.runs > 1 {
        writeln!(
            f,
            "  shared with  {:>12}  other runs of this app, at most at a time",
            grouped(summary.runs as u64 - 1)
        )?;
    }
    let retries = format!("requests that were not a {item}'s first");
    line(f, "retries", summary.retries, &retries)?;
    line(f, "limited", summary.limited, &why_limited(summary))?;
    let retried = summary.retried.iter().filter(|(code, _)| **code != 0);
    for (index, (&code, &answers)) in retried.enumerate() {
        if index == 0 {
            writeln!(f, "answers that decided no row:")?;
        }
        line(f, &code.to_string(), answers, &meaning(code))?;
    }
    let latency = summary.latency_ms;
    if summary.requests > 0 {
        let [p50, p90, p99, max] =
            [latency.p50, latency.p90, latency.p99, latency.max].map(|time| grouped(time.round() as u64));
        writeln!(
            f,
            "latency        {p50:>9} ms  median; 90 % {p90} ms, 99 % {p99} ms, longest {max} ms",
        )?;
    }
    Ok(())
}

fn ending(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    if let Some(error) = &summary.last_error {
        write!(f, "\nlast error     {error}")?;
    }
    if let Some(reason) = &summary.stopped {
        write!(f, "\nstopped        {}", hints::stop_reason(reason))?;
    }
    Ok(())
}

/// The meaning of a return code, shortened for the table.
fn meaning(code: i64) -> String {
    shortened(code::find(code).map_or("not in ZEGO's lists", |known| known.meaning))
}

/// Shortens a text between words, so that it fits beside a count in 80 columns.
fn shortened(text: &str) -> String {
    const WIDTH: usize = 50;
    let Some((end, _)) = text.char_indices().nth(WIDTH) else {
        return text.to_owned();
    };
    let start = &text[..end];
    let words = start.rsplit_once(' ').map_or(start, |(words, _)| words);
    format!("{words} …")
}

/// The probable reason why the server refused requests.
fn why_limited(summary: &Summary) -> String {
    match summary.limited as f64 / summary.requests as f64 {
        _ if summary.peak_1s > summary.cap => "rate limited: too many requests per second".into(),
        ..JITTER_UP_TO => format!(
            "rate limited, although at most {} start in any second",
            grouped(summary.cap)
        ),
        _ => "rate limited: other traffic probably shares the quota".into(),
    }
}

fn took(summary: &Summary) -> String {
    match summary.elapsed_s {
        ..60.0 => format!("{:.1} s", summary.elapsed_s),
        more => humantime::format_duration(Duration::from_secs(more as u64)).to_string(),
    }
}

/// `in 10.1 s: 19.91/s, peak 20 in one second`; for a run that is too short for a rate, only the time.
pub fn pace(summary: &Summary) -> String {
    let rate = match summary.rate {
        ..0.005 => return format!("in {}", took(summary)),
        _ if summary.elapsed_s < 1.0 => return format!("in {}", took(summary)),
        ..1000.0 => format!("{:.2}", summary.rate),
        many => grouped(many as u64),
    };
    let (took, peak) = (took(summary), grouped(summary.peak_1s));
    format!("in {took}: {rate}/s, peak {peak} in one second")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zim_batch::stop::StopReason;

    use super::*;

    fn table(summary: &Summary) -> String {
        Table(summary).to_string()
    }

    #[test]
    fn failures_are_listed_below_the_failed_rows_and_retried_answers_below_the_requests() {
        let table = table(&Summary {
            rows: 4,
            ok: 1,
            failed: 3,
            failures: vec![
                (Failure::Cause("timed out after 10s".into()), 2),
                (Failure::Code(660500002), 1),
            ],
            retried: BTreeMap::from([(0, 1), (660000001, 2)]),
            ..Summary::default()
        });
        let (rows, answers) = table.split_once("answers that decided no row").unwrap();
        assert!(rows.contains("660500002") && !rows.contains("660000001"), "{table}");
        assert!(
            answers.contains("660000001") && !answers.contains("660500002"),
            "{table}"
        );
        let timed_out = rows.find("timed out after 10s").unwrap();
        assert!(timed_out < rows.find("660500002").unwrap(), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }

    #[test]
    fn a_short_run_shows_no_rate_and_a_long_one_does() {
        let mut summary = Summary {
            elapsed_s: 0.14,
            ..Summary::default()
        };
        assert_eq!(pace(&summary), "in 0.1 s");
        (summary.elapsed_s, summary.rate, summary.peak_1s) = (10.1, 20.0, 20);
        assert_eq!(pace(&summary), "in 10.1 s: 20.00/s, peak 20 in one second");
    }

    #[test]
    fn limited_answers_are_explained() {
        let mut refused = Summary {
            cap: 20,
            limited: 7,
            requests: 600,
            ..Summary::default()
        };
        let said = table(&refused);
        assert!(said.contains("although at most 20 start in any second"), "{said}");
        refused.limited = 60;
        let said = table(&refused);
        assert!(said.contains("other traffic probably"), "{said}");
        refused.peak_1s = 21;
        let said = table(&refused);
        assert!(said.contains("too many requests"), "{said}");
    }

    #[test]
    fn the_last_error_and_the_reason_for_a_stop_come_last() {
        let said = table(&Summary {
            last_error: Some("timed out after 10s".into()),
            stopped: Some(StopReason::Signal(2)),
            ..Summary::default()
        });
        assert!(
            said.ends_with("\nlast error     timed out after 10s\nstopped        SIGINT"),
            "{said}"
        );
    }
}
