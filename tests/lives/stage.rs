//! Lives a life: its jobs run one run after the other, while its events happen to them.

use std::fs;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use zim_batch::analysis::Analysis;
use zim_batch::limiter::quota::Quota;
use zim_batch::stop::{StopHandle, StopReason};

use crate::clock::Clock;
use crate::disk::{Process, Survivors};
use crate::input;
use crate::job::{Ended, Paths};
use crate::life::{Event, Flags, Kill, Life, Line, QuotaState, Stop, What};
use crate::log::Log;
use crate::look;
use crate::promises;
use crate::quiet;
use crate::quota::Machine;
use crate::redis::{Redis, Trouble};
use crate::secrets::HexRuns;
use crate::sharing;
use crate::world::{RunId, World};

/// How long after the world is calm a life may go on. Each run may wait for `Retry-After` and hold, and the next run begins
/// after a rest.
const MAY_LAST: Duration = Duration::from_secs(3 * 3600);

/// Fewer rows than make an outage.
const FEW: u64 = 9;

/// A run that was stopped, killed or limited is resumed at most so often.
const MAX_RUNS: usize = 60;

/// A promise that was not kept, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub how: String,
}

/// What a life was.
#[derive(Debug, Default)]
pub struct Lived {
    pub violations: Vec<Violation>,
    pub story: Vec<(Duration, String)>,
    /// Every request and the files in the end: the same for the same seed.
    pub trace: String,
    /// What was logged at INFO and above.
    pub log: String,
    pub simulated: Duration,
    pub requests: u64,
    pub kills: u64,
    pub runs: u64,
}

/// What jobs, operators and promises share.
pub struct Stage {
    pub life: Life,
    pub world: Arc<Mutex<World>>,
    /// Through which the runs share the quota, if not on the machine.
    pub redis: Arc<Redis>,
    pub machine: Option<Machine>,
    pub epoch: Instant,
    pub directory: TempDir,
    pub jobs: Vec<Mutex<JobState>>,
    lived: Mutex<Lived>,
    /// The limit of operators and when it began; newest last.
    pub limits: Mutex<Vec<(Duration, Option<f64>)>>,
    /// When the quota was away.
    pub away: Mutex<Vec<(Duration, bool)>>,
    /// The troubles of the Redis: when each began, and when it was over.
    pub troubles: Mutex<Vec<(Duration, Trouble, bool)>>,
    /// When the starts of a machine's runs were removed.
    pub removed: Mutex<Vec<Duration>>,
    pub log: Log,
    pub clock: Arc<Clock>,
    /// What events and errors have said, as far as it may be a secret.
    pub put_out: Arc<Mutex<HexRuns>>,
}

/// How far a job is.
#[derive(Debug, Clone, Default)]
pub struct JobState {
    pub lines: Vec<Line>,
    pub is_to_be_mended: bool,
    pub was_mended: bool,
    pub directory: PathBuf,
    /// What the next run shares.
    pub quota: Option<Arc<dyn Quota>>,
    pub durable: Vec<u64>,
    pub process: Option<Arc<Process>>,
    pub stop: Option<StopHandle>,
    /// How many lines there were when each run began.
    pub counted: Vec<usize>,
    /// How the run was stopped.
    pub stopped: Option<Stopped>,
    pub runs: Vec<Ended>,
}

/// A run was stopped from outside.
#[derive(Debug, Clone)]
pub struct Stopped {
    pub at: Duration,
    pub by: StopReason,
    /// What was in flight was given up.
    pub aborted_at: Option<Duration>,
}

impl Stage {
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub fn job(&self, job: usize) -> MutexGuard<'_, JobState> {
        self.jobs[job].lock().unwrap()
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn tell(&self, what: impl Into<String>) {
        self.lived.lock().unwrap().story.push((self.now(), what.into()));
    }

    /// A text of the program's, in which no secret may be.
    pub fn puts_out(&self, place: &str, text: &str) {
        self.put_out.lock().unwrap().look(place, text.as_bytes());
    }

    pub fn violated(&self, promise: &'static str, how: impl Into<String>) {
        let how = how.into();
        self.tell(format!("VIOLATED: {promise}: {how}"));
        self.lived.lock().unwrap().violations.push(Violation { promise, how });
    }
}

/// Lives a life from its beginning to its end.
pub fn live(life: &Life) -> Lived {
    fastrand::seed(life.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .on_thread_park(quiet::wait_for_other_threads)
        .build()
        .unwrap();
    let log = Log::default();
    let lived = tracing::subscriber::with_default(tracing_subscriber::registry().with(log.clone()), || {
        let life = live_in_runtime(life.clone(), log);
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(life)))
    });
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let how = text.unwrap_or_default();
        Lived {
            violations: vec![Violation {
                promise: "nothing panics",
                how,
            }],
            ..Lived::default()
        }
    })
}

async fn live_in_runtime(life: Life, log: Log) -> Lived {
    log.begin();
    // A write beyond the limit of a file's size is an error, not the end of the process.
    let _too_large = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(25)).unwrap();
    let directory = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let jobs = life.jobs.iter().enumerate().map(|(nth, plan)| {
        let at = directory.path().join(format!("job{nth}-run0"));
        fs::create_dir(&at).unwrap();
        let text = input::write(plan.dialect, &plan.input, plan.users.is_some());
        fs::write(at.join("input.csv"), text).unwrap();
        Mutex::new(JobState {
            lines: plan.input.clone(),
            directory: at,
            ..JobState::default()
        })
    });
    let clock = Arc::new(Clock::new(life.wall_begins));
    let stage = Arc::new(Stage {
        jobs: jobs.collect(),
        world: Arc::new(Mutex::new(World::new(&life))),
        redis: Arc::new(Redis::of(life.seed)),
        machine: life.has_machine_quota.then(|| {
            let at = directory.path().join("quota");
            fs::create_dir(&at).unwrap();
            Machine::new(&at, &clock)
        }),
        epoch: Instant::now(),
        directory,
        life,
        lived: Mutex::default(),
        limits: Mutex::default(),
        away: Mutex::default(),
        removed: Mutex::default(),
        troubles: Mutex::default(),
        log,
        clock,
        put_out: Arc::default(),
    });
    let mut work = tokio::task::JoinSet::new();
    for job in 0..stage.jobs.len() {
        work.spawn(run_job(Arc::clone(&stage), job));
    }
    let operator = tokio::spawn(operate(Arc::clone(&stage)));
    let watch = stage
        .machine
        .is_none()
        .then(|| tokio::spawn(sharing::watch(Arc::clone(&stage))));
    let most = Duration::from_millis(stage.life.calm_at() + stage.life.work()) + MAY_LAST;
    let all = async {
        while let Some(ended) = work.join_next().await {
            if let Err(panic) = ended {
                stage.violated("nothing panics", panic.to_string());
            }
        }
    };
    if timeout(most, all).await.is_err() {
        stage.violated(
            "a life ends",
            format!(
                "a job is still at work {} h after the last trouble",
                MAY_LAST.as_secs() / 3600
            ),
        );
    }
    operator.abort();
    watch.iter().for_each(tokio::task::JoinHandle::abort);
    drop(work);
    promises::at_the_end(&stage);
    let mut lived = std::mem::take(&mut *stage.lived.lock().unwrap());
    lived.simulated = stage.now();
    lived.requests = stage.world().requests.len() as u64;
    lived.runs = (0..stage.jobs.len()).map(|job| stage.job(job).runs.len() as u64).sum();
    lived.trace = promises::trace(&stage);
    lived.log = stage.log.to_string();
    lived
}

/// One run after the other, until everything has a record and nothing more is to come.
async fn run_job(stage: Arc<Stage>, job: usize) {
    let plan = &stage.life.jobs[job];
    sleep(Duration::from_millis(plan.begins)).await;
    // Rows that fail for ever, if there are many and no others are left, look like an outage: an operator sends them few at a
    // time.
    let mut limit = None;
    for nth in 0..MAX_RUNS {
        let flags = plan.runs.get(nth).copied().unwrap_or(Flags { limit, ..Flags::LAST });
        prepare(&stage, job);
        let run = crate::job::run(&stage, (job, nth), flags);
        let ended = run.instrument(Log::span((job, nth))).await;
        let Some(ended) = ended else { return };
        promises::after_a_run(&stage, job, &ended);
        if nth >= plan.runs.len() && ended.has_given_up() && ended.began >= Duration::from_millis(stage.life.calm_at())
        {
            limit = Some(FEW);
        }
        let is_done = take_up(&stage, job, ended);
        let next = next_change(&stage, job);
        if is_done && next.is_none() {
            return;
        }
        let at = next.filter(|_| is_done).unwrap_or_default();
        sleep_until(stage.epoch + Duration::from_millis(at)).await;
        // Who has resumed it several times waits for longer and longer.
        let patience = Duration::from_secs((1 << nth.saturating_sub(4).min(10)) - 1).min(Duration::from_secs(600));
        sleep(patience.max(Duration::from_millis(plan.rest))).await;
    }
    stage.violated("a life ends", format!("job {job} is not done after {MAX_RUNS} runs"));
}

/// Goes on with what a run has left. Returns whether everything has a record.
fn take_up(stage: &Stage, job: usize, ended: Ended) -> bool {
    let mut state = stage.job(job);
    (state.process, state.stop, state.stopped) = (None, None, None);
    if let Some(Survivors { directory, durable }) = ended.survivors.clone() {
        (state.directory, state.durable) = (directory, durable);
        stage.lived.lock().unwrap().kills += 1;
    }
    state.runs.push(ended);
    promises::is_done(stage, job, &state)
}

/// When rows are added or corrected next.
fn next_change(stage: &Stage, job: usize) -> Option<u64> {
    let now = stage.now().as_millis() as u64;
    let is_change = |what: &What| matches!(what, What::Append(of, _) | What::Mend(of) if *of == job);
    let events = stage
        .life
        .events
        .iter()
        .filter(|event| event.at >= now && is_change(&event.what));
    events.map(|event| event.at).next()
}

/// What is done to the input between two runs.
fn prepare(stage: &Stage, job: usize) {
    let plan = &stage.life.jobs[job];
    let mut state = stage.job(job);
    if std::mem::take(&mut state.is_to_be_mended) {
        input::mend(&mut state.lines);
        state.was_mended = true;
        let text = input::write(plan.dialect, &state.lines, plan.users.is_some());
        fs::write(state.directory.join("input.csv"), text).unwrap();
        drop(state);
        stage.tell(format!("job {job}: its invalid lines are corrected"));
    }
}

/// Makes the events of the life happen.
async fn operate(stage: Arc<Stage>) {
    let mut steps: Vec<(u64, What, bool)> = Vec::new();
    for Event { at, what } in stage.life.events.clone() {
        if let What::Limit(_, lasts)
        | What::Quota(_, lasts)
        | What::Redis(_, lasts)
        | What::Stop(_, Stop::Twice(_, lasts)) = what
        {
            steps.push((at + lasts, what.clone(), true));
        }
        steps.push((at, what, false));
    }
    steps.sort_by_key(|(at, _, is_end)| (*at, *is_end));
    for (at, what, is_end) in steps {
        sleep_until(stage.epoch + Duration::from_millis(at)).await;
        if is_end {
            end(&stage, &what).await;
        } else {
            happen(&stage, what).await;
        }
    }
}

/// What lasted for a while ends.
async fn end(stage: &Stage, what: &What) {
    match what {
        What::Limit(..) => set_limit(stage, None, None).await,
        What::Quota(state, _) => match &stage.machine {
            Some(machine) => {
                stage.tell("the quota is back");
                machine.unlock();
                stage.away.lock().unwrap().push((stage.now(), false));
            }
            None => redis_trouble(stage, (*state).into(), true),
        },
        What::Redis(trouble, _) => redis_trouble(stage, *trouble, true),
        What::Stop(job, Stop::Twice(number, _)) => {
            let state = stage.job(*job);
            if let (Some(stop), Some(_)) = (state.stop.clone(), &state.stopped) {
                drop(state);
                stage.tell(format!("job {job}: a second signal"));
                abort(stage, *job, &stop, StopReason::Signal(*number));
            }
        }
        _ => {}
    }
}

fn abort(stage: &Stage, job: usize, stop: &StopHandle, by: StopReason) {
    let now = stage.now();
    if let Some(stopped) = &mut stage.job(job).stopped {
        stopped.aborted_at.get_or_insert(now);
    }
    stop.abort(by);
}

/// `lasts`: it ends by itself after this time.
async fn set_limit(stage: &Stage, limit: Option<f64>, lasts: Option<Duration>) {
    stage.tell(match limit {
        Some(0.0) => "an operator pauses all runs".into(),
        Some(limit) => format!("an operator limits all runs to {limit} per second"),
        None => "the operator's limit ends".into(),
    });
    match &stage.machine {
        Some(machine) => {
            machine.set_limit(limit).await;
            stage.limits.lock().unwrap().push((stage.now(), limit));
        }
        None => {
            stage.redis.set_limit(limit, lasts);
            note_limit(stage);
        }
    }
}

/// What is in force by the server.
fn note_limit(stage: &Stage) {
    let (limit, limits) = (stage.redis.limit(), &mut *stage.limits.lock().unwrap());
    if limits.last().and_then(|(_, last)| *last) != limit {
        limits.push((stage.now(), limit));
    }
}

/// A trouble of the server begins or ends.
fn redis_trouble(stage: &Stage, trouble: Trouble, is_over: bool) {
    note_limit(stage);
    if is_over {
        stage.redis.end(trouble);
    } else {
        stage.redis.begin(trouble);
    }
    let is_out = stage.redis.is_out();
    stage.tell(format!(
        "the Redis: {trouble:?}{}",
        if is_over { " is over" } else { "" }
    ));
    stage.troubles.lock().unwrap().push((stage.now(), trouble, is_over));
    stage.away.lock().unwrap().push((stage.now(), is_out));
    note_limit(stage);
}

async fn happen(stage: &Stage, what: What) {
    let process = |job: usize| stage.job(job).process.clone();
    match what {
        What::Limit(limit, lasts) => {
            // Some end by themselves, by the server's clock.
            let is_set = |event: &Event| matches!(event.what, What::Redis(Trouble::Clock(_), _));
            let ends = lasts.is_multiple_of(1000) && !stage.life.events.iter().any(is_set);
            let lasts = ends.then(|| Duration::from_millis(lasts));
            set_limit(stage, Some(limit), lasts).await;
        }
        What::Redis(trouble, _) => redis_trouble(stage, trouble, false),
        What::Quota(state, _) => {
            let Some(machine) = &stage.machine else {
                return redis_trouble(stage, state.into(), false);
            };
            stage.tell(format!("the quota is {state:?}"));
            if state == QuotaState::Restarted {
                // Without a run, nobody could know what was started in the last second.
                if (0..stage.jobs.len()).any(|job| process(job).is_some_and(|run| run.survivors().is_none())) {
                    machine.remove_starts();
                    stage.removed.lock().unwrap().push(stage.now());
                }
                return;
            }
            let is_away = machine.lock();
            stage.away.lock().unwrap().push((stage.now(), is_away));
        }
        What::Trouble(trouble, lasts) => {
            stage.tell(format!("trouble for {lasts} ms: {trouble:?}"));
            stage.world().trouble(trouble, lasts);
        }
        What::Stop(job, by) => {
            let stop = stage.job(job).stop.clone();
            if let Some(stop) = stop {
                stage.tell(format!("job {job}: is stopped, {by:?}"));
                let by = match by {
                    Stop::Cancel => StopReason::Cancelled,
                    Stop::Signal(number) | Stop::Twice(number, _) => StopReason::Signal(number),
                };
                let stopped = Stopped {
                    at: stage.now(),
                    by: by.clone(),
                    aborted_at: None,
                };
                stage.job(job).stopped.get_or_insert(stopped);
                // As the program does at a signal.
                match by {
                    StopReason::Cancelled => stop.cancel(),
                    by if stop.drain(by.clone()) => {}
                    by => abort(stage, job, &stop, by),
                }
            }
        }
        What::Kill(job, kill) => {
            if let Some(process) = process(job) {
                stage.tell(format!("job {job}: is killed, {kill:?}"));
                match kill {
                    Kill::Now => process.kill(),
                    Kill::WhileWriting(number) => process.kill_while_writing(number),
                }
            }
        }
        What::PowerCut(job, number) => {
            if let Some(process) = process(job) {
                stage.tell(format!("job {job}: a power cut"));
                if number % 3 > 0 {
                    process.cut_power_after_a_write(number);
                    return;
                }
                let stands_still = |event: &Event| matches!(event.what, What::Stall(_));
                let late = process.late_to_disk();
                if late > 0 && !stage.life.events.iter().any(stands_still) {
                    let how = format!("job {job}: {late} bytes are not");
                    stage.violated("a record is on the disk about a second later", how);
                }
                process.cut_power(number);
            }
        }
        What::Append(job, lines) => {
            let plan = &stage.life.jobs[job];
            let mut text = String::new();
            input::append(&mut text, plan.dialect, &lines, plan.users.is_some());
            let mut state = stage.job(job);
            let survivors = state.process.as_ref().and_then(|process| process.survivors());
            let directory = survivors.map_or_else(|| state.directory.clone(), |survivors| survivors.directory);
            crate::disk::append(&directory.join("input.csv"), text.as_bytes());
            stage.tell(format!("job {job}: {} lines are added", lines.len()));
            state.lines.extend(lines);
        }
        What::Mend(job) => stage.job(job).is_to_be_mended = true,
        What::SyncFails(job) => {
            if let Some(process) = process(job) {
                stage.tell(format!("job {job}: the next sync fails"));
                process.fail_sync();
            }
        }
        What::DiskFull(job, room) => {
            if let Some(process) = process(job) {
                stage.tell(format!("job {job}: the disk has room for {room} bytes"));
                process.fill_disk(room);
            }
        }
        What::Look(job) => {
            let report = Paths::of(stage, job).report;
            // Between a power cut and the next run, its header may be torn.
            if report.exists() && !crate::report::is_torn(&report) && crate::disk::len(&report) > 0 {
                match Analysis::from_file(&report) {
                    Ok(analysis) => look::of_a_look(stage, job, &report, &analysis),
                    Err(error) => stage.violated("a report can always be read", error.to_string()),
                }
            }
        }
        What::Stall(lasts) => {
            stage.tell(format!("the machine stands still for {lasts} ms"));
            tokio::time::advance(Duration::from_millis(lasts)).await;
        }
        What::SetClock(by) => {
            stage.tell(format!("the clock is set by {by} ms"));
            stage.clock.set(by);
        }
        What::Sleep(lasts) => {
            stage.tell(format!("the machine sleeps for {lasts} ms"));
            stage.clock.sleep(Duration::from_millis(lasts));
        }
    }
}

/// The limits that these settings are.
pub fn limits(flags: &Flags) -> zim_batch::Limits {
    zim_batch::Limits {
        max_in_flight: NonZeroUsize::new(flags.max_in_flight).unwrap(),
        max_attempts: NonZeroU32::new(flags.max_attempts).unwrap(),
        give_up_after: Duration::from_secs(flags.give_up_after_s),
        max_failures: flags.max_failures.and_then(NonZeroU64::new),
        max_duration: flags.max_duration_s.map(Duration::from_secs),
        ..zim_batch::Limits::default()
    }
}

/// Names a run in stories.
pub fn name((job, nth): RunId) -> String {
    format!("job {job}, run {nth}")
}
