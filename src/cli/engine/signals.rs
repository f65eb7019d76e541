//! SIGINT, SIGTERM and SIGHUP: the first one drains, the second one stops immediately. SIGUSR1 asks for the progress.

use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use zim_batch::stop::{StopHandle, StopReason};

use crate::cli::errors::Error;

/// A SIGHUP that follows another within this time is the same one.
const SIGHUP_INTERVAL: Duration = Duration::from_secs(1);

/// SIGUSR1. While it is handled, it does not end the process.
pub struct StatusSignal(Option<Signal>);

impl StatusSignal {
    pub fn listen() -> StatusSignal {
        StatusSignal(listen(SignalKind::user_defined1()))
    }

    /// SIGUSR1 is not handled.
    pub fn none() -> StatusSignal {
        StatusSignal(None)
    }
}

/// The signals that end a process. A signal that was ignored when the process started stays ignored, like SIGHUP under
/// `nohup`.
struct EndSignals([(u8, Option<Signal>); 3]);

impl EndSignals {
    fn listen() -> EndSignals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        EndSignals(kinds.map(|kind| (kind.as_raw_value() as u8, listen(kind))))
    }

    async fn next(&mut self) -> u8 {
        let [one, two, three] = &mut self.0;
        tokio::select! {
            () = next(&mut one.1) => one.0,
            () = next(&mut two.1) => two.0,
            () = next(&mut three.1) => three.0,
        }
    }
}

/// Runs `work`, which may block without end, on another thread. A signal ends the wait: `Err` with its number.
pub async fn unless_signaled<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Result<T, Error>, u8> {
    let mut ends = EndSignals::listen();
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => {
            Ok(done.unwrap_or_else(|panic| Err(Error::Unexpected(format!("the results could not be written: {panic}")))))
        }
        number = ends.next() => Err(number),
    }
}

/// Passes signals on to `stop`; never completes. Calls `draining` at the first one, and `tell_status` at each SIGUSR1.
pub async fn watch(
    stop: &StopHandle,
    mut status: StatusSignal,
    draining: impl Fn(&StopReason),
    tell_status: impl Fn(),
) {
    let mut ends = EndSignals::listen();
    let mut hung_up: Option<Instant> = None;
    loop {
        let number = tokio::select! {
            number = ends.next() => i32::from(number),
            () = next(&mut status.0) => {
                tell_status();
                continue;
            }
        };
        // A terminal that closes sends SIGHUP more than once.
        if number == libc::SIGHUP
            && hung_up
                .replace(Instant::now())
                .is_some_and(|last| last.elapsed() < SIGHUP_INTERVAL)
        {
            continue;
        }
        let reason = StopReason::Signal(number);
        if stop.drain(reason.clone()) {
            draining(&reason);
        } else {
            tracing::warn!("{reason}: stopping immediately");
            stop.abort(reason);
        }
    }
}

/// Keeps two signals from ending the process: SIGXFSZ, so that a write beyond the file size limit fails with an error, and
/// SIGUSR1, which asks a run for its progress, and may be sent to every `zim-batch` of a machine.
pub fn outlive() {
    // Once handled, a signal never has its default effect again, even after the handler is dropped.
    for kind in [SignalKind::from_raw(libc::SIGXFSZ), SignalKind::user_defined1()] {
        drop(listen(kind));
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    if is_ignored(kind.as_raw_value()) {
        return None;
    }
    match signal(kind) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!("signal {} can't be handled: {error}", kind.as_raw_value());
            None
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this signal was ignored when the process started. Known on Linux only.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
