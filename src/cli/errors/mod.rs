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

impl From<&Error> for ExitStatus {
    fn from(error: &Error) -> ExitStatus {
        match error {
            Error::Usage(_) => ExitStatus::Usage,
            Error::Held(_) => ExitStatus::Held,
            Error::Unexpected(_) => ExitStatus::Unexpected,
            Error::Library(error) => error.kind().into(),
        }
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    const ALL: [ExitStatus; 13] = [
        ExitStatus::Success,
        ExitStatus::Unexpected,
        ExitStatus::Usage,
        ExitStatus::RowsFailed,
        ExitStatus::Input,
        ExitStatus::Policy,
        ExitStatus::Rejected,
        ExitStatus::MaxDuration,
        ExitStatus::Report,
        ExitStatus::Held,
        ExitStatus::Signal(2),
        ExitStatus::Signal(15),
        ExitStatus::Signal(1),
    ];

    #[test]
    fn the_guide_s_table_has_every_exit_status_and_no_other() {
        let guide = include_str!("../../../docs/guide.md");
        let (_, section) = guide.split_once("\n| status |").unwrap();
        let lines = section.lines().skip(1).take_while(|line| line.starts_with('|'));
        let first_cells = lines.skip(1).filter_map(|line| line.split('|').nth(1));
        let mut statuses: Vec<u8> = first_cells
            .flat_map(|cell| cell.split(',').map(|status| status.trim().parse().unwrap()))
            .collect();
        statuses.sort_unstable();
        let mut all = ALL.map(ExitStatus::code);
        all.sort_unstable();
        assert_eq!(statuses, all);
    }

    #[test]
    fn the_help_names_every_exit_status() {
        let help = crate::cli::args::Cli::command().get_after_help().unwrap().to_string();
        let help = help
            .split("\n\n")
            .find(|part| part.starts_with("Exit status:"))
            .unwrap();
        let numbers: Vec<u8> = help
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        let named = |status: &ExitStatus| numbers.contains(&status.code());
        let missing: Vec<_> = ALL.iter().filter(|status| !named(status)).collect();
        assert!(missing.is_empty(), "{missing:?}: {help}");
    }
}
