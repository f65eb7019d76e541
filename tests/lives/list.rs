//! `list` alone: the conversations of users become a rows file.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zim_batch::journal::{IfExists, Journal, Report, RowsTo, RunBegin, RunLog};
use zim_batch::rows::{Format, Input, Reads, Selection, Source};
use zim_batch::{Client, ConvType, Job, Lister};

use crate::job::{Ended, Failed, Paths, begin, drive, process};
use crate::life::{Flags, Listing};
use crate::stage::Stage;
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
