//! The log file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing::Level;
use zim_batch::files::{self, OWNER_ONLY};

use super::log_line;
use crate::cli::args::LogFormat;
use crate::cli::errors::Error;
use crate::cli::output::lossy::LossyWriter;

/// The log file. Lines that can't be written are lost, with one error message.
pub struct LogFile {
    file: File,
    path: PathBuf,
    terminal: LossyWriter,
    format: LogFormat,
    has_failed: bool,
    /// The last line is incomplete.
    is_torn: bool,
}

impl LogFile {
    pub fn open(path: &Path, terminal: LossyWriter, format: LogFormat) -> Result<LogFile, Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(OWNER_ONLY);
        // Opening a pipe that nobody reads must fail, not block.
        let file = options.custom_flags(libc::O_NONBLOCK).open(path);
        let file = file
            .and_then(|file| files::check_owner(path, &file).map(|()| file))
            .map_err(|error| {
                Error::Usage(format!(
                    "--log-file {}: the file can't be opened: {error}; choose another one",
                    path.display()
                ))
            })?;
        Ok(LogFile {
            file,
            path: path.to_owned(),
            terminal,
            format,
            has_failed: false,
            is_torn: false,
        })
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.file.write(bytes)
    }
}

/// Receives whole lines, unless the file accepts only a part of one.
impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                self.is_torn |= !bytes.is_empty();
                if !std::mem::replace(&mut self.has_failed, true) {
                    let why = format!(
                        "--log-file {}: log lines are lost, because the file can't be written: {error}; the run continues",
                        self.path.display()
                    );
                    self.terminal
                        .lines(log_line(self.format, Level::ERROR, &why).as_bytes());
                }
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
