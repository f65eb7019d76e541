//! What `report` says of a report, at any moment, compared with what stands in it.

use std::collections::BTreeMap;
use std::path::Path;

use zim_batch::analysis::Analysis;
use zim_batch::journal::list_report_of;
use zim_batch::row::Outcome;

use crate::report::{self, Row};
use crate::stage::Stage;

/// A report that was looked at while its run was under way, or not.
pub fn of_a_look(stage: &Stage, job: usize, report: &Path, analysis: &Analysis) {
    stage.tell(format!(
        "job {job}: somebody looks at the report: {} rows",
        analysis.rows
    ));
    match report::read(report) {
        Ok(records) => {
            // A kill may have torn its last record.
            let Ok(users) = report::read(&list_report_of(report)) else {
                return;
            };
            of_records(stage, job, analysis, &records, &users);
        }
        Err(why) => stage.violated("a report can always be read", why),
    }
}

/// What an analysis says of these records.
pub fn of_records(stage: &Stage, job: usize, analysis: &Analysis, records: &[Row], users: &[Row]) {
    let promise = "`report` says nothing false";
    let summary = analysis.summary();
    stage.puts_out("`report`", &format!("{analysis:?}"));
    for (outcome, name) in [
        (Outcome::Ok, "ok"),
        (Outcome::Outside, "outside"),
        (Outcome::Failed, "failed"),
        (Outcome::Invalid, "invalid"),
        (Outcome::Skipped, "skipped"),
    ] {
        let expected = records.iter().filter(|record| record.outcome == name).count() as u64;
        if analysis.outcome(outcome) != expected {
            stage.violated(
                promise,
                format!("job {job}: {} {name}, not {expected}", analysis.outcome(outcome)),
            );
        }
    }
    // The users that were listed for these rows count too.
    let all = || records.iter().chain(users);
    let attempts: u64 = all().map(|record| record.attempts).sum();
    let codes = codes(all().filter_map(|record| record.code));
    if analysis.requests != attempts || analysis.codes != codes || !summary.is_consistent() {
        let how = format!(
            "job {job}: {} requests, not {attempts}; codes {:?}, not {codes:?}",
            analysis.requests, analysis.codes
        );
        stage.violated(promise, how);
    }
    if let Some(left) = analysis.left()
        && stage.life.jobs[job].users.is_none()
    {
        // What was to be done is what the latest run that is in the log has counted.
        let (state, records) = (stage.job(job).clone(), records.len());
        if !state
            .counted
            .iter()
            .any(|lines| left == lines.saturating_sub(records) as u64)
        {
            let how = format!(
                "job {job}: {left} rows left, with {records} records and {:?}",
                state.counted
            );
            stage.violated(promise, how);
        }
    }
}

pub fn codes(of: impl Iterator<Item = i64>) -> BTreeMap<i64, u64> {
    let mut codes = BTreeMap::new();
    of.for_each(|code| *codes.entry(code).or_default() += 1);
    codes
}
