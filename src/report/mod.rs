//! Stage 4, where results go: the report, the outside log, the progress, the summary.
//!
//! The report sees [`Event`]s and nothing else. Records are taken with [`Report::record`] and count only after
//! [`Report::commit`], which writes them first and moves the counts and the bar afterwards.

pub mod analysis;
mod holder;
mod outcomes;
pub mod page;
pub mod progress;
mod resume;
pub mod show;
pub mod summary;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::event::{Event, Outcome};
use crate::rows::Done;
use crate::stop::Stopper;
pub use holder::holder;
use outcomes::Appender;
pub use outcomes::COLUMNS;
use progress::Progress;
use summary::{Summary, Tally};

/// What to do about a report that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse, and leave it untouched.
    Refuse,
    /// Begin it anew.
    Overwrite,
    /// Go on where it ends; begin it if it is not there.
    Resume,
}

/// The report's files, opened and locked, and the rows that are done already.
pub struct Files {
    outcomes: Appender,
    outside: Appender,
    done: Done,
    /// How many of the rows that are done are failed or invalid.
    done_badly: u64,
}

impl Files {
    /// Opens and locks the report, which nobody else then can run with, reads back what is done, and brings the
    /// outside log up to the report.
    pub fn open(report: &Path, outside: &Path, existing: Existing) -> Result<Files, Error> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Report { path, source }
        };
        let file = open_report(report, existing)?;
        lock(report, &file)?;
        // First of all, for what is no report, or a damaged one, must leave everything as it is.
        let earlier = match existing {
            Existing::Resume => resume::read_back(report, &file)?,
            Existing::Refuse | Existing::Overwrite => resume::Earlier::default(),
        };
        let outside_file = open_outside(outside, existing).inspect_err(|_| {
            if existing == Existing::Refuse {
                // Just created; left behind, it would stand in the way of the next try.
                let _ = std::fs::remove_file(report);
            }
        })?;
        lock(outside, &outside_file)?;
        if existing != Existing::Refuse && file.metadata().map_err(io_error(report))?.is_file() {
            file.set_len(earlier.len).map_err(io_error(report))?;
        }
        // It is made from the report alone: what it holds of an earlier run is in the report too.
        if outside_file.metadata().map_err(io_error(outside))?.is_file() {
            outside_file.set_len(0).map_err(io_error(outside))?;
        }
        let mut files = Files {
            outcomes: Appender::new(report, file, earlier.len)?,
            outside: Appender::new(outside, outside_file, 0)?,
            done: earlier.done,
            done_badly: earlier.bad,
        };
        resume::copy_outside(report, earlier.len, &mut files.outside)?;
        for path in [report, outside] {
            sync_folder(path).map_err(io_error(path))?;
        }
        Ok(files)
    }

    /// The rows that the report already has.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.done)
    }
}

/// The check by itself, to be made before anything that takes long; opening makes it again.
pub fn refuse_existing(path: &Path, existing: Existing) -> Result<(), Error> {
    match path.metadata() {
        Ok(metadata) if existing == Existing::Refuse && metadata.len() > 0 => Err(exists_already(path)),
        _ => Ok(()),
    }
}

fn exists_already(path: &Path) -> Error {
    Error::Usage(format!(
        "{}: this file exists already; go on where its run ended (--resume), replace it (--overwrite), or write to \
         another one (--report FILE)",
        path.display()
    ))
}

fn lock(path: &Path, file: &File) -> Result<(), Error> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Held(format!(
            "{}: another run is writing this file; wait for it to end, or stop it",
            path.display()
        ))),
        // Some file systems and devices know no locks; the run is no worse for it.
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{}: can't be locked: {error}", path.display());
            Ok(())
        }
    }
}

/// Opens the outside log, which will be made anew: so what is there must be one, unless its report is resumed.
fn open_outside(path: &Path, existing: Existing) -> Result<File, Error> {
    let error = |source| Error::Report {
        path: path.to_owned(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(error)?;
    if existing != Existing::Resume && file.metadata().map_err(error)?.is_file() {
        let header = COLUMNS.join(",");
        let mut start = Vec::new();
        file.by_ref()
            .take(header.len() as u64)
            .read_to_end(&mut start)
            .map_err(error)?;
        if !header.as_bytes().starts_with(&start) {
            return Err(Error::Usage(format!(
                "{}: this file exists already and is no outside log; name another one with --outside FILE",
                path.display()
            )));
        }
    }
    Ok(file)
}

fn open_report(path: &Path, existing: Existing) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    match existing {
        Existing::Refuse => options.create_new(true),
        Existing::Overwrite | Existing::Resume => options.create(true),
    };
    options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => exists_already(path),
        _ => Error::Report {
            path: path.to_owned(),
            source,
        },
    })
}

/// A new file survives a power cut only once its folder is on the disk too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Not every system and file system can do this; where it can't, there is nothing better to do either.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// A row whose answer could not be written down: it will be sent again.
const NOT_RECORDED: Event = Event::NotRun { was_retrying: false };

/// Takes a run's events and makes files, a bar and a summary of them.
pub struct Report {
    outcomes: Appender,
    outside: Appender,
    progress: Progress,
    tally: Tally,
    /// Records that were taken but are not committed.
    taken: Vec<Outcome>,
    /// A record could not be written: nothing more will be.
    is_broken: bool,
    paths: (PathBuf, PathBuf),
}

impl Report {
    /// `paths` are shown in the summary: the report and the outside log.
    pub fn new(files: Files, paths: (PathBuf, PathBuf), progress: Progress) -> Report {
        Report {
            outcomes: files.outcomes,
            outside: files.outside,
            progress,
            tally: Tally::new(files.done_badly),
            taken: Vec::new(),
            is_broken: false,
            paths,
        }
    }

    /// Takes an event. A record is written by the next [`Report::commit`].
    pub fn record(&mut self, event: &Event) {
        match event {
            Event::Settled(_) if self.is_broken => self.tally.count(&NOT_RECORDED),
            Event::Settled(record) => {
                self.outcomes.push(record);
                if record.outcome == Outcome::Outside {
                    self.outside.push(record);
                }
                self.taken.push(record.outcome);
            }
            other => {
                self.tally.count(other);
                self.progress.note(other);
            }
        }
    }

    /// Writes the records taken since the last time. They count from now on; after an error they never do, and nothing
    /// more should be sent.
    pub fn commit(&mut self) -> Result<(), Error> {
        let written = self.outcomes.commit();
        for outcome in self.taken.drain(..) {
            match written {
                Ok(()) => self.tally.settled(outcome),
                Err(_) => self.tally.count(&NOT_RECORDED),
            }
        }
        let written = written.and_then(|()| self.outside.commit());
        self.is_broken |= written.is_err();
        written
    }

    /// What brings both files to the disk as they are now; it takes its time, so it is for another thread to call.
    pub fn sync_later(&self) -> impl FnOnce() -> Result<(), Error> + Send + 'static {
        let syncs = [self.outcomes.sync_later(), self.outside.sync_later()];
        move || syncs.into_iter().try_for_each(|sync| sync())
    }

    /// Shows the state as it is now: to be called several times a second.
    pub fn show(&mut self, rate: f64) {
        self.progress.show(&self.tally, rate);
    }

    /// Brings the files to the disk, ends the bar, and adds everything up. `rows` is how many rows the input has, if
    /// that is known; `cap` is what the limiter lets start within a second; `stopper` knows whether the run stopped before
    /// the last of them, and learns it if the files could not be written to their end.
    pub fn finish(mut self, rows: Option<u64>, cap: usize, elapsed: Duration, stopper: &Stopper) -> Summary {
        let was_broken = self.is_broken;
        let written = self
            .commit()
            .and_then(|()| self.outcomes.check_still_there())
            .and_then(|()| self.sync_later()());
        if let Err(error) = written
            && !was_broken
        {
            stopper.report_failed(error.to_string());
        }
        self.progress.end();
        self.tally
            .summary(rows, cap, elapsed, stopper.reason().as_ref(), &self.paths)
    }
}
