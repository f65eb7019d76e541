//! The process and the disk of a run: a journal that knows what was synced, so that a kill or a power cut leaves what it
//! would really leave. The life goes on with a copy: nothing that the dead run still does counts.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;
use zim_batch::journal::{Description, EarlierUsers, Journal, ReportError, SyncFiles, Written};
use zim_batch::reasons::Reasons;
use zim_batch::row::{Counts, Record};
use zim_batch::rows::Done;
use zim_batch::sealed::Sealed;

use crate::quiet;
use crate::world::{Asked, Key, RunId, World};

/// What was written is on the disk about a second later.
const SYNCED_WITHIN: Duration = Duration::from_millis(1500);

/// How often a run's rows on the disk are compared with what was sent.
const MAX_LOOKS: u32 = 60;

/// A run as the system sees it.
pub struct Process {
    pub run: RunId,
    pub directory: PathBuf,
    /// The files of its journal, in the order in which they are written.
    files: Vec<PathBuf>,
    world: Arc<Mutex<World>>,
    state: Mutex<State>,
    pub killed: Notify,
}

#[derive(Default)]
struct State {
    /// How much of each file is on the disk for good.
    durable: Vec<u64>,
    /// How long the files were after each write, and when that was.
    written: Vec<(Duration, Vec<u64>)>,
    /// After so many writes it is killed, or the power is cut, by this number.
    armed: Option<(u64, Death, u64)>,
    /// How often it was looked at what is on the disk.
    looks: u32,
    sync_fails: bool,
    /// No file can become longer than this.
    most: Option<u64>,
    /// What the disk was to do to it, and did.
    has_failed: bool,
    survivors: Option<Survivors>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Death {
    Kill,
    PowerCut,
}

/// What is left after a kill or a power cut.
#[derive(Debug, Clone)]
pub struct Survivors {
    pub directory: PathBuf,
    pub durable: Vec<u64>,
}

impl Process {
    /// `durable`: how much of each file was on the disk before.
    pub fn new(
        run: RunId,
        directory: &Path,
        files: Vec<PathBuf>,
        durable: &[u64],
        world: &Arc<Mutex<World>>,
    ) -> Arc<Process> {
        let durable = files.iter().enumerate().map(|(nth, file)| {
            let before = durable.get(nth).copied().unwrap_or(0);
            before.min(len(file))
        });
        Arc::new(Process {
            run,
            directory: directory.to_owned(),
            state: Mutex::new(State {
                durable: durable.collect(),
                ..State::default()
            }),
            files,
            world: Arc::clone(world),
            killed: Notify::new(),
        })
    }

    pub fn survivors(&self) -> Option<Survivors> {
        self.state.lock().unwrap().survivors.clone()
    }

    pub fn durable(&self) -> Vec<u64> {
        self.state.lock().unwrap().durable.clone()
    }

    /// Whether its disk has failed.
    pub fn has_failed(&self) -> bool {
        self.state.lock().unwrap().has_failed
    }

    pub fn kill(&self) {
        self.die(|_, now, _| (now, false));
    }

    /// One of its next writes is cut somewhere, and it dies.
    pub fn kill_while_writing(&self, number: u64) {
        self.state.lock().unwrap().armed = Some((number % 8, Death::Kill, number));
    }

    /// The power is cut after one of its next writes.
    pub fn cut_power_after_a_write(&self, number: u64) {
        self.state.lock().unwrap().armed = Some((number % 8, Death::PowerCut, number));
    }

    /// Loses any part of what was not synced; the file may keep its length.
    pub fn cut_power(&self, number: u64) {
        let mut rng = Rng::with_seed(number);
        self.die(|durable, now, _| (rng.u64(durable..=now.max(durable)), rng.u8(0..4) == 0));
        if let Some(survivors) = &mut self.state.lock().unwrap().survivors {
            survivors.durable = vec![u64::MAX; self.files.len()];
        }
        for log in ["out.runs.jsonl", "out.list.runs.jsonl"] {
            let log = self.directory_of_survivors().join(log);
            if let Ok(file) = OpenOptions::new().write(true).open(log) {
                let len = file.metadata().map_or(0, |file| file.len());
                file.set_len(rng.u64(0..=len)).unwrap();
            }
        }
    }

    /// Looks now and then, as long as rows are not on the disk.
    fn look_at_rows_now(&self, lens: &[u64]) {
        let state = &mut *self.state.lock().unwrap();
        let is_due = self.files.len() == 4 && state.durable[0] < lens[0] && state.looks < MAX_LOOKS;
        state.looks += u32::from(is_due);
        if is_due {
            self.look_for_rows_that_are_lost(state.durable[0]);
        }
    }

    /// Rows of a run that lists them are sent when they are on the disk.
    fn look_for_rows_that_are_lost(&self, durable: u64) {
        let [rows, ..] = self.files.as_slice() else { return };
        let mut on_disk = bytes(rows);
        on_disk.truncate(usize::try_from(durable).unwrap());
        let mut world = self.world.lock().unwrap();
        let found = crate::report::rows_in(&on_disk);
        let found: HashSet<&Key> = found.iter().map(|(_, key)| key).collect();
        let sent = world.requests.iter().filter(|sent| sent.run == self.run);
        let is_lost = |asked: &Asked| matches!(asked, Asked::Clear(key) if !found.contains(key));
        let lost = sent.filter(|sent| is_lost(&sent.asked)).count();
        if lost > 0 {
            let how = format!(
                "{}: {lost} requests for rows that a power cut takes",
                crate::stage::name(self.run)
            );
            world.sent_early.push(how);
        }
    }

    /// What was written a while ago and is not on the disk yet, in bytes.
    pub fn late_to_disk(&self) -> u64 {
        let now = self.world.lock().unwrap().now();
        let state = self.state.lock().unwrap();
        let old = state.written.iter().rfind(|(at, _)| *at + SYNCED_WITHIN < now);
        let late = |(lens, durable): (&u64, &u64)| lens.saturating_sub(*durable);
        old.map_or(0, |(_, lens)| lens.iter().zip(&state.durable).map(late).sum())
    }

    pub fn fail_sync(&self) {
        self.state.lock().unwrap().sync_fails = true;
    }

    pub fn fill_disk(&self, room: u64) {
        let longest = self.lens().into_iter().max().unwrap_or(0);
        self.state.lock().unwrap().most = Some(longest + room);
    }

    fn directory_of_survivors(&self) -> PathBuf {
        self.directory
            .with_file_name(format!("job{}-run{}", self.run.0, self.run.1 + 1))
    }

    /// Copies what is left: for each file of the journal so much, given what is durable, its length, and its number; the
    /// rest is cut off, or zeros.
    fn die(&self, mut left: impl FnMut(u64, u64, usize) -> (u64, bool)) {
        let mut state = self.state.lock().unwrap();
        if state.survivors.is_some() {
            return;
        }
        let to = self.directory_of_survivors();
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(&self.directory).unwrap() {
            let path = entry.unwrap().path();
            let copy = to.join(path.file_name().unwrap());
            fs::copy(&path, &copy).unwrap();
            if let Some(nth) = self.files.iter().position(|file| *file == path) {
                let now = len(&path);
                let (len, zeros) = left(state.durable[nth], now, nth);
                let file = OpenOptions::new().write(true).open(&copy).unwrap();
                file.set_len(len).unwrap();
                if zeros {
                    file.set_len(now).unwrap();
                }
            }
        }
        state.survivors = Some(Survivors {
            directory: to,
            durable: state.durable.clone(),
        });
        drop(state);
        self.world.lock().unwrap().dead.insert(self.run);
        self.killed.notify_one();
    }

    /// Something was written: whether it dies now.
    fn dies_now(&self) -> Option<(Death, u64)> {
        let armed = &mut self.state.lock().unwrap().armed;
        let (left, death, number) = (*armed)?;
        *armed = (left > 0).then(|| (left - 1, death, number));
        armed.is_none().then_some((death, number))
    }

    fn lens(&self) -> Vec<u64> {
        self.files.iter().map(|file| len(file)).collect()
    }
}

pub fn len(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

/// A journal on the disk of a process.
#[derive(Debug)]
pub struct Watched {
    inner: Box<dyn Journal>,
    process: Arc<Process>,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process {:?}", self.run)
    }
}

impl Watched {
    pub fn new(inner: Box<dyn Journal>, process: &Arc<Process>) -> Watched {
        Watched {
            inner,
            process: Arc::clone(process),
        }
    }
}

impl Sealed for Watched {}

impl Journal for Watched {
    /// Called when the threads that read have begun: how far they are must not depend on the machine.
    fn take_done(&mut self) -> Done {
        quiet::wait_for_other_threads();
        self.inner.take_done()
    }

    fn earlier(&self) -> Counts {
        self.inner.earlier()
    }

    fn take_earlier_failures(&mut self) -> Reasons {
        self.inner.take_earlier_failures()
    }

    fn take_earlier_users(&mut self) -> Option<EarlierUsers> {
        self.inner.take_earlier_users()
    }

    fn forget(&mut self, lines: &[u64]) -> Result<(), ReportError> {
        self.inner.forget(lines)
    }

    fn push(&mut self, record: &Record) {
        self.inner.push(record);
    }

    fn handed_over(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.inner.handed_over()
    }

    fn commit(&mut self) -> (Written, Result<(), ReportError>) {
        let before = self.process.lens();
        let most = self.process.state.lock().unwrap().most;
        let committed = match most {
            Some(most) => with_file_size(most, || self.inner.commit()),
            None => self.inner.commit(),
        };
        let after = self.process.lens();
        if committed.1.is_err() {
            self.process.state.lock().unwrap().has_failed = true;
        }
        let now = self.process.world.lock().unwrap().now();
        self.process.state.lock().unwrap().written.push((now, after.clone()));
        self.process.look_at_rows_now(&after);
        let death = if after == before { None } else { self.process.dies_now() };
        match death {
            Some((Death::PowerCut, number)) => self.process.cut_power(number),
            Some((Death::Kill, number)) => {
                let mut rng = Rng::with_seed(number);
                let torn = rng.usize(0..after.len());
                self.process.die(|_, now, nth| match nth.cmp(&torn) {
                    std::cmp::Ordering::Less => (now, false),
                    std::cmp::Ordering::Equal => (rng.u64(before[nth].min(now)..=now), false),
                    std::cmp::Ordering::Greater => (before[nth].min(now), false),
                });
            }
            None => {}
        }
        committed
    }

    fn awaits_sync(&self) -> bool {
        self.inner.awaits_sync()
    }

    fn sync_later(&mut self) -> SyncFiles {
        let lens = self.process.lens();
        let (sync, process) = (self.inner.sync_later(), Arc::clone(&self.process));
        let fails = std::mem::take(&mut self.process.state.lock().unwrap().sync_fails);
        Box::new(move || {
            if fails {
                process.state.lock().unwrap().has_failed = true;
                return Err(ReportError::Write {
                    path: process.files[0].clone(),
                    source: io::Error::from_raw_os_error(5),
                });
            }
            sync()?;
            process.state.lock().unwrap().durable = lens;
            Ok(())
        })
    }

    /// What is recorded now is read by a thread.
    fn synced(&mut self) {
        self.inner.synced();
        quiet::wait_for_other_threads();
    }

    fn finish(&mut self, has_begun: bool) -> Result<(), ReportError> {
        self.inner.finish(has_begun)?;
        let lens = self.process.lens();
        self.process.state.lock().unwrap().durable = lens;
        Ok(())
    }

    fn is_resumed(&self) -> bool {
        self.inner.is_resumed()
    }

    fn describe(&self) -> Description {
        self.inner.describe()
    }
}

/// No file of this process grows beyond this meanwhile.
fn with_file_size<T>(most: u64, write: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Fsize);
    let limited = Rlimit {
        current: Some(most),
        maximum: before.maximum,
    };
    setrlimit(Resource::Fsize, limited).unwrap();
    let written = write();
    setrlimit(Resource::Fsize, before).unwrap();
    written
}

/// A file's bytes; none if there is no file.
pub fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// Appends to a file, as another program does.
pub fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut file: File = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}
