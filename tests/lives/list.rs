//! `list` alone: the conversations of users become a rows file.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zim_batch::journal::{IfExists, Journal, Report, RowsTo, RunBegin, RunLog};
use zim_batch::rows::{Format, Input, Reads, Selection, Source};
use zim_batch::{Client, ConvType, Job, Lister, Summary};

use crate::job::{Ended, Failed, Paths, begin, drive, process};
use crate::life::{Flags, Listing};
use crate::report::{self, Row};
use crate::stage::{Stage, name};
use crate::world::{NEWEST, RunId, UPDATED_EVERY};

/// A run that lists users and clears nothing.
pub async fn run(
    stage: &Arc<Stage>,
    run: RunId,
    flags: &Flags,
    client: Client,
    listing: &Listing,
) -> Result<Ended, Failed> {
    let paths = Paths::of(stage, run.0);
    let format = Format {
        reads: Reads::Users,
        ..Format::default()
    };
    let users = Input::open(&Source::File(paths.input.clone()), &format)?;
    let rows = RowsTo::File(paths.rows.clone());
    let mut journal = Report::open_list(&rows, Some(&paths.report), IfExists::Resume, false)?;
    // As the program does: a user that occurs again is skipped.
    let selection = Selection {
        dedupe: true,
        limit: flags.limit,
        ..Selection::default()
    };
    let plan = users.plan(&selection, journal.take_done())?;
    journal.forget(plan.stale())?;
    let begin = RunBegin {
        total: plan.selected(),
        already_done: plan.rows_done(),
        ..begin(flags)
    };
    let is_resumed = journal.is_resumed();
    let log = RunLog::begin(RunLog::path_of(&paths.report), &begin, is_resumed)?;
    let process = process(
        stage,
        run,
        &paths,
        vec![paths.rows.clone(), paths.report.clone()],
        is_resumed,
    );
    let types = [ConvType::Peer, ConvType::Group];
    let lister = Lister::new(client)
        .since(listing.newest.map(since))
        .conv_type(listing.conv_type.map(|conv_type| types[usize::from(conv_type == '2')]));
    let job = Job::planned(lister, plan).report(journal);
    drive(stage, process, flags, job, log, None).await
}

/// The rows file has the time of each conversation.
pub fn check_times(stage: &Stage, job: usize, rows: &Path) {
    for [conv, said] in report::read_times(rows) {
        let nth: u64 = conv[1..].parse().unwrap_or_default();
        let at = UNIX_EPOCH + Duration::from_millis(NEWEST - nth * UPDATED_EVERY);
        if said != humantime::format_rfc3339_millis(at).to_string() {
            let how = format!("job {job}: {conv} was updated at {said}");
            return stage.violated("what is listed is what the server has", how);
        }
    }
}

/// Users with as many conversations as ZIM lists are counted apart.
pub fn check_full(stage: &Stage, ended: &Ended, summary: &Summary, users: &[Row]) {
    let Some(found) = &summary.users else { return };
    let full = users
        .iter()
        .filter(|record| record.outcome == "ok" && record.conversations == 1000);
    let full = full.count() as u64;
    if found.full != full && !ended.disk_failed {
        let how = format!("{}: {} full, not {full}", name(ended.run), found.full);
        stage.violated("counts add up", how);
    }
}

/// The moment since which so many conversations of each user, and one more, were updated.
fn since(newest: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NEWEST - newest * UPDATED_EVERY)
}

/// What is listed of these conversations, which are in the order of their times.
pub fn listed(listing: Option<&Listing>, conversations: Vec<[String; 2]>) -> Vec<[String; 2]> {
    let Some(listing) = listing else { return conversations };
    let is_new = |nth: usize| listing.newest.is_none_or(|newest| nth as u64 <= newest);
    let is_type = |conv_type: &str| listing.conv_type.is_none_or(|wanted| conv_type == wanted.to_string());
    let all = conversations.into_iter().enumerate();
    let listed = all.filter(|(nth, [_, conv_type])| is_new(*nth) && is_type(conv_type));
    listed.map(|(_, conversation)| conversation).collect()
}
