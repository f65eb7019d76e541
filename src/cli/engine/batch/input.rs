//! The input of a run: watched for changes, and whether a person types it.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use zim_batch::rows::{Snapshot, Source};
use zim_batch::stop::{StopHandle, StopReason};

/// Minimum time between two checks of the rows file.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Stops the run if the rows file changes, even after all rows have been read ahead. Never completes.
pub async fn watch_rows(snapshot: Option<Snapshot>, stop: &StopHandle) {
    let Some(snapshot) = snapshot else {
        return std::future::pending().await;
    };
    loop {
        let started_at = Instant::now();
        let looking = snapshot.clone();
        // A join error means that the runtime is shutting down.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || looking.check_unchanged()).await {
            stop.drain(StopReason::InputFailed(error.into()));
            return std::future::pending().await;
        }
        // Checking a large file that keeps growing takes long; check it less often.
        sleep(CHECK_EVERY.max(started_at.elapsed() * 20)).await;
    }
}

/// Whether a person types the input.
pub(super) fn is_typed(source: &Source) -> bool {
    match source {
        Source::Stdin => io::stdin().is_terminal(),
        // Only a character device may be opened here: opening and closing a pipe would end its writer.
        Source::File(path) => {
            path.metadata()
                .is_ok_and(|metadata| metadata.file_type().is_char_device())
                && File::open(path).is_ok_and(|file| file.is_terminal())
        }
    }
}
