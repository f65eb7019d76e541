//! `zim-batch quota`: who shares the app's quota, and how fast they may go; changes it for all of them.

mod table;

use std::process::ExitCode;

use secrecy::ExposeSecret;
use serde::Serialize;
use zim_batch::Rate;
use zim_batch::limiter::quota::{Presence, RedisQuota};
use zim_batch::text::{milliseconds, utc};

use crate::cli::engine::quota;
use crate::cli::errors::Error;
use crate::cli::output::print::{print, to_json};
use crate::cli::settings::app;
use crate::cli::settings::quota::QuotaSettings;
use table::Table;

pub async fn quota(settings: QuotaSettings) -> Result<ExitCode, Error> {
    let QuotaSettings {
        app,
        app_id,
        limit,
        json,
    } = settings;
    if let Some(profile) = &app.profile {
        app::warn_if_others_can_read_password(profile);
    }
    if let Some(limit) = limit {
        quota::set_limit(&app, app_id, limit).await?;
    }
    let sharing = quota::look(&app, app_id).await?;
    let server = match &app.quota {
        Some(url) => Some(RedisQuota::server(url.value.expose_secret())?),
        None => None,
    };
    let directory = server.is_none().then(|| app.lock_dir.value.display().to_string());
    let table = Table {
        app_id,
        server,
        directory,
        sharing,
    };
    print(&if json {
        format!("{}\n", to_json(&Shown::new(&table))?)
    } else {
        table.to_string()
    })
}

/// Who shares the quota, as JSON. Times are RFC 3339, UTC.
#[derive(Serialize)]
struct Shown<'a> {
    app_id: u32,
    /// The server through which it is shared, or else the directory on this machine.
    quota: Option<&'a str>,
    lock_dir: Option<&'a str>,
    runs: Vec<ShownRun<'a>>,
    /// How many more runs there are whose entries can't be read.
    unreadable: usize,
    /// Of all runs together, in the last ten seconds.
    recent_rate: f64,
    /// The most requests in any second, of all runs together; 0 is a pause.
    limit: Option<f64>,
    limit_until: Option<String>,
    limit_set_at: Option<String>,
    limit_by: Option<&'a str>,
    /// Why it is not known whether there is a limit, and what to do.
    limit_unreadable: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownRun<'a> {
    host: &'a str,
    process: u32,
    name: &'a str,
    report: Option<&'a str>,
    rate: f64,
    recent_rate: f64,
    on_hold: bool,
    since: String,
}

impl<'a> Shown<'a> {
    fn new(table: &'a Table) -> Shown<'a> {
        let sharing = &table.sharing;
        let limit = sharing.limit.as_ref();
        let until = limit.and_then(|entry| entry.limit.until);
        Shown {
            app_id: table.app_id,
            quota: table.server.as_deref(),
            lock_dir: table.directory.as_deref(),
            runs: sharing.runs.iter().map(ShownRun::new).collect(),
            unreadable: sharing.unreadable,
            recent_rate: rounded(sharing.recent_rate()),
            limit: limit.map(|entry| entry.limit.rate.map_or(0.0, Rate::per_second)),
            limit_until: until.map(|until| utc(milliseconds(until))),
            limit_set_at: limit.map(|entry| utc(milliseconds(entry.set_at))),
            limit_by: limit.map(|entry| entry.by.as_str()),
            limit_unreadable: sharing.limit_unreadable.as_deref(),
        }
    }
}

impl<'a> ShownRun<'a> {
    fn new(run: &'a Presence) -> ShownRun<'a> {
        ShownRun {
            host: &run.host,
            process: run.process,
            name: &run.name,
            report: run.report.as_deref(),
            rate: run.rate_now(),
            recent_rate: rounded(run.activity.recent_rate),
            on_hold: run.activity.on_hold,
            since: utc(run.since),
        }
    }
}

fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}
