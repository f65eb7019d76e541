//! The runs of a report: what the log of runs and the report's lock say of them, beside the records.

use std::path::Path;

use crate::journal::{RunBegin, RunEnd, RunLog, holder, is_locked, read_runs};

/// A run of a report.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The path of its report.
    pub report: String,
    /// Its beginning.
    pub begin: RunBegin,
    /// Its end; `None` if it was killed, or is under way.
    pub end: Option<RunEnd>,
    /// Records that it wrote.
    pub rows: u64,
    /// The time of its last record, in milliseconds since 1970.
    pub last: Option<i64>,
    /// It holds the report.
    pub is_under_way: bool,
}

impl Run {
    /// Why it ended, or that it has not, in a few words.
    pub fn why(&self) -> String {
        let stopped = self.end.as_ref().map(|end| &end.stopped);
        match (stopped, self.begin.limit) {
            (None, _) if self.is_under_way => "under way".to_owned(),
            (None, _) => "killed, or the machine stopped".to_owned(),
            (Some(Some(stopped)), _) => stopped.clone(),
            (Some(None), Some(limit)) if self.has_reached_limit() => {
                format!("finished: {limit} sent, the maximum for this run")
            }
            (Some(None), _) => "finished".to_owned(),
        }
    }

    /// How long it took until its end or, if that is not known, until its last record, in milliseconds. `None` if neither is
    /// known.
    pub fn duration(&self) -> Option<i64> {
        let until = self.end.as_ref().map(|end| end.at).or(self.last)?;
        Some((until - self.begin.at).max(0))
    }

    /// When it ended or, if that is not known, wrote its last record, in milliseconds since 1970.
    pub(crate) fn end_at(&self) -> i64 {
        self.begin.at + self.duration().unwrap_or_default()
    }

    /// Records per second; `None` if it was too short.
    pub fn rate(&self) -> Option<f64> {
        let duration = self.duration().filter(|milliseconds| *milliseconds >= 1000)?;
        Some(self.rows as f64 * 1000.0 / duration as f64)
    }

    fn has_reached_limit(&self) -> bool {
        let summary = self.end.as_ref().and_then(|end| end.summary);
        summary.is_some_and(|summary| self.begin.limit == Some(summary.sent()))
    }

    /// It has read its input to the end.
    pub(super) fn has_read_all(&self) -> bool {
        let has_ended = self.end.as_ref().is_some_and(|end| end.stopped.is_none());
        has_ended && !self.has_reached_limit()
    }

    /// How many rows were to be done, with those that earlier runs have done. If they could not be counted before, it is known
    /// once all of them have been read.
    fn to_do(&self) -> Option<u64> {
        let read = || self.end.as_ref().filter(|_| self.has_read_all())?.summary;
        self.begin.total.or_else(|| Some(read()?.rows))
    }
}

/// A run that holds a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnderWay {
    /// Its process ID; `None` if the system can't show it, as that of a run in another container.
    pub process: Option<u32>,
    /// When it began, in milliseconds since 1970, if the log of runs says so.
    pub began: Option<i64>,
}

/// What is known of a report's runs before its records are read.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// In the order in which they began.
    pub list: Vec<Run>,
    pub under_way: Option<UnderWay>,
}

impl Runs {
    /// Reads the log of runs, and asks the report's lock.
    pub fn of(report: &Path) -> Runs {
        let path = RunLog::path_of(report);
        let read = || read_runs(&path).unwrap_or_default();
        let (mut logged, mut is_locked, process) = (read(), is_locked(report), holder(report));
        let newest = logged
            .last()
            .filter(|run| run.end.is_none())
            .map(|run| run.begin.run.clone());
        if let (Some(newest), false) = (newest, is_locked) {
            // Perhaps it has ended since the log was read: the end is logged before the report is unlocked.
            logged = read();
            is_locked = logged.last().is_some_and(|run| run.begin.run != newest);
        }
        let count = logged.len();
        let list = logged.into_iter().enumerate().map(|(index, run)| Run {
            report: report.display().to_string(),
            is_under_way: is_locked && index + 1 == count && run.end.is_none(),
            begin: run.begin,
            end: run.end,
            rows: 0,
            last: None,
        });
        let list: Vec<Run> = list.collect();
        // If the newest run has ended, another program holds the report, or a run whose log can't be written.
        let began = list.last().filter(|run| run.is_under_way).map(|run| run.begin.at);
        Runs {
            list,
            under_way: is_locked.then_some(UnderWay { process, began }),
        }
    }

    /// Counts a record that was written at this time.
    pub fn note(&mut self, time: i64) {
        let begun = self.list.iter_mut().rev().find(|run| run.begin.at <= time);
        if let Some(run) = begun {
            run.last = run.last.max(Some(time));
        }
    }

    /// Completes the runs of a report that has so many records. Returns how many there are to be, if that is known.
    pub fn finish(&mut self, records: u64) -> Option<u64> {
        let mut later = records;
        for run in self.list.iter_mut().rev() {
            let summary = run.end.as_ref().and_then(|end| end.summary);
            run.rows = summary.map_or(later.saturating_sub(run.begin.already_done), |summary| {
                summary.recorded()
            });
            later = run.begin.already_done;
        }
        // With more records than that, the log is that of another report.
        self.list.last()?.to_do().filter(|to_do| *to_do >= records)
    }
}
