//! What the page says, as values for the template.

use std::cmp::Reverse;

use askama::Template;

use super::chart::Chart;
use super::charts::charts;
use super::headline::Headline;
use super::not_cleared::{Reasons, Users, not_listed, why};
use super::runs::{Runs, ended_before};
use super::{NextStep, Page, shown};
use crate::analysis::{Analysis, UnderWay};
use crate::code;
use crate::journal::Kind;
use crate::row::Outcome;
use crate::text::{duration, grouped, local, shell_word};

/// The maximum number of each that a page lists, so that its size is bounded.
const CODES: usize = 100;
const PAUSES: usize = 50;

/// The page.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct View<'a> {
    report: String,
    /// Marks the page's own style sheet and script, which alone the content security policy allows.
    nonce: String,
    /// Seconds after which the page reloads itself.
    reload_after: Option<u64>,
    headline: Headline,
    /// Sentences below the headline.
    facts: Vec<String>,
    is_simulated: bool,
    /// In rows.
    cards: Vec<Vec<Card>>,
    next: &'a [NextStep],
    noun: &'static str,
    /// What has the return codes.
    with_codes: &'static str,
    is_under_way: bool,
    runs: Runs,
    /// Of the rows, and of the users that were listed.
    reasons: Vec<Reasons>,
    /// The users that could not be listed.
    not_listed: String,
    charts: Vec<Chart>,
    codes: Vec<Code>,
    codes_more: usize,
    users: Users,
    pauses: Vec<Pause>,
    pauses_note: String,
    made: String,
    version: &'static str,
}

/// A number with its name and a note.
struct Card {
    name: &'static str,
    value: String,
    note: String,
    /// Its color: a class of the style sheet.
    ink: &'static str,
}

/// A return code.
struct Code {
    code: i64,
    rows: String,
    meaning: &'static str,
    advice: &'static str,
}

/// A time without a record.
struct Pause {
    from: String,
    to: String,
    lasted: String,
}

impl View<'_> {
    pub fn new<'a>(page: &Page<'a>) -> View<'a> {
        let analysis = page.analysis;
        let listed = analysis.listed.as_deref();
        let lists = match analysis.kind {
            Kind::List => Some(analysis),
            Kind::Clear => listed,
        };
        let noun = match analysis.kind {
            Kind::List => "Users",
            Kind::Clear => "Rows",
        };
        View {
            report: shown(page.report),
            nonce: format!("{:032x}", fastrand::u128(..)),
            reload_after: page.rewritten.map(|every| every.as_secs()),
            headline: Headline::new(page),
            facts: facts(page),
            is_simulated: analysis.simulated,
            cards: [Some(outcomes(page)), listed.map(listed_users), Some(figures(analysis))]
                .into_iter()
                .flatten()
                .collect(),
            next: page.next,
            noun,
            with_codes: if listed.is_some() { "Rows, users" } else { noun },
            is_under_way: analysis.under_way.is_some(),
            runs: Runs::new(analysis),
            reasons: [Some(analysis), listed]
                .into_iter()
                .flatten()
                .map(Reasons::new)
                .collect(),
            not_listed: lists.map(not_listed).unwrap_or_default(),
            charts: charts(analysis),
            codes: codes(analysis),
            codes_more: analysis.codes.len().saturating_sub(CODES),
            users: Users::new(analysis),
            pauses: pauses(analysis),
            pauses_note: pauses_note(analysis),
            made: local(analysis.read_at()),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

fn facts(page: &Page) -> Vec<String> {
    let analysis = page.analysis;
    let mut facts: Vec<String> = analysis
        .under_way
        .into_iter()
        .flat_map(|run| [under_way(analysis, run), written(page)])
        .collect();
    if let (Some(first), Some(last)) = (analysis.first, analysis.last) {
        let pauses: i64 = analysis.pauses().map(|(from, to)| to - from).sum();
        let mut text = match last - first {
            0..1000 => local(first),
            took => format!("{} to {}: {}", local(first), local(last), duration(took)),
        };
        if pauses > 0 {
            text += &format!(", of it {} in pauses", duration(pauses));
        }
        facts.push(text + ".");
    }
    if let Some(most) = analysis.reasons.first() {
        let (outcome, why, rows) = (most.outcome, why(most), grouped(most.rows));
        let nouns = analysis.kind.noun();
        let noun = if most.rows == 1 {
            nouns.trim_end_matches('s')
        } else {
            nouns
        };
        facts.push(format!("The most frequent reason: {why} ({rows} {noun}, {outcome})."));
    }
    let full = analysis.summary().users_full.unwrap_or_default();
    if full > 0 {
        let users = match full {
            1 => "1 user has".to_owned(),
            more => format!("{} users have", grouped(more)),
        };
        facts.push(format!(
            "{users} 1,000 conversations, the most that ZIM lists: older conversations, if any, are out of reach."
        ));
    }
    if !analysis.parts.is_empty() {
        let one = match analysis.kind {
            Kind::List => "user",
            Kind::Clear => "conversation",
        };
        facts.push(format!(
            "{} reports are read as one: a {one} that stands in several counts by its latest record.",
            grouped(analysis.parts.len() as u64)
        ));
    }
    let parts = analysis.parts.iter().map(|part| &part.analysis);
    for report in parts.chain(analysis.parts.is_empty().then_some(analysis)) {
        let of = match analysis.parts[..] {
            [] => String::new(),
            _ => format!(" of {}", shown(&report.report)),
        };
        if report.is_torn {
            facts.push(format!("The last record{of} was cut short and is left out."));
        }
        if let Some((line, count)) = report.damaged {
            let of = if of.is_empty() { " of the report" } else { &of };
            facts.push(format!(
                "Lines{of} that are not records are left out: {}, the first is line {line}.",
                grouped(count)
            ));
        }
    }
    facts
}

fn under_way(analysis: &Analysis, run: UnderWay) -> String {
    let process = run
        .process
        .map(|process| format!(" (process {process})"))
        .unwrap_or_default();
    let noun = analysis.kind.noun();
    let mut text = match analysis.waits() {
        Some(waits) => format!("A run is under way{process}, and is {waits}"),
        None => {
            let limited = analysis.limited().map(|limited| format!(", {limited}"));
            let rate = analysis.recent_rate();
            format!(
                "A run is under way{process}{}: {rate:.1} {noun}/s in the last minute",
                limited.unwrap_or_default()
            )
        }
    };
    match (analysis.left(), analysis.listed_left()) {
        (Some(left), _) => text += &format!(", {} {noun} left", grouped(left)),
        (None, Some(left)) => text += &format!(", {} rows left of those listed so far", grouped(left)),
        (None, None) => {}
    }
    if let Some(until) = analysis.until_in_words() {
        text += &format!(", {until}");
    }
    text + "."
}

/// When the page of a run under way was written.
fn written(page: &Page) -> String {
    let at = local(page.analysis.read_at());
    match page.rewritten {
        Some(every) => {
            let often = match every.as_secs() {
                ..=60 => "once a minute".to_owned(),
                _ => format!("every {}", duration(every.as_millis() as i64)),
            };
            format!(
                "This page was written at {at}. While the run is under way, it is written anew about {often} and \
                 reloads itself. If this time stays as it is, 'zim-batch report {}' says whether the run has ended.",
                shown(&shell_word(page.report))
            )
        }
        None => format!("This page was written at {at}, and is not written anew."),
    }
}

/// All rows, and those of each outcome.
fn outcomes(page: &Page) -> Vec<Card> {
    let analysis = page.analysis;
    let card = |name, rows, note: &str, ink| Card {
        name,
        value: grouped(rows),
        note: note.to_owned(),
        ink,
    };
    let of_all = match (analysis.to_do, analysis.left()) {
        (Some(to_do), Some(1..)) => format!("of {}", grouped(to_do)),
        _ => String::new(),
    };
    let mut cards = vec![card(analysis.kind.noun(), analysis.rows, &of_all, "")];
    for (outcome, note) in [
        (Outcome::Ok, ""),
        (Outcome::Outside, "out of reach"),
        (Outcome::Failed, ""),
        (Outcome::Invalid, "not sent"),
        (Outcome::Skipped, "repeated"),
    ] {
        // No user is outside.
        if outcome == Outcome::Outside && analysis.kind == Kind::List {
            continue;
        }
        let rows = analysis.outcome(outcome);
        let ink = if rows > 0 { outcome.as_str() } else { "zero" };
        cards.push(card(outcome.as_str(), rows, note, ink));
    }
    let not_run = analysis.left().or(analysis.listed_left());
    if let Some(not_run) = not_run.filter(|&rows| rows > 0) {
        let name = if analysis.under_way.is_some() {
            "left"
        } else {
            "not run"
        };
        cards.push(card(name, not_run, "no record yet", ""));
    }
    cards
}

/// The users whose conversations these rows are.
fn listed_users(listed: &Analysis) -> Vec<Card> {
    let card = |name, users, note: &str, ink: &'static str| Card {
        name,
        value: grouped(users),
        note: note.to_owned(),
        ink: if users > 0 { ink } else { "zero" },
    };
    let mut cards = vec![
        card("users", listed.rows + listed.left().unwrap_or_default(), "", ""),
        card("users listed", listed.outcome(Outcome::Ok), "", "ok"),
        card("users failed", listed.outcome(Outcome::Failed), "not listed", "failed"),
    ];
    for (name, outcome, note) in [
        ("users invalid", Outcome::Invalid, "not listed"),
        ("users skipped", Outcome::Skipped, "repeated"),
    ] {
        let users = listed.outcome(outcome);
        cards.extend((users > 0).then(|| card(name, users, note, outcome.as_str())));
    }
    match listed.left() {
        Some(left) => cards.push(card("users left", left, "no record yet", "")),
        None => cards.push(Card {
            value: "?".to_owned(),
            ..card("users left", 0, "not known", "")
        }),
    }
    cards
}

/// Conversations, requests, rate and latency.
fn figures(analysis: &Analysis) -> Vec<Card> {
    let card = |name, value, note| Card {
        name,
        value,
        note,
        ink: "",
    };
    let mut cards = Vec::new();
    if analysis.kind == Kind::List {
        cards.push(card("conversations", grouped(analysis.conversations), String::new()));
    }
    let retries = match analysis.retries {
        0 => "no retries".to_owned(),
        more if analysis.may_have_further_pages() => {
            format!("{} of them for further pages, or retries", grouped(more))
        }
        retries => format!("{} of them retries", grouped(retries)),
    };
    cards.push(card("requests", grouped(analysis.requests), retries));
    if let Some(rate) = analysis.rate() {
        let name = match analysis.kind {
            Kind::List => "users/s",
            Kind::Clear => "rows/s",
        };
        let note = analysis.rate_leaves_out();
        cards.push(card(name, format!("{rate:.2}"), note));
    }
    if analysis.has_latency() {
        let latency = analysis.latency_ms();
        let [p50, p90, p99, max] =
            [latency.p50, latency.p90, latency.p99, latency.max].map(|latency| grouped(latency as u64));
        let note = format!("median; 90 % {p90}, 99 % {p99}, longest {max}");
        cards.push(card("latency", format!("{p50} ms"), note));
    }
    cards
}

/// The most frequent codes; none if all are success.
fn codes(analysis: &Analysis) -> Vec<Code> {
    let mut codes: Vec<(i64, u64)> = analysis.codes.iter().map(|(code, rows)| (*code, *rows)).collect();
    if let [(0, _)] = codes[..] {
        return Vec::new();
    }
    codes.sort_by_key(|&(code, rows)| (Reverse(rows), code));
    let line = |(code, rows)| {
        let known = code::find(code);
        Code {
            code,
            rows: grouped(rows),
            meaning: known.map_or("not in ZEGO's published lists", |known| known.meaning),
            advice: known.map_or("ask ZEGO's support, with the report's request_id", |known| known.advice),
        }
    };
    codes.into_iter().take(CODES).map(line).collect()
}

/// The longest pauses, in order of time.
fn pauses(analysis: &Analysis) -> Vec<Pause> {
    let mut pauses: Vec<(i64, i64)> = within_runs(analysis).collect();
    pauses.sort_by_key(|(from, to)| from - to);
    pauses.truncate(PAUSES);
    pauses.sort_unstable();
    let pause = |(from, to)| Pause {
        from: local(from),
        to: local(to),
        lasted: duration(to - from),
    };
    pauses.into_iter().map(pause).collect()
}

fn pauses_note(analysis: &Analysis) -> String {
    let (count, min) = (within_runs(analysis).count(), duration(analysis.min_pause()));
    let when = if analysis.runs.is_empty() {
        ""
    } else {
        ", though a run was under way"
    };
    if count > PAUSES {
        let count = grouped(count as u64);
        format!("The {PAUSES} longest of {count} times without a record for more than {min}{when}.")
    } else {
        format!("Times without a record for more than {min}{when}.")
    }
}

/// The pauses that the runs' begins and ends don't explain.
fn within_runs(analysis: &Analysis) -> impl Iterator<Item = (i64, i64)> {
    analysis
        .pauses()
        .filter(|&(from, to)| ended_before(analysis, from, to).is_none())
}
