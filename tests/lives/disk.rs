//! The process and the disk of a run: a journal that knows what was synced, so that a kill or a power cut leaves what it
//! would really leave. The life goes on with a copy: nothing that the dead run still does counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;
use zim_batch::journal::{Description, EarlierUsers, Journal, ReportError, SyncFiles, Written};
use zim_batch::reasons::Reasons;
use zim_batch::row::{Counts, Record};
use zim_batch::rows::Done;
use zim_batch::sealed::Sealed;

use crate::quiet;
use crate::quota::Shared;
use crate::world::{RunId, World};

/// A run as the system sees it.
pub struct Process {
    pub run: RunId,
    pub directory: PathBuf,
    /// The files of its journal, in the order in which they are written.
    files: Vec<PathBuf>,
    world: Arc<Mutex<World>>,
    quota: Arc<Mutex<Shared>>,
    state: Mutex<State>,
    pub killed: Notify,
}

#[derive(Default)]
struct State {
    /// How much of each file is on the disk for good.
    durable: Vec<u64>,
    /// It is to be killed while it writes.
    armed: Option<u64>,
    sync_fails: bool,
    /// The disk takes only so many bytes more.
    room: Option<u64>,
    /// What the disk was to do to it, and did.
    has_failed: bool,
    survivors: Option<Survivors>,
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
        quota: &Arc<Mutex<Shared>>,
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
            quota: Arc::clone(quota),
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

    /// Its next write is cut somewhere, and it dies.
    pub fn kill_while_writing(&self, number: u64) {
        self.state.lock().unwrap().armed = Some(number);
    }

    /// Loses any part of what was not synced; the file may keep its length.
    pub fn cut_power(&self, number: u64) {
        let mut rng = Rng::with_seed(number);
        self.die(|durable, now, _| (rng.u64(durable..=now.max(durable)), rng.u8(0..4) == 0));
        if let Some(survivors) = &mut self.state.lock().unwrap().survivors {
            survivors.durable = vec![u64::MAX; self.files.len()];
        }
        let log = self.directory_of_survivors().join("out.runs.jsonl");
        if let Ok(file) = OpenOptions::new().write(true).open(log) {
            let len = file.metadata().map_or(0, |file| file.len());
            file.set_len(rng.u64(0..=len)).unwrap();
        }
    }

    pub fn fail_sync(&self) {
        self.state.lock().unwrap().sync_fails = true;
    }

    pub fn fill_disk(&self, room: u64) {
        self.state.lock().unwrap().room = Some(room);
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
        self.quota.lock().unwrap().forget(self.run);
        self.killed.notify_one();
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
        let room = self.process.state.lock().unwrap().room;
        let committed = match room {
            Some(room) => {
                let most = before.iter().max().copied().unwrap_or(0) + room;
                with_file_size(most, || self.inner.commit())
            }
            None => self.inner.commit(),
        };
        let after = self.process.lens();
        if committed.1.is_err() {
            self.process.state.lock().unwrap().has_failed = true;
        }
        let armed = self.process.state.lock().unwrap().armed;
        if let Some(number) = armed.filter(|_| after != before) {
            let mut rng = Rng::with_seed(number);
            let torn = rng.usize(0..after.len());
            self.process.die(|_, now, nth| match nth.cmp(&torn) {
                std::cmp::Ordering::Less => (now, false),
                std::cmp::Ordering::Equal => (rng.u64(before[nth].min(now)..=now), false),
                std::cmp::Ordering::Greater => (before[nth].min(now), false),
            });
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
