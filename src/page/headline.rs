//! The headline: whether everything went well.

use super::Page;
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

/// A number of rows, and what they are or did, if it is one row or more.
struct Part(u64, &'static str, &'static str);

impl Part {
    fn what(&self) -> &'static str {
        if self.0 == 1 { self.1 } else { self.2 }
    }
}

impl Headline {
    pub fn new(page: &Page) -> Headline {
        let analysis = page.analysis;
        let (all, noun) = (analysis.rows, analysis.kind.noun());
        let [outside, failed, invalid] =
            [Outcome::Outside, Outcome::Failed, Outcome::Invalid].map(|outcome| analysis.outcome(outcome));
        let is_under_way = analysis.under_way.is_some();
        let not_run = analysis.left().filter(|_| !is_under_way).unwrap_or_default();
        let parts = [
            Part(failed, "failed", "failed"),
            Part(invalid, "could not be sent", "could not be sent"),
            Part(outside, "is out of reach", "are out of reach"),
            Part(not_run, "has no record yet", "have no record yet"),
        ];
        let parts: Vec<Part> = parts.into_iter().filter(|part| part.0 > 0).collect();
        let one = noun.trim_end_matches('s');
        let done = match analysis.kind {
            Kind::List => "listed",
            Kind::Clear => "cleared",
        };
        let (status, text) = match &parts[..] {
            [] if is_under_way => (Status::Quiet, "Under way, and all is well so far".to_owned()),
            [] => match all {
                0 => (Status::Quiet, format!("There are no {noun} in this report yet")),
                _ if analysis.to_do.is_none() => (
                    Status::Quiet,
                    format!("The {noun} in this report are {done}; how many were to be is not known"),
                ),
                1 => (Status::Good, format!("The only {one} is {done}")),
                _ => (Status::Good, format!("All {} {noun} are {done}", grouped(all))),
            },
            parts => {
                let is_bad = failed + invalid > 0;
                let status = if is_bad { Status::Bad } else { Status::Warn };
                let text = match parts {
                    [part] if part.0 == all && not_run == 0 => match all {
                        1 => format!("The only {one} {}", part.what()),
                        _ => format!("All {} {noun} {}", grouped(all), part.what()),
                    },
                    _ => {
                        let parts: Vec<String> = parts
                            .iter()
                            .map(|part| format!("{} {}", grouped(part.0), part.what()))
                            .collect();
                        format!("Of {} {noun}, {}", grouped(all + not_run), parts.join(", "))
                    }
                };
                (status, text)
            }
        };
        Headline { text, status }
    }
}
