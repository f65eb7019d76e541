//! What is promised of reports, and checked after each run and each life.

use std::collections::{BTreeMap, HashMap, HashSet};

use zim_batch::analysis::Analysis;
use zim_batch::journal::{RunLog, read_runs};

use crate::disk::bytes;
use crate::input::{Expected, expected};
use crate::job::{Ended, Paths};
use crate::life::What;
use crate::report::{self, Row};
use crate::stage::{JobState, Stage, name};
use crate::world::{Asked, Key, Sent};
use crate::{after, exits, list, look, pace, run_end, said, secrets, shares, sharing, truth};

/// How often rows and users stand in all inputs.
pub struct Repeats {
    rows: HashMap<Key, usize>,
    users: HashMap<String, usize>,
}

impl Repeats {
    pub fn of(stage: &Stage) -> Repeats {
        let (mut rows, mut users) = (HashMap::new(), HashMap::new());
        for (job, plan) in stage.life.jobs.iter().enumerate() {
            let are_users = plan.users.is_some();
            let lines = expected(plan, &stage.job(job).lines);
            for key in lines.into_iter().filter_map(|line| line.key) {
                if are_users {
                    *users.entry(key[0].clone()).or_default() += 1;
                } else {
                    *rows.entry(key).or_default() += 1;
                }
            }
        }
        Repeats { rows, users }
    }

    /// Whether this was asked for one line only.
    pub fn is_unique(&self, asked: &Asked) -> bool {
        let of_user = |user: &String| self.users.get(user).copied().unwrap_or(0);
        let lines = match asked {
            Asked::Clear(key) => self.rows.get(key).copied().unwrap_or(0) + of_user(&key[0]),
            Asked::List(user, _) => of_user(user),
        };
        lines <= 1
    }
}

/// The lines of a job as they are now.
pub fn lines(stage: &Stage, job: usize, state: &JobState) -> Vec<Expected> {
    let plan = &stage.life.jobs[job];
    expected(plan, &state.lines)
}

/// Whether every line has a record, and every row of each listed user.
pub fn is_done(stage: &Stage, job: usize, state: &JobState) -> bool {
    let paths = Paths::in_directory(stage, job, &state.directory);
    let records = report::read(&paths.report).unwrap_or_default();
    let lines = lines(stage, job, state).len();
    let is_done = if stage.life.jobs[job].clears_users() {
        let users = report::read(&paths.list).unwrap_or_default();
        let rows = report::read_rows(&paths.rows).unwrap_or_default();
        users.len() >= lines && records.len() >= rows.len()
    } else {
        records.len() >= lines
    };
    is_done && !state.is_to_be_mended
}

/// The records of a job's files, checked one by one.
pub struct Files {
    pub records: Vec<Row>,
    pub users: Vec<Row>,
    pub rows: Vec<(u64, Key)>,
}

fn read_files(stage: &Stage, job: usize, state: &JobState) -> Option<Files> {
    let paths = Paths::in_directory(stage, job, &state.directory);
    let read = || -> Result<Files, String> {
        Ok(Files {
            records: report::read(&paths.report)?,
            users: report::read(&paths.list)?,
            rows: report::read_rows(&paths.rows)?,
        })
    };
    read()
        .inspect_err(|why| stage.violated("a report can always be read", format!("job {job}: {why}")))
        .ok()
}

/// After a run that was not killed.
pub fn after_a_run(stage: &Stage, job: usize, ended: &Ended) {
    let (Some(summary), None) = (&ended.summary, &ended.survivors) else {
        return;
    };
    let state = stage.job(job);
    let Some(files) = read_files(stage, job, &state) else {
        return;
    };
    let paths = Paths::in_directory(stage, job, &state.directory);
    let lines = lines(stage, job, &state);
    drop(state);
    once(stage, job, "report", &files.records);
    once(stage, job, "list report", &files.users);
    if !ended.disk_failed {
        outside_log(stage, job, &paths, &files.records);
    }
    list::check_full(stage, ended, summary, &files.users);
    run_end::check(stage, ended, summary, &files, &lines);
}

fn once(stage: &Stage, job: usize, what: &str, records: &[Row]) {
    let mut seen = HashSet::new();
    if let Some(twice) = records.iter().find(|record| !seen.insert(record.line)) {
        stage.violated(
            "one record for each row",
            format!("job {job}: line {} twice in the {what}", twice.line),
        );
    }
}

fn outside_log(stage: &Stage, job: usize, paths: &Paths, records: &[Row]) {
    let expected: Vec<&Row> = records.iter().filter(|record| record.outcome == "outside").collect();
    match report::read(&paths.outside) {
        Ok(log) if log.iter().eq(expected.iter().copied()) => {}
        Ok(log) => {
            let how = format!("job {job}: it has {} rows, the report {}", log.len(), expected.len());
            stage.violated("the outside log is complete", how);
        }
        Err(why) => stage.violated("the outside log is complete", format!("job {job}: {why}")),
    }
}

/// When the whole life is over.
pub fn at_the_end(stage: &Stage) {
    pace::check(stage);
    for why in &stage.world().wrong {
        stage.violated("requests are signed, and are what the API takes", why);
    }
    for how in &stage.world().sent_early {
        stage.violated("a listed row is sent when it is on the disk", how);
    }
    for job in 0..stage.jobs.len() {
        let state = stage.job(job).clone();
        if state.runs.last().is_none_or(|run| run.survivors.is_some()) {
            continue; // It has not ended, which is a violation already.
        }
        let Some(files) = read_files(stage, job, &state) else {
            continue;
        };
        let lines = lines(stage, job, &state);
        let paths = Paths::in_directory(stage, job, &state.directory);
        let plan = &stage.life.jobs[job];
        if plan.listing.is_some() {
            users(stage, job, &files, &files.records, &lines);
        } else if plan.users.is_some() {
            users(stage, job, &files, &files.users, &lines);
            let rows: Vec<Expected> = files
                .rows
                .iter()
                .map(|(line, key)| Expected {
                    line: *line,
                    key: Some(key.clone()),
                })
                .collect();
            rows_are_recorded(stage, job, &state, &files.records, &rows);
        } else {
            rows_are_recorded(stage, job, &state, &files.records, &lines);
        }
        list::check_times(stage, job, &paths.rows);
        if plan.listing.is_none() {
            truth::check(stage, job, &files.records);
            after::check(stage, job, &paths, &files, &lines);
        }
        sent_rows(stage, job, &state, &files, &lines);
        runs_are_logged(stage, job, &state, &paths);
        match Analysis::from_file(&paths.report) {
            Ok(analysis) => {
                look::of_records(stage, job, &analysis, &files.records, &files.users);
                exits::check_log(stage, job, &state, &paths, &analysis);
            }
            Err(error) => stage.violated("a report can always be read", error.to_string()),
        }
    }
    said::check(stage);
    sharing::check(stage);
    shares::check(stage);
    secrets::check(stage);
}

fn rows_are_recorded(stage: &Stage, job: usize, state: &JobState, records: &[Row], lines: &[Expected]) {
    let by_line: BTreeMap<u64, &Row> = records.iter().map(|record| (record.line, record)).collect();
    let dedupes =
        |is: bool| state.runs.iter().all(|run| run.flags.dedupe == is) && stage.life.jobs[job].users.is_none();
    let mut sent = HashSet::new();
    for Expected { line, key } in lines {
        let promise = "one record for each row";
        let Some(record) = by_line.get(line) else {
            stage.violated(promise, format!("job {job}: line {line} has none"));
            continue;
        };
        let is_as_expected = match key {
            None => record.outcome == "invalid",
            Some(key) => record.key == *key && record.outcome != "invalid",
        };
        if !is_as_expected {
            stage.violated(promise, format!("job {job}: {record:?} is the record of {key:?}"));
        }
        let Some(key) = key else { continue };
        let is_skipped = record.outcome == "skipped";
        let is_repeated = !is_skipped && !sent.insert(key.clone());
        if (is_skipped && dedupes(false)) || (is_repeated && dedupes(true) && !state.was_mended) {
            stage.violated("--dedupe sends a repeated row once", format!("job {job}: {record:?}"));
        }
    }
    if records.len() > lines.len() {
        stage.violated(
            "one record for each row",
            format!("job {job}: {} for {} rows", records.len(), lines.len()),
        );
    }
}

fn users(stage: &Stage, job: usize, files: &Files, users: &[Row], lines: &[Expected]) {
    let listing = stage.life.jobs[job].listing.as_ref();
    let by_line: BTreeMap<u64, &Row> = users.iter().map(|record| (record.line, record)).collect();
    let mut listed: HashMap<String, Vec<[String; 2]>> = HashMap::new();
    for (_, [user, conv, conv_type]) in &files.rows {
        listed
            .entry(user.clone())
            .or_default()
            .push([conv.clone(), conv_type.clone()]);
    }
    let world = stage.world();
    for Expected { line, key } in lines {
        let promise = "every conversation of a user is listed once";
        let Some(record) = by_line.get(line) else {
            stage.violated(promise, format!("job {job}: the user in line {line} has no record"));
            continue;
        };
        let user = key.as_ref().map(|[user, ..]| user.clone());
        if record.outcome == "ok" {
            let user = user.clone().unwrap_or_default();
            let (expected, found) = (
                list::listed(listing, world.conversations(&user).unwrap_or_default()),
                listed.remove(&user).unwrap_or_default(),
            );
            if expected != found || record.conversations != found.len() as u64 {
                let how = format!("job {job}: {} of {} for {record:?}", found.len(), expected.len());
                stage.violated(promise, how);
            }
        }
        let is_possible = match (record.outcome.as_str(), &user) {
            ("invalid", user) => user.is_none(),
            ("ok" | "failed" | "skipped", Some(user)) => record.key[0] == *user,
            _ => false,
        };
        if !is_possible {
            stage.violated(
                "one record for each user",
                format!("job {job}: {record:?} for {user:?}"),
            );
        }
    }
    if users.len() > lines.len() || !listed.is_empty() {
        let how = format!("job {job}: rows of {} users too many", listed.len());
        stage.violated("every conversation of a user is listed once", how);
    }
}

/// Only rows of the input were sent, and none that had a record.
fn sent_rows(stage: &Stage, job: usize, state: &JobState, files: &Files, lines: &[Expected]) {
    let world = stage.world();
    let is_users = stage.life.jobs[job].users.is_some();
    let keys: HashSet<&Key> = if is_users {
        files.rows.iter().map(|(_, key)| key).collect()
    } else {
        lines.iter().filter_map(|line| line.key.as_ref()).collect()
    };
    let users: HashSet<&String> = lines
        .iter()
        .filter_map(|line| line.key.as_ref().map(|[user, ..]| user))
        .collect();
    let of_job: Vec<&Sent> = world.requests.iter().filter(|sent| sent.run.0 == job).collect();
    for sent in &of_job {
        let is_known = match &sent.asked {
            Asked::Clear(key) => keys.contains(key),
            Asked::List(user, _) => is_users && users.contains(user),
        };
        if !is_known {
            let how = format!("{} asked for {:?} at {:?}", name(sent.run), sent.asked, sent.at);
            stage.violated("nothing is sent that is not in the rows", how);
        }
    }
    for run in &state.runs {
        let done: HashSet<&Key> = run
            .before
            .iter()
            .filter(|record| is_final(record))
            .map(|record| &record.key)
            .collect();
        for sent in world.requests.iter().filter(|sent| sent.run == run.run) {
            let listed = |user: &String| [user.clone(), String::new(), String::new()];
            if let Asked::List(user, _) = &sent.asked
                && stage.life.jobs[job].listing.is_some()
                && done.contains(&listed(user))
                && count(lines, files, &listed(user)) <= 1
            {
                let how = format!("{} listed {user:?} at {:?}", name(sent.run), sent.at);
                stage.violated("a row with a record is not sent again", how);
            }
            if let Asked::Clear(key) = &sent.asked
                && done.contains(key)
                && count(lines, files, key) <= 1
            {
                let how = format!("{} sent {key:?} at {:?}", name(sent.run), sent.at);
                stage.violated("a row with a record is not sent again", how);
            }
        }
    }
}

fn is_final(record: &Row) -> bool {
    record.outcome != "invalid"
}

fn count(lines: &[Expected], files: &Files, key: &Key) -> usize {
    let in_lines = lines.iter().filter(|line| line.key.as_ref() == Some(key)).count();
    in_lines.max(files.rows.iter().filter(|(_, row)| row == key).count())
}

/// Each run has a beginning in the log of runs, and an end if it was not killed. A power cut may take what was not synced.
fn runs_are_logged(stage: &Stage, job: usize, state: &JobState, paths: &Paths) {
    let has_cut = stage
        .life
        .events
        .iter()
        .any(|event| matches!(event.what, What::PowerCut(of, _) if of == job));
    let runs = read_runs(&RunLog::path_of(&paths.report)).unwrap_or_default();
    // One that was killed as it ended may have logged that.
    let ends = |run: &Ended| (run.summary.is_none() || run.survivors.is_none()).then_some(run.survivors.is_none());
    let expected: Vec<Option<bool>> = state.runs.iter().map(ends).collect();
    let logged: Vec<bool> = runs.iter().map(|run| run.end.is_some()).collect();
    // A report that has nothing in it yet is not resumed, so its log begins anew.
    let mut both = expected.iter().rev().zip(logged.iter().rev());
    let is_so = both.all(|(expected, logged)| expected.is_none_or(|ends| ends == *logged));
    if !has_cut && (!is_so || logged.len() > expected.len()) {
        let how = format!("job {job}: {logged:?} instead of {expected:?}");
        stage.violated("every run is in the log of runs", how);
    }
}

/// What the same seed must give again: every request, and the files but for times.
pub fn trace(stage: &Stage) -> String {
    use std::fmt::Write as _;
    let mut trace = String::new();
    for Sent {
        at,
        run,
        asked,
        answered,
    } in &stage.world().requests
    {
        let _ = writeln!(trace, "{at:?} {run:?} {asked:?} {answered:?}");
    }
    for job in 0..stage.jobs.len() {
        let state = stage.job(job);
        let paths = Paths::in_directory(stage, job, &state.directory);
        for path in [&paths.report, &paths.list, &paths.outside] {
            for mut row in report::read(path).unwrap_or_default() {
                // A nonce that a server has repeated is another one each time.
                if stage.life.world.echoes {
                    row.message.clear();
                }
                let _ = writeln!(trace, "{job} {row:?}");
            }
        }
        let _ = writeln!(trace, "{:?}", bytes(&paths.rows).len());
    }
    trace
}
