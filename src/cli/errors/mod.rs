//! Why a command ends without a result: wrong usage, or an error of the library.

pub mod exit_ok;
pub mod exit_status;
pub mod hints;
pub mod redact;

use std::{fmt, io};

pub use exit_status::ExitStatus;

/// Why a command ends without a result. Its text also says what to do, with the flags for it.
#[derive(Debug)]
pub enum Error {
    /// Wrong or missing arguments or settings.
    Usage(String),
    /// Another run holds what this one needs.
    Held(String),
    /// A bug, or an operating-system call that should not fail.
    Unexpected(String),
    /// An error of the library.
    Library(zim_batch::error::Error),
}

impl Error {
    /// A thread that the run needs can't be started.
    pub fn no_thread(error: io::Error) -> Error {
        Error::Library(zim_batch::Error::Thread(error))
    }
}

impl<E> From<E> for Error
where
    zim_batch::error::Error: From<E>,
{
    fn from(error: E) -> Error {
        Error::Library(error.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(text) | Error::Held(text) | Error::Unexpected(text) => f.write_str(text),
            Error::Library(error) => f.write_str(&hints::error(error)),
        }
    }
}
