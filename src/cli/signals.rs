//! SIGINT, SIGTERM and SIGHUP: the first one drains, the second one stops at once. SIGUSR1 asks how far the run is.

use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use zim_batch::stop::{StopHandle, StopReason};

/// SIGHUP within so long after another counts once with it.
const HANG_UP_LASTS: Duration = Duration::from_secs(1);

/// SIGUSR1. Once it is listened to, it does not end the process.
pub struct StatusAsked(Option<Signal>);

impl StatusAsked {
    pub fn listen() -> StatusAsked {
        StatusAsked(listen(SignalKind::user_defined1()))
    }

    /// Not listened to.
    pub fn none() -> StatusAsked {
        StatusAsked(None)
    }
}

/// The signals that end a process. A signal that the process was started to ignore stays ignored, as SIGHUP is under
/// `nohup`.
struct Ends([(u8, Option<Signal>); 3]);

impl Ends {
    fn listen() -> Ends {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ends(kinds.map(|kind| (kind.as_raw_value() as u8, listen(kind))))
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

/// Does `work`, which may take for ever, on a thread of its own. A signal ends the wait for it: `Err` with its number.
pub async fn unless_ended<T: Send + 'static>(work: impl FnOnce() -> T + Clone + Send + 'static) -> Result<T, u8> {
    let mut ends = Ends::listen();
    let (done, is_done) = tokio::sync::oneshot::channel();
    let on_thread = work.clone();
    let started = thread::Builder::new()
        .name("last".into())
        .spawn(move || _ = done.send(on_thread()));
    tokio::select! {
        done = is_done => match (done, started) {
            (Ok(done), Ok(_)) => Ok(done),
            // No thread is to be had, or it ended badly.
            _ => Ok(work()),
        },
        number = ends.next() => Err(number),
    }
}

/// Passes signals on to `stop`; never completes. `draining` is called at the first, `tell` at each SIGUSR1.
pub async fn watch(stop: &StopHandle, mut asked: StatusAsked, draining: impl Fn(&StopReason), tell: impl Fn()) {
    let mut ends = Ends::listen();
    let mut hung_up: Option<Instant> = None;
    loop {
        let number = tokio::select! {
            number = ends.next() => i32::from(number),
            () = next(&mut asked.0) => {
                tell();
                continue;
            }
        };
        // A terminal that is closed sends it more than once.
        if number == libc::SIGHUP
            && hung_up
                .replace(Instant::now())
                .is_some_and(|last| last.elapsed() < HANG_UP_LASTS)
        {
            continue;
        }
        let reason = StopReason::Signal(number);
        if stop.drain(reason.clone()) {
            draining(&reason);
        } else {
            tracing::warn!("{reason}: stopping at once");
            stop.at_once(reason);
        }
    }
}

/// Makes a limit on the size of files an error of the write that meets it, not the end of the process.
pub fn ignore_sigxfsz() {
    // Once listened to, a signal never has its own effect again, also when nobody listens any more.
    drop(listen(SignalKind::from_raw(libc::SIGXFSZ)));
}

fn listen(kind: SignalKind) -> Option<Signal> {
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

async fn next(signal: &mut Option<Signal>) {
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
