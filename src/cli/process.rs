//! What this process may do: how many files it may have open, whether its threads can be started, and that the system
//! writes no copy of its memory, which holds the secret, to a disk.

use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use super::error::Error;

/// Threads that a run needs besides the first: one reads rows, one syncs files, one looks up names, and one to spare.
const THREADS: usize = 4;

/// Files that a run has open besides its connections: standard streams, the event loop, signals, rows, report, outside
/// log, lock; and a few for a moment now and then, for a name's look-up, say.
const FILES: u64 = 16;

/// Threads that wait for the next sync or look-up are kept.
const KEEP_THREADS: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Forbids core dumps, and lets this process open as many files as it may. Where the system refuses, nothing is lost.
pub fn prepare() {
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    // A handler of core dumps, such as systemd's, need not care about that limit.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: files.maximum,
            ..files
        },
    );
}

/// The runtime, for the thread that calls: a request costs so little that waking another thread for it would cost more.
pub fn runtime() -> Result<Runtime, Error> {
    Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEEP_THREADS)
        .build()
        .map_err(|error| Error::Unexpected(format!("the runtime can't be started: {error}")))
}

/// Finds out, before a run begins anything, whether the threads that it needs later can be started. The first of those
/// that the runtime starts for work that blocks is started here and kept, for the runtime panics when it has none.
pub fn start_threads() -> Result<(), Error> {
    try_threads().map_err(|error| no_thread(&error))?;
    drop(tokio::task::spawn_blocking(|| ()));
    Ok(())
}

/// A thread is missing without which there can be no run.
pub fn no_thread(error: &io::Error) -> Error {
    Error::Unexpected(format!(
        "a thread can't be started: {error}; let this user or container have more processes (ulimit -u, pids.max)"
    ))
}

/// Starts as many threads as may be needed, all at once, and ends them.
fn try_threads() -> io::Result<()> {
    // They wait for this one too, so that none ends before the last has been started.
    let started = Arc::new(Barrier::new(THREADS + 1));
    for number in 0..THREADS {
        let started = Arc::clone(&started);
        let thread = thread::Builder::new().spawn(move || started.wait());
        if let Err(error) = thread {
            return Err(io::Error::new(
                error.kind(),
                format!("{error} ({number} of {THREADS} could be)"),
            ));
        }
    }
    started.wait();
    Ok(())
}

/// How many of `wanted` requests may be open at once with as many files as this process may open. `files_each`: how many
/// a request needs, two if its server is this process too.
///
/// # Errors
/// If there are too few files for a single one.
pub fn usable_in_flight(wanted: u32, files_each: u32) -> Result<NonZeroUsize, Error> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let usable = bounded_by(files, wanted, files_each);
    let Some(in_flight) = NonZeroUsize::new(usable as usize) else {
        return Err(Error::Usage(format!(
            "this process may have only {files} files open, and needs {} or more; raise the limit (ulimit -n)",
            FILES + u64::from(files_each)
        )));
    };
    if usable < wanted {
        tracing::warn!(
            "at most {usable} requests in flight instead of {wanted} (--max-in-flight), because this process may not \
             have more than {files} files open (ulimit -n)"
        );
    }
    Ok(in_flight)
}

fn bounded_by(files: u64, wanted: u32, files_each: u32) -> u32 {
    let room = files.saturating_sub(FILES) / u64::from(files_each.max(1));
    u32::try_from(room).map_or(wanted, |room| room.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_fit_into_the_files_that_may_be_open() {
        assert_eq!(bounded_by(1024, 64, 1), 64);
        assert_eq!(bounded_by(24, 64, 1), 8);
        assert_eq!(bounded_by(24, 64, 2), 4);
        assert_eq!(bounded_by(3, 64, 1), 0);
        assert_eq!(bounded_by(u64::MAX, 10_000, 1), 10_000);
    }
}
