//! A Redis of the test's own making, in this process and in simulated time: connections, commands and scripts, and whatever
//! can go wrong with a server.

mod data;
mod real;
mod scripts;
mod trouble;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use std::collections::BTreeMap;

use data::{Answer, Data, Key, commands};
use scripts::Scripts;
pub use trouble::{Trouble, events};

/// The keys of the app.
const STARTS: &str = "zim-batch-12345.starts";
const RUNS: &str = "zim-batch-12345.runs";
const LIMIT: &str = "zim-batch-12345.limit";

/// The server.
pub struct Redis {
    data: Arc<Mutex<Data>>,
    state: Mutex<State>,
    /// Counts how often all connections were closed.
    closed: watch::Sender<u32>,
}

struct State {
    scripts: Scripts,
    /// How long an answer takes.
    round_trip: Duration,
    troubles: Vec<Trouble>,
    /// What it has saved, when that was by the test's clock, and how often it saves.
    saved: BTreeMap<Vec<u8>, Key>,
    saved_at: Instant,
    saves_every: Duration,
}

impl State {
    fn has(&self, is_meant: impl Fn(Trouble) -> bool) -> bool {
        self.troubles.iter().any(|trouble| is_meant(*trouble))
    }

    fn end(&mut self, trouble: Trouble) {
        if let Some(index) = self.troubles.iter().position(|other| *other == trouble) {
            self.troubles.remove(index);
        }
    }

    /// How long an answer takes at present.
    fn round_trip(&self) -> Duration {
        let more = self.troubles.iter().map(|trouble| match trouble {
            Trouble::Slow(more) => *more,
            _ => 0,
        });
        self.round_trip + Duration::from_millis(more.max().unwrap_or(0))
    }
}

impl Redis {
    /// The server in the life of this seed.
    pub fn of(seed: u64) -> Redis {
        let round_trip = [0, 0, 2, 10, 40, 120][seed as usize / 3 % 6];
        let saves_every = [1, 5, 60][seed as usize / 3 % 3];
        Redis::new(Duration::from_millis(round_trip), Duration::from_secs(saves_every))
    }

    /// A server whose answers take so long, and that saves its data so often.
    fn new(round_trip: Duration, saves_every: Duration) -> Redis {
        let (epoch, time) = (Instant::now(), 1_700_000_000_000_000);
        let clock = Box::new(move || time + epoch.elapsed().as_micros() as u64);
        let data = Arc::new(Mutex::new(Data::new(clock)));
        Redis {
            state: Mutex::new(State {
                scripts: Scripts::new(&data),
                round_trip,
                troubles: Vec::new(),
                saved: BTreeMap::new(),
                saved_at: epoch,
                saves_every,
            }),
            data,
            closed: watch::Sender::new(0),
        }
    }

    /// Opens a connection. Nobody can who is dead.
    pub async fn connect(self: Arc<Redis>, is_dead: bool) -> io::Result<DuplexStream> {
        if is_dead {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let round_trip = self.state().round_trip();
        sleep(round_trip).await;
        let is_down = |trouble| matches!(trouble, Trouble::Refused | Trouble::Restarted { .. });
        if self.state().has(is_down) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (stream, its_stream) = duplex(64 * 1024);
        let closed = self.closed.subscribe();
        tokio::spawn(self.serve(its_stream, closed));
        Ok(stream)
    }

    async fn serve(self: Arc<Redis>, mut stream: DuplexStream, mut closed: watch::Receiver<u32>) {
        tokio::select! {
            biased;
            _ = closed.changed() => {}
            _ = self.converse(&mut stream) => {}
        }
    }

    /// Answers until the connection is closed.
    async fn converse(&self, stream: &mut DuplexStream) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(64 * 1024);
        while stream.read_buf(&mut bytes).await? > 0 {
            let half = self.state().round_trip() / 2;
            let commands = commands(&mut bytes);
            sleep(half).await;
            if self.state().has(|trouble| trouble == Trouble::Silent) {
                return std::future::pending().await;
            }
            let mut answers = Vec::new();
            for command in commands {
                self.call(&command).write(&mut answers);
            }
            sleep(half).await;
            stream.write_all(&answers).await?;
        }
        Ok(())
    }

    /// Carries out a command.
    fn call(&self, command: &[Vec<u8>]) -> Answer {
        let state = &mut *self.state();
        if state.has(|trouble| trouble == Trouble::Loading) {
            return Answer::Error("LOADING Redis is loading the dataset in memory".into());
        }
        let is_odd = state.has(|trouble| matches!(trouble, Trouble::OtherType(_)));
        if state.saved_at.elapsed() >= state.saves_every && !is_odd {
            (state.saved, state.saved_at) = (self.data().keys.clone(), Instant::now());
        }
        let name = command.first().map(|name| name.to_ascii_uppercase());
        match (name.as_deref(), command) {
            (Some(b"SCRIPT"), [_, _, text]) => state.scripts.load(text),
            (Some(b"EVALSHA"), [_, hash, rest @ ..]) => state.scripts.call(hash, rest),
            _ => self.data().call(command),
        }
    }

    fn close_connections(&self) {
        self.closed.send_modify(|closed| *closed += 1);
    }

    /// Whether nobody can reserve a start at present.
    pub fn is_out(&self) -> bool {
        self.state().has(Trouble::is_outage)
    }

    /// Whether a run that begins is told that waiting does not help.
    pub fn is_lasting(&self) -> bool {
        self.state().has(Trouble::is_lasting)
    }

    /// The longest time that an answer takes without trouble.
    pub fn delay(&self) -> Duration {
        self.state().round_trip
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
