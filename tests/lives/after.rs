//! What a report is good for when everything has a record: it is input again, by outcome, and it is not resumed with rows
//! that are others.

use std::fs;

use zim_batch::ConvType;
use zim_batch::journal::{IfExists, Journal, Report};
use zim_batch::row::Outcome;
use zim_batch::rows::{Done, Format, Input, Only, Selection, Source, Task};

use crate::input::{self, Expected};
use crate::job::{Failed, Paths};
use crate::life::Line;
use crate::promises::Files;
use crate::report::Row;
use crate::stage::{Stage, name};
use crate::world::Key;

const OUTCOMES: [Outcome; 5] = [
    Outcome::Ok,
    Outcome::Outside,
    Outcome::Failed,
    Outcome::Invalid,
    Outcome::Skipped,
];

/// A job of rows, or of users whose rows are cleared.
pub fn check(stage: &Stage, job: usize, paths: &Paths, files: &Files, lines: &[Expected]) {
    let last = (job, stage.job(job).runs.len());
    let records = &files.records;
    if !records.is_empty() {
        let outcome = OUTCOMES[stage.life.seed as usize % OUTCOMES.len()];
        selected(stage, last, paths, records, outcome);
    }
    let plan = &stage.life.jobs[job];
    if plan.users.is_none() && plan.feed.is_none() {
        changed(stage, job, paths, records, lines);
    }
}

/// `--only` takes the rows with an outcome, and a report with `ok` rows is refused without it.
fn selected(stage: &Stage, last: (usize, usize), paths: &Paths, records: &[Row], outcome: Outcome) {
    let promise = "--only takes the rows with an outcome";
    let of = |wanted: &str| -> Vec<&Row> { records.iter().filter(|record| record.outcome == wanted).collect() };
    let expected = of(&outcome.to_string());
    match rows_of(paths, Some(Only::Outcomes(vec![outcome]))) {
        Err(error) => stage.violated(promise, format!("{}: {error}", name(last))),
        Ok(rows) => {
            let is_same = |(row, record): (&Option<Key>, &&Row)| row.as_ref().is_none_or(|row| *row == record.key);
            if rows.len() != expected.len() || !rows.iter().zip(&expected).all(is_same) {
                let how = format!("{}: {} of {} {outcome}", name(last), rows.len(), expected.len());
                stage.violated(promise, how);
            }
        }
    }
    if rows_of(paths, None).is_ok() && !of("ok").is_empty() {
        stage.violated("a report with ok rows is not sent again", name(last));
    }
}

/// The rows that the report is, as input; `None` if one is not valid.
fn rows_of(paths: &Paths, only: Option<Only>) -> Result<Vec<Option<Key>>, Failed> {
    let selection = Selection {
        only,
        ..Selection::default()
    };
    let plan =
        Input::open(&Source::File(paths.report.clone()), &Format::default())?.plan(&selection, Done::default())?;
    let mut rows = Vec::new();
    for task in plan {
        match task? {
            Task::Send(row) => rows.push(Some([
                row.item.user().to_owned(),
                row.item.conv().to_owned(),
                if row.item.conv_type() == ConvType::Group {
                    "2"
                } else {
                    "0"
                }
                .to_owned(),
            ])),
            Task::Invalid(_) => rows.push(None),
            _ => {}
        }
    }
    Ok(rows)
}

/// A row that was sent and has changed since is found before anything is sent.
fn changed(stage: &Stage, job: usize, paths: &Paths, records: &[Row], lines: &[Expected]) {
    let sent = lines.iter().position(|line| {
        let of_line = |record: &&Row| record.line == line.line && record.outcome != "invalid";
        records.iter().any(|record| of_line(&record))
    });
    let Some(nth) = sent else { return };
    let mut others = stage.job(job).lines.clone();
    if let Line::Item([_, conv, _]) = &mut others[nth] {
        conv.insert(0, 'x');
    }
    let path = paths.input.with_file_name("changed.csv");
    fs::write(&path, input::write(stage.life.jobs[job].dialect, &others, false)).unwrap();
    let resumed = || -> Result<(), Failed> {
        let mut journal = Report::open(&paths.report, &paths.outside, IfExists::Resume, false)?;
        let done = journal.take_done();
        match Input::open(&Source::File(path), &Format::default())?.plan(&Selection::default(), done) {
            Ok(_) => Err("it would have been resumed".into()),
            Err(error) if error.to_string().contains(&lines[nth].line.to_string()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    };
    if let Err(why) = resumed() {
        let how = format!("job {job}: line {} has changed: {why}", lines[nth].line);
        stage.violated("a report is not resumed with other rows", how);
    }
}
