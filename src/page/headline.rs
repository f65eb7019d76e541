//! The headline: whether everything went well.

use super::Page;
use crate::analysis::Analysis;
use crate::journal::Kind;
use crate::row::Outcome;
use crate::text::grouped;

/// The headline and its color.
pub(super) struct Headline {
    pub text: String,
    pub status: Status,
}

/// The overall status.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Good,
    Warn,
    Bad,
    Quiet,
}

impl Status {
    /// Its class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::Warn => "warn",
            Status::Bad => "bad",
            Status::Quiet => "quiet",
        }
    }

    pub fn sign(self) -> &'static str {
        match self {
            Status::Good => "✓",
            Status::Warn => "!",
            Status::Bad => "✗",
            Status::Quiet => "…",
        }
    }
}

/// A number of rows or users, and what they are or did, if it is one or more.
struct Part(u64, &'static str, &'static str);

impl Part {
    fn what(&self) -> &'static str {
        if self.0 == 1 { self.1 } else { self.2 }
    }
}

/// "5 failed, 1 is out of reach".
fn joined(parts: &[Part]) -> String {
    let parts = parts.iter().map(|part| format!("{} {}", grouped(part.0), part.what()));
    parts.collect::<Vec<_>>().join(", ")
}

impl Headline {
    pub fn new(page: &Page) -> Headline {
        let analysis = page.analysis;
        let listed = analysis.listed.as_deref();
        let is_under_way = analysis.under_way.is_some();
        let parts = |analysis| parts(analysis, is_under_way);
        let (rows, users) = (parts(analysis), listed.map(parts).unwrap_or_default());
        let has_failed =
            |analysis: &Analysis| analysis.outcome(Outcome::Failed) + analysis.outcome(Outcome::Invalid) > 0;
        let status = if has_failed(analysis) || listed.is_some_and(has_failed) {
            Status::Bad
        } else if !rows.is_empty() || !users.is_empty() || analysis.present.on_hold.is_some() {
            Status::Warn
        } else if is_under_way || analysis.rows == 0 || analysis.left() != Some(0) {
            Status::Quiet
        } else {
            Status::Good
        };
        let mut text = if is_under_way {
            under_way(analysis, &rows, users.is_empty())
        } else {
            ended(analysis, &rows, users.is_empty())
        };
        if let (Some(listed), false) = (listed, users.is_empty()) {
            let all = listed.rows + listed.left().unwrap_or_default();
            text += &format!("; of {} users, {}", grouped(all), joined(&users));
        }
        Headline { text, status }
    }
}

/// What is not as it should be; and what is not done, unless a run is about to do it.
fn parts(analysis: &Analysis, is_under_way: bool) -> Vec<Part> {
    let [outside, failed, invalid] =
        [Outcome::Outside, Outcome::Failed, Outcome::Invalid].map(|outcome| analysis.outcome(outcome));
    let not_run = if is_under_way { 0 } else { not_run(analysis) };
    let mut parts = vec![
        Part(failed, "failed", "failed"),
        Part(invalid, "could not be sent", "could not be sent"),
        Part(outside, "is out of reach", "are out of reach"),
        Part(not_run, "has no record yet", "have no record yet"),
    ];
    parts.retain(|part| part.0 > 0);
    parts
}

/// Rows without a record; while users are left, those of the rows that were listed so far.
fn not_run(analysis: &Analysis) -> u64 {
    analysis.left().or(analysis.listed_left()).unwrap_or_default()
}

fn under_way(analysis: &Analysis, parts: &[Part], is_well: bool) -> String {
    let done = match analysis.to_do {
        Some(to_do) => format!("{} of {}", grouped(analysis.rows), grouped(to_do)),
        None => grouped(analysis.rows),
    };
    let noun = match (analysis.to_do, analysis.rows) {
        (Some(1), _) | (None, 1) => analysis.kind.noun().trim_end_matches('s'),
        _ => analysis.kind.noun(),
    };
    let listed = analysis.listed.as_deref().map(|listed| {
        let all = listed.left().map(|left| format!(" of {}", grouped(listed.rows + left)));
        let (rows, all) = (grouped(listed.rows), all.unwrap_or_default());
        format!(" so far; {rows}{all} users done")
    });
    let noun = format!("{noun}{}", listed.unwrap_or_default());
    let waits = analysis.waits().map(|waits| format!("; {waits}"));
    let is_well = is_well && waits.is_none();
    let waits = waits.unwrap_or_default();
    match parts {
        [] if is_well => format!("Under way: {done} {noun}, and all is well so far"),
        [] => format!("Under way: {done} {noun}{waits}"),
        parts => format!("Under way: {done} {noun}, {}{waits}", joined(parts)),
    }
}

fn ended(analysis: &Analysis, parts: &[Part], is_well: bool) -> String {
    let (all, noun) = (analysis.rows, analysis.kind.noun());
    let one = noun.trim_end_matches('s');
    let done = match analysis.kind {
        Kind::List => "listed",
        Kind::Clear => "cleared",
    };
    let not_run = not_run(analysis);
    match parts {
        [] => match all {
            0 => format!("There are no {noun} in this report yet"),
            _ if analysis.left().is_none() => {
                format!(
                    "The {} {noun} in this report are {done}; how many were to be is not known",
                    grouped(all)
                )
            }
            1 => format!("The only {one} is {done}"),
            _ if !is_well => format!("{} {noun} are {done}", grouped(all)),
            _ => format!("All {} {noun} are {done}", grouped(all)),
        },
        [part] if part.0 == all && not_run == 0 => match all {
            1 => format!("The only {one} {}", part.what()),
            _ => format!("All {} {noun} {}", grouped(all), part.what()),
        },
        parts => format!("Of {} {noun}, {}", grouped(all + not_run), joined(parts)),
    }
}
