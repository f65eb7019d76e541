//! Why there was no run: the errors of the stages, joined. A row that fails is data, not an error; a run that stops early
//! has a summary, with a [`StopReason`](crate::stop::StopReason).

use std::io;

use crate::client::BuildError;
use crate::journal::ReportError;
pub use crate::kind::ErrorKind;
use crate::limiter::quota::QuotaError;
use crate::rows::InputError;

/// Why there was no run, or why it ended with no summary worth trusting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows can't be read, or are not those that the report was made from.
    #[error(transparent)]
    Rows(#[from] InputError),
    /// Another run uses the app's quota.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The client can't be set up with these settings.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The report can't be written, resumed or read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The system has no thread for a part of the run.
    #[error("a thread could not be started: {0}")]
    Thread(io::Error),
    /// A part of this crate failed, which is a bug; which, and how. What was recorded until then stays.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Rows(error) => error.into(),
            Error::Quota(error) => error.into(),
            Error::Client(error) => error.into(),
            Error::Report(error) => error.into(),
            Error::Thread(_) => ErrorKind::System,
            Error::Bug(_) => ErrorKind::Bug,
        }
    }
}
