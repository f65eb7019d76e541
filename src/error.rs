//! What ends a run, with its exit status. A row that fails is data, not an error.

use std::io;
use std::path::PathBuf;

use crate::client::BuildError;
use crate::rows::{InputError, PlanError};

/// Why there was no run, or why it ended with no summary worth trusting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong or missing arguments or settings.
    #[error("{0}")]
    Usage(String),
    /// The client can't be set up with these settings.
    #[error(transparent)]
    Setup(#[from] BuildError),
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The input and the report don't belong together.
    #[error("{0}")]
    Mismatch(String),
    /// The report or the outside log can't be written.
    #[error("{}: can't be written: {source}; {}", .path.display(), what_to_do(.source))]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another run holds what this one needs.
    #[error("{0}")]
    Held(String),
    /// A defect, or a system that does not do what systems do.
    #[error("{0}")]
    Unexpected(String),
}

/// What to do about a file that can't be written.
fn what_to_do(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "its directory does not exist; correct the path, then run it again (with --resume if it had begun)"
        }
        io::ErrorKind::IsADirectory => "name a file in it",
        io::ErrorKind::NotADirectory => "correct the path, of which a part is no directory",
        io::ErrorKind::PermissionDenied => {
            "let this user write the file and its directory, or name another one, then run it again (with --resume if it \
             had begun)"
        }
        io::ErrorKind::Other => {
            "find out what did that (logrotate, perhaps) and put the file back as it was, then resume with --resume"
        }
        _ => "make room or correct the path, then resume with --resume",
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Error {
        match error {
            PlanError::Input(error) => Error::Input(error),
            PlanError::Mismatch(text) => Error::Mismatch(text),
            PlanError::Report(text) => Error::Usage(text),
        }
    }
}

impl Error {
    /// The process's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Setup(_) => 2,
            Error::Input(_) | Error::Mismatch(_) => 4,
            Error::Report { .. } => 74,
            Error::Held(_) => 75,
            Error::Unexpected(_) => 1,
        }
    }
}
