//! The input of a run: opened, compared with the journal, and watched for changes.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use zim_batch::journal::Journal;
use zim_batch::rows::{self, Done, Plan, Selection, Snapshot, Source};
use zim_batch::stop::{StopHandle, StopReason};

use crate::cli::errors::{Error, hints};
use crate::cli::output::print::print_error;
use crate::cli::settings::input::InputSettings;

/// Minimum time between two checks of the watched file.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// An input whose columns are known.
pub struct Input<'a> {
    source: &'a Source,
    selection: &'a Selection,
    /// The journal that is to be resumed.
    resumed: Option<&'a Path>,
    read: Read,
}

/// How much was read before the journal is open.
enum Read {
    /// Only the columns: the journal will say which rows are done.
    Columns(rows::Input),
    /// Everything that needs to be known: no row is done.
    All(Box<Plan>),
}

impl<'a> Input<'a> {
    /// Opens the input. Unless the journal has records, its rows are also counted: a new journal is not created for an
    /// input that can't be read.
    pub fn open(settings: &'a InputSettings, resumed: Option<&'a Path>) -> Result<Input<'a>, Error> {
        let selection = &settings.selection;
        let input = rows::Input::open(&settings.source, &settings.format)?;
        if let Some(user) = input.assumed_user() {
            tracing::warn!("{}", hints::assumed_user(&settings.source, user));
        }
        let has_records = |journal: &Path| journal.metadata().is_ok_and(|file| file.len() > 0);
        let read = if resumed.is_some_and(has_records) {
            Read::Columns(input)
        } else {
            Read::All(input.plan(selection, Done::default())?.into())
        };
        Ok(Input {
            source: &settings.source,
            selection,
            resumed,
            read,
        })
    }

    /// Compares the rows with those that the journal has. Records of invalid rows that have changed are removed from it.
    pub fn plan(self, journal: &mut impl Journal) -> Result<Plan, Error> {
        let done = journal.take_done();
        let plan = match self.read {
            Read::Columns(input) => input.plan(self.selection, done)?,
            Read::All(plan) if done.is_empty() => *plan,
            Read::All(_) => {
                return Err(Error::Held(format!(
                    "{}: another run has just created this report; wait for it to end, or choose another report (--report FILE)",
                    self.resumed.unwrap_or(Path::new("the report")).display()
                )));
            }
        };
        journal.forget(plan.stale())?;
        if let Some((line, diagnosis)) = plan.diagnosis() {
            let what = "not all of this row is valid text, so it is not sent";
            tracing::warn!("{}, line {line}: {what}. {}", self.source, hints::diagnosis(diagnosis));
        }
        Ok(plan)
    }
}

/// Tells a user at a terminal that the program waits for input; otherwise it would seem to hang.
pub fn print_typing_hint(source: &Source, items: &str) {
    if is_typed(source) {
        print_error(&format!(
            "reading {items} from the terminal; press Ctrl-D on an empty line to finish"
        ));
    }
}

fn is_typed(source: &Source) -> bool {
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

/// Stops the run if the file changes, even after all rows have been read ahead. Never completes.
pub async fn watch(file: Option<Snapshot>, stop: &StopHandle) {
    let Some(snapshot) = file else {
        return std::future::pending().await;
    };
    loop {
        let started_at = Instant::now();
        let checked = snapshot.clone();
        // A join error means that the runtime is shutting down.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || checked.check_unchanged()).await {
            stop.drain(StopReason::InputFailed(error.into()));
            return std::future::pending().await;
        }
        // Checking a large file that keeps growing takes long; check it less often.
        sleep(CHECK_EVERY.max(started_at.elapsed() * 20)).await;
    }
}
