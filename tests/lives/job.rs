//! One run of a job, set up as the program does it.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use zim_batch::client::{ClearUsers, Service};
use zim_batch::event::Event;
use zim_batch::journal::{IfExists, Journal, Report, RunBegin, RunLog, UsersReport, list_report_of};
use zim_batch::row::{Outcome, Subject};
use zim_batch::rows::{Format, Input, Plan, Reads, Selection, Source};
use zim_batch::{Client, Job, Limiter, Limits, Lister, StopHandle, StopReason, Summary};

use crate::clock;
use crate::disk::{self, Process, Survivors, Watched};
use crate::exits::LoggedEnd;
use crate::feed::{self, Fed};
use crate::life::Flags;
use crate::list;
use crate::report::{self, Row};
use crate::stage::{Stage, Stopped, limits, name};
use crate::world::{APP_ID, RunId, SECRET, Server, TRANSIENT};
use crate::{quiet, sharing};

/// The files of a job.
pub struct Paths {
    pub input: PathBuf,
    pub report: PathBuf,
    pub outside: PathBuf,
    pub rows: PathBuf,
    pub list: PathBuf,
}

impl Paths {
    /// The files of a job as they are now.
    pub fn of(stage: &Stage, job: usize) -> Paths {
        let directory = stage.job(job).directory.clone();
        Paths::in_directory(stage, job, &directory)
    }

    pub fn in_directory(stage: &Stage, job: usize, directory: &Path) -> Paths {
        let paths = Paths::of_clear(directory);
        match stage.life.jobs[job].listing {
            None => paths,
            // The report of `list` is the list report.
            Some(_) => Paths {
                report: paths.list,
                list: directory.join("none.csv"),
                outside: directory.join("none.csv"),
                ..paths
            },
        }
    }

    fn of_clear(directory: &Path) -> Paths {
        let report = directory.join("out.csv");
        Paths {
            input: directory.join("input.csv"),
            outside: directory.join("out.outside.csv"),
            rows: directory.join("out.rows.csv"),
            list: list_report_of(&report),
            report,
        }
    }
}

/// A run that has ended, or was killed.
#[derive(Debug, Clone)]
pub struct Ended {
    pub run: RunId,
    pub flags: Flags,
    pub began: Duration,
    pub ended: Duration,
    /// How many lines its input had when it began.
    pub lines: usize,
    /// The records of rows before it.
    pub before: Vec<Row>,
    /// `None`: it was killed.
    pub summary: Option<Summary>,
    pub survivors: Option<Survivors>,
    /// Its disk has failed.
    pub disk_failed: bool,
    /// How it was stopped from outside.
    pub stopped: Option<Stopped>,
    /// What observers were told.
    pub told: Told,
    /// What its rows came from, if that was no file.
    pub fed: Option<Fed>,
    /// When it was to end by the clock.
    pub until: Option<SystemTime>,
}

impl Ended {
    /// It ended because the service was away for too long.
    pub fn has_given_up(&self) -> bool {
        let stopped = self.summary.as_ref().and_then(|summary| summary.stopped.as_ref());
        matches!(stopped, Some(StopReason::GaveUp { .. }))
    }
}

/// What an observer was told.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub sent: u64,
    /// It was on hold when it was told last.
    is_on_hold: bool,
    /// From when to when it was on hold; `None`: until its end.
    pub holds: Vec<(Instant, Option<Instant>)>,
    /// Rows that failed meanwhile because of the service.
    pub failed_on_hold: u64,
    /// It was on hold because no start was free.
    pub was_starved: bool,
    /// How often it was on hold, and how often it was released.
    pub held: u64,
    /// Rows and users that failed.
    pub failed: u64,
    pub released: u64,
    begun: u64,
    settled: u64,
    /// The rows with a record when it began.
    already_done: u64,
    /// The most rows that were taken from a source and had neither been sent nor settled.
    pub most_ahead: u64,
}

/// Runs a job once. `None`: it could not begin, which is a violation.
pub async fn run(stage: &Arc<Stage>, run: RunId, flags: Flags) -> Option<Ended> {
    let server = Server {
        world: Arc::clone(&stage.world),
        run,
    };
    let client = Client::builder(APP_ID, SECRET)
        .endpoint("http://127.0.0.1:1/".parse().unwrap())
        .timeout(Duration::from_millis(flags.timeout_ms))
        .in_process(Arc::new(server))
        .build()
        .unwrap();
    sharing::join(stage, run, &flags).await;
    quiet::threads_may_start();
    let plan = &stage.life.jobs[run.0];
    let begun = if let Some(listing) = &plan.listing {
        list::run(stage, run, &flags, client, listing).await
    } else if plan.users.is_some() {
        begin_users(stage, run, &flags, client).await
    } else if let Some(feed) = &plan.feed {
        feed::run(stage, run, &flags, client, feed).await
    } else {
        begin_rows(stage, run, &flags, client).await
    };
    if let Err(why) = &begun {
        stage.violated("what ended in any way can be resumed", format!("{}: {why}", name(run)));
    }
    begun.ok()
}

pub type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn begin_rows(stage: &Arc<Stage>, run: RunId, flags: &Flags, client: Client) -> Result<Ended, Failed> {
    let paths = Paths::of(stage, run.0);
    let selection = Selection {
        dedupe: flags.dedupe,
        limit: flags.limit,
        ..Selection::default()
    };
    let input = Input::open(&Source::File(paths.input.clone()), &Format::default())?;
    let mut journal = Report::open(&paths.report, &paths.outside, IfExists::Resume, false)?;
    let plan = input.plan(&selection, journal.take_done())?;
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
        vec![paths.report.clone(), paths.outside.clone()],
        is_resumed,
    );
    let job = Job::planned(client, plan).report(journal);
    drive(stage, process, flags, job, log, None).await
}

async fn begin_users(stage: &Arc<Stage>, run: RunId, flags: &Flags, client: Client) -> Result<Ended, Failed> {
    let paths = Paths::of(stage, run.0);
    let format = Format {
        reads: Reads::Users,
        ..Format::default()
    };
    let users = Input::open(&Source::File(paths.input.clone()), &format)?;
    let lists = [paths.rows.as_path(), &paths.list];
    let mut journal = UsersReport::open(lists, [&paths.report, &paths.outside], IfExists::Resume, false)?;
    // As the program does: a user that occurs again is skipped.
    let selection = Selection {
        dedupe: true,
        ..Selection::default()
    };
    let list = journal.list();
    let users = users.plan(&selection, list.take_done())?;
    list.forget(users.stale())?;
    let rows = Plan::of_listed(&journal.listed(), flags.limit, journal.take_done())?;
    journal.forget(rows.stale())?;
    let begin = RunBegin {
        already_done: rows.rows_done(),
        lists: true,
        users: users.total(),
        ..begin(flags)
    };
    let is_resumed = journal.is_resumed();
    let log = RunLog::begin(RunLog::path_of(&paths.report), &begin, is_resumed)?;
    let files = [&paths.rows, &paths.list, &paths.report, &paths.outside];
    let process = process(stage, run, &paths, files.map(PathBuf::clone).to_vec(), is_resumed);
    let job = Job::listed(ClearUsers::new(Lister::new(client)), users, rows, journal);
    drive(stage, process, flags, job, log, None).await
}

pub fn begin(flags: &Flags) -> RunBegin {
    RunBegin {
        app_id: Some(APP_ID),
        endpoint: "http://127.0.0.1:1".into(),
        limit: flags.limit,
        rate: flags.rate.to_string(),
        ..RunBegin::now()
    }
}

pub fn process(stage: &Stage, run: RunId, paths: &Paths, files: Vec<PathBuf>, is_resumed: bool) -> Arc<Process> {
    let mut state = stage.job(run.0);
    if is_resumed {
        // As `system` shows, opening a journal brings what earlier runs have written to the disk, but for the outside log.
        state.durable.resize(files.len(), 0);
        let both = files.iter().zip(&mut state.durable);
        both.filter(|(file, _)| **file != paths.outside)
            .for_each(|(file, durable)| *durable = disk::len(file));
    }
    let directory = paths.report.parent().unwrap();
    let process = Process::new(run, directory, files, &state.durable, &stage.world);
    state.process = Some(Arc::clone(&process));
    process
}

/// Runs a job that is set up, until it has ended or is killed.
pub async fn drive<S: Service>(
    stage: &Stage,
    process: Arc<Process>,
    flags: &Flags,
    job: Job<S>,
    log: RunLog,
    fed: Option<Fed>,
) -> Result<Ended, Failed> {
    let run = process.run;
    let paths = Paths::in_directory(stage, run.0, &process.directory);
    let before = report::read(&paths.report)?;
    let lines = stage.job(run.0).lines.len();
    let lines = fed.as_ref().map_or(lines, |fed| fed.rows);
    stage.job(run.0).counted.push(lines);
    let stop = StopHandle::new();
    stage.job(run.0).stop = Some(stop.clone());
    let quota = stage.job(run.0).quota.take().unwrap();
    let clock = Arc::clone(&stage.clock);
    let limiter = match &flags.timetable {
        None => Limiter::sharing(flags.rate.try_into()?, quota),
        Some(entries) => {
            let timetable = clock::text(entries).parse()?;
            Limiter::by_clock(timetable, Some(quota), Box::new(move || clock.zoned()))
        }
    };
    let until = flags
        .until_s
        .map(|seconds| stage.clock.now() + Duration::from_secs(seconds));
    let [wall, slept] = [&stage.clock, &stage.clock].map(Arc::clone);
    let told = Arc::new(Mutex::new(Told {
        already_done: before.len() as u64,
        ..Told::default()
    }));
    let (tell, put_out) = (Arc::clone(&told), Arc::clone(&stage.put_out));
    let taken = fed.as_ref().map(|fed| Arc::clone(&fed.taken));
    let job = job
        .limiter(limiter.clone())
        .observer(LoggedEnd {
            log,
            ignore_invalid: flags.ignore_invalid,
        })
        .limits(Limits { until, ..limits(flags) })
        .by_clocks(move || wall.now(), move || slept.slept_until_now())
        .stop_handle(stop)
        .around_report(|report| Box::new(Watched::new(report, &process)))
        .on_event(move |event| {
            if matches!(event, Event::Answered { .. } | Event::Settled(_) | Event::Held { .. }) {
                put_out
                    .lock()
                    .unwrap()
                    .look("an event", format!("{event:?}").as_bytes());
            }
            let taken = taken.as_ref().map(|taken| taken.load(Ordering::Relaxed));
            tell.lock().unwrap().note(event, taken);
        });
    let began = stage.now();
    stage.tell(format!("{} begins, {} records, {flags:?}", name(run), before.len()));
    let mut ended = Ended {
        run,
        flags: *flags,
        lines,
        began,
        ended: began,
        before,
        summary: None,
        survivors: None,
        disk_failed: false,
        stopped: None,
        told: Told::default(),
        until,
        fed,
    };
    tokio::select! {
        biased;
        () = process.killed.notified() => {}
        summary = job.run() => {
            ended.ended = stage.now();
            ended.summary = Some(summary?);
        }
    }
    if ended.summary.is_some() {
        tokio::select! {
            biased;
            () = process.killed.notified() => {}
            () = limiter.leave() => {}
        }
    } else {
        ended.ended = stage.now();
    }
    ended.survivors = process.survivors();
    ended.disk_failed = process.has_failed();
    ended.told = told.lock().unwrap().clone();
    ended.stopped = stage.job(run.0).stopped.clone();
    match (&ended.summary, &ended.survivors) {
        (Some(summary), None) => {
            let stopped = summary.stopped.as_ref().map(ToString::to_string);
            stage.puts_out("a reason to stop", &format!("{:?}", summary.stopped));
            stage.puts_out("a reason to stop", stopped.as_deref().unwrap_or_default());
            stage.job(run.0).durable = process.durable();
            stage.tell(format!(
                "{} ends: {}",
                name(run),
                stopped.as_deref().unwrap_or("complete")
            ));
        }
        _ => stage.tell(format!("{} is dead", name(run))),
    }
    Ok(ended)
}

impl Told {
    /// `taken`: the rows that were taken from a source.
    fn note(&mut self, event: &Event, taken: Option<u64>) {
        match event {
            Event::Settled(record) if record.subject == Subject::Row => self.settled += 1,
            Event::Sent { is_retry: false, .. } => self.begun += 1,
            _ => {}
        }
        let begun = self.already_done + self.begun.max(self.settled);
        self.most_ahead = self.most_ahead.max(taken.unwrap_or(0).saturating_sub(begun));
        match event {
            Event::Sent { .. } => self.sent += 1,
            Event::Held { why } => {
                self.is_on_hold = true;
                self.holds.push((Instant::now(), None));
                self.was_starved |= why.starts_with("no start has been free");
                self.held += 1;
            }
            Event::Released => {
                self.is_on_hold = false;
                if let Some((_, until)) = self.holds.last_mut() {
                    *until = Some(Instant::now());
                }
                self.released += 1;
            }
            Event::Settled(record) if record.outcome == Outcome::Failed => {
                self.failed += 1;
                let is_down = match record.code {
                    Some(code) => TRANSIENT.contains(&code),
                    None => record.http != Some(429),
                };
                self.failed_on_hold += u64::from(self.is_on_hold && is_down);
            }
            _ => {}
        }
    }
}
