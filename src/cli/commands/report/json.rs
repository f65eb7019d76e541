//! What a report says, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use zim_batch::analysis::{Part, Run, UserRows};
use zim_batch::limiter::Rate;
use zim_batch::page::NextStep;
use zim_batch::reasons::Reason;
use zim_batch::row::Outcome;
use zim_batch::run::summary::{Latencies, UsersSummary};
use zim_batch::text::utc;

use super::Overview;

impl Overview {
    fn listed(&self) -> Option<ListedJson<'_>> {
        let listed = self.analysis.listed.as_deref()?;
        Some(ListedJson {
            counts: self.summary.users.as_ref()?,
            codes: &listed.codes,
            reasons: &listed.reasons,
            users: &listed.users,
            users_missed: listed.users_missed,
        })
    }

    /// The report as one JSON object.
    pub fn json(&self) -> Json<'_> {
        let analysis = &self.analysis;
        let pauses = analysis.pauses().map(|(from, to)| Pause {
            from: utc(from),
            to: utc(to),
        });
        Json {
            report: &self.place,
            reports: analysis.parts.iter().map(PartJson::new).collect(),
            rows: analysis.rows,
            ok: analysis.outcome(Outcome::Ok),
            outside: analysis.outcome(Outcome::Outside),
            failed: analysis.outcome(Outcome::Failed),
            invalid: analysis.outcome(Outcome::Invalid),
            skipped: analysis.outcome(Outcome::Skipped),
            not_run: analysis.left(),
            to_do: analysis.to_do,
            left: analysis.left(),
            requests: analysis.requests,
            retries: analysis.retries,
            conversations: self.summary.conversations,
            users_full: self.summary.users_full,
            latency_ms: analysis.latency_ms(),
            codes: &analysis.codes,
            other_codes: analysis.other_codes,
            reasons: &analysis.reasons,
            users: &analysis.users,
            listed: self.listed(),
            users_missed: analysis.users_missed,
            first: analysis.first.map(utc),
            last: analysis.last.map(utc),
            pauses: pauses.collect(),
            simulated: analysis.simulated,
            runs: analysis.runs.iter().map(RunJson::new).collect(),
            running: analysis.under_way.map(|run| Running {
                process: run.process,
                rate: (analysis.recent_rate() * 1000.0).round() / 1000.0,
                rows_left: analysis.left(),
                until: analysis.until().map(utc),
                until_about: analysis.until_about().map(utc),
                paused_until: analysis.paused_until().map(utc),
                waits: analysis.waits(),
                limit: analysis
                    .present
                    .limit
                    .map(|limit| limit.rate.map_or(0.0, Rate::per_second)),
                ends_at: analysis.ends_at().map(utc),
            }),
            torn: analysis.is_torn,
            damaged: self.damaged().map(|(_, _, count)| count).sum(),
            next: &self.next,
        }
    }
}

#[derive(Serialize)]
pub struct Json<'a> {
    report: &'a str,
    /// Each of several reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports: Vec<PartJson<'a>>,
    rows: u64,
    ok: u64,
    outside: u64,
    failed: u64,
    invalid: u64,
    skipped: u64,
    not_run: Option<u64>,
    to_do: Option<u64>,
    left: Option<u64>,
    requests: u64,
    retries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversations: Option<u64>,
    users_full: Option<u64>,
    latency_ms: Latencies,
    codes: &'a BTreeMap<i64, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    other_codes: u64,
    reasons: &'a [Reason],
    users: &'a [UserRows],
    /// The users whose rows these are, if the runs have listed them.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<ListedJson<'a>>,
    users_missed: u64,
    first: Option<String>,
    last: Option<String>,
    pauses: Vec<Pause>,
    simulated: bool,
    runs: Vec<RunJson<'a>>,
    running: Option<Running>,
    torn: bool,
    damaged: u64,
    next: &'a [NextStep],
}

/// The users of rows that were listed.
#[derive(Serialize)]
struct ListedJson<'a> {
    #[serde(flatten)]
    counts: &'a UsersSummary,
    codes: &'a BTreeMap<i64, u64>,
    /// Why users failed or were invalid.
    reasons: &'a [Reason],
    /// The users that could not be listed.
    users: &'a [UserRows],
    users_missed: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
struct PartJson<'a> {
    report: &'a str,
    rows: u64,
    counted: u64,
    to_do: Option<u64>,
    left: Option<u64>,
    running: bool,
    torn: bool,
    damaged: u64,
}

impl PartJson<'_> {
    fn new(part: &Part) -> PartJson<'_> {
        let analysis = &part.analysis;
        PartJson {
            report: &analysis.report,
            rows: analysis.rows,
            counted: part.counted,
            to_do: analysis.to_do,
            left: part.left,
            running: analysis.under_way.is_some(),
            torn: analysis.is_torn,
            damaged: analysis.damaged.map_or(0, |(_, count)| count),
        }
    }
}

#[derive(Serialize)]
struct Pause {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct RunJson<'a> {
    report: &'a str,
    began: String,
    ended: Option<String>,
    rows: u64,
    why: String,
    exit: Option<u8>,
    app_id: Option<u32>,
    endpoint: &'a str,
    host: &'a str,
    version: &'a str,
}

impl RunJson<'_> {
    fn new(run: &Run) -> RunJson<'_> {
        let (begin, end) = (&run.begin, run.end.as_ref());
        RunJson {
            report: &run.report,
            began: utc(begin.at),
            ended: end.map(|end| utc(end.at)),
            rows: run.rows,
            why: run.why(),
            exit: end.map(|end| end.exit),
            app_id: begin.app_id,
            endpoint: &begin.endpoint,
            host: &begin.host,
            version: &begin.version,
        }
    }
}

#[derive(Serialize)]
struct Running {
    process: Option<u32>,
    rate: f64,
    rows_left: Option<u64>,
    until: Option<String>,
    /// While users are being listed, if those that are left have as many rows as those so far.
    until_about: Option<String>,
    /// Its timetable pauses it until then.
    paused_until: Option<String>,
    /// Why it sends nothing at present, if it is known that it does.
    waits: Option<String>,
    /// A limit of its quota below its own rate, in requests per second; 0 is a pause.
    limit: Option<f64>,
    /// When its time limit ends it.
    ends_at: Option<String>,
}
