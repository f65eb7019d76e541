//! What is said of an input in which there is nothing to do: only a header, or no row with the outcome that was asked for.

use std::path::{Path, PathBuf};

use zim_batch::analysis::Analysis;
use zim_batch::journal::{Kind, list_report_of};
use zim_batch::row::Outcome;
use zim_batch::rows::{Only, Reads};
use zim_batch::text::{grouped, one_line};

use crate::cli::args::Given;
use crate::cli::output::next;
use crate::cli::settings::input::InputSettings;

/// The list report beside a report of rows, and how many of its users have one of these outcomes.
struct UsersAlike {
    list: PathBuf,
    number: u64,
    outcomes: String,
}

impl UsersAlike {
    fn find(report: &Path, only: &Only) -> Option<UsersAlike> {
        let Only::Outcomes(outcomes) = only else {
            return None;
        };
        let list = list_report_of(report);
        let users = Analysis::from_file(&list).ok().filter(|list| list.kind == Kind::List)?;
        let number = outcomes.iter().map(|outcome| users.outcome(*outcome)).sum();
        (number > 0).then(|| UsersAlike {
            list,
            number,
            outcomes: in_words(outcomes, ","),
        })
    }

    /// `; 2 users are: COMMAND`.
    fn hint(&self, command: &str) -> String {
        let users = match self.number {
            1 => "1 user is".to_owned(),
            more => format!("{} users are", grouped(more)),
        };
        format!("; {users}: {command}")
    }
}

fn in_words(outcomes: &[Outcome], between: &str) -> String {
    let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
    words.join(between)
}

/// `no row of out.csv is failed`.
fn none_is(place: &str, noun: &str, only: &Only) -> Option<String> {
    let Only::Outcomes(outcomes) = only else { return None };
    Some(format!(
        "no {noun} of {} is {}",
        one_line(place),
        in_words(outcomes, " or ")
    ))
}

/// Of a run.
pub fn of_run(input: &InputSettings, given: &Given) -> String {
    let (place, selection) = (input.source.to_string(), &input.selection);
    let noun = match input.format.reads {
        Reads::Users => "user",
        _ => "row",
    };
    if let Some(none) = selection.only.as_ref().and_then(|only| none_is(&place, noun, only)) {
        let users = selection.only.as_ref().filter(|_| noun == "row");
        let users = users.and_then(|only| UsersAlike::find(input.source.path(), only));
        let hint = users.map(|users| {
            users.hint(&next::users_of(
                input.source.path(),
                &users.list,
                &users.outcomes,
                given,
            ))
        });
        return format!("{none}, so nothing was done{}", hint.unwrap_or_default());
    }
    let place = one_line(&place).into_owned();
    match selection.conv_type {
        Some(conv_type) if noun == "row" => format!("{place}: no row of type {conv_type}; nothing was done"),
        _ => format!("{place}: no {noun} in this input, only a header; nothing was done"),
    }
}

/// Of a copy of the records of reports.
pub fn of_copy(reports: &[PathBuf], only: &Only, copy: &Path, kind: Kind) -> Option<String> {
    let noun = kind.noun().trim_end_matches('s');
    let names: Vec<String> = reports.iter().map(|report| report.display().to_string()).collect();
    let none = none_is(&names.join(", "), noun, only)?;
    let users = match (kind, reports) {
        (Kind::Clear, [report]) => UsersAlike::find(report, only),
        _ => None,
    };
    let hint = users.map(|users| users.hint(&next::copy_records(&users.list, &users.outcomes, copy)));
    Some(format!("{none}{}", hint.unwrap_or_default()))
}
