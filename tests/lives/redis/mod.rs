//! A Redis of the test's own making, in this process and in simulated time: connections, commands and scripts, and whatever
//! can go wrong with a server.

mod data;
mod real;
mod scripts;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub use data::Data;
use data::{Answer, commands};
use scripts::Scripts;

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
    is_silent: bool,
    is_refusing: bool,
    is_loading: bool,
}

impl Redis {
    /// A server whose answers take so long. When the test begins, it is this time on its clock, in microseconds since 1970.
    pub fn new(round_trip: Duration, time: u64) -> Redis {
        let epoch = Instant::now();
        let clock = Box::new(move || time + epoch.elapsed().as_micros() as u64);
        let data = Arc::new(Mutex::new(Data::new(clock)));
        Redis {
            state: Mutex::new(State {
                scripts: Scripts::new(&data),
                round_trip,
                is_silent: false,
                is_refusing: false,
                is_loading: false,
            }),
            data,
            closed: watch::Sender::new(0),
        }
    }

    /// Opens a connection.
    pub async fn connect(self: Arc<Redis>) -> io::Result<DuplexStream> {
        let round_trip = self.state().round_trip;
        sleep(round_trip).await;
        if self.state().is_refusing {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (stream, its_stream) = duplex(64 * 1024);
        tokio::spawn(self.serve(its_stream));
        Ok(stream)
    }

    async fn serve(self: Arc<Redis>, mut stream: DuplexStream) {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.changed() => {}
            _ = self.converse(&mut stream) => {}
        }
    }

    /// Answers until the connection is closed.
    async fn converse(&self, stream: &mut DuplexStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await? > 0 {
            let half = self.state().round_trip / 2;
            let commands = commands(&mut bytes);
            sleep(half).await;
            if self.state().is_silent {
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
    pub fn call(&self, command: &[Vec<u8>]) -> Answer {
        let state = &mut *self.state();
        if state.is_loading {
            return Answer::Error("LOADING Redis is loading the dataset in memory".into());
        }
        let name = command.first().map(|name| name.to_ascii_uppercase());
        match (name.as_deref(), command) {
            (Some(b"SCRIPT"), [_, _, text]) => state.scripts.load(text),
            (Some(b"EVALSHA"), [_, hash, rest @ ..]) => state.scripts.call(hash, rest),
            _ => self.data().call(command),
        }
    }

    pub fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
