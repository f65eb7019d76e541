//! What a report says, as a table on stdout.

use std::cmp::Reverse;
use std::fmt;

use zim_batch::analysis::Analysis;
use zim_batch::code;
use zim_batch::journal::Kind;
use zim_batch::row::Outcome;
use zim_batch::text::{duration, grouped, local, one_line};

use super::{Overview, STANDARD_INPUT, run_of_clear, runs};
use crate::cli::output::next;
use crate::cli::output::table::{SHOWN, fmt_latency, fmt_reasons, fmt_rows, fmt_texts};

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        self.fmt_reports(f)?;
        if analysis.is_torn && analysis.parts.is_empty() {
            writeln!(f, "torn           the last record is incomplete and not counted")?;
        }
        self.fmt_under_way(f)?;
        fmt_rows(f, &self.summary, false)?;
        self.fmt_to_do(f)?;
        self.fmt_requests(f)?;
        fmt_latency(f, &self.summary)?;
        self.fmt_times(f)?;
        runs::fmt(f, analysis)?;
        self.fmt_codes(f)?;
        fmt_reasons(f, &self.summary, usize::MAX, self.language)?;
        self.fmt_not_listed(f)?;
        self.fmt_users(f)?;
        let when = if analysis.under_way.is_some() {
            ", after the run has ended"
        } else {
            ""
        };
        f.write_str(&next::as_text(&self.next_shown, when))
    }
}

impl Overview {
    /// The report, or each of several, with its records.
    fn fmt_reports(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.analysis.parts;
        if parts.is_empty() {
            return writeln!(f, "report         {}", one_line(&self.place));
        }
        let noun = self.analysis.kind.noun();
        let one = match self.analysis.kind {
            Kind::List => "user",
            _ => "conversation",
        };
        writeln!(
            f,
            "reports        {:>12}  as one: a {one} that stands in several counts by its latest record",
            grouped(parts.len() as u64)
        )?;
        for part in parts {
            let analysis = &part.analysis;
            let mut texts = vec![one_line(&analysis.report).into_owned()];
            let later = analysis.rows - part.counted;
            if later > 0 {
                let have = if later == 1 {
                    "has its record"
                } else {
                    "have their records"
                };
                texts.push(format!("{} of them {have} in another report", grouped(later)));
            }
            match part.left {
                None => texts.push(format!("left: not known, because {}", self.why_not_known(analysis))),
                Some(0) => {}
                Some(left) => texts.push(format!("{} {noun} without a record in it", grouped(left))),
            }
            if analysis.is_torn {
                texts.push("its last record is incomplete and not counted".to_owned());
            }
            fmt_texts(f, "", analysis.rows, texts)?;
        }
        Ok(())
    }

    fn fmt_under_way(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        if analysis.under_way.is_none() {
            return Ok(());
        }
        let (rate, noun) = (analysis.recent_rate(), analysis.kind.noun());
        let parts = analysis.parts.iter().map(|part| &part.analysis);
        let process = |analysis: &Analysis| {
            let process = analysis.under_way?.process;
            let process = process.map_or("a run".to_owned(), |process| format!("process {process}"));
            Some(match self.analysis.parts[..] {
                [] => process,
                _ => format!("{process} ({})", one_line(&analysis.report)),
            })
        };
        let process: Vec<String> = match analysis.parts[..] {
            [] => process(analysis).into_iter().collect(),
            _ => parts.filter_map(process).collect(),
        };
        let process = process.join(", ");
        writeln!(f, "running        {process}: {rate:.1} {noun}/s in the last minute")?;
        for text in analysis.waits().into_iter().chain(analysis.limited()) {
            writeln!(f, "{:15}{text}", "")?;
        }
        let Some(left) = analysis.left() else {
            return match analysis.listed_left() {
                Some(left) => {
                    writeln!(f, "{:15}{} {noun} left of those listed so far", "", grouped(left))?;
                    let as_so_far = match analysis.until_about() {
                        Some(_) => format!(", if the users left have as many {noun}"),
                        None => String::new(),
                    };
                    match analysis.until_in_words() {
                        Some(until) => writeln!(f, "{:15}{until}{as_so_far}", ""),
                        None => Ok(()),
                    }
                }
                None => Ok(()),
            };
        };
        let until = analysis.until_in_words().map(|until| format!(", {until}"));
        writeln!(f, "{:15}{} {noun} left{}", "", grouped(left), until.unwrap_or_default())
    }

    /// Whether anything is left to do, unless the rows above say so.
    fn fmt_to_do(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        let noun = analysis.kind.noun();
        match analysis.left() {
            None if analysis.parts.is_empty() => {
                writeln!(f, "left           not known: {}", self.why_not_known(analysis))
            }
            None => writeln!(f, "left           not known: {}", why_not_known_of_all(analysis)),
            Some(0) => writeln!(f, "left           {:>12}  all {noun} have a record", 0),
            Some(_) => Ok(()),
        }
    }

    /// Why it is not known how many rows were to be done.
    fn why_not_known(&self, analysis: &Analysis) -> &'static str {
        match analysis.runs.last() {
            None if self.place == STANDARD_INPUT => "standard input has no log of runs beside it",
            None if run_of_clear(analysis).is_some() => "the runs are logged beside the report of the rows",
            None => "there is no log of runs beside the report",
            Some(run) if run.begin.lists && analysis.listed.is_none() => "there is no list report beside the report",
            Some(run) if run.begin.lists && run.begin.users.is_some() => "not all users are listed yet",
            Some(run) if run.begin.total.is_none() => "the input was a stream that was not read to its end",
            Some(_) => "the log of runs is that of another report",
        }
    }

    fn fmt_requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let analysis = &self.analysis;
        let retries = match analysis.retries {
            0 => String::new(),
            more if analysis.may_have_further_pages() => {
                format!("  {} of them for further pages, or retries", grouped(more))
            }
            retries => format!("  {} of them retries", grouped(retries)),
        };
        writeln!(f, "requests       {:>12}{retries}", grouped(analysis.requests))
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
            let (noun, leaves_out) = (analysis.kind.noun(), analysis.rate_leaves_out());
            writeln!(f, "rate           {rate:>12.2}  {noun}/s, {leaves_out}")?;
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
        if pauses.len() > SHOWN {
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
        let (analysis, language) = (&self.analysis, self.language);
        if analysis.codes.is_empty() {
            return Ok(());
        }
        let noun = match analysis.listed {
            Some(_) => "rows, users",
            None => analysis.kind.noun(),
        };
        writeln!(f, "\n{:<13}{noun:>12}  meaning", "code")?;
        let mut codes: Vec<(&i64, &u64)> = analysis.codes.iter().collect();
        codes.sort_by_key(|&(code, rows)| (Reverse(*rows), *code));
        for (code, rows) in codes {
            let known = code::find(*code);
            let meaning = known.map_or(language.not_published(), |known| language.meaning(known));
            let advice = known
                .map(|known| language.advice(known))
                .filter(|advice| !advice.is_empty());
            let texts = std::iter::once(meaning.to_owned()).chain(advice.map(|advice| format!("→ {advice}")));
            fmt_texts(f, &code.to_string(), *rows, texts)?;
        }
        if analysis.other_codes > 0 {
            writeln!(f, "{:<13}{:>12}", "others", grouped(analysis.other_codes))?;
        }
        Ok(())
    }

    /// The users that could not be listed, by name.
    fn fmt_not_listed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(listed) = &self.analysis.listed else {
            return Ok(());
        };
        let names: Vec<_> = listed
            .users
            .iter()
            .take(SHOWN)
            .map(|user| one_line(&user.user))
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let more = listed.outcome(Outcome::Failed).saturating_sub(names.len() as u64);
        let more = if more > 0 {
            format!(" and {} more", grouped(more))
        } else {
            String::new()
        };
        fmt_texts(
            f,
            "failed users",
            listed.outcome(Outcome::Failed),
            [names.join(", ") + &more],
        )
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
                one_line(&user.user)
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

/// Why it is not known how many rows of several reports have no record.
fn why_not_known_of_all(analysis: &Analysis) -> String {
    let left: Option<u64> = analysis.parts.iter().map(|part| part.left).sum();
    match left {
        None => "it is not known of each report (see above)".to_owned(),
        Some(left) => format!(
            "at most {}, because what has no record in one report may have one in another",
            grouped(left)
        ),
    }
}
