//! The exit status that the program gives for a run: by its own rule, compared with the table of statuses that is promised.

use serde_json::Value;
use zim_batch::analysis::Analysis;
use zim_batch::run::Observer;
use zim_batch::{StopReason, Summary};

use zim_batch::event::Event;
use zim_batch::journal::RunLog;

use crate::exit_status::ExitStatus;
use crate::job::{Ended, Paths};
use crate::life::What;
use crate::promises::Files;
use crate::report::Row;
use crate::stage::{JobState, Stage, name};

/// Writes the end of a run to the log of runs, as the program does: while the report is locked.
pub struct LoggedEnd {
    pub log: RunLog,
    pub ignore_invalid: bool,
}

impl Observer for LoggedEnd {
    fn event(&mut self, _: &Event) {}

    fn end(&mut self, summary: &Summary) {
        let stopped = summary.stopped.as_ref().map(ToString::to_string);
        let exit = ExitStatus::of_run(summary, self.ignore_invalid).code();
        let all_rejected = matches!(summary.stopped, Some(StopReason::AllRejected { .. }));
        self.log
            .end(exit, stopped.as_deref(), all_rejected, Some(summary))
            .unwrap();
    }
}

/// The status that is promised for a run that ended like this.
fn promised(summary: &Summary, ended: &Ended, files: &Files) -> u8 {
    let has = |records: &[Row], outcome: &str| records.iter().any(|record| record.outcome == outcome);
    let is_any = |outcome: &str| has(&files.records, outcome) || has(&files.users, outcome);
    match &summary.stopped {
        None if is_any("failed") || (is_any("invalid") && !ended.flags.ignore_invalid) => 3,
        None => 0,
        Some(StopReason::Signal(number)) => 128 + u8::try_from(*number).unwrap(),
        Some(StopReason::MaxDuration(_) | StopReason::Until(_)) => 7,
        Some(StopReason::GaveUp { .. } | StopReason::NoQuota { .. }) => 5,
        Some(StopReason::MaxFailures { .. } | StopReason::AllRejected { .. }) => 5,
        Some(StopReason::Fatal { .. } | StopReason::Untrusted { .. }) => 6,
        Some(StopReason::InputFailed(_)) => 4,
        Some(StopReason::ReportFailed(_)) => 74,
        Some(_) => 1,
    }
}

/// After a run that was not killed. `run_end` has checked that the reason is so.
pub fn check(stage: &Stage, ended: &Ended, summary: &Summary, files: &Files) {
    let exit = ExitStatus::of_run(summary, ended.flags.ignore_invalid).code();
    let promised = promised(summary, ended, files);
    if exit != promised && !ended.disk_failed {
        let how = format!("{}: {exit}, not {promised}, for {:?}", name(ended.run), summary.stopped);
        stage.violated("each end has its exit status", how);
    }
}

/// What the log of runs says of the runs that ended, and what `report` says of the last one. A power cut may take lines.
pub fn check_log(stage: &Stage, job: usize, state: &JobState, paths: &Paths, analysis: &Analysis) {
    let is_cut = |what: &What| matches!(what, What::PowerCut(of, _) if *of == job);
    if stage.life.events.iter().any(|event| is_cut(&event.what)) {
        return;
    }
    let log = std::fs::read_to_string(RunLog::path_of(&paths.report)).unwrap_or_default();
    let ends: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["event"] == "end")
        .collect();
    let runs = state.runs.iter().filter(|run| run.survivors.is_none());
    for (run, end) in runs.rev().zip(ends.iter().rev()) {
        let Some(summary) = &run.summary else { continue };
        let exit = ExitStatus::of_run(summary, run.flags.ignore_invalid).code();
        let stopped = summary.stopped.as_ref().map(ToString::to_string);
        let counts = [
            ("rows", summary.rows),
            ("ok", summary.ok),
            ("outside", summary.outside),
            ("failed", summary.failed),
            ("invalid", summary.invalid),
            ("skipped", summary.skipped),
            ("already_done", summary.already_done),
            ("not_run", summary.not_run),
            ("requests", summary.requests),
            ("retries", summary.retries),
            ("limited", summary.limited),
            ("peak_1s", summary.peak_1s),
        ];
        let is_other = |(name, count): &&(&str, u64)| end["summary"][*name] != *count;
        let other = counts.iter().find(is_other);
        if end["exit"] != exit || end["stopped"] != Value::from(stopped) || other.is_some() {
            let how = format!("{}: {end}, not {exit}, {:?}, {other:?}", name(run.run), summary.stopped);
            stage.violated("the log of runs says how each run ended", how);
        }
    }
    let said = analysis
        .runs
        .last()
        .and_then(|run| run.end.as_ref())
        .map(|end| end.exit);
    let last = state.runs.last().filter(|run| run.survivors.is_none());
    let last = last.and_then(|run| Some(ExitStatus::of_run(run.summary.as_ref()?, run.flags.ignore_invalid).code()));
    if said != last {
        let how = format!("job {job}: `report` says {said:?}, not {last:?}");
        stage.violated("the log of runs says how each run ended", how);
    }
}
