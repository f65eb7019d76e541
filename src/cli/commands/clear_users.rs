//! `zim-batch clear --users`: lists users and clears what is listed, in one run.

use std::process::ExitCode;

use zim_batch::client::ClearUsers;
use zim_batch::journal::{self, Journal, RowsTo, UsersReport};
use zim_batch::rows::Plan;
use zim_batch::run::Job;

use crate::cli::commands::clear::table;
use crate::cli::commands::list::lister;
use crate::cli::engine::batch::Batch;
use crate::cli::engine::run::Prepared;
use crate::cli::engine::since::{self, ListedSince};
use crate::cli::errors::Error;
use crate::cli::output::progress::Terminal;
use crate::cli::output::run_page::RunPage;
use crate::cli::output::work::Work;
use crate::cli::settings::ClearUsersSettings;
use crate::cli::settings::results::{ReportPaths, UsersReportPaths};

pub async fn clear_users(settings: ClearUsersSettings, terminal: Terminal) -> Result<ExitCode, Error> {
    let ClearUsersSettings {
        input,
        limit,
        paths: UsersReportPaths {
            rows,
            list,
            report: paths,
        },
        since,
        conv_type,
        page,
        run,
    } = settings;
    let page = page.map(|page| RunPage::new(page, paths.report.clone(), &run.given, input.ignore_invalid));
    let page = page.transpose()?;
    let ReportPaths {
        report,
        outside,
        existing,
    } = paths;
    let reports = (Some(list.as_path()), Some(report.as_path()));
    let existing = since::existing(since, existing, reports, run.is_simulated());
    let listed = ListedSince::new(since, conv_type, run.is_simulated(), reports, existing, &run.given)?;
    let batch = Batch {
        items: "users",
        limit,
        listing: listed.listing(),
        input,
        report: Some(report.clone()),
        existing,
        page,
        is_stdout_taken: false,
    };

    let run = Prepared::new(run, terminal)?.connect().await?;
    // The report first: the other files are named after it.
    journal::check_paths(&report, &outside, existing)?;
    journal::check_list_paths(&RowsTo::File(rows.clone()), Some(&list), existing)?;
    let users = batch.open_input(Some(&list))?;
    let run = run.join(batch.name(), batch.report.as_deref()).await?;
    let is_simulated = run.settings().is_simulated();
    let mut journal = UsersReport::open([&rows, &list], [&report, &outside], existing, is_simulated)?;
    let users = users.plan(journal.list())?;
    let rows = Plan::of_listed(&journal.listed(), limit, journal.take_done())?;
    journal.forget(rows.stale())?;
    if users.total() != Some(users.rows_done()) {
        listed.announce();
    }
    let lister = lister(run.client(), &listed, conv_type);
    let work = Work {
        rows: None,
        selected: None,
        is_resumed: journal.is_resumed(),
        users: Some(users.total()),
        rows_done: rows.rows_done(),
        input: users.snapshot().cloned(),
    };
    let job = Job::listed(ClearUsers::new(lister), users, rows, journal);
    let ended = batch.run_job(run, job, work).await?;
    listed.end(&ended.summary, limit.is_some());

    let table = table(&ended, report, &batch.input);
    batch.finish(ended, table, || true).await
}
