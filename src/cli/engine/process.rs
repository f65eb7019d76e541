//! The limits of this process: open files and threads; and no core dumps, because the memory contains the secret.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Builder;

use crate::cli::errors::Error;

/// Threads that a run needs besides the main thread: for reading rows, syncing files and name lookups, and one spare.
const THREADS: usize = 4;

/// Files that a run has open besides its connections: standard streams, event loop, signals, rows, report, outside log,
/// lock; and a few short-lived ones, for example for a name lookup.
const FILES: u64 = 16;

/// Idle threads are kept for the next sync or name lookup.
const KEEP_THREADS: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Disables core dumps, and raises the limit of open files to its maximum. Errors are ignored.
pub fn prepare() {
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
    // A core dump handler, such as systemd's, may ignore that limit.
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

/// Runs a command on a single-threaded runtime: a request is so cheap that waking another thread for it would cost more. A
/// panic is an error like others.
pub fn block_on<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(KEEP_THREADS)
        .build()
        .map_err(|error| Error::Unexpected(format!("the runtime could not be started: {error}")))?;
    let ended = panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(command)));
    // A thread may still wait for standard input; nothing waits for that thread.
    runtime.shutdown_background();
    // The panic itself has been reported where it happened.
    ended.unwrap_or_else(|_| Err(Error::Unexpected("the command was ended by a bug in zim-batch".into())))
}

/// Checks, before a run starts, that the threads it needs later can be started. Also starts the runtime's first blocking
/// thread, which is then kept: the runtime panics if it can't start one.
pub fn start_threads() -> Result<(), Error> {
    try_threads().map_err(Error::no_thread)?;
    drop(tokio::task::spawn_blocking(|| ()));
    Ok(())
}

/// Starts as many threads as a run may need at the same time, then ends them.
fn try_threads() -> io::Result<()> {
    // No thread ends before the last one has started.
    let started = Arc::new(Barrier::new(THREADS + 1));
    for number in 0..THREADS {
        let started = Arc::clone(&started);
        let thread = thread::Builder::new().spawn(move || started.wait());
        if let Err(error) = thread {
            return Err(io::Error::new(
                error.kind(),
                format!("{error} ({number} of {THREADS} threads could)"),
            ));
        }
    }
    started.wait();
    Ok(())
}

/// How many of `wanted` requests can be in flight within the limit of open files. `files_each` is the number of files per
/// request: two if the server is in this process too.
///
/// # Errors
/// If the limit is too low for a single request.
pub fn usable_in_flight(wanted: NonZeroUsize, files_each: usize) -> Result<NonZeroUsize, Error> {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let usable = bounded_by(files, wanted.get(), files_each);
    let Some(in_flight) = NonZeroUsize::new(usable) else {
        return Err(Error::Usage(format!(
            "this process may open only {files} files, but needs {} or more; raise the limit (ulimit -n)",
            FILES + files_each as u64
        )));
    };
    if in_flight < wanted {
        tracing::warn!(
            "at most {usable} requests in flight instead of {wanted} (--max-in-flight), because this process may open \
             only {files} files; to allow more, raise the limit (ulimit -n)"
        );
    }
    Ok(in_flight)
}

fn bounded_by(files: u64, wanted: usize, files_each: usize) -> usize {
    let room = files.saturating_sub(FILES) / files_each.max(1) as u64;
    usize::try_from(room).map_or(wanted, |room| room.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_the_command() {
        let ended = block_on::<()>(async { panic!("on purpose") });
        assert!(matches!(ended, Err(Error::Unexpected(_))), "{ended:?}");
    }

    #[test]
    fn requests_in_flight_fit_within_the_limit_of_open_files() {
        assert_eq!(bounded_by(1024, 64, 1), 64);
        assert_eq!(bounded_by(24, 64, 1), 8);
        assert_eq!(bounded_by(24, 64, 2), 4);
        assert_eq!(bounded_by(3, 64, 1), 0);
        assert_eq!(bounded_by(u64::MAX, 10_000, 1), 10_000);
    }
}
