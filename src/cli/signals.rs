//! SIGINT, SIGTERM and SIGHUP: the first one drains, the second one stops at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use zim_batch::stop::{Stop, Stopper};

/// The same signal within this counts once: who closes a terminal sends SIGHUP twice, the shell and the system one each.
const ONE_SIGNAL: Duration = Duration::from_secs(1);

/// Passes signals on to `stopper`; never completes. `draining` is called at the first. A signal that the process was started to ignore stays ignored, as
/// SIGHUP is under `nohup`.
pub async fn watch(stopper: &Stopper, draining: impl Fn(&Stop)) {
    let mut interrupt = listen(SignalKind::interrupt());
    let mut terminate = listen(SignalKind::terminate());
    let mut hang_up = listen(SignalKind::hangup());
    let mut counted: Option<(i32, Instant)> = None;
    loop {
        let number = tokio::select! {
            () = next(&mut interrupt) => 2,
            () = next(&mut terminate) => 15,
            () = next(&mut hang_up) => 1,
        };
        if counted.is_some_and(|(last, at)| last == number && at.elapsed() < ONE_SIGNAL) {
            continue;
        }
        counted = Some((number, Instant::now()));
        let stop = Stop::Signal(number);
        if stopper.drain(stop.clone()) {
            draining(&stop);
        } else {
            tracing::warn!("{stop}: stopping at once");
            stopper.at_once(stop);
        }
    }
}

/// Makes a limit on the size of files an error of the write that meets it, not the end of the process.
pub fn outlive_file_size_limit() {
    // Once listened to, a signal never has its own effect again, also when nobody listens any more.
    drop(listen(SignalKind::from_raw(libc::SIGXFSZ)));
}

fn listen(kind: SignalKind) -> Option<tokio::signal::unix::Signal> {
    if is_ignored(kind.as_raw_value()) {
        return None;
    }
    match signal(kind) {
        Ok(signal) => Some(signal),
        Err(error) => {
            tracing::warn!("signal {} can't be caught: {error}", kind.as_raw_value());
            None
        }
    }
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether the process was started with this signal ignored, as far as the system tells (Linux does).
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (number - 1)) != 0)
}
