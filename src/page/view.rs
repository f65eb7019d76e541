//! What the page says, as values for the template.

use std::cmp::Reverse;

use askama::Template;

use super::chart::Chart;
use super::charts::charts;
use super::headline::Headline;
use super::{NextStep, Page};
use crate::analysis::{self, Analysis, UnderWay};
use crate::code;
use crate::journal::Kind;
use crate::row::Outcome;
use crate::run::reasons;
use crate::text::{duration, grouped, local, table_cell};

/// The maximum number of each that a page lists, so that its size is bounded.
const CODES: usize = 100;
const REASONS: usize = 40;
const LINES: usize = 60;
const USERS: usize = 20;
const PAUSES: usize = 50;

/// The maximum length of a path or message on the page, in characters.
const MAX_TEXT: usize = 300;

/// The page.
#[derive(Template)]
#[template(path = "report.html")]
pub(super) struct View<'a> {
    report: String,
    /// Marks the page's own style sheet and script, which alone the content security policy allows.
    nonce: String,
    headline: Headline,
    /// Sentences below the headline.
    facts: Vec<String>,
    is_simulated: bool,
    /// In two rows.
    cards: [Vec<Card>; 2],
    next: &'a [NextStep],
    is_under_way: bool,
    reasons: Vec<Reason>,
    reasons_more: usize,
    charts: Vec<Chart>,
    codes: Vec<Code>,
    codes_more: usize,
    users: Vec<User>,
    users_note: String,
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

/// Why rows failed or could not be sent.
struct Reason {
    outcome: Outcome,
    why: String,
    rows: String,
    lines: String,
}

/// A return code.
struct Code {
    code: i64,
    rows: String,
    meaning: &'static str,
    advice: &'static str,
}

/// A user with rows that were not cleared.
struct User {
    user: String,
    failed: String,
    outside: String,
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
        View {
            report: shown(page.report),
            nonce: format!("{:032x}", fastrand::u128(..)),
            headline: Headline::new(page),
            facts: facts(page),
            is_simulated: analysis.simulated,
            cards: [outcomes(page), figures(analysis)],
            next: page.next,
            is_under_way: analysis.under_way.is_some(),
            reasons: analysis.reasons.iter().take(REASONS).map(Reason::new).collect(),
            reasons_more: analysis.reasons.len().saturating_sub(REASONS),
            charts: charts(analysis),
            codes: codes(analysis),
            codes_more: analysis.codes.len().saturating_sub(CODES),
            users: users(analysis),
            users_note: users_note(analysis),
            pauses: pauses(analysis),
            pauses_note: pauses_note(analysis),
            made: local(analysis.read_at()),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Shortens text of a report and makes it safe to show; the template escapes it.
fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", table_cell(&text[..end])),
        None => table_cell(text).into_owned(),
    }
}

fn facts(page: &Page) -> Vec<String> {
    let analysis = page.analysis;
    let mut facts: Vec<String> = analysis
        .under_way
        .map(|run| under_way(analysis, run))
        .into_iter()
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
    if let Some(most) = analysis.reasons.iter().max_by_key(|reason| reason.rows) {
        let Reason { outcome, why, rows, .. } = Reason::new(most);
        let nouns = analysis.kind.noun();
        let noun = if most.rows == 1 {
            nouns.trim_end_matches('s')
        } else {
            nouns
        };
        facts.push(format!("The most frequent reason: {why} ({rows} {noun}, {outcome})."));
    }
    if analysis.is_torn {
        facts.push("The last record was cut short and is left out.".into());
    }
    if let Some((line, count)) = analysis.damaged {
        facts.push(format!(
            "Lines of the report that are not records are left out: {}, the first is line {line}.",
            grouped(count)
        ));
    }
    facts
}

fn under_way(analysis: &Analysis, run: UnderWay) -> String {
    let process = run
        .process
        .map(|process| format!(" (process {process})"))
        .unwrap_or_default();
    let rate = analysis.recent_rate();
    let mut text = format!("A run is under way{process}: {rate:.1} rows/s in the last minute");
    if let Some(left) = analysis.left() {
        text += &format!(", {} rows left", grouped(left));
    }
    if let Some(until) = analysis.until() {
        text += &format!(", until {}", local(until));
    }
    text + "."
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
    let mut cards = vec![card(analysis.kind.noun(), analysis.rows, "", "")];
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
    if let Some(not_run) = analysis.left().filter(|&rows| rows > 0) {
        let name = if analysis.under_way.is_some() {
            "left"
        } else {
            "not run"
        };
        cards.push(card(name, not_run, "no record yet", ""));
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
    let retries = match (analysis.retries, analysis.kind) {
        (0, _) => "no retries".to_owned(),
        (more, Kind::List) => format!("{} of them for further pages, or retries", grouped(more)),
        (retries, Kind::Clear) => format!("{} of them retries", grouped(retries)),
    };
    cards.push(card("requests", grouped(analysis.requests), retries));
    if let Some(rate) = analysis.rate() {
        let name = match analysis.kind {
            Kind::List => "users/s",
            Kind::Clear => "rows/s",
        };
        let note = "without pauses over 1 min".to_owned();
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

impl Reason {
    fn new(reason: &reasons::Reason) -> Reason {
        let message = shown(&reason.message);
        let why = match reason.code {
            Some(code) => format!("code {code}: {message}"),
            None if message.is_empty() => "no message".to_owned(),
            None => message,
        };
        // Failed rows are sent again by a command; invalid ones have to be found in the input.
        let most = if reason.outcome == Outcome::Invalid { LINES } else { 8 };
        let first: Vec<String> = reason.lines.iter().take(most).map(u64::to_string).collect();
        let mut lines = first.join(", ");
        let more = reason.rows - first.len() as u64;
        if more > 0 {
            lines += &format!(" and {} more", grouped(more));
        }
        Reason {
            outcome: reason.outcome,
            why,
            rows: grouped(reason.rows),
            lines,
        }
    }
}

/// The most frequent codes.
fn codes(analysis: &Analysis) -> Vec<Code> {
    let mut codes: Vec<(i64, u64)> = analysis.codes.iter().map(|(code, rows)| (*code, *rows)).collect();
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

fn users(analysis: &Analysis) -> Vec<User> {
    let user = |user: &analysis::UserRows| User {
        user: shown(&user.user),
        failed: grouped(user.failed),
        outside: grouped(user.outside),
    };
    analysis.users.iter().take(USERS).map(user).collect()
}

fn users_note(analysis: &Analysis) -> String {
    let mut notes = Vec::new();
    if analysis.users.len() > USERS {
        notes.push(format!("The {USERS} with the most rows; there are more."));
    }
    if analysis.users_missed > 0 {
        notes.push(format!(
            "So many users have such rows that each may have up to {} more.",
            grouped(analysis.users_missed)
        ));
    }
    notes.join(" ")
}

/// The longest pauses, in order of time.
fn pauses(analysis: &Analysis) -> Vec<Pause> {
    let mut pauses: Vec<(i64, i64)> = analysis.pauses().collect();
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
    let (count, min) = (analysis.pauses().count(), duration(analysis.min_pause()));
    if count > PAUSES {
        let count = grouped(count as u64);
        format!("The {PAUSES} longest of {count} times without a record for more than {min}.")
    } else {
        format!("Times without a record for more than {min}.")
    }
}
