//! What a run of another process is doing at present, by its entry among the runs that share its quota.

use std::path::PathBuf;

use zim_batch::analysis::{Analysis, Present};
use zim_batch::limiter::Rate;
use zim_batch::limiter::quota::{MachineQuota, QuotaLocation};

use crate::cli::args::app::LOCK_DIR;
use crate::cli::settings::origin::variable;

/// What the only run under way is doing, if it shares a quota in the usual directory of this machine. If that can't be found
/// out, nothing is said of it.
pub async fn of(analysis: &Analysis) -> Option<Present> {
    let mut under_way = analysis.runs.iter().filter(|run| run.is_under_way);
    let (Some(run), None) = (under_way.next(), under_way.next()) else {
        return None;
    };
    let begin = &run.begin;
    let endpoint = begin.endpoint.parse().ok().filter(|_| !begin.simulated)?;
    let directory = LOCK_DIR.about.variable.and_then(variable).map(PathBuf::from);
    let directory = directory.unwrap_or_else(|| QuotaLocation::default_directory().to_owned());
    let location = QuotaLocation::new(begin.app_id?, &endpoint).in_directory(&directory);
    let sharing = MachineQuota::look(&location).await.ok()?;
    let is_run = |process: u32, host: &str| process == begin.process && host == begin.host;
    let entry = sharing.runs.iter().find(|entry| is_run(entry.process, &entry.host))?;
    let limit = sharing.limit.map(|entry| entry.limit);
    let is_lower = |rate: Option<Rate>| rate.map_or(0.0, Rate::per_second) < entry.rate_now();
    Some(Present {
        on_hold: entry.activity.on_hold.then(String::new),
        limit: limit.filter(|limit| is_lower(limit.rate)),
    })
}
