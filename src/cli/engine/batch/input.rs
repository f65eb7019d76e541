//! The rows of a run: counted, compared with the report, and watched for changes.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use zim_batch::rows::{Done, Format, Plan, Rows, Selection, Snapshot, Source};
use zim_batch::stop::{StopHandle, StopReason};

use crate::cli::errors::Error;

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

/// The rows, and which of them to send.
pub(super) struct Input {
    source: Source,
    format: Format,
    selection: Selection,
    /// The opened input, if it can be read only once.
    stream: Option<Rows>,
}

/// What is known before the first row is sent.
pub(super) struct Planned {
    pub plan: Plan,
    /// The number of rows; `None` for a stream.
    pub total: Option<u64>,
    /// The state of the file when its rows were counted; `None` for a stream.
    pub snapshot: Option<Snapshot>,
}

impl Input {
    pub fn new(source: Source, format: Format, selection: Selection) -> Input {
        Input {
            source,
            format,
            selection,
            stream: None,
        }
    }

    /// Checks that the input can be opened and that its columns are known.
    pub fn open(&mut self) -> Result<(), Error> {
        let rows = Rows::open(&self.source, &self.format)?;
        self.stream = (!self.source.can_be_read_twice()).then_some(rows);
        Ok(())
    }

    /// A file is read twice: first to count its rows and to compare them with the report, then to send them. A stream is
    /// read once, and compared with the report before its first row is sent.
    pub fn plan(&mut self, done: Done) -> Result<Planned, Error> {
        let mut selection = std::mem::take(&mut self.selection);
        selection.done = done;
        if let Some(rows) = self.stream.take() {
            let plan = Plan::new(rows, self.source.to_string(), Arc::new(selection))?.verify_first()?;
            return Ok(Planned {
                plan,
                total: None,
                snapshot: None,
            });
        }
        let selection = Arc::new(selection);
        let survey = Plan::open(&self.source, &self.format, Arc::clone(&selection))?.survey()?;
        let mut selection = Arc::unwrap_or_clone(selection);
        selection.done.remove(&survey.stale);
        selection.repeated = Some(survey.repeated.clone());
        selection.repeated_done.clone_from(&survey.repeated_done);
        Ok(Planned {
            plan: Plan::open_again(&survey, &self.source, &self.format, Arc::new(selection))?,
            total: Some(survey.rows),
            snapshot: survey.snapshot,
        })
    }
}
